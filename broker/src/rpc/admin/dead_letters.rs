//! Dead letters: which there are, back to where they came from, away for good.
//!
//! Redriving and purging go in pages, each a command of its own, so that an operator's call ends in
//! time and the log is not filled at once. A page can be asked for again: what moved is not there any
//! more.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use raftmq_proto::names;
use raftmq_proto::raftmq as wire;
use tonic::Status;

use super::change;
use super::limit;
use super::no_group;
use super::reading;
use crate::command::Command;
use crate::lite;
use crate::node::Node;
use crate::receive;
use crate::receive::Filter;
use crate::rpc::status::Failure;
use crate::send;
use crate::state;
use crate::state::CommandReply;
use crate::state::Queue;
use crate::state::Unit;

/// Messages looked at for one page.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;

pub(super) async fn list(node: &Node) -> Result<wire::ListDeadLettersResponse, Status> {
    let topics: Vec<_> = {
        let state = node.state.read();
        let kept = |topic: &&state::Topic| !topic.record.dead_letters_of.is_empty();
        state.topics.values().filter(kept).cloned().collect()
    };
    reading(node, move |node| {
        let statuses = topics.iter().map(|topic| status(node, topic));
        let mut queues: Vec<_> = statuses.filter(|status| status.count > 0).collect();
        queues.sort_by(|one, other| one.group.cmp(&other.group));
        Ok(wire::ListDeadLettersResponse { queues })
    })
    .await
}

/// Counts: where a dead letter was moved away, an offset is left without a message.
fn status(node: &Node, topic: &state::Topic) -> wire::DeadLetterQueueStatus {
    let mut status = wire::DeadLetterQueueStatus {
        group: topic.record.dead_letters_of.clone(),
        topic: topic.record.name.clone(),
        oldest_stored_ms: u64::MAX,
        ..Default::default()
    };
    for (queue_id, queue) in (0..).zip(&topic.queues) {
        let store = node.group.store();
        state::units(store, topic.record.id, queue_id, queue.min, queue.max, |_, unit| {
            status.count += 1;
            status.oldest_stored_ms = status.oldest_stored_ms.min(unit.stored_ms);
            status.newest_stored_ms = status.newest_stored_ms.max(unit.stored_ms);
            true
        });
    }
    status
}

pub(super) async fn redrive(
    node: &Node,
    request: wire::DeadLettersRequest,
) -> Result<wire::DeadLettersResponse, Status> {
    let Some(dead) = dead_letters(node, &request)? else { return Ok(nothing()) };
    let (topic_id, page) = (dead.topic_id, page(node, dead, &request).await?);
    let lite = lite_queues(node, &page.found).await?;
    let to = |found: &Found| {
        let (to_topic_id, to_queue_id) = origin(node, found, &lite)?;
        let (queue_id, offset) = (DEAD_LETTER_QUEUE, found.offset);
        Some(wire::Redriven { queue_id, offset, to_topic_id, to_queue_id })
    };
    let messages: Vec<_> = page.found.iter().filter_map(to).collect();
    let count = messages.len();
    page.carry_out(node, count, &request, || Command::Redrive(wire::Redrive { topic_id, messages }))
        .await
}

pub(super) async fn purge(
    node: &Node,
    request: wire::DeadLettersRequest,
) -> Result<wire::DeadLettersResponse, Status> {
    let Some(dead) = dead_letters(node, &request)? else { return Ok(nothing()) };
    let (topic_id, page) = (dead.topic_id, page(node, dead, &request).await?);
    let place =
        |found: &Found| wire::QueueOffset { queue_id: DEAD_LETTER_QUEUE, offset: found.offset };
    let messages: Vec<_> = page.found.iter().map(place).collect();
    let count = messages.len();
    page.carry_out(node, count, &request, || Command::Discard(wire::Discard { topic_id, messages }))
        .await
}

/// Dead-letter topics have one queue, so that one offset says how far an operator has come.
const DEAD_LETTER_QUEUE: u32 = 0;

struct DeadLetters {
    topic_id: u32,
    queue: Queue,
}

/// `None`: the group exists, and has none.
fn dead_letters(
    node: &Node,
    request: &wire::DeadLettersRequest,
) -> Result<Option<DeadLetters>, Status> {
    let state = node.state.read();
    let name = format!("{}{}", names::DEAD_LETTER_PREFIX, request.group);
    match (state.topic(&name), state.group(&request.group)) {
        // Dead letters outlive the group that gave up on them.
        (Some(topic), _) => {
            let queue = topic.queues.first().copied().unwrap_or_default();
            Ok(Some(DeadLetters { topic_id: topic.record.id, queue }))
        }
        (None, Some(_)) => Ok(None),
        (None, None) => Err(no_group(&request.group)),
    }
}

fn nothing() -> wire::DeadLettersResponse {
    wire::DeadLettersResponse::default()
}

/// Where a dead letter came from: the topic that has this name today, and the queue that a send of
/// the same message would go to.
fn origin(node: &Node, found: &Found, lite: &LiteQueues) -> Option<(u32, u32)> {
    let state = node.state.read();
    let topic = state.topic(&found.origin)?;
    if topic.is_lite() {
        let of_topic = lite.get(&topic.record.id)?;
        return Some((topic.record.id, *of_topic.get(found.lite_topic.as_ref()?)?));
    }
    let priority = topic.is_by_priority().then_some(found.priority);
    Some((topic.record.id, send::queue(found.group_hash, priority, topic.record.queue_count)))
}

/// Queue ids of lite topics: by topic id and name.
type LiteQueues = BTreeMap<u32, BTreeMap<String, u32>>;

/// The queues of the lite topics that dead letters came from, made anew where they are gone.
async fn lite_queues(node: &Node, found: &[Found]) -> Result<LiteQueues, Status> {
    let mut names: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    {
        let state = node.state.read();
        for (one, lite_topic) in found.iter().filter_map(|it| Some((it, it.lite_topic.as_ref()?))) {
            if let Some(topic) = state.topic(&one.origin).filter(|topic| topic.is_lite()) {
                names.entry(topic.record.id).or_default().insert(lite_topic.clone());
            }
        }
    }
    let mut queues = LiteQueues::new();
    for (topic_id, names) in names {
        let of_topic = lite::queue_ids(node, topic_id, &names).await;
        let of_topic = of_topic.map_err(|failure| match failure {
            Failure::Refused(refusal) => Status::failed_precondition(refusal.to_string()),
            Failure::Elsewhere(error) => Status::unavailable(error.to_string()),
        });
        queues.insert(topic_id, of_topic?);
    }
    Ok(queues)
}

/// Dead letters that were looked at.
struct Page {
    found: Vec<Found>,
    looked_at: u64,
    next_offset: Option<u64>,
}

/// One that is wanted.
struct Found {
    offset: u64,
    /// The topic it was sent to.
    origin: String,
    /// Of its message group, 0 without one.
    group_hash: u64,
    priority: u32,
    lite_topic: Option<String>,
}

async fn page(
    node: &Node,
    dead: DeadLetters,
    request: &wire::DeadLettersRequest,
) -> Result<Page, Status> {
    let count = limit("count", request.count, PAGE_DEFAULT, PAGE_MAX)? as usize;
    let filter = Filter::parse(request.filter.as_ref())
        .map_err(|refusal| Status::invalid_argument(refusal.to_string()))?;
    let (from, topic) = (request.from_offset.max(dead.queue.min), request.topic.clone());
    reading(node, move |node| {
        let mut units = Vec::new();
        let store = node.group.store();
        state::units(
            store,
            dead.topic_id,
            DEAD_LETTER_QUEUE,
            from,
            dead.queue.max,
            |offset, unit| {
                units.push((offset, unit));
                units.len() <= count
            },
        );
        let next_offset = match units.len() > count {
            true => units.pop().map(|(offset, _)| offset),
            false => None,
        };
        let mut found = Vec::new();
        for (offset, unit) in &units {
            found.extend(wanted(node, *offset, unit, &topic, &filter)?);
        }
        Ok(Page { found, looked_at: units.len() as u64, next_offset })
    })
    .await
}

/// Reads a dead letter; `None` when it is not wanted.
fn wanted(
    node: &Node,
    offset: u64,
    unit: &Unit,
    topic: &str,
    filter: &Filter,
) -> Result<Option<Found>, Status> {
    if !filter.may_match(unit.tag_hash) {
        return Ok(None);
    }
    let message =
        receive::read(node, unit).map_err(|error| Status::data_loss(error.to_string()))?;
    let origin = message.topic.as_ref().map_or("", |topic| &topic.name);
    let elsewhere = !topic.is_empty() && origin != topic;
    if elsewhere || !filter.matches_message(&message) {
        return Ok(None);
    }
    let system = message.system_properties.as_ref();
    let priority = system.and_then(|system| system.priority);
    let lite_topic = system.and_then(|system| system.lite_topic.clone());
    Ok(Some(Found {
        offset,
        origin: origin.to_owned(),
        group_hash: unit.group_hash,
        priority: u32::try_from(priority.unwrap_or(0)).unwrap_or(0),
        lite_topic,
    }))
}

impl Page {
    /// Proposes what is to be done with `count` messages, unless it is only asked for.
    async fn carry_out(
        &self,
        node: &Node,
        count: usize,
        request: &wire::DeadLettersRequest,
        command: impl FnOnce() -> Command,
    ) -> Result<wire::DeadLettersResponse, Status> {
        let done_count = match count > 0 && !request.dry_run {
            true => match change(node, &command()).await? {
                CommandReply::Moved { count } => count,
                other => panic!("moving dead letters was answered with {other:?}"),
            },
            false => count as u64,
        };
        Ok(wire::DeadLettersResponse {
            done_count,
            skipped_count: self.looked_at.saturating_sub(done_count),
            next_offset: self.next_offset,
        })
    }
}
