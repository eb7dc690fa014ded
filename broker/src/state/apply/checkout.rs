//! Handing messages out: what the leader chose is recorded, as far as it still holds.

use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;

use super::CommandReply;
use super::Granted;
use super::Outcome;
use super::Rejection;
use super::State;
use super::Step;
use super::keys;
use super::table;
use crate::state;
use crate::state::Queue;

impl Step<'_> {
    pub(super) fn checkout(&mut self, state: &mut State, command: &wire::Checkout) -> Outcome {
        let ids = (command.group_id, command.topic_id);
        if !state.topics.contains_key(&ids.1) {
            return Err(Rejection::TopicNotFound);
        }
        if !state.groups.contains_key(&ids.0) {
            return Err(Rejection::GroupNotFound);
        }
        self.begin_consumption(state, ids);
        let mut granted = Vec::new();
        for part in &command.queues {
            let own = state.consumptions.get(&ids).and_then(|it| it.progress(part.queue_id));
            if own.is_none() {
                continue;
            }
            for offset in &part.dropped {
                let held = state.consumption(ids).inflight(part.queue_id, *offset);
                if held.is_some_and(|record| record.attempt == 0) {
                    self.remove_inflight(state, ids, part.queue_id, *offset);
                }
            }
            self.read_again(state, command, part, &mut granted);
            self.check_out_again(state, command, part, &mut granted);
            self.check_out_new(state, command, part, &mut granted);
        }
        Ok(CommandReply::CheckedOut(granted))
    }

    /// A group that consumes from a topic for the first time begins where it was made to. Written down
    /// at once: the beginning must not move with what retention does later.
    pub(super) fn begin_consumption(&mut self, state: &mut State, ids: (u32, u32)) {
        if state.consumptions.contains_key(&ids) {
            return;
        }
        let start = state.groups.get(&ids.0).and_then(|group| group.start).unwrap_or_default();
        // In lite topics it begins when one of its clients subscribes.
        let topic = state.topics.get(&ids.1).filter(|topic| !topic.is_lite());
        let queues = topic.map_or(Vec::new(), |topic| topic.queues.clone());
        for (queue_id, queue) in (0..).zip(queues) {
            let offset = self.start_offset(ids.1, queue_id, queue, &start);
            state.consumption(ids).queue(queue_id).next_offset = offset;
            let key = keys::key(table::PROGRESS, &[ids.0, ids.1, queue_id]);
            self.batch.put(&key, &offset.to_be_bytes());
        }
    }

    /// Where a group that begins at `start` begins in a queue.
    pub(super) fn start_offset(
        &self,
        topic_id: u32,
        queue_id: u32,
        queue: Queue,
        start: &wire::Start,
    ) -> u64 {
        match start.kind() {
            wire::start::Kind::First => queue.min,
            wire::start::Kind::Last => queue.max,
            // What this entry stored is not in the tables yet, but no message is of the future.
            wire::start::Kind::Timestamp if start.timestamp_ms > self.time_ms => queue.max,
            wire::start::Kind::Timestamp => {
                let first = |from, to| self.first_unit(topic_id, queue_id, from, to);
                state::first_where(queue, first, |unit| unit.stored_ms >= start.timestamp_ms)
            }
        }
    }

    /// The same attempt asks again: its answer got lost. No further delivery is counted.
    fn read_again(
        &mut self,
        state: &mut State,
        command: &wire::Checkout,
        part: &wire::QueueCheckout,
        granted: &mut Vec<Granted>,
    ) {
        let ids = (command.group_id, command.topic_id);
        for offset in &part.reread {
            let consumption = state.consumptions.get(&ids);
            let Some(record) = consumption.and_then(|it| it.inflight(part.queue_id, *offset))
            else {
                continue;
            };
            if record.attempt_hash == 0 || record.attempt_hash != command.attempt_hash {
                continue;
            }
            // The one before it may have gone to somebody else since.
            if !self.is_its_turn(state, ids, part.queue_id, *offset, record.group_hash) {
                continue;
            }
            let record = wire::InflightRecord {
                visible_at_ms: command.visible_at_ms,
                nonce: self.nonce(),
                renew_client_id: command.renew_client_id.clone(),
                changed_from: 0,
                ..record.clone()
            };
            self.grant(state, ids, (part.queue_id, *offset), record, granted);
        }
    }

    /// Messages whose time ran out, delivered once more; and messages that were held back until now.
    fn check_out_again(
        &mut self,
        state: &mut State,
        command: &wire::Checkout,
        part: &wire::QueueCheckout,
        granted: &mut Vec<Granted>,
    ) {
        let ids = (command.group_id, command.topic_id);
        for offset in &part.again {
            let consumption = state.consumptions.get(&ids);
            let Some(record) = consumption.and_then(|it| it.inflight(part.queue_id, *offset))
            else {
                continue;
            };
            let out = record.attempt > 0 && record.visible_at_ms > self.time_ms;
            if out || !self.is_its_turn(state, ids, part.queue_id, *offset, record.group_hash) {
                continue;
            }
            let first_delivery_ms =
                if record.attempt == 0 { self.time_ms } else { record.first_delivery_ms };
            let counted =
                !record.suspended && (record.attempt == 0 || !planted(Bug::LostAttemptCount));
            let record = wire::InflightRecord {
                attempt: record.attempt + u32::from(counted),
                visible_at_ms: command.visible_at_ms,
                nonce: self.nonce(),
                first_delivery_ms,
                renew_client_id: command.renew_client_id.clone(),
                group_hash: record.group_hash,
                attempt_hash: command.attempt_hash,
                changed_from: 0,
                suspended: false,
            };
            self.grant(state, ids, (part.queue_id, *offset), record, granted);
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
        let progress = state.consumption(ids).queue(part.queue_id);
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
        let group_of = |groups: &[u64], at: usize| groups.get(at).copied().unwrap_or(0);
        // Messages that were taken out after the leader chose them are gone.
        let queue = state.topics.get(&ids.1).and_then(|it| it.queue(part.queue_id));
        let holes = queue.is_some_and(|queue| queue.holes);
        let key_of = |offset| keys::offset_key(table::UNIT, &[ids.1, part.queue_id], offset);
        for (at, offset) in part.held.iter().enumerate() {
            if holes && self.get(&key_of(*offset)).is_none() {
                continue;
            }
            let group_hash = group_of(&part.held_groups, at);
            self.hold(state, ids, (part.queue_id, *offset), group_hash);
        }
        for (at, offset) in part.taken.iter().enumerate() {
            if holes && self.get(&key_of(*offset)).is_none() {
                continue;
            }
            let group_hash = group_of(&part.taken_groups, at);
            if !self.is_its_turn(state, ids, part.queue_id, *offset, group_hash) {
                self.hold(state, ids, (part.queue_id, *offset), group_hash);
                continue;
            }
            let record = wire::InflightRecord {
                attempt: 1,
                visible_at_ms: command.visible_at_ms,
                nonce: self.nonce(),
                first_delivery_ms: self.time_ms,
                renew_client_id: command.renew_client_id.clone(),
                group_hash,
                attempt_hash: command.attempt_hash,
                changed_from: 0,
                suspended: false,
            };
            self.grant(state, ids, (part.queue_id, *offset), record, granted);
        }
    }

    /// Whether everything before it in its message group is consumed, or goes out with this checkout.
    /// Looked at here and not only by the leader, who chose before other commands of consumers.
    fn is_its_turn(
        &self,
        state: &State,
        ids: (u32, u32),
        queue_id: u32,
        offset: u64,
        group_hash: u64,
    ) -> bool {
        if planted(Bug::FifoGroupIgnored) || planted(Bug::FifoOrderLostOnFailover) {
            return true;
        }
        if planted(Bug::LiteOrderIgnored) && state::is_lite(queue_id) {
            return true;
        }
        let Some(consumption) = state.consumptions.get(&ids) else { return true };
        let Some(progress) = consumption.progress(queue_id) else { return true };
        progress.before_in_group(group_hash, offset).all(|before| {
            progress.inflight.get(&before).is_some_and(|record| record.nonce == self.nonce())
        })
    }

    /// Keeps a message for later.
    fn hold(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        (queue_id, offset): (u32, u64),
        group_hash: u64,
    ) {
        let record = wire::InflightRecord { group_hash, ..Default::default() };
        self.put_inflight(state, ids, queue_id, offset, record);
    }

    fn grant(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        (queue_id, offset): (u32, u64),
        record: wire::InflightRecord,
        granted: &mut Vec<Granted>,
    ) {
        let (attempt, nonce) = (record.attempt, record.nonce);
        granted.push(Granted { queue_id, offset, attempt, nonce });
        self.put_inflight(state, ids, queue_id, offset, record);
    }

    pub(super) fn put_inflight(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        queue_id: u32,
        offset: u64,
        record: wire::InflightRecord,
    ) {
        let key = keys::offset_key(table::INFLIGHT, &[ids.0, ids.1, queue_id], offset);
        self.batch.put(&key, &record.encode_to_vec());
        state.consumption(ids).insert(queue_id, offset, record);
    }

    pub(super) fn remove_inflight(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        queue_id: u32,
        offset: u64,
    ) {
        let Some(consumption) = state.consumptions.get_mut(&ids) else { return };
        let Some((_, next)) = consumption.remove(queue_id, offset) else { return };
        self.batch.delete(&keys::offset_key(table::INFLIGHT, &[ids.0, ids.1, queue_id], offset));
        if state::is_lite(queue_id) {
            self.lite.push((ids.1, queue_id));
        } else if next.is_some() {
            // Somebody may wait for the next one of its message group.
            self.stored.push(ids.1);
        }
    }
}
