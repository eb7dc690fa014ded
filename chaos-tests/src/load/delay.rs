//! Delayed messages: due within twenty seconds, some in an hour, so that a clock that jumps would bring
//! them; some are recalled, before their time, about at their time, and after it.
//!
//! The checker is `delays`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raftmq::client::MessageId;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2::MessageType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::member::Member;
use super::native::{Client, Role, message};
use super::{Context, Pace, Workload};
use crate::cluster::now_ms;
use crate::history::{Action, Kind};

const DELAY_MS_MIN: u64 = 1_000;
const DELAY_MS_MAX: u64 = 20_000;
/// Longer than any run.
const FAR_MS: u64 = 3_600_000;
/// Sends of one message, recalls of one message.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// After the last is due, for all to come.
const LATE_LIMIT: Duration = Duration::from_secs(20);

/// The workload.
#[derive(Clone, Debug)]
pub struct Delay {
    /// Its topic; the group is called the same.
    pub topic: String,
    /// Messages a second.
    pub rate_per_s: f64,
    /// Messages that may be under way.
    pub senders: usize,
    /// Members of the group.
    pub members: usize,
}

impl Default for Delay {
    fn default() -> Self {
        Self { topic: "chaos-delay".to_owned(), rate_per_s: 30.0, senders: 24, members: 4 }
    }
}

impl Workload for Delay {
    fn name(&self) -> &'static str {
        "delay"
    }

    fn topics(&self) -> Vec<String> {
        vec![self.topic.clone()]
    }

    fn groups(&self) -> Vec<(String, String)> {
        vec![(self.topic.clone(), self.topic.clone())]
    }

    fn make_topics(&self) -> Vec<wire::CreateTopicRequest> {
        vec![wire::CreateTopicRequest {
            name: self.topic.clone(),
            message_types: vec![MessageType::Delay.into()],
            ..Default::default()
        }]
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let (mut tasks, awaited) = (JoinSet::new(), Awaited::default());
        let sending = send_all(self.clone(), context.clone(), awaited.clone());
        tasks.spawn(context.sending.track_future(sending));
        for number in 0..self.members as u64 {
            let random = ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 7);
            if let Some(member) = Member::join(context, &self.topic, &self.topic) {
                tasks.spawn(consume(member, random, awaited.clone()));
            }
        }
        tasks
    }
}

/// Messages that are still to come.
#[derive(Clone, Default)]
struct Awaited(Arc<Mutex<Sets>>);

#[derive(Default)]
struct Sets {
    awaited: HashSet<String>,
    came: HashSet<String>,
}

impl Awaited {
    fn expect(&self, value: &str) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !sets.came.contains(value) {
            sets.awaited.insert(value.to_owned());
        }
    }

    /// It came, or may never come.
    fn forget(&self, value: &str) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sets.awaited.remove(value);
        sets.came.insert(value.to_owned());
    }

    fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).awaited.is_empty()
    }
}

async fn send_all(delay: Delay, context: Context, awaited: Awaited) {
    let pace = Arc::new(Pace::new(delay.rate_per_s));
    let mut senders = JoinSet::new();
    for number in 0..delay.senders as u64 {
        let started = Client::start(&context.brokers, Role::Producer(&delay.topic));
        let Ok((client, _)) = started else { return };
        let sender = Sender {
            client,
            topic: delay.topic.clone(),
            process: context.recorder.process(),
            random: ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 8),
            context: context.clone(),
            awaited: awaited.clone(),
            recalls: JoinSet::new(),
        };
        senders.spawn(sender.run(pace.clone()));
    }
    while senders.join_next().await.is_some() {}
    // Nothing is left when consumers are asked whether they have taken everything.
    let last = Duration::from_millis(DELAY_MS_MAX) + LATE_LIMIT;
    let over = async {
        while !awaited.is_over() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let _missed = tokio::time::timeout(last, over).await;
}

struct Sender {
    client: Arc<Client>,
    topic: String,
    process: u32,
    random: ChaCha8Rng,
    context: Context,
    awaited: Awaited,
    recalls: JoinSet<()>,
}

impl Sender {
    async fn run(mut self, pace: Arc<Pace>) {
        while let Some(number) = pace.turn(&self.context.stop).await {
            let is_far = self.random.random_bool(0.03);
            let delay_ms = match is_far {
                true => FAR_MS,
                false => self.random.random_range(DELAY_MS_MIN..=DELAY_MS_MAX),
            };
            let value = format!("{}-{number}", self.topic);
            let Some(handle) = self.send(&value, now_ms() + delay_ms).await else { continue };
            if !is_far {
                self.awaited.expect(&value);
            }
            if self.random.random_bool(if is_far { 0.5 } else { 0.15 }) {
                self.awaited.forget(&value);
                // Some too late.
                let after_ms = self.random.random_range(0..DELAY_MS_MAX.min(delay_ms) + 1_500);
                self.recall_later(value, handle, Duration::from_millis(after_ms));
            }
            while self.recalls.try_join_next().is_some() {}
        }
        while self.recalls.join_next().await.is_some() {}
    }

    /// Returns the handle to recall it by, once it is acknowledged.
    async fn send(&self, value: &str, due_ms: u64) -> Option<String> {
        let (kind, id) = (Kind::Delay { due_ms }, MessageId::generate().to_string());
        for _ in 0..ATTEMPTS {
            let action = Action::Send {
                topic: self.topic.clone(),
                value: value.to_owned(),
                message_id: Some(id.clone()),
                offset: None,
                kind: kind.clone(),
            };
            let operation = self.context.recorder.invoke(self.process, action.clone(), None);
            match self.client.send(message(&self.topic, &id, value, &kind)).await {
                Ok(entry) => {
                    operation.ok(action, None);
                    return Some(entry.recall_handle);
                }
                Err(failed) => failed.end(operation, action),
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    fn recall_later(&mut self, value: String, handle: String, after: Duration) {
        let (client, context, topic) =
            (self.client.clone(), self.context.clone(), self.topic.clone());
        let process = context.recorder.process();
        self.recalls.spawn(async move {
            tokio::time::sleep(after).await;
            for _ in 0..ATTEMPTS {
                let action = Action::Recall { topic: topic.clone(), value: value.clone() };
                let operation = context.recorder.invoke(process, action.clone(), None);
                match client.recall(&topic, &handle).await {
                    Ok(()) => return operation.ok(action, None),
                    Err(failed) => {
                        let is_answer = failed.is_refusal();
                        failed.end(operation, action);
                        if is_answer {
                            return;
                        }
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

async fn consume(mut member: Member, mut random: ChaCha8Rng, awaited: Awaited) {
    while !member.context.end.is_cancelled() {
        for delivery in member.receive(16).await {
            awaited.forget(&delivery.seen.value);
            let is_abandoned = delivery.seen.attempt == 1 && random.random_bool(0.02);
            if !is_abandoned {
                member.ack(&delivery).await;
            }
        }
    }
}
