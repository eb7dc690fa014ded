//! `produce`: an open loop of sends; every outcome goes to the log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use rocketmq::Producer;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clients::{self, message, survive};
use crate::records::{JsonLines, now_ms, stop_on_signal};

const FIRST_SEND_RETRY: Duration = Duration::from_millis(500);
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    topic: String,
    /// Sends per second.
    #[arg(long)]
    rate: f64,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    log: String,
    /// Most sends outstanding.
    #[arg(long, default_value_t = 1024)]
    concurrency: u32,
}

pub async fn run(options: Options) -> anyhow::Result<i32> {
    let stop = stop_on_signal()?;
    let mut load = Load {
        producer: Arc::new(clients::producer(&options.endpoint, &[&options.topic]).await?),
        topic: options.topic,
        sent: 0,
        outstanding_max: options.concurrency,
        free: Arc::new(Semaphore::new(options.concurrency as usize)),
        outcomes: Arc::new(Outcomes::new(&options.log)?),
    };
    while load.outcomes.ok() == 0 && !stop.is_cancelled() {
        load.send().await?;
        load.drain().await?;
        if load.outcomes.ok() == 0 {
            tokio::time::sleep(FIRST_SEND_RETRY).await;
        }
    }
    if load.outcomes.ok() > 0 {
        println!("READY");
        send_at_rate(&mut load, options.rate, options.seconds, &stop).await?;
    }
    if tokio::time::timeout(DRAIN_LIMIT, load.drain()).await.is_err() {
        eprintln!("sends still outstanding after {DRAIN_LIMIT:?}");
    }
    load.outcomes.print_summary(load.sent);
    Ok(0)
}

/// Sends on schedule, whatever became of the sends before.
async fn send_at_rate(
    load: &mut Load,
    rate: f64,
    seconds: f64,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    for i in 0..(rate * seconds) as u64 {
        let due = begin + Duration::from_secs_f64(i as f64 / rate);
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(due) => load.send().await?,
        }
    }
    Ok(())
}

/// Sends messages with increasing numbers.
struct Load {
    producer: Arc<Producer>,
    topic: String,
    sent: u64,
    outstanding_max: u32,
    free: Arc<Semaphore>,
    outcomes: Arc<Outcomes>,
}

impl Load {
    /// Starts one send; waits only while too many are outstanding.
    async fn send(&mut self) -> anyhow::Result<()> {
        let permit = Arc::clone(&self.free).acquire_owned().await?;
        let value = format!("P{}-{}", std::process::id(), self.sent);
        self.sent += 1;
        let message = message(&self.topic, value.as_bytes())?;
        let producer = Arc::clone(&self.producer);
        let outcomes = Arc::clone(&self.outcomes);
        let started_ms = now_ms();
        tokio::spawn(async move {
            let sent = survive(producer.send(message)).await;
            outcomes.add(started_ms, &value, sent.map(|receipt| receipt.message_id().to_owned()));
            drop(permit);
        });
        Ok(())
    }

    /// Waits until no send is outstanding.
    async fn drain(&self) -> anyhow::Result<()> {
        drop(self.free.acquire_many(self.outstanding_max).await?);
        Ok(())
    }
}

/// The log of the sends, and what the summary says of them.
struct Outcomes {
    log: JsonLines,
    totals: Mutex<Totals>,
}

#[derive(Default)]
struct Totals {
    ok: u64,
    failed: u64,
    last_ok_ms: Option<u64>,
    gap_ms_max: u64,
}

impl Outcomes {
    fn new(log_path: &str) -> anyhow::Result<Self> {
        Ok(Self { log: JsonLines::append_to(log_path)?, totals: Mutex::default() })
    }

    fn add(&self, started_ms: u64, value: &str, outcome: anyhow::Result<String>) {
        let mut totals = self.totals.lock().expect("no holder panics");
        let ended_ms = now_ms();
        let mut record = json!({"t_ms": started_ms, "end_ms": ended_ms, "v": value});
        match outcome {
            Ok(id) => {
                record["ok"] = true.into();
                record["id"] = id.into();
                totals.ok += 1;
                let gap_ms = ended_ms.saturating_sub(totals.last_ok_ms.unwrap_or(ended_ms));
                totals.gap_ms_max = totals.gap_ms_max.max(gap_ms);
                totals.last_ok_ms = Some(ended_ms);
            }
            Err(error) => {
                record["ok"] = false.into();
                record["err"] = format!("{error:#}").into();
                totals.failed += 1;
            }
        }
        self.log.write(&record);
    }

    fn ok(&self) -> u64 {
        self.totals.lock().expect("no holder panics").ok
    }

    fn print_summary(&self, sent: u64) {
        let Totals { ok, failed, gap_ms_max, .. } = *self.totals.lock().expect("no holder panics");
        println!("{}", json!({"sent": sent, "ok": ok, "failed": failed, "max_gap_ms": gap_ms_max}));
    }
}
