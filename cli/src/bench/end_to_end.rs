//! `raftmq bench end-to-end`: from the (intended) send to the receipt, by one clock.
//!
//! A body begins with this table, big endian; what follows is filler.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | number of the run, drawn at random: earlier runs may have left messages behind |
//! | 8 | number of the message within the run |
//! | 8 | intended send, nanoseconds after the start of the run |

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use clap::Args;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use raftmq::client::Consumer;
use raftmq::client::OutgoingMessage;
use raftmq::client::ReceiveOptions;
use serde::Serialize;

use super::EndpointArgs;
use super::LoadArgs;
use super::cause;
use super::consumers;
use super::load::histogram;
use super::load::record;
use super::random_body;
use super::receive;
use super::report::Percentiles;
use super::report::Throughput;
use super::send;
use crate::exit::Failure;
use crate::output::OutputArgs;

const HEADER_BYTES: usize = 24;
/// How long to wait for messages that were acknowledged and have not arrived.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct EndToEndArgs {
    #[command(flatten)]
    load: LoadArgs,

    /// The consumer group
    #[arg(long, default_value = "bench")]
    group: String,

    /// Receives under way at the same time
    #[arg(long, default_value_t = 16, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    receivers: u32,
}

#[derive(Serialize)]
struct Report<'a> {
    bench: &'static str,
    topic: &'a str,
    group: &'a str,
    body_bytes: u32,
    concurrency: u32,
    connections: u32,
    receivers: u32,
    messages_per_request: u32,
    /// Messages offered per second; 0: closed loop.
    rate: f64,
    #[serde(flatten)]
    throughput: Throughput,
    /// From the intended send to the receipt.
    #[serde(flatten)]
    latency: Percentiles,
    /// From the intended send to the acknowledgement of the send.
    send_latency: Percentiles,
    /// Messages of this run, the warm-up included.
    received: u64,
    /// Received more than once.
    duplicates: u64,
    /// Acknowledged to the sender and not received within ten seconds after the end.
    missing: u64,
}

pub async fn run(
    args: EndToEndArgs,
    endpoint: &EndpointArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let load = &args.load;
    if (load.body_bytes as usize) < HEADER_BYTES {
        return Err(Failure::usage(format!("--body-bytes must be {HEADER_BYTES} or more")));
    }
    let plan = load.plan()?;
    let producers = Arc::new(load.producers(endpoint).await?);
    let consumers =
        Arc::new(consumers(endpoint, &load.topic, &args.group, load.connections).await?);
    let measure_from = Instant::now() + Duration::from_secs_f64(load.warmup_seconds);
    let run = Arc::new(Run::new(random_body(load.body_bytes), measure_from));
    let receive = |receiver: usize| {
        let (run, consumers) = (Arc::clone(&run), Arc::clone(&consumers));
        tokio::spawn(async move { run.receive(&consumers[receiver % consumers.len()]).await })
    };
    let receivers: Vec<_> = (0..args.receivers as usize).map(receive).collect();

    let count = load.messages_per_request;
    let (shared, sending) = (Arc::clone(&producers), Arc::clone(&run));
    let measured = plan
        .run(move |turn| {
            let (producers, run) = (Arc::clone(&shared), Arc::clone(&sending));
            async move {
                let producer = &producers[turn.caller % producers.len()];
                let (numbers, messages): (Vec<_>, Vec<_>) =
                    (0..count).map(|_| run.message(turn.intended)).unzip();
                match producer.send_batch(&messages).await {
                    Ok(_) => {
                        run.acknowledged(&numbers);
                        Ok(u64::from(count))
                    }
                    Err(error) => Err(cause(&error.last)),
                }
            }
        })
        .await;
    let missing = run.wait_for_the_rest().await;
    run.stopped.store(true, Ordering::Relaxed);
    for receiver in receivers {
        // Each may be in the middle of a long poll for nothing.
        receiver.abort();
        let _aborted = receiver.await;
    }
    send::close(producers).await;
    receive::close(consumers).await;

    let arrivals = run.arrivals.lock();
    let report = Report {
        bench: "end-to-end",
        topic: &load.topic,
        group: &args.group,
        body_bytes: load.body_bytes,
        concurrency: load.concurrency,
        connections: load.connections,
        receivers: args.receivers,
        messages_per_request: count,
        rate: load.rate,
        throughput: Throughput::new(&measured, measured.messages * u64::from(load.body_bytes)),
        latency: Percentiles::from(&arrivals.latencies),
        send_latency: Percentiles::from(&measured.latencies),
        received: arrivals.seen.len() as u64,
        duplicates: arrivals.duplicates,
        missing,
    };
    output.print(&report, |report| {
        format!(
            "{}  end to end: {}\n  send: {}\n  \
             {} received with the warm-up, {} of them again, {} missing",
            report.throughput.text(),
            report.latency.text(),
            report.send_latency.text(),
            report.received,
            report.duplicates,
            report.missing
        )
    })
}

/// One run, as senders and receivers share it.
struct Run {
    number: u64,
    started: Instant,
    measure_from: Instant,
    filler: Bytes,
    next_message: AtomicU64,
    stopped: AtomicBool,
    arrivals: Mutex<Arrivals>,
}

#[derive(Debug)]
struct Arrivals {
    latencies: Histogram<u64>,
    seen: HashSet<u64>,
    duplicates: u64,
    /// Acknowledged to the sender and not seen yet.
    awaited: HashSet<u64>,
}

impl Run {
    fn new(filler: Bytes, measure_from: Instant) -> Self {
        Self {
            number: rand::random(),
            started: Instant::now(),
            measure_from,
            filler,
            next_message: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            arrivals: Mutex::new(Arrivals {
                latencies: histogram(),
                seen: HashSet::new(),
                duplicates: 0,
                awaited: HashSet::new(),
            }),
        }
    }

    /// A message that says when it was to be sent, and its number.
    fn message(&self, intended: Instant) -> (u64, OutgoingMessage) {
        let number = self.next_message.fetch_add(1, Ordering::Relaxed);
        let sent_ns = intended.saturating_duration_since(self.started).as_nanos() as u64;
        let mut body = BytesMut::with_capacity(self.filler.len());
        body.put_u64(self.number);
        body.put_u64(number);
        body.put_u64(sent_ns);
        body.put_slice(&self.filler[HEADER_BYTES..]);
        (number, OutgoingMessage::new(body))
    }

    fn acknowledged(&self, numbers: &[u64]) {
        let mut arrivals = self.arrivals.lock();
        for &number in numbers {
            if !arrivals.seen.contains(&number) {
                arrivals.awaited.insert(number);
            }
        }
    }

    async fn receive(&self, consumer: &Consumer) {
        while !self.stopped.load(Ordering::Relaxed) {
            let Ok(received) = consumer.receive(ReceiveOptions::default()).await else {
                // A failover: the client asks another broker next time.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let now = Instant::now();
            for delivery in &received.deliveries {
                self.arrived(&delivery.body, now);
            }
            // What could not be acknowledged comes again and is counted as a duplicate.
            let _acked = consumer.ack(&received.deliveries).await;
        }
    }

    fn arrived(&self, body: &[u8], now: Instant) {
        let Some((number, sent)) = self.parse(body) else { return };
        let mut arrivals = self.arrivals.lock();
        arrivals.awaited.remove(&number);
        if !arrivals.seen.insert(number) {
            arrivals.duplicates += 1;
        } else if sent >= self.measure_from {
            record(&mut arrivals.latencies, now.saturating_duration_since(sent));
        }
    }

    /// Number and intended send of a message of this run.
    fn parse(&self, body: &[u8]) -> Option<(u64, Instant)> {
        let field = |position: usize| {
            let bytes = body.get(8 * position..8 * position + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        (field(0)? == self.number).then_some(())?;
        Some((field(1)?, self.started + Duration::from_nanos(field(2)?)))
    }

    /// Returns how many messages did not arrive in time.
    async fn wait_for_the_rest(&self) -> u64 {
        let deadline = Instant::now() + GRACE;
        loop {
            let awaited = self.arrivals.lock().awaited.len();
            if awaited == 0 || Instant::now() >= deadline {
                return awaited as u64;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_of_this_run_are_told_from_others_and_counted_once() {
        let run = Run::new(random_body(100), Instant::now());
        let other = Run::new(random_body(100), Instant::now());
        let (number, message) = run.message(Instant::now());
        assert_eq!(message.body.len(), 100);
        run.acknowledged(&[number]);
        run.arrived(&other.message(Instant::now()).1.body, Instant::now());
        run.arrived(b"short", Instant::now());
        assert_eq!(run.arrivals.lock().awaited.len(), 1);
        run.arrived(&message.body, Instant::now());
        run.arrived(&message.body, Instant::now());
        assert_eq!(run.wait_for_the_rest().await, 0);
        let arrivals = run.arrivals.lock();
        assert_eq!((arrivals.seen.len(), arrivals.duplicates), (1, 1));
        assert_eq!(arrivals.latencies.len(), 1);
    }

    #[test]
    fn what_arrives_before_its_acknowledgement_is_not_awaited() {
        let run = Run::new(random_body(24), Instant::now());
        let (number, message) = run.message(Instant::now());
        run.arrived(&message.body, Instant::now());
        run.acknowledged(&[number]);
        assert!(run.arrivals.lock().awaited.is_empty());
    }
}
