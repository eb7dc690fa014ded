//! Finding messages, and what the log tells of them.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod cluster;
mod replica;

use std::time::Duration;
use std::time::SystemTime;

use cluster::Cluster;
use cluster::PATIENCE;
use cluster::code;
use cluster::message;
use cluster::resource;
use raftmq_broker::command;
use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::command::Release;
use raftmq_broker::command::Send;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::find_messages_request::By;
use raftmq_proto::raftmq::found_message::Whereabouts;
use raftmq_proto::raftmq::group_state::State;
use raftmq_proto::raftmq::history_event::Kind;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::MessageType;
use raftmq_proto::v2::TransactionResolution;
use replica::Replica;

const WAIT: Duration = Duration::from_millis(300);
const KEY_TABLE: u8 = 16;
const HOUR_MS: u64 = 3_600_000;

fn new_message(id: &str, keys: &[&str], release: Release) -> NewMessage {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    NewMessage {
        queue_id: 0,
        tag_hash: 0,
        group_hash: 0,
        key_hashes: command::key_hashes(&keys),
        release,
        message_id: id.to_owned().into(),
        record: "record".into(),
        record_offset: 0,
    }
}

/// A row of the key table.
fn row(hour: u32, key: &str, offset: u64) -> Vec<u8> {
    let mut row = hour.to_be_bytes().to_vec();
    row.extend_from_slice(&1_u32.to_be_bytes());
    row.extend_from_slice(&command::key_hash(key).to_be_bytes());
    row.extend_from_slice(&0_u32.to_be_bytes());
    row.extend_from_slice(&offset.to_be_bytes());
    row
}

fn sorted(mut rows: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    rows.sort();
    rows
}

#[test]
fn keys_are_noted_when_a_message_comes_into_its_queue_and_forgotten_by_the_hour() {
    let mut replica = Replica::new();
    let create = wire::CreateTopic {
        name: "t".into(),
        queue_count: 1,
        message_types: vec![1],
        ..Default::default()
    };
    replica.apply(1, &[Command::CreateTopic(create)]);
    let messages = vec![
        new_message("now", &["a", "b", "a"], Release::AtOnce),
        new_message("none", &[], Release::AtOnce),
        new_message("later", &["c"], Release::At(HOUR_MS + 5)),
        new_message("half", &["d"], Release::OnCommit(9 * HOUR_MS)),
    ];
    replica.apply(2, &[Command::Send(Send { topic_id: 1, messages })]);
    let first = vec![row(0, "a", 0), row(0, "b", 0)];
    assert_eq!(replica.keys(KEY_TABLE), sorted(first.clone()));

    // What waits keeps its keys over a restart and over being carried.
    replica.reload();
    let timer = replica.keys(9)[0].clone();
    let number = |at: usize| u64::from_be_bytes(timer[at..at + 8].try_into().unwrap());
    let carried = command::Carried {
        timer: wire::Timer {
            due_ms: number(0),
            log_index: number(8),
            offset: u32::from_be_bytes(timer[16..20].try_into().unwrap()),
        },
        record: "record".into(),
        record_offset: 0,
    };
    replica.apply(3, &[Command::Carry(command::Carry { records: vec![carried] })]);
    let fire = wire::Fire { until_ms: HOUR_MS + 5, count: 9, ..Default::default() };
    replica.apply(HOUR_MS + 5, &[Command::Fire(fire)]);
    let commit = wire::EndTransaction {
        topic_id: 1,
        transaction_id: "half".into(),
        resolution: TransactionResolution::Commit.into(),
    };
    replica.apply(2 * HOUR_MS, &[Command::EndTransaction(commit)]);
    let later = vec![row(1, "c", 2), row(2, "d", 3)];
    assert_eq!(replica.keys(KEY_TABLE), sorted([first, later.clone()].concat()));

    let mut trim = |stored_before_ms| {
        let trim = wire::Trim { before_log_index: 0, stored_before_ms };
        replica.apply(20 * HOUR_MS, &[Command::Trim(trim)]);
        replica.keys(KEY_TABLE)
    };
    assert_eq!(trim(HOUR_MS - 1).len(), 4, "within the hour");
    assert_eq!(trim(2 * HOUR_MS - 1), sorted(later));
    assert!(trim(9 * HOUR_MS).is_empty());
}

/// A node with a topic `t` of two queues for everything, and a group `g` of three attempts.
async fn node() -> Cluster {
    let cluster = Cluster::start(1).await;
    let mut admin = cluster.admin(0).await;
    let types =
        [MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction];
    let topic = wire::CreateTopicRequest {
        name: "t".into(),
        queue_count: 2,
        message_types: types.map(i32::from).to_vec(),
        ..Default::default()
    };
    admin.create_topic(topic).await.unwrap();
    let group =
        wire::CreateGroupRequest { name: "g".into(), max_attempts: 3, ..Default::default() };
    admin.create_group(group).await.unwrap();
    cluster
}

fn with_key(id: &str, key: &str) -> v2::Message {
    let mut message = message("t", id, id);
    message.system_properties.as_mut().unwrap().keys = vec![key.into()];
    message
}

async fn send(cluster: &Cluster, message: v2::Message) -> v2::SendMessageResponse {
    let answer = cluster::send(&mut cluster.client(0).await, vec![message]).await;
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
    answer
}

async fn receive_one(cluster: &Cluster) -> v2::Message {
    for _ in 0..100 {
        let got = cluster::receive(&mut cluster.client(0).await, "t", "g", WAIT).await;
        if let Some(message) = got.into_iter().next() {
            return message;
        }
    }
    panic!("nothing was received")
}

async fn find(cluster: &Cluster, by: By, count: u32) -> Vec<wire::FoundMessage> {
    let request =
        wire::FindMessagesRequest { topic: "t".into(), by: Some(by), count, ..Default::default() };
    cluster.admin(0).await.find_messages(request).await.unwrap().into_inner().messages
}

async fn by_id(cluster: &Cluster, id: &str) -> Vec<wire::FoundMessage> {
    find(cluster, By::MessageId(id.into()), 9).await
}

fn ids(found: &[wire::FoundMessage]) -> Vec<String> {
    let properties = found.iter().map(|it| it.message.clone().unwrap().system_properties.unwrap());
    properties.map(|properties| properties.message_id).collect()
}

async fn history(cluster: &Cluster, found: &wire::FoundMessage) -> Vec<wire::HistoryEvent> {
    let request = wire::MessageHistoryRequest {
        topic: "t".into(),
        queue_id: found.queue_id.unwrap(),
        offset: found.offset.unwrap(),
        this_node: false,
    };
    let told = cluster.admin(0).await.message_history(request).await.unwrap().into_inner();
    assert!(!told.cut);
    told.events
}

fn kinds(events: &[wire::HistoryEvent]) -> Vec<Kind> {
    events.iter().map(wire::HistoryEvent::kind).collect()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn seconds_from_now(seconds: i64) -> Option<prost_types::Timestamp> {
    let now = prost_types::Timestamp::from(SystemTime::now());
    Some(prost_types::Timestamp { seconds: now.seconds + seconds, ..now })
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_by_id_key_and_time() {
    let cluster = node().await;
    let before_ms = now_ms();
    for number in 0..4 {
        send(&cluster, with_key(&format!("id-{number}"), &format!("key-{}", number % 2))).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let between_ms = now_ms();
    send(&cluster, message("t", "late", "x")).await;

    let one = by_id(&cluster, "id-2").await;
    assert_eq!(ids(&one), ["id-2"]);
    assert_eq!(one[0].whereabouts(), Whereabouts::InQueue);
    assert!(by_id(&cluster, "id-9").await.is_empty());

    let keyed = find(&cluster, By::Key("key-1".into()), 9).await;
    assert_eq!(ids(&keyed), ["id-3", "id-1"]);
    assert_eq!(ids(&find(&cluster, By::Key("key-1".into()), 1).await), ["id-3"]);
    assert!(find(&cluster, By::Key("key-2".into()), 9).await.is_empty());

    let stored = |from_ms, to_ms| By::Stored(wire::TimeRange { from_ms, to_ms });
    let early = find(&cluster, stored(before_ms, between_ms), 9).await;
    assert_eq!(ids(&early), ["id-0", "id-1", "id-2", "id-3"]);
    assert_eq!(ids(&find(&cluster, stored(before_ms, u64::MAX), 2).await), ["id-0", "id-1"]);
    assert_eq!(ids(&find(&cluster, stored(between_ms, u64::MAX), 9).await), ["late"]);

    let request = wire::FindMessagesRequest { topic: "t".into(), ..Default::default() };
    let refused = cluster.admin(0).await.find_messages(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_found_with_what_it_waits_for() {
    let cluster = node().await;
    let mut delayed = with_key("later", "key");
    delayed.system_properties.as_mut().unwrap().delivery_timestamp = seconds_from_now(3600);
    let handle = send(&cluster, delayed).await.entries[0].recall_handle.clone();
    let found = by_id(&cluster, "later").await;
    assert_eq!(found[0].whereabouts(), Whereabouts::Delayed);
    assert!(found[0].next_ms > now_ms() + 3_000_000, "{found:?}");
    assert_eq!(ids(&found), ["later"]);
    let recall = v2::RecallMessageRequest { topic: Some(resource("t")), recall_handle: handle };
    let mut client = cluster.client(0).await;
    client.recall_message(cluster::request(recall, PATIENCE)).await.unwrap();
    assert_eq!(by_id(&cluster, "later").await[0].whereabouts(), Whereabouts::Recalled);

    for (id, resolution) in
        [("half-1", TransactionResolution::Commit), ("half-2", TransactionResolution::Rollback)]
    {
        let mut half = with_key(id, "key");
        half.system_properties.as_mut().unwrap().message_type = MessageType::Transaction.into();
        send(&cluster, half).await;
        let found = by_id(&cluster, id).await;
        assert_eq!((found[0].whereabouts(), found.len()), (Whereabouts::Half, 1));
        assert!(find(&cluster, By::Key("key".into()), 9).await.len() < 2);
        let end = v2::EndTransactionRequest {
            topic: Some(resource("t")),
            message_id: id.into(),
            transaction_id: id.into(),
            resolution: resolution.into(),
            ..Default::default()
        };
        client.end_transaction(cluster::request(end, PATIENCE)).await.unwrap();
    }
    assert_eq!(by_id(&cluster, "half-2").await[0].whereabouts(), Whereabouts::RolledBack);
    let committed = by_id(&cluster, "half-1").await;
    assert_eq!((ids(&committed), committed.len()), (vec!["half-1".to_owned()], 1));
    assert_eq!(ids(&find(&cluster, By::Key("key".into()), 9).await), ["half-1"]);
    let told = history(&cluster, &committed[0]).await;
    assert_eq!(kinds(&told), [Kind::Stored, Kind::Committed]);
    assert!(told[0].half && told[0].log_index < told[1].log_index);
}

async fn give_back(cluster: &Cluster, message: &v2::Message) {
    let system = message.system_properties.clone().unwrap();
    let request = v2::ChangeInvisibleDurationRequest {
        group: Some(resource("g")),
        topic: Some(resource("t")),
        receipt_handle: system.receipt_handle.unwrap(),
        invisible_duration: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        message_id: system.message_id,
        ..Default::default()
    };
    let request = cluster::request(request, PATIENCE);
    let mut client = cluster.client(0).await;
    let answer = client.change_invisible_duration(request).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
}

async fn give_up(cluster: &Cluster, message: &v2::Message) {
    let system = message.system_properties.clone().unwrap();
    let request = v2::ForwardMessageToDeadLetterQueueRequest {
        group: Some(resource("g")),
        topic: Some(resource("t")),
        receipt_handle: system.receipt_handle.unwrap(),
        message_id: system.message_id,
        delivery_attempt: 2,
        max_delivery_attempts: 3,
        ..Default::default()
    };
    let request = cluster::request(request, PATIENCE);
    let mut client = cluster.client(0).await;
    let answer = client.forward_message_to_dead_letter_queue(request).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_what_happened_to_a_message() {
    let cluster = node().await;
    let mut delayed = with_key("id", "key");
    // In the middle of a second, so that it is delivered in the same one.
    let due = seconds_from_now(2).map(|due| prost_types::Timestamp { nanos: 500_000_000, ..due });
    delayed.system_properties.as_mut().unwrap().delivery_timestamp = due;
    send(&cluster, delayed).await;

    let first = receive_one(&cluster).await;
    let found = by_id(&cluster, "id").await;
    assert_eq!(found.len(), 1, "{found:?}");
    let state = &found[0].groups[0];
    assert_eq!((state.state(), state.attempt), (State::InFlight, 1));
    assert!(state.until_ms > now_ms(), "{state:?}");
    give_back(&cluster, &first).await;
    let second = receive_one(&cluster).await;
    // Its receipt has ended.
    let late = cluster::ack(&mut cluster.client(0).await, "t", "g", &[first]).await;
    assert_ne!(code(&late.entries[0].status), Code::Ok, "{late:?}");
    give_up(&cluster, &second).await;

    let found = by_id(&cluster, "id").await;
    assert_eq!(found[0].groups[0].state(), State::Consumed);
    let copy = |topic: &str| wire::MessagePlace { topic: topic.into(), queue_id: 0, offset: 0 };
    assert_eq!(found[0].copies, [copy("%DLQ%g")]);
    let told = history(&cluster, &found[0]).await;
    let until_dead = [
        Kind::Stored,
        Kind::Due,
        Kind::HandedOut,
        Kind::InvisibleChanged,
        Kind::HandedOut,
        Kind::TooLate,
        Kind::DeadLettered,
        Kind::BecameDeadLetter,
    ];
    assert_eq!(kinds(&told), until_dead, "{told:#?}");
    let out =
        |event: &wire::HistoryEvent| (event.attempt, event.group.clone(), event.client_id.clone());
    assert_eq!(out(&told[2]), (1, "g".into(), "test@1".into()));
    assert_eq!(out(&told[4]), (2, "g".into(), "test@1".into()));
    assert!(told[2].until_ms > told[2].time_ms, "{:?}", told[2]);
    assert!(told[4].time_ms >= told[3].until_ms, "visible again: {told:#?}");
    assert!(told.windows(2).all(|two| two[0].log_index <= two[1].log_index), "{told:#?}");
    assert_eq!(told[0].until_ms / 1000, told[1].time_ms / 1000, "{told:#?}");

    let redrive = wire::DeadLettersRequest { group: "g".into(), count: 9, ..Default::default() };
    cluster.admin(0).await.redrive_dead_letters(redrive).await.unwrap();
    let third = receive_one(&cluster).await;
    cluster::ack(&mut cluster.client(0).await, "t", "g", &[third]).await;
    let found = by_id(&cluster, "id").await;
    assert_eq!(found[0].copies.len(), 1, "{found:?}");
    assert_eq!(found[0].copies[0].topic, "t");
    let told = history(&cluster, &found[0]).await;
    // The dead letter is no longer there.
    assert_eq!(kinds(&told)[..7], until_dead[..7]);
    assert_eq!(kinds(&told)[7..], [Kind::Redriven, Kind::HandedOut, Kind::Acked]);
    assert_eq!(told[9].place.as_ref(), Some(&found[0].copies[0]));
    assert_eq!(told[9].attempt, 1, "a redriven message begins anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_and_what_comes_after_it_are_told() {
    let cluster = node().await;
    send(&cluster, message("t", "id", "x")).await;
    let received = receive_one(&cluster).await;
    cluster::ack(&mut cluster.client(0).await, "t", "g", &[received]).await;
    let found = by_id(&cluster, "id").await;
    let reset = wire::ResetOffsetRequest {
        group: "g".into(),
        topic: "t".into(),
        to: Some(wire::reset_offset_request::To::Position(wire::Start::default())),
        ..Default::default()
    };
    cluster.admin(0).await.reset_offset(reset).await.unwrap();
    receive_one(&cluster).await;
    let told = history(&cluster, &found[0]).await;
    let expected = [Kind::Stored, Kind::HandedOut, Kind::Acked, Kind::OffsetReset, Kind::HandedOut];
    assert_eq!(kinds(&told), expected, "{told:#?}");
    assert_eq!((told[2].group.as_str(), told[4].attempt), ("g", 1));

    let nowhere =
        wire::MessageHistoryRequest { topic: "t".into(), offset: 99, ..Default::default() };
    let refused = cluster.admin(0).await.message_history(nowhere).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
}
