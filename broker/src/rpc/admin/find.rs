//! Finding messages by id, key or time.
//!
//! An id or key is found for as long as the hour in which its message was stored is kept. A redriven
//! message and a dead letter are found with the message they came from, as its copies.

use std::ops::ControlFlow;

use prost_types::Timestamp;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::ended_record::How;
use raftmq_proto::raftmq::find_messages_request::By;
use raftmq_proto::raftmq::found_message::Whereabouts;
use raftmq_proto::raftmq::group_state;
use raftmq_proto::v2;
use tonic::Status;

use super::limit;
use super::lite;
use super::no_topic;
use super::reading;
use crate::command::key_hash;
use crate::history::Place;
use crate::node::Node;
use crate::receive;
use crate::state;
use crate::state::Queue;
use crate::state::Unit;
use crate::state::finding;
use crate::state::finding::Remembered;

const COUNT_MAX: u32 = 100;
/// Messages with one key that are looked at in one hour.
const KEYED_MAX: usize = 10_000;

pub(super) async fn find(
    node: &Node,
    request: wire::FindMessagesRequest,
) -> Result<wire::FindMessagesResponse, Status> {
    let (record, queues) = {
        let state = node.state.read();
        let topic = state.topic(&request.topic).ok_or_else(|| no_topic(&request.topic))?;
        let by_name = topic.is_lite() && request.lite_topic.is_empty();
        let queues = match by_name && !matches!(request.by, Some(By::Stored(_))) {
            // An id or a key is found in whichever it is.
            true => Vec::new(),
            false => lite::queues(topic, &request.lite_topic)?,
        };
        (topic.record.clone(), queues)
    };
    let work =
        move |node: &Node| Search::new(node, &record, &queues, &request)?.run(request.by.as_ref());
    reading(node, work).await
}

struct Search<'a> {
    node: &'a Node,
    topic: &'a wire::TopicRecord,
    /// Those that are meant; none: any.
    queues: &'a [(u32, Queue)],
    resource: v2::Resource,
    count: usize,
    queue_id: Option<u32>,
}

impl<'a> Search<'a> {
    fn new(
        node: &'a Node,
        topic: &'a wire::TopicRecord,
        queues: &'a [(u32, Queue)],
        request: &wire::FindMessagesRequest,
    ) -> Result<Self, Status> {
        let count = limit("count", request.count, 1, COUNT_MAX)? as usize;
        let resource = v2::Resource { name: request.topic.clone(), ..Default::default() };
        Ok(Self { node, topic, queues, resource, count, queue_id: request.queue_id })
    }

    fn run(&self, by: Option<&By>) -> Result<wire::FindMessagesResponse, Status> {
        let (messages, cut) = match by {
            Some(By::MessageId(id)) => (self.by_id(id)?, false),
            Some(By::Key(key)) => self.by_key(key)?,
            Some(By::Stored(range)) => (self.by_time(range)?, false),
            None => return Err(Status::invalid_argument("an id, a key or a time is needed")),
        };
        Ok(wire::FindMessagesResponse { messages, cut })
    }

    fn id(&self) -> u32 {
        self.topic.id
    }

    fn wants(&self, queue_id: u32) -> bool {
        let meant = |(meant, _): &(u32, Queue)| *meant == queue_id;
        (self.queues.is_empty() || self.queues.iter().any(meant))
            && self.queue_id.is_none_or(|wanted| wanted == queue_id)
    }

    fn unit(&self, queue_id: u32, offset: u64) -> Option<Unit> {
        state::unit(self.node.group.store(), self.id(), queue_id, offset)
    }

    fn by_id(&self, message_id: &str) -> Result<Vec<wire::FoundMessage>, Status> {
        let store = self.node.group.store();
        let id = message_id.as_bytes();
        let mut found = Vec::new();
        for remembered in finding::by_message_id(store, self.id(), id) {
            if found.len() >= self.count {
                break;
            }
            let one = match remembered.place {
                Some((queue_id, _)) if !self.wants(queue_id) => continue,
                Some((queue_id, offset)) => match self.unit(queue_id, offset) {
                    Some(unit) => self.in_queue(queue_id, offset, &unit)?,
                    None => gone(queue_id, offset, remembered.time_ms),
                },
                None if self.queue_id.is_some() => continue,
                // The newer one tells where it came to.
                None if !found.is_empty() => continue,
                None => self.in_no_queue(id, &remembered)?,
            };
            found.push(one);
        }
        Ok(found)
    }

    /// A message that waited when its id was written down.
    fn in_no_queue(
        &self,
        message_id: &[u8],
        remembered: &Remembered,
    ) -> Result<wire::FoundMessage, Status> {
        let store = self.node.group.store();
        let mut found = wire::FoundMessage { since_ms: remembered.time_ms, ..Default::default() };
        if let Some(timer) = &remembered.timer {
            match state::timer(store, timer) {
                Some((_, unit)) => {
                    found.set_whereabouts(Whereabouts::Delayed);
                    found.next_ms = timer.due_ms;
                    found.message = Some(self.waiting(&unit)?);
                }
                None if finding::is_recalled(store, timer) => {
                    found.set_whereabouts(Whereabouts::Recalled);
                }
                None => found.set_whereabouts(Whereabouts::Gone),
            }
        } else if let Some(half) = finding::half(store, self.id(), message_id) {
            found.set_whereabouts(Whereabouts::Half);
            found.checks = half.checks;
            found.next_ms = half.timer.map_or(0, |timer| timer.due_ms);
            let timer = half.timer.and_then(|timer| state::timer(store, &timer));
            // None: decided meanwhile.
            found.message = timer.map(|(_, unit)| self.waiting(&unit)).transpose()?;
        } else {
            let ended = finding::ended(store, self.id(), message_id);
            found.set_whereabouts(match ended.as_ref().map(wire::EndedRecord::how) {
                Some(How::RolledBack) => Whereabouts::RolledBack,
                Some(How::GivenUp) => Whereabouts::GivenUp,
                Some(How::Committed | How::Unknown) | None => Whereabouts::Gone,
            });
            found.since_ms = ended.map_or(found.since_ms, |ended| ended.ended_ms);
        }
        Ok(found)
    }

    fn by_key(&self, key: &str) -> Result<(Vec<wire::FoundMessage>, bool), Status> {
        let store = self.node.group.store();
        let (mut found, mut cut, mut failed) = (Vec::new(), false, None);
        finding::by_key(store, self.id(), key_hash(key), KEYED_MAX, |places| {
            cut |= places.len() >= KEYED_MAX;
            let mut units: Vec<(u32, u64, Unit)> = places
                .into_iter()
                .filter(|(queue_id, _)| self.wants(*queue_id))
                .filter_map(|(queue_id, offset)| {
                    Some((queue_id, offset, self.unit(queue_id, offset)?))
                })
                .collect();
            units.sort_by_key(|(queue_id, offset, unit)| {
                std::cmp::Reverse((unit.placed_index(), *queue_id, *offset))
            });
            for (queue_id, offset, unit) in units {
                if found.len() >= self.count {
                    return ControlFlow::Break(());
                }
                match self.in_queue(queue_id, offset, &unit) {
                    Ok(message) if has_key(&message, key) => found.push(message),
                    // Another key with the same hash.
                    Ok(_) => (),
                    Err(status) => {
                        failed = Some(status);
                        return ControlFlow::Break(());
                    }
                }
            }
            match found.len() >= self.count {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match failed {
            Some(status) => Err(status),
            None => Ok((found, cut)),
        }
    }

    fn by_time(&self, range: &wire::TimeRange) -> Result<Vec<wire::FoundMessage>, Status> {
        let store = self.node.group.store();
        let mut units = Vec::new();
        for (queue_id, queue) in self.queues.iter().copied() {
            if !self.wants(queue_id) {
                continue;
            }
            let from = state::offset_at(store, self.id(), queue_id, queue, range.from_ms);
            let mut taken = 0;
            state::units(store, self.id(), queue_id, from, queue.max, |offset, unit| {
                let wanted = unit.stored_ms < range.to_ms && taken < self.count;
                if wanted {
                    taken += 1;
                    units.push((unit.stored_ms, unit.placed_index(), queue_id, offset, unit));
                }
                wanted
            });
        }
        units.sort_by_key(|(stored_ms, index, queue_id, offset, _)| {
            (*stored_ms, *index, *queue_id, *offset)
        });
        units
            .into_iter()
            .take(self.count)
            .map(|(_, _, queue_id, offset, unit)| self.in_queue(queue_id, offset, &unit))
            .collect()
    }

    fn in_queue(
        &self,
        queue_id: u32,
        offset: u64,
        unit: &Unit,
    ) -> Result<wire::FoundMessage, Status> {
        let message = receive::placed(self.read(unit)?, &self.resource, queue_id, offset, unit);
        let copies = copies(self.node, (self.id(), queue_id, offset), unit);
        Ok(wire::FoundMessage {
            whereabouts: Whereabouts::InQueue.into(),
            message: Some(message),
            queue_id: Some(queue_id),
            offset: Some(offset),
            since_ms: unit.stored_ms,
            groups: self.groups(queue_id, offset),
            copies: copies.iter().map(|copy| self.place(copy)).collect(),
            ..Default::default()
        })
    }

    /// A message that is in no queue yet.
    fn waiting(&self, unit: &Unit) -> Result<v2::Message, Status> {
        let mut message = self.read(unit)?;
        let properties = message.system_properties.get_or_insert_default();
        properties.store_timestamp = Some(Timestamp {
            seconds: (unit.stored_ms / 1000) as i64,
            nanos: (unit.stored_ms % 1000 * 1_000_000) as i32,
        });
        message.topic = Some(self.resource.clone());
        Ok(message)
    }

    fn read(&self, unit: &Unit) -> Result<v2::Message, Status> {
        receive::read(self.node, unit).map_err(|error| Status::data_loss(error.to_string()))
    }

    fn place(&self, place: &Place) -> wire::MessagePlace {
        let state = self.node.state.read();
        let topic = state.topics.get(&place.topic_id);
        wire::MessagePlace {
            topic: topic.map_or_else(String::new, |topic| topic.record.name.clone()),
            queue_id: place.queue_id,
            offset: place.offset,
        }
    }

    /// How far each group is with a message that consumes from this topic.
    fn groups(&self, queue_id: u32, offset: u64) -> Vec<wire::GroupState> {
        let state = self.node.state.read();
        let of_topic = state.consumptions.iter().filter(|(ids, _)| ids.1 == self.id());
        of_topic
            .filter_map(|((group_id, _), consumption)| {
                let group = state.groups.get(group_id)?.name.clone();
                let progress = consumption.progress(queue_id)?;
                let mut told = wire::GroupState { group, ..Default::default() };
                match progress.inflight.get(&offset) {
                    Some(record) if record.attempt > 0 => {
                        told.set_state(group_state::State::InFlight);
                        (told.attempt, told.until_ms) = (record.attempt, record.visible_at_ms);
                    }
                    Some(_) => told.set_state(group_state::State::HeldBack),
                    None if offset < progress.next_offset => {
                        told.set_state(group_state::State::Consumed);
                    }
                    None => told.set_state(group_state::State::NotReached),
                }
                Some(told)
            })
            .collect()
    }
}

fn gone(queue_id: u32, offset: u64, since_ms: u64) -> wire::FoundMessage {
    wire::FoundMessage {
        whereabouts: Whereabouts::Gone.into(),
        queue_id: Some(queue_id),
        offset: Some(offset),
        since_ms,
        ..Default::default()
    }
}

fn has_key(found: &wire::FoundMessage, key: &str) -> bool {
    let message = found.message.as_ref();
    let properties = message.and_then(|message| message.system_properties.as_ref());
    properties.is_some_and(|properties| properties.keys.iter().any(|its| its == key))
}

/// The other index entries of the record behind one: as a dead letter, or redriven. A message that
/// came into its queue when it was sent is not found as the copy of another.
pub(super) fn copies(node: &Node, at: (u32, u32, u64), unit: &Unit) -> Vec<Place> {
    let store = node.group.store();
    let places = finding::moved_of(store, unit.log_index).into_iter();
    places
        .filter(|place| *place != at)
        .filter_map(|(topic_id, queue_id, offset)| {
            let unit = state::unit(store, topic_id, queue_id, offset)?;
            Some(Place { topic_id, queue_id, offset, unit })
        })
        .filter(|copy| copy.unit.offset == unit.offset)
        .collect()
}
