//! Receiving at the leader: choose, check out, read, deliver; or wait until something arrives.
//!
//! Step: 7 of the message path. Called by `rpc::messaging`.
//!
//! Invariant: nothing is delivered before its checkout is committed, so that attempts and
//! invisibility survive a change of leader.

pub(crate) mod filter;
mod lane;
mod lite;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::ClientType;
use raftmq_proto::v2::Code;
use raftmq_raft_store::ProposeError;
use raftmq_raft_store::commit_log::ReadError;
use raftmq_raft_store::world;
use tokio::time::Instant;

pub(crate) use self::filter::Filter;
use self::lane::Chosen;
use self::lane::Lane;
pub use self::lane::Lanes;
use self::lane::Units;
use self::lane::Wish;
pub(crate) use self::lane::is_exhausted;
use crate::auto_create;
use crate::clock;
use crate::command::Command;
use crate::handle;
use crate::node::Node;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::state::CommandReply;
use crate::state::Granted;
use crate::state::Rejection;
use crate::state::Topic;
use crate::state::Unit;

/// Longest time between two looks of a waiting receive; arrivals wake it earlier.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest pause of a receive whose group may not receive now. A second's worth is saved up
/// meanwhile, so that the limit is reached none the less.
pub(crate) const RATE_PAUSE_MIN: Duration = Duration::from_millis(100);

/// A checked receive.
#[derive(Clone, Debug)]
pub(crate) struct Receive {
    pub(crate) group: String,
    pub(crate) topic: v2::Resource,
    pub(crate) filter: Filter,
    /// 1 to 32.
    pub(crate) count: usize,
    pub(crate) invisible: Duration,
    /// Keep the messages invisible while this client lives. Empty: do not.
    pub(crate) renew_client_id: String,
    /// Who receives.
    pub(crate) client_id: String,
    /// Hash of the attempt id, 0 without one.
    pub(crate) attempt_hash: u64,
}

/// Waits for messages until `until`; an empty list when none came, or the group may not have more.
///
/// # Errors
/// Refused: unknown topic or group, or too many wait already. Elsewhere: what was checked out comes back after its time.
pub(crate) async fn receive(
    node: &Node,
    receive: &Receive,
    until: Instant,
) -> Result<Vec<v2::Message>, Failure> {
    let Some(term) = node.leading_term() else {
        return Err(Failure::Elsewhere(ProposeError::NotLeader));
    };
    let subscription = receive.filter.subscription();
    auto_create::topic(node, &receive.topic.name).await?;
    auto_create::group(node, &receive.group).await?;
    let mut waiting = None;
    loop {
        let Found { ids, rate_max, lite } = find(node, receive)?;
        if !lite {
            subscribe(node, ids, &subscription).await?;
        }
        let lane = node.lanes.lane(term, ids);
        lane.seen(&subscription);
        let woken = lane.woken(lite.then_some(&receive.client_id));
        let arrived = woken.notified();
        let pause = match node.rates.receive(ids.0, rate_max, receive.count) {
            Ok(allowed) => {
                let taken = take(node, term, (ids, lite), receive, allowed).await;
                let count = taken.as_ref().map_or(0, Vec::len);
                node.rates.received(ids.0, rate_max, allowed, count);
                let messages = taken?;
                if !messages.is_empty() {
                    return Ok(messages);
                }
                None
            }
            Err(pause) => Some(pause.max(RATE_PAUSE_MIN)),
        };
        let now = Instant::now();
        if now >= until {
            return Ok(Vec::new());
        }
        // Each client of lite topics waits for its own.
        if !lite && waiting.as_ref().is_none_or(|(held, _)| *held != ids) {
            waiting = Some((ids, lane.wait(&receive.group, &receive.topic.name)?));
        }
        tokio::select! {
            // Not for one that may not have it.
            () = arrived, if pause.is_none() => (),
            () = tokio::time::sleep_until(until.min(now + pause.unwrap_or(LOOK_INTERVAL))) => {
                lane.look_at_all(&receive.client_id);
            }
            () = node.until_not_leading(term) => {
                return Err(Failure::Elsewhere(ProposeError::NotLeader));
            }
        }
    }
}

/// Who receives from what.
struct Found {
    /// Of group and topic.
    ids: (u32, u32),
    /// How many messages the group may receive each second.
    rate_max: u32,
    /// Whether the topic is one of lite topics.
    lite: bool,
}

fn find(node: &Node, receive: &Receive) -> Result<Found, Refusal> {
    let state = node.state.read();
    let topic = state
        .topic(&receive.topic.name)
        .ok_or_else(|| Refusal::topic_not_found(&receive.topic.name))?;
    let group =
        state.group(&receive.group).ok_or_else(|| Refusal::group_not_found(&receive.group))?;
    let lite = topic.is_lite();
    if lite {
        check_lite(node, receive)?;
    }
    Ok(Found { ids: (group.id, topic.record.id), rate_max: group.receive_rate_max, lite })
}

/// A consumer of lite topics says which it wants by name.
fn check_lite(node: &Node, receive: &Receive) -> Result<(), Refusal> {
    if receive.filter != Filter::All {
        let text = "messages of lite topics are not filtered: subscribe to the lite topics wanted";
        return Err(Refusal::new(Code::IllegalFilterExpression, text));
    }
    let ordinary = node.clients.client_type(&receive.client_id).filter(|it| !is_lite(*it));
    match ordinary {
        Some(_) => Err(Refusal::new(
            Code::BadRequest,
            format!(
                "topic {} is one of lite topics, from which only lite consumers receive",
                receive.topic.name
            ),
        )),
        None => Ok(()),
    }
}

/// Whether a client of this type consumes lite topics.
pub(crate) fn is_lite(client_type: ClientType) -> bool {
    matches!(client_type, ClientType::LitePushConsumer | ClientType::LiteSimpleConsumer)
}

/// A simple consumer works off its messages as it likes.
fn is_lite_simple(node: &Node, client_id: &str) -> bool {
    node.clients.client_type(client_id) == Some(ClientType::LiteSimpleConsumer)
}

/// Makes the filter known to the group, so that nobody passes over what only this member wants.
async fn subscribe(
    node: &Node,
    ids: (u32, u32),
    subscription: &wire::Subscription,
) -> Result<(), Failure> {
    let known = node
        .state
        .read()
        .consumptions
        .get(&ids)
        .is_some_and(|consumption| consumption.subscriptions.contains(subscription));
    if known {
        return Ok(());
    }
    let command = Command::Subscribe(wire::Subscribe {
        group_id: ids.0,
        topic_id: ids.1,
        subscription: Some(subscription.clone()),
    });
    match node.proposer.propose(&command).await? {
        CommandReply::Rejected(rejection) => Err(rejection.into()),
        _ => Ok(()),
    }
}

/// Takes what is there now, at most `count` messages, of group and topic; `lite`: of lite topics.
async fn take(
    node: &Node,
    term: u64,
    (ids, lite): ((u32, u32), bool),
    receive: &Receive,
    count: usize,
) -> Result<Vec<v2::Message>, Failure> {
    let lane = node.lanes.lane(term, ids);
    let place = node.proposer.place().await?;
    let (fifo, by_priority);
    let chosen = {
        let state = node.state.read();
        let now_ms = clock::not_before(state.time_ms);
        let Some(group) = state.groups.get(&ids.0) else { return Ok(Vec::new()) };
        by_priority = state.topics.get(&ids.1).is_some_and(Topic::is_by_priority);
        fifo = group.fifo || lite;
        let wish = Wish {
            ids,
            filter: &receive.filter,
            count,
            now_ms,
            visible_at_ms: now_ms + receive.invisible.as_millis() as u64,
            renew_client_id: &receive.renew_client_id,
            client_id: &receive.client_id,
            max_attempts: group.max_attempts,
            fifo,
            attempt_hash: receive.attempt_hash,
            by_priority,
            one_lite_topic: lite && !is_lite_simple(node, &receive.client_id),
            read: &|unit| read(node, unit).ok(),
        };
        let store = node.group.store();
        let chosen = match lite {
            true => lane.choose_lite(&state, store, &wish, place),
            false => lane.choose(&state, store, &wish, place),
        };
        match chosen {
            Ok(chosen) => chosen,
            Err(_place) => return Ok(Vec::new()),
        }
    };
    let more = chosen.more;
    let (units, outcome) = decide(lane.clone(), chosen).await?;
    let mut granted = outcome.map_err(|failure| match failure {
        Undecided::Rejected(rejection) => rejected(receive, rejection),
        Undecided::Elsewhere(error) => error.into(),
    })?;
    if more || fifo {
        // Another waiting receive can go on where this one stopped.
        lane.woken(lite.then_some(&receive.client_id)).notify_one();
    }
    if by_priority {
        granted.sort_by_key(|grant| std::cmp::Reverse(grant.queue_id));
    }
    Ok(deliver(node, ids, receive, &granted, &units).await)
}

/// Why a checkout granted nothing.
enum Undecided {
    Rejected(Rejection),
    Elsewhere(ProposeError),
}

/// Waits for the outcome of a checkout and settles the lane's reservations, even when the receive that
/// asked for it has gone: in a task of its own.
async fn decide(
    lane: Arc<Lane>,
    chosen: Chosen,
) -> Result<(Units, Result<Vec<Granted>, Undecided>), ProposeError> {
    let settle = world::task::spawn(async move {
        let (units, outcome) = chosen.decided(&lane).await;
        let outcome = match outcome {
            Ok(CommandReply::CheckedOut(granted)) => Ok(granted),
            Ok(CommandReply::Rejected(rejection)) => Err(Undecided::Rejected(rejection)),
            Ok(other) => panic!("a checkout was answered with {other:?}"),
            Err(error) => Err(Undecided::Elsewhere(error)),
        };
        (units, outcome)
    });
    settle.await.map_err(|error| ProposeError::Stopped(error.to_string()))
}

fn rejected(receive: &Receive, rejection: Rejection) -> Failure {
    Failure::Refused(match rejection {
        Rejection::TopicNotFound => Refusal::topic_not_found(&receive.topic.name),
        Rejection::GroupNotFound => Refusal::group_not_found(&receive.group),
        other => other.into(),
    })
}

/// Reads the bodies of what was granted. What is not read comes back by itself after its time.
async fn deliver(
    node: &Node,
    ids: (u32, u32),
    receive: &Receive,
    granted: &[Granted],
    units: &Units,
) -> Vec<v2::Message> {
    let mut messages = Vec::with_capacity(granted.len());
    let mut bytes = 0;
    for grant in granted {
        let Some(unit) = units.get(&(grant.queue_id, grant.offset)) else { continue };
        bytes += unit.length;
        match read(node, unit) {
            Ok(message) => {
                if receive.filter.matches_message(&message) {
                    messages.push(delivered(message, ids, receive, grant, unit));
                } else {
                    // Two tags with one hash, or a condition: not wanted, and so consumed.
                    consume(node, ids, grant).await;
                }
            }
            Err(error) => {
                tracing::error!(%error, offset = grant.offset, "could not read a message");
                metrics::counter!("raftmq_unreadable_messages_total").increment(1);
            }
        }
    }
    let labels = node.labels(&[
        ("topic", &receive.topic.name),
        ("consumer_group", &receive.group),
        ("is_retry", "false"),
    ]);
    metrics::counter!("rocketmq_messages_out_total", labels.clone())
        .increment(messages.len() as u64);
    metrics::counter!("rocketmq_throughput_out_total", labels).increment(bytes.into());
    messages
}

/// The record behind an index entry.
pub(crate) fn read(node: &Node, unit: &Unit) -> Result<v2::Message, ReadError> {
    let record = node.group.read_body(unit.log_index, unit.offset, unit.length)?;
    v2::Message::decode(record)
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error).into())
}

/// Notes that the deliveries behind these receipt handles went to their client, so that they are kept
/// for it while it lives. What got lost on the way is not, and comes back after its time.
pub(crate) fn confirm(node: &Node, handles: &[String]) {
    let Some(term) = node.leading_term() else { return };
    for receipt in handles.iter().filter_map(|text| handle::decode(text)) {
        node.lanes.lane(term, (receipt.group_id, receipt.topic_id)).confirm(&receipt);
    }
}

/// Fills in what only the index and the delivery know.
fn delivered(
    message: v2::Message,
    ids: (u32, u32),
    receive: &Receive,
    grant: &Granted,
    unit: &Unit,
) -> v2::Message {
    let receipt = receipt(ids, grant);
    let mut message = placed(message, &receive.topic, grant.queue_id, grant.offset, unit);
    if let Some(properties) = &mut message.system_properties {
        properties.receipt_handle = Some(handle::encode(&receipt));
        properties.delivery_attempt = Some(grant.attempt as i32);
        properties.invisible_duration = prost_types::Duration::try_from(receive.invisible).ok();
    }
    message
}

/// Fills in where a message lies, and its origin when it is a dead letter.
pub(crate) fn placed(
    mut message: v2::Message,
    topic: &v2::Resource,
    queue_id: u32,
    offset: u64,
    unit: &Unit,
) -> v2::Message {
    let mut properties = message.system_properties.take().unwrap_or_default();
    if unit.dead_letter {
        properties.dead_letter_queue = Some(v2::DeadLetterQueue {
            topic: message.topic.take().unwrap_or_default().name,
            message_id: properties.message_id.clone(),
        });
    }
    properties.queue_id = queue_id as i32;
    properties.queue_offset = Some(offset as i64);
    properties.store_timestamp = Some(prost_types::Timestamp {
        seconds: (unit.stored_ms / 1000) as i64,
        nanos: (unit.stored_ms % 1000 * 1_000_000) as i32,
    });
    message.topic = Some(topic.clone());
    message.system_properties = Some(properties);
    message
}

fn receipt(ids: (u32, u32), grant: &Granted) -> wire::Receipt {
    wire::Receipt {
        group_id: ids.0,
        topic_id: ids.1,
        queue_id: grant.queue_id,
        offset: grant.offset,
        nonce: grant.nonce,
    }
}

async fn consume(node: &Node, ids: (u32, u32), grant: &Granted) {
    let command = Command::Ack(wire::Ack { receipt: Some(receipt(ids, grant)) });
    submit_and_forget(node, &command).await;
}

/// The outcome does not matter: without it the message comes back after its time.
async fn submit_and_forget(node: &Node, command: &Command) {
    if let Ok(place) = node.proposer.place().await {
        drop(place.submit(command));
    }
}
