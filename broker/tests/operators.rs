//! What operators ask of a real node: offsets, dead letters, topics and groups of every kind.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod cluster;

use std::time::Duration;

use cluster::Cluster;
use cluster::PATIENCE;
use cluster::code;
use cluster::message;
use cluster::resource;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::reset_offset_request::To;
use raftmq_proto::raftmq::start::Kind;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::MessageType;
use tonic::Code as Grpc;

const WAIT: Duration = Duration::from_millis(300);

/// A node with a topic `t` of one queue, and a group `g`.
async fn one_queue() -> Cluster {
    let cluster = Cluster::start(1).await;
    let mut admin = cluster.admin(0).await;
    let topic = wire::CreateTopicRequest { name: "t".into(), queue_count: 1, ..Default::default() };
    admin.create_topic(topic).await.unwrap();
    let group = wire::CreateGroupRequest { name: "g".into(), ..Default::default() };
    admin.create_group(group).await.unwrap();
    cluster
}

async fn send(cluster: &Cluster, messages: Vec<v2::Message>) {
    let answer = cluster::send(&mut cluster.client(0).await, messages).await;
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
}

async fn receive(cluster: &Cluster, topic: &str) -> Vec<v2::Message> {
    cluster::receive(&mut cluster.client(0).await, topic, "g", WAIT).await
}

fn ids(messages: &[v2::Message]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message.system_properties.as_ref().unwrap().message_id.as_str())
        .collect()
}

fn tagged(topic: &str, id: &str, tag: &str) -> v2::Message {
    let mut message = message(topic, id, id);
    message.system_properties.as_mut().unwrap().tag = Some(tag.into());
    message
}

/// Receives from `t` until everything was received, and gives all of it up.
async fn give_up(cluster: &Cluster, count: usize) {
    let mut client = cluster.client(0).await;
    let mut given_up = 0;
    while given_up < count {
        for message in receive(cluster, "t").await {
            let system = message.system_properties.unwrap();
            let request = v2::ForwardMessageToDeadLetterQueueRequest {
                group: Some(resource("g")),
                topic: Some(resource("t")),
                receipt_handle: system.receipt_handle.unwrap(),
                message_id: system.message_id,
                delivery_attempt: 1,
                max_delivery_attempts: 17,
                ..Default::default()
            };
            let request = cluster::request(request, PATIENCE);
            let answer =
                client.forward_message_to_dead_letter_queue(request).await.unwrap().into_inner();
            assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
            given_up += 1;
        }
    }
}

fn reset(to: To) -> wire::ResetOffsetRequest {
    wire::ResetOffsetRequest {
        group: "g".into(),
        topic: "t".into(),
        to: Some(to),
        ..Default::default()
    }
}

fn position(kind: Kind) -> To {
    To::Position(wire::Start { kind: kind.into(), timestamp_ms: 0 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_group_consumes_again_or_passes_over() {
    let cluster = one_queue().await;
    let mut admin = cluster.admin(0).await;
    send(&cluster, (0..4).map(|i| message("t", &format!("id-{i}"), "x")).collect()).await;
    let first = receive(&cluster, "t").await;
    assert_eq!(first.len(), 4);
    cluster::ack(&mut cluster.client(0).await, "t", "g", &first[..3]).await;

    let dry = wire::ResetOffsetRequest { dry_run: true, ..reset(To::Offset(1)) };
    let queues = admin.reset_offset(dry).await.unwrap().into_inner().queues;
    let expected =
        wire::ResetQueue { queue_id: 0, from_offset: 4, to_offset: 1, inflight_count: 1 };
    assert_eq!(queues, [expected]);
    assert!(receive(&cluster, "t").await.is_empty(), "a dry run changes nothing");

    let done = admin.reset_offset(reset(To::Offset(1))).await.unwrap().into_inner();
    assert_eq!(done.queues, queues);
    let again = receive(&cluster, "t").await;
    assert_eq!(ids(&again), ["id-1", "id-2", "id-3"]);

    admin.reset_offset(reset(position(Kind::Last))).await.unwrap();
    assert!(receive(&cluster, "t").await.is_empty());
    admin.reset_offset(reset(position(Kind::First))).await.unwrap();
    assert_eq!(receive(&cluster, "t").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_to_a_time_begins_with_what_was_stored_then() {
    let cluster = one_queue().await;
    send(&cluster, vec![message("t", "early", "x")]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    send(&cluster, vec![message("t", "late", "x")]).await;
    let received = receive(&cluster, "t").await;
    cluster::ack(&mut cluster.client(0).await, "t", "g", &received).await;
    let late = received[1].system_properties.as_ref().unwrap().store_timestamp.unwrap();
    let timestamp_ms = late.seconds as u64 * 1000 + late.nanos as u64 / 1_000_000;
    let to = To::Position(wire::Start { kind: Kind::Timestamp.into(), timestamp_ms });
    cluster.admin(0).await.reset_offset(reset(to)).await.unwrap();
    assert_eq!(ids(&receive(&cluster, "t").await), ["late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_resets_are_refused() {
    let cluster = one_queue().await;
    let mut admin = cluster.admin(0).await;
    let first = || position(Kind::First);
    let elsewhere = wire::ResetOffsetRequest { topic: "no".into(), ..reset(first()) };
    let nobody = wire::ResetOffsetRequest { group: "no".into(), ..reset(first()) };
    let no_queue = wire::ResetOffsetRequest { queue_id: Some(7), ..reset(first()) };
    let nowhere = wire::ResetOffsetRequest { to: None, ..reset(first()) };
    for (request, expected) in [
        (elsewhere, Grpc::NotFound),
        (nobody, Grpc::NotFound),
        (no_queue, Grpc::NotFound),
        (nowhere, Grpc::InvalidArgument),
        (reset(To::Offset(1)), Grpc::OutOfRange),
    ] {
        let status = admin.reset_offset(request).await.unwrap_err();
        assert_eq!(status.code(), expected, "{status}");
    }
}

fn all() -> wire::DeadLettersRequest {
    wire::DeadLettersRequest { group: "g".into(), count: 100, ..Default::default() }
}

fn counts(answer: &wire::DeadLettersResponse) -> (u64, u64, Option<u64>) {
    (answer.done_count, answer.skipped_count, answer.next_offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_back_page_by_page() {
    let cluster = one_queue().await;
    let mut admin = cluster.admin(0).await;
    let list = wire::ListDeadLettersRequest {};
    assert!(admin.list_dead_letters(list).await.unwrap().into_inner().queues.is_empty());
    let none = admin.redrive_dead_letters(all()).await.unwrap().into_inner();
    assert_eq!(counts(&none), (0, 0, None));

    send(&cluster, (0..3).map(|i| message("t", &format!("id-{i}"), "x")).collect()).await;
    give_up(&cluster, 3).await;
    let listed = admin.list_dead_letters(list).await.unwrap().into_inner().queues;
    assert_eq!((listed.len(), listed[0].count), (1, 3));
    assert!(listed[0].oldest_stored_ms <= listed[0].newest_stored_ms);

    let dry = wire::DeadLettersRequest { dry_run: true, ..all() };
    let would = admin.redrive_dead_letters(dry).await.unwrap().into_inner();
    assert_eq!(counts(&would), (3, 0, None));
    assert!(receive(&cluster, "t").await.is_empty(), "a dry run changes nothing");

    let page = wire::DeadLettersRequest { count: 2, ..all() };
    let one = admin.redrive_dead_letters(page.clone()).await.unwrap().into_inner();
    assert_eq!(counts(&one), (2, 0, Some(2)));
    assert_eq!(ids(&receive(&cluster, "t").await), ["id-0", "id-1"]);
    // The same page again: what moved is not there any more.
    let again = admin.redrive_dead_letters(page).await.unwrap().into_inner();
    assert_eq!(counts(&again), (1, 0, None));
    assert_eq!(ids(&receive(&cluster, "t").await), ["id-2"]);
    assert!(admin.list_dead_letters(list).await.unwrap().into_inner().queues.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_chosen_by_topic_and_filter() {
    let cluster = one_queue().await;
    let mut admin = cluster.admin(0).await;
    send(
        &cluster,
        vec![tagged("t", "a", "red"), tagged("t", "b", "blue"), tagged("t", "c", "red")],
    )
    .await;
    give_up(&cluster, 3).await;
    let filter = |tags: &str| {
        Some(v2::FilterExpression {
            r#type: v2::FilterType::Tag.into(),
            expression: tags.to_owned(),
        })
    };
    let elsewhere = wire::DeadLettersRequest { topic: "other".into(), ..all() };
    let answer = admin.purge_dead_letters(elsewhere).await.unwrap().into_inner();
    assert_eq!(counts(&answer), (0, 3, None));
    let red = wire::DeadLettersRequest { filter: filter("red"), ..all() };
    let answer = admin.purge_dead_letters(red).await.unwrap().into_inner();
    assert_eq!(counts(&answer), (2, 1, None));
    let peek = wire::PeekMessagesRequest { topic: "%DLQ%g".into(), count: 2, ..Default::default() };
    let left = admin.peek_messages(peek).await.unwrap().into_inner().messages;
    assert_eq!(ids(&left), ["b"]);
    let bad = wire::DeadLettersRequest { filter: filter("||"), ..all() };
    let status = admin.purge_dead_letters(bad).await.unwrap_err();
    assert_eq!(status.code(), Grpc::InvalidArgument, "{status}");
    let nobody = wire::DeadLettersRequest { group: "no".into(), ..all() };
    let status = admin.redrive_dead_letters(nobody).await.unwrap_err();
    assert_eq!(status.code(), Grpc::NotFound, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_from_a_topic_that_is_gone_stays() {
    let cluster = one_queue().await;
    let mut admin = cluster.admin(0).await;
    send(&cluster, vec![message("t", "id", "x")]).await;
    give_up(&cluster, 1).await;
    admin.delete_topic(wire::DeleteTopicRequest { name: "t".into() }).await.unwrap();
    let answer = admin.redrive_dead_letters(all()).await.unwrap().into_inner();
    assert_eq!(counts(&answer), (0, 1, None));
    let answer = admin.purge_dead_letters(all()).await.unwrap().into_inner();
    assert_eq!(counts(&answer), (1, 0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_told_apart_and_has_an_age() {
    let cluster = one_queue().await;
    send(&cluster, (0..40).map(|i| message("t", &format!("id-{i}"), "x")).collect()).await;
    let received = receive(&cluster, "t").await;
    assert_eq!(received.len(), 32);
    cluster::ack(&mut cluster.client(0).await, "t", "g", &received[..30]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let describe = wire::DescribeGroupRequest { name: "g".into(), this_node: false };
    let described = cluster.admin(0).await.describe_group(describe).await.unwrap().into_inner();
    let [queue] = &described.progress[..] else { panic!("{described:?}") };
    assert_eq!((queue.ready_count, queue.inflight_count), (8, 2));
    assert_eq!((queue.retry_count, queue.held_count), (0, 0));
    assert!((100..30_000).contains(&queue.lag_ms), "{queue:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_groups_keep_what_they_were_made_with() {
    let cluster = Cluster::start(3).await;
    let follower = (cluster.leader().await + 1) % 3;
    let mut admin = cluster.admin(follower).await;
    let mixed = vec![MessageType::Delay.into(), MessageType::Fifo.into()];
    let topic =
        wire::CreateTopicRequest { name: "t".into(), message_types: mixed, ..Default::default() };
    let made = admin.create_topic(topic).await.unwrap().into_inner();
    let kinds = [i32::from(MessageType::Fifo), MessageType::Delay.into()];
    assert_eq!(made.message_types, kinds);
    let group = wire::CreateGroupRequest {
        name: "g".into(),
        fifo: true,
        start: Some(wire::Start { kind: Kind::Last.into(), timestamp_ms: 0 }),
        backoff: Some(wire::Backoff { delays_ms: vec![1_000, 5_000], ..Default::default() }),
        ..Default::default()
    };
    let made = admin.create_group(group.clone()).await.unwrap().into_inner();
    assert_eq!((made.fifo, made.start, &made.backoff), (true, group.start, &group.backoff));
    let describe = wire::DescribeGroupRequest { name: "g".into(), this_node: false };
    let described = admin.describe_group(describe).await.unwrap().into_inner();
    assert_eq!(described.group, Some(made));
    let none = wire::ListTransactionsRequest::default();
    let listed = admin.list_transactions(none).await.unwrap().into_inner();
    assert_eq!((listed.total_count, listed.transactions.len()), (0, 0));
}
