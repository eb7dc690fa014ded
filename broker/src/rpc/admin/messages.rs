//! Looking at messages without consuming them.

use std::collections::VecDeque;

use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use tonic::Status;

use super::limit;
use super::lite;
use super::no_topic;
use super::reading;
use crate::node::Node;
use crate::receive;
use crate::state;
use crate::state::Queue;
use crate::state::Unit;

const PEEK_MAX: u32 = 100;

pub(super) async fn peek(
    node: &Node,
    request: wire::PeekMessagesRequest,
) -> Result<wire::PeekMessagesResponse, Status> {
    let (topic_id, queues) = {
        let state = node.state.read();
        let topic = state.topic(&request.topic).ok_or_else(|| no_topic(&request.topic))?;
        (topic.record.id, lite::queues(topic, &request.lite_topic)?)
    };
    let messages = reading(node, move |node| read(node, topic_id, &queues, &request)).await?;
    Ok(wire::PeekMessagesResponse { messages })
}

fn read(
    node: &Node,
    topic_id: u32,
    queues: &[(u32, Queue)],
    request: &wire::PeekMessagesRequest,
) -> Result<Vec<v2::Message>, Status> {
    let count = limit("count", request.count, 1, PEEK_MAX)? as usize;
    let resource = v2::Resource { name: request.topic.clone(), ..Default::default() };
    let mut messages = Vec::new();
    for (queue_id, queue) in queues.iter().copied() {
        if request.queue_id.is_some_and(|wanted| wanted != queue_id) {
            continue;
        }
        let from = |offset, keep| kept(node, topic_id, queue_id, (offset, queue.max), keep);
        let units = match request.offset {
            Some(offset) => from(offset.max(queue.min), Keep::First(count)),
            None => last(count, (queue.min, queue.max), |offset| from(offset, Keep::Last(count))),
        };
        for (offset, unit) in units {
            let message =
                receive::read(node, &unit).map_err(|error| Status::data_loss(error.to_string()))?;
            messages.push(receive::placed(message, &resource, queue_id, offset, &unit));
        }
    }
    Ok(messages)
}

/// Which index entries of a range are wanted.
#[derive(Clone, Copy)]
enum Keep {
    First(usize),
    Last(usize),
}

fn kept(
    node: &Node,
    topic_id: u32,
    queue_id: u32,
    (from, to): (u64, u64),
    keep: Keep,
) -> VecDeque<(u64, Unit)> {
    let mut units = VecDeque::new();
    state::units(node.group.store(), topic_id, queue_id, from, to, |offset, unit| {
        units.push_back((offset, unit));
        match keep {
            Keep::First(count) => units.len() < count,
            Keep::Last(count) => {
                if units.len() > count {
                    units.pop_front();
                }
                true
            }
        }
    });
    units
}

/// The last `count` index entries of a queue, of which some offsets may hold none: looks ever
/// farther back. `last_from` gives the last ones behind an offset.
fn last<T>(
    count: usize,
    (min, max): (u64, u64),
    last_from: impl Fn(u64) -> VecDeque<T>,
) -> VecDeque<T> {
    let mut reach = count as u64;
    loop {
        let from = max.saturating_sub(reach).max(min);
        let found = last_from(from);
        if found.len() >= count || from == min {
            return found;
        }
        reach = reach.saturating_mul(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_found_behind_holes() {
        let stored = [1_u64, 2, 50, 99];
        let last = |count: usize, min| {
            last(count, (min, 100), |from| {
                let behind: VecDeque<u64> =
                    stored.iter().copied().filter(|offset| *offset >= from).collect();
                behind.iter().copied().skip(behind.len().saturating_sub(count)).collect()
            })
        };
        assert_eq!(last(1, 0), [99]);
        assert_eq!(last(3, 0), [2, 50, 99]);
        assert_eq!(last(9, 0), stored);
        assert_eq!(last(9, 2), [2, 50, 99]);
        assert!(super::last(3, (0, 0), |_| VecDeque::<u64>::new()).is_empty());
    }
}
