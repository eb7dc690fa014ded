//! Consumer groups, and how far they are.

use raftmq_proto::names;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::start::Kind;
use tonic::Status;

use super::change;
use super::leaders_time;
use super::limit;
use super::no_group;
use super::reading;
use crate::command::Command;
use crate::lite;
use crate::node::Node;
use crate::state;
use crate::state::CommandReply;
use crate::state::Consumption;
use crate::state::LITE_SUBSCRIPTIONS_DEFAULT;
use crate::state::Progress;
use crate::state::Queue;
use crate::state::Topic;

pub(crate) const ATTEMPTS_DEFAULT: u32 = 17;
const ATTEMPTS_MAX: u32 = 1000;
/// Delays of a backoff that names each.
const DELAYS_MAX: usize = 64;
/// Longest time between two attempts: what an invisible duration may be.
const DELAY_MAX_MS: u64 = 12 * 3_600_000;

pub(super) async fn create(
    node: &Node,
    request: wire::CreateGroupRequest,
) -> Result<wire::ConsumerGroup, Status> {
    names::consumer_group(&request.name)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    check_start(request.start.as_ref())?;
    check_backoff(request.backoff.as_ref())?;
    let attempts = request.max_attempts;
    let command = Command::CreateGroup(wire::CreateGroup {
        max_attempts: limit("max_attempts", attempts, ATTEMPTS_DEFAULT, ATTEMPTS_MAX)?,
        name: request.name,
        fifo: request.fifo,
        start: request.start,
        backoff: request.backoff,
        receive_rate_max: request.receive_rate_max,
        lite_subscriptions_max: limit(
            "lite_subscriptions_max",
            request.lite_subscriptions_max,
            LITE_SUBSCRIPTIONS_DEFAULT,
            lite::NAMES_MAX as u32,
        )?,
        lite_exclusive: request.lite_exclusive,
    });
    match change(node, &command).await? {
        CommandReply::Group(group) => Ok(to_wire(&group)),
        other => panic!("creating a group was answered with {other:?}"),
    }
}

pub(super) async fn update(
    node: &Node,
    request: wire::UpdateGroupRequest,
) -> Result<wire::ConsumerGroup, Status> {
    let wire::UpdateGroupRequest { name, receive_rate_max } = request;
    let command = Command::UpdateGroup(wire::UpdateGroup { name, receive_rate_max });
    match change(node, &command).await? {
        CommandReply::Group(group) => Ok(to_wire(&group)),
        other => panic!("updating a group was answered with {other:?}"),
    }
}

fn check_start(start: Option<&wire::Start>) -> Result<(), Status> {
    let Some(start) = start else { return Ok(()) };
    match (Kind::try_from(start.kind), start.timestamp_ms) {
        (Ok(Kind::Timestamp), 1..) | (Ok(Kind::First | Kind::Last), 0) => Ok(()),
        _ => Err(Status::invalid_argument(
            "a group starts at the first message, at the last, or at a time after 1970",
        )),
    }
}

fn check_backoff(backoff: Option<&wire::Backoff>) -> Result<(), Status> {
    let Some(backoff) = backoff else { return Ok(()) };
    let wire::Backoff { delays_ms, initial_ms, max_ms, multiplier } = backoff;
    let refuse = |text: String| Err(Status::invalid_argument(text));
    let longest_ms = delays_ms.iter().copied().max().unwrap_or(0).max(*max_ms);
    if longest_ms > DELAY_MAX_MS {
        return refuse(format!("a backoff of {longest_ms} ms is longer than {DELAY_MAX_MS} ms"));
    }
    if delays_ms.is_empty() {
        // Not the other way round: the comparison fails for what is no number.
        let grows = *multiplier >= 1.0 && multiplier.is_finite();
        return match (1..=*max_ms).contains(initial_ms) && grows {
            true => Ok(()),
            false => refuse(format!(
                "an exponential backoff begins with 1 ms or more, its maximum is no less, and its \
                 multiplier is 1 or more: not {initial_ms} ms, {max_ms} ms and {multiplier}"
            )),
        };
    }
    if delays_ms.len() > DELAYS_MAX {
        return refuse(format!("{} delays are more than {DELAYS_MAX}", delays_ms.len()));
    }
    match (initial_ms, max_ms, *multiplier == 0.0) {
        (0, 0, true) => Ok(()),
        _ => refuse("a backoff is a list of delays or exponential, not both".to_owned()),
    }
}

pub(super) async fn delete(
    node: &Node,
    request: wire::DeleteGroupRequest,
) -> Result<wire::DeleteGroupResponse, Status> {
    change(node, &Command::DeleteGroup(wire::DeleteGroup { name: request.name })).await?;
    Ok(wire::DeleteGroupResponse {})
}

pub(super) fn list(node: &Node) -> wire::ListGroupsResponse {
    let state = node.state.read();
    let mut groups: Vec<_> = state.groups.values().map(to_wire).collect();
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    wire::ListGroupsResponse { groups }
}

pub(super) async fn describe(
    node: &Node,
    name: &str,
) -> Result<wire::DescribeGroupResponse, Status> {
    let (group, progress) = {
        let state = node.state.read();
        let group = state.group(name).ok_or_else(|| no_group(name))?;
        let mut progress = Vec::new();
        for (ids, consumption) in state.consumptions.iter().filter(|(ids, _)| ids.0 == group.id) {
            let Some(topic) = state.topics.get(&ids.1) else { continue };
            let queues = (0..).zip(&topic.queues).zip(&consumption.queues);
            let of_queue = |((queue_id, queue), own): ((u32, &Queue), &Progress)| {
                (ids.1, of_queue(topic.record.name.clone(), queue_id, *queue, own))
            };
            progress.extend(queues.map(of_queue));
            if topic.is_lite() {
                progress.push((ids.1, of_lite(topic, consumption)));
            }
        }
        (to_wire(group), progress)
    };
    let now_ms = leaders_time(node);
    let progress = reading(node, move |node| Ok(with_lag(node, now_ms, progress))).await?;
    let clients = node.clients.of_group(name).into_iter();
    let clients = clients.map(|(client_id, client)| wire::GroupClient {
        client_id,
        language: client.language,
        client_type: client.client_type.as_str_name().to_owned(),
        last_seen_ms_ago: client.seen.elapsed().as_millis() as u64,
    });
    Ok(wire::DescribeGroupResponse { group: Some(group), progress, clients: clients.collect() })
}

fn of_queue(topic: String, queue_id: u32, queue: Queue, own: &Progress) -> wire::QueueProgress {
    let with_attempts = |wanted: fn(u32) -> bool| {
        own.inflight.values().filter(|record| wanted(record.attempt)).count() as u64
    };
    wire::QueueProgress {
        topic,
        queue_id,
        min_offset: queue.min,
        max_offset: queue.max,
        next_offset: own.next_offset,
        commit_offset: own.commit_offset(),
        inflight_count: with_attempts(|attempt| attempt >= 1),
        ready_count: queue.max.saturating_sub(own.next_offset),
        retry_count: with_attempts(|attempt| attempt >= 2),
        held_count: with_attempts(|attempt| attempt == 0),
        lag_ms: 0,
        lite_topic_count: 0,
    }
}

/// All lite topics of a topic together: there may be a hundred thousand.
fn of_lite(topic: &Topic, consumption: &Consumption) -> wire::QueueProgress {
    let name = topic.record.name.clone();
    let mut all = wire::QueueProgress { topic: name.clone(), ..Default::default() };
    for (queue_id, own) in &consumption.lite.progress {
        let Some(queue) = topic.queue(*queue_id) else { continue };
        let one = of_queue(name.clone(), *queue_id, *queue, own);
        all.lite_topic_count += 1;
        all.ready_count += one.ready_count;
        all.inflight_count += one.inflight_count;
        all.retry_count += one.retry_count;
        all.held_count += one.held_count;
    }
    all
}

/// Fills in how old the oldest message is that is not consumed: one look into the tables for each
/// queue, by topic id. Not for lite topics.
fn with_lag(
    node: &Node,
    now_ms: u64,
    progress: Vec<(u32, wire::QueueProgress)>,
) -> Vec<wire::QueueProgress> {
    let with_lag = |(topic_id, mut queue): (u32, wire::QueueProgress)| {
        if queue.lite_topic_count > 0 {
            return queue;
        }
        let (from, to) = (queue.commit_offset, queue.max_offset);
        let oldest = state::first_unit(node.group.store(), topic_id, queue.queue_id, from, to);
        queue.lag_ms = oldest.map_or(0, |(_, unit)| now_ms.saturating_sub(unit.stored_ms));
        queue
    };
    progress.into_iter().map(with_lag).collect()
}

fn to_wire(group: &wire::GroupRecord) -> wire::ConsumerGroup {
    wire::ConsumerGroup {
        name: group.name.clone(),
        max_attempts: group.max_attempts,
        fifo: group.fifo,
        created_ms: group.created_ms,
        start: group.start,
        backoff: group.backoff.clone(),
        receive_rate_max: group.receive_rate_max,
        lite_subscriptions_max: group.lite_subscriptions_max,
        lite_exclusive: group.lite_exclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(initial_ms: u64, max_ms: u64, multiplier: f32) -> wire::Backoff {
        wire::Backoff { initial_ms, max_ms, multiplier, ..Default::default() }
    }

    fn delays(delays_ms: Vec<u64>) -> wire::Backoff {
        wire::Backoff { delays_ms, ..Default::default() }
    }

    #[test]
    fn backoffs_are_checked() {
        let good = [
            exponential(1, 1, 1.0),
            exponential(5_000, DELAY_MAX_MS, 2.0),
            delays(vec![0]),
            delays(vec![DELAY_MAX_MS; DELAYS_MAX]),
        ];
        for backoff in good {
            assert!(check_backoff(Some(&backoff)).is_ok(), "{backoff:?}");
        }
        let bad = [
            wire::Backoff::default(),
            exponential(0, 1, 1.0),
            exponential(2, 1, 1.0),
            exponential(1, 1, 0.5),
            exponential(1, 1, f32::NAN),
            exponential(1, 1, f32::INFINITY),
            exponential(1, DELAY_MAX_MS + 1, 1.0),
            delays(vec![DELAY_MAX_MS + 1]),
            delays(vec![1; DELAYS_MAX + 1]),
            wire::Backoff { delays_ms: vec![1], ..exponential(1, 1, 1.0) },
        ];
        for backoff in bad {
            assert!(check_backoff(Some(&backoff)).is_err(), "{backoff:?}");
        }
        assert!(check_backoff(None).is_ok());
    }

    #[test]
    fn a_start_has_a_time_if_and_only_if_it_is_one() {
        let check = |kind: Kind, timestamp_ms| {
            check_start(Some(&wire::Start { kind: kind.into(), timestamp_ms })).is_ok()
        };
        assert!(check(Kind::First, 0) && check(Kind::Last, 0) && check(Kind::Timestamp, 1));
        assert!(!check(Kind::Last, 1) && !check(Kind::Timestamp, 0));
        assert!(check_start(Some(&wire::Start { kind: 9, timestamp_ms: 0 })).is_err());
    }

    #[test]
    fn what_is_with_consumers_is_told_apart() {
        let mut own = Progress { next_offset: 7, ..Default::default() };
        for (offset, attempt) in [(3, 0), (4, 1), (5, 1), (6, 4)] {
            own.inflight.insert(offset, wire::InflightRecord { attempt, ..Default::default() });
        }
        let queue =
            of_queue("t".to_owned(), 0, Queue { min: 0, max: 10, ..Queue::default() }, &own);
        assert_eq!((queue.commit_offset, queue.ready_count), (3, 3));
        assert_eq!((queue.inflight_count, queue.retry_count, queue.held_count), (3, 1, 1));
    }
}
