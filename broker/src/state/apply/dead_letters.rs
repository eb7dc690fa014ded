//! Messages whose attempts are used up, and how they come back or go for good.

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;

use super::CommandReply;
use super::Outcome;
use super::Rejection;
use super::State;
use super::Step;
use super::Unit;
use super::keys;
use super::table;
use crate::state;
use crate::state::DEAD_LETTER_PREFIX;

impl Step<'_> {
    pub(super) fn dead_letter(&mut self, state: &mut State, command: &wire::DeadLetter) -> Outcome {
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
        let unit = state::unit(self.store, receipt.topic_id, receipt.queue_id, receipt.offset);
        self.remove_inflight(state, ids, receipt.queue_id, receipt.offset);
        let Some(unit) = unit else { return Ok(CommandReply::Done) };
        let name = format!("{DEAD_LETTER_PREFIX}{}", group.name);
        let topic_id = match state.topic_ids.get(&name) {
            Some(id) => *id,
            None => {
                let record = wire::TopicRecord {
                    name,
                    queue_count: 1,
                    message_types: vec![1],
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
        let unit = Unit { dead_letter: true, ..self.moved(unit) };
        self.place(state, topic_id, 0, unit);
        Ok(CommandReply::Done)
    }

    pub(super) fn redrive(&mut self, state: &mut State, command: &wire::Redrive) -> Outcome {
        let mut count = 0;
        for redriven in &command.messages {
            let to = state.topics.get(&redriven.to_topic_id);
            let lite = state::is_lite(redriven.to_queue_id);
            if to.is_none_or(|to| lite && to.queue(redriven.to_queue_id).is_none()) {
                continue;
            }
            let taken =
                self.take_out(state, command.topic_id, redriven.queue_id, redriven.offset)?;
            if let Some(unit) = taken {
                let unit = Unit { dead_letter: false, ..self.moved(unit) };
                self.place(state, redriven.to_topic_id, redriven.to_queue_id, unit);
                count += 1;
            }
        }
        Ok(CommandReply::Moved { count })
    }

    pub(super) fn discard(&mut self, state: &mut State, command: &wire::Discard) -> Outcome {
        let mut count = 0;
        for place in &command.messages {
            let taken = self.take_out(state, command.topic_id, place.queue_id, place.offset)?;
            count += u64::from(taken.is_some());
        }
        Ok(CommandReply::Moved { count })
    }

    /// Takes a message out of its queue, and away from whoever holds it.
    fn take_out(
        &mut self,
        state: &mut State,
        topic_id: u32,
        queue_id: u32,
        offset: u64,
    ) -> Result<Option<Unit>, Rejection> {
        let topic = state.topics.get_mut(&topic_id).ok_or(Rejection::TopicNotFound)?;
        let Some(queue) = topic.queue_mut(queue_id) else { return Ok(None) };
        if offset < queue.min {
            // Trimmed, perhaps by this very entry.
            return Ok(None);
        }
        let key = keys::offset_key(table::UNIT, &[topic_id, queue_id], offset);
        let Some(unit) = self.get(&key).map(|value| Unit::decode(&value)) else { return Ok(None) };
        self.unset(key);
        if unit.moved_at.is_some() {
            self.unset(keys::moved_key(unit.log_index, topic_id, queue_id, offset));
        }
        // The last index entry tells a starting node where the queue ends; this may have been it.
        queue.holes = true;
        let queue = *queue;
        self.put_queue(topic_id, queue_id, queue);
        self.put_lite(state, topic_id, queue_id);
        let groups: Vec<_> =
            state.consumptions.keys().filter(|ids| ids.1 == topic_id).copied().collect();
        for ids in groups {
            self.remove_inflight(state, ids, queue_id, offset);
        }
        Ok(Some(unit))
    }
}
