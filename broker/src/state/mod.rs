//! The replicated state of a broker group: topics, queues, groups, progress.
//!
//! What is small and needed for each decision is held in memory, and all of it also lies in the
//! tables, from which it is loaded at start. Index entries and message ids are in the tables only.
//!
//! Invariants: changed by `apply` alone; the same commands give the same state on every replica.
//!
//! Not here: deciding (the leader does, `receive` and `send`), clocks, bodies.

mod apply;
mod consumption;
pub(crate) mod finding;
mod keys;
mod lite;
mod own_retention;
mod view;

use std::collections::BTreeMap;

use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::state::StateStore;

pub use self::apply::Applier;
pub use self::apply::Check;
pub use self::apply::CommandReply;
pub use self::apply::Event;
pub use self::apply::Fired;
pub use self::apply::Granted;
pub use self::apply::NO_OFFSET;
pub use self::apply::Rejection;
pub use self::apply::Sent;
pub use self::consumption::Consumption;
pub use self::consumption::Progress;
pub(crate) use self::consumption::is_held;
pub use self::keys::Unit;
use self::keys::table;
pub use self::lite::LITE_EMPTY_KEPT_MS;
pub use self::lite::LITE_QUEUES_FROM;
pub use self::lite::LITE_SUBSCRIPTIONS_DEFAULT;
pub(crate) use self::lite::LiteTopic;
pub use self::lite::LiteTopics;
pub(crate) use self::lite::is_lite;
pub(crate) use self::lite::lite_subscriptions_max;
pub(crate) use self::lite::lite_topics_max;
pub(crate) use self::own_retention::outlived;
pub(crate) use self::own_retention::short_lived;
pub use self::view::ConsumptionView;
pub use self::view::LiteView;
pub use self::view::ProgressView;
pub use self::view::QueueView;
pub use self::view::View;

/// How long message ids are remembered to recognize a repeated send. The same on every node, since
/// it decides what a send does.
pub const DEDUP_WINDOW_MS: u64 = 600_000;

/// How long it is remembered how a transaction ended. The same on every node, since it decides what a
/// repeated decision is answered.
pub const ENDED_WINDOW_MS: u64 = 24 * 3_600_000;

/// The prefix of dead-letter topics.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// The whole replicated state, as far as it is in memory.
#[derive(Debug)]
pub struct State {
    pub(crate) topics: BTreeMap<u32, Topic>,
    topic_ids: BTreeMap<String, u32>,
    pub(crate) groups: BTreeMap<u32, wire::GroupRecord>,
    group_ids: BTreeMap<String, u32>,
    /// By group id and topic id.
    pub(crate) consumptions: BTreeMap<(u32, u32), Consumption>,
    next_topic_id: u32,
    next_group_id: u32,
    /// The newest id of a lite topic of any parent.
    last_lite_id: u32,
    /// Leader's time of the last entry; never goes back.
    pub(crate) time_ms: u64,
    /// Log index of the last change of a topic or group.
    pub(crate) revision: u64,
    /// Retention has let go of everything before this log index.
    pub(crate) trimmed_before: u64,
    /// No timer is due before this time; `u64::MAX` without one.
    pub(crate) next_due_ms: u64,
}

/// A topic and its queues.
#[derive(Clone, Debug)]
pub struct Topic {
    pub(crate) record: wire::TopicRecord,
    /// By queue id.
    pub(crate) queues: Vec<Queue>,
    /// Its lite topics, each a queue of its own.
    pub(crate) lite: LiteTopics,
}

impl Topic {
    /// The queue with this id, of a lite topic or not.
    pub(crate) fn queue(&self, queue_id: u32) -> Option<&Queue> {
        match is_lite(queue_id) {
            true => self.lite.get(queue_id).map(|lite| &lite.queue),
            false => self.queues.get(queue_id as usize),
        }
    }

    /// See [`Self::queue`].
    pub(crate) fn queue_mut(&mut self, queue_id: u32) -> Option<&mut Queue> {
        match is_lite(queue_id) {
            true => self.lite.queue_mut(queue_id),
            false => self.queues.get_mut(queue_id as usize),
        }
    }

    /// Whether its messages belong to lite topics.
    pub(crate) fn is_lite(&self) -> bool {
        self.takes(v2::MessageType::Lite)
    }

    /// Whether it takes messages of this type.
    pub(crate) fn takes(&self, message_type: v2::MessageType) -> bool {
        self.record.message_types.contains(&message_type.into())
    }

    /// Whether messages in queues with higher numbers go first.
    pub(crate) fn is_by_priority(&self) -> bool {
        self.takes(v2::MessageType::Priority)
    }
}

/// Readable offsets of a queue: `min` inclusive, `max` exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    pub(crate) min: u64,
    pub(crate) max: u64,
    /// Messages were taken out of it: an offset in between may have none.
    pub(crate) holes: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            topics: BTreeMap::new(),
            topic_ids: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_ids: BTreeMap::new(),
            consumptions: BTreeMap::new(),
            next_topic_id: 0,
            next_group_id: 0,
            last_lite_id: LITE_QUEUES_FROM - 1,
            time_ms: 0,
            revision: 0,
            trimmed_before: 0,
            next_due_ms: u64::MAX,
        }
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
        consumption.inflight(receipt.queue_id, receipt.offset)
    }

    /// Reads everything from the tables.
    pub(crate) fn load(store: &StateStore) -> Self {
        let mut state = Self { next_topic_id: 1, next_group_id: 1, ..Self::default() };
        state.load_counters(store);
        scan(store, table::TOPIC, |_, value| {
            let record: wire::TopicRecord = decode(value);
            let queues = vec![Queue::default(); record.queue_count as usize];
            state.topic_ids.insert(record.name.clone(), record.id);
            let lite = LiteTopics::default();
            state.topics.insert(record.id, Topic { record, queues, lite });
        });
        for topic in state.topics.values_mut() {
            for (queue_id, queue) in topic.queues.iter_mut().enumerate() {
                (*queue, _) = load_queue(store, topic.record.id, queue_id as u32);
            }
        }
        scan(store, table::LITE, |key, value| {
            let (topic_id, queue_id) = (keys::u32_at(key, 1), keys::u32_at(key, 5));
            let record: wire::LiteTopicRecord = decode(value);
            let (queue, last) = load_queue(store, topic_id, queue_id);
            let first = first_unit(store, topic_id, queue_id, queue.min, queue.max);
            let Some(topic) = state.topics.get_mut(&topic_id) else { return };
            topic.lite.insert(queue_id, &record.name, record.touched_ms);
            let last_ms = last.map_or(0, |unit| unit.stored_ms);
            let oldest = first.map(|(_, unit)| unit.placed_index());
            topic.lite.loaded(queue_id, queue, oldest, last_ms);
        });
        scan(store, table::GROUP, |_, value| {
            let record: wire::GroupRecord = decode(value);
            state.group_ids.insert(record.name.clone(), record.id);
            state.groups.insert(record.id, record);
        });
        scan(store, table::PROGRESS, |key, value| {
            let ids = (keys::u32_at(key, 1), keys::u32_at(key, 5));
            let queue_id = keys::u32_at(key, 9);
            state.consumption(ids).queue(queue_id).next_offset = keys::u64_at(value, 0);
        });
        scan(store, table::INFLIGHT, |key, value| {
            let ids = (keys::u32_at(key, 1), keys::u32_at(key, 5));
            let (queue_id, offset) = (keys::u32_at(key, 9), keys::u64_at(key, 13));
            state.consumption(ids).insert(queue_id, offset, decode(value));
        });
        scan(store, table::SUBSCRIPTIONS, |key, value| {
            let ids = (keys::u32_at(key, 1), keys::u32_at(key, 5));
            let record: wire::SubscriptionRecord = decode(value);
            state.consumption(ids).subscriptions = record.subscriptions;
        });
        scan(store, table::LITE_SUBSCRIPTION, |key, _| {
            let ids = (keys::u32_at(key, 1), keys::u32_at(key, 5));
            let client_id = String::from_utf8_lossy(&key[13..]);
            state.consumption(ids).subscribe_lite(&client_id, keys::u32_at(key, 9));
        });
        store.scan(&[table::TIMER], &[table::TIMER + 1], |key, _| {
            state.next_due_ms = keys::timer_at(key, 1).due_ms;
            false
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
        if let Some(value) = store.get(&[table::COUNTERS, 2]) {
            self.last_lite_id = keys::u32_at(&value, 0);
        }
    }

    fn has_queue(&self, topic_id: u32, queue_id: u32) -> bool {
        self.topics.get(&topic_id).is_some_and(|topic| topic.queue(queue_id).is_some())
    }

    /// Log index of the first record that a queue still has: before [`Self::trimmed_before`] only those of
    /// index entries that were moved later.
    pub(crate) fn needed_from(&self, store: &StateStore) -> u64 {
        let mut needed = self.trimmed_before;
        moved_before(store, needed, |_, moved| {
            let stays = self.has_queue(moved.topic_id, moved.queue_id);
            if stays {
                needed = moved.log_index;
            }
            !stays
        });
        needed
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
    /// starts at the queue's first offset; none for lite topics.
    fn consumption(&mut self, ids: (u32, u32)) -> &mut Consumption {
        let topics = &self.topics;
        self.consumptions.entry(ids).or_insert_with(|| {
            let topic = topics.get(&ids.1).filter(|topic| !topic.is_lite());
            let queues = topic.map_or(&[][..], |topic| &topic.queues);
            let start = |queue: &Queue| Progress { next_offset: queue.min, ..Progress::default() };
            let queues = queues.iter().map(start).collect();
            Consumption { queues, ..Consumption::default() }
        })
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

/// The first index entry in `from..to` (`to` exclusive): messages may have been taken out.
pub(crate) fn first_unit(
    store: &StateStore,
    topic_id: u32,
    queue_id: u32,
    from: u64,
    to: u64,
) -> Option<(u64, Unit)> {
    let mut first = None;
    units(store, topic_id, queue_id, from, to, |offset, unit| {
        first = Some((offset, unit));
        false
    });
    first
}

/// First offset of a queue whose message satisfies `wanted`, or its end. Messages that do not come
/// before all that do, so this is a binary search. `first` finds the first index entry of a range.
pub(crate) fn first_where(
    queue: Queue,
    first: impl Fn(u64, u64) -> Option<(u64, Unit)>,
    wanted: impl Fn(&Unit) -> bool,
) -> u64 {
    let (mut low, mut high) = (queue.min, queue.max);
    while low < high {
        let middle = low + (high - low) / 2;
        match first(middle, high) {
            Some((offset, unit)) if !wanted(&unit) => low = offset + 1,
            // None: taken out, or stored by the entry being applied and so not in the tables yet.
            _ => high = middle,
        }
    }
    low
}

/// First offset of a queue whose message was stored at `timestamp_ms` or later.
pub(crate) fn offset_at(
    store: &StateStore,
    topic_id: u32,
    queue_id: u32,
    queue: Queue,
    timestamp_ms: u64,
) -> u64 {
    let first = |from, to| first_unit(store, topic_id, queue_id, from, to);
    first_where(queue, first, |unit| unit.stored_ms >= timestamp_ms)
}

/// Calls `visit` with the topic id, the transaction id and the record of each half message, of one
/// topic or of all, until it says `false`.
pub(crate) fn halves(
    store: &StateStore,
    topic_id: Option<u32>,
    mut visit: impl FnMut(u32, &[u8], wire::HalfRecord) -> bool,
) {
    let prefix = topic_id.map_or(vec![table::HALF], |id| keys::key(table::HALF, &[id]));
    store.scan(&prefix, &keys::end_of(&prefix), |key, value| {
        visit(keys::u32_at(key, 1), &key[5..], decode(value))
    });
}

/// Calls `visit` with each timer whose record lies in an entry before `log_index`, the oldest entry
/// first, until it says `false`.
pub(crate) fn timers_in_log_before(
    store: &StateStore,
    log_index: u64,
    mut visit: impl FnMut(wire::Timer) -> bool,
) {
    let mut end = vec![table::TIMER_BY_LOG];
    end.extend_from_slice(&log_index.to_be_bytes());
    store.scan(&[table::TIMER_BY_LOG], &end, |key, _| visit(keys::timer_at(key, 13)));
}

/// The record of a timer, and where its message lies.
pub(crate) fn timer(store: &StateStore, timer: &wire::Timer) -> Option<(wire::TimerRecord, Unit)> {
    let record: wire::TimerRecord = decode(&store.get(&keys::timer_key(timer))?);
    let unit = Unit::decode(&record.unit);
    Some((record, unit))
}

/// An index entry whose record was stored before it came into its queue.
pub(crate) struct Moved {
    pub(crate) topic_id: u32,
    pub(crate) queue_id: u32,
    /// Log index of the record.
    pub(crate) log_index: u64,
    /// Log index of the entry that put it into its queue.
    pub(crate) placed_index: u64,
}

impl Moved {
    fn of(key: &[u8], value: &[u8]) -> Self {
        Self {
            log_index: keys::u64_at(key, 1),
            topic_id: keys::u32_at(key, 9),
            queue_id: keys::u32_at(key, 13),
            placed_index: keys::u64_at(value, 0),
        }
    }
}

/// Calls `visit` with every moved index entry whose record lies in an entry before `log_index`, until
/// it says `false`. Some may have been in topics or lite topics that are gone.
pub(crate) fn moved_before(
    store: &StateStore,
    log_index: u64,
    mut visit: impl FnMut(&[u8], Moved) -> bool,
) {
    let mut end = vec![table::MOVED];
    end.extend_from_slice(&log_index.to_be_bytes());
    store.scan(&[table::MOVED], &end, |key, value| visit(key, Moved::of(key, value)));
}

/// A queue, and its last index entry.
fn load_queue(store: &StateStore, topic_id: u32, queue_id: u32) -> (Queue, Option<Unit>) {
    let stored = store.get(&keys::key(table::QUEUE, &[topic_id, queue_id]));
    let mut queue = stored.map_or(Queue::default(), |value| Queue {
        min: keys::u64_at(&value, 0),
        max: keys::u64_at(&value, 8),
        holes: value.get(16).is_some_and(|holes| *holes != 0),
    });
    let prefix = keys::key(table::UNIT, &[topic_id, queue_id]);
    let Some((key, value)) = store.last(&prefix, &keys::end_of(&prefix)) else {
        return (queue, None);
    };
    let behind_last = u64::from(!planted(Bug::QueueOffsetReused));
    queue.max = queue.max.max(keys::u64_at(&key, 9) + behind_last);
    (queue, Some(Unit::decode(&value)))
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
