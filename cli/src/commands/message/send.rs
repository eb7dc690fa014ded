//! `raftmq message send`.

use std::io::Read;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use clap::Args;
use raftmq::client::OutgoingMessage;
use raftmq::client::Producer;
use raftmq::client::ProducerOptions;
use raftmq::client::Sent;
use serde::Serialize;

use crate::commands::EndpointArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::quantity;

#[derive(Args)]
pub struct SendArgs {
    /// The topic
    topic: String,

    /// What to send; - reads it from standard input
    body: String,

    /// What consumers can filter by
    #[arg(long)]
    tag: Option<String>,

    /// What the message can be searched by; may be given more than once
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,

    /// A property of your own; may be given more than once
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = quantity::property)]
    properties: Vec<(String, String)>,

    /// Received in order after the earlier messages of this group; for topics of type fifo
    #[arg(long, value_name = "GROUP")]
    message_group: Option<String>,

    /// Received after this time at the earliest; for topics of type delay
    #[arg(long, value_parser = quantity::duration, value_name = "DURATION")]
    delay: Option<Duration>,

    /// Received at this time at the earliest, like 2026-01-31T10:00:00Z; for topics of type delay
    #[arg(long, value_parser = quantity::time, value_name = "TIME", conflicts_with = "delay")]
    at: Option<SystemTime>,

    /// Higher ones are received first; for topics of type priority
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=i32::MAX as i64))]
    priority: Option<u32>,

    /// Received in order by whoever subscribes to this lite topic; for topics of type lite
    #[arg(long, value_name = "NAME")]
    lite_topic: Option<String>,

    /// Send the same body this many times, each as a message of its own
    #[arg(long, default_value_t = 1)]
    count: u64,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub async fn run(args: SendArgs, output: OutputArgs) -> Result<(), Failure> {
    let body = read_body(args.body)?;
    let options = ProducerOptions::new(args.endpoint.endpoints(), args.topic);
    let producer = Producer::start(options).await?;
    for _ in 0..args.count {
        let message = OutgoingMessage {
            tag: args.tag.clone(),
            keys: args.keys.clone(),
            properties: args.properties.iter().cloned().collect(),
            message_group: args.message_group.clone(),
            deliver_at: args.delay.map(|delay| SystemTime::now() + delay).or(args.at),
            priority: args.priority,
            lite_topic: args.lite_topic.clone(),
            ..OutgoingMessage::new(body.clone())
        };
        let sent = producer.send(&message).await?;
        output.print(&SentView::from(sent), text)?;
    }
    producer.close().await;
    Ok(())
}

fn read_body(body: String) -> Result<Bytes, Failure> {
    let body = match body.as_str() {
        "-" => {
            let mut read = Vec::new();
            std::io::stdin().lock().read_to_end(&mut read)?;
            Bytes::from(read)
        }
        _ => Bytes::from(body),
    };
    match body.is_empty() {
        true => Err(Failure::usage("the body is empty, a message needs at least one byte")),
        false => Ok(body),
    }
}

#[derive(Serialize)]
struct SentView {
    message_id: String,
    queue_offset: i64,
    /// Of a delayed message.
    #[serde(skip_serializing_if = "String::is_empty")]
    recall_handle: String,
    broker_name: String,
    address: String,
    attempts: usize,
    latency_us: u128,
    failed_attempts: Vec<AttemptView>,
}

#[derive(Serialize)]
struct AttemptView {
    broker_name: String,
    latency_us: u128,
    error: String,
}

impl From<Sent> for SentView {
    fn from(sent: Sent) -> Self {
        let attempt = |attempt: raftmq::client::Attempt| AttemptView {
            broker_name: attempt.broker_name,
            latency_us: attempt.elapsed.as_micros(),
            error: attempt.error.to_string(),
        };
        Self {
            message_id: sent.message_id,
            queue_offset: sent.queue_offset,
            recall_handle: sent.recall_handle,
            broker_name: sent.broker_name,
            address: sent.address,
            attempts: sent.failed_attempts.len() + 1,
            latency_us: sent.elapsed.as_micros(),
            failed_attempts: sent.failed_attempts.into_iter().map(attempt).collect(),
        }
    }
}

fn text(sent: &SentView) -> String {
    // A delayed message has no place in a queue yet.
    let place = match sent.recall_handle.as_str() {
        "" => format!("offset {}", sent.queue_offset),
        handle => format!("recall handle {handle}"),
    };
    let mut text = format!(
        "{}  {place}  by {} at {}  attempt {}  {}\n",
        sent.message_id,
        sent.broker_name,
        sent.address,
        sent.attempts,
        latency(sent.latency_us),
    );
    for (number, failed) in sent.failed_attempts.iter().enumerate() {
        text.push_str(&format!(
            "  attempt {} at {} failed after {}: {}\n",
            number + 1,
            failed.broker_name,
            latency(failed.latency_us),
            failed.error
        ));
    }
    text
}

fn latency(us: u128) -> String {
    output::duration(Duration::from_micros(us as u64))
}
