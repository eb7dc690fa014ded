//! The history of one message, read from the commit log.
//!
//! The log is the only record of it: nothing is written for it while messages flow. So it costs
//! reading the log from where the message came into its queue to the end, within limits.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::history_event::Kind;
use raftmq_raft_store::commit_log::ReadError;
use raftmq_raft_store::commit_log::format;
use raftmq_raft_store::commit_log::format::FrameKind;
use tokio::sync::Semaphore;
use tonic::Status;

use super::find;
use super::no_topic;
use super::reading;
use crate::command;
use crate::command::Command;
use crate::command::Release;
use crate::command::SEND;
use crate::history::History;
use crate::history::Names;
use crate::history::Place;
use crate::node::Node;
use crate::receive;
use crate::state;
use crate::state::Unit;

/// What is read of the log for one history, at the most.
const ENTRIES_MAX: u64 = 2_000_000;
const BYTES_MAX: u64 = 2 << 30;
/// The operator's call ends two seconds later.
const READ_FOR: Duration = Duration::from_secs(8);
/// Read at once.
const CHUNK_BYTES: usize = 4 << 20;

/// Histories that are read at once: each keeps a processor and the disk busy.
static READERS: Semaphore = Semaphore::const_new(2);

pub(super) async fn history(
    node: &Node,
    request: wire::MessageHistoryRequest,
) -> Result<wire::MessageHistoryResponse, Status> {
    let (topic_id, names) = {
        let state = node.state.read();
        let topic = state.topic(&request.topic).ok_or_else(|| no_topic(&request.topic))?;
        (topic.record.id, Names::of(&state))
    };
    let Ok(permit) = READERS.try_acquire() else {
        let text = "this node is reading the histories of other messages: try again soon";
        return Err(Status::resource_exhausted(text));
    };
    let read = reading(node, move |node| read(node, topic_id, names, &request)).await;
    drop(permit);
    read
}

fn read(
    node: &Node,
    topic_id: u32,
    names: Names,
    request: &wire::MessageHistoryRequest,
) -> Result<wire::MessageHistoryResponse, Status> {
    let (queue_id, offset) = (request.queue_id, request.offset);
    let unit = state::unit(node.group.store(), topic_id, queue_id, offset).ok_or_else(|| {
        let topic = &request.topic;
        Status::not_found(format!("queue {queue_id} of {topic} has no message at {offset}"))
    })?;
    let place = Place { topic_id, queue_id, offset, unit };
    let message = receive::read(node, &unit).map_err(|error| failed(&error))?;
    let message_id = message.system_properties.unwrap_or_default().message_id;
    let sent = sent(node, &names, &place)?;
    let mut places = find::copies(node, (topic_id, queue_id, offset), &unit);
    places.push(place);
    if let Some(place) = &sent.place
        && !places.iter().any(|known| known.is(place))
    {
        places.push(*place);
    }
    let from = places.iter().map(|place| place.unit.placed_index()).min().unwrap_or_default();
    let mut history = History::new(names, message_id.as_bytes(), places);
    history.begin(sent.event);
    scan(node, from, history)
}

/// How a message was sent.
struct Sent {
    event: wire::HistoryEvent,
    /// Where it came into a queue with that, if it is there still.
    place: Option<Place>,
}

/// Finds the send behind an index entry; its record may have been carried since.
fn sent(node: &Node, names: &Names, place: &Place) -> Result<Sent, Status> {
    let mut at = (place.unit.log_index, place.unit.offset);
    let event = |kind: Kind| wire::HistoryEvent { kind: kind.into(), ..Default::default() };
    loop {
        let Some((time_ms, commands)) = commands_at(node, at.0)? else {
            let event = wire::HistoryEvent { log_index: at.0, ..event(Kind::Stored) };
            return Ok(Sent { event, place: None });
        };
        let mut carried_from = None;
        for command in commands {
            match command {
                Command::Send(send) => {
                    let Some(message) = send.messages.iter().find(|it| it.record_offset == at.1)
                    else {
                        continue;
                    };
                    let place = first_place(node, send.topic_id, at, place);
                    let mut stored =
                        wire::HistoryEvent { log_index: at.0, time_ms, ..event(Kind::Stored) };
                    stored.place = Some(match &place {
                        Some(place) => names.place(place),
                        None => wire::MessagePlace {
                            topic: names.topic(send.topic_id),
                            queue_id: message.queue_id,
                            offset: state::NO_OFFSET,
                        },
                    });
                    match message.release {
                        Release::AtOnce => (),
                        Release::At(due_ms) => stored.until_ms = due_ms,
                        Release::OnCommit(_) => stored.half = true,
                    }
                    return Ok(Sent { event: stored, place });
                }
                Command::Carry(carry) => {
                    let carried = carry.records.iter().find(|it| it.record_offset == at.1);
                    carried_from = carried_from.or(carried.map(|it| it.timer));
                }
                _ => (),
            }
        }
        let Some(timer) = carried_from.filter(|timer| timer.log_index < at.0) else {
            return Err(Status::internal(format!("entry {} holds no such message", at.0)));
        };
        at = (timer.log_index, timer.offset);
    }
}

/// Where a message lies that came into its queue when it was sent: this is its place, or the one of
/// which this is a copy.
fn first_place(
    node: &Node,
    topic_id: u32,
    (log_index, record_offset): (u64, u32),
    known: &Place,
) -> Option<Place> {
    if known.unit.moved_at.is_none() {
        return Some(*known);
    }
    let queues = node.state.read().topics.get(&topic_id)?.queues.clone();
    let store = node.group.store();
    let here = |unit: &Unit| unit.placed_index() >= log_index;
    (0..).zip(queues).find_map(|(queue_id, queue)| {
        let first = |from, to| state::first_unit(store, topic_id, queue_id, from, to);
        let from = state::first_where(queue, first, here);
        let mut found = None;
        state::units(store, topic_id, queue_id, from, queue.max, |offset, unit| {
            if unit.placed_index() > log_index {
                return false;
            }
            if unit.moved_at.is_none() && unit.offset == record_offset {
                found = Some(Place { topic_id, queue_id, offset, unit });
            }
            found.is_none()
        });
        found
    })
}

/// Time and commands of an entry; `None`: the log no longer holds it.
fn commands_at(node: &Node, log_index: u64) -> Result<Option<(u64, Vec<Command>)>, Status> {
    let mut raw: Bytes = match node.group.log().read(log_index) {
        Ok(raw) => raw,
        Err(ReadError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let frame = format::decode_frame(&mut raw).map_err(|error| failed(&error))?;
    command::decode_entry(&frame.body).map(Some).map_err(|error| failed(&error))
}

/// Reads the log from `from` to what is applied.
fn scan(
    node: &Node,
    from: u64,
    mut history: History,
) -> Result<wire::MessageHistoryResponse, Status> {
    let begun = Instant::now();
    let end = node.group.applied().position.map_or(0, |position| position.index + 1);
    let mut answer = wire::MessageHistoryResponse::default();
    let mut next = from;
    while next < end {
        answer.cut = answer.read_entries >= ENTRIES_MAX
            || answer.read_bytes >= BYTES_MAX
            || begun.elapsed() >= READ_FOR
            || history.is_full();
        if answer.cut {
            break;
        }
        let frames =
            node.group.log().read_range(next, end, CHUNK_BYTES).map_err(|error| failed(&error))?;
        if frames.is_empty() {
            // A snapshot was installed meanwhile, or retention has passed by.
            answer.cut = true;
            break;
        }
        for (frame, raw) in frames {
            next = frame.index + 1;
            answer.read_entries += 1;
            answer.read_bytes += raw.len() as u64;
            if frame.kind != FrameKind::Normal {
                continue;
            }
            let (time_ms, commands) = command::decode_entry_of(&frame.body, |kind| kind != SEND)
                .map_err(|error| failed(&error))?;
            answer.read_until_ms = answer.read_until_ms.max(time_ms);
            history.entry(frame.index, time_ms, &commands);
        }
    }
    answer.events = history.into_events();
    Ok(answer)
}

fn failed(error: &dyn std::error::Error) -> Status {
    Status::data_loss(error.to_string())
}
