//! `raftmq bench send`.

use std::sync::Arc;

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
    args: LoadArgs,
    endpoint: &EndpointArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
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
                let messages: Vec<_> =
                    (0..count).map(|_| OutgoingMessage::new(body.clone())).collect();
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
