//! Carrying out commands: the same on every replica, free of clocks, randomness and tasks.
//!
//! Step: 5 of the message path. A command that can not be carried out is answered with a
//! [`Rejection`] and changes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_raft_store::Reply;
use raftmq_raft_store::apply::Apply;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::state::Batch;
use raftmq_raft_store::state::StateStore;
use tokio::sync::broadcast;

use super::DEAD_LETTER_PREFIX;
use super::DEDUP_WINDOW_MS;
use super::Queue;
use super::State;
use super::Topic;
use super::keys;
use super::keys::Unit;
use super::keys::table;
use crate::command;
use crate::command::Command;
use crate::command::Send;

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
    stored: Vec<u32>,
    metadata: bool,
}

/// Events kept for a listener that is behind; one that falls further behind looks at everything.
const EVENTS_MAX: usize = 1024;

impl Applier {
    /// Applies to `state`.
    pub fn new(state: Arc<RwLock<State>>) -> Self {
        let events = broadcast::Sender::new(EVENTS_MAX);
        Self { state, events, stored: Vec::new(), metadata: false }
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
            message_ids: HashMap::new(),
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
                consumption.due.clear();
                consumption.queues.iter_mut().for_each(|progress| progress.inflight.clear());
            }
        }
        *self.state.write() = loaded;
        self.metadata = true;
        self.applied();
    }

    fn applied(&mut self) {
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
    /// Ids stored by this entry, which the tables do not have yet.
    message_ids: HashMap<(u32, Bytes), Sent>,
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
        }
    }

    fn send(&mut self, state: &mut State, send: Send) -> Outcome {
        let topic = state.topics.get_mut(&send.topic_id).ok_or(Rejection::TopicNotFound)?;
        let mut sent = Vec::with_capacity(send.messages.len());
        for mut message in send.messages {
            if planted(Bug::DedupNotReplicated) {
                let term = self.position.term.to_be_bytes();
                message.message_id = [&term[..], &message.message_id].concat().into();
            }
            if let Some(first) = self.sent_before(send.topic_id, &message.message_id) {
                sent.push(first);
                continue;
            }
            // A topic that was made anew may have fewer queues than the leader knew.
            let queue_id = message.queue_id % topic.queues.len() as u32;
            let offset = topic.queues[queue_id as usize].max;
            let unit = Unit {
                log_index: self.position.index,
                offset: message.record_offset,
                length: message.record.len() as u32,
                tag_hash: message.tag_hash,
                stored_ms: self.time_ms,
                dead_letter: false,
            };
            self.put_unit(send.topic_id, queue_id, offset, unit);
            topic.queues[queue_id as usize].max = offset + 1;
            let place = Sent { queue_id, offset, repeated: false };
            self.remember(send.topic_id, message.message_id, place.clone());
            sent.push(place);
        }
        self.stored.push(send.topic_id);
        Ok(CommandReply::Sent(sent))
    }

    /// Where the message was stored, when its id was seen within the window.
    fn sent_before(&self, topic_id: u32, message_id: &Bytes) -> Option<Sent> {
        if let Some(sent) = self.message_ids.get(&(topic_id, message_id.clone())) {
            return Some(Sent { repeated: true, ..sent.clone() });
        }
        let too_short = planted(Bug::MessageIdWindowTooShort);
        let window_ms = if too_short { 2_000 } else { DEDUP_WINDOW_MS };
        let window_start = self.time_ms.saturating_sub(window_ms);
        let buckets = window_start / keys::BUCKET_MS..=self.time_ms / keys::BUCKET_MS;
        for bucket in buckets.rev() {
            let key = keys::message_id_key(bucket * keys::BUCKET_MS, topic_id, message_id);
            if let Some(value) = self.store.get(&key)
                && keys::u64_at(&value, 12) >= window_start
            {
                let (queue_id, offset) = (keys::u32_at(&value, 0), keys::u64_at(&value, 4));
                return Some(Sent { queue_id, offset, repeated: true });
            }
        }
        None
    }

    fn remember(&mut self, topic_id: u32, message_id: Bytes, sent: Sent) {
        let mut value = Vec::with_capacity(20);
        value.extend_from_slice(&sent.queue_id.to_be_bytes());
        value.extend_from_slice(&sent.offset.to_be_bytes());
        value.extend_from_slice(&self.time_ms.to_be_bytes());
        self.batch.put(&keys::message_id_key(self.time_ms, topic_id, &message_id), &value);
        self.message_ids.insert((topic_id, message_id), sent);
    }

    fn put_unit(&mut self, topic_id: u32, queue_id: u32, offset: u64, unit: Unit) {
        let key = keys::offset_key(table::UNIT, &[topic_id, queue_id], offset);
        self.batch.put(&key, &unit.encode());
    }

    fn create_topic(&mut self, state: &mut State, command: wire::CreateTopic) -> Outcome {
        if state.topic_ids.contains_key(&command.name) {
            return Err(Rejection::Exists(format!("topic {}", command.name)));
        }
        let record = self.add_topic(
            state,
            wire::TopicRecord {
                name: command.name,
                queue_count: command.queue_count.max(1),
                message_type: command.message_type,
                retention_ms: command.retention_ms,
                ..Default::default()
            },
        );
        Ok(CommandReply::Topic(record))
    }

    fn add_topic(&mut self, state: &mut State, record: wire::TopicRecord) -> wire::TopicRecord {
        let record =
            wire::TopicRecord { id: state.next_topic_id, created_ms: self.time_ms, ..record };
        state.next_topic_id += 1;
        self.batch.put(&keys::key(table::TOPIC, &[record.id]), &record.encode_to_vec());
        state.topic_ids.insert(record.name.clone(), record.id);
        let queues = vec![Queue::default(); record.queue_count as usize];
        state.topics.insert(record.id, Topic { record: record.clone(), queues });
        self.note_metadata(state);
        record
    }

    fn delete_topic(&mut self, state: &mut State, name: &str) -> Outcome {
        let id = state.topic_ids.remove(name).ok_or(Rejection::TopicNotFound)?;
        state.topics.remove(&id);
        self.batch.delete(&keys::key(table::TOPIC, &[id]));
        for table in [table::QUEUE, table::UNIT] {
            let prefix = keys::key(table, &[id]);
            self.batch.delete_range(&prefix, &keys::end_of(&prefix));
        }
        let consumed: Vec<_> =
            state.consumptions.keys().filter(|ids| ids.1 == id).copied().collect();
        for ids in consumed {
            self.remove_consumption(state, ids);
        }
        self.note_metadata(state);
        Ok(CommandReply::Done)
    }

    fn create_group(&mut self, state: &mut State, command: wire::CreateGroup) -> Outcome {
        if state.group_ids.contains_key(&command.name) {
            return Err(Rejection::Exists(format!("consumer group {}", command.name)));
        }
        let record = wire::GroupRecord {
            id: state.next_group_id,
            name: command.name,
            max_attempts: command.max_attempts.max(1),
            created_ms: self.time_ms,
        };
        state.next_group_id += 1;
        self.batch.put(&keys::key(table::GROUP, &[record.id]), &record.encode_to_vec());
        state.group_ids.insert(record.name.clone(), record.id);
        state.groups.insert(record.id, record.clone());
        self.note_metadata(state);
        Ok(CommandReply::Group(record))
    }

    fn delete_group(&mut self, state: &mut State, name: &str) -> Outcome {
        let id = state.group_ids.remove(name).ok_or(Rejection::GroupNotFound)?;
        state.groups.remove(&id);
        self.batch.delete(&keys::key(table::GROUP, &[id]));
        let consumed: Vec<_> =
            state.consumptions.keys().filter(|ids| ids.0 == id).copied().collect();
        for ids in consumed {
            self.remove_consumption(state, ids);
        }
        self.note_metadata(state);
        Ok(CommandReply::Done)
    }

    fn remove_consumption(&mut self, state: &mut State, ids: (u32, u32)) {
        state.consumptions.remove(&ids);
        for table in [table::PROGRESS, table::INFLIGHT] {
            let prefix = keys::key(table, &[ids.0, ids.1]);
            self.batch.delete_range(&prefix, &keys::end_of(&prefix));
        }
    }

    fn note_metadata(&mut self, state: &mut State) {
        state.revision = self.position.index;
        self.batch.put(&[table::COUNTERS], &state.counters());
    }

    fn nonce(&self) -> u64 {
        self.position.index * command::COMMANDS_MAX as u64 + self.ordinal
    }

    fn checkout(&mut self, state: &mut State, command: &wire::Checkout) -> Outcome {
        let ids = (command.group_id, command.topic_id);
        let queue_count = state.topics.get(&ids.1).ok_or(Rejection::TopicNotFound)?.queues.len();
        if !state.groups.contains_key(&ids.0) {
            return Err(Rejection::GroupNotFound);
        }
        self.begin_consumption(state, ids);
        let mut granted = Vec::new();
        for part in &command.queues {
            if part.queue_id as usize >= queue_count {
                continue;
            }
            self.check_out_again(state, command, part, &mut granted);
            self.check_out_new(state, command, part, &mut granted);
        }
        Ok(CommandReply::CheckedOut(granted))
    }

    /// A group that consumes from a topic for the first time begins at the first message of each
    /// queue. Written down at once: the beginning must not move with what retention does later.
    fn begin_consumption(&mut self, state: &mut State, ids: (u32, u32)) {
        if state.consumptions.contains_key(&ids) {
            return;
        }
        for (queue_id, progress) in (0..).zip(&state.consumption(ids).queues) {
            let key = keys::key(table::PROGRESS, &[ids.0, ids.1, queue_id]);
            self.batch.put(&key, &progress.next_offset.to_be_bytes());
        }
    }

    /// Messages whose time ran out: delivered once more.
    fn check_out_again(
        &mut self,
        state: &mut State,
        command: &wire::Checkout,
        part: &wire::QueueCheckout,
        granted: &mut Vec<Granted>,
    ) {
        let ids = (command.group_id, command.topic_id);
        for offset in &part.again {
            let consumption = state.consumption(ids);
            let inflight = &consumption.queue(part.queue_id as usize).inflight;
            let Some(record) = inflight.get(offset) else { continue };
            if record.visible_at_ms > self.time_ms {
                continue;
            }
            let record = wire::InflightRecord {
                attempt: record.attempt + u32::from(!planted(Bug::LostAttemptCount)),
                visible_at_ms: command.visible_at_ms,
                nonce: self.nonce(),
                first_delivery_ms: record.first_delivery_ms,
                renew_client_id: command.renew_client_id.clone(),
            };
            granted.push(Granted {
                queue_id: part.queue_id,
                offset: *offset,
                attempt: record.attempt,
                nonce: record.nonce,
            });
            self.put_inflight(state, ids, part.queue_id, *offset, record);
        }
    }

    /// Messages never handed out. The leader reserved them in order; a checkout that does not begin
    /// at the cursor was overtaken by a change of leader and hands out nothing.
    fn check_out_new(
        &mut self,
        state: &mut State,
        command: &wire::Checkout,
        part: &wire::QueueCheckout,
        granted: &mut Vec<Granted>,
    ) {
        let ids = (command.group_id, command.topic_id);
        if part.next_offset == part.from_offset {
            return;
        }
        let progress = state.consumption(ids).queue(part.queue_id as usize);
        if progress.next_offset != part.from_offset {
            return;
        }
        progress.next_offset = part.next_offset;
        let late = planted(Bug::OffsetPersistedLate);
        if !late || part.from_offset / 32 != part.next_offset / 32 {
            self.batch.put(
                &keys::key(table::PROGRESS, &[ids.0, ids.1, part.queue_id]),
                &part.next_offset.to_be_bytes(),
            );
        }
        for offset in &part.taken {
            let record = wire::InflightRecord {
                attempt: 1,
                visible_at_ms: command.visible_at_ms,
                nonce: self.nonce(),
                first_delivery_ms: self.time_ms,
                renew_client_id: command.renew_client_id.clone(),
            };
            granted.push(Granted {
                queue_id: part.queue_id,
                offset: *offset,
                attempt: 1,
                nonce: record.nonce,
            });
            self.put_inflight(state, ids, part.queue_id, *offset, record);
        }
    }

    fn put_inflight(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        queue_id: u32,
        offset: u64,
        record: wire::InflightRecord,
    ) {
        let key = keys::offset_key(table::INFLIGHT, &[ids.0, ids.1, queue_id], offset);
        self.batch.put(&key, &record.encode_to_vec());
        let consumption = state.consumption(ids);
        let visible_at = record.visible_at_ms;
        let before = consumption.queue(queue_id as usize).inflight.insert(offset, record);
        if let Some(before) = before {
            consumption.due.remove(&(before.visible_at_ms, queue_id, offset));
        }
        consumption.due.insert((visible_at, queue_id, offset));
    }

    fn remove_inflight(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        queue_id: u32,
        offset: u64,
    ) -> Option<wire::InflightRecord> {
        let consumption = state.consumptions.get_mut(&ids)?;
        let record = consumption.queues.get_mut(queue_id as usize)?.inflight.remove(&offset)?;
        consumption.due.remove(&(record.visible_at_ms, queue_id, offset));
        self.batch.delete(&keys::offset_key(table::INFLIGHT, &[ids.0, ids.1, queue_id], offset));
        Some(record)
    }

    /// Whether the receipt names a delivery under way. `Ok(false)`: that message is consumed already.
    fn is_current(&self, state: &State, receipt: &wire::Receipt) -> Result<bool, Rejection> {
        let Some(record) = state.inflight(receipt) else { return Ok(false) };
        // Without a renewing owner the client was told when its time ends.
        let in_time = !record.renew_client_id.is_empty() || record.visible_at_ms > self.time_ms;
        let same = record.nonce == receipt.nonce || planted(Bug::AckWrongAttempt);
        if same && in_time { Ok(true) } else { Err(Rejection::ReceiptExpired) }
    }

    fn ack(&mut self, state: &mut State, receipt: &wire::Receipt) -> Outcome {
        if self.is_current(state, receipt)? {
            let ids = (receipt.group_id, receipt.topic_id);
            self.remove_inflight(state, ids, receipt.queue_id, receipt.offset);
        }
        Ok(CommandReply::Done)
    }

    fn change_invisible(&mut self, state: &mut State, command: &wire::ChangeInvisible) -> Outcome {
        let receipt = command.receipt.unwrap_or_default();
        if !self.is_current(state, &receipt)? {
            return Err(Rejection::ReceiptExpired);
        }
        let Some(record) = state.inflight(&receipt).cloned() else {
            return Err(Rejection::ReceiptExpired);
        };
        let nonce = self.nonce();
        let record = wire::InflightRecord {
            visible_at_ms: command.visible_at_ms,
            nonce,
            // Whoever asks for a time gets that time: no more renewal.
            renew_client_id: String::new(),
            ..record
        };
        let ids = (receipt.group_id, receipt.topic_id);
        self.put_inflight(state, ids, receipt.queue_id, receipt.offset, record);
        Ok(CommandReply::Changed { nonce })
    }

    fn dead_letter(&mut self, state: &mut State, command: &wire::DeadLetter) -> Outcome {
        let receipt = command.receipt.unwrap_or_default();
        let ids = (receipt.group_id, receipt.topic_id);
        let group = state.groups.get(&ids.0).ok_or(Rejection::GroupNotFound)?.clone();
        let current = if command.exhausted {
            state.inflight(&receipt).is_some_and(|record| record.nonce == receipt.nonce)
        } else {
            self.is_current(state, &receipt)?
        };
        if !current {
            // Done before: a repetition is answered like the first.
            return Ok(CommandReply::Done);
        }
        let unit = super::unit(self.store, receipt.topic_id, receipt.queue_id, receipt.offset);
        self.remove_inflight(state, ids, receipt.queue_id, receipt.offset);
        let Some(unit) = unit else { return Ok(CommandReply::Done) };
        let name = format!("{DEAD_LETTER_PREFIX}{}", group.name);
        let topic_id = match state.topic_ids.get(&name) {
            Some(id) => *id,
            None => {
                let record = wire::TopicRecord {
                    name,
                    queue_count: 1,
                    message_type: 1,
                    dead_letters_of: group.name,
                    ..Default::default()
                };
                let id = self.add_topic(state, record).id;
                if planted(Bug::DeadLetterDropped) {
                    return Ok(CommandReply::Done);
                }
                id
            }
        };
        if let Some(queue) = state.topics.get_mut(&topic_id).and_then(|t| t.queues.first_mut()) {
            let offset = queue.max;
            queue.max += 1;
            let unit = Unit { stored_ms: self.time_ms, dead_letter: true, ..unit };
            self.put_unit(topic_id, 0, offset, unit);
            self.stored.push(topic_id);
        }
        Ok(CommandReply::Done)
    }

    fn renew(&mut self, state: &mut State, command: &wire::Renew) -> Outcome {
        for receipt in &command.receipts {
            let Some(record) = state.inflight(receipt).cloned() else { continue };
            if record.nonce != receipt.nonce || record.renew_client_id.is_empty() {
                continue;
            }
            let record = wire::InflightRecord { visible_at_ms: command.visible_at_ms, ..record };
            let ids = (receipt.group_id, receipt.topic_id);
            self.put_inflight(state, ids, receipt.queue_id, receipt.offset, record);
        }
        Ok(CommandReply::Done)
    }

    fn release_client(&mut self, state: &mut State, command: &wire::ReleaseClient) -> Outcome {
        let mut released = Vec::new();
        for (ids, consumption) in &state.consumptions {
            for (queue_id, progress) in consumption.queues.iter().enumerate() {
                for (offset, record) in &progress.inflight {
                    if record.renew_client_id == command.client_id {
                        released.push((*ids, queue_id as u32, *offset, record.clone()));
                    }
                }
            }
        }
        for (ids, queue_id, offset, record) in released {
            let record = wire::InflightRecord {
                visible_at_ms: command.visible_at_ms,
                renew_client_id: String::new(),
                ..record
            };
            self.put_inflight(state, ids, queue_id, offset, record);
        }
        Ok(CommandReply::Done)
    }

    fn trim(&mut self, state: &mut State, command: &wire::Trim) -> Outcome {
        let before = command.before_log_index;
        state.trimmed_before = state.trimmed_before.max(before);
        let topic_ids: Vec<u32> = state.topics.keys().copied().collect();
        for topic_id in topic_ids {
            self.trim_topic(state, topic_id, before, command.dead_letters_before_ms);
        }
        // Only whole buckets that end before the time, so that nothing within the window goes.
        let buckets_before =
            command.dead_letters_before_ms.min(self.time_ms.saturating_sub(DEDUP_WINDOW_MS))
                / keys::BUCKET_MS;
        self.batch.delete_range(
            &[table::MESSAGE_ID],
            &keys::key(table::MESSAGE_ID, &[buckets_before as u32]),
        );
        self.batch.put(&[table::COUNTERS], &state.counters());
        Ok(CommandReply::Done)
    }

    fn trim_topic(&mut self, state: &mut State, topic_id: u32, before: u64, before_ms: u64) {
        let Some(topic) = state.topics.get(&topic_id) else { return };
        let dead_letters = !topic.record.dead_letters_of.is_empty();
        let gone = |unit: &Unit| {
            if dead_letters { unit.stored_ms < before_ms } else { unit.log_index < before }
        };
        let queues = topic.queues.clone();
        for (queue_id, queue) in queues.into_iter().enumerate() {
            let queue_id = queue_id as u32;
            let min = self.first_kept(topic_id, queue_id, queue, &gone);
            if min == queue.min {
                continue;
            }
            let from = keys::offset_key(table::UNIT, &[topic_id, queue_id], queue.min);
            let to = keys::offset_key(table::UNIT, &[topic_id, queue_id], min);
            self.batch.delete_range(&from, &to);
            let mut value = min.to_be_bytes().to_vec();
            value.extend_from_slice(&queue.max.to_be_bytes());
            self.batch.put(&keys::key(table::QUEUE, &[topic_id, queue_id]), &value);
            if let Some(topic) = state.topics.get_mut(&topic_id) {
                topic.queues[queue_id as usize].min = min;
            }
            self.skip_trimmed(state, topic_id, queue_id, min);
        }
    }

    /// First offset of the queue that stays. Units are in storing order, so this is a binary search.
    fn first_kept(
        &self,
        topic_id: u32,
        queue_id: u32,
        queue: Queue,
        gone: &impl Fn(&Unit) -> bool,
    ) -> u64 {
        let (mut low, mut high) = (queue.min, queue.max);
        while low < high {
            let middle = low + (high - low) / 2;
            match super::unit(self.store, topic_id, queue_id, middle) {
                Some(unit) if gone(&unit) => low = middle + 1,
                // Absent: stored by this very entry, and so not in the tables yet.
                _ => high = middle,
            }
        }
        low
    }

    /// Progress moves over what is no longer there.
    fn skip_trimmed(&mut self, state: &mut State, topic_id: u32, queue_id: u32, min: u64) {
        let groups: Vec<_> =
            state.consumptions.keys().filter(|ids| ids.1 == topic_id).copied().collect();
        for ids in groups {
            let progress = state.consumption(ids).queue(queue_id as usize);
            let lost: Vec<u64> =
                progress.inflight.range(..min).map(|(offset, _)| *offset).collect();
            if progress.next_offset < min {
                progress.next_offset = min;
                let key = keys::key(table::PROGRESS, &[ids.0, ids.1, queue_id]);
                self.batch.put(&key, &min.to_be_bytes());
            }
            for offset in lost {
                self.remove_inflight(state, ids, queue_id, offset);
            }
        }
    }
}
