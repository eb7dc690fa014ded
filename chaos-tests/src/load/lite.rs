//! Lite topics: a producer of each sends one message after the other, and new ones keep coming into being.
//! Members of one group want different ones, and some together; they take up and leave some, forget
//! messages, give some back, vanish and are replaced. What a member wants it says once, and never again
//! until it changes: a new leader must know. Some messages are poison, as in `fifo`.
//!
//! The checkers are `fifo_order`, for which a lite topic is a message group, and `lite`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_proto::v2::{ClientType, LiteSubscriptionAction, MessageType};
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::fifo::{COUNT_MAX, produce, take};
use super::member::Member;
use super::{Context, Workload};
use crate::history::Kind;

/// Between two lite topics that come into being.
const BIRTH_INTERVAL: Duration = Duration::from_secs(4);
/// Every so many lite topics, all members want one.
const SHARED_EVERY: usize = 4;

/// The workload.
#[derive(Clone, Debug)]
pub struct Lite {
    /// Its topic; the group is called the same.
    pub topic: String,
    /// Lite topics that are there from the beginning.
    pub first: usize,
    /// Lite topics in the end.
    pub most: usize,
    /// Messages a second of each.
    pub rate_per_s: f64,
    /// Members of the group.
    pub members: usize,
}

impl Default for Lite {
    fn default() -> Self {
        Self { topic: "chaos-lite".to_owned(), first: 20, most: 40, rate_per_s: 1.5, members: 3 }
    }
}

impl Workload for Lite {
    fn name(&self) -> &'static str {
        "lite"
    }

    fn topics(&self) -> Vec<String> {
        vec![self.topic.clone()]
    }

    fn groups(&self) -> Vec<(String, String)> {
        vec![(self.topic.clone(), self.topic.clone())]
    }

    fn make_topics(&self) -> Vec<wire::CreateTopicRequest> {
        let message_types = vec![MessageType::Lite.into()];
        let name = self.topic.clone();
        vec![wire::CreateTopicRequest { name, message_types, ..Default::default() }]
    }

    fn make_groups(&self) -> Vec<wire::CreateGroupRequest> {
        let name = self.topic.clone();
        vec![wire::CreateGroupRequest { name, fifo: true, ..Default::default() }]
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let born = Arc::new(AtomicUsize::new(self.first));
        let producing = produce_all(self.clone(), born.clone(), context.clone());
        tasks.spawn(context.sending.track_future(producing));
        for number in 0..self.members {
            let random = ChaCha8Rng::seed_from_u64(context.seed ^ ((number as u64) << 8) ^ 9);
            let client_type = match number % 2 {
                0 => ClientType::LiteSimpleConsumer,
                _ => ClientType::LitePushConsumer,
            };
            if let Some(member) = Member::join_lite(context, &self.topic, &self.topic, client_type)
            {
                let subscriber = Subscriber {
                    member,
                    interest: Interest { number, members: self.members, left: None },
                    born: born.clone(),
                    has: BTreeSet::new(),
                    random,
                };
                tasks.spawn(subscriber.run());
            }
        }
        tasks
    }
}

fn name(number: usize) -> String {
    format!("g{number}")
}

async fn produce_all(lite: Lite, born: Arc<AtomicUsize>, context: Context) {
    let mut producers = JoinSet::new();
    let mut spawn = |number| {
        let (topic, lite_topic) = (lite.topic.clone(), name(number));
        let kind = Kind::Lite { lite_topic: lite_topic.clone() };
        producers.spawn(produce((topic, lite_topic), kind, lite.rate_per_s, context.clone()));
    };
    (0..lite.first).for_each(&mut spawn);
    for number in lite.first..lite.most {
        tokio::select! {
            () = context.stop.cancelled() => break,
            () = tokio::time::sleep(BIRTH_INTERVAL) => (),
        }
        // Sometimes its first message is there before a member knows of it, sometimes after.
        born.store(number + 1, Ordering::Relaxed);
        spawn(number);
    }
    while producers.join_next().await.is_some() {}
}

/// Which lite topics one member wants.
#[derive(Clone, Copy, Debug)]
struct Interest {
    number: usize,
    members: usize,
    /// One that it left for a while; another member has that too.
    left: Option<usize>,
}

impl Interest {
    /// Wanted by this member at any time.
    fn is_own(&self, lite_topic: usize) -> bool {
        lite_topic % self.members == self.number
    }

    fn is_shared(lite_topic: usize) -> bool {
        lite_topic.is_multiple_of(SHARED_EVERY)
    }

    fn of(&self, born: usize) -> BTreeSet<String> {
        let wanted = (0..born).filter(|it| self.is_own(*it) || Self::is_shared(*it));
        wanted.filter(|it| self.left != Some(*it)).map(name).collect()
    }

    /// Takes up what it had left, or leaves one that it shares.
    fn turn(&mut self, born: usize, random: &mut ChaCha8Rng) {
        self.left = match self.left {
            Some(_) => None,
            None => {
                let others = (0..born).filter(|it| Self::is_shared(*it) && !self.is_own(*it));
                others.choose(random)
            }
        };
    }
}

struct Subscriber {
    member: Member,
    interest: Interest,
    /// How many lite topics there are.
    born: Arc<AtomicUsize>,
    /// What it subscribed to.
    has: BTreeSet<String>,
    random: ChaCha8Rng,
}

impl Subscriber {
    async fn run(mut self) {
        while !self.member.context.end.is_cancelled() {
            // Once nothing more is sent, what is left is taken without ado.
            let is_plain = self.member.context.stop.is_cancelled();
            let born = self.born.load(Ordering::Relaxed);
            if !is_plain && self.random.random_bool(0.01) {
                self.interest.turn(born, &mut self.random);
            }
            if !self.subscribe(born).await {
                continue;
            }
            let mut deliveries = self.member.receive(COUNT_MAX).await;
            if deliveries.is_empty() {
                continue;
            }
            if !is_plain && self.random.random_bool(0.01) {
                let Some(another) = self.member.die() else { return };
                self.member = another;
                self.has.clear();
                continue;
            }
            if !is_plain && self.random.random_bool(0.05) {
                deliveries = self.member.repeat(COUNT_MAX).await;
            }
            take(&self.member, deliveries, is_plain, &mut self.random).await;
        }
    }

    /// Says what has changed of what it wants, if anything. Whether that counts.
    async fn subscribe(&mut self, born: usize) -> bool {
        let wanted = self.interest.of(born);
        if wanted == self.has {
            return true;
        }
        let added: Vec<String> = wanted.difference(&self.has).cloned().collect();
        let removed: Vec<String> = self.has.difference(&wanted).cloned().collect();
        let (action, names) = match (added.is_empty(), removed.is_empty()) {
            (false, true) if self.random.random_bool(0.5) => {
                (LiteSubscriptionAction::PartialAdd, added)
            }
            (true, false) if self.random.random_bool(0.5) => {
                (LiteSubscriptionAction::PartialRemove, removed)
            }
            _ => (LiteSubscriptionAction::CompleteAdd, wanted.iter().cloned().collect()),
        };
        let done = self.member.subscribe(action, names, &wanted).await;
        if done {
            self.has = wanted;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lite_topic_is_somebodys_at_any_time_and_some_are_everybodys() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut interests = [0, 1, 2].map(|number| Interest { number, members: 3, left: None });
        let shared = |interests: &[Interest; 3]| {
            let sets = interests.each_ref().map(|it| it.of(40));
            assert_eq!(sets.iter().flatten().collect::<BTreeSet<_>>().len(), 40);
            sets.iter().skip(1).fold(sets[0].clone(), |all, set| &all & set).len()
        };
        assert_eq!(shared(&interests), 10);
        interests.iter_mut().for_each(|it| it.turn(40, &mut random));
        assert!(shared(&interests) < 10);
        interests.iter_mut().for_each(|it| it.turn(40, &mut random));
        assert_eq!(shared(&interests), 10);
    }
}
