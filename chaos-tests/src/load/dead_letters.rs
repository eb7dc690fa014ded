//! A group that allows three deliveries, and messages that are never acknowledged: some run out of time,
//! some are given back at once. The others are acknowledged, some not at the first time. Another group
//! reads the dead letters, as one would read any topic.
//!
//! The checker is `dead_letters`.

use std::time::Duration;

use raftmq_proto::raftmq as wire;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::member::Member;
use super::observe::dead_letters;
use super::queue::send_all;
use super::{Context, Queue, Workload};

/// A message that is given back comes again after this.
const GIVEN_BACK: Duration = Duration::from_millis(500);

/// The workload.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// What is sent, and where to. Its consumers are not used.
    pub queue: Queue,
    /// Deliveries after which a message is a dead letter.
    pub max_attempts: u32,
    /// Members of the group.
    pub members: usize,
}

impl Default for DeadLetters {
    fn default() -> Self {
        let topic = "chaos-dead-letters".to_owned();
        let queue = Queue { topic, rate_per_s: 25.0, senders: 16, ..Queue::default() };
        Self { queue, max_attempts: 3, members: 6 }
    }
}

impl DeadLetters {
    fn group(&self) -> &str {
        &self.queue.topic
    }

    fn reader(&self) -> String {
        format!("{}-reader", self.queue.topic)
    }
}

impl Workload for DeadLetters {
    fn name(&self) -> &'static str {
        "dead-letters"
    }

    fn topics(&self) -> Vec<String> {
        self.queue.topics()
    }

    fn groups(&self) -> Vec<(String, String)> {
        let own = (self.group().to_owned(), self.queue.topic.clone());
        vec![own, (self.reader(), dead_letters(self.group()))]
    }

    fn make_groups(&self) -> Vec<wire::CreateGroupRequest> {
        let (name, max_attempts) = (self.group().to_owned(), self.max_attempts);
        let own = wire::CreateGroupRequest { name, max_attempts, ..Default::default() };
        vec![own, wire::CreateGroupRequest { name: self.reader(), ..Default::default() }]
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let sending = send_all(self.queue.clone(), context.clone());
        tasks.spawn(context.sending.track_future(sending));
        for number in 0..self.members as u64 {
            let random = ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 11);
            if let Some(member) = Member::join(context, self.group(), &self.queue.topic) {
                tasks.spawn(consume(member, self.max_attempts, random));
            }
        }
        let reader = Member::join(context, &self.reader(), &dead_letters(self.group()));
        tasks.spawn(async move {
            if let Some(reader) = reader {
                read(reader).await;
            }
        });
        tasks
    }
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is acknowledged.
    Taken,
    /// Its time runs out, each time.
    Forgotten,
    /// It is given back, each time.
    GivenBack,
}

fn fate(value: &str) -> Fate {
    let number = value.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok());
    match number.map(|number| number % 16) {
        Some(3) => Fate::Forgotten,
        Some(7 | 11) => Fate::GivenBack,
        _ => Fate::Taken,
    }
}

async fn consume(mut member: Member, max_attempts: u32, mut random: ChaCha8Rng) {
    while !member.context.end.is_cancelled() {
        for mut delivery in member.receive(16).await {
            match fate(&delivery.seen.value) {
                Fate::Forgotten => (),
                Fate::GivenBack => member.postpone(&mut delivery, GIVEN_BACK).await,
                // Not the last one: an answer that is lost must not make it a dead letter.
                Fate::Taken
                    if delivery.seen.attempt + 1 < max_attempts && random.random_bool(0.03) => {}
                Fate::Taken => _ = member.ack(&delivery).await,
            }
        }
    }
}

/// Reads dead letters. Until there is a first one there is nothing to read from.
pub(super) async fn read(mut reader: Member) {
    while !reader.context.end.is_cancelled() {
        let letters = reader.receive(16).await;
        if letters.is_empty() {
            tokio::time::sleep(GIVEN_BACK).await;
        }
        for letter in letters {
            reader.ack(&letter).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_five_is_never_acknowledged() {
        let fates: Vec<Fate> = (0..160).map(|number| fate(&format!("t-{number}"))).collect();
        let count = |wanted| fates.iter().filter(|fate| **fate == wanted).count();
        assert_eq!([count(Fate::Forgotten), count(Fate::GivenBack)], [10, 20]);
    }
}
