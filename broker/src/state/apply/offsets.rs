//! Cursors that an operator or a consumer moves.

use raftmq_proto::raftmq as wire;

use super::CommandReply;
use super::Outcome;
use super::Rejection;
use super::State;
use super::Step;
use super::keys;
use super::table;
use crate::state;

impl Step<'_> {
    /// The only way in which a cursor goes back. What was out or held back in these queues is forgotten:
    /// its receipts end, and what lies behind the new cursor comes again as if for the first time.
    pub(super) fn reset_offset(
        &mut self,
        state: &mut State,
        command: &wire::ResetOffset,
    ) -> Outcome {
        let ids = (command.group_id, command.topic_id);
        if !state.groups.contains_key(&ids.0) {
            return Err(Rejection::GroupNotFound);
        }
        if !state.topics.contains_key(&ids.1) {
            return Err(Rejection::TopicNotFound);
        }
        self.begin_consumption(state, ids);
        for reset in &command.queues {
            let queue = state.topics.get(&ids.1).and_then(|topic| topic.queue(reset.queue_id));
            let Some(queue) = queue else { continue };
            let offset = reset.offset.clamp(queue.min, queue.max);
            self.move_cursor(state, ids, reset.queue_id, offset);
        }
        self.stored.push(ids.1);
        Ok(CommandReply::Done)
    }

    pub(super) fn move_cursor(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        queue_id: u32,
        offset: u64,
    ) {
        let progress = state.consumption(ids).queue(queue_id);
        progress.next_offset = offset;
        let forgotten: Vec<u64> = progress.inflight.keys().copied().collect();
        for offset in forgotten {
            self.remove_inflight(state, ids, queue_id, offset);
        }
        let key = keys::key(table::PROGRESS, &[ids.0, ids.1, queue_id]);
        self.batch.put(&key, &offset.to_be_bytes());
        state.consumption(ids).reset_at = self.position.index;
        if state::is_lite(queue_id) {
            self.lite.push((ids.1, queue_id));
        }
    }
}
