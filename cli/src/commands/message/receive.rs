//! `raftmq message receive`.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use clap::Args;
use raftmq::client::Consumer;
use raftmq::client::ConsumerOptions;
use raftmq::client::Delivery;
use raftmq::client::ReceiveOptions;
use raftmq::client::Received;
use serde::Serialize;

use crate::commands::EndpointArgs;
use crate::commands::body::BodyView;
use crate::exit::Exit;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::quantity;

/// Servers wait at most this long for one receive.
const POLL_MAX: Duration = Duration::from_secs(20);
/// Servers wait at least this long, so asking for less only misleads.
const POLL_MIN: Duration = Duration::from_secs(5);
/// Messages in one receive.
const BATCH_MAX: u64 = 32;

#[derive(Args)]
pub struct ReceiveArgs {
    /// The topic; %DLQ%<group> holds the dead letters of a group
    topic: String,

    /// The consumer group to receive for
    #[arg(long, short)]
    group: String,

    /// Stop after this many messages
    #[arg(long, default_value_t = 1)]
    count: u64,

    /// How long to wait for messages in all; servers wait 5 s at least
    #[arg(long, default_value = "10s", value_parser = quantity::duration, value_name = "DURATION")]
    wait: Duration,

    /// Leave the messages to be delivered again once --invisible is over
    #[arg(long)]
    no_ack: bool,

    /// How long others do not see what was received here, 10s to 12h
    #[arg(long, default_value = "30s", value_parser = quantity::duration, value_name = "DURATION")]
    invisible: Duration,

    /// Only messages with one of these tags, such as 'a || b'
    #[arg(long, default_value = "*", value_name = "TAGS")]
    filter: String,

    /// Only messages for which this is true, such as 'region = "eu" AND size > 3'
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "filter")]
    sql: Option<String>,

    /// The lite topic to receive from, if the topic is one of such; may be given more than once
    #[arg(long = "lite-topic", value_name = "NAME")]
    lite_topics: Vec<String>,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub async fn run(args: ReceiveArgs, output: OutputArgs) -> Result<(), Failure> {
    let options = ConsumerOptions {
        filter: args.filter.clone(),
        sql: args.sql.clone(),
        lite_topics: args.lite_topics.clone(),
        ..ConsumerOptions::new(args.endpoint.endpoints(), &args.topic, &args.group)
    };
    let consumer = Consumer::start(options).await?;
    let deadline = Instant::now() + args.wait;
    let mut count = 0;
    while count < args.count {
        let left = deadline.saturating_duration_since(Instant::now());
        if count > 0 && left.is_zero() {
            break;
        }
        let receive = ReceiveOptions {
            count_max: (args.count - count).min(BATCH_MAX) as u32,
            wait: left.clamp(POLL_MIN, POLL_MAX),
            invisible: args.invisible,
        };
        let received = consumer.receive(receive).await?;
        if received.deliveries.is_empty() && Instant::now() >= deadline {
            break;
        }
        count += received.deliveries.len() as u64;
        show(&consumer, received, !args.no_ack, output).await?;
    }
    consumer.close().await;
    match count < args.count {
        true => Err(nothing_more(&args, count)),
        false => Ok(()),
    }
}

/// Acknowledges the messages, unless they are to come again, and prints them.
async fn show(
    consumer: &Consumer,
    received: Received,
    ack: bool,
    output: OutputArgs,
) -> Result<(), Failure> {
    let arrived = SystemTime::now();
    let mut views: Vec<_> = received
        .deliveries
        .iter()
        .map(|delivery| DeliveryView::new(delivery, &received.address, arrived))
        .collect();
    if ack {
        let started = Instant::now();
        let results = consumer.ack(&received.deliveries).await?;
        let elapsed = started.elapsed();
        for (view, result) in views.iter_mut().zip(results) {
            result?;
            view.ack_latency_us = Some(elapsed.as_micros());
        }
    }
    views.iter().try_for_each(|view| output.print(view, text))
}

fn nothing_more(args: &ReceiveArgs, count: u64) -> Failure {
    let wait = output::duration(args.wait);
    let message = match count {
        0 => format!("no message came within {wait}"),
        _ => format!("only {count} of {} messages came within {wait}", args.count),
    };
    Failure::new(Exit::NotFound, message).hint(format!(
        "see what is left with `raftmq group describe {}` and `raftmq topic describe {}`",
        args.group, args.topic
    ))
}

#[derive(Serialize)]
struct DeliveryView {
    message_id: String,
    topic: String,
    queue_id: i32,
    queue_offset: i64,
    attempt: i32,
    #[serde(flatten)]
    body: BodyView,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    keys: Vec<String>,
    properties: BTreeMap<String, String>,
    broker_name: String,
    address: String,
    /// Between the clocks of producer and server; absent when the producer's is ahead.
    born_to_stored_us: Option<u128>,
    /// Between the clocks of server and this machine.
    stored_to_received_us: Option<u128>,
    /// Absent when it was not acknowledged.
    ack_latency_us: Option<u128>,
    is_corrupted: bool,
    receipt_handle: String,
}

impl DeliveryView {
    fn new(delivery: &Delivery, address: &str, arrived: SystemTime) -> Self {
        let between = |from: Option<SystemTime>, to: Option<SystemTime>| {
            Some(to?.duration_since(from?).ok()?.as_micros())
        };
        Self {
            message_id: delivery.message_id.clone(),
            topic: delivery.topic.clone(),
            queue_id: delivery.queue_id,
            queue_offset: delivery.queue_offset,
            attempt: delivery.attempt,
            body: BodyView::new(&delivery.body),
            tag: delivery.tag.clone(),
            keys: delivery.keys.clone(),
            properties: delivery.properties.clone(),
            broker_name: delivery.broker_name.clone(),
            address: address.to_owned(),
            born_to_stored_us: between(delivery.born, delivery.stored),
            stored_to_received_us: between(delivery.stored, Some(arrived)),
            ack_latency_us: None,
            is_corrupted: delivery.is_corrupted,
            receipt_handle: delivery.receipt_handle.clone(),
        }
    }
}

fn text(delivery: &DeliveryView) -> String {
    let mut lines = vec![format!(
        "{}  queue {}  offset {}  attempt {}  from {} at {}",
        delivery.message_id,
        delivery.queue_id,
        delivery.queue_offset,
        delivery.attempt,
        delivery.broker_name,
        delivery.address,
    )];
    let labels = labels(delivery);
    if !labels.is_empty() {
        lines.push(format!("  {}", labels.join("  ")));
    }
    lines.push(format!("  {}", travel(delivery)));
    if delivery.is_corrupted {
        lines.push("  THE BODY DOES NOT MATCH ITS DIGEST".to_owned());
    }
    lines.push(format!("  {}", delivery.body.excerpt().replace('\n', "\n  ")));
    lines.join("\n")
}

fn labels(delivery: &DeliveryView) -> Vec<String> {
    let tag = delivery.tag.iter().map(|tag| format!("tag {tag}"));
    let keys = delivery.keys.iter().map(|key| format!("key {key}"));
    let properties = delivery.properties.iter().map(|(key, value)| format!("{key}={value}"));
    tag.chain(keys).chain(properties).collect()
}

fn travel(delivery: &DeliveryView) -> String {
    let step = |us: Option<u128>, what: &str| {
        us.map(|us| format!("{what} {}", output::duration(Duration::from_micros(us as u64))))
    };
    let steps = [
        step(delivery.born_to_stored_us, "stored after"),
        step(delivery.stored_to_received_us, "received after"),
        step(delivery.ack_latency_us, "acknowledged in"),
    ];
    let mut steps: Vec<_> = steps.into_iter().flatten().collect();
    if delivery.ack_latency_us.is_none() {
        steps.push("not acknowledged, it will come again".to_owned());
    }
    steps.join(", ")
}
