//! Topics that keep their messages for a shorter time than the node does.
//!
//! Only index entries go: segments hold the messages of all topics, and go by the node's retention. So
//! this takes messages away from consumers and frees no disk.
//!
//! Invariant: nothing goes that a consumer holds or held within that time, nor what came into its queue
//! behind that.
//!
//! Not here: lite topics, which go when they are idle.

use super::State;
use super::Unit;
use super::first_where;
use super::is_held;

/// The topics that have a retention of their own.
pub(crate) fn short_lived(state: &State) -> Vec<u32> {
    let topics = state.topics.iter().filter(|(_, topic)| topic.record.retention_ms > 0);
    topics.map(|(topic_id, _)| *topic_id).collect()
}

/// Queue ids and new first offsets of the queues of such a topic that hold messages older at `time_ms`
/// than it keeps them. `first` finds the first index entry of a queue in a range.
pub(crate) fn outlived(
    state: &State,
    topic_id: u32,
    time_ms: u64,
    first: impl Fn(u32, u64, u64) -> Option<(u64, Unit)>,
) -> Vec<(u32, u64)> {
    let Some(topic) = state.topics.get(&topic_id) else { return Vec::new() };
    let before_ms = time_ms.saturating_sub(topic.record.retention_ms);
    let mut outlived = Vec::new();
    for (queue_id, queue) in (0..).zip(&topic.queues) {
        let kept = |unit: &Unit| unit.stored_ms >= before_ms;
        let old = first_where(*queue, |from, to| first(queue_id, from, to), kept);
        let unit = |offset| first(queue_id, offset, offset + 1).map(|(_, unit)| unit);
        let min = old.min(first_held(state, (topic_id, queue_id), queue.max, before_ms, unit));
        if min > queue.min {
            outlived.push((queue_id, min));
        }
    }
    outlived
}

/// The first offset that a consumer group holds, or the end of the queue.
fn first_held(
    state: &State,
    (topic_id, queue_id): (u32, u32),
    end: u64,
    since_ms: u64,
    unit: impl Fn(u64) -> Option<Unit>,
) -> u64 {
    let of_topic = state.consumptions.iter().filter(|(ids, _)| ids.1 == topic_id);
    let queues = of_topic.filter_map(|(_, it)| it.progress(queue_id));
    let first = queues.filter_map(|progress| {
        let held = progress.inflight.iter().find(|(offset, record)| {
            unit(**offset).is_some_and(|unit| is_held(record, &unit, since_ms))
        });
        held.map(|(offset, _)| *offset)
    });
    first.min().map_or(end, |first| end.min(first))
}
