//! Topics: made, changed, and deleted with everything that belongs to them.

use prost::Message;
use raftmq_proto::raftmq as wire;

use super::CommandReply;
use super::Outcome;
use super::Rejection;
use super::State;
use super::Step;
use super::keys;
use super::table;
use crate::state::LiteTopics;
use crate::state::Queue;
use crate::state::Topic;

impl Step<'_> {
    pub(super) fn create_topic(
        &mut self,
        state: &mut State,
        command: wire::CreateTopic,
    ) -> Outcome {
        if state.topic_ids.contains_key(&command.name) {
            return Err(Rejection::Exists(format!("topic {}", command.name)));
        }
        let record = self.add_topic(
            state,
            wire::TopicRecord {
                name: command.name,
                queue_count: command.queue_count.max(1),
                message_types: command.message_types,
                retention_ms: command.retention_ms,
                send_rate_max: command.send_rate_max,
                lite_topics_max: command.lite_topics_max,
                lite_expiration_ms: command.lite_expiration_ms,
                ..Default::default()
            },
        );
        Ok(CommandReply::Topic(record))
    }

    pub(super) fn update_topic(
        &mut self,
        state: &mut State,
        command: &wire::UpdateTopic,
    ) -> Outcome {
        let id = state.topic_ids.get(&command.name).copied();
        let topic = id.and_then(|id| state.topics.get_mut(&id)).ok_or(Rejection::TopicNotFound)?;
        topic.record.send_rate_max = command.send_rate_max;
        let record = topic.record.clone();
        self.batch.put(&keys::key(table::TOPIC, &[record.id]), &record.encode_to_vec());
        self.note_metadata(state);
        Ok(CommandReply::Topic(record))
    }

    pub(super) fn add_topic(
        &mut self,
        state: &mut State,
        record: wire::TopicRecord,
    ) -> wire::TopicRecord {
        let record =
            wire::TopicRecord { id: state.next_topic_id, created_ms: self.time_ms, ..record };
        state.next_topic_id += 1;
        self.batch.put(&keys::key(table::TOPIC, &[record.id]), &record.encode_to_vec());
        state.topic_ids.insert(record.name.clone(), record.id);
        let queues = vec![Queue::default(); record.queue_count as usize];
        let lite = LiteTopics::default();
        state.topics.insert(record.id, Topic { record: record.clone(), queues, lite });
        self.note_metadata(state);
        record
    }

    pub(super) fn delete_topic(&mut self, state: &mut State, name: &str) -> Outcome {
        let id = state.topic_ids.remove(name).ok_or(Rejection::TopicNotFound)?;
        state.topics.remove(&id);
        self.batch.delete(&keys::key(table::TOPIC, &[id]));
        // Timers stay: what they were for is missed when they fire.
        for table in [table::QUEUE, table::UNIT, table::HALF, table::LITE] {
            let prefix = keys::key(table, &[id]);
            self.batch.delete_range(&prefix, &keys::end_of(&prefix));
        }
        let consumed: Vec<_> =
            state.consumptions.keys().filter(|ids| ids.1 == id).copied().collect();
        for ids in consumed {
            self.remove_consumption(state, ids);
        }
        self.note_metadata(state);
        Ok(CommandReply::Done)
    }
}
