//! The checks of `interop`. Each returns a sentence on what it saw, and an error when it fails.
//!
//! Bodies are unique by check, because several checks share a topic. Clients are not shut down:
//! this one's shutdown consumes it, and the process ends soon after.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use rocketmq::error::ClientError;
use rocketmq::model::common::SendReceipt;
use rocketmq::model::message::MessageBuilder;

use crate::clients::{Consumer, code, message, producer};
use crate::exchange::{
    INVISIBLE, RECEIVE_BATCH, Tally, collect, numbered, receive_and_ack, receive_one, send_all,
    send_concurrently, watch,
};
use crate::interop::Options;

pub const NAMES: [&str; 13] = [
    "send_sync",
    "send_async",
    "push_consume",
    "simple_consume_ack",
    "redelivery",
    "change_invisible",
    "tag_filter",
    "two_groups",
    "shared_group",
    "unknown_topic",
    "body_too_large",
    "properties_and_keys",
    "bulk",
];

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
const BULK_SENDS_OUTSTANDING: usize = 64;
const BULK_CONSUMERS: usize = 4;

/// The shortest invisible duration that brokers have to accept.
const INVISIBLE_MIN: Duration = Duration::from_secs(10);
const RECEIVE_LIMIT: Duration = Duration::from_secs(30);
const LATE: Duration = Duration::from_secs(3);

pub enum Verdict {
    Passed(String),
    /// The client lacks what the check needs.
    Skipped(&'static str),
}

pub async fn run(name: &str, options: &Options) -> anyhow::Result<Verdict> {
    let detail = match name {
        "send_sync" => send_sync(options).await?,
        "send_async" => send_async(options).await?,
        "push_consume" => {
            return Ok(Verdict::Skipped("rocketmq 5.0.0 for Rust has no push consumer"));
        }
        "simple_consume_ack" => simple_consume_ack(options).await?,
        "redelivery" => redelivery(options).await?,
        "change_invisible" => {
            return Ok(Verdict::Skipped(
                "SimpleConsumer of rocketmq 5.0.0 for Rust has no change_invisible_duration",
            ));
        }
        "tag_filter" => tag_filter(options).await?,
        "two_groups" => two_groups(options).await?,
        "shared_group" => shared_group(options).await?,
        "unknown_topic" => unknown_topic(options).await?,
        "body_too_large" => body_too_large(options).await?,
        "properties_and_keys" => properties_and_keys(options).await?,
        "bulk" => bulk(options).await?,
        _ => bail!("no such check"),
    };
    Ok(Verdict::Passed(detail))
}

async fn send_sync(options: &Options) -> anyhow::Result<String> {
    let producer = producer(&options.endpoint, &[&options.topic]).await?;
    let receipt = producer.send(message(&options.topic, b"send-sync")?).await?;
    ensure!(!receipt.message_id().is_empty(), "no message id");
    Ok(format!("message id {}", receipt.message_id()))
}

async fn send_async(options: &Options) -> anyhow::Result<String> {
    let producer = producer(&options.endpoint, &[&options.topic]).await?;
    let bodies = numbered("send-async", 10);
    let ids = send_concurrently(&producer, &options.topic, &bodies, bodies.len()).await?;
    let distinct: HashSet<_> = ids.iter().collect();
    ensure!(distinct.len() == bodies.len(), "message ids are not distinct: {ids:?}");
    Ok(format!("{} sends under way at once", ids.len()))
}

async fn simple_consume_ack(options: &Options) -> anyhow::Result<String> {
    let wanted = numbered("simple", 20);
    let consumer = Consumer::start(&options.endpoint, &options.group, &options.topic).await?;
    let producer = producer(&options.endpoint, &[&options.topic]).await?;
    send_all(&producer, &options.topic, &wanted).await?;
    let mut tally = Tally::new(&wanted);
    collect(&consumer, &mut tally, RECEIVE_LIMIT, INVISIBLE_MIN).await?;
    watch(&consumer, &mut tally, INVISIBLE_MIN + LATE, INVISIBLE_MIN).await?;
    tally.ensure_each_once()?;
    Ok("20 of 20 acked, none came again".to_owned())
}

async fn redelivery(options: &Options) -> anyhow::Result<String> {
    let topic = format!("{}-redeliver", options.topic);
    let group = format!("{}-redeliver", options.group);
    let consumer = Consumer::start(&options.endpoint, &group, &topic).await?;
    let producer = producer(&options.endpoint, &[&topic]).await?;
    let receipt = producer.send(message(&topic, b"redelivery")?).await?;
    let id = receipt.message_id();

    let first = receive_one(&consumer, id, RECEIVE_LIMIT, INVISIBLE_MIN).await?;
    let received = Instant::now();
    let again = receive_one(&consumer, id, RECEIVE_LIMIT, INVISIBLE_MIN).await?;
    let invisible = received.elapsed();
    consumer.ack(&again).await?;
    let attempts = (first.delivery_attempt(), again.delivery_attempt());
    ensure!(attempts == (1, 2), "delivery attempts {attempts:?}");
    ensure!(invisible + Duration::from_secs(1) > INVISIBLE_MIN, "came again after {invisible:?}");
    Ok(format!("attempt 2 after {invisible:.1?}, same message id"))
}

async fn tag_filter(options: &Options) -> anyhow::Result<String> {
    let topic = format!("{}-tag", options.topic);
    let group = format!("{}-tag", options.group);
    let consumer = Consumer::start_with_tags(&options.endpoint, &group, &topic, "a || b").await?;
    let producer = producer(&options.endpoint, &[&topic]).await?;
    for i in 0..5 {
        for tag in ["a", "b", "c"] {
            let body = format!("tag-{tag}-{i}").into_bytes();
            let builder = MessageBuilder::builder().set_topic(&topic).set_body(body).set_tag(tag);
            producer.send(builder.build()?).await?;
        }
    }
    let wanted = [numbered("tag-a", 5), numbered("tag-b", 5)].concat();
    let mut tally = Tally::new(&wanted);
    collect(&consumer, &mut tally, RECEIVE_LIMIT, INVISIBLE).await?;
    watch(&consumer, &mut tally, LATE, INVISIBLE).await?;
    tally.ensure_each_once()?;
    ensure!(tally.others == 0, "received a message that the filter excludes");
    Ok("10 of 10 with tag a or b, none with c".to_owned())
}

async fn two_groups(options: &Options) -> anyhow::Result<String> {
    let topic = &options.topic2;
    let wanted = numbered("two-groups", 20);
    let consumers = [
        Consumer::start(&options.endpoint, &options.group, topic).await?,
        Consumer::start(&options.endpoint, &options.group2, topic).await?,
    ];
    send_all(&producer(&options.endpoint, &[topic]).await?, topic, &wanted).await?;
    for consumer in &consumers {
        let mut tally = Tally::new(&wanted);
        collect(consumer, &mut tally, RECEIVE_LIMIT, INVISIBLE).await?;
        tally.ensure_each_once()?;
    }
    Ok("each group received 20 of 20".to_owned())
}

async fn shared_group(options: &Options) -> anyhow::Result<String> {
    let topic = format!("{}-shared", options.topic);
    let group = format!("{}-shared", options.group);
    let wanted = numbered("shared", 60);
    let first = Consumer::start(&options.endpoint, &group, &topic).await?;
    let second = Consumer::start(&options.endpoint, &group, &topic).await?;
    send_all(&producer(&options.endpoint, &[&topic]).await?, &topic, &wanted).await?;

    let union = Mutex::new(Tally::new(&wanted));
    let shares = tokio::try_join!(take_share(&first, &union), take_share(&second, &union))?;
    union.lock().expect("no holder panics").ensure_each_once()?;
    ensure!(shares.0 > 0 && shares.1 > 0, "one consumer got nothing: {shares:?}");
    Ok(format!("shares {} + {}, no overlap", shares.0, shares.1))
}

/// Takes messages until `union` is complete; returns how many this consumer got.
async fn take_share(consumer: &Consumer, union: &Mutex<Tally>) -> Result<usize, ClientError> {
    let begin = Instant::now();
    let mut taken = 0;
    while !union.lock().expect("no holder panics").complete() && begin.elapsed() < RECEIVE_LIMIT {
        // Small batches, so that neither can take everything in one receive.
        let messages = receive_and_ack(consumer, 4, INVISIBLE).await?;
        union.lock().expect("no holder panics").add(&messages);
        taken += messages.len();
    }
    Ok(taken)
}

async fn unknown_topic(options: &Options) -> anyhow::Result<String> {
    let producer = producer(&options.endpoint, &[]).await?;
    let unknown = message(&format!("{}-unknown", options.topic), b"unknown-topic")?;
    refused_with("TOPIC_NOT_FOUND", producer.send(unknown).await)?;
    producer.send(message(&options.topic, b"after-unknown-topic")?).await?;
    Ok("code TOPIC_NOT_FOUND; the producer goes on".to_owned())
}

async fn body_too_large(options: &Options) -> anyhow::Result<String> {
    let producer = producer(&options.endpoint, &[&options.topic]).await?;
    let oversized = message(&options.topic, &vec![0; BODY_BYTES_MAX + 1])?;
    refused_with("MESSAGE_BODY_TOO_LARGE", producer.send(oversized).await)?;
    Ok("refused by the server with MESSAGE_BODY_TOO_LARGE".to_owned())
}

fn refused_with(expected: &str, sent: Result<SendReceipt, ClientError>) -> anyhow::Result<()> {
    match sent {
        Ok(receipt) => bail!("accepted as {}", receipt.message_id()),
        Err(error) if code(&error) == Some(expected) => Ok(()),
        Err(error) => bail!("expected {expected}, got {error}"),
    }
}

async fn properties_and_keys(options: &Options) -> anyhow::Result<String> {
    let body: Vec<u8> = (0..=255).collect();
    let keys = ["key-1", "key-2"];
    let properties = HashMap::from([("colour", "dark blue"), ("größe", "☃")]);
    let sent = MessageBuilder::builder()
        .set_topic(&options.topic)
        .set_body(body.clone())
        .set_tag("tag-é")
        .set_keys(keys.to_vec())
        .set_properties(properties.clone())
        .build()?;
    let consumer = Consumer::start(&options.endpoint, &options.group, &options.topic).await?;
    let producer = producer(&options.endpoint, &[&options.topic]).await?;
    let receipt = producer.send(sent).await?;
    let received = receive_one(&consumer, receipt.message_id(), RECEIVE_LIMIT, INVISIBLE).await?;
    consumer.ack(&received).await?;
    ensure!(received.body() == body, "body changed: {:?}", received.body());
    ensure!(received.tag() == Some("tag-é"), "tag changed: {:?}", received.tag());
    ensure!(received.keys() == keys, "keys changed: {:?}", received.keys());
    let got: HashMap<&str, &str> =
        received.properties().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    ensure!(got == properties, "properties changed: {got:?}");
    Ok("tag, keys, properties and body unchanged, same message id".to_owned())
}

async fn bulk(options: &Options) -> anyhow::Result<String> {
    let topic = format!("{}-bulk", options.topic);
    let group = format!("{}-bulk", options.group);
    let wanted: Vec<String> = (0..options.count).map(|i| format!("bulk-{i:0>250}")).collect();
    let tally = Arc::new(Mutex::new(Tally::new(&wanted)));
    let mut receivers = tokio::task::JoinSet::new();
    for _ in 0..BULK_CONSUMERS {
        let consumer = Consumer::start(&options.endpoint, &group, &topic).await?;
        receivers.spawn(receive_for_ever(consumer, Arc::clone(&tally)));
    }
    let producer = producer(&options.endpoint, &[&topic]).await?;

    let begin = Instant::now();
    send_concurrently(&producer, &topic, &wanted, BULK_SENDS_OUTSTANDING).await?;
    let sent = begin.elapsed();
    let receive_limit = sent + RECEIVE_LIMIT + Duration::from_millis(10) * options.count as u32;
    while !tally.lock().expect("no holder panics").complete() && begin.elapsed() < receive_limit {
        if let Some(ended) = receivers.try_join_next() {
            ended??;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let received = begin.elapsed();
    tokio::time::sleep(LATE).await;
    tally.lock().expect("no holder panics").ensure_each_once()?;

    let rate = |time: Duration| wanted.len() as f64 / time.as_secs_f64();
    Ok(format!(
        "{} messages, 0 lost, 0 duplicates, sent {:.0}/s, sent and received {:.0}/s",
        wanted.len(),
        rate(sent),
        rate(received)
    ))
}

/// Ends only with an error.
async fn receive_for_ever(consumer: Consumer, tally: Arc<Mutex<Tally>>) -> Result<(), ClientError> {
    loop {
        let messages = receive_and_ack(&consumer, 2 * RECEIVE_BATCH, INVISIBLE).await?;
        tally.lock().expect("no holder panics").add(&messages);
    }
}
