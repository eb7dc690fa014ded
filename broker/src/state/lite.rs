//! Lite topics: queues of one parent topic that come into being when they are first named, by the
//! hundred thousand, and are consumed by whoever names them.
//!
//! A lite topic is a queue whose id begins at [`LITE_QUEUES_FROM`], so that everything that goes by
//! queue ids (index entries, cursors, deliveries, receipts) works for it as for any other. What one
//! costs is an entry in the maps here, about 200 bytes, and nothing on disk but its name.
//!
//! Invariants: ids are never used for another lite topic while they are known; `oldest` tells of each
//! lite topic that has messages where the first of them came into its queue; a subscriber of a group
//! stands in both of its maps, and subscribes through [`Consumption`](super::Consumption).
//!
//! Not here: the tables, quotas (`apply`), who is handed what (`receive::lite`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use raftmq_proto::raftmq as wire;

use super::Progress;
use super::Queue;

/// The first queue id of a lite topic; queues of a topic are fewer.
pub const LITE_QUEUES_FROM: u32 = 1 << 24;

/// Lite topics of one parent unless it was made with another limit: 40 MB of memory on every node.
pub const LITE_TOPICS_DEFAULT: u32 = 200_000;

/// Lite topics to which one client subscribes, unless its group was made with another limit.
pub const LITE_SUBSCRIPTIONS_DEFAULT: u32 = 2_000;

/// How long an empty lite topic to which nobody subscribes is remembered.
pub const LITE_EMPTY_KEPT_MS: u64 = 3_600_000;

/// How many lite topics a topic may have.
pub(crate) fn lite_topics_max(topic: &wire::TopicRecord) -> u32 {
    match topic.lite_topics_max {
        0 => LITE_TOPICS_DEFAULT,
        max => max,
    }
}

/// To how many lite topics of one topic a client of the group may subscribe.
pub(crate) fn lite_subscriptions_max(group: &wire::GroupRecord) -> u32 {
    match group.lite_subscriptions_max {
        0 => LITE_SUBSCRIPTIONS_DEFAULT,
        max => max,
    }
}

/// Whether a queue id is that of a lite topic.
pub(crate) fn is_lite(queue_id: u32) -> bool {
    queue_id >= LITE_QUEUES_FROM
}

/// The lite topics of one parent topic.
#[derive(Clone, Debug, Default)]
pub struct LiteTopics {
    by_id: BTreeMap<u32, LiteTopic>,
    ids: BTreeMap<Arc<str>, u32>,
    /// Those with messages, by where the first one came into its queue: (log index, queue id).
    oldest: BTreeSet<(u64, u32)>,
}

/// One lite topic.
#[derive(Clone, Debug)]
pub struct LiteTopic {
    pub(crate) name: Arc<str>,
    pub(crate) queue: Queue,
    /// When it was made or last sent to, leader's time.
    pub(crate) touched_ms: u64,
    oldest: Option<u64>,
}

impl LiteTopics {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, queue_id: u32) -> Option<&LiteTopic> {
        self.by_id.get(&queue_id)
    }

    /// For its queue; what was appended or cut is told with [`Self::appended`] and [`Self::cut`].
    pub(crate) fn queue_mut(&mut self, queue_id: u32) -> Option<&mut Queue> {
        self.by_id.get_mut(&queue_id).map(|lite| &mut lite.queue)
    }

    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// Each lite topic with its queue id, by name from `name` on.
    pub(crate) fn named_from<'a>(
        &'a self,
        name: &str,
    ) -> impl Iterator<Item = (u32, &'a LiteTopic)> + use<'a> {
        let from = self.ids.range::<str, _>((Bound::Included(name), Bound::Unbounded));
        from.filter_map(|(_, id)| Some((*id, self.by_id.get(id)?)))
    }

    /// Each lite topic, by queue id.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &LiteTopic)> {
        self.by_id.iter().map(|(id, lite)| (*id, lite))
    }

    pub(crate) fn insert(&mut self, queue_id: u32, name: &str, touched_ms: u64) {
        let name: Arc<str> = name.into();
        self.ids.insert(name.clone(), queue_id);
        let lite = LiteTopic { name, queue: Queue::default(), touched_ms, oldest: None };
        self.by_id.insert(queue_id, lite);
    }

    /// Puts in what the tables say of the messages of a lite topic.
    pub(crate) fn loaded(
        &mut self,
        queue_id: u32,
        queue: Queue,
        oldest: Option<u64>,
        last_ms: u64,
    ) {
        let Some(lite) = self.by_id.get_mut(&queue_id) else { return };
        lite.queue = queue;
        lite.touched_ms = lite.touched_ms.max(last_ms);
        self.cut(queue_id, oldest);
    }

    pub(crate) fn remove(&mut self, queue_id: u32) {
        self.cut(queue_id, None);
        if let Some(lite) = self.by_id.remove(&queue_id) {
            self.ids.remove(&lite.name);
        }
    }

    /// A message came into the queue of a lite topic at this log index.
    pub(crate) fn appended(&mut self, queue_id: u32, placed_index: u64, time_ms: u64) {
        let Some(lite) = self.by_id.get_mut(&queue_id) else { return };
        lite.touched_ms = lite.touched_ms.max(time_ms);
        if lite.oldest.is_none() {
            lite.oldest = Some(placed_index);
            self.oldest.insert((placed_index, queue_id));
        }
    }

    /// The first message of a lite topic is another one now.
    pub(crate) fn cut(&mut self, queue_id: u32, oldest: Option<u64>) {
        let Some(lite) = self.by_id.get_mut(&queue_id) else { return };
        if let Some(placed_index) = std::mem::replace(&mut lite.oldest, oldest) {
            self.oldest.remove(&(placed_index, queue_id));
        }
        if let Some(placed_index) = oldest {
            self.oldest.insert((placed_index, queue_id));
        }
    }

    /// Lite topics with messages that came into their queues before this log index, the oldest first:
    /// (log index, queue id).
    pub(crate) fn older_than(&self, log_index: u64) -> impl Iterator<Item = (u64, u32)> {
        self.oldest.range(..(log_index, 0)).copied()
    }
}

/// How far a group is in the lite topics of one parent, and which client subscribes to which.
#[derive(Clone, Debug, Default)]
pub struct LiteConsumption {
    /// By queue id; of lite topics to which the group subscribed at some time.
    pub(crate) progress: BTreeMap<u32, Progress>,
    members: BTreeMap<Arc<str>, BTreeSet<u32>>,
    subscribers: BTreeMap<u32, BTreeSet<Arc<str>>>,
}

impl LiteConsumption {
    /// What a client subscribes to, by queue id.
    pub(crate) fn of_client(&self, client_id: &str) -> Option<&BTreeSet<u32>> {
        self.members.get(client_id)
    }

    /// Who subscribes to a lite topic, in the order of their ids.
    pub(crate) fn subscribers(&self, queue_id: u32) -> impl Iterator<Item = &Arc<str>> {
        self.subscribers.get(&queue_id).into_iter().flatten()
    }

    /// Everybody who subscribes to something, and to what.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Arc<str>, &BTreeSet<u32>)> {
        self.members.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.progress.is_empty() && self.members.is_empty()
    }

    pub(super) fn subscribe(&mut self, client_id: &str, queue_id: u32) {
        let known = self.members.get_key_value(client_id).map(|(known, _)| known.clone());
        let client_id = known.unwrap_or_else(|| client_id.into());
        self.members.entry(client_id.clone()).or_default().insert(queue_id);
        self.subscribers.entry(queue_id).or_default().insert(client_id);
    }

    pub(super) fn unsubscribe(&mut self, client_id: &str, queue_id: u32) {
        if let Some(subscribed) = self.members.get_mut(client_id) {
            subscribed.remove(&queue_id);
            if subscribed.is_empty() {
                self.members.remove(client_id);
            }
        }
        if let Some(subscribers) = self.subscribers.get_mut(&queue_id) {
            subscribers.remove(client_id);
            if subscribers.is_empty() {
                self.subscribers.remove(&queue_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lite_topic_with_messages_is_found_by_its_oldest() {
        let mut topics = LiteTopics::default();
        topics.insert(LITE_QUEUES_FROM, "a", 5);
        topics.insert(LITE_QUEUES_FROM + 1, "b", 5);
        topics.appended(LITE_QUEUES_FROM + 1, 10, 7);
        topics.appended(LITE_QUEUES_FROM + 1, 11, 6);
        let older = |topics: &LiteTopics, index| Vec::from_iter(topics.older_than(index));
        assert_eq!(older(&topics, 10), []);
        assert_eq!(older(&topics, 11), [(10, LITE_QUEUES_FROM + 1)]);
        assert_eq!(topics.get(LITE_QUEUES_FROM + 1).unwrap().touched_ms, 7);
        topics.cut(LITE_QUEUES_FROM + 1, Some(20));
        assert_eq!(older(&topics, 100), [(20, LITE_QUEUES_FROM + 1)]);
        topics.remove(LITE_QUEUES_FROM + 1);
        assert_eq!(older(&topics, 100), []);
        assert_eq!((topics.id("a"), topics.id("b")), (Some(LITE_QUEUES_FROM), None));
    }

    #[test]
    fn both_maps_tell_of_a_subscriber() {
        let mut lite = LiteConsumption::default();
        lite.subscribe("c", 1);
        lite.subscribe("d", 1);
        lite.subscribe("c", 2);
        assert_eq!(lite.subscribers(1).map(|it| &**it).collect::<Vec<_>>(), ["c", "d"]);
        assert_eq!(lite.of_client("c"), Some(&BTreeSet::from([1, 2])));
        lite.unsubscribe("c", 1);
        lite.unsubscribe("d", 1);
        assert_eq!(lite.subscribers(1).count(), 0);
        assert_eq!(lite.members().count(), 1);
    }
}
