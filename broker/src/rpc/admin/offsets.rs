//! Moving the cursors of a group: deciding where to, or only saying it.

use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::reset_offset_request::To;
use raftmq_proto::raftmq::start::Kind;
use tonic::Status;

use super::change;
use super::lite;
use super::no_group;
use super::no_topic;
use super::reading;
use crate::command::Command;
use crate::node::Node;
use crate::state;
use crate::state::Queue;

/// A queue with what is known about it.
struct Cursor {
    queue_id: u32,
    queue: Queue,
    from_offset: u64,
    inflight_count: u64,
}

pub(super) async fn reset(
    node: &Node,
    request: wire::ResetOffsetRequest,
) -> Result<wire::ResetOffsetResponse, Status> {
    let Some(to) = request.to else {
        return Err(Status::invalid_argument("it is not said where the cursors shall go"));
    };
    let (group_id, topic_id, cursors) = cursors(node, &request)?;
    let queues = reading(node, move |node| {
        cursors.into_iter().map(|cursor| target(node, topic_id, &cursor, &to)).collect()
    });
    let queues: Vec<wire::ResetQueue> = queues.await?;
    if !request.dry_run {
        let target = |queue: &wire::ResetQueue| wire::QueueOffset {
            queue_id: queue.queue_id,
            offset: queue.to_offset,
        };
        let queues = queues.iter().map(target).collect();
        change(node, &Command::ResetOffset(wire::ResetOffset { group_id, topic_id, queues }))
            .await?;
    }
    Ok(wire::ResetOffsetResponse { queues })
}

/// Group id, topic id, and the queues that are meant.
fn cursors(
    node: &Node,
    request: &wire::ResetOffsetRequest,
) -> Result<(u32, u32, Vec<Cursor>), Status> {
    let state = node.state.read();
    let group = state.group(&request.group).ok_or_else(|| no_group(&request.group))?;
    let topic = state.topic(&request.topic).ok_or_else(|| no_topic(&request.topic))?;
    let ids = (group.id, topic.record.id);
    let consumption = state.consumptions.get(&ids);
    let cursor = |(queue_id, queue): (u32, Queue)| {
        let own = consumption.and_then(|own| own.progress(queue_id));
        Cursor {
            queue_id,
            queue,
            // A group that never received from the topic has no cursor there yet.
            from_offset: own.map_or(queue.min, |own| own.next_offset),
            inflight_count: own.map_or(0, |own| own.inflight.len() as u64),
        }
    };
    let queues = lite::queues(topic, &request.lite_topic)?;
    let mut cursors: Vec<_> = queues.into_iter().map(cursor).collect();
    if let Some(queue_id) = request.queue_id {
        cursors.retain(|cursor| cursor.queue_id == queue_id);
        if cursors.is_empty() {
            let text = format!(
                "topic {} has no queue {queue_id}, only 0 to {}",
                request.topic,
                topic.queues.len().saturating_sub(1)
            );
            return Err(Status::not_found(text));
        }
    }
    Ok((ids.0, ids.1, cursors))
}

fn target(
    node: &Node,
    topic_id: u32,
    cursor: &Cursor,
    to: &To,
) -> Result<wire::ResetQueue, Status> {
    let Cursor { queue_id, queue, from_offset, inflight_count } = *cursor;
    let to_offset = match to {
        To::Offset(offset) => within(*offset, queue_id, queue)?,
        To::Position(start) => match Kind::try_from(start.kind) {
            Ok(Kind::First) => queue.min,
            Ok(Kind::Last) => queue.max,
            Ok(Kind::Timestamp) => {
                state::offset_at(node.group.store(), topic_id, queue_id, queue, start.timestamp_ms)
            }
            Err(_) => {
                let text = format!("{} is not the number of a position", start.kind);
                return Err(Status::invalid_argument(text));
            }
        },
    };
    Ok(wire::ResetQueue { queue_id, from_offset, to_offset, inflight_count })
}

fn within(offset: u64, queue_id: u32, queue: Queue) -> Result<u64, Status> {
    match (queue.min..=queue.max).contains(&offset) {
        true => Ok(offset),
        false => Err(Status::out_of_range(format!(
            "queue {queue_id} has offsets {} to {}, not {offset}; choose one queue with --queue, or \
             a time",
            queue.min, queue.max
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_lies_in_the_queue_or_at_its_end() {
        let queue = Queue { min: 3, max: 7, ..Queue::default() };
        assert_eq!(within(3, 0, queue).unwrap(), 3);
        assert_eq!(within(7, 0, queue).unwrap(), 7);
        for offset in [2, 8] {
            let status = within(offset, 5, queue).unwrap_err();
            assert_eq!(status.code(), tonic::Code::OutOfRange);
            assert!(status.message().contains("queue 5 has offsets 3 to 7"), "{status}");
        }
    }
}
