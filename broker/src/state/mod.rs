//! The replicated state of a broker group: topics, queues, groups, progress.
//!
//! What is small and needed for each decision is held in memory, and all of it also lies in the
//! tables, from which it is loaded at start. Index entries and message ids are in the tables only.
//!
//! Invariants: changed by `apply` alone; the same commands give the same state on every replica.
//!
//! Not here: deciding (the leader does, `receive` and `send`), clocks, bodies.

mod apply;
mod keys;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::state::StateStore;

pub use self::apply::Applier;
pub use self::apply::CommandReply;
pub use self::apply::Event;
pub use self::apply::Granted;
pub use self::apply::Rejection;
pub use self::apply::Sent;
pub use self::keys::Unit;
use self::keys::table;

/// How long message ids are remembered to recognize a repeated send. The same on every node, since
/// it decides what a send does.
pub const DEDUP_WINDOW_MS: u64 = 600_000;

/// The prefix of dead-letter topics.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// The whole replicated state, as far as it is in memory.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) topics: BTreeMap<u32, Topic>,
    topic_ids: BTreeMap<String, u32>,
    pub(crate) groups: BTreeMap<u32, wire::GroupRecord>,
    group_ids: BTreeMap<String, u32>,
    /// By group id and topic id.
    pub(crate) consumptions: BTreeMap<(u32, u32), Consumption>,
    next_topic_id: u32,
    next_group_id: u32,
    /// Leader's time of the last entry; never goes back.
    pub(crate) time_ms: u64,
    /// Log index of the last change of a topic or group.
    pub(crate) revision: u64,
    /// Retention has let go of everything before this log index.
    pub(crate) trimmed_before: u64,
}

/// A topic and its queues.
#[derive(Clone, Debug)]
pub struct Topic {
    pub(crate) record: wire::TopicRecord,
    /// By queue id.
    pub(crate) queues: Vec<Queue>,
}

/// Readable offsets of a queue: `min` inclusive, `max` exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// How far one group is in one topic.
#[derive(Clone, Debug, Default)]
pub struct Consumption {
    /// By queue id.
    pub(crate) queues: Vec<Progress>,
    /// What is in flight, by the time it becomes visible again: (time, queue id, offset).
    pub(crate) due: BTreeSet<(u64, u32, u64)>,
}

/// How far one group is in one queue.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Next offset that was never handed out.
    pub(crate) next_offset: u64,
    /// Handed out and not acknowledged, by offset.
    pub(crate) inflight: BTreeMap<u64, wire::InflightRecord>,
}

impl Progress {
    /// Every offset below this one is consumed.
    pub(crate) fn commit_offset(&self) -> u64 {
        self.inflight.keys().next().copied().unwrap_or(self.next_offset)
    }
}

impl State {
    /// The topic called `name`.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// The consumer group called `name`.
    pub fn group(&self, name: &str) -> Option<&wire::GroupRecord> {
        self.groups.get(self.group_ids.get(name)?)
    }

    /// The in-flight record that `receipt` speaks of, whatever its nonce.
    pub(crate) fn inflight(&self, receipt: &wire::Receipt) -> Option<&wire::InflightRecord> {
        let consumption = self.consumptions.get(&(receipt.group_id, receipt.topic_id))?;
        consumption.queues.get(receipt.queue_id as usize)?.inflight.get(&receipt.offset)
    }

    /// Reads everything from the tables.
    pub(crate) fn load(store: &StateStore) -> Self {
        let mut state = Self { next_topic_id: 1, next_group_id: 1, ..Self::default() };
        state.load_counters(store);
        scan(store, table::TOPIC, |_, value| {
            let record: wire::TopicRecord = decode(value);
            let queues = vec![Queue::default(); record.queue_count as usize];
            state.topic_ids.insert(record.name.clone(), record.id);
            state.topics.insert(record.id, Topic { record, queues });
        });
        for topic in state.topics.values_mut() {
            for (queue_id, queue) in topic.queues.iter_mut().enumerate() {
                *queue = load_queue(store, topic.record.id, queue_id as u32);
            }
        }
        scan(store, table::GROUP, |_, value| {
            let record: wire::GroupRecord = decode(value);
            state.group_ids.insert(record.name.clone(), record.id);
            state.groups.insert(record.id, record);
        });
        scan(store, table::PROGRESS, |key, value| {
            let ids = (keys::u32_at(key, 1), keys::u32_at(key, 5));
            let queue_id = keys::u32_at(key, 9) as usize;
            state.consumption(ids).queue(queue_id).next_offset = keys::u64_at(value, 0);
        });
        scan(store, table::INFLIGHT, |key, value| {
            let ids = (keys::u32_at(key, 1), keys::u32_at(key, 5));
            let (queue_id, offset) = (keys::u32_at(key, 9), keys::u64_at(key, 13));
            let record: wire::InflightRecord = decode(value);
            let consumption = state.consumption(ids);
            consumption.due.insert((record.visible_at_ms, queue_id, offset));
            consumption.queue(queue_id as usize).inflight.insert(offset, record);
        });
        state
    }

    fn load_counters(&mut self, store: &StateStore) {
        if let Some(value) = store.get(&[table::COUNTERS]) {
            self.next_topic_id = keys::u32_at(&value, 0);
            self.next_group_id = keys::u32_at(&value, 4);
            self.revision = keys::u64_at(&value, 8);
            self.trimmed_before = keys::u64_at(&value, 16);
        }
        if let Some(value) = store.get(&[table::COUNTERS, 1]) {
            self.time_ms = keys::u64_at(&value, 0);
        }
    }

    fn counters(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(24);
        value.extend_from_slice(&self.next_topic_id.to_be_bytes());
        value.extend_from_slice(&self.next_group_id.to_be_bytes());
        value.extend_from_slice(&self.revision.to_be_bytes());
        value.extend_from_slice(&self.trimmed_before.to_be_bytes());
        value
    }

    /// The consumption of (group, topic), made if missing, with a progress for each queue that
    /// starts at the queue's first offset.
    fn consumption(&mut self, ids: (u32, u32)) -> &mut Consumption {
        let topics = &self.topics;
        self.consumptions.entry(ids).or_insert_with(|| {
            let queues = topics.get(&ids.1).map_or(&[][..], |topic| &topic.queues);
            let start = |queue: &Queue| Progress { next_offset: queue.min, ..Progress::default() };
            Consumption { queues: queues.iter().map(start).collect(), due: BTreeSet::new() }
        })
    }
}

impl Consumption {
    fn queue(&mut self, queue_id: usize) -> &mut Progress {
        if self.queues.len() <= queue_id {
            self.queues.resize_with(queue_id + 1, Progress::default);
        }
        &mut self.queues[queue_id]
    }
}

/// The index entry at `offset` of a queue.
pub(crate) fn unit(store: &StateStore, topic_id: u32, queue_id: u32, offset: u64) -> Option<Unit> {
    let key = keys::offset_key(table::UNIT, &[topic_id, queue_id], offset);
    store.get(&key).map(|value| Unit::decode(&value))
}

/// Calls `visit` with each index entry in `from..to` (`to` exclusive) until it says `false`.
pub(crate) fn units(
    store: &StateStore,
    topic_id: u32,
    queue_id: u32,
    from: u64,
    to: u64,
    mut visit: impl FnMut(u64, Unit) -> bool,
) {
    let start = keys::offset_key(table::UNIT, &[topic_id, queue_id], from);
    let end = keys::offset_key(table::UNIT, &[topic_id, queue_id], to);
    store.scan(&start, &end, |key, value| visit(keys::u64_at(key, 9), Unit::decode(value)));
}

fn load_queue(store: &StateStore, topic_id: u32, queue_id: u32) -> Queue {
    let stored = store.get(&keys::key(table::QUEUE, &[topic_id, queue_id]));
    let mut queue = stored.map_or(Queue::default(), |value| Queue {
        min: keys::u64_at(&value, 0),
        max: keys::u64_at(&value, 8),
    });
    let prefix = keys::key(table::UNIT, &[topic_id, queue_id]);
    if let Some((key, _)) = store.last(&prefix, &keys::end_of(&prefix)) {
        let behind_last = u64::from(!planted(Bug::QueueOffsetReused));
        queue.max = queue.max.max(keys::u64_at(&key, 9) + behind_last);
    }
    queue
}

fn scan(store: &StateStore, table: u8, mut visit: impl FnMut(&[u8], &[u8])) {
    store.scan(&[table], &[table + 1], |key, value| {
        visit(key, value);
        true
    });
}

fn decode<M: Message + Default>(value: &[u8]) -> M {
    match M::decode(value) {
        Ok(message) => message,
        Err(error) => panic!("a record of the state tables does not decode: {error}"),
    }
}
