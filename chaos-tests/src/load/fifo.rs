//! Message groups: a producer of each sends one message after the other and repeats it with its id until
//! it is acknowledged; consumers take them in order, forget some, give some back, vanish with some. Some
//! messages are poison: their message group is held up for twenty seconds, and the others of its queue
//! must not notice. Poison ends acknowledged or, by its consumer's word, as a dead letter.
//!
//! The checker is `fifo_order`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use raftmq::client::MessageId;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2::MessageType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dead_letters::read;
use super::member::Member;
use super::native::{Client, Delivery, Role, message};
use super::observe::dead_letters;
use super::{Context, Workload};
use crate::history::{Action, Kind};

/// Before a send that failed is repeated.
const PAUSE: Duration = Duration::from_millis(50);
/// For the last message to be acknowledged, once no further ones are sent.
const LAST_LIMIT: Duration = Duration::from_secs(30);
/// A message that was given back comes again after this.
const GIVEN_BACK: Duration = Duration::from_secs(1);
pub(super) const COUNT_MAX: i32 = 8;
/// Of the messages of some message groups, one in so many is poison.
const POISON_EVERY: u64 = 40;
/// The first of them: soon.
const POISON_FIRST: u64 = 4;
const POISONED_GROUPS: usize = 3;
/// Poison is acknowledged or given up at this attempt.
const POISON_ATTEMPTS: u32 = 3;

/// The workload.
#[derive(Clone, Debug)]
pub struct Fifo {
    /// Its topic; the group is called the same.
    pub topic: String,
    /// Message groups, each with one producer.
    pub message_groups: usize,
    /// Messages a second of each.
    pub rate_per_s: f64,
    /// Queues of the topic.
    pub queues: u32,
    /// Members of the group.
    pub members: usize,
}

impl Default for Fifo {
    fn default() -> Self {
        let topic = "chaos-fifo".to_owned();
        Self { topic, message_groups: 12, rate_per_s: 4.0, queues: 4, members: 6 }
    }
}

impl Fifo {
    fn reader(&self) -> String {
        format!("{}-reader", self.topic)
    }
}

impl Workload for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn topics(&self) -> Vec<String> {
        vec![self.topic.clone()]
    }

    fn groups(&self) -> Vec<(String, String)> {
        vec![(self.topic.clone(), self.topic.clone()), (self.reader(), dead_letters(&self.topic))]
    }

    fn make_topics(&self) -> Vec<wire::CreateTopicRequest> {
        vec![wire::CreateTopicRequest {
            name: self.topic.clone(),
            queue_count: self.queues,
            message_types: vec![MessageType::Fifo.into()],
            ..Default::default()
        }]
    }

    fn make_groups(&self) -> Vec<wire::CreateGroupRequest> {
        let name = self.topic.clone();
        let own = wire::CreateGroupRequest { name, fifo: true, ..Default::default() };
        vec![own, wire::CreateGroupRequest { name: self.reader(), ..Default::default() }]
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in 0..self.message_groups {
            let message_group = format!("g{number}");
            let kind = Kind::Fifo { message_group: message_group.clone() };
            let names = (self.topic.clone(), message_group);
            let producing = produce(names, kind, self.rate_per_s, context.clone());
            tasks.spawn(context.sending.track_future(producing));
        }
        for number in 0..self.members as u64 {
            let random = ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 6);
            if let Some(member) = Member::join(context, &self.topic, &self.topic) {
                tasks.spawn(consume(member, random));
            }
        }
        if let Some(reader) = Member::join(context, &self.reader(), &dead_letters(&self.topic)) {
            tasks.spawn(read(reader));
        }
        tasks
    }
}

/// Sends the messages of one message group, or of one lite topic, of a topic.
pub(super) async fn produce(
    (topic, line): (String, String),
    kind: Kind,
    rate_per_s: f64,
    context: Context,
) {
    let Ok((client, _)) = Client::start(&context.brokers, Role::Producer(&topic)) else { return };
    let process = context.recorder.process();
    let producer = Producer { client, process, topic, line, kind, context };
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate_per_s));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for position in 0.. {
        tokio::select! {
            () = producer.context.stop.cancelled() => return,
            _ = ticks.tick() => (),
        }
        if !producer.send_until_acknowledged(position).await {
            return;
        }
    }
}

struct Producer {
    client: Arc<Client>,
    process: u32,
    topic: String,
    /// Its message group.
    line: String,
    kind: Kind,
    context: Context,
}

impl Producer {
    /// False: it was given up, and nothing may follow it.
    async fn send_until_acknowledged(&self, position: u64) -> bool {
        let kind = &self.kind;
        let value = format!("{}-{}-{position}", self.topic, self.line);
        let id = MessageId::generate().to_string();
        let mut stopped_at = None;
        loop {
            let action = |offset| Action::Send {
                topic: self.topic.clone(),
                value: value.clone(),
                message_id: Some(id.clone()),
                offset,
                kind: kind.clone(),
            };
            let operation = self.context.recorder.invoke(self.process, action(None), None);
            match self.client.send(message(&self.topic, &id, &value, kind)).await {
                Ok(entry) => {
                    operation.ok(action(u64::try_from(entry.offset).ok()), None);
                    return true;
                }
                Err(failed) => failed.end(operation, action(None)),
            }
            if self.context.stop.is_cancelled()
                && stopped_at.get_or_insert_with(Instant::now).elapsed() > LAST_LIMIT
            {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn consume(mut member: Member, mut random: ChaCha8Rng) {
    while !member.context.end.is_cancelled() {
        let mut deliveries = member.receive(COUNT_MAX).await;
        if deliveries.is_empty() {
            continue;
        }
        // Once nothing more is sent, what is left is taken without ado.
        let is_plain = member.context.stop.is_cancelled();
        if !is_plain && random.random_bool(0.02) {
            let Some(another) = member.die() else { return };
            member = another;
            continue;
        }
        if !is_plain && random.random_bool(0.05) {
            deliveries = member.repeat(COUNT_MAX).await;
        }
        take(&member, deliveries, is_plain, &mut random).await;
    }
}

/// Consumes an answer in its order. What follows a message that was not consumed, in its message group,
/// is left alone.
pub(super) async fn take(
    member: &Member,
    deliveries: Vec<Delivery>,
    is_plain: bool,
    random: &mut ChaCha8Rng,
) {
    let mut held_up: HashSet<String> = HashSet::new();
    for mut delivery in deliveries {
        let message_group = message_group(&delivery.seen.value).to_owned();
        if held_up.contains(&message_group) {
            continue;
        }
        let (value, attempt) = (&delivery.seen.value, delivery.seen.attempt);
        let consumed = if is_plain {
            member.ack(&delivery).await
        } else if is_poison(value) {
            match (attempt < POISON_ATTEMPTS, random.random_bool(0.5)) {
                (true, _) => false,
                (false, true) => member.give_up(&delivery).await,
                (false, false) => member.ack(&delivery).await,
            }
        } else if attempt == 1 && random.random_bool(0.02) {
            false
        } else if attempt == 1 && random.random_bool(0.03) {
            member.postpone(&mut delivery, GIVEN_BACK).await;
            false
        } else {
            member.ack(&delivery).await
        };
        if !consumed {
            held_up.insert(message_group);
        }
    }
}

fn message_group(value: &str) -> &str {
    value.rsplit_once('-').map_or("", |(before, _)| before)
}

fn is_poison(value: &str) -> bool {
    let position = value.rsplit_once('-').and_then(|(_, position)| position.parse::<u64>().ok());
    let in_poisoned = (0..POISONED_GROUPS).any(|number| value.contains(&format!("-g{number}-")));
    in_poisoned && position.is_some_and(|position| position % POISON_EVERY == POISON_FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_messages_of_some_message_groups_are_poison() {
        assert!(is_poison("chaos-fifo-g0-4") && is_poison("chaos-fifo-g2-44"));
        assert!(!is_poison("chaos-fifo-g0-11") && !is_poison("chaos-fifo-g7-4"));
        assert!(!is_poison("chaos-fifo-g10-4"));
        assert_eq!(message_group("chaos-fifo-g0-10"), "chaos-fifo-g0");
    }
}
