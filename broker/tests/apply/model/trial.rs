//! One sequence of commands, given to a model and to replicas that live differently.

use std::collections::HashMap;

use raftmq_broker::command::Carried;
use raftmq_broker::command::Carry;
use raftmq_broker::command::Command;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::NO_OFFSET;
use raftmq_broker::state::Rejection;
use raftmq_proto::raftmq as wire;

use super::choose;
use super::dice::Dice;
use super::reference::Answer;
use super::reference::Model;
use super::reference::Sent;
use super::reference::text;
use super::seen;
use super::seen::Seen;
use crate::replica::Replica;

/// Far from the beginning of the hours in which the state remembers.
const START_MS: u64 = 1_000_000_000_000;

pub struct Trial {
    model: Model,
    time_ms: u64,
    /// Gets each batch as one entry.
    whole: Run,
    /// Gets each batch as several entries.
    split: Run,
    /// Gets what `whole` gets, and restarts in between.
    restarting: Replica,
    /// What `whole` got.
    entries: Vec<(u64, Vec<Command>)>,
}

/// A replica, and how it calls what the model has numbers for.
struct Run {
    replica: Replica,
    nonces: HashMap<u64, u64>,
    deliveries: HashMap<u64, u64>,
    timers: HashMap<u64, wire::Timer>,
    /// First log index of each batch.
    batches: Vec<u64>,
}

impl Trial {
    pub fn new() -> Self {
        let mut trial = Self {
            model: Model::default(),
            time_ms: START_MS,
            whole: Run::new(),
            split: Run::new(),
            restarting: Replica::new(),
            entries: Vec::new(),
        };
        trial.step(&choose::first(), &mut Dice(1));
        trial
    }

    /// What arrives together, some time after the last batch.
    pub fn batch(&mut self, seed: u64, choices: &[u64]) {
        let mut dice = Dice(seed);
        self.time_ms = choose::time_ms(&self.model, self.time_ms, &mut dice);
        let batch = choose::batch(&self.model, self.time_ms, choices);
        self.step(&batch, &mut dice);
    }

    fn step(&mut self, batch: &[Command], dice: &mut Dice) {
        let time_ms = self.time_ms;
        self.model.begin(time_ms);
        let expected: Vec<Answer> = batch.iter().map(|command| self.model.apply(command)).collect();
        let expected_state = seen::of_model(&self.model);

        let translated = self.whole.begin(batch);
        let before = (self.restarting.next_index(), &translated);
        let replies = self.whole.apply(time_ms, &translated, &expected);
        assert_same(batch, &replies, &expected);
        assert_eq!(self.whole.seen(), expected_state, "after {batch:#?}, really {before:#?}");

        let again = self.restarting.apply(time_ms, &translated);
        let again = self.whole.answers(again, &expected);
        assert_same(batch, &again, &expected);
        assert_eq!(self.restarting.applied, self.whole.replica.applied, "after {batch:#?}");
        match dice.below(4) {
            0 => self.restarting.reload(),
            1 => self.restarting.install(),
            _ => (),
        }
        let restarted = seen::of_replica(&self.restarting, &self.whole.deliveries);
        assert_eq!(restarted, expected_state, "a restart after {batch:#?}");

        let translated_for_split = self.split.begin(batch);
        let (mut rest, mut expected_rest) = (&translated_for_split[..], &expected[..]);
        let mut answers = Vec::new();
        while !rest.is_empty() {
            let count = 1 + dice.below(rest.len() as u64) as usize;
            answers.extend(self.split.apply(time_ms, &rest[..count], &expected_rest[..count]));
            (rest, expected_rest) = (&rest[count..], &expected_rest[count..]);
        }
        assert_same(batch, &answers, &expected);
        assert_eq!(self.split.seen(), expected_state, "in several entries: {batch:#?}");
        self.entries.push((time_ms, translated));
    }

    /// The whole sequence gives the same once more, and a restart changes nothing.
    pub fn end(mut self) {
        let mut replay = Replica::new();
        for (time_ms, commands) in &self.entries {
            replay.apply(*time_ms, commands);
        }
        assert_eq!(replay.applied, self.whole.replica.applied, "after a replay");
        for run in [&mut self.whole, &mut self.split] {
            let before = run.seen();
            run.replica.reload();
            assert_eq!(run.seen(), before, "after a restart");
        }
    }
}

fn assert_same(batch: &[Command], answers: &[Answer], expected: &[Answer]) {
    for ((command, answer), expected) in batch.iter().zip(answers).zip(expected) {
        assert_eq!(answer, expected, "to {command:#?} in {batch:#?}");
    }
    assert_eq!(answers.len(), expected.len());
}

impl Run {
    fn new() -> Self {
        Self {
            replica: Replica::new(),
            nonces: HashMap::new(),
            deliveries: HashMap::new(),
            timers: HashMap::new(),
            // There is no batch 0.
            batches: vec![0],
        }
    }

    /// The commands of the next batch as this replica's leader would put them.
    fn begin(&mut self, batch: &[Command]) -> Vec<Command> {
        self.batches.push(self.replica.next_index());
        batch.iter().map(|command| self.translate(command.clone())).collect()
    }

    fn apply(&mut self, time_ms: u64, commands: &[Command], expected: &[Answer]) -> Vec<Answer> {
        let replies = self.replica.apply(time_ms, commands);
        self.answers(replies, expected)
    }

    fn seen(&self) -> Seen {
        seen::of_replica(&self.replica, &self.deliveries)
    }

    fn translate(&self, mut command: Command) -> Command {
        let receipt = |receipt: &mut wire::Receipt| {
            receipt.nonce = self.nonces.get(&receipt.nonce).copied().unwrap_or(u64::MAX);
        };
        match &mut command {
            Command::Ack(it) => it.receipt.iter_mut().for_each(receipt),
            Command::ChangeInvisible(it) => it.receipt.iter_mut().for_each(receipt),
            Command::DeadLetter(it) => it.receipt.iter_mut().for_each(receipt),
            Command::Renew(it) => it.receipts.iter_mut().for_each(receipt),
            Command::Recall(it) => {
                let number = it.timer.unwrap().log_index;
                it.timer = Some(self.timers[&number]);
            }
            Command::Trim(it) => {
                it.before_log_index = self.batches[it.before_log_index as usize];
            }
            Command::Carry(it) => *it = self.carry(it),
            _ => (),
        }
        command
    }

    /// The timers whose records have these texts.
    fn carry(&self, carry: &Carry) -> Carry {
        let state = self.replica.state.read();
        let timers = state.view(&self.replica.store).timers();
        let timer_of = |record: &[u8]| {
            let timer = timers.iter().find(|it| self.replica.read(&it.2).as_bytes() == record);
            timer.map(|it| it.0)
        };
        let records = carry.records.iter();
        let carried = records.filter_map(|it| {
            let timer = timer_of(&it.record)?;
            Some(Carried { timer, ..it.clone() })
        });
        Carry { records: carried.collect() }
    }

    /// The replies in the model's terms; new names are learned from those that are expected.
    fn answers(&mut self, replies: Vec<CommandReply>, expected: &[Answer]) -> Vec<Answer> {
        let both = replies.into_iter().zip(expected);
        both.map(|(reply, expected)| self.answer(reply, expected)).collect()
    }

    fn answer(&mut self, reply: CommandReply, expected: &Answer) -> Answer {
        match (&reply, expected) {
            (CommandReply::CheckedOut(granted), Answer::CheckedOut(expected)) => {
                for (granted, expected) in granted.iter().zip(expected) {
                    self.learn_delivery(expected.3, granted.nonce);
                }
            }
            (CommandReply::Changed { nonce }, Answer::Changed(delivery)) => {
                self.learn_delivery(*delivery, *nonce);
            }
            (CommandReply::Sent(sent), Answer::Sent(expected)) => {
                for (sent, expected) in sent.iter().zip(expected) {
                    if let (Some(timer), Some(number), false) =
                        (sent.timer, expected.timer, sent.repeated)
                    {
                        self.timers.insert(number, timer);
                    }
                }
            }
            _ => (),
        }
        let delivery = |nonce: &u64| self.deliveries.get(nonce).copied().unwrap_or(u64::MAX);
        match reply {
            CommandReply::Sent(sent) => {
                let number = |timer: wire::Timer| {
                    let known = self.timers.iter().find(|(_, it)| **it == timer);
                    known.map_or(u64::MAX, |(number, _)| *number)
                };
                let sent = sent.into_iter().map(|it| Sent {
                    queue_id: it.queue_id,
                    offset: (it.offset != NO_OFFSET).then_some(it.offset),
                    repeated: it.repeated,
                    timer: it.timer.map(number),
                });
                Answer::Sent(sent.collect())
            }
            CommandReply::Topic(record) => Answer::Topic(record),
            CommandReply::Group(record) => Answer::Group(record),
            CommandReply::CheckedOut(granted) => {
                let granted = granted.iter();
                let granted =
                    granted.map(|it| (it.queue_id, it.offset, it.attempt, delivery(&it.nonce)));
                Answer::CheckedOut(granted.collect())
            }
            CommandReply::Fired(fired) => Answer::Fired {
                delivered: fired.late_ms.len() as u64,
                checks: fired
                    .checks
                    .iter()
                    .map(|it| (it.topic_id, text(&it.transaction_id), self.replica.read(&it.unit)))
                    .collect(),
                given_up: fired.given_up,
            },
            CommandReply::Recalled { message_id } => Answer::Recalled(text(&message_id)),
            CommandReply::Ended(ended) => Answer::Ended(ended),
            CommandReply::Moved { count } => Answer::Moved(count),
            CommandReply::SubscribedLite { .. } => {
                unreachable!("lite topics have a model of their own")
            }
            CommandReply::Changed { nonce } => Answer::Changed(delivery(&nonce)),
            CommandReply::Done => Answer::Done,
            CommandReply::Rejected(rejection) => Answer::Refused(match rejection {
                Rejection::TopicNotFound => "no topic",
                Rejection::GroupNotFound => "no group",
                Rejection::Exists(_) => "exists",
                Rejection::ReceiptExpired => "receipt",
                Rejection::NotPending(why) if why.contains("was delivered") => "delivered",
                Rejection::NotPending(_) => "not pending",
                Rejection::TransactionNotFound(_) => "no transaction",
                Rejection::TooManyFilters(_) => "too many",
                Rejection::NotLite(_)
                | Rejection::LiteTopicGone
                | Rejection::TooManyLiteTopics { .. }
                | Rejection::TooManyLiteSubscriptions { .. } => "lite",
            }),
        }
    }

    fn learn_delivery(&mut self, delivery: u64, nonce: u64) {
        self.nonces.insert(delivery, nonce);
        self.deliveries.insert(nonce, delivery);
    }
}
