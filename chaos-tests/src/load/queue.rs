//! Unique values through a topic: sent at a set rate, received, acknowledged; some are abandoned and
//! must come again, some are sent twice with the same message id and must be stored once.

use std::sync::Arc;
use std::time::Duration;

use raftmq::client::{
    CallError, Consumer, ConsumerOptions, Delivery, Outcome, OutgoingMessage, Producer,
    ProducerOptions, ReceiveOptions, SendError,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::{Context, Pace, Workload, started};
use crate::history::{self, Action, Kind};

/// How long a received message is invisible: the shortest that brokers take, so that abandoned ones
/// come again soon.
pub(super) const INVISIBLE: Duration = Duration::from_secs(10);
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// The workload.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its topic; the group is called the same.
    pub topic: String,
    /// Sends a second.
    pub rate_per_s: f64,
    /// Sends that may be under way.
    pub senders: usize,
    /// Receives that may be under way.
    pub receivers: usize,
    /// Which share of first deliveries is not acknowledged, 0 to 1.
    pub abandon: f64,
    /// Which share of acknowledged sends is sent again, 0 to 1.
    pub resend: f64,
    /// Bytes of a body; at least the value itself.
    pub body_bytes: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            topic: "chaos-queue".to_owned(),
            rate_per_s: 150.0,
            senders: 64,
            receivers: 16,
            abandon: 0.02,
            resend: 0.02,
            body_bytes: 64,
        }
    }
}

impl Workload for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn topics(&self) -> Vec<String> {
        vec![self.topic.clone()]
    }

    fn groups(&self) -> Vec<(String, String)> {
        vec![(self.topic.clone(), self.topic.clone())]
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let sending = context.sending.track_future(send_all(self.clone(), context.clone()));
        tasks.spawn(sending);
        tasks.spawn(receive_all(self.clone(), context.clone()));
        tasks
    }
}

pub(super) async fn send_all(queue: Queue, context: Context) {
    let options = ProducerOptions::new(context.endpoints.clone(), &queue.topic);
    let start = || Producer::start(options.clone());
    let Some(producer) = started(&context.stop, start).await else { return };
    let (producer, pace) = (Arc::new(producer), Arc::new(Pace::new(queue.rate_per_s)));
    let mut senders = JoinSet::new();
    for number in 0..queue.senders as u64 {
        let sender = Sender {
            queue: queue.clone(),
            context: context.clone(),
            process: context.recorder.process(),
            random: ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8)),
        };
        senders.spawn(sender.run(producer.clone(), pace.clone()));
    }
    while senders.join_next().await.is_some() {}
}

struct Sender {
    queue: Queue,
    context: Context,
    process: u32,
    random: ChaCha8Rng,
}

impl Sender {
    async fn run(mut self, producer: Arc<Producer>, pace: Arc<Pace>) {
        while let Some(number) = pace.turn(&self.context.stop).await {
            let value = format!("{}-{number}", self.queue.topic);
            let padded = format!("{value:<width$}", width = self.queue.body_bytes);
            let message = OutgoingMessage::new(padded);
            let acknowledged = self.send(&producer, &message, &value).await;
            if acknowledged && self.random.random_bool(self.queue.resend) {
                self.send(&producer, &message, &value).await;
            }
        }
    }

    async fn send(&self, producer: &Producer, message: &OutgoingMessage, value: &str) -> bool {
        let action = |offset| Action::Send {
            topic: self.queue.topic.clone(),
            value: value.to_owned(),
            message_id: Some(message.id.to_string()),
            offset,
            kind: Kind::Normal,
        };
        let operation = self.context.recorder.invoke(self.process, action(None), None);
        match producer.send(message).await {
            Ok(sent) => {
                let offset = u64::try_from(sent.queue_offset).ok();
                operation.ok(action(offset), Some(sent.broker_name));
                true
            }
            Err(error) => {
                not_sent(operation, action(None), &error);
                false
            }
        }
    }
}

pub(super) fn not_sent(operation: history::Operation, action: Action, error: &SendError) {
    match error.outcome() {
        Outcome::NotDone => operation.fail(action, error.to_string()),
        Outcome::Unknown => operation.unknown(action, error.to_string()),
    }
}

pub(super) async fn receive_all(queue: Queue, context: Context) {
    let options = ConsumerOptions::new(context.endpoints.clone(), &queue.topic, &queue.topic);
    let start = || Consumer::start(options.clone());
    let Some(consumer) = started(&context.end, start).await else { return };
    let consumer = Arc::new(consumer);
    let mut receivers = JoinSet::new();
    for number in 0..queue.receivers as u64 {
        let receiver = Receiver {
            topic: queue.topic.clone(),
            group: queue.topic.clone(),
            abandon: queue.abandon,
            context: context.clone(),
            process: context.recorder.process(),
            random: ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 1),
        };
        receivers.spawn(receiver.run(consumer.clone()));
    }
    while receivers.join_next().await.is_some() {}
    if let Some(consumer) = Arc::into_inner(consumer) {
        consumer.close().await;
    }
}

/// Receives for one group, one call at a time.
pub(super) struct Receiver {
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) abandon: f64,
    pub(super) context: Context,
    pub(super) process: u32,
    pub(super) random: ChaCha8Rng,
}

impl Receiver {
    pub(super) async fn run(mut self, consumer: Arc<Consumer>) {
        while !self.context.end.is_cancelled() {
            if !self.receive(&consumer).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// One receive and what follows from it. Returns whether it was answered.
    pub(super) async fn receive(&mut self, consumer: &Consumer) -> bool {
        let options = ReceiveOptions { count_max: 16, wait: WAIT, invisible: INVISIBLE };
        let Some(deliveries) = self.take(consumer, options).await else { return false };
        for delivery in deliveries {
            let abandoned = delivery.attempt <= 1 && self.random.random_bool(self.abandon);
            if !abandoned {
                self.ack(consumer, delivery).await;
            }
        }
        true
    }

    /// One receive. `None`: it was not answered.
    pub(super) async fn take(
        &self,
        consumer: &Consumer,
        options: ReceiveOptions,
    ) -> Option<Vec<Delivery>> {
        let action = |deliveries| Action::Receive {
            group: self.group.clone(),
            topic: self.topic.clone(),
            deliveries,
            invisible_ms: options.invisible.as_millis() as u64,
            attempt_id: None,
        };
        let operation = self.context.recorder.invoke(self.process, action(Vec::new()), None);
        match consumer.receive(options).await {
            Ok(received) => {
                let seen = received.deliveries.iter().map(seen).collect();
                operation.ok(action(seen), Some(received.broker_name));
                Some(received.deliveries)
            }
            Err(error) => {
                lost(operation, action(Vec::new()), &error);
                None
            }
        }
    }

    pub(super) async fn ack(&self, consumer: &Consumer, delivery: Delivery) {
        let action = Action::Ack {
            group: self.group.clone(),
            topic: self.topic.clone(),
            value: value(&delivery),
            attempt: attempt(&delivery),
        };
        let operation = self.context.recorder.invoke(self.process, action.clone(), None);
        let acked = consumer.ack(std::slice::from_ref(&delivery)).await;
        match acked.map(|mut each| each.pop()) {
            Ok(Some(Ok(()))) => operation.ok(action, None),
            Ok(Some(Err(error))) | Err(error) => lost(operation, action, &error),
            Ok(None) => operation.unknown(action, "no result".to_owned()),
        }
    }
}

pub(super) fn lost(operation: history::Operation, action: Action, error: &CallError) {
    match error.outcome() {
        Outcome::NotDone => operation.fail(action, error.to_string()),
        Outcome::Unknown => operation.unknown(action, error.to_string()),
    }
}

pub(super) fn value(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.body).trim_end().to_owned()
}

pub(super) fn attempt(delivery: &Delivery) -> u32 {
    u32::try_from(delivery.attempt).unwrap_or(0)
}

fn seen(delivery: &Delivery) -> history::Delivery {
    history::Delivery {
        value: value(delivery),
        message_id: delivery.message_id.clone(),
        attempt: attempt(delivery),
        queue_id: u32::try_from(delivery.queue_id).ok(),
        offset: u64::try_from(delivery.queue_offset).ok(),
    }
}
