//! Lite topics: made when they are first named, subscribed to by name, forgotten when nobody uses them.

use std::collections::BTreeSet;

use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::lite_start::From;

use super::CommandReply;
use super::Outcome;
use super::Rejection;
use super::State;
use super::Step;
use super::keys;
use super::table;
use crate::state;
use crate::state::LITE_EMPTY_KEPT_MS;
use crate::state::LITE_QUEUES_FROM;
use crate::state::Queue;
use crate::state::Topic;

impl Step<'_> {
    pub(super) fn create_lite(
        &mut self,
        state: &mut State,
        command: &wire::CreateLiteTopics,
    ) -> Outcome {
        let topic = lite_parent(state, command.topic_id)?;
        let new = new_names(topic, &command.names);
        check_topic_quota(topic, new.len())?;
        self.add_lite(state, command.topic_id, &new);
        Ok(CommandReply::Done)
    }

    /// All or nothing: whoever is over a quota changes nothing.
    pub(super) fn subscribe_lite(
        &mut self,
        state: &mut State,
        command: &wire::SubscribeLite,
    ) -> Outcome {
        let ids = (command.group_id, command.topic_id);
        let group = state.groups.get(&ids.0).ok_or(Rejection::GroupNotFound)?;
        let topic = lite_parent(state, ids.1)?;
        let exclusive = group.lite_exclusive;
        let quota = state::lite_subscriptions_max(group);
        let subscribed =
            state.consumptions.get(&ids).and_then(|it| it.lite.of_client(&command.client_id));
        let before = subscribed.cloned().unwrap_or_default();
        let added: BTreeSet<&String> = command.added.iter().collect();
        let new = new_names(topic, &command.added);
        let known: BTreeSet<u32> = added.iter().filter_map(|name| topic.lite.id(name)).collect();
        let removed = command.removed.iter().filter_map(|name| topic.lite.id(name));
        let mut removed: BTreeSet<u32> = match command.complete {
            true => before.iter().copied().collect(),
            false => removed.filter(|id| before.contains(id)).collect(),
        };
        removed.retain(|id| !known.contains(id));
        let count = before.union(&known).count() - removed.len() + new.len();
        if count > quota as usize && count > before.len() {
            return Err(Rejection::TooManyLiteSubscriptions { count, quota });
        }
        check_topic_quota(topic, new.len())?;
        self.add_lite(state, ids.1, &new);
        for queue_id in removed {
            self.unsubscribe_lite(state, ids, &command.client_id, queue_id);
        }
        let mut displaced = Vec::new();
        for name in added {
            let id = state.topics.get(&ids.1).and_then(|topic| topic.lite.id(name));
            let Some(queue_id) = id.filter(|id| !before.contains(id)) else { continue };
            if exclusive {
                let others = state.consumption(ids).lite.subscribers(queue_id).cloned();
                let others: Vec<_> = others.collect();
                if command.complete && !others.is_empty() {
                    // It has not heard yet that another one took it.
                    continue;
                }
                for other in others {
                    self.unsubscribe_lite(state, ids, &other, queue_id);
                    displaced.push((other, name.clone()));
                }
            }
            self.begin_lite(state, ids, queue_id, command.start.as_ref());
            state.consumption(ids).subscribe_lite(&command.client_id, queue_id);
            let key = keys::lite_subscription_key(ids, queue_id, &command.client_id);
            self.batch.put(&key, &[]);
            self.lite.push((ids.1, queue_id));
        }
        Ok(CommandReply::SubscribedLite { displaced })
    }

    fn unsubscribe_lite(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        client_id: &str,
        queue_id: u32,
    ) {
        state.consumption(ids).unsubscribe_lite(client_id, queue_id);
        self.batch.delete(&keys::lite_subscription_key(ids, queue_id, client_id));
        // Another one may go on with it.
        self.lite.push((ids.1, queue_id));
    }

    /// What a client that is gone subscribed to.
    pub(super) fn leave_lite(&mut self, state: &mut State, client_id: &str) {
        let subscribed: Vec<_> = state
            .consumptions
            .iter()
            .filter_map(|(ids, it)| Some((*ids, it.lite.of_client(client_id)?.clone())))
            .collect();
        for (ids, queue_ids) in subscribed {
            for queue_id in queue_ids {
                self.unsubscribe_lite(state, ids, client_id, queue_id);
            }
        }
    }

    /// Forgets lite topics to which nobody subscribes, when they are as idle as the leader thought.
    pub(super) fn expire_lite(
        &mut self,
        state: &mut State,
        command: &wire::ExpireLiteTopics,
    ) -> Outcome {
        let mut count = 0;
        for queue_id in &command.queue_ids {
            let Some(topic) = state.topics.get(&command.topic_id) else { break };
            if !state.is_idle_lite(topic, *queue_id, self.time_ms) {
                continue;
            }
            count += 1;
            self.remove_lite(state, command.topic_id, *queue_id);
        }
        Ok(CommandReply::Moved { count })
    }

    fn remove_lite(&mut self, state: &mut State, topic_id: u32, queue_id: u32) {
        if let Some(topic) = state.topics.get_mut(&topic_id) {
            topic.lite.remove(queue_id);
        }
        for table in [table::LITE, table::QUEUE] {
            self.batch.delete(&keys::key(table, &[topic_id, queue_id]));
        }
        let prefix = keys::key(table::UNIT, &[topic_id, queue_id]);
        self.batch.delete_range(&prefix, &keys::end_of(&prefix));
        let groups: Vec<_> =
            state.consumptions.keys().filter(|ids| ids.1 == topic_id).copied().collect();
        for ids in groups {
            let consumption = state.consumption(ids);
            let Some(progress) = consumption.lite.progress.get(&queue_id) else { continue };
            let held: Vec<u64> = progress.inflight.keys().copied().collect();
            for offset in held {
                self.remove_inflight(state, ids, queue_id, offset);
            }
            let consumption = state.consumption(ids);
            consumption.lite.progress.remove(&queue_id);
            if consumption.lite.is_empty() && consumption.subscriptions.is_empty() {
                state.consumptions.remove(&ids);
            }
            self.batch.delete(&keys::key(table::PROGRESS, &[ids.0, ids.1, queue_id]));
        }
    }

    fn add_lite(&mut self, state: &mut State, topic_id: u32, names: &BTreeSet<&String>) {
        for name in names {
            let queue_id = state.next_lite_id();
            let Some(topic) = state.topics.get_mut(&topic_id) else { return };
            topic.lite.insert(queue_id, name, self.time_ms);
            self.put_lite(state, topic_id, queue_id);
        }
        if !names.is_empty() {
            self.batch.put(&[table::COUNTERS, 2], &state.last_lite_id.to_be_bytes());
        }
    }

    /// Writes what a lite topic is called, and when it was used: what its messages do not say.
    pub(super) fn put_lite(&mut self, state: &State, topic_id: u32, queue_id: u32) {
        let lite = state.topics.get(&topic_id).and_then(|topic| topic.lite.get(queue_id));
        let Some(lite) = lite else { return };
        let record =
            wire::LiteTopicRecord { name: lite.name.to_string(), touched_ms: lite.touched_ms };
        let key = keys::key(table::LITE, &[topic_id, queue_id]);
        self.batch.put(&key, &record.encode_to_vec());
    }

    /// Where the group goes on in a lite topic: where it was, or where it was made to begin; a client
    /// that subscribes anew may say otherwise.
    fn begin_lite(
        &mut self,
        state: &mut State,
        ids: (u32, u32),
        queue_id: u32,
        start: Option<&wire::LiteStart>,
    ) {
        let Some(queue) = state.topics.get(&ids.1).and_then(|it| it.queue(queue_id)).copied()
        else {
            return;
        };
        let own = state.consumption(ids).progress(queue_id).is_some();
        let offset = match start.and_then(|start| start.from) {
            None if own => return,
            None => {
                let start = state.groups.get(&ids.0).and_then(|group| group.start);
                self.start_offset(ids.1, queue_id, queue, &start.unwrap_or_default())
            }
            Some(From::First(_)) => queue.min,
            Some(From::End(_)) => queue.max,
            Some(From::Offset(offset)) => offset.clamp(queue.min, queue.max),
            Some(From::LastCount(count)) => queue.max.saturating_sub(count).max(queue.min),
            Some(From::TimestampMs(timestamp_ms)) => {
                let kind = wire::start::Kind::Timestamp.into();
                self.start_offset(ids.1, queue_id, queue, &wire::Start { kind, timestamp_ms })
            }
        };
        self.move_cursor(state, ids, queue_id, offset);
    }
}

impl State {
    /// Whether a lite topic may be forgotten: nobody subscribes to it, and it is empty and unused for an
    /// hour, or was not sent to for as long as its parent keeps such.
    pub(crate) fn is_idle_lite(&self, topic: &Topic, queue_id: u32, time_ms: u64) -> bool {
        let Some(lite) = topic.lite.get(queue_id) else { return false };
        let Queue { min, max, .. } = lite.queue;
        let idle_ms = time_ms.saturating_sub(lite.touched_ms);
        let expiration_ms = topic.record.lite_expiration_ms;
        let idle = (min == max && idle_ms >= LITE_EMPTY_KEPT_MS)
            || (expiration_ms > 0 && idle_ms >= expiration_ms);
        let subscribed = |(ids, it): (&(u32, u32), &state::Consumption)| {
            ids.1 == topic.record.id && it.lite.subscribers(queue_id).next().is_some()
        };
        idle && !self.consumptions.iter().any(subscribed)
    }

    /// An id that no lite topic has.
    fn next_lite_id(&mut self) -> u32 {
        loop {
            self.last_lite_id = self.last_lite_id.wrapping_add(1).max(LITE_QUEUES_FROM);
            let id = self.last_lite_id;
            // Numbers begin again after four thousand million.
            if !self.topics.values().any(|topic| topic.lite.get(id).is_some()) {
                return id;
            }
        }
    }
}

fn lite_parent(state: &State, topic_id: u32) -> Result<&Topic, Rejection> {
    let topic = state.topics.get(&topic_id).ok_or(Rejection::TopicNotFound)?;
    match topic.is_lite() {
        true => Ok(topic),
        false => Err(Rejection::NotLite(topic.record.name.clone())),
    }
}

/// Each name once that is not one of a lite topic yet.
fn new_names<'a>(topic: &Topic, names: &'a [String]) -> BTreeSet<&'a String> {
    names.iter().filter(|name| topic.lite.id(name).is_none()).collect()
}

fn check_topic_quota(topic: &Topic, new: usize) -> Result<(), Rejection> {
    let quota = state::lite_topics_max(&topic.record);
    match new > 0 && topic.lite.len() + new > quota as usize {
        true => Err(Rejection::TooManyLiteTopics { topic: topic.record.name.clone(), quota }),
        false => Ok(()),
    }
}
