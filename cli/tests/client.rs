//! The client against servers that misbehave on demand.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod fake;

use std::time::Duration;

use raftmq::client::CallError;
use raftmq::client::Consumer;
use raftmq::client::ConsumerOptions;
use raftmq::client::Outcome;
use raftmq::client::OutgoingMessage;
use raftmq::client::Producer;
use raftmq::client::ProducerOptions;
use raftmq::client::PullOptions;
use raftmq::client::ReceiveOptions;
use raftmq_proto::v2::Code;

use fake::Fake;

async fn producer(endpoint: &Fake) -> Producer {
    Producer::start(ProducerOptions::new(vec![endpoint.address()], "demo")).await.unwrap()
}

async fn consumer(endpoint: &Fake) -> Consumer {
    Consumer::start(ConsumerOptions::new(vec![endpoint.address()], "demo", "g")).await.unwrap()
}

#[tokio::test]
async fn a_failed_send_goes_to_the_next_broker_under_the_same_id() {
    let (one, other) = (Fake::start().await, Fake::start().await);
    one.route(&[("a-1", &one.address()), ("a-2", &other.address())]);
    one.answer_sends(Code::InternalServerError);

    let message = OutgoingMessage::new("hello");
    let sent = producer(&one).await.send(&message).await.unwrap();
    assert_eq!(sent.broker_name, "a-2");
    assert_eq!(sent.message_id, message.id.to_string());
    assert_eq!(sent.failed_attempts.len(), 1);
    assert_eq!(sent.failed_attempts[0].error.outcome(), Outcome::Unknown);
    assert_eq!(one.sent_ids(), [message.id.to_string()]);
    assert_eq!(other.sent_ids(), one.sent_ids());
}

#[tokio::test]
async fn a_broker_that_is_gone_is_passed_over_from_then_on() {
    let alive = Fake::start().await;
    alive.route(&[("a-1", "127.0.0.1:1"), ("a-2", &alive.address())]);
    let producer = producer(&alive).await;
    let mut failed = Vec::new();
    for _ in 0..4 {
        failed.extend(producer.send(&OutgoingMessage::new("x")).await.unwrap().failed_attempts);
    }
    // Greeting it at the start has told already.
    assert_eq!(failed.len(), 0);
    assert_eq!(alive.sent_ids().len(), 4);
}

#[tokio::test]
async fn when_nobody_is_there_every_attempt_is_told() {
    let endpoint = Fake::start().await;
    endpoint.route(&[("a-1", &endpoint.address())]);
    let producer = producer(&endpoint).await;
    endpoint.stop().await;
    let error = producer.send(&OutgoingMessage::new("x")).await.unwrap_err();
    assert_eq!(error.attempts.len(), 3);
    assert!(matches!(error.last, CallError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_request_that_no_server_would_take_is_not_repeated() {
    let fake = Fake::start().await;
    fake.route(&[("a-1", &fake.address()), ("a-2", &fake.address())]);
    fake.answer_sends(Code::MessageBodyTooLarge);
    let error = producer(&fake).await.send(&OutgoingMessage::new("x")).await.unwrap_err();
    assert_eq!(error.attempts.len(), 1);
    assert_eq!(error.outcome(), Outcome::NotDone);
    assert_eq!(error.last.code(), Some(Code::MessageBodyTooLarge));
}

#[tokio::test]
async fn settings_are_exchanged_once_and_again_when_the_stream_has_ended() {
    let fake = Fake::start().await;
    fake.route(&[("a-1", &fake.address())]);
    let producer = producer(&fake).await;
    for _ in 0..3 {
        producer.send(&OutgoingMessage::new("x")).await.unwrap();
    }
    assert_eq!(fake.greetings(), 1);
    fake.end_telemetry();
    let again = async {
        while fake.greetings() < 2 {
            producer.send(&OutgoingMessage::new("x")).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
    // Every call names the client, and always the same.
    assert_eq!(fake.client_ids(), [producer.client_id()]);
}

#[tokio::test]
async fn an_unknown_topic_is_told_at_the_start() {
    let fake = Fake::start().await;
    let options = ProducerOptions::new(vec![fake.address()], "demo");
    let error = Producer::start(options).await.err().unwrap();
    assert_eq!(error.code(), Some(Code::TopicNotFound));
}

#[tokio::test]
async fn endpoints_are_tried_in_order() {
    let fake = Fake::start().await;
    fake.route(&[("a-1", &fake.address())]);
    let endpoints = vec!["127.0.0.1:1".to_owned(), fake.address()];
    let producer = Producer::start(ProducerOptions::new(endpoints, "demo")).await.unwrap();
    producer.send(&OutgoingMessage::new("x")).await.unwrap();

    let error = Producer::start(ProducerOptions::new(Vec::new(), "demo")).await.err().unwrap();
    assert_eq!(error, CallError::NoAddress);
}

#[tokio::test]
async fn a_batch_is_one_request() {
    let fake = Fake::start().await;
    fake.route(&[("a-1", &fake.address())]);
    let messages: Vec<_> = (0..5).map(|_| OutgoingMessage::new("x")).collect();
    let sent = producer(&fake).await.send_batch(&messages).await.unwrap();
    let sent: Vec<_> = sent.into_iter().map(|sent| sent.message_id).collect();
    let ids: Vec<_> = messages.iter().map(|message| message.id.to_string()).collect();
    assert_eq!(sent, ids);
    assert_eq!(fake.requests(), 1);
}

#[tokio::test]
async fn what_was_sent_is_received_and_acknowledged() {
    let fake = Fake::start().await;
    fake.route(&[("a-1", &fake.address())]);
    let message = OutgoingMessage::new("hello");
    producer(&fake).await.send(&message).await.unwrap();

    let consumer = consumer(&fake).await;
    let received = consumer.receive(ReceiveOptions::default()).await.unwrap();
    assert_eq!(received.broker_name, "a-1");
    assert_eq!(received.deliveries.len(), 1);
    let delivery = &received.deliveries[0];
    assert_eq!(delivery.message_id, message.id.to_string());
    assert_eq!(delivery.body, message.body);
    assert_eq!(delivery.attempt, 1);

    let results = consumer.ack(&received.deliveries).await.unwrap();
    assert_eq!(results, [Ok(())]);
    assert_eq!(fake.acked_handles(), [&*delivery.receipt_handle]);
    let nothing = consumer.receive(ReceiveOptions::default()).await.unwrap();
    assert!(nothing.deliveries.is_empty());
    assert_eq!(consumer.ack(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_pull_says_where_to_go_on() {
    let fake = Fake::start().await;
    fake.route(&[("a-1", &fake.address())]);
    let messages: Vec<_> = (0..3).map(|_| OutgoingMessage::new("x")).collect();
    producer(&fake).await.send_batch(&messages).await.unwrap();
    let consumer = consumer(&fake).await;
    let from = |offset| PullOptions { queue_id: 0, offset, count_max: 2, wait: Duration::ZERO };
    let pulled = consumer.pull(from(0)).await.unwrap();
    let ids: Vec<_> = pulled.deliveries.iter().map(|delivery| &*delivery.message_id).collect();
    assert_eq!(ids, [messages[0].id.to_string(), messages[1].id.to_string()]);
    assert_eq!(pulled.deliveries[0].broker_name, "a-1");
    assert_eq!(pulled.next_offset, 2);
    let end = consumer.pull(from(3)).await.unwrap();
    assert_eq!((end.deliveries.len(), end.next_offset), (0, 3));
}

#[tokio::test]
async fn a_recall_goes_to_another_node_when_one_is_gone() {
    let fake = Fake::start().await;
    fake.route(&[("a-1", "127.0.0.1:1"), ("a-2", &fake.address())]);
    let producer = producer(&fake).await;
    let message = OutgoingMessage::new("x");
    producer.send(&message).await.unwrap();
    let recalled = producer.recall(&message.id.to_string()).await.unwrap();
    assert_eq!(recalled, message.id.to_string());
    let error = producer.recall("another").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));
}

#[tokio::test]
async fn receipts_go_to_another_node_of_the_same_group_when_one_is_gone() {
    let (one, other, stranger) = (Fake::start().await, Fake::start().await, Fake::start().await);
    one.route(&[("a-1", &one.address())]);
    producer(&one).await.send(&OutgoingMessage::new("x")).await.unwrap();
    let consumer = consumer(&one).await;
    let received = consumer.receive(ReceiveOptions::default()).await.unwrap();

    let brokers =
        [("a-1", &*one.address()), ("b-1", &stranger.address()), ("a-2", &other.address())];
    one.route(&brokers);
    // The failed receive makes the client ask for the route again, which has two more brokers.
    one.answer_receives(Code::InternalServerError);
    let learned = async {
        while consumer.route().brokers.len() < 3 {
            let _failed = consumer.receive(ReceiveOptions::default()).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), learned).await.unwrap();

    one.stop().await;
    let results = consumer.ack(&received.deliveries).await.unwrap();
    assert_eq!(results, [Ok(())]);
    assert_eq!(other.acked_handles().len(), 1);
    assert_eq!(stranger.acked_handles().len(), 0);
}

#[tokio::test]
async fn a_refused_receipt_is_told_for_each_message() {
    let fake = Fake::start().await;
    fake.route(&[("a-1", &fake.address())]);
    producer(&fake).await.send(&OutgoingMessage::new("x")).await.unwrap();
    let consumer = consumer(&fake).await;
    let received = consumer.receive(ReceiveOptions::default()).await.unwrap();
    fake.answer_acks(Code::InvalidReceiptHandle);
    let results = consumer.ack(&received.deliveries).await.unwrap();
    let error = results.into_iter().next().unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidReceiptHandle));
}
