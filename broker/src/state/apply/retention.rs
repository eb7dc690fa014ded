//! Letting go of old messages, and of what is remembered about them.

use raftmq_proto::raftmq as wire;

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
        let before = command.before_log_index;
        state.trimmed_before = state.trimmed_before.max(before);
        let topic_ids: Vec<u32> = state.topics.keys().copied().collect();
        for topic_id in topic_ids {
            self.trim_topic(state, topic_id, before);
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

    /// Drops the hours of a table that end before `before_ms` and before the window that must stay.
    fn forget(&mut self, table: u8, before_ms: u64, window_ms: u64) {
        let bucket = before_ms.min(self.time_ms.saturating_sub(window_ms)) / keys::BUCKET_MS;
        self.batch.delete_range(&[table], &keys::key(table, &[bucket as u32]));
    }

    fn trim_topic(&mut self, state: &mut State, topic_id: u32, before: u64) {
        let Some(topic) = state.topics.get(&topic_id) else { return };
        let queues = topic.queues.clone();
        for (queue_id, queue) in (0..).zip(queues) {
            let kept = |unit: &state::Unit| unit.placed_index() >= before;
            let min = state::first_where(self.store, topic_id, queue_id, queue, kept);
            if min == queue.min {
                continue;
            }
            let from = keys::offset_key(table::UNIT, &[topic_id, queue_id], queue.min);
            let to = keys::offset_key(table::UNIT, &[topic_id, queue_id], min);
            self.batch.delete_range(&from, &to);
            self.put_queue(topic_id, queue_id, Queue { min, ..queue });
            if let Some(topic) = state.topics.get_mut(&topic_id) {
                topic.queues[queue_id as usize].min = min;
            }
            self.skip_trimmed(state, topic_id, queue_id, min);
        }
    }

    pub(super) fn put_queue(&mut self, topic_id: u32, queue_id: u32, queue: Queue) {
        let mut value = queue.min.to_be_bytes().to_vec();
        value.extend_from_slice(&queue.max.to_be_bytes());
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
