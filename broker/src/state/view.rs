//! What the state holds, for whoever compares it with something else: tests, and tools that look.
//!
//! Not here: anything that serves clients; reading everything is slow.

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::state::StateStore;

use super::Queue;
use super::State;
use super::keys;
use super::keys::Unit;
use super::keys::table;

/// A look at the state, in memory and in the tables.
#[derive(Clone, Copy)]
pub struct View<'a> {
    state: &'a State,
    store: &'a StateStore,
}

/// A queue and what can be read in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// First offset that may have a message.
    pub min: u64,
    /// The offset of the next message.
    pub max: u64,
    /// The messages by offset, in order.
    pub messages: Vec<(u64, Unit)>,
}

/// A lite topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteView {
    /// Its queue id.
    pub queue_id: u32,
    /// What it is called.
    pub name: String,
    /// When it was made or last sent to.
    pub touched_ms: u64,
    /// Its messages.
    pub queue: QueueView,
}

/// How far a group is in one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressView {
    /// Next offset that was neither handed out nor held back.
    pub next_offset: u64,
    /// Every offset below this one is consumed.
    pub commit_offset: u64,
    /// What is out or held back, by offset, in order.
    pub inflight: Vec<(u64, wire::InflightRecord)>,
}

/// How far a group is in a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumptionView {
    /// By queue id.
    pub queues: Vec<ProgressView>,
    /// What was handed out, by (when it becomes visible, queue id, offset).
    pub due: Vec<(u64, u32, u64)>,
    /// What was held back and may be handed out now: (queue id, offset).
    pub ready: Vec<(u32, u64)>,
    /// What can be read again: (hash of the attempt id, queue id, offset).
    pub attempts: Vec<(u64, u32, u64)>,
    /// With which filters members receive.
    pub subscriptions: Vec<wire::Subscription>,
    /// How far the group is in lite topics, by queue id.
    pub lite: Vec<(u32, ProgressView)>,
    /// Which client subscribes to which lite topics, by queue id.
    pub lite_members: Vec<(String, Vec<u32>)>,
}

impl State {
    /// A look at this state, whose tables are `store`.
    pub fn view<'a>(&'a self, store: &'a StateStore) -> View<'a> {
        View { state: self, store }
    }
}

impl View<'_> {
    /// Leader's time of the last entry.
    pub fn time_ms(&self) -> u64 {
        self.state.time_ms
    }

    /// Retention has let go of everything that came into its queue before this log index.
    pub fn trimmed_before(&self) -> u64 {
        self.state.trimmed_before
    }

    /// The first log index of which a record is still in a queue, as far as retention has let go.
    pub fn needed_from(&self) -> u64 {
        self.state.needed_from(self.store)
    }

    /// No timer is due before this time; `u64::MAX` without one.
    pub fn next_due_ms(&self) -> u64 {
        self.state.next_due_ms
    }

    /// The topics, by id.
    pub fn topics(&self) -> Vec<wire::TopicRecord> {
        self.state.topics.values().map(|topic| topic.record.clone()).collect()
    }

    /// The consumer groups, by id.
    pub fn groups(&self) -> Vec<wire::GroupRecord> {
        self.state.groups.values().cloned().collect()
    }

    /// The queues of a topic, by id.
    pub fn queues(&self, topic_id: u32) -> Vec<QueueView> {
        let queues = self.state.topics.get(&topic_id).map_or(&[][..], |topic| &topic.queues);
        (0..).zip(queues).map(|(queue_id, queue)| self.queue(topic_id, queue_id, *queue)).collect()
    }

    /// The lite topics of a topic, by queue id.
    pub fn lite_topics(&self, topic_id: u32) -> Vec<LiteView> {
        let Some(topic) = self.state.topics.get(&topic_id) else { return Vec::new() };
        let view = |(queue_id, lite): (u32, &super::lite::LiteTopic)| LiteView {
            queue_id,
            name: lite.name.to_string(),
            touched_ms: lite.touched_ms,
            queue: self.queue(topic_id, queue_id, lite.queue),
        };
        topic.lite.each().map(view).collect()
    }

    fn queue(&self, topic_id: u32, queue_id: u32, Queue { min, max, .. }: Queue) -> QueueView {
        let mut messages = Vec::new();
        super::units(self.store, topic_id, queue_id, 0, u64::MAX, |offset, unit| {
            messages.push((offset, unit));
            true
        });
        QueueView { min, max, messages }
    }

    /// How far each group is in each topic it consumes, by (group id, topic id).
    pub fn consumptions(&self) -> Vec<((u32, u32), ConsumptionView)> {
        let view = |consumption: &super::Consumption| ConsumptionView {
            queues: consumption.queues.iter().map(ProgressView::of).collect(),
            due: consumption.due.iter().copied().collect(),
            ready: consumption.ready.iter().copied().collect(),
            attempts: consumption
                .attempts
                .iter()
                .flat_map(|(hash, places)| places.iter().map(|place| (*hash, place.0, place.1)))
                .collect(),
            subscriptions: consumption.subscriptions.clone(),
            lite: consumption
                .lite
                .progress
                .iter()
                .map(|(queue_id, progress)| (*queue_id, ProgressView::of(progress)))
                .collect(),
            lite_members: consumption
                .lite
                .members()
                .map(|(client_id, own)| (client_id.to_string(), own.iter().copied().collect()))
                .collect(),
        };
        self.state.consumptions.iter().map(|(ids, it)| (*ids, view(it))).collect()
    }

    /// What is to happen at a time, in the order in which it will, and where its message lies.
    pub fn timers(&self) -> Vec<(wire::Timer, wire::TimerRecord, Unit)> {
        let mut timers = Vec::new();
        super::scan(self.store, table::TIMER, |key, value| {
            let record: wire::TimerRecord = super::decode(value);
            let unit = Unit::decode(&record.unit);
            timers.push((keys::timer_at(key, 1), record, unit));
        });
        timers
    }

    /// Half messages: topic id, transaction id, record, and where the message lies.
    pub fn halves(&self) -> Vec<(u32, Vec<u8>, wire::HalfRecord, Unit)> {
        let mut halves = Vec::new();
        super::halves(self.store, None, |topic_id, transaction_id, record| {
            let unit = Unit::decode(&record.unit);
            halves.push((topic_id, transaction_id.to_vec(), record, unit));
            true
        });
        halves
    }

    /// Records of timers that lie before `log_index`, as retention finds them: the oldest first.
    pub fn timers_in_log_before(&self, log_index: u64) -> Vec<wire::Timer> {
        let mut timers = Vec::new();
        super::timers_in_log_before(self.store, log_index, |timer| {
            timers.push(timer);
            true
        });
        timers
    }
}

impl ProgressView {
    fn of(progress: &super::Progress) -> Self {
        Self {
            next_offset: progress.next_offset,
            commit_offset: progress.commit_offset(),
            inflight: progress.inflight.iter().map(|(at, it)| (*at, it.clone())).collect(),
        }
    }
}
