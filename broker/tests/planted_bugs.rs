//! Planted bugs are real: for each there is a test here, named after it, that fails with the bug and
//! passes without, unless only a drill of the chaos harness can show it.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod cluster;
mod replica;

use std::path::Path;
use std::path::PathBuf;
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use cluster::Cluster;
use cluster::code;
use cluster::message;
use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::command::Release;
use raftmq_broker::command::Send;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::Granted;
use raftmq_broker::state::LITE_QUEUES_FROM;
use raftmq_broker::state::Rejection;
use raftmq_broker::state::Sent;
use raftmq_proto::checksum::Checksummed as _;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::peer_client::PeerClient;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_raft_store::FlushMode;
use raftmq_raft_store::commit_log::CommitLog;
use raftmq_raft_store::commit_log::LogConfig;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::commit_log::OpenError;
use raftmq_raft_store::commit_log::VoteRecord;
use raftmq_raft_store::commit_log::format;
use raftmq_raft_store::commit_log::format::FrameKind;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::VARIABLE;
use replica::Replica;

/// Bugs that need a fault no test here can make: a power cut, a disk that fails or hangs, a process
/// that dies at the right moment, a lack of descriptors.
const DRILL_ONLY: [Bug; 6] = [
    Bug::AcceptErrorSpins,
    Bug::AckBeforeWrite,
    Bug::FlushErrorIgnored,
    Bug::SkipVoteFsync,
    Bug::ServeBeforeApplied,
    Bug::StalledDiskIgnored,
];

#[test]
fn each_bug_fails_its_test() {
    let mut survived = Vec::new();
    for bug in Bug::ALL.iter().filter(|bug| !DRILL_ONLY.contains(bug)) {
        match (0..3).find_map(|_| failure(*bug)) {
            Some(why) => println!("{}: {why}", bug.name()),
            None => survived.push(bug.name()),
        }
    }
    assert!(survived.is_empty(), "not seen: {survived:?}");
}

/// Why the test of `bug` fails with the bug on. A cluster that could not be set up proves nothing.
fn failure(bug: Bug) -> Option<String> {
    let test = bug.name().replace('-', "_");
    let run = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", &test])
        .env(VARIABLE, bug.name())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(text.contains("running 1 test"), "there is no test {test}:\n{text}");
    let why = text.lines().find(|line| line.contains("panicked at"))?;
    (!why.contains("tests/cluster/")).then(|| why.to_owned())
}

// The log.

fn log_config(directory: &Path) -> LogConfig {
    LogConfig {
        directory: directory.to_owned(),
        node_id: 1,
        group_hash: 7,
        segment_bytes: 1 << 20,
        flush: FlushMode::Sync,
        on_fatal: Arc::new(|error| panic!("{error}")),
    }
}

/// Appends `count` entries, each after the one before it counts as done.
async fn append(log: &CommitLog, count: u64) {
    for index in 0..count {
        let frame = format::encode_frame(1, index, FrameKind::Normal, &[7; 300]);
        let (sender, done) = mpsc::channel();
        let frames = vec![(LogPosition { term: 1, index }, frame)];
        log.append(frames, move |result| sender.send(result).unwrap()).await.unwrap();
        tokio::task::spawn_blocking(move || done.recv().unwrap().unwrap()).await.unwrap();
    }
}

/// A log of ten entries that nobody has open, and its only segment.
async fn written(directory: &Path) -> PathBuf {
    let log = CommitLog::open(log_config(directory)).unwrap();
    append(&log, 10).await;
    drop(log);
    tokio::time::sleep(Duration::from_millis(300)).await;
    directory.join("00000000000000000000.log")
}

fn flip_a_bit_in_the_middle(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = 64 + 4 * 332 + 100;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn ack_before_fsync() {
    let directory = tempfile::tempdir().unwrap();
    let log = CommitLog::open(log_config(directory.path())).unwrap();
    append(&log, 10).await;
    // The synced mark is noted after the flush.
    let synced = std::fs::read(directory.path().join("synced")).unwrap();
    let segment = std::fs::metadata(directory.path().join("00000000000000000000.log")).unwrap();
    assert_eq!(synced.get(8..16), Some(&segment.len().to_le_bytes()[..]));
}

#[tokio::test]
async fn vote_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let vote = VoteRecord { term: 7, node_id: 2, committed: false };
    CommitLog::open(log_config(directory.path())).unwrap().store_vote(vote).await.unwrap();
    let log = CommitLog::open(log_config(directory.path())).unwrap();
    assert_eq!(log.vote(), Some(vote));
}

#[tokio::test]
async fn truncate_on_crc_error() {
    let directory = tempfile::tempdir().unwrap();
    let segment = written(directory.path()).await;
    flip_a_bit_in_the_middle(&segment);
    let opened = CommitLog::open(log_config(directory.path()));
    assert!(matches!(opened, Err(OpenError::Corrupt { .. })));
}

#[tokio::test]
async fn checksum_not_compared() {
    let directory = tempfile::tempdir().unwrap();
    let segment = written(directory.path()).await;
    flip_a_bit_in_the_middle(&segment);
    if let Ok(log) = CommitLog::open(log_config(directory.path())) {
        assert!(log.read(4).is_err(), "a damaged body was served");
    }
}

// One replica.

/// A replica with topic 1 of one queue, and group 1 that gives up after two attempts.
fn replica() -> Replica {
    let mut replica = Replica::new();
    let topic = wire::CreateTopic {
        name: "t".to_owned(),
        queue_count: 1,
        message_types: vec![1],
        ..Default::default()
    };
    let group = wire::CreateGroup {
        name: "g".to_owned(),
        max_attempts: 2,
        fifo: true,
        ..Default::default()
    };
    replica.apply(1, &[Command::CreateTopic(topic), Command::CreateGroup(group)]);
    replica
}

fn send(replica: &mut Replica, time_ms: u64, id: &str) -> Sent {
    send_for(replica, time_ms, id, Release::AtOnce)
}

/// All of one message group, which does not matter where one message is out.
fn send_for(replica: &mut Replica, time_ms: u64, id: &str, release: Release) -> Sent {
    let message = NewMessage {
        queue_id: 0,
        tag_hash: 0,
        key_hashes: Vec::new(),
        group_hash: 7,
        release,
        message_id: id.to_owned().into(),
        record: "r".into(),
        record_offset: 0,
    };
    let send = Command::Send(Send { topic_id: 1, messages: vec![message] });
    match &replica.apply(time_ms, &[send])[..] {
        [CommandReply::Sent(sent)] => sent[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// Checks out the first message: anew, or `again`. It is invisible for a second.
fn check_out(replica: &mut Replica, time_ms: u64, again: bool) -> Granted {
    let queue = match again {
        true => wire::QueueCheckout { again: vec![0], ..Default::default() },
        false => wire::QueueCheckout { next_offset: 1, taken: vec![0], ..Default::default() },
    };
    let checkout = Command::Checkout(wire::Checkout {
        group_id: 1,
        topic_id: 1,
        queues: vec![queue],
        visible_at_ms: time_ms + 1_000,
        ..Default::default()
    });
    match &replica.apply(time_ms, &[checkout])[..] {
        [CommandReply::CheckedOut(granted)] => granted[0].clone(),
        other => panic!("{other:?}"),
    }
}

fn receipt(nonce: u64) -> Option<wire::Receipt> {
    Some(wire::Receipt { group_id: 1, topic_id: 1, queue_id: 0, offset: 0, nonce })
}

fn in_memory(replica: &Replica) -> String {
    format!("{:?}", replica.state.read())
}

#[test]
fn snapshot_forgets_inflight() {
    let mut replica = replica();
    send(&mut replica, 2, "a");
    check_out(&mut replica, 3, false);
    let before = in_memory(&replica);
    replica.install();
    assert_eq!(in_memory(&replica), before);
}

#[test]
fn offset_persisted_late() {
    let mut replica = replica();
    send(&mut replica, 2, "a");
    check_out(&mut replica, 3, false);
    let before = in_memory(&replica);
    replica.reload();
    assert_eq!(in_memory(&replica), before);
}

#[test]
fn queue_offset_reused() {
    let mut replica = replica();
    assert_eq!(send(&mut replica, 2, "a").offset, 0);
    replica.reload();
    assert_eq!(send(&mut replica, 3, "b").offset, 1);
}

#[test]
fn time_goes_back() {
    let mut replica = replica();
    send(&mut replica, 7_200_000, "a");
    assert!(send(&mut replica, 1_000, "a").repeated, "two hours back, and the id is forgotten");
}

#[test]
fn dedup_not_replicated() {
    let mut replica = replica();
    send(&mut replica, 2, "a");
    assert!(send(&mut replica, 3, "a").repeated);
    replica.term += 1;
    assert!(send(&mut replica, 4, "a").repeated);
}

#[test]
fn message_id_window_too_short() {
    let mut replica = replica();
    send(&mut replica, 2, "a");
    assert!(send(&mut replica, 60_000, "a").repeated);
}

#[test]
fn ack_wrong_attempt() {
    let mut replica = replica();
    send(&mut replica, 2, "a");
    let first = check_out(&mut replica, 3, false);
    check_out(&mut replica, 2_000, true);
    let ack = Command::Ack(wire::Ack { receipt: receipt(first.nonce) });
    let replies = replica.apply(2_001, &[ack]);
    assert_eq!(replies, [CommandReply::Rejected(Rejection::ReceiptExpired)]);
}

#[test]
fn lost_attempt_count() {
    let mut replica = replica();
    send(&mut replica, 2, "a");
    check_out(&mut replica, 3, false);
    assert_eq!(check_out(&mut replica, 2_000, true).attempt, 2);
}

#[test]
fn dead_letter_dropped() {
    let mut replica = replica();
    send(&mut replica, 2, "a");
    let granted = check_out(&mut replica, 3, false);
    let dead_letter = wire::DeadLetter { receipt: receipt(granted.nonce), exhausted: true };
    assert_eq!(replica.apply(4, &[Command::DeadLetter(dead_letter)]), [CommandReply::Done]);
    let dead_letters = format!("{:?}", replica.state.read().topic("%DLQ%g").unwrap());
    assert!(dead_letters.contains("max: 1"), "{dead_letters}");
}

/// Two messages of one message group, of which the first one is out.
fn one_out_of_two() -> Replica {
    let mut replica = replica();
    send(&mut replica, 2, "a");
    send(&mut replica, 3, "b");
    check_out_new(&mut replica, 4, 0);
    replica
}

/// Checks out the message at an offset for the first time.
fn check_out_new(replica: &mut Replica, time_ms: u64, offset: u64) -> Vec<Granted> {
    check_out_of(replica, time_ms, 0, offset)
}

fn check_out_of(replica: &mut Replica, time_ms: u64, queue_id: u32, offset: u64) -> Vec<Granted> {
    let queue = wire::QueueCheckout {
        queue_id,
        from_offset: offset,
        next_offset: offset + 1,
        taken: vec![offset],
        taken_groups: vec![7],
        ..Default::default()
    };
    let checkout = Command::Checkout(wire::Checkout {
        group_id: 1,
        topic_id: 1,
        queues: vec![queue],
        visible_at_ms: time_ms + 1_000,
        ..Default::default()
    });
    match &replica.apply(time_ms, &[checkout])[..] {
        [CommandReply::CheckedOut(granted)] => granted.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn fifo_group_ignored() {
    assert_eq!(check_out_new(&mut one_out_of_two(), 5, 1), []);
}

#[test]
fn fifo_order_lost_on_failover() {
    let mut replica = one_out_of_two();
    replica.reload();
    replica.term += 1;
    assert_eq!(check_out_new(&mut replica, 5, 1), []);
}

#[test]
fn lite_order_ignored() {
    let mut replica = Replica::new();
    let parent = replica::commands::lite_parent("t", 1);
    let group = Command::CreateGroup(wire::CreateGroup { name: "g".into(), ..Default::default() });
    let subscribe = Command::SubscribeLite(wire::SubscribeLite {
        group_id: 1,
        topic_id: 1,
        client_id: "c".into(),
        added: vec!["red".into()],
        ..Default::default()
    });
    replica.apply(1, &[parent, group, subscribe]);
    let queue_id = LITE_QUEUES_FROM;
    for id in ["a", "b"] {
        let message = NewMessage { queue_id, group_hash: 7, ..replica::commands::message(id) };
        replica.apply(2, &[replica::commands::send(vec![message])]);
    }
    assert_eq!(check_out_of(&mut replica, 3, queue_id, 0).len(), 1);
    assert_eq!(check_out_of(&mut replica, 4, queue_id, 1), []);
}

/// How many messages the only queue has.
fn queue_end(replica: &Replica) -> String {
    let topic = format!("{:?}", replica.state.read().topic("t").unwrap());
    let max = topic.rsplit_once("max: ").unwrap().1;
    max.chars().take_while(char::is_ascii_digit).collect()
}

fn fire(replica: &mut Replica, time_ms: u64) {
    let fire = wire::Fire { until_ms: u64::MAX, count: 10, ..Default::default() };
    replica.apply(time_ms, &[Command::Fire(fire)]);
}

#[test]
fn timer_fires_early() {
    let mut replica = replica();
    send_for(&mut replica, 2, "a", Release::At(5_000));
    fire(&mut replica, 4_999);
    assert_eq!(queue_end(&replica), "0");
    fire(&mut replica, 5_000);
    assert_eq!(queue_end(&replica), "1");
}

#[test]
fn recall_ignored() {
    let mut replica = replica();
    let timer = send_for(&mut replica, 2, "a", Release::At(5_000)).timer;
    let recall = Command::Recall(wire::Recall { topic_id: 1, timer });
    let replies = replica.apply(3, &[recall]);
    assert!(matches!(&replies[..], [CommandReply::Recalled { .. }]), "{replies:?}");
    fire(&mut replica, 6_000);
    assert_eq!(queue_end(&replica), "0");
}

#[test]
fn half_message_visible() {
    let mut replica = replica();
    send_for(&mut replica, 2, "a", Release::OnCommit(5_000));
    assert_eq!(queue_end(&replica), "0");
}

/// Ends the transaction of message `a`.
fn end(replica: &mut Replica, time_ms: u64, resolution: v2::TransactionResolution) {
    let end = Command::EndTransaction(wire::EndTransaction {
        topic_id: 1,
        transaction_id: "a".into(),
        resolution: resolution.into(),
    });
    let replies = replica.apply(time_ms, &[end]);
    assert!(matches!(&replies[..], [CommandReply::Ended(_)]), "{replies:?}");
}

#[test]
fn commit_after_rollback() {
    let mut replica = replica();
    send_for(&mut replica, 2, "a", Release::OnCommit(5_000));
    end(&mut replica, 3, v2::TransactionResolution::Rollback);
    end(&mut replica, 4, v2::TransactionResolution::Commit);
    assert_eq!(queue_end(&replica), "0");
}

#[test]
fn transaction_ends_twice() {
    let mut replica = replica();
    send_for(&mut replica, 2, "a", Release::OnCommit(5_000));
    end(&mut replica, 3, v2::TransactionResolution::Commit);
    end(&mut replica, 4, v2::TransactionResolution::Commit);
    assert_eq!(queue_end(&replica), "1");
}

// Some nodes.

/// A node with a topic `t` of one queue for messages of this type, and a FIFO group `g`.
async fn node_for(message_type: v2::MessageType) -> Cluster {
    let cluster = Cluster::start(1).await;
    let mut admin = cluster.admin(0).await;
    let topic = wire::CreateTopicRequest {
        name: "t".to_owned(),
        queue_count: 1,
        message_types: vec![message_type.into()],
        ..Default::default()
    };
    admin.create_topic(topic).await.unwrap();
    let group = wire::CreateGroupRequest { name: "g".to_owned(), fifo: true, ..Default::default() };
    admin.create_group(group).await.unwrap();
    cluster
}

/// The values that a receive brings within so many seconds.
async fn received(cluster: &Cluster, seconds: u64) -> usize {
    let wait = Duration::from_secs(seconds);
    cluster::receive(&mut cluster.client(0).await, "t", "g", wait).await.len()
}

async fn send_with(cluster: &Cluster, id: &str, change: impl FnOnce(&mut v2::SystemProperties)) {
    let mut message = message("t", id, "body");
    change(message.system_properties.get_or_insert_default());
    let sent = cluster::send(&mut cluster.client(0).await, vec![message]).await;
    assert_eq!(code(&sent.status), Code::Ok, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_queue_blocked() {
    let cluster = node_for(v2::MessageType::Fifo).await;
    send_with(&cluster, "a", |properties| properties.message_group = Some("x".to_owned())).await;
    assert_eq!(received(&cluster, 5).await, 1);
    send_with(&cluster, "b", |properties| properties.message_group = Some("y".to_owned())).await;
    assert_eq!(received(&cluster, 5).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_forgotten() {
    let mut cluster = node_for(v2::MessageType::Delay).await;
    cluster.stop_node(0).await;
    cluster.start_node(0).await;
    cluster.ready().await;
    let due = std::time::SystemTime::now() + Duration::from_millis(500);
    send_with(&cluster, "a", |properties| properties.delivery_timestamp = Some(due.into())).await;
    assert_eq!(received(&cluster, 5).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pulled_offset_not_replicated() {
    let cluster = node_for(v2::MessageType::Normal).await;
    send_with(&cluster, "a", |_| ()).await;
    let queue = v2::MessageQueue { topic: Some(cluster::resource("t")), ..Default::default() };
    let request = v2::UpdateOffsetRequest {
        group: Some(cluster::resource("g")),
        message_queue: Some(queue),
        offset: 1,
    };
    let request = cluster::request(request, cluster::PATIENCE);
    let answer = cluster.client(0).await.update_offset(request).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::Ok);
    // What the nodes have in memory beside the state is the same here, so that the state is asked.
    let request = wire::DescribeGroupRequest { name: "g".to_owned(), this_node: true };
    let group = cluster.admin(0).await.describe_group(request).await.unwrap().into_inner();
    assert_eq!(group.progress.first().map(|progress| progress.commit_offset), Some(1));
}

// Three nodes.

/// A send to `number` that may take `seconds`.
async fn send_to(cluster: &Cluster, number: usize, id: &str, seconds: u64) -> Code {
    let mut client = cluster.client(number).await;
    let request = v2::SendMessageRequest { messages: vec![message("t", id, "body")] };
    let request = cluster::request(request, Duration::from_secs(seconds));
    match client.send_message(request).await {
        Ok(response) => code(&response.into_inner().status),
        Err(_) => Code::HaNotAvailable,
    }
}

/// Hands leadership from `from` to another node and returns that.
async fn transfer(cluster: &Cluster, from: usize) -> usize {
    let to = (from + 1) % 3;
    let request = wire::TransferLeaderCommand { to_node_id: to as u64 + 1, from_node_id: 0 };
    cluster.admin(from).await.transfer_leader(request).await.unwrap();
    to
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_without_majority() {
    let mut cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    cluster.stop_node((leader + 1) % 3).await;
    cluster.stop_node((leader + 2) % 3).await;
    assert_ne!(send_to(&cluster, leader, "a", 3).await, Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_create_not_replicated() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.stop_node((leader + 1) % 3).await;
    cluster.stop_node((leader + 2) % 3).await;
    let mut admin = cluster.admin(leader).await;
    let request = wire::CreateTopicRequest { name: "t".to_owned(), ..Default::default() };
    let answer = tokio::time::timeout(Duration::from_secs(3), admin.create_topic(request)).await;
    assert!(!matches!(answer, Ok(Ok(_))), "created without a majority: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_node_votes() {
    let mut cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    let (behind, emptied) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.stop_node(behind).await;
    // On the disks of the leader and of the one that will be emptied.
    assert_eq!(send_to(&cluster, leader, "a", 10).await, Code::Ok);
    cluster.stop_node(emptied).await;
    cluster.stop_node(leader).await;
    std::fs::remove_dir_all(cluster.data(emptied)).unwrap();
    cluster.start_node(behind).await;
    cluster.start_node(emptied).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let statuses = cluster.status(behind).await;
    assert!(statuses.iter().all(|status| status.role != "leader"), "{statuses:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn vote_for_shorter_log() {
    let mut cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    let (behind, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.stop_node(behind).await;
    assert_eq!(send_to(&cluster, leader, "a", 10).await, Code::Ok);
    cluster.stop_node(other).await;
    cluster.stop_node(leader).await;
    // Only the one with the shorter log stands for election.
    cluster.configs[other].timing.election_min = Duration::from_secs(60);
    cluster.configs[other].timing.election_max = Duration::from_secs(120);
    cluster.start_node(other).await;
    cluster.start_node(behind).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let statuses = cluster.status(behind).await;
    assert!(statuses.iter().all(|status| status.role != "leader"), "{statuses:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_skips_entry() {
    let cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    for number in 0..120 {
        let mut client = cluster.client(leader).await;
        cluster::send(&mut client, vec![message("t", &number.to_string(), "body")]).await;
    }
    let followed = async || loop {
        let statuses = cluster.status(leader).await;
        let applied = statuses[0].applied_index;
        if applied > 120 && statuses.iter().all(|status| status.applied_index == applied) {
            return statuses;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let statuses = tokio::time::timeout(cluster::PATIENCE, followed()).await.unwrap();
    let hash = statuses[0].state_hash;
    assert!(statuses.iter().all(|status| status.state_hash == hash), "{statuses:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_as_deposed_leader() {
    let cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    assert_eq!(send_to(&cluster, leader, "a", 5).await, Code::Ok);
    transfer(&cluster, leader).await;
    assert_eq!(send_to(&cluster, leader, "b", 5).await, Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn double_delivery_on_failover() {
    let cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    assert_eq!(send_to(&cluster, leader, "a", 5).await, Code::Ok);
    let mut client = cluster.client(leader).await;
    let wait = Duration::from_secs(3);
    assert_eq!(cluster::receive(&mut client, "t", "g", wait).await.len(), 1);
    let next = transfer(&cluster, leader).await;
    let mut client = cluster.client(next).await;
    assert_eq!(cluster::receive(&mut client, "t", "g", wait).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stranger_believed() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let address = &cluster.configs[leader].peer_listen;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut peer = PeerClient::new(endpoint.connect_lazy());
    let vote = wire::Vote { term: 1 << 40, node_id: 99, committed: true };
    let heartbeat = wire::AppendRequest { vote: Some(vote), ..Default::default() };
    // Refused or not: it must change nothing.
    let _answer = peer.append_one(heartbeat.sealed()).await;
    let request = wire::VoteRequest {
        vote: Some(wire::Vote { committed: false, ..vote }),
        last_log_id: Some(wire::LogId { term: u64::MAX, index: u64::MAX }),
        leadership_transfer: true,
        pre_vote: false,
        crc32c: 0,
    };
    let _answer = peer.vote(request.sealed()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let term = peer.node_status(wire::NodeStatusRequest {}).await.unwrap().into_inner().term;
    assert!(term < 1 << 40, "the group is in term {term}");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_without_messages() {
    let mut cluster = Cluster::start_with(3, |config| {
        config.segment_bytes = 64 << 10;
        config.retention_bytes = 256 << 10;
        config.retention_interval = Duration::from_millis(300);
    })
    .await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    cluster.stop_node(away).await;
    let mut client = cluster.client(leader).await;
    let body = "x".repeat(10_000);
    let mut number = 0;
    while cluster.status(leader).await.iter().all(|status| status.raft_first_index < 50) {
        number += 1;
        assert!(number < 2_000, "nothing was purged");
        cluster::send(&mut client, vec![message("t", &number.to_string(), &body)]).await;
    }
    cluster.start_node(away).await;
    cluster.agree().await;
    let status = &cluster.status(away).await[away];
    assert!(status.message_first_index < status.raft_first_index, "{status:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_past_unread() {
    let cluster = Cluster::start_with(1, |config| {
        config.segment_bytes = 16 << 10;
        config.retention_bytes = 32 << 10;
        config.retention_interval = Duration::from_millis(200);
    })
    .await;
    cluster.create("t", "g").await;
    let mut client = cluster.client(0).await;
    cluster::send(&mut client, vec![message("t", "held", "held")]).await;
    assert_eq!(cluster::receive(&mut client, "t", "g", Duration::from_secs(3)).await.len(), 1);
    for number in 0..20 {
        let body = "x".repeat(10_000);
        cluster::send(&mut client, vec![message("t", &number.to_string(), &body)]).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.status(0).await[0].message_first_index, 0, "the held message has gone");
}
