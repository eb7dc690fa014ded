//! Carrying out commands: the same on every replica, free of clocks, randomness and tasks.
//!
//! Step: 5 of the message path. A command that can not be carried out is answered with a
//! [`Rejection`] and changes nothing.

mod checkout;
mod dead_letters;
mod deliveries;
mod groups;
mod offsets;
mod retention;
mod send;
mod timers;
mod topics;
mod transactions;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use raftmq_proto::raftmq as wire;
use raftmq_raft_store::Reply;
use raftmq_raft_store::apply::Apply;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::state::Batch;
use raftmq_raft_store::state::StateStore;
use tokio::sync::broadcast;
use tokio::sync::watch;

use super::Consumption;
use super::Progress;
use super::State;
use super::keys;
use super::keys::Unit;
use super::keys::table;
use crate::command;
use crate::command::Command;
use crate::state;

/// What one command answered.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandReply {
    /// Messages were stored, in the order of the command.
    Sent(Vec<Sent>),
    /// The topic that was made.
    Topic(wire::TopicRecord),
    /// The group that was made.
    Group(wire::GroupRecord),
    /// Messages that may be delivered.
    CheckedOut(Vec<Granted>),
    /// What was due has happened.
    Fired(Fired),
    /// The delayed message was taken back, now or before.
    Recalled {
        /// Of the message.
        message_id: Bytes,
    },
    /// The transaction ended, now or before.
    Ended(wire::EndedRecord),
    /// So many messages went elsewhere.
    Moved {
        /// How many.
        count: u64,
    },
    /// The receipt now has this nonce.
    Changed {
        /// See [`wire::Receipt`].
        nonce: u64,
    },
    /// Nothing more to say.
    Done,
    /// Nothing was changed, for this reason.
    Rejected(Rejection),
}

/// Where a message was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: u64,
    /// It had been stored by an earlier send with the same message id.
    pub repeated: bool,
    /// Set while it is delayed: then it has no place yet.
    pub timer: Option<wire::Timer>,
}

/// The offset of a message that is in no queue yet.
pub const NO_OFFSET: u64 = u64::MAX;

/// What a fire did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fired {
    /// Delayed messages that came into their queues: by how many milliseconds each was late.
    pub late_ms: Vec<u64>,
    /// Half messages whose producers are to be asked.
    pub checks: Vec<Check>,
    /// Half messages that were rolled back, since nobody answered: by topic id.
    pub given_up: Vec<u32>,
}

/// A half message whose producers are to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its topic.
    pub topic_id: u32,
    /// Its transaction.
    pub transaction_id: Bytes,
    /// Where it lies.
    pub unit: Unit,
}

/// A message handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: u64,
    /// Which delivery this is, from 1.
    pub attempt: u32,
    /// Names this delivery.
    pub nonce: u64,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The topic is gone.
    #[error("the topic does not exist")]
    TopicNotFound,
    /// The group is gone.
    #[error("the consumer group does not exist")]
    GroupNotFound,
    /// The name is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// The delivery the receipt names has ended: its time ran out, or it was changed since.
    #[error("the receipt handle has expired or was replaced")]
    ReceiptExpired,
    /// No message with this timer is pending, and none was taken back.
    #[error("{0}")]
    NotPending(&'static str),
    /// No transaction with this id is pending or has ended lately.
    #[error("no transaction {0} is known: it never began, or ended more than 24 h ago")]
    TransactionNotFound(String),
    /// More filters in one group and topic than are taken.
    #[error(
        "the group receives from this topic with {0} different filters already; no more are taken"
    )]
    TooManyFilters(usize),
}

/// Called after entries were applied.
#[derive(Clone, Debug)]
pub enum Event {
    /// These topics (by id) have new messages.
    Stored(Vec<u32>),
    /// Topics, groups or everything changed.
    Metadata,
}

/// The broker's [`Apply`]: changes the shared state and tells who waits for it.
pub struct Applier {
    state: Arc<RwLock<State>>,
    events: broadcast::Sender<Event>,
    next_due: watch::Sender<u64>,
    stored: Vec<u32>,
    metadata: bool,
}

/// Events kept for a listener that is behind; one that falls further behind looks at everything.
const EVENTS_MAX: usize = 1024;

impl Applier {
    /// Applies to `state`.
    pub fn new(state: Arc<RwLock<State>>) -> Self {
        let events = broadcast::Sender::new(EVENTS_MAX);
        let next_due = watch::Sender::new(u64::MAX);
        Self { state, events, next_due, stored: Vec::new(), metadata: false }
    }

    /// Where to hear when the next timer is due, see [`State`]; `u64::MAX` without one.
    pub fn next_due(&self) -> watch::Receiver<u64> {
        self.next_due.subscribe()
    }

    /// Where to hear what was applied.
    pub fn events(&self) -> broadcast::Sender<Event> {
        self.events.clone()
    }
}

impl Apply for Applier {
    fn apply(
        &mut self,
        position: LogPosition,
        body: &Bytes,
        store: &StateStore,
        mut batch: Batch,
        write: &mut dyn FnMut(Batch),
    ) -> Reply {
        let (time_ms, commands) = match command::decode_entry(body) {
            Ok(decoded) => decoded,
            Err(error) => panic!("entry {}: {error}", position.index),
        };
        let mut state = self.state.write();
        let time_goes_back = planted(Bug::TimeGoesBack);
        state.time_ms = if time_goes_back { time_ms } else { state.time_ms.max(time_ms) };
        batch.put(&[table::COUNTERS, 1], &state.time_ms.to_be_bytes());
        let revision = state.revision;
        let mut step = Step {
            position,
            time_ms: state.time_ms,
            ordinal: 0,
            store,
            batch: &mut batch,
            written: HashMap::new(),
            stored: &mut self.stored,
        };
        let mut replies = Vec::with_capacity(commands.len());
        for (ordinal, command) in commands.into_iter().enumerate() {
            step.ordinal = ordinal as u64;
            replies.push(match step.carry_out(&mut state, command) {
                Ok(reply) => reply,
                Err(rejection) => CommandReply::Rejected(rejection),
            });
        }
        self.metadata |= state.revision != revision;
        // Readers see the change in memory only when the tables have it too.
        write(batch);
        drop(state);
        Reply(Some(Box::new(replies)))
    }

    fn load(&mut self, store: &StateStore) {
        let mut loaded = State::load(store);
        // Loaded before: a snapshot was installed.
        if planted(Bug::SnapshotForgetsInflight) && self.state.read().next_topic_id > 0 {
            for consumption in loaded.consumptions.values_mut() {
                let offsets = consumption.queues.iter().map(|progress| progress.next_offset);
                let queues =
                    offsets.map(|next_offset| Progress { next_offset, ..Progress::default() });
                *consumption = Consumption { queues: queues.collect(), ..Consumption::default() };
            }
        }
        *self.state.write() = loaded;
        self.metadata = true;
        self.applied();
    }

    fn applied(&mut self) {
        let next_due_ms = self.state.read().next_due_ms;
        self.next_due.send_if_modified(|told| std::mem::replace(told, next_due_ms) != next_due_ms);
        // Nobody listening is fine.
        if !self.stored.is_empty() {
            self.stored.sort_unstable();
            self.stored.dedup();
            let _ = self.events.send(Event::Stored(std::mem::take(&mut self.stored)));
        }
        if std::mem::take(&mut self.metadata) {
            let _ = self.events.send(Event::Metadata);
        }
    }
}

type Outcome = Result<CommandReply, Rejection>;

/// The commands of one entry.
struct Step<'a> {
    position: LogPosition,
    time_ms: u64,
    ordinal: u64,
    store: &'a StateStore,
    batch: &'a mut Batch,
    /// What this entry wrote of what it may read again: the tables do not have it yet.
    written: HashMap<Vec<u8>, Option<Vec<u8>>>,
    stored: &'a mut Vec<u32>,
}

impl Step<'_> {
    fn carry_out(&mut self, state: &mut State, command: Command) -> Outcome {
        match command {
            Command::Send(send) => self.send(state, send),
            Command::CreateTopic(command) => self.create_topic(state, command),
            Command::DeleteTopic(command) => self.delete_topic(state, &command.name),
            Command::CreateGroup(command) => self.create_group(state, command),
            Command::DeleteGroup(command) => self.delete_group(state, &command.name),
            Command::Checkout(command) => self.checkout(state, &command),
            Command::Ack(command) => self.ack(state, &command.receipt.unwrap_or_default()),
            Command::ChangeInvisible(command) => self.change_invisible(state, &command),
            Command::DeadLetter(command) => self.dead_letter(state, &command),
            Command::Renew(command) => self.renew(state, &command),
            Command::ReleaseClient(command) => self.release_client(state, &command),
            Command::Trim(command) => self.trim(state, &command),
            Command::ResetOffset(command) => self.reset_offset(state, &command),
            Command::Subscribe(command) => self.subscribe(state, command),
            Command::Unsubscribe(command) => self.unsubscribe(state, command),
            Command::Fire(command) => Ok(self.fire(state, &command)),
            Command::Recall(command) => self.recall(&command),
            Command::EndTransaction(command) => self.end_transaction(state, &command),
            Command::Redrive(command) => self.redrive(state, &command),
            Command::Discard(command) => self.discard(state, &command),
            Command::Carry(carry) => Ok(self.carry(state, &carry)),
        }
    }

    /// The value of `key`, with what this entry did to it.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.written.get(key) {
            Some(value) => value.clone(),
            None => self.store.get(key),
        }
    }

    /// Writes what a later command of this entry may read.
    fn set(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.batch.put(&key, &value);
        self.written.insert(key, Some(value));
    }

    /// Removes what a later command of this entry may read.
    fn unset(&mut self, key: Vec<u8>) {
        self.batch.delete(&key);
        self.written.insert(key, None);
    }

    /// The first index entry in `from..to` (`to` exclusive) that was there before this entry and still
    /// is.
    fn first_unit(&self, topic_id: u32, queue_id: u32, from: u64, to: u64) -> Option<(u64, Unit)> {
        let mut first = None;
        state::units(self.store, topic_id, queue_id, from, to, |offset, unit| {
            let key = keys::offset_key(table::UNIT, &[topic_id, queue_id], offset);
            if !self.written.contains_key(&key) {
                first = Some((offset, unit));
            }
            first.is_none()
        });
        first
    }

    /// Appends an index entry to a queue; the queue may be one of a topic that had more of them.
    fn place(
        &mut self,
        state: &mut State,
        topic_id: u32,
        queue_id: u32,
        unit: Unit,
    ) -> Option<(u32, u64)> {
        let topic = state.topics.get_mut(&topic_id)?;
        let queue_id = queue_id % topic.queues.len() as u32;
        let queue = &mut topic.queues[queue_id as usize];
        let offset = queue.max;
        queue.max += 1;
        let key = keys::offset_key(table::UNIT, &[topic_id, queue_id], offset);
        self.batch.put(&key, &unit.encode());
        if let Some(placed) = unit.moved_at {
            let key = keys::moved_key(unit.log_index, topic_id, queue_id, offset);
            self.set(key, placed.to_be_bytes().to_vec());
        }
        self.stored.push(topic_id);
        Some((queue_id, offset))
    }

    /// The index entry of a message whose record lies elsewhere, as it comes into a queue now.
    fn moved(&self, unit: Unit) -> Unit {
        Unit { stored_ms: self.time_ms, moved_at: Some(self.position.index), ..unit }
    }

    fn note_metadata(&mut self, state: &mut State) {
        state.revision = self.position.index;
        self.batch.put(&[table::COUNTERS], &state.counters());
    }

    fn nonce(&self) -> u64 {
        self.position.index * command::COMMANDS_MAX as u64 + self.ordinal
    }
}
