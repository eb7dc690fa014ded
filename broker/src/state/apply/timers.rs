//! What happens at a time: delayed messages come into their queues, half messages are checked.
//!
//! Timers are in the tables only; a million of them cost disk. The log holds their records, and what
//! would outlive its segment is carried to the tail.

use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;

use super::CommandReply;
use super::Fired;
use super::Outcome;
use super::Rejection;
use super::Sent;
use super::State;
use super::Step;
use super::Unit;
use super::keys;
use super::table;
use crate::command::Carry;
use crate::state;
use crate::state::DEDUP_WINDOW_MS;
use crate::timers::EARLY_MS;

impl Step<'_> {
    /// Keeps a message until its time.
    pub(super) fn delay(
        &mut self,
        state: &mut State,
        topic_id: u32,
        queue_id: u32,
        due_ms: u64,
        unit: Unit,
        message_id: &[u8],
    ) -> wire::Timer {
        let record = wire::TimerRecord {
            topic_id,
            queue_id,
            unit: unit.encode().into(),
            message_id: message_id.to_vec().into(),
            check: false,
        };
        self.set_timer(state, due_ms, &unit, &record)
    }

    pub(super) fn set_timer(
        &mut self,
        state: &mut State,
        due_ms: u64,
        unit: &Unit,
        record: &wire::TimerRecord,
    ) -> wire::Timer {
        let timer = wire::Timer { due_ms, log_index: unit.log_index, offset: unit.offset };
        self.set(keys::timer_key(&timer), record.encode_to_vec());
        self.batch.put(&keys::timer_by_log_key(unit, &timer), &[]);
        state.next_due_ms = state.next_due_ms.min(due_ms);
        timer
    }

    /// The record of a timer that is set.
    fn timer(&self, timer: &wire::Timer) -> Option<wire::TimerRecord> {
        self.get(&keys::timer_key(timer)).map(|value| state::decode(&value))
    }

    pub(super) fn remove_timer(&mut self, timer: &wire::Timer, unit: &Unit) {
        self.unset(keys::timer_key(timer));
        self.batch.delete(&keys::timer_by_log_key(unit, timer));
    }

    pub(super) fn fire(&mut self, state: &mut State, command: &wire::Fire) -> CommandReply {
        let early_ms = if planted(Bug::TimerFiresEarly) { EARLY_MS } else { 0 };
        let until_ms = command.until_ms.min(self.time_ms + early_ms);
        let count = command.count as usize;
        let timers = self.first_timers(until_ms, count + 1);
        let due = timers.iter().take(count).take_while(|timer| timer.due_ms <= until_ms).count();
        state.next_due_ms = timers.get(due).map_or(u64::MAX, |timer| timer.due_ms);
        let mut fired = Fired::default();
        for timer in &timers[..due] {
            let Some(record) = self.timer(timer) else { continue };
            let unit = Unit::decode(&record.unit);
            self.remove_timer(timer, &unit);
            if record.check {
                self.check(state, command, &record, unit, &mut fired);
            } else if self.deliver(state, &record, unit) {
                fired.late_ms.push(self.time_ms.saturating_sub(timer.due_ms));
            }
        }
        CommandReply::Fired(fired)
    }

    /// The first `count` timers in the order in which they fire, as far as there are so many up to
    /// `until_ms`, and otherwise one behind that.
    fn first_timers(&self, until_ms: u64, count: usize) -> Vec<wire::Timer> {
        // What this entry set is not in the tables yet; what it removed is still there.
        let set = self.written.iter().filter(|(_, value)| value.is_some());
        let set = set.map(|(key, _)| key).filter(|key| key[0] == table::TIMER);
        let mut found: Vec<Vec<u8>> = set.cloned().collect();
        let mut wanted = count;
        self.store.scan(&[table::TIMER], &[table::TIMER + 1], |key, _| {
            if self.written.contains_key(key) {
                return true;
            }
            found.push(key.to_vec());
            wanted = wanted.saturating_sub(1);
            wanted > 0 && keys::timer_at(key, 1).due_ms <= until_ms
        });
        found.sort_unstable();
        found.iter().map(|key| keys::timer_at(key, 1)).collect()
    }

    /// A delayed message comes into its queue, unless its topic is gone.
    fn deliver(&mut self, state: &mut State, record: &wire::TimerRecord, unit: Unit) -> bool {
        let unit = self.moved(unit);
        let place = self.place(state, record.topic_id, record.queue_id, unit);
        let Some((queue_id, offset)) = place else { return false };
        let sent = Sent { queue_id, offset, repeated: false, timer: None };
        self.remember(record.topic_id, &record.message_id, &sent);
        true
    }

    pub(super) fn recall(&mut self, command: &wire::Recall) -> Outcome {
        let timer = command.timer.unwrap_or_default();
        let recalled = keys::recalled_key(&timer);
        let record = self.timer(&timer).filter(|it| !it.check && it.topic_id == command.topic_id);
        if let Some(record) = record {
            if planted(Bug::RecallIgnored) {
                return Ok(CommandReply::Recalled { message_id: record.message_id });
            }
            self.remove_timer(&timer, &Unit::decode(&record.unit));
            self.set(recalled, record.message_id.to_vec());
            return Ok(CommandReply::Recalled { message_id: record.message_id });
        }
        let hours = |ms: u64| ms / keys::BUCKET_MS;
        // As a trim forgets them, whether there was one or not.
        let remembered = hours(timer.due_ms) >= hours(self.time_ms.saturating_sub(DEDUP_WINDOW_MS));
        if remembered && let Some(message_id) = self.get(&recalled) {
            return Ok(CommandReply::Recalled { message_id: message_id.into() });
        }
        Err(Rejection::NotPending(if timer.due_ms <= self.time_ms {
            "the message was delivered, or never existed: it can no longer be recalled"
        } else {
            "no delayed message with this recall handle is pending in this topic"
        }))
    }

    /// Timers whose records now lie in this entry.
    pub(super) fn carry(&mut self, state: &mut State, carry: &Carry) -> CommandReply {
        for carried in &carry.records {
            let Some(record) = self.timer(&carried.timer) else { continue };
            let before = Unit::decode(&record.unit);
            if !state.topics.contains_key(&record.topic_id) {
                self.remove_timer(&carried.timer, &before);
                continue;
            }
            let unit = Unit {
                log_index: self.position.index,
                offset: carried.record_offset,
                length: carried.record.len() as u32,
                ..before
            };
            let encoded = unit.encode();
            self.batch.delete(&keys::timer_by_log_key(&before, &carried.timer));
            self.batch.put(&keys::timer_by_log_key(&unit, &carried.timer), &[]);
            if record.check {
                self.carry_half(&record, &encoded);
            }
            let record = wire::TimerRecord { unit: encoded.into(), ..record };
            self.set(keys::timer_key(&carried.timer), record.encode_to_vec());
        }
        CommandReply::Done
    }
}
