//! Pulling: a consumer that holds its offsets itself reads a queue from where it says.
//!
//! Nothing is handed out: a pull changes no state, any number of consumers may read the same messages,
//! and only UpdateOffset moves a group's cursor. Broadcasting is built on this.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::QueryOffsetPolicy;
use raftmq_raft_store::ProposeError;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use tokio::time::Instant;

use crate::auto_create;
use crate::command::Command;
use crate::node::Node;
use crate::receive;
use crate::receive::Filter;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::state;
use crate::state::CommandReply;
use crate::state::Event;
use crate::state::Queue;

/// Longest time between two looks of a waiting pull; arrivals wake it earlier.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Index entries looked at in one pull.
const UNITS_SCANNED_MAX: usize = 2048;
/// Bytes of messages after which an answer takes no more.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// Where the planted bug keeps offsets: by group id, topic id, queue id.
static LEFT_HERE: Mutex<BTreeMap<(u32, u32, u32), u64>> = Mutex::new(BTreeMap::new());

/// A checked pull.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    pub(crate) topic: v2::Resource,
    pub(crate) group: String,
    pub(crate) queue_id: i32,
    pub(crate) offset: i64,
    pub(crate) filter: Filter,
    /// 1 to 32.
    pub(crate) count: usize,
}

/// What a pull found.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) messages: Vec<v2::Message>,
    /// Where to go on.
    pub(crate) next_offset: u64,
}

/// A queue of a topic, found by name.
struct Place {
    topic_id: u32,
    queue_id: u32,
    queue: Queue,
}

/// Reads messages from an offset on; waits until `until` when there are none.
///
/// # Errors
/// Refused: unknown topic, group or queue, or an offset outside the queue. Elsewhere: nothing happened.
pub(crate) async fn pull(node: &Node, pull: &Pull, until: Instant) -> Result<Pulled, Failure> {
    let Some(term) = node.leading_term() else {
        return Err(Failure::Elsewhere(ProposeError::NotLeader));
    };
    let mut events = node.events.subscribe();
    let mut offset = pull.offset;
    let mut waiting = None;
    auto_create::topic(node, &pull.topic.name).await?;
    auto_create::group(node, &pull.group).await?;
    loop {
        let place = place(node, &pull.topic.name, pull.queue_id)?;
        let group_id = check_group(node, &pull.group)?;
        let rate_max = node.state.read().groups.get(&group_id).map_or(0, |it| it.receive_rate_max);
        let allowed = node.rates.receive(group_id, rate_max, pull.count);
        let count = *allowed.as_ref().unwrap_or(&0);
        let pulled = read(node, pull, &place, offset, count);
        let read_count = pulled.as_ref().map_or(0, |pulled| pulled.messages.len());
        node.rates.received(group_id, rate_max, count, read_count);
        let pulled = pulled?;
        let now = Instant::now();
        if !pulled.messages.is_empty() || now >= until {
            return Ok(pulled);
        }
        // What did not pass the filter is not looked at again.
        offset = pulled.next_offset as i64;
        if allowed.is_ok() && pulled.next_offset < place.queue.max {
            continue;
        }
        if waiting.is_none() {
            let lane = node.lanes.lane(term, (group_id, place.topic_id));
            waiting = Some(lane.wait(&pull.group, &pull.topic.name)?);
        }
        let pause = match allowed {
            Ok(_) => LOOK_INTERVAL,
            Err(pause) => pause.max(receive::RATE_PAUSE_MIN),
        };
        let arrived = async {
            loop {
                match events.recv().await {
                    Ok(Event::Stored(topic_ids)) if !topic_ids.contains(&place.topic_id) => (),
                    Ok(Event::Metadata | Event::Lite(_)) => (),
                    // Fallen behind: look.
                    _ => return,
                }
            }
        };
        tokio::select! {
            () = arrived, if allowed.is_ok() => (),
            () = tokio::time::sleep_until(until.min(now + pause)) => (),
            () = node.until_not_leading(term) => {
                return Err(Failure::Elsewhere(ProposeError::NotLeader));
            }
        }
    }
}

fn read(
    node: &Node,
    pull: &Pull,
    place: &Place,
    offset: i64,
    count: usize,
) -> Result<Pulled, Refusal> {
    let Queue { min, max, .. } = place.queue;
    let from = u64::try_from(offset).ok().filter(|from| (min..=max).contains(from));
    let Some(from) = from else {
        let text = format!("offset {offset} is outside the queue, which has {min} to {max}");
        return Err(Refusal::new(Code::IllegalOffset, text));
    };
    let (mut messages, mut bytes, mut scanned) = (Vec::new(), 0, 0);
    let mut next_offset = max;
    let mut unreadable = None;
    let store = node.group.store();
    state::units(store, place.topic_id, place.queue_id, from, max, |offset, unit| {
        let full = messages.len() >= count || bytes >= ANSWER_BYTES_MAX;
        if full || scanned >= UNITS_SCANNED_MAX {
            next_offset = offset;
            return false;
        }
        scanned += 1;
        if !pull.filter.may_match(unit.tag_hash) {
            return true;
        }
        match receive::read(node, &unit) {
            Ok(message) if pull.filter.matches_message(&message) => {
                bytes += unit.length as usize;
                messages.push(receive::placed(message, &pull.topic, place.queue_id, offset, &unit));
            }
            Ok(_) => (),
            Err(error) => {
                tracing::error!(%error, offset, "could not read a message");
                metrics::counter!("raftmq_unreadable_messages_total").increment(1);
                unreadable = Some(offset);
                next_offset = offset;
                return false;
            }
        }
        true
    });
    if let Some(offset) = unreadable.filter(|_| messages.is_empty()) {
        let text = format!("the message at offset {offset} can not be read at this node");
        return Err(Refusal::new(Code::InternalServerError, text));
    }
    Ok(Pulled { messages, next_offset })
}

/// Where a group goes on in a queue.
///
/// # Errors
/// Refused: unknown topic, group or queue, or the group never consumed from it.
pub(crate) async fn offset(node: &Node, request: &v2::GetOffsetRequest) -> Result<u64, Failure> {
    confirm(node).await?;
    let (topic, queue_id) = queue_of(request.message_queue.as_ref());
    let place = place(node, &topic, queue_id)?;
    let group = name(request.group.as_ref());
    let group_id = check_group(node, &group)?;
    if planted(Bug::PulledOffsetNotReplicated)
        && let Some(offset) = LEFT_HERE.lock().get(&(group_id, place.topic_id, place.queue_id))
    {
        return Ok(*offset);
    }
    let state = node.state.read();
    let consumption = state.consumptions.get(&(group_id, place.topic_id));
    let progress = consumption.and_then(|it| it.progress(place.queue_id));
    let progress = progress.ok_or_else(|| {
        let text = format!("group {group} has no offset in queue {queue_id} of topic {topic}");
        Refusal::new(Code::OffsetNotFound, text)
    })?;
    Ok(progress.commit_offset())
}

/// Moves a group's cursor in a queue; what its members held there is forgotten.
///
/// # Errors
/// Refused: unknown topic, group or queue, or an offset outside the queue. Elsewhere: may have moved.
pub(crate) async fn update_offset(
    node: &Node,
    request: &v2::UpdateOffsetRequest,
) -> Result<(), Failure> {
    let (topic, queue_id) = queue_of(request.message_queue.as_ref());
    let place = place(node, &topic, queue_id)?;
    let group_id = check_group(node, &name(request.group.as_ref()))?;
    let Queue { min, max, .. } = place.queue;
    let offset = u64::try_from(request.offset).ok().filter(|it| (min..=max).contains(it));
    let offset = offset.ok_or_else(|| {
        let text =
            format!("offset {} is outside the queue, which has {min} to {max}", request.offset);
        Refusal::new(Code::IllegalOffset, text)
    })?;
    if planted(Bug::PulledOffsetNotReplicated) {
        LEFT_HERE.lock().insert((group_id, place.topic_id, place.queue_id), offset);
        return Ok(());
    }
    let command = Command::ResetOffset(wire::ResetOffset {
        group_id,
        topic_id: place.topic_id,
        queues: vec![wire::QueueOffset { queue_id: place.queue_id, offset }],
    });
    match node.proposer.propose(&command).await? {
        CommandReply::Rejected(rejection) => Err(rejection.into()),
        _ => Ok(()),
    }
}

/// The offset of a queue at its begin, its end, or a time.
///
/// # Errors
/// Refused: unknown topic or queue, or a time is missing.
pub(crate) async fn query_offset(
    node: &Node,
    request: &v2::QueryOffsetRequest,
) -> Result<u64, Failure> {
    confirm(node).await?;
    let (topic, queue_id) = queue_of(request.message_queue.as_ref());
    let place = place(node, &topic, queue_id)?;
    Ok(match request.query_offset_policy() {
        QueryOffsetPolicy::Beginning => place.queue.min,
        QueryOffsetPolicy::End => place.queue.max,
        QueryOffsetPolicy::Timestamp => {
            let time = request.timestamp.ok_or_else(|| {
                Refusal::new(Code::BadRequest, "a query by time needs a timestamp")
            })?;
            let seconds = u64::try_from(time.seconds).unwrap_or(0);
            let millis = u64::try_from(time.nanos).unwrap_or(0) / 1_000_000;
            let timestamp_ms = seconds.saturating_mul(1000).saturating_add(millis);
            let store = node.group.store();
            state::offset_at(store, place.topic_id, place.queue_id, place.queue, timestamp_ms)
        }
    })
}

/// What is read afterwards holds everything that was acknowledged before.
async fn confirm(node: &Node) -> Result<(), Failure> {
    let confirmed = node.group.confirm_leadership().await;
    confirmed.map_err(|_| Failure::Elsewhere(ProposeError::NotLeader))
}

fn name(resource: Option<&v2::Resource>) -> String {
    resource.map_or_else(String::new, |resource| resource.name.clone())
}

fn queue_of(queue: Option<&v2::MessageQueue>) -> (String, i32) {
    queue.map_or_else(Default::default, |queue| (name(queue.topic.as_ref()), queue.id))
}

fn place(node: &Node, topic: &str, queue_id: i32) -> Result<Place, Refusal> {
    let state = node.state.read();
    let found = state.topic(topic).ok_or_else(|| Refusal::topic_not_found(topic))?;
    let queue = usize::try_from(queue_id).ok().and_then(|id| found.queues.get(id)).copied();
    let queue = queue.ok_or_else(|| {
        let count = found.queues.len();
        let text = format!("topic {topic} has no queue {queue_id}; it has 0 to {}", count - 1);
        Refusal::new(Code::BadRequest, text)
    })?;
    Ok(Place { topic_id: found.record.id, queue_id: queue_id as u32, queue })
}

fn check_group(node: &Node, group: &str) -> Result<u32, Refusal> {
    let state = node.state.read();
    state.group(group).map(|group| group.id).ok_or_else(|| Refusal::group_not_found(group))
}
