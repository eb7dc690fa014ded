//! `raftmq bench receive`: drains a topic.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use futures::future::join_all;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use raftmq::client::CallError;
use raftmq::client::Consumer;
use raftmq::client::ReceiveOptions;
use serde::Serialize;

use super::EndpointArgs;
use super::cause;
use super::consumers;
use super::load::Measured;
use super::load::cpu_time;
use super::load::histogram;
use super::load::record;
use super::report::Percentiles;
use super::report::Throughput;
use crate::exit::Failure;
use crate::output::OutputArgs;

/// Long enough that nothing comes again while the bench runs.
const INVISIBLE: Duration = Duration::from_secs(600);

#[derive(Args)]
pub struct ReceiveArgs {
    /// The topic
    #[arg(long, default_value = "bench")]
    topic: String,

    /// The consumer group
    #[arg(long, default_value = "bench")]
    group: String,

    /// Receives under way at the same time
    #[arg(long, default_value_t = 32, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,

    /// Connections to each broker, each a client of its own
    #[arg(long, default_value_t = 4, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,

    /// Most messages in one receive
    #[arg(long, default_value_t = 32, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=32))]
    batch: u32,

    /// How long to receive at most; ends earlier when the topic is drained
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    bench: &'static str,
    topic: &'a str,
    group: &'a str,
    concurrency: u32,
    connections: u32,
    batch: u32,
    /// Whether it ended because nothing was left.
    drained: bool,
    #[serde(flatten)]
    throughput: Throughput,
    /// Of receives that brought messages.
    #[serde(flatten)]
    latency: Percentiles,
    ack_latency: Percentiles,
}

/// What all callers have seen.
struct Seen {
    receives: Measured,
    body_bytes: u64,
    acks: Histogram<u64>,
}

pub async fn run(
    args: ReceiveArgs,
    endpoint: &EndpointArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let consumers =
        Arc::new(consumers(endpoint, &args.topic, &args.group, args.connections).await?);
    let duration = Duration::try_from_secs_f64(args.seconds).map_err(Failure::usage)?;
    let started = Instant::now();
    let drain = Arc::new(Drain {
        started,
        end: started + duration,
        batch: args.batch,
        drained: AtomicBool::new(false),
        seen: Mutex::new(Seen { receives: Measured::default(), body_bytes: 0, acks: histogram() }),
    });
    let cpu_before = cpu_time();
    let call = |caller: usize| {
        let (drain, consumers) = (Arc::clone(&drain), Arc::clone(&consumers));
        tokio::spawn(async move { drain.run(&consumers[caller % consumers.len()]).await })
    };
    join_all((0..args.concurrency as usize).map(call)).await;
    let cpu = cpu_time().saturating_sub(cpu_before);
    close(consumers).await;

    let mut seen = drain.seen.lock();
    seen.receives.cpu = cpu;
    let report = Report {
        bench: "receive",
        topic: &args.topic,
        group: &args.group,
        concurrency: args.concurrency,
        connections: args.connections,
        batch: args.batch,
        drained: drain.drained.load(Ordering::Relaxed),
        throughput: Throughput::new(&seen.receives, seen.body_bytes),
        latency: Percentiles::from(&seen.receives.latencies),
        ack_latency: Percentiles::from(&seen.acks),
    };
    output.print(&report, |report| {
        format!(
            "{}  receive: {}\n  acknowledge: {}",
            report.throughput.text(),
            report.latency.text(),
            report.ack_latency.text()
        )
    })
}

struct Drain {
    started: Instant,
    end: Instant,
    batch: u32,
    drained: AtomicBool,
    seen: Mutex<Seen>,
}

impl Drain {
    async fn run(&self, consumer: &Consumer) {
        let receive = ReceiveOptions {
            count_max: self.batch,
            invisible: INVISIBLE,
            ..ReceiveOptions::default()
        };
        while Instant::now() < self.end && !self.drained.load(Ordering::Relaxed) {
            match self.receive(consumer, receive).await {
                // A whole long poll without a message: nothing is left that could be had.
                Ok(0) => self.drained.store(true, Ordering::Relaxed),
                Ok(_) => {}
                Err(error) => {
                    *self.seen.lock().receives.errors.entry(cause(&error)).or_default() += 1;
                }
            }
        }
    }

    async fn receive(
        &self,
        consumer: &Consumer,
        receive: ReceiveOptions,
    ) -> Result<usize, CallError> {
        let asked = Instant::now();
        let deliveries = consumer.receive(receive).await?.deliveries;
        let answered = Instant::now();
        if deliveries.is_empty() {
            return Ok(0);
        }
        for result in consumer.ack(&deliveries).await? {
            result?;
        }
        let mut seen = self.seen.lock();
        record(&mut seen.receives.latencies, answered - asked);
        record(&mut seen.acks, answered.elapsed());
        seen.receives.requests += 1;
        seen.receives.messages += deliveries.len() as u64;
        seen.receives.elapsed = self.started.elapsed();
        seen.body_bytes += deliveries.iter().map(|d| d.body.len() as u64).sum::<u64>();
        Ok(deliveries.len())
    }
}

/// Takes leave of all brokers.
pub async fn close(consumers: Arc<Vec<Consumer>>) {
    // All callers have ended: nobody else holds them.
    if let Some(consumers) = Arc::into_inner(consumers) {
        join_all(consumers.into_iter().map(Consumer::close)).await;
    }
}
