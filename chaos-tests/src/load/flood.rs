//! Far more sends than usual, while a surge lasts: an open loop, which does not slow down with the
//! server. Nobody consumes them; what was acknowledged must be stored all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raftmq::client::{Outcome, OutgoingMessage, Producer, ProducerOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Context, Pace, Workload, started};
use crate::history::{Action, Kind};

/// Connections to each broker: one connection may have some thousand calls under way.
const PRODUCERS: usize = 8;

/// When the flood comes, and what becomes of it. Shared by the workload and the fault.
#[derive(Debug, Default)]
pub struct Surge {
    on: watch::Sender<bool>,
    begun: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
}

/// How many sends of a surge ended how.
#[derive(Clone, Copy, Debug, Default)]
pub struct SurgeCounts {
    /// All.
    pub begun: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Told that they had no effect.
    pub refused: u64,
}

impl Surge {
    /// Begins or ends it.
    pub fn set(&self, on: bool) {
        self.on.send_replace(on);
    }

    /// What became of it so far.
    pub fn counts(&self) -> SurgeCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SurgeCounts {
            begun: count(&self.begun),
            acknowledged: count(&self.acknowledged),
            refused: count(&self.refused),
        }
    }
}

/// The workload.
#[derive(Clone, Debug)]
pub struct Flood {
    /// Its topic.
    pub topic: String,
    /// Sends a second.
    pub rate_per_s: f64,
    /// Sends that may be under way.
    pub senders: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
}

impl Default for Flood {
    fn default() -> Self {
        let topic = "chaos-flood".to_owned();
        Self { topic, rate_per_s: 5000.0, senders: 4000, body_bytes: 1024 }
    }
}

impl Workload for Flood {
    fn name(&self) -> &'static str {
        "flood"
    }

    fn topics(&self) -> Vec<String> {
        vec![self.topic.clone()]
    }

    fn groups(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(surges(self.clone(), context.clone()));
        tasks
    }
}

async fn surges(flood: Flood, context: Context) {
    let mut producers = Vec::new();
    for _ in 0..PRODUCERS {
        let options = ProducerOptions::new(context.endpoints.clone(), &flood.topic);
        let start = || Producer::start(options.clone());
        let Some(producer) = started(&context.stop, start).await else { return };
        producers.push(Arc::new(producer));
    }
    let first = Arc::new(AtomicU64::new(0));
    let mut on = context.surge.on.subscribe();
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return,
            begins = becomes(&mut on, true) => if !begins { return },
        }
        let over = context.stop.child_token();
        let pace = Arc::new(Pace::new(flood.rate_per_s));
        let mut senders = JoinSet::new();
        for number in 0..flood.senders {
            let sender = Sender {
                flood: flood.clone(),
                context: context.clone(),
                process: context.recorder.process(),
                producer: producers[number % PRODUCERS].clone(),
                next: first.clone(),
            };
            senders.spawn(sender.run(pace.clone(), over.clone()));
        }
        tokio::select! {
            () = context.stop.cancelled() => (),
            _ = becomes(&mut on, false) => (),
        }
        over.cancel();
        while senders.join_next().await.is_some() {}
    }
}

/// Waits for a state. False: nobody can bring it about any more.
async fn becomes(on: &mut watch::Receiver<bool>, wanted: bool) -> bool {
    on.wait_for(|on| *on == wanted).await.is_ok()
}

struct Sender {
    flood: Flood,
    context: Context,
    process: u32,
    producer: Arc<Producer>,
    next: Arc<AtomicU64>,
}

impl Sender {
    async fn run(self, pace: Arc<Pace>, over: CancellationToken) {
        while pace.turn(&over).await.is_some() {
            self.send().await;
        }
    }

    async fn send(&self) {
        let (topic, surge) = (&self.flood.topic, &self.context.surge);
        let value = format!("{topic}-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let message =
            OutgoingMessage::new(format!("{value:<width$}", width = self.flood.body_bytes));
        let action = |offset| Action::Send {
            topic: topic.clone(),
            value: value.clone(),
            message_id: Some(message.id.to_string()),
            offset,
            kind: Kind::Normal,
        };
        surge.begun.fetch_add(1, Ordering::Relaxed);
        let operation = self.context.recorder.invoke(self.process, action(None), None);
        match self.producer.send(&message).await {
            Ok(sent) => {
                surge.acknowledged.fetch_add(1, Ordering::Relaxed);
                let offset = u64::try_from(sent.queue_offset).ok();
                operation.ok(action(offset), Some(sent.broker_name));
            }
            Err(error) if error.outcome() == Outcome::NotDone => {
                surge.refused.fetch_add(1, Ordering::Relaxed);
                operation.fail(action(None), error.to_string());
            }
            Err(error) => operation.unknown(action(None), error.to_string()),
        }
    }
}
