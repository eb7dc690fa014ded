//! What waits outlives its segment: nodes whose log is a few segments long, delayed messages and half
//! messages that were stored long before. And topics that keep messages for a shorter time than nodes.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod cluster;

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use cluster::Cluster;
use cluster::PATIENCE;
use cluster::code;
use cluster::message;
use cluster::resource;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::find_messages_request::By;
use raftmq_proto::raftmq::found_message::Whereabouts;
use raftmq_proto::raftmq::history_event::Kind;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::MessageType;
use raftmq_proto::v2::TransactionResolution;

/// Tests share few cores: how late a message may be that comes at all.
const LATE_MS: u64 = 20_000;
/// Sent to let segments go. The newest 32 MiB can be read from memory without their files.
const TRAFFIC: usize = 36;
const TRAFFIC_BYTES: usize = 1 << 20;

/// Three nodes with a topic `t` for what waits, `traffic` for what lets it go, and a group `g`.
async fn nodes() -> Cluster {
    let cluster = Cluster::start_with(3, |config| {
        config.segment_bytes = 64 << 10;
        config.retention_bytes = 4 << 20;
        config.retention_interval = Duration::from_millis(200);
        // A half message is checked all the time, which sets its timer anew, and never given up.
        config.transaction_timeout = Duration::from_secs(1);
        config.transaction_check_interval = Duration::from_secs(1);
        config.transaction_check_max = 1_000_000;
    })
    .await;
    cluster.create("traffic", "g").await;
    let types = [MessageType::Normal, MessageType::Delay, MessageType::Transaction];
    let topic = wire::CreateTopicRequest {
        name: "t".into(),
        queue_count: 1,
        message_types: types.map(i32::from).to_vec(),
        ..Default::default()
    };
    cluster.admin(0).await.create_topic(topic).await.unwrap();
    cluster
}

/// A message with everything a producer can give it.
fn complete(id: &str) -> v2::Message {
    let mut sent = message("t", id, &format!("{id}: {}", "0123456789".repeat(500)));
    sent.user_properties = (0..3).map(|n| (format!("name-{n}"), format!("{id} {n}"))).collect();
    let system = sent.system_properties.as_mut().unwrap();
    system.keys = vec![format!("key of {id}"), "key of all".into()];
    system.tag = Some(format!("tag-{id}"));
    system.born_host = "host".into();
    system.trace_context = Some("trace".into());
    sent
}

fn assert_complete(got: &v2::Message, id: &str) {
    let sent = complete(id);
    assert_eq!(got.body, sent.body, "{id}");
    assert_eq!(got.user_properties, sent.user_properties, "{id}");
    let (got, sent) = (got.system_properties.clone(), sent.system_properties.unwrap());
    let got = got.unwrap();
    assert_eq!(got.message_id, id);
    assert_eq!((got.keys, got.tag), (sent.keys, sent.tag), "{id}");
    assert_eq!((got.born_host, got.trace_context), (sent.born_host, sent.trace_context), "{id}");
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A message that waits.
struct Waiting {
    id: String,
    /// 0: a half message.
    due_ms: u64,
    recall_handle: String,
}

async fn send(cluster: &Cluster, message: v2::Message) -> v2::SendResultEntry {
    let answer = cluster::send(&mut cluster.client(0).await, vec![message]).await;
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
    answer.entries.into_iter().next().unwrap()
}

async fn send_delayed(cluster: &Cluster, id: &str, delay: Duration) -> Waiting {
    let due_ms = now_ms() + delay.as_millis() as u64;
    let mut delayed = complete(id);
    let due = SystemTime::UNIX_EPOCH + Duration::from_millis(due_ms);
    delayed.system_properties.as_mut().unwrap().delivery_timestamp = Some(due.into());
    let recall_handle = send(cluster, delayed).await.recall_handle;
    Waiting { id: id.into(), due_ms, recall_handle }
}

async fn send_half(cluster: &Cluster, id: &str) -> Waiting {
    let mut half = complete(id);
    half.system_properties.as_mut().unwrap().message_type = MessageType::Transaction.into();
    send(cluster, half).await;
    Waiting { id: id.into(), due_ms: 0, recall_handle: String::new() }
}

/// Where the log of each node begins, as its status and its files tell.
async fn begins(cluster: &Cluster) -> Vec<u64> {
    let statuses = cluster.status(0).await;
    assert_eq!(statuses.len(), 3, "{statuses:?}");
    let of_node = |status: &wire::NodeStatusResponse| {
        let directory = cluster.data(status.node_id as usize - 1).join("log");
        let names = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
        let first =
            names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse::<u64>().ok()).min();
        first.unwrap().min(status.message_first_index).min(status.raft_first_index)
    };
    statuses.iter().map(of_node).collect()
}

/// Sends until every node has let go of the segments that hold what was stored before.
async fn let_go(cluster: &Cluster, name: &str) {
    let last = cluster.status(0).await.iter().map(|status| status.last_log_index).max().unwrap();
    let body = "x".repeat(TRAFFIC_BYTES);
    for number in 0..TRAFFIC {
        send(cluster, message("traffic", &format!("{name}-{number}"), &body)).await;
    }
    let started = Instant::now();
    loop {
        let begins = begins(cluster).await;
        if begins.iter().all(|begin| *begin > last) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{name}: {begins:?} hold what ends with {last}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A delayed message that waits still when its segment has gone, and the one to which it was carried.
async fn send_outlived(cluster: &Cluster, name: &str) -> Waiting {
    for seconds in [6, 12, 24, 48] {
        let id = format!("{name}-{seconds}");
        let delayed = send_delayed(cluster, &id, Duration::from_secs(seconds)).await;
        for time in ["once", "twice"] {
            let_go(cluster, &format!("{id}-{time}")).await;
        }
        if now_ms() < delayed.due_ms {
            return delayed;
        }
        // The machine is slow today: it came in the middle of the traffic, and may have gone with it.
        let mut client = cluster.client(0).await;
        let got = cluster::receive(&mut client, "t", "g", Duration::from_secs(1)).await;
        cluster::ack(&mut client, "t", "g", &got).await;
    }
    panic!("segments take too long to go");
}

/// As one node finds it.
async fn find(cluster: &Cluster, number: usize, id: &str) -> wire::FoundMessage {
    let request = wire::FindMessagesRequest {
        topic: "t".into(),
        by: Some(By::MessageId(id.into())),
        count: 9,
        this_node: true,
        ..Default::default()
    };
    let mut found =
        cluster.admin(number).await.find_messages(request).await.unwrap().into_inner().messages;
    assert_eq!(found.len(), 1, "{id}: {found:?}");
    found.remove(0)
}

/// Every node finds what waits, and can read it.
async fn assert_found(cluster: &Cluster, waiting: &[&Waiting]) {
    cluster.agree().await;
    for number in 0..3 {
        for one in waiting {
            let found = find(cluster, number, &one.id).await;
            let expected = match one.due_ms {
                0 => Whereabouts::Half,
                _ => Whereabouts::Delayed,
            };
            assert_eq!(found.whereabouts(), expected, "{}", one.id);
            if expected == Whereabouts::Delayed {
                assert_eq!(found.next_ms, one.due_ms, "{}", one.id);
            }
            assert_complete(&found.message.unwrap(), &one.id);
        }
    }
}

/// The next message of `t` is this one, comes at `due_ms` and is whole on every node.
async fn assert_delivered(cluster: &Cluster, id: &str, due_ms: u64) {
    let mut client = cluster.client(0).await;
    let (got, came_ms) = loop {
        let got = cluster::receive(&mut client, "t", "g", Duration::from_secs(2)).await;
        if !got.is_empty() {
            break (got, now_ms());
        }
        if now_ms() >= due_ms + LATE_MS {
            let found = find(cluster, 0, id).await;
            panic!("{id} did not come: {found:#?}");
        }
    };
    assert!(came_ms >= due_ms, "{id} came early");
    assert!(came_ms < due_ms + LATE_MS, "{id} came late");
    assert_eq!(got.len(), 1, "{got:?}");
    assert_complete(&got[0], id);
    let answer = cluster::ack(&mut client, "t", "g", &got).await;
    assert_eq!(code(&answer.entries[0].status), Code::Ok, "{answer:?}");

    cluster.agree().await;
    for number in 0..3 {
        let found = find(cluster, number, id).await;
        assert_eq!(found.whereabouts(), Whereabouts::InQueue, "{id}");
        assert_complete(&found.message.unwrap(), id);
    }
    let by = By::Key(format!("key of {id}"));
    let request = wire::FindMessagesRequest {
        topic: "t".into(),
        by: Some(by),
        count: 9,
        ..Default::default()
    };
    let keyed = cluster.admin(0).await.find_messages(request).await.unwrap().into_inner().messages;
    assert_eq!(keyed.len(), 1, "{id}: {keyed:?}");
}

async fn assert_history(cluster: &Cluster, id: &str, expected: &[Kind]) {
    let found = find(cluster, 0, id).await;
    let request = wire::MessageHistoryRequest {
        topic: "t".into(),
        queue_id: found.queue_id.unwrap(),
        offset: found.offset.unwrap(),
        this_node: false,
    };
    let told = cluster.admin(0).await.message_history(request).await.unwrap().into_inner();
    let kinds: Vec<Kind> = told.events.iter().map(wire::HistoryEvent::kind).collect();
    assert_eq!(kinds, expected, "{told:#?}");
    assert_eq!(told.events[0].time_ms, 0, "the log no longer holds that entry: {told:#?}");
}

async fn end(cluster: &Cluster, id: &str, resolution: TransactionResolution) {
    let request = v2::EndTransactionRequest {
        topic: Some(resource("t")),
        message_id: id.into(),
        transaction_id: id.into(),
        resolution: resolution.into(),
        ..Default::default()
    };
    let mut client = cluster.client(0).await;
    let answer = client.end_transaction(cluster::request(request, PATIENCE)).await.unwrap();
    assert_eq!(code(&answer.into_inner().status), Code::Ok, "{id}");
}

async fn recall(cluster: &Cluster, waiting: &Waiting) {
    let request = v2::RecallMessageRequest {
        topic: Some(resource("t")),
        recall_handle: waiting.recall_handle.clone(),
    };
    let mut client = cluster.client(0).await;
    let answer = client.recall_message(cluster::request(request, PATIENCE)).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
    assert_eq!(answer.message_id, waiting.id);
    cluster.agree().await;
    for number in 0..3 {
        let found = find(cluster, number, &waiting.id).await;
        assert_eq!(found.whereabouts(), Whereabouts::Recalled, "{}", waiting.id);
    }
}

async fn restart(cluster: &mut Cluster) {
    for number in 0..3 {
        cluster.stop_node(number).await;
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    cluster.ready().await;
}

async fn change_leader(cluster: &Cluster) {
    let leader = cluster.leader().await;
    let next = (leader + 1) % 3;
    let request = wire::TransferLeaderCommand { to_node_id: next as u64 + 1, from_node_id: 0 };
    cluster.admin(leader).await.transfer_leader(request).await.unwrap();
    let started = Instant::now();
    while cluster.leader().await != next {
        assert!(started.elapsed() < PATIENCE, "node {next} does not lead");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    Restart,
    NewLeader,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_outlives_its_segment() {
    let mut cluster = nodes().await;
    for meanwhile in [Meanwhile::Nothing, Meanwhile::Restart, Meanwhile::NewLeader] {
        let id = |what: &str| format!("{what}-{meanwhile:?}");
        let to_recall = send_delayed(&cluster, &id("recalled"), Duration::from_secs(3600)).await;
        let to_commit = send_half(&cluster, &id("committed")).await;
        let to_roll_back = send_half(&cluster, &id("rolled-back")).await;
        let delayed = send_outlived(&cluster, &id("delayed")).await;
        match meanwhile {
            Meanwhile::Nothing => (),
            Meanwhile::Restart => restart(&mut cluster).await,
            Meanwhile::NewLeader => change_leader(&cluster).await,
        }
        assert_found(&cluster, &[&to_recall, &to_commit, &to_roll_back]).await;
        recall(&cluster, &to_recall).await;

        assert_delivered(&cluster, &delayed.id, delayed.due_ms).await;
        assert_history(
            &cluster,
            &delayed.id,
            &[Kind::Stored, Kind::Due, Kind::HandedOut, Kind::Acked],
        )
        .await;

        end(&cluster, &to_roll_back.id, TransactionResolution::Rollback).await;
        let committed_ms = now_ms();
        end(&cluster, &to_commit.id, TransactionResolution::Commit).await;
        assert_delivered(&cluster, &to_commit.id, committed_ms).await;
        let told = [Kind::Stored, Kind::Committed, Kind::HandedOut, Kind::Acked];
        assert_history(&cluster, &to_commit.id, &told).await;
        cluster.agree().await;
        for number in 0..3 {
            let found = find(&cluster, number, &to_roll_back.id).await;
            assert_eq!(found.whereabouts(), Whereabouts::RolledBack);
        }
        let more =
            cluster::receive(&mut cluster.client(0).await, "t", "g", Duration::from_millis(300))
                .await;
        assert!(more.is_empty(), "{more:?}");
    }
}

/// A group that received a message and never came back held the log for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_group_abandoned_holds_the_log_for_one_more_retention() {
    let cluster = Cluster::start_with(1, |config| {
        config.segment_bytes = 64 << 10;
        config.retention = Duration::from_secs(3);
        config.retention_interval = Duration::from_millis(200);
    })
    .await;
    cluster.create("t", "g").await;
    cluster.create("traffic", "readers").await;
    send(&cluster, message("t", "abandoned", "x")).await;
    let mut client = cluster.client(0).await;
    let out = cluster::receive(&mut client, "t", "g", Duration::from_secs(5)).await;
    assert_eq!(out.len(), 1);
    let (visible, stored) =
        (Instant::now() + Duration::from_secs(10), find(&cluster, 0, "abandoned").await);
    assert_eq!(stored.whereabouts(), Whereabouts::InQueue);
    let body = "x".repeat(100 << 10);
    let mut number = 0;
    loop {
        send(&cluster, message("traffic", &format!("traffic-{number}"), &body)).await;
        number += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let found = find(&cluster, 0, "abandoned").await.whereabouts();
        let since_visible = Instant::now().saturating_duration_since(visible);
        if found == Whereabouts::Gone {
            assert!(since_visible > Duration::from_secs(2), "it went after {since_visible:?}");
            return;
        }
        assert!(since_visible < PATIENCE, "it holds the log for ever");
    }
}

async fn offsets(cluster: &Cluster, number: usize, topic: &str) -> (u64, u64) {
    let request = wire::DescribeTopicRequest { name: topic.into(), this_node: true };
    let described = cluster.admin(number).await.describe_topic(request).await.unwrap();
    let queue = described.into_inner().queues[0];
    (queue.min_offset, queue.max_offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_keep_its_messages_for_a_shorter_time() {
    let mut cluster = Cluster::start_with(3, |config| {
        config.retention = Duration::from_secs(3600);
        config.retention_interval = Duration::from_millis(200);
    })
    .await;
    let topic = |name: &str, retention_ms| wire::CreateTopicRequest {
        name: name.into(),
        queue_count: 1,
        retention_ms,
        ..Default::default()
    };
    let mut admin = cluster.admin(0).await;
    let refused = admin.create_topic(topic("short", 3_600_001)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let created = admin.create_topic(topic("short", 3000)).await.unwrap().into_inner();
    assert_eq!(created.retention_ms, 3000);
    admin.create_topic(topic("long", 0)).await.unwrap();
    for meanwhile in [Meanwhile::Nothing, Meanwhile::Restart] {
        let stored_ms = now_ms();
        for topic in ["short", "long"] {
            send(&cluster, message(topic, &format!("{topic}-{meanwhile:?}"), "x")).await;
        }
        if matches!(meanwhile, Meanwhile::Restart) {
            restart(&mut cluster).await;
        }
        let (_, end) = offsets(&cluster, cluster.leader().await, "short").await;
        while offsets(&cluster, 0, "short").await != (end, end) {
            assert!(now_ms() < stored_ms + 3000 + LATE_MS, "{meanwhile:?}: it is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(now_ms() >= stored_ms + 3000, "{meanwhile:?}: it went early");
        cluster.agree().await;
        for number in 0..3 {
            assert_eq!(offsets(&cluster, number, "short").await, (end, end));
            assert_eq!(offsets(&cluster, number, "long").await, (0, end));
        }
    }
}
