//! `raftmq message send`.

use std::io::Read;

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
            broker_name: sent.broker_name,
            address: sent.address,
            attempts: sent.failed_attempts.len() + 1,
            latency_us: sent.elapsed.as_micros(),
            failed_attempts: sent.failed_attempts.into_iter().map(attempt).collect(),
        }
    }
}

fn text(sent: &SentView) -> String {
    let mut text = format!(
        "{}  offset {}  by {} at {}  attempt {}  {}\n",
        sent.message_id,
        sent.queue_offset,
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
    output::duration(std::time::Duration::from_micros(us as u64))
}
