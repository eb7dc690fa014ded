//! Sends that are repeated on purpose, with the same message id: after they were acknowledged, at once
//! and seconds later, when another broker leads; at the same time, by another client; and after they
//! were given up in the middle. Each message is stored once, and each repetition is answered with the
//! place of the first.
//!
//! What is promised of that is what the checkers demand of all sends: a value lies at one place
//! (`duplicate`), and that is the one that every producer of it was told (`one_value`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use raftmq::client::{OutgoingMessage, Producer, ProducerOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::queue::{not_sent, receive_all};
use super::{Context, Pace, Queue, Workload, started};
use crate::history::{Action, Kind};

/// Copies at the same time.
const TOGETHER: usize = 3;
/// Acknowledged messages that a sender may repeat later: some seconds of them.
const REMEMBERED: usize = 40;
/// A send is given up after up to this time, about what an acknowledgement takes.
const HASTE_MS_MAX: u64 = 20;

/// The workload.
#[derive(Clone, Debug)]
pub struct Retried {
    /// Its topic; the group is called the same.
    pub topic: String,
    /// Messages a second; about two sends each.
    pub rate_per_s: f64,
    /// Messages that may be under way.
    pub senders: usize,
}

impl Default for Retried {
    fn default() -> Self {
        Self { topic: "chaos-retried".to_owned(), rate_per_s: 60.0, senders: 24 }
    }
}

impl Workload for Retried {
    fn name(&self) -> &'static str {
        "retried"
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
        let queue = Queue { topic: self.topic.clone(), ..Queue::default() };
        tasks.spawn(receive_all(queue, context.clone()));
        tasks
    }
}

async fn send_all(retried: Retried, context: Context) {
    let mut producers = Vec::new();
    // Each copy by a client of its own, which has its own connections and chooses its own queue.
    for _ in 0..TOGETHER {
        let options = ProducerOptions::new(context.endpoints.clone(), &retried.topic);
        let start = || Producer::start(options.clone());
        let Some(producer) = started(&context.stop, start).await else { return };
        producers.push(Arc::new(producer));
    }
    let pace = Arc::new(Pace::new(retried.rate_per_s));
    let mut senders = JoinSet::new();
    for number in 0..retried.senders as u64 {
        let sender = Sender {
            topic: retried.topic.clone(),
            copies: producers.iter().map(|one| (one.clone(), context.recorder.process())).collect(),
            acknowledged: VecDeque::new(),
            random: ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 4),
            context: context.clone(),
        };
        senders.spawn(sender.run(pace.clone()));
    }
    while senders.join_next().await.is_some() {}
}

/// One message, which may be sent any number of times.
#[derive(Clone)]
struct Letter {
    value: String,
    message: OutgoingMessage,
}

struct Sender {
    topic: String,
    context: Context,
    /// Each with its number in the history, since they send at the same time.
    copies: Vec<(Arc<Producer>, u32)>,
    acknowledged: VecDeque<Letter>,
    random: ChaCha8Rng,
}

impl Sender {
    async fn run(mut self, pace: Arc<Pace>) {
        while let Some(number) = pace.turn(&self.context.stop).await {
            let value = format!("{}-{number}", self.topic);
            let message = OutgoingMessage::new(value.clone());
            let letter = Letter { value, message };
            let acknowledged = match self.random.random_range(0..4) {
                0 => self.send(0, &letter).await && self.send(1, &letter).await,
                1 => self.send_together(&letter).await,
                2 => self.send_hastily(&letter).await,
                _ => self.send(0, &letter).await,
            };
            if acknowledged {
                self.acknowledged.push_back(letter);
            }
            self.repeat_an_old_one().await;
        }
    }

    async fn send_together(&self, letter: &Letter) -> bool {
        let (one, two, three) =
            tokio::join!(self.send(0, letter), self.send(1, letter), self.send(2, letter));
        one || two || three
    }

    /// Gives up, not knowing what became of it, and sends it again at once.
    async fn send_hastily(&mut self, letter: &Letter) -> bool {
        let patience = Duration::from_millis(self.random.random_range(0..HASTE_MS_MAX));
        let begun = tokio::time::timeout(patience, self.send(0, letter)).await;
        if begun.is_err() {
            // The line of its begin stays without an end, and a process does one thing at a time.
            self.copies[0].1 = self.context.recorder.process();
        }
        self.send(1, letter).await
    }

    async fn repeat_an_old_one(&mut self) {
        let chosen = self.random.random_range(0..REMEMBERED);
        if self.acknowledged.len() > REMEMBERED {
            self.acknowledged.pop_front();
        }
        if let Some(letter) = self.acknowledged.get(chosen).cloned() {
            self.send(2, &letter).await;
        }
    }

    async fn send(&self, copy: usize, letter: &Letter) -> bool {
        let (producer, process) = &self.copies[copy];
        let action = |message_id, offset| Action::Send {
            topic: self.topic.clone(),
            value: letter.value.clone(),
            message_id: Some(message_id),
            offset,
            kind: Kind::Normal,
        };
        let id = letter.message.id.to_string();
        let operation = self.context.recorder.invoke(*process, action(id.clone(), None), None);
        match producer.send(&letter.message).await {
            Ok(sent) => {
                let offset = u64::try_from(sent.queue_offset).ok();
                operation.ok(action(sent.message_id, offset), Some(sent.broker_name));
                true
            }
            Err(error) => {
                not_sent(operation, action(id, None), &error);
                false
            }
        }
    }
}
