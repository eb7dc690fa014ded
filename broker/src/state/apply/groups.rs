//! Consumer groups: made, changed and deleted, and with which filters their members receive.

use prost::Message;
use raftmq_proto::raftmq as wire;

use super::CommandReply;
use super::Outcome;
use super::Rejection;
use super::State;
use super::Step;
use super::keys;
use super::table;

/// Different filters of one group in one topic. What none of them wants is consumed, so each message
/// is looked at with all of them.
const SUBSCRIPTIONS_MAX: usize = 64;

impl Step<'_> {
    pub(super) fn create_group(
        &mut self,
        state: &mut State,
        command: wire::CreateGroup,
    ) -> Outcome {
        if state.group_ids.contains_key(&command.name) {
            return Err(Rejection::Exists(format!("consumer group {}", command.name)));
        }
        let record = wire::GroupRecord {
            id: state.next_group_id,
            name: command.name,
            max_attempts: command.max_attempts.max(1),
            created_ms: self.time_ms,
            fifo: command.fifo,
            start: command.start,
            backoff: command.backoff,
            receive_rate_max: command.receive_rate_max,
            lite_subscriptions_max: command.lite_subscriptions_max,
            lite_exclusive: command.lite_exclusive,
        };
        state.next_group_id += 1;
        self.batch.put(&keys::key(table::GROUP, &[record.id]), &record.encode_to_vec());
        state.group_ids.insert(record.name.clone(), record.id);
        state.groups.insert(record.id, record.clone());
        self.note_metadata(state);
        Ok(CommandReply::Group(record))
    }

    pub(super) fn update_group(
        &mut self,
        state: &mut State,
        command: &wire::UpdateGroup,
    ) -> Outcome {
        let id = state.group_ids.get(&command.name).copied();
        let group = id.and_then(|id| state.groups.get_mut(&id)).ok_or(Rejection::GroupNotFound)?;
        group.receive_rate_max = command.receive_rate_max;
        let record = group.clone();
        self.batch.put(&keys::key(table::GROUP, &[record.id]), &record.encode_to_vec());
        self.note_metadata(state);
        Ok(CommandReply::Group(record))
    }

    pub(super) fn delete_group(&mut self, state: &mut State, name: &str) -> Outcome {
        let id = state.group_ids.remove(name).ok_or(Rejection::GroupNotFound)?;
        state.groups.remove(&id);
        self.batch.delete(&keys::key(table::GROUP, &[id]));
        let consumed: Vec<_> =
            state.consumptions.keys().filter(|ids| ids.0 == id).copied().collect();
        for ids in consumed {
            self.remove_consumption(state, ids);
        }
        self.note_metadata(state);
        Ok(CommandReply::Done)
    }

    pub(super) fn remove_consumption(&mut self, state: &mut State, ids: (u32, u32)) {
        state.consumptions.remove(&ids);
        let tables =
            [table::PROGRESS, table::INFLIGHT, table::SUBSCRIPTIONS, table::LITE_SUBSCRIPTION];
        for table in tables {
            let prefix = keys::key(table, &[ids.0, ids.1]);
            self.batch.delete_range(&prefix, &keys::end_of(&prefix));
        }
    }

    pub(super) fn subscribe(&mut self, state: &mut State, command: wire::Subscribe) -> Outcome {
        let ids = (command.group_id, command.topic_id);
        if !state.topics.contains_key(&ids.1) {
            return Err(Rejection::TopicNotFound);
        }
        if !state.groups.contains_key(&ids.0) {
            return Err(Rejection::GroupNotFound);
        }
        self.begin_consumption(state, ids);
        let subscription = command.subscription.unwrap_or_default();
        let subscriptions = &mut state.consumption(ids).subscriptions;
        if !subscriptions.contains(&subscription) {
            if subscriptions.len() >= SUBSCRIPTIONS_MAX {
                return Err(Rejection::TooManyFilters(subscriptions.len()));
            }
            subscriptions.push(subscription);
            self.put_subscriptions(state, ids);
        }
        Ok(CommandReply::Done)
    }

    pub(super) fn unsubscribe(&mut self, state: &mut State, command: wire::Unsubscribe) -> Outcome {
        let ids = (command.group_id, command.topic_id);
        let gone = command.subscription.unwrap_or_default();
        if let Some(consumption) = state.consumptions.get_mut(&ids) {
            consumption.subscriptions.retain(|subscription| *subscription != gone);
            self.put_subscriptions(state, ids);
        }
        Ok(CommandReply::Done)
    }

    fn put_subscriptions(&mut self, state: &mut State, ids: (u32, u32)) {
        let subscriptions = state.consumption(ids).subscriptions.clone();
        let record = wire::SubscriptionRecord { subscriptions };
        let key = keys::key(table::SUBSCRIPTIONS, &[ids.0, ids.1]);
        self.batch.put(&key, &record.encode_to_vec());
    }
}
