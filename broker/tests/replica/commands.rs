//! Commands as the leader makes them, with what a test does not care about left at its simplest.

use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::command::Release;
use raftmq_broker::command::Send;
use raftmq_broker::state::Granted;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2::MessageType;
use raftmq_proto::v2::TransactionResolution;

/// A topic that takes everything.
pub fn topic(name: &str, queue_count: u32) -> Command {
    let types = [
        MessageType::Normal,
        MessageType::Fifo,
        MessageType::Delay,
        MessageType::Transaction,
        MessageType::Priority,
    ];
    Command::CreateTopic(wire::CreateTopic {
        name: name.to_owned(),
        queue_count,
        message_types: types.map(i32::from).to_vec(),
        ..Default::default()
    })
}

/// A topic of lite topics, of which one lives for 100 ms without a send.
pub fn lite_parent(name: &str, lite_topics_max: u32) -> Command {
    Command::CreateTopic(wire::CreateTopic {
        name: name.to_owned(),
        queue_count: 1,
        message_types: vec![MessageType::Lite.into()],
        lite_topics_max,
        lite_expiration_ms: 100,
        ..Default::default()
    })
}

pub fn group(name: &str, max_attempts: u32) -> Command {
    let name = name.to_owned();
    Command::CreateGroup(wire::CreateGroup { name, max_attempts, ..Default::default() })
}

pub fn fifo_group(name: &str, max_attempts: u32) -> Command {
    let (name, fifo) = (name.to_owned(), true);
    Command::CreateGroup(wire::CreateGroup { name, max_attempts, fifo, ..Default::default() })
}

/// A message for queue 0 whose record is its id.
pub fn message(id: &str) -> NewMessage {
    NewMessage {
        queue_id: 0,
        tag_hash: 0,
        group_hash: 0,
        key_hashes: Vec::new(),
        release: Release::AtOnce,
        message_id: id.to_owned().into(),
        record: id.to_owned().into(),
        record_offset: 0,
    }
}

/// Sends to topic 1.
pub fn send(messages: Vec<NewMessage>) -> Command {
    Command::Send(Send { topic_id: 1, messages })
}

pub fn send_at(id: &str, due_ms: u64) -> Command {
    send(vec![NewMessage { release: Release::At(due_ms), ..message(id) }])
}

pub fn send_half(id: &str, check_ms: u64) -> Command {
    send(vec![NewMessage { release: Release::OnCommit(check_ms), ..message(id) }])
}

/// Group 1 takes these parts of topic 1.
pub fn checkout(visible_at_ms: u64, queues: Vec<wire::QueueCheckout>) -> wire::Checkout {
    wire::Checkout { group_id: 1, topic_id: 1, queues, visible_at_ms, ..Default::default() }
}

/// New messages of queue 0: those in `taken` of everything in `from..to`.
pub fn fresh(from: u64, to: u64, taken: &[u64]) -> wire::QueueCheckout {
    let taken = taken.to_vec();
    wire::QueueCheckout { from_offset: from, next_offset: to, taken, ..Default::default() }
}

pub fn again(offsets: &[u64]) -> wire::QueueCheckout {
    wire::QueueCheckout { again: offsets.to_vec(), ..Default::default() }
}

/// Of group 1 and topic 1.
pub fn receipt(granted: &Granted) -> wire::Receipt {
    wire::Receipt {
        group_id: 1,
        topic_id: 1,
        queue_id: granted.queue_id,
        offset: granted.offset,
        nonce: granted.nonce,
    }
}

pub fn ack(granted: &Granted) -> Command {
    Command::Ack(wire::Ack { receipt: Some(receipt(granted)) })
}

pub fn change(granted: &Granted, visible_at_ms: u64) -> Command {
    let receipt = Some(receipt(granted));
    Command::ChangeInvisible(wire::ChangeInvisible { receipt, visible_at_ms, suspended: false })
}

pub fn dead_letter(granted: &Granted, exhausted: bool) -> Command {
    let receipt = Some(receipt(granted));
    Command::DeadLetter(wire::DeadLetter { receipt, exhausted })
}

/// Fires everything up to `until_ms`; a half message is checked every 100 ms, twice at the most.
pub fn fire(until_ms: u64) -> Command {
    Command::Fire(wire::Fire { until_ms, count: 1000, check_interval_ms: 100, check_max: 2 })
}

pub fn recall(timer: &wire::Timer) -> Command {
    Command::Recall(wire::Recall { topic_id: 1, timer: Some(*timer) })
}

pub fn end(id: &str, resolution: TransactionResolution) -> Command {
    Command::EndTransaction(wire::EndTransaction {
        topic_id: 1,
        transaction_id: id.to_owned().into(),
        resolution: resolution.into(),
    })
}

/// Moves messages of queue 0 of `topic_id` to queue 0 of topic 1.
pub fn redrive(topic_id: u32, offsets: &[u64]) -> Command {
    let redriven = |offset: &u64| wire::Redriven {
        queue_id: 0,
        offset: *offset,
        to_topic_id: 1,
        to_queue_id: 0,
    };
    let messages = offsets.iter().map(redriven).collect();
    Command::Redrive(wire::Redrive { topic_id, messages })
}

/// Takes messages out of queue 0.
pub fn discard(topic_id: u32, offsets: &[u64]) -> Command {
    let place = |offset: &u64| wire::QueueOffset { queue_id: 0, offset: *offset };
    let messages = offsets.iter().map(place).collect();
    Command::Discard(wire::Discard { topic_id, messages })
}

pub fn trim(before_log_index: u64) -> Command {
    Command::Trim(wire::Trim { before_log_index, stored_before_ms: 0 })
}

/// Moves the cursor of group 1 in queue 0 of topic 1.
pub fn reset(offset: u64) -> Command {
    let queues = vec![wire::QueueOffset { queue_id: 0, offset }];
    Command::ResetOffset(wire::ResetOffset { group_id: 1, topic_id: 1, queues })
}
