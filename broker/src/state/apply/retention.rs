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
use crate::state::Moved;
use crate::state::Queue;

impl Step<'_> {
    pub(super) fn trim(&mut self, state: &mut State, command: &wire::Trim) -> Outcome {
        self.trim_outlived(state);
        let before = command.before_log_index;
        let cuts = self.cuts(state, before);
        let overtaken = self.is_moved_across(state, before) || is_held(state, &cuts);
        if overtaken && !planted(Bug::RetentionPastUnread) {
            // The leader decides again.
            return Ok(CommandReply::Done);
        }
        state.trimmed_before = state.trimmed_before.max(before);
        for ((topic_id, queue_id), min) in cuts {
            self.trim_queue(state, topic_id, queue_id, min);
        }
        let mut moved_end = vec![table::MOVED];
        moved_end.extend_from_slice(&before.to_be_bytes());
        self.batch.delete_range(&[table::MOVED], &moved_end);
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
            for (queue_id, queue) in (0..).zip(&topic.queues) {
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
        let queue = &mut topic.queues[queue_id as usize];
        let from = keys::offset_key(table::UNIT, &[topic_id, queue_id], queue.min);
        let to = keys::offset_key(table::UNIT, &[topic_id, queue_id], min);
        self.batch.delete_range(&from, &to);
        queue.min = min;
        let queue = *queue;
        self.put_queue(topic_id, queue_id, queue);
        self.skip_trimmed(state, topic_id, queue_id, min);
    }

    /// Whether a record before `before` was moved into a queue since: the entry that moved it may have
    /// come after the leader's decision and before the trim.
    fn is_moved_across(&self, state: &State, before: u64) -> bool {
        let across = |moved: &Moved| {
            moved.log_index < before
                && moved.placed_index >= before
                && state.topics.contains_key(&moved.topic_id)
        };
        let written = self.written.iter().filter(|(key, _)| key[0] == table::MOVED);
        let written = written.filter_map(|(key, value)| Some(Moved::of(key, value.as_ref()?)));
        let mut found = written.into_iter().any(|moved| across(&moved));
        state::moved_before(self.store, before, |key, moved| {
            found |= !self.written.contains_key(key) && across(&moved);
            !found
        });
        found
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

/// Whether a consumer group holds a message that would go: it may have come by it after the leader's
/// decision and before the trim.
fn is_held(state: &State, cuts: &BTreeMap<(u32, u32), u64>) -> bool {
    state.consumptions.iter().any(|(ids, consumption)| {
        (0..).zip(&consumption.queues).any(|(queue_id, progress)| {
            let first = progress.inflight.keys().next();
            cuts.get(&(ids.1, queue_id)).zip(first).is_some_and(|(min, first)| first < min)
        })
    })
}
