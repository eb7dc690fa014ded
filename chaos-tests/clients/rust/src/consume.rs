//! `consume`: receives, acknowledges and logs until SIGTERM or the end of standard input.
//!
//! Errors are counted and never end it, since the point is that a consumer goes on by itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, ValueEnum};
use rocketmq::error::ClientError;
use rocketmq::model::message::MessageView;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clients::{Consumer, code, survive, text};
use crate::records::{JsonLines, now_ms, stop_on_signal};

const RECEIVERS: usize = 4;
const RECEIVE_BATCH: i32 = 16;
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Acks are tried again for as long as the receipt handle can be valid.
const INVISIBLE: Duration = Duration::from_secs(15);
const FINISH_LIMIT: Duration = Duration::from_secs(12);

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    group: String,
    #[arg(long)]
    mode: Mode,
    #[arg(long)]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Push,
    Simple,
}

pub async fn run(options: Options) -> anyhow::Result<i32> {
    if let Mode::Push = options.mode {
        bail!("rocketmq 5.0.0 for Rust has no push consumer");
    }
    let stop = stop_on_signal()?;
    stop_at_end_of_input(stop.clone());
    let journal = Arc::new(Journal {
        log: JsonLines::append_to(&options.log)?,
        received: AtomicU64::new(0),
        errors: AtomicU64::new(0),
    });
    if let Some(consumer) = start_until_it_works(&options, &journal, &stop).await {
        println!("READY");
        receive_until(&stop, Arc::new(consumer), &journal).await;
    }
    eprintln!("received {:?}, errors {:?}", journal.received, journal.errors);
    Ok(0)
}

/// Blocking, so on a thread; it ends with the process.
fn stop_at_end_of_input(stop: CancellationToken) {
    std::thread::spawn(move || {
        let _ended = io::copy(&mut io::stdin(), &mut io::sink());
        stop.cancel();
    });
}

async fn start_until_it_works(
    options: &Options,
    journal: &Journal,
    stop: &CancellationToken,
) -> Option<Consumer> {
    while !stop.is_cancelled() {
        match Consumer::start(&options.endpoint, &options.group, &options.topic).await {
            Ok(consumer) => return Some(consumer),
            Err(error) => journal.error("start", &error.into()),
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
    None
}

async fn receive_until(stop: &CancellationToken, consumer: Arc<Consumer>, journal: &Arc<Journal>) {
    let mut receivers = JoinSet::new();
    for _ in 0..RECEIVERS {
        let (stop, consumer, journal) = (stop.clone(), Arc::clone(&consumer), Arc::clone(journal));
        receivers.spawn(async move {
            while !stop.is_cancelled() {
                receive(&consumer, &journal).await;
            }
        });
    }
    stop.cancelled().await;
    if tokio::time::timeout(FINISH_LIMIT, receivers.join_all()).await.is_err() {
        eprintln!("receives still under way after {FINISH_LIMIT:?}");
    }
}

async fn receive(consumer: &Consumer, journal: &Journal) {
    match survive(consumer.receive(RECEIVE_BATCH, INVISIBLE)).await {
        Ok(messages) => {
            for message in messages {
                ack(consumer, &message, journal).await;
            }
        }
        Err(error) => {
            journal.error("receive", &error);
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

/// Acks, trying again as push consumers do: a lost answer may hide an ack that counted.
async fn ack(consumer: &Consumer, message: &MessageView, journal: &Journal) {
    let begin = Instant::now();
    loop {
        let Err(error) = survive(consumer.ack(message)).await else {
            journal.add(message, json!({"acked": true}));
            return;
        };
        journal.error("ack", &error);
        let client_error = error.downcast_ref::<ClientError>();
        let refused = client_error.and_then(code) == Some("INVALID_RECEIPT_HANDLE");
        if refused || begin.elapsed() > INVISIBLE {
            journal.add(message, json!({"acked": false, "err": format!("{error:#}")}));
            return;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// The log of received messages and the count of errors.
struct Journal {
    log: JsonLines,
    received: AtomicU64,
    errors: AtomicU64,
}

impl Journal {
    fn add(&self, message: &MessageView, outcome: Value) {
        let mut record = json!({
            "t_ms": now_ms(),
            "v": text(message),
            "id": message.message_id(),
            "attempt": message.delivery_attempt(),
        });
        for (key, value) in outcome.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        self.log.write(&record);
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, what: &str, error: &anyhow::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        eprintln!("{what}: {error:#}");
    }
}
