//! The model: what each command does, in the most obvious code.
//!
//! Nonces, timers and log indexes in commands are its own numbers: a delivery is named by the number
//! of the command that made it, a timer by the number of its message, an entry by that of its batch.

use std::collections::BTreeMap;

use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::command::Release;
use raftmq_broker::state::DEDUP_WINDOW_MS;
use raftmq_broker::state::ENDED_WINDOW_MS;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::ended_record::How;

const HOUR_MS: u64 = 3_600_000;

pub type Ids = (u32, u32);

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub record: String,
    pub id: String,
    pub tag: u64,
    pub group: u64,
    pub stored_ms: u64,
    pub dead_letter: bool,
    /// Batch that holds the record.
    pub written: u64,
    /// Batch that put it into its queue.
    pub placed: u64,
    /// Place of the record in the order of all records.
    pub order: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub min: u64,
    pub max: u64,
    pub messages: BTreeMap<u64, Message>,
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub record: wire::TopicRecord,
    pub queues: Vec<Queue>,
}

/// A message that is with a consumer, or held back (attempt 0).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Out {
    pub attempt: u32,
    pub visible_at_ms: u64,
    pub delivery: u64,
    pub first_delivery_ms: u64,
    pub owner: String,
    pub group: u64,
    pub attempt_hash: u64,
    /// The delivery it was until its invisible duration was changed.
    pub changed_from: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub cursor: u64,
    pub out: BTreeMap<u64, Out>,
}

#[derive(Clone, Debug, Default)]
pub struct Consumption {
    pub queues: Vec<Progress>,
    pub subscriptions: Vec<wire::Subscription>,
}

#[derive(Clone, Debug)]
pub struct Timer {
    /// Number of the message; checks have none.
    pub number: u64,
    pub due_ms: u64,
    /// Among those that are due at the same time.
    pub order: u64,
    pub topic_id: u32,
    pub queue_id: u32,
    pub message: Message,
    pub check: bool,
}

#[derive(Clone, Debug)]
pub struct Half {
    pub queue_id: u32,
    pub stored_ms: u64,
    pub checks: u32,
    pub message: Message,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub queue_id: u32,
    pub offset: Option<u64>,
    pub repeated: bool,
    pub timer: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Sent(Vec<Sent>),
    Topic(wire::TopicRecord),
    Group(wire::GroupRecord),
    /// Queue, offset, attempt, delivery.
    CheckedOut(Vec<(u32, u64, u32, u64)>),
    Fired {
        delivered: u64,
        /// Topic, transaction, record.
        checks: Vec<(u32, String, String)>,
        given_up: Vec<u32>,
    },
    Recalled(String),
    Ended(wire::EndedRecord),
    Moved(u64),
    Changed(u64),
    Done,
    Refused(&'static str),
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub time_ms: u64,
    pub batch: u64,
    /// Number of the command.
    pub command: u64,
    pub topics: BTreeMap<u32, Topic>,
    pub groups: BTreeMap<u32, wire::GroupRecord>,
    pub consumptions: BTreeMap<Ids, Consumption>,
    pub timers: Vec<Timer>,
    pub halves: BTreeMap<(u32, String), Half>,
    pub ended: BTreeMap<(u32, String), wire::EndedRecord>,
    pub trimmed_before: u64,
    /// Every receipt there ever was.
    pub receipts: Vec<wire::Receipt>,
    /// Every timer of a delayed message there ever was: topic, number, due time.
    pub handles: Vec<(u32, u64, u64)>,
    topic_count: u32,
    group_count: u32,
    record_count: u64,
    sent: BTreeMap<(u32, String), (u64, Sent)>,
    recalled: BTreeMap<u64, String>,
}

/// Of the messages before `offset` and of its message group, each is consumed or satisfies `fine`.
pub fn is_its_turn(
    progress: &Progress,
    group: u64,
    offset: u64,
    fine: impl Fn(u64, &Out) -> bool,
) -> bool {
    let before = progress.out.range(..offset);
    group == 0 || before.filter(|(_, out)| out.group == group).all(|(at, out)| fine(*at, out))
}

impl Model {
    /// How many records were written.
    pub fn records_written(&self) -> u64 {
        self.record_count
    }

    /// An entry begins.
    pub fn begin(&mut self, time_ms: u64) {
        self.batch += 1;
        self.time_ms = self.time_ms.max(time_ms);
    }

    pub fn apply(&mut self, command: &Command) -> Answer {
        self.command += 1;
        match self.carry_out(command.clone()) {
            Ok(answer) => answer,
            Err(why) => Answer::Refused(why),
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<Answer, &'static str> {
        match command {
            Command::CreateTopic(command) => self.create_topic(command),
            Command::DeleteTopic(command) => self.delete_topic(&command.name),
            Command::CreateGroup(command) => self.create_group(command),
            Command::DeleteGroup(command) => self.delete_group(&command.name),
            Command::Send(send) => self.send(send.topic_id, send.messages),
            Command::Checkout(command) => self.checkout(&command),
            Command::Ack(command) => self.ack(&command.receipt.unwrap()),
            Command::ChangeInvisible(command) => {
                self.change(&command.receipt.unwrap(), command.visible_at_ms)
            }
            Command::DeadLetter(command) => {
                self.dead_letter(&command.receipt.unwrap(), command.exhausted)
            }
            Command::Renew(command) => Ok(self.renew(&command)),
            Command::ReleaseClient(command) => Ok(self.release(&command)),
            Command::Trim(command) => Ok(self.trim(command.before_log_index)),
            Command::ResetOffset(command) => self.reset(&command),
            Command::Subscribe(command) => self.subscribe(command),
            Command::Unsubscribe(command) => Ok(self.unsubscribe(command)),
            Command::Fire(command) => Ok(self.fire(&command)),
            Command::Recall(command) => self.recall(&command),
            Command::EndTransaction(command) => self.end(&command),
            Command::Redrive(command) => self.redrive(&command),
            Command::Discard(command) => self.discard(&command),
            Command::Carry(carry) => {
                for carried in carry.records {
                    self.carry(&carried.timer);
                }
                Ok(Answer::Done)
            }
        }
    }

    // Topics and groups.

    fn create_topic(&mut self, command: wire::CreateTopic) -> Result<Answer, &'static str> {
        if self.topics.values().any(|topic| topic.record.name == command.name) {
            return Err("exists");
        }
        let record = self.add_topic(wire::TopicRecord {
            name: command.name,
            queue_count: command.queue_count,
            message_types: command.message_types,
            retention_ms: command.retention_ms,
            ..Default::default()
        });
        Ok(Answer::Topic(record))
    }

    fn add_topic(&mut self, mut record: wire::TopicRecord) -> wire::TopicRecord {
        self.topic_count += 1;
        record.id = self.topic_count;
        record.created_ms = self.time_ms;
        let queues = vec![Queue::default(); record.queue_count as usize];
        self.topics.insert(record.id, Topic { record: record.clone(), queues });
        record
    }

    fn delete_topic(&mut self, name: &str) -> Result<Answer, &'static str> {
        let id = self.topics.values().find(|topic| topic.record.name == name);
        let id = id.ok_or("no topic")?.record.id;
        self.topics.remove(&id);
        self.consumptions.retain(|ids, _| ids.1 != id);
        self.halves.retain(|(topic_id, _), _| *topic_id != id);
        Ok(Answer::Done)
    }

    fn create_group(&mut self, command: wire::CreateGroup) -> Result<Answer, &'static str> {
        if self.groups.values().any(|group| group.name == command.name) {
            return Err("exists");
        }
        self.group_count += 1;
        let record = wire::GroupRecord {
            id: self.group_count,
            name: command.name,
            max_attempts: command.max_attempts,
            created_ms: self.time_ms,
            fifo: command.fifo,
            start: command.start,
            backoff: command.backoff,
        };
        self.groups.insert(record.id, record.clone());
        Ok(Answer::Group(record))
    }

    fn delete_group(&mut self, name: &str) -> Result<Answer, &'static str> {
        let id = self.groups.values().find(|group| group.name == name).ok_or("no group")?.id;
        self.groups.remove(&id);
        self.consumptions.retain(|ids, _| ids.0 != id);
        Ok(Answer::Done)
    }

    // Sends.

    fn send(&mut self, topic: u32, messages: Vec<NewMessage>) -> Result<Answer, &'static str> {
        if !self.topics.contains_key(&topic) {
            return Err("no topic");
        }
        Ok(Answer::Sent(messages.into_iter().map(|it| self.send_one(topic, it)).collect()))
    }

    fn send_one(&mut self, topic_id: u32, new: NewMessage) -> Sent {
        self.record_count += 1;
        let id = text(&new.message_id);
        let key = (topic_id, id.clone());
        if let Some((time_ms, sent)) = self.sent.get(&key)
            && time_ms + DEDUP_WINDOW_MS >= self.time_ms
        {
            return Sent { repeated: true, ..sent.clone() };
        }
        let queue_id = new.queue_id;
        let message = Message {
            record: text(&new.record),
            id,
            tag: new.tag_hash,
            group: new.group_hash,
            stored_ms: self.time_ms,
            dead_letter: false,
            written: self.batch,
            placed: self.batch,
            order: self.record_count,
        };
        let mut sent = Sent { queue_id, offset: None, repeated: false, timer: None };
        match new.release {
            Release::At(due_ms) if due_ms > self.time_ms => {
                let number = self.record_count;
                self.handles.push((topic_id, number, due_ms));
                sent.timer = Some(number);
                self.timers.push(Timer {
                    number,
                    due_ms,
                    order: message.order,
                    topic_id,
                    queue_id,
                    message,
                    check: false,
                });
            }
            Release::AtOnce | Release::At(_) => {
                let (_, offset) = self.place(topic_id, queue_id, message);
                sent.offset = Some(offset);
            }
            Release::OnCommit(_) if self.halves.contains_key(&key) => {
                return Sent { repeated: true, ..sent };
            }
            Release::OnCommit(check_ms) => {
                self.set_check(topic_id, check_ms, &message);
                let half = Half { queue_id, stored_ms: self.time_ms, checks: 0, message };
                self.halves.insert(key.clone(), half);
            }
        }
        self.sent.insert(key, (self.time_ms, sent.clone()));
        sent
    }

    fn place(&mut self, topic_id: u32, queue_id: u32, mut message: Message) -> (u32, u64) {
        let topic = self.topics.get_mut(&topic_id).unwrap();
        let queue_id = queue_id % topic.queues.len() as u32;
        let queue = &mut topic.queues[queue_id as usize];
        message.stored_ms = self.time_ms;
        message.placed = self.batch;
        queue.messages.insert(queue.max, message);
        queue.max += 1;
        (queue_id, queue.max - 1)
    }

    // Consumers.

    fn start(&mut self, ids: Ids) {
        if self.consumptions.contains_key(&ids) {
            return;
        }
        let start = self.groups[&ids.0].start.unwrap_or_default();
        let cursor = |queue: &Queue| match start.kind() {
            wire::start::Kind::First => queue.min,
            wire::start::Kind::Last => queue.max,
            wire::start::Kind::Timestamp if start.timestamp_ms > self.time_ms => queue.max,
            wire::start::Kind::Timestamp => {
                let mut cursor = queue.min;
                for (offset, message) in &queue.messages {
                    if message.stored_ms < start.timestamp_ms {
                        cursor = offset + 1;
                    }
                }
                cursor
            }
        };
        let queues = self.topics[&ids.1].queues.iter();
        let queues = queues.map(|it| Progress { cursor: cursor(it), out: BTreeMap::new() });
        let consumption = Consumption { queues: queues.collect(), subscriptions: Vec::new() };
        self.consumptions.insert(ids, consumption);
    }

    fn checkout(&mut self, command: &wire::Checkout) -> Result<Answer, &'static str> {
        let ids = (command.group_id, command.topic_id);
        self.topics.get(&ids.1).ok_or("no topic")?;
        self.groups.get(&ids.0).ok_or("no group")?;
        self.start(ids);
        let (now, delivery) = (self.time_ms, self.command);
        let mut granted = Vec::new();
        for part in &command.queues {
            let messages = &self.topics[&ids.1].queues[part.queue_id as usize].messages;
            let consumption = self.consumptions.get_mut(&ids).unwrap();
            let progress = &mut consumption.queues[part.queue_id as usize];
            let mut give = |progress: &mut Progress, offset: u64, attempt: u32, out: Out| {
                let out = Out {
                    attempt,
                    visible_at_ms: command.visible_at_ms,
                    delivery,
                    owner: command.renew_client_id.clone(),
                    changed_from: 0,
                    ..out
                };
                granted.push((part.queue_id, offset, attempt, delivery));
                progress.out.insert(offset, out);
            };
            let with_it = |_: u64, out: &Out| out.delivery == delivery;
            for offset in &part.dropped {
                if progress.out.get(offset).is_some_and(|out| out.attempt == 0) {
                    progress.out.remove(offset);
                }
            }
            for offset in &part.reread {
                let Some(out) = progress.out.get(offset).cloned() else { continue };
                let same = out.attempt_hash != 0 && out.attempt_hash == command.attempt_hash;
                if same && is_its_turn(progress, out.group, *offset, with_it) {
                    give(progress, *offset, out.attempt, out);
                }
            }
            for offset in &part.again {
                let Some(out) = progress.out.get(offset).cloned() else { continue };
                let away = out.attempt > 0 && out.visible_at_ms > now;
                if !away && is_its_turn(progress, out.group, *offset, with_it) {
                    let first = if out.attempt == 0 { now } else { out.first_delivery_ms };
                    let attempt_hash = command.attempt_hash;
                    let out = Out { first_delivery_ms: first, attempt_hash, ..out };
                    give(progress, *offset, out.attempt + 1, out);
                }
            }
            if part.from_offset == part.next_offset || progress.cursor != part.from_offset {
                continue;
            }
            progress.cursor = part.next_offset;
            let group = |groups: &[u64], at: usize| groups.get(at).copied().unwrap_or(0);
            for (at, offset) in part.held.iter().enumerate() {
                if messages.contains_key(offset) {
                    let group = group(&part.held_groups, at);
                    progress.out.insert(*offset, Out { group, ..Default::default() });
                }
            }
            for (at, offset) in part.taken.iter().enumerate() {
                if !messages.contains_key(offset) {
                    continue;
                }
                let group = group(&part.taken_groups, at);
                let mut out = Out { group, ..Default::default() };
                if is_its_turn(progress, group, *offset, with_it) {
                    out.first_delivery_ms = now;
                    out.attempt_hash = command.attempt_hash;
                    give(progress, *offset, 1, out);
                } else {
                    progress.out.insert(*offset, out);
                }
            }
        }
        for (queue_id, offset, _, nonce) in &granted {
            let (group_id, topic_id) = ids;
            let receipt = (group_id, topic_id, *queue_id, *offset, *nonce);
            self.receipts.push(receipt_of(receipt));
        }
        Ok(Answer::CheckedOut(granted))
    }

    fn out(&mut self, receipt: &wire::Receipt) -> Option<&mut Out> {
        let consumption = self.consumptions.get_mut(&(receipt.group_id, receipt.topic_id))?;
        consumption.queues[receipt.queue_id as usize].out.get_mut(&receipt.offset)
    }

    fn remove_out(&mut self, receipt: &wire::Receipt) {
        if let Some(consumption) = self.consumptions.get_mut(&(receipt.group_id, receipt.topic_id))
        {
            consumption.queues[receipt.queue_id as usize].out.remove(&receipt.offset);
        }
    }

    /// `false`: it is consumed.
    fn is_current(&mut self, receipt: &wire::Receipt) -> Result<bool, &'static str> {
        let now = self.time_ms;
        match self.out(receipt) {
            None => Ok(false),
            Some(out) if out.delivery != receipt.nonce => Err("receipt"),
            Some(out) if out.owner.is_empty() && out.visible_at_ms <= now => Err("receipt"),
            Some(_) => Ok(true),
        }
    }

    fn ack(&mut self, receipt: &wire::Receipt) -> Result<Answer, &'static str> {
        if self.is_current(receipt)? {
            self.remove_out(receipt);
        }
        Ok(Answer::Done)
    }

    fn change(&mut self, receipt: &wire::Receipt, at: u64) -> Result<Answer, &'static str> {
        let now = self.time_ms;
        if let Some(out) = self.out(receipt)
            && out.changed_from != 0
            && out.changed_from == receipt.nonce
        {
            if out.visible_at_ms <= now {
                return Err("receipt");
            }
            out.visible_at_ms = at;
            return Ok(Answer::Changed(out.delivery));
        }
        if !self.is_current(receipt)? {
            return Err("receipt");
        }
        let delivery = self.command;
        let out = self.out(receipt).unwrap();
        out.changed_from = receipt.nonce;
        out.visible_at_ms = at;
        out.delivery = delivery;
        out.owner = String::new();
        out.attempt_hash = 0;
        self.receipts.push(wire::Receipt { nonce: delivery, ..*receipt });
        Ok(Answer::Changed(delivery))
    }

    fn renew(&mut self, command: &wire::Renew) -> Answer {
        for receipt in &command.receipts {
            if let Some(out) = self.out(receipt)
                && out.delivery == receipt.nonce
                && !out.owner.is_empty()
            {
                out.visible_at_ms = command.visible_at_ms;
            }
        }
        Answer::Done
    }

    fn release(&mut self, command: &wire::ReleaseClient) -> Answer {
        for consumption in self.consumptions.values_mut() {
            for progress in &mut consumption.queues {
                for out in progress.out.values_mut() {
                    if out.attempt > 0 && out.owner == command.client_id {
                        out.owner = String::new();
                        out.visible_at_ms = command.visible_at_ms;
                    }
                }
            }
        }
        Answer::Done
    }

    fn reset(&mut self, command: &wire::ResetOffset) -> Result<Answer, &'static str> {
        let ids = (command.group_id, command.topic_id);
        self.groups.get(&ids.0).ok_or("no group")?;
        self.topics.get(&ids.1).ok_or("no topic")?;
        self.start(ids);
        for reset in &command.queues {
            let queue = &self.topics[&ids.1].queues[reset.queue_id as usize];
            let consumption = self.consumptions.get_mut(&ids).unwrap();
            let progress = &mut consumption.queues[reset.queue_id as usize];
            progress.cursor = reset.offset.clamp(queue.min, queue.max);
            progress.out.clear();
        }
        Ok(Answer::Done)
    }

    fn subscribe(&mut self, command: wire::Subscribe) -> Result<Answer, &'static str> {
        let ids = (command.group_id, command.topic_id);
        self.topics.get(&ids.1).ok_or("no topic")?;
        self.groups.get(&ids.0).ok_or("no group")?;
        self.start(ids);
        let known = &mut self.consumptions.get_mut(&ids).unwrap().subscriptions;
        let subscription = command.subscription.unwrap();
        if !known.contains(&subscription) {
            known.push(subscription);
        }
        Ok(Answer::Done)
    }

    fn unsubscribe(&mut self, command: wire::Unsubscribe) -> Answer {
        let ids = (command.group_id, command.topic_id);
        if let Some(consumption) = self.consumptions.get_mut(&ids) {
            let gone = command.subscription.unwrap();
            consumption.subscriptions.retain(|it| *it != gone);
        }
        Answer::Done
    }

    // Timers and transactions.

    fn set_check(&mut self, topic_id: u32, due_ms: u64, message: &Message) {
        self.timers.push(Timer {
            number: 0,
            due_ms,
            order: message.order,
            topic_id,
            queue_id: 0,
            message: message.clone(),
            check: true,
        });
    }

    fn fire(&mut self, command: &wire::Fire) -> Answer {
        let until = command.until_ms.min(self.time_ms);
        self.timers.sort_by_key(|timer| (timer.due_ms, timer.order));
        let due = self.timers.iter().filter(|timer| timer.due_ms <= until).count();
        let rest = self.timers.split_off(due.min(command.count as usize));
        let due = std::mem::replace(&mut self.timers, rest);
        let (mut delivered, mut checks, mut given_up) = (0, Vec::new(), Vec::new());
        for Timer { topic_id, queue_id, message, check, .. } in due {
            if !self.topics.contains_key(&topic_id) {
                continue;
            }
            let key = (topic_id, message.id.clone());
            if !check {
                let (queue_id, offset) = self.place(topic_id, queue_id, message);
                let offset = Some(offset);
                let sent = Sent { queue_id, offset, repeated: false, timer: None };
                self.sent.insert(key, (self.time_ms, sent));
                delivered += 1;
                continue;
            }
            let half = self.halves.get_mut(&key).unwrap();
            if half.checks == command.check_max {
                self.halves.remove(&key);
                self.ended.insert(key, self.ended(How::GivenUp));
                given_up.push(topic_id);
            } else {
                half.checks += 1;
                self.set_check(topic_id, self.time_ms + command.check_interval_ms, &message);
                checks.push((topic_id, message.id, message.record));
            }
        }
        Answer::Fired { delivered, checks, given_up }
    }

    fn ended(&self, how: How) -> wire::EndedRecord {
        let ended_ms = self.time_ms;
        wire::EndedRecord { how: how.into(), ended_ms, queue_id: 0, offset: 0 }
    }

    fn end(&mut self, command: &wire::EndTransaction) -> Result<Answer, &'static str> {
        let topic_id = command.topic_id;
        self.topics.get(&topic_id).ok_or("no topic")?;
        let key = (topic_id, text(&command.transaction_id));
        let Some(half) = self.halves.remove(&key) else {
            let now = self.time_ms;
            let late = |ended: &&wire::EndedRecord| {
                ended.ended_ms / HOUR_MS >= now.saturating_sub(ENDED_WINDOW_MS) / HOUR_MS
            };
            let ended = self.ended.get(&key).filter(late).ok_or("no transaction")?;
            return Ok(Answer::Ended(*ended));
        };
        self.timers.retain(|it| !(it.check && it.topic_id == topic_id && it.message.id == key.1));
        let ended = if command.resolution == 1 {
            let (queue_id, offset) = self.place(topic_id, half.queue_id, half.message);
            let sent = Sent { queue_id, offset: Some(offset), repeated: false, timer: None };
            self.sent.insert(key.clone(), (self.time_ms, sent));
            wire::EndedRecord { queue_id, offset, ..self.ended(How::Committed) }
        } else {
            self.ended(How::RolledBack)
        };
        self.ended.insert(key, ended);
        Ok(Answer::Ended(ended))
    }

    fn recall(&mut self, command: &wire::Recall) -> Result<Answer, &'static str> {
        let timer = command.timer.unwrap();
        let number = timer.log_index;
        if let Some(at) = self.timers.iter().position(|it| !it.check && it.number == number) {
            let id = self.timers.remove(at).message.id;
            self.recalled.insert(number, id.clone());
            return Ok(Answer::Recalled(id));
        }
        let remembered =
            timer.due_ms / HOUR_MS >= self.time_ms.saturating_sub(DEDUP_WINDOW_MS) / HOUR_MS;
        match self.recalled.get(&number).filter(|_| remembered) {
            Some(id) => Ok(Answer::Recalled(id.clone())),
            None if timer.due_ms <= self.time_ms => Err("delivered"),
            None => Err("not pending"),
        }
    }

    /// The record of a timer is written anew, if that is still set.
    fn carry(&mut self, timer: &wire::Timer) {
        self.record_count += 1;
        let same = |it: &Timer| it.due_ms == timer.due_ms && it.order == timer.log_index;
        let Some(at) = self.timers.iter().position(same) else { return };
        if !self.topics.contains_key(&self.timers[at].topic_id) {
            self.timers.remove(at);
            return;
        }
        let timer = &mut self.timers[at];
        timer.message.written = self.batch;
        timer.message.order = self.record_count;
        let key = (timer.topic_id, timer.message.id.clone());
        if timer.check
            && let Some(half) = self.halves.get_mut(&key)
        {
            half.message = timer.message.clone();
        }
    }

    // Dead letters and retention.

    fn dead_letter(
        &mut self,
        receipt: &wire::Receipt,
        exhausted: bool,
    ) -> Result<Answer, &'static str> {
        let group = self.groups.get(&receipt.group_id).ok_or("no group")?.name.clone();
        let current = if exhausted {
            self.out(receipt).is_some_and(|out| out.delivery == receipt.nonce)
        } else {
            self.is_current(receipt)?
        };
        if !current {
            return Ok(Answer::Done);
        }
        let queues = &self.topics[&receipt.topic_id].queues;
        let message = queues[receipt.queue_id as usize].messages[&receipt.offset].clone();
        self.remove_out(receipt);
        let name = format!("%DLQ%{group}");
        let topic = self.topics.values().find(|topic| topic.record.name == name);
        let topic_id = match topic {
            Some(topic) => topic.record.id,
            None => {
                let dead_letters_of = group;
                let (queue_count, message_types) = (1, vec![1]);
                let record = wire::TopicRecord {
                    name,
                    queue_count,
                    message_types,
                    dead_letters_of,
                    ..Default::default()
                };
                self.add_topic(record).id
            }
        };
        self.place(topic_id, 0, Message { dead_letter: true, ..message });
        Ok(Answer::Done)
    }

    fn take_out(&mut self, topic_id: u32, queue_id: u32, offset: u64) -> Option<Message> {
        let topic = self.topics.get_mut(&topic_id)?;
        let message = topic.queues[queue_id as usize].messages.remove(&offset)?;
        for (ids, consumption) in &mut self.consumptions {
            if ids.1 == topic_id {
                consumption.queues[queue_id as usize].out.remove(&offset);
            }
        }
        Some(message)
    }

    fn redrive(&mut self, command: &wire::Redrive) -> Result<Answer, &'static str> {
        let mut count = 0;
        for it in &command.messages {
            if !self.topics.contains_key(&it.to_topic_id) {
                continue;
            }
            self.topics.get(&command.topic_id).ok_or("no topic")?;
            if let Some(message) = self.take_out(command.topic_id, it.queue_id, it.offset) {
                let message = Message { dead_letter: false, ..message };
                self.place(it.to_topic_id, it.to_queue_id, message);
                count += 1;
            }
        }
        Ok(Answer::Moved(count))
    }

    fn discard(&mut self, command: &wire::Discard) -> Result<Answer, &'static str> {
        let mut count = 0;
        for it in &command.messages {
            self.topics.get(&command.topic_id).ok_or("no topic")?;
            if self.take_out(command.topic_id, it.queue_id, it.offset).is_some() {
                count += 1;
            }
        }
        Ok(Answer::Moved(count))
    }

    fn trim(&mut self, before: u64) -> Answer {
        let queues = self.topics.values().flat_map(|topic| &topic.queues);
        let mut messages = queues.flat_map(|queue| queue.messages.values());
        if messages.any(|message| message.written < before && message.placed >= before) {
            return Answer::Done;
        }
        for (ids, consumption) in &self.consumptions {
            for (queue, progress) in self.topics[&ids.1].queues.iter().zip(&consumption.queues) {
                let goes = |offset: &u64| {
                    queue.messages.get(offset).is_some_and(|message| message.placed < before)
                };
                if progress.out.keys().any(goes) {
                    return Answer::Done;
                }
            }
        }
        self.trimmed_before = self.trimmed_before.max(before);
        for (topic_id, topic) in &mut self.topics {
            for (queue_id, queue) in topic.queues.iter_mut().enumerate() {
                let gone = queue.messages.iter().filter(|(_, message)| message.placed < before);
                let Some(last) = gone.map(|(offset, _)| *offset).max() else { continue };
                queue.min = last + 1;
                queue.messages = queue.messages.split_off(&queue.min);
                for (ids, consumption) in &mut self.consumptions {
                    if ids.1 == *topic_id {
                        let progress = &mut consumption.queues[queue_id];
                        progress.cursor = progress.cursor.max(queue.min);
                    }
                }
            }
        }
        Answer::Done
    }
}

pub fn receipt_of(
    (group_id, topic_id, queue_id, offset, nonce): (u32, u32, u32, u64, u64),
) -> wire::Receipt {
    wire::Receipt { group_id, topic_id, queue_id, offset, nonce }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
