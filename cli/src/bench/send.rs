//! `raftmq bench send`.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use clap::Args;
use futures::future::join_all;
use raftmq::client::OutgoingMessage;
use raftmq::client::Producer;
use serde::Serialize;

use super::EndpointArgs;
use super::LoadArgs;
use super::cause;
use super::random_body;
use super::report::Percentiles;
use super::report::Throughput;
use crate::exit::Failure;
use crate::output::OutputArgs;

#[derive(Args)]
pub struct SendArgs {
    #[command(flatten)]
    load: LoadArgs,

    /// Delay all messages until so long after the start of the run; for topics of type delay
    #[arg(long, value_name = "SECONDS")]
    due_in_seconds: Option<f64>,

    /// Spread their due times over so long, at random
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", requires = "due_in_seconds")]
    due_spread_seconds: f64,
}

/// When the messages of a run are due.
#[derive(Clone, Copy)]
struct Due {
    from: SystemTime,
    spread_seconds: f64,
}

impl Due {
    fn draw(self) -> SystemTime {
        self.from + Duration::from_secs_f64(self.spread_seconds * rand::random::<f64>())
    }
}

#[derive(Serialize)]
struct Report<'a> {
    bench: &'static str,
    topic: &'a str,
    body_bytes: u32,
    concurrency: u32,
    connections: u32,
    messages_per_request: u32,
    /// Messages offered per second; 0: closed loop.
    rate: f64,
    #[serde(flatten)]
    throughput: Throughput,
    #[serde(flatten)]
    latency: Percentiles,
}

pub async fn run(
    args: SendArgs,
    endpoint: &EndpointArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let seconds = |name: &str, seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| Failure::usage(format!("--{name} {seconds}: {error}")))
    };
    let spread_seconds = seconds("due-spread-seconds", args.due_spread_seconds)?.as_secs_f64();
    let due_in = args.due_in_seconds.map(|it| seconds("due-in-seconds", it)).transpose()?;
    let due = due_in.map(|due_in| Due { from: SystemTime::now() + due_in, spread_seconds });
    let args = args.load;
    let plan = args.plan()?;
    let producers = Arc::new(args.producers(endpoint).await?);
    let body = random_body(args.body_bytes);
    let count = args.messages_per_request;

    let shared = Arc::clone(&producers);
    let measured = plan
        .run(move |turn| {
            let (producers, body) = (Arc::clone(&shared), body.clone());
            async move {
                let producer = &producers[turn.caller % producers.len()];
                let message = || OutgoingMessage {
                    deliver_at: due.map(Due::draw),
                    ..OutgoingMessage::new(body.clone())
                };
                let messages: Vec<_> = (0..count).map(|_| message()).collect();
                match producer.send_batch(&messages).await {
                    Ok(_) => Ok(u64::from(count)),
                    Err(error) => Err(cause(&error.last)),
                }
            }
        })
        .await;
    close(producers).await;

    let report = Report {
        bench: "send",
        topic: &args.topic,
        body_bytes: args.body_bytes,
        concurrency: args.concurrency,
        connections: args.connections,
        messages_per_request: count,
        rate: args.rate,
        throughput: Throughput::new(&measured, measured.messages * u64::from(args.body_bytes)),
        latency: Percentiles::from(&measured.latencies),
    };
    output.print(&report, |report| {
        format!("{}  send: {}", report.throughput.text(), report.latency.text())
    })
}

/// Takes leave of all brokers.
pub async fn close(producers: Arc<Vec<Producer>>) {
    // All callers have ended: nobody else holds them.
    if let Some(producers) = Arc::into_inner(producers) {
        join_all(producers.into_iter().map(Producer::close)).await;
    }
}
