//! Cursors that an operator or a consumer moves.

use raftmq_proto::raftmq as wire;

use super::CommandReply;
use super::Outcome;
use super::Rejection;
use super::State;
use super::Step;
use super::keys;
use super::table;

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
        let queues = state.topics.get(&ids.1).ok_or(Rejection::TopicNotFound)?.queues.clone();
        self.begin_consumption(state, ids);
        for reset in &command.queues {
            let Some(queue) = queues.get(reset.queue_id as usize) else { continue };
            let offset = reset.offset.clamp(queue.min, queue.max);
            let progress = state.consumption(ids).queue(reset.queue_id as usize);
            progress.next_offset = offset;
            let forgotten: Vec<u64> = progress.inflight.keys().copied().collect();
            for offset in forgotten {
                self.remove_inflight(state, ids, reset.queue_id, offset);
            }
            let key = keys::key(table::PROGRESS, &[ids.0, ids.1, reset.queue_id]);
            self.batch.put(&key, &offset.to_be_bytes());
        }
        state.consumption(ids).reset_at = self.position.index;
        self.stored.push(ids.1);
        Ok(CommandReply::Done)
    }
}
