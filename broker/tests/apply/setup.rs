//! A replica with something in it, and short ways to ask it.

use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::Fired;
use raftmq_broker::state::Granted;
use raftmq_broker::state::ProgressView;
use raftmq_broker::state::Sent;
use raftmq_proto::raftmq as wire;

use crate::replica::Replica;
use crate::replica::commands;

/// Topic 1 with one queue, and a group (1).
pub fn with(group: Command) -> Replica {
    let mut replica = Replica::new();
    replica.apply(1, &[commands::topic("t", 1), group]);
    replica
}

/// The reply to one command in an entry of its own.
pub fn one(replica: &mut Replica, time_ms: u64, command: Command) -> CommandReply {
    replica.apply(time_ms, &[command]).remove(0)
}

pub fn send(replica: &mut Replica, time_ms: u64, ids: &[&str]) -> Vec<Sent> {
    let messages = ids.iter().map(|id| commands::message(id)).collect();
    sent(one(replica, time_ms, commands::send(messages)))
}

/// Messages whose ids begin with the name of their message group, one letter.
pub fn send_fifo(replica: &mut Replica, time_ms: u64, ids: &[&str]) {
    let messages =
        ids.iter().map(|id| NewMessage { group_hash: group_of(id), ..commands::message(id) });
    one(replica, time_ms, commands::send(messages.collect()));
}

pub fn group_of(id: &str) -> u64 {
    u64::from(id.as_bytes()[0])
}

pub fn sent(reply: CommandReply) -> Vec<Sent> {
    match reply {
        CommandReply::Sent(sent) => sent,
        other => panic!("{other:?}"),
    }
}

pub fn granted(reply: CommandReply) -> Vec<Granted> {
    match reply {
        CommandReply::CheckedOut(granted) => granted,
        other => panic!("{other:?}"),
    }
}

pub fn fired(reply: CommandReply) -> Fired {
    match reply {
        CommandReply::Fired(fired) => fired,
        other => panic!("{other:?}"),
    }
}

/// Checks out parts of queue 0 for a second.
pub fn check_out(replica: &mut Replica, time_ms: u64, part: wire::QueueCheckout) -> Vec<Granted> {
    let checkout = Command::Checkout(commands::checkout(time_ms + 1000, vec![part]));
    granted(one(replica, time_ms, checkout))
}

pub fn offsets(granted: &[Granted]) -> Vec<u64> {
    granted.iter().map(|granted| granted.offset).collect()
}

/// What can be read in queue 0 of a topic.
pub fn readable(replica: &Replica, topic_id: u32) -> Vec<(u64, String)> {
    let state = replica.state.read();
    let queue = state.view(&replica.store).queues(topic_id).remove(0);
    queue.messages.iter().map(|(offset, unit)| (*offset, replica.read(unit))).collect()
}

/// First offset and end of queue 0 of a topic.
pub fn bounds(replica: &Replica, topic_id: u32) -> (u64, u64) {
    let state = replica.state.read();
    let queue = state.view(&replica.store).queues(topic_id).remove(0);
    (queue.min, queue.max)
}

/// How far group 1 is in queue 0 of topic 1.
pub fn progress(replica: &Replica) -> ProgressView {
    let state = replica.state.read();
    let consumptions = state.view(&replica.store).consumptions();
    let (_, consumption) = consumptions.into_iter().find(|(ids, _)| *ids == (1, 1)).unwrap();
    consumption.queues.into_iter().next().unwrap()
}

/// What group 1 may be handed out of what was held back in topic 1.
pub fn ready(replica: &Replica) -> Vec<u64> {
    let state = replica.state.read();
    let consumptions = state.view(&replica.store).consumptions();
    let (_, consumption) = consumptions.into_iter().find(|(ids, _)| *ids == (1, 1)).unwrap();
    consumption.ready.iter().map(|(_, offset)| *offset).collect()
}
