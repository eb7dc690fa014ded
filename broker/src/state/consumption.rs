//! How far a consumer group is in a topic: cursors, and what is out or held back.
//!
//! Invariants: `due`, `ready`, `groups` and `attempts` say nothing that the in-flight records do not
//! say; they only find them. A message group is in `groups` in queue order, and of its held-back
//! messages only the first one of all can be ready.
//!
//! Not here: the tables, who may have what (the leader's lanes), checks of commands (`apply`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use raftmq_proto::raftmq as wire;

use super::keys::Unit;
use super::lite::LiteConsumption;
use super::lite::is_lite;

/// How far one group is in one topic.
#[derive(Clone, Debug, Default)]
pub struct Consumption {
    /// By queue id; none for a topic of lite topics.
    pub(crate) queues: Vec<Progress>,
    /// How far the group is in lite topics, and who subscribes to them.
    pub(crate) lite: LiteConsumption,
    /// What was handed out, by the time it becomes visible again: (time, queue id, offset). Nothing of
    /// lite topics to which nobody subscribes.
    pub(crate) due: BTreeSet<(u64, u32, u64)>,
    /// What was held back and may be handed out now: (queue id, offset).
    pub(crate) ready: BTreeSet<(u32, u64)>,
    /// What went to a receive with an attempt id, by the hash of that: (queue id, offset).
    pub(crate) attempts: BTreeMap<u64, BTreeSet<(u32, u64)>>,
    /// With which filters members receive, in the order in which they came.
    pub(crate) subscriptions: Vec<wire::Subscription>,
    /// Log index of the last reset of a cursor in this process: what was chosen before is stale.
    pub(crate) reset_at: u64,
}

/// How far one group is in one queue.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Next offset that was neither handed out nor held back.
    pub(crate) next_offset: u64,
    /// Handed out and not acknowledged, or held back, by offset.
    pub(crate) inflight: BTreeMap<u64, wire::InflightRecord>,
    /// Offsets of the above by the hash of their message group; only in FIFO groups.
    pub(crate) groups: BTreeMap<u64, BTreeSet<u64>>,
}

/// Whether a consumer group holds a message that retention would take: it came into its queue, or was to
/// be visible again, at `since_ms` or later. What nobody came for in all the time since is abandoned.
pub(crate) fn is_held(record: &wire::InflightRecord, unit: &Unit, since_ms: u64) -> bool {
    record.visible_at_ms.max(unit.stored_ms) >= since_ms
}

impl Progress {
    /// Every offset below this one is consumed.
    pub(crate) fn commit_offset(&self) -> u64 {
        self.inflight.keys().next().copied().unwrap_or(self.next_offset)
    }

    /// Offsets before `offset` that are not consumed, of its message group.
    pub(crate) fn before_in_group(
        &self,
        group_hash: u64,
        offset: u64,
    ) -> impl Iterator<Item = u64> + '_ {
        let group = self.groups.get(&group_hash).filter(|_| group_hash != 0);
        group.into_iter().flat_map(move |offsets| offsets.range(..offset).copied())
    }

    /// Offsets behind `offset` that are out or held back, of its message group.
    fn behind_in_group(&self, group_hash: u64, offset: u64) -> impl Iterator<Item = u64> + '_ {
        let group = self.groups.get(&group_hash).filter(|_| group_hash != 0);
        group.into_iter().flat_map(move |offsets| offsets.range(offset + 1..).copied())
    }
}

impl Consumption {
    /// The progress in a queue, made if missing.
    pub(crate) fn queue(&mut self, queue_id: u32) -> &mut Progress {
        if is_lite(queue_id) {
            return self.lite.progress.entry(queue_id).or_default();
        }
        let at = queue_id as usize;
        if self.queues.len() <= at {
            self.queues.resize_with(at + 1, Progress::default);
        }
        &mut self.queues[at]
    }

    /// The progress in a queue.
    pub(crate) fn progress(&self, queue_id: u32) -> Option<&Progress> {
        match is_lite(queue_id) {
            true => self.lite.progress.get(&queue_id),
            false => self.queues.get(queue_id as usize),
        }
    }

    /// The progress in a queue, if there is one.
    pub(crate) fn progress_mut(&mut self, queue_id: u32) -> Option<&mut Progress> {
        match is_lite(queue_id) {
            true => self.lite.progress.get_mut(&queue_id),
            false => self.queues.get_mut(queue_id as usize),
        }
    }

    /// The progress in each queue, by queue id.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &Progress)> {
        let lite = self.lite.progress.iter().map(|(queue_id, progress)| (*queue_id, progress));
        (0..).zip(&self.queues).chain(lite)
    }

    /// The in-flight record of a message.
    pub(crate) fn inflight(&self, queue_id: u32, offset: u64) -> Option<&wire::InflightRecord> {
        self.progress(queue_id)?.inflight.get(&offset)
    }

    /// Whether somebody may come for what lies in a queue: what nobody subscribes to is never due.
    fn is_consumed(&self, queue_id: u32) -> bool {
        !is_lite(queue_id) || self.lite.subscribers(queue_id).next().is_some()
    }

    /// A client subscribes to a lite topic.
    pub(crate) fn subscribe_lite(&mut self, client_id: &str, queue_id: u32) {
        self.lite.subscribe(client_id, queue_id);
        let progress = self.lite.progress.get(&queue_id);
        for (offset, record) in progress.into_iter().flat_map(|it| &it.inflight) {
            if record.attempt > 0 {
                self.due.insert((record.visible_at_ms, queue_id, *offset));
            }
        }
    }

    /// A client no longer subscribes to a lite topic.
    pub(crate) fn unsubscribe_lite(&mut self, client_id: &str, queue_id: u32) {
        self.lite.unsubscribe(client_id, queue_id);
        if self.is_consumed(queue_id) {
            return;
        }
        let progress = self.lite.progress.get(&queue_id);
        for (offset, record) in progress.into_iter().flat_map(|it| &it.inflight) {
            self.due.remove(&(record.visible_at_ms, queue_id, *offset));
        }
    }

    /// Puts the record in place of the one there was.
    pub(crate) fn insert(&mut self, queue_id: u32, offset: u64, record: wire::InflightRecord) {
        self.unlink(queue_id, offset);
        if record.attempt > 0 && self.is_consumed(queue_id) {
            self.due.insert((record.visible_at_ms, queue_id, offset));
        }
        if record.attempt_hash != 0 {
            self.attempts.entry(record.attempt_hash).or_default().insert((queue_id, offset));
        }
        let (attempt, group_hash) = (record.attempt, record.group_hash);
        let progress = self.queue(queue_id);
        progress.inflight.insert(offset, record);
        if group_hash != 0 {
            progress.groups.entry(group_hash).or_default().insert(offset);
        }
        let first = progress.before_in_group(group_hash, offset).next().is_none();
        let behind = progress.behind_in_group(group_hash, offset).next();
        if attempt == 0 && first {
            self.ready.insert((queue_id, offset));
        }
        if let Some(behind) = behind {
            // It was the first one until now, perhaps.
            self.ready.remove(&(queue_id, behind));
        }
    }

    /// Removes the record; the next one of its message group may be ready then. Returns that one.
    pub(crate) fn remove(
        &mut self,
        queue_id: u32,
        offset: u64,
    ) -> Option<(wire::InflightRecord, Option<u64>)> {
        self.unlink(queue_id, offset);
        let progress = self.progress_mut(queue_id)?;
        let record = progress.inflight.remove(&offset)?;
        let mut next = None;
        if record.group_hash != 0
            && let Some(offsets) = progress.groups.get_mut(&record.group_hash)
        {
            offsets.remove(&offset);
            next = offsets.first().copied();
            if offsets.is_empty() {
                progress.groups.remove(&record.group_hash);
            }
        }
        let held = |offset: &u64| progress.inflight.get(offset).is_some_and(|it| it.attempt == 0);
        let next = next.filter(held);
        if let Some(next) = next {
            self.ready.insert((queue_id, next));
        }
        Some((record, next))
    }

    /// Takes the record out of everything that finds it by something else than its offset.
    fn unlink(&mut self, queue_id: u32, offset: u64) {
        let Some(record) = self.inflight(queue_id, offset) else { return };
        let (visible_at_ms, attempt_hash) = (record.visible_at_ms, record.attempt_hash);
        self.due.remove(&(visible_at_ms, queue_id, offset));
        self.ready.remove(&(queue_id, offset));
        if let Some(places) = self.attempts.get_mut(&attempt_hash) {
            places.remove(&(queue_id, offset));
            if places.is_empty() {
                self.attempts.remove(&attempt_hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(attempt: u32, group_hash: u64) -> wire::InflightRecord {
        wire::InflightRecord { attempt, group_hash, visible_at_ms: 10, ..Default::default() }
    }

    #[test]
    fn of_a_message_group_only_the_first_is_ready() {
        let mut consumption = Consumption::default();
        consumption.insert(0, 1, record(1, 7));
        consumption.insert(0, 2, record(0, 7));
        consumption.insert(0, 3, record(0, 7));
        consumption.insert(0, 4, record(0, 8));
        assert_eq!(Vec::from_iter(&consumption.ready), [&(0, 4)]);
        let (_, next) = consumption.remove(0, 1).unwrap();
        assert_eq!(next, Some(2));
        assert_eq!(Vec::from_iter(&consumption.ready), [&(0, 2), &(0, 4)]);
        // Handed out: neither it nor the one behind it.
        consumption.insert(0, 2, record(1, 7));
        assert_eq!(Vec::from_iter(&consumption.ready), [&(0, 4)]);
        assert_eq!(consumption.due.len(), 1);
    }

    #[test]
    fn what_is_put_before_a_ready_message_of_its_group_takes_its_place() {
        let mut consumption = Consumption::default();
        consumption.insert(0, 2, record(0, 7));
        assert_eq!(Vec::from_iter(&consumption.ready), [&(0, 2)]);
        consumption.insert(0, 1, record(1, 7));
        assert!(consumption.ready.is_empty());
        consumption.remove(0, 1);
        assert_eq!(Vec::from_iter(&consumption.ready), [&(0, 2)]);
    }

    #[test]
    fn nothing_is_left_of_what_was_removed() {
        let mut consumption = Consumption::default();
        let with_attempt = wire::InflightRecord { attempt_hash: 5, ..record(1, 7) };
        consumption.insert(0, 1, with_attempt);
        assert_eq!(consumption.attempts.len(), 1);
        consumption.remove(0, 1);
        assert!(consumption.due.is_empty() && consumption.attempts.is_empty());
        assert!(consumption.queues[0].groups.is_empty());
        assert_eq!(consumption.remove(0, 1), None);
    }
}
