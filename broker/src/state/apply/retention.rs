//! Letting go of old messages, and of what is remembered about them.
//!
//! The leader decides what may go from a state that entries under way may have changed: a trim that
//! would let go of something that is needed by now does nothing.

use std::collections::BTreeMap;

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;

use super::CommandReply;
use super::Outcome;
use super::State;
use super::Step;
use super::keys;
use super::table;
use crate::state;
use crate::state::DEDUP_WINDOW_MS;
use crate::state::ENDED_WINDOW_MS;
use crate::state::Queue;

impl Step<'_> {
    pub(super) fn trim(&mut self, state: &mut State, command: &wire::Trim) -> Outcome {
        self.trim_outlived(state);
        let before = command.before_log_index;
        let cuts = self.cuts(state, before);
        let held = self.is_held(state, &cuts, command.stored_before_ms);
        if held && !planted(Bug::RetentionPastUnread) {
            // The leader decides again.
            return Ok(CommandReply::Done);
        }
        state.trimmed_before = state.trimmed_before.max(before);
        for ((topic_id, queue_id), min) in cuts {
            self.trim_queue(state, topic_id, queue_id, min);
        }
        self.forget_moved(state, before);
        self.forget(table::MESSAGE_ID, command.stored_before_ms, DEDUP_WINDOW_MS);
        self.forget(table::KEY, command.stored_before_ms, 0);
        self.forget(table::ENDED, u64::MAX, ENDED_WINDOW_MS);
        self.forget(table::RECALLED, u64::MAX, DEDUP_WINDOW_MS);
        self.batch.put(&[table::COUNTERS], &state.counters());
        Ok(CommandReply::Done)
    }

    /// Topics with a retention of their own: what is too old by now goes.
    fn trim_outlived(&mut self, state: &mut State) {
        for topic_id in state::short_lived(state) {
            let first = |queue_id, from, to| self.first_unit(topic_id, queue_id, from, to);
            for (queue_id, min) in state::outlived(state, topic_id, self.time_ms, first) {
                self.trim_queue(state, topic_id, queue_id, min);
            }
        }
    }

    /// Which queues (topic id, queue id) get another first offset when all goes that came into them
    /// before entry `before`.
    fn cuts(&self, state: &State, before: u64) -> BTreeMap<(u32, u32), u64> {
        let mut cuts = BTreeMap::new();
        for (topic_id, topic) in &state.topics {
            let lite = topic.lite.older_than(before);
            let lite = lite.filter_map(|(_, id)| Some((id, topic.queue(id)?)));
            for (queue_id, queue) in (0..).zip(&topic.queues).chain(lite) {
                let first = |from, to| self.first_unit(*topic_id, queue_id, from, to);
                let kept = |unit: &state::Unit| unit.placed_index() >= before;
                let min = state::first_where(*queue, first, kept);
                if min != queue.min {
                    cuts.insert((*topic_id, queue_id), min);
                }
            }
        }
        cuts
    }

    /// Drops the hours of a table that end before `before_ms` and before the window that must stay.
    fn forget(&mut self, table: u8, before_ms: u64, window_ms: u64) {
        let bucket = before_ms.min(self.time_ms.saturating_sub(window_ms)) / keys::BUCKET_MS;
        self.batch.delete_range(&[table], &keys::key(table, &[bucket as u32]));
    }

    fn trim_queue(&mut self, state: &mut State, topic_id: u32, queue_id: u32, min: u64) {
        let Some(topic) = state.topics.get_mut(&topic_id) else { return };
        let Some(queue) = topic.queue_mut(queue_id) else { return };
        let from = keys::offset_key(table::UNIT, &[topic_id, queue_id], queue.min);
        let to = keys::offset_key(table::UNIT, &[topic_id, queue_id], min);
        self.batch.delete_range(&from, &to);
        queue.min = min;
        let queue = *queue;
        self.put_queue(topic_id, queue_id, queue);
        if state::is_lite(queue_id) {
            let first = self.first_unit(topic_id, queue_id, queue.min, queue.max);
            let oldest = match first {
                Some((_, unit)) => Some(unit.placed_index()),
                // What this entry stored is not in the tables yet.
                None => (queue.min < queue.max).then_some(self.position.index),
            };
            topic.lite.cut(queue_id, oldest);
            self.put_lite(state, topic_id, queue_id);
        }
        self.skip_trimmed(state, topic_id, queue_id, min);
    }

    /// Drops what is known of moved index entries that are gone. One that came into its queue later stays
    /// known, and keeps its record, see [`State::needed_from`].
    fn forget_moved(&mut self, state: &State, before: u64) {
        let batch = &mut *self.batch;
        state::moved_before(self.store, before, |key, moved| {
            let stays = state.has_queue(moved.topic_id, moved.queue_id);
            if moved.placed_index < before || !stays {
                batch.delete(key);
            }
            true
        });
    }

    /// Whether a consumer group holds a message that would go: it may have come by it after the leader's
    /// decision and before the trim.
    fn is_held(&self, state: &State, cuts: &BTreeMap<(u32, u32), u64>, since_ms: u64) -> bool {
        let unit = |topic_id, queue_id, offset| {
            let key = keys::offset_key(table::UNIT, &[topic_id, queue_id], offset);
            self.get(&key).map(|value| state::Unit::decode(&value))
        };
        state.consumptions.iter().any(|(ids, consumption)| {
            consumption.each().any(|(queue_id, progress)| {
                let Some(min) = cuts.get(&(ids.1, queue_id)) else { return false };
                progress.inflight.range(..min).any(|(offset, record)| {
                    let unit = unit(ids.1, queue_id, *offset);
                    unit.is_some_and(|unit| state::is_held(record, &unit, since_ms))
                })
            })
        })
    }

    pub(super) fn put_queue(&mut self, topic_id: u32, queue_id: u32, queue: Queue) {
        let mut value = queue.min.to_be_bytes().to_vec();
        value.extend_from_slice(&queue.max.to_be_bytes());
        value.push(queue.holes.into());
        self.batch.put(&keys::key(table::QUEUE, &[topic_id, queue_id]), &value);
    }

    /// Progress moves over what is no longer there.
    fn skip_trimmed(&mut self, state: &mut State, topic_id: u32, queue_id: u32, min: u64) {
        let groups: Vec<_> =
            state.consumptions.keys().filter(|ids| ids.1 == topic_id).copied().collect();
        for ids in groups {
            let Some(progress) = state.consumption(ids).progress_mut(queue_id) else { continue };
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
