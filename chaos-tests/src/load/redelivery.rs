//! Consumers that do not just acknowledge: they keep a message to themselves until it comes again, give
//! it back at once, ask for more time and acknowledge with the receipt they then have, or acknowledge
//! when it is too late. Each message is acknowledged in the end, after at most [`ATTEMPTS_MAX`]
//! deliveries.
//!
//! The checker `duplicate` knows for how long each delivery was invisible, that attempts grow, and that
//! a receipt speaks for one delivery.

use std::sync::Arc;
use std::time::Duration;

use raftmq::client::{Consumer, ConsumerOptions, Delivery, ReceiveOptions};
use raftmq_proto::v2::Code;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::queue::{INVISIBLE, Receiver, WAIT, attempt, lost, send_all, value};
use super::{Context, Queue, Workload, started};
use crate::history::Action;

/// Less than what makes a message a dead letter.
const ATTEMPTS_MAX: u32 = 4;
/// A message that was given back comes again after this.
const GIVEN_BACK: Duration = Duration::from_millis(500);
/// Longer than [`INVISIBLE`], so that an extension that does not hold shows.
const EXTENDED: Duration = Duration::from_secs(20);
/// How long a message is kept before it is acknowledged, where it was extended.
const KEPT: Duration = Duration::from_secs(12);
/// When an old receipt is tried: the message came to somebody else meanwhile, who may still have it.
const TOO_LATE: Duration = Duration::from_secs(13);

/// The workload.
#[derive(Clone, Debug)]
pub struct Redelivery {
    /// What is sent, and where to. Its consumers are not used.
    pub queue: Queue,
}

impl Default for Redelivery {
    fn default() -> Self {
        let topic = "chaos-redelivery".to_owned();
        Self { queue: Queue { topic, rate_per_s: 60.0, ..Queue::default() } }
    }
}

impl Workload for Redelivery {
    fn name(&self) -> &'static str {
        "redelivery"
    }

    fn topics(&self) -> Vec<String> {
        self.queue.topics()
    }

    fn groups(&self) -> Vec<(String, String)> {
        self.queue.groups()
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let sending = send_all(self.queue.clone(), context.clone());
        tasks.spawn(context.sending.track_future(sending));
        tasks.spawn(consume(self.queue.clone(), context.clone()));
        tasks
    }
}

async fn consume(queue: Queue, context: Context) {
    let options = ConsumerOptions::new(context.endpoints.clone(), &queue.topic, &queue.topic);
    let start = || Consumer::start(options.clone());
    let Some(consumer) = started(&context.end, start).await else { return };
    let consumer = Arc::new(consumer);
    let mut members = JoinSet::new();
    for number in 0..queue.receivers as u64 {
        let member = Member {
            receiver: Receiver {
                topic: queue.topic.clone(),
                group: queue.topic.clone(),
                abandon: 0.0,
                context: context.clone(),
                process: context.recorder.process(),
                random: ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 5),
            },
            kept: JoinSet::new(),
        };
        members.spawn(member.run(consumer.clone()));
    }
    while members.join_next().await.is_some() {}
}

struct Member {
    receiver: Receiver,
    /// What waits to be acknowledged.
    kept: JoinSet<()>,
}

impl Member {
    async fn run(mut self, consumer: Arc<Consumer>) {
        while !self.receiver.context.end.is_cancelled() {
            let options = ReceiveOptions { count_max: 16, wait: WAIT, invisible: INVISIBLE };
            match self.receiver.take(&consumer, options).await {
                Some(deliveries) => {
                    for delivery in deliveries {
                        self.handle(&consumer, delivery).await;
                    }
                }
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            while self.kept.try_join_next().is_some() {}
        }
    }

    async fn handle(&mut self, consumer: &Arc<Consumer>, mut delivery: Delivery) {
        // Once nothing more is sent, what is left is taken without ado.
        let is_last = attempt(&delivery) >= ATTEMPTS_MAX;
        let is_plain = is_last || self.receiver.context.stop.is_cancelled();
        let choice = if is_plain { 9 } else { self.receiver.random.random_range(0..10) };
        match choice {
            0 => (),
            1 => self.keep(consumer.clone(), delivery, TOO_LATE),
            2 | 3 => _ = self.receiver.postpone(consumer, &mut delivery, GIVEN_BACK).await,
            4 => {
                if self.receiver.postpone(consumer, &mut delivery, EXTENDED).await {
                    self.keep(consumer.clone(), delivery, KEPT);
                }
            }
            _ => self.receiver.ack(consumer, delivery).await,
        }
    }

    /// Acknowledges later, by somebody else, so that the next receive need not wait for it.
    fn keep(&mut self, consumer: Arc<Consumer>, delivery: Delivery, time: Duration) {
        let receiver = self.receiver.again();
        self.kept.spawn(async move {
            tokio::select! {
                () = receiver.context.end.cancelled() => (),
                () = tokio::time::sleep(time) => receiver.ack(&consumer, delivery).await,
            }
        });
    }
}

impl Receiver {
    /// Somebody who does the same under another number.
    fn again(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            group: self.group.clone(),
            abandon: self.abandon,
            process: self.context.recorder.process(),
            random: self.random.clone(),
            context: self.context.clone(),
        }
    }

    /// Sets for how long the message is invisible from now on. Returns whether that took effect; the
    /// delivery then has the receipt that counts.
    async fn postpone(
        &self,
        consumer: &Consumer,
        delivery: &mut Delivery,
        invisible: Duration,
    ) -> bool {
        let action = Action::ChangeInvisible {
            group: self.group.clone(),
            topic: self.topic.clone(),
            value: value(delivery),
            attempt: attempt(delivery),
            invisible_ms: invisible.as_millis() as u64,
        };
        let operation = self.context.recorder.invoke(self.process, action.clone(), None);
        match consumer.change_invisible_duration(delivery, invisible).await {
            Ok(handle) => {
                operation.ok(action, None);
                delivery.receipt_handle = handle;
                true
            }
            // A node that lost the answer of a leader on the way asks again, with the handle that the
            // change has replaced: it may have taken effect.
            Err(error) if error.code() == Some(Code::InvalidReceiptHandle) => {
                operation.unknown(action, error.to_string());
                false
            }
            Err(error) => {
                lost(operation, action, &error);
                false
            }
        }
    }
}
