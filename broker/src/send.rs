//! Sending at the leader: choose queues, propose, answer with what was stored.
//!
//! Step: 2 to 6 of the message path. Called by `rpc::messaging` with checked messages.
//!
//! Not here: the checks (`rpc::validate`), batching (`proposer`).

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::MessageType;
use raftmq_raft_store::ProposeError;

use crate::auto_create;
use crate::command::Command;
use crate::command::Send;
use crate::handle;
use crate::lite;
use crate::node::Node;
use crate::rpc::status;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::rpc::validate::Parsed;
use crate::state::CommandReply;
use crate::state::Rejection;

/// Spreads sends over queues; where it begins does not matter.
static NEXT_QUEUE: AtomicU32 = AtomicU32::new(0);

/// Stores the messages, all or none, and answers with one entry for each.
///
/// # Errors
/// Refused: nothing was stored. Elsewhere: may have been stored; the message ids make a repetition
/// harmless.
pub(crate) async fn send(
    node: &Node,
    mut parsed: Parsed,
) -> Result<v2::SendMessageResponse, Failure> {
    auto_create::topic(node, &parsed.topic).await?;
    let (topic_id, queue_count) = topic(node, &parsed)?;
    for (message, priority) in parsed.messages.iter_mut().zip(&parsed.priorities) {
        message.queue_id = queue(message.group_hash, *priority, queue_count);
    }
    choose_lite(node, topic_id, &mut parsed).await?;
    let transactional: Vec<bool> =
        parsed.types.iter().map(|kind| *kind == MessageType::Transaction).collect();
    let sizes: Vec<usize> = parsed.messages.iter().map(|message| message.record.len()).collect();
    let command = Command::Send(Send { topic_id, messages: parsed.messages });
    let sent = match node.proposer.propose(&command).await? {
        CommandReply::Sent(sent) => sent,
        // Nobody had used it for long; another attempt makes it anew.
        CommandReply::Rejected(Rejection::LiteTopicGone) => {
            return Err(Failure::Elsewhere(ProposeError::Unknown));
        }
        CommandReply::Rejected(rejection) => return Err(rejection.into()),
        other => panic!("a send was answered with {other:?}"),
    };
    let repeated = sent.iter().filter(|sent| sent.repeated).count() as u64;
    count(node, &parsed.topic, message_type(&parsed.types), &sizes, repeated);
    let entries = sent.into_iter().zip(&parsed.message_ids).zip(transactional).map(
        |((sent, message_id), transactional)| v2::SendResultEntry {
            status: Some(status::ok()),
            message_id: message_id.clone(),
            transaction_id: if transactional { message_id.clone() } else { String::new() },
            // -1: in no queue yet.
            offset: sent.offset as i64,
            recall_handle: sent
                .timer
                .map_or_else(String::new, |timer| handle::encode_recall(topic_id, &timer)),
        },
    );
    Ok(v2::SendMessageResponse { status: Some(status::ok()), entries: entries.collect() })
}

/// A message of a lite topic goes into the queue of that.
async fn choose_lite(node: &Node, topic_id: u32, parsed: &mut Parsed) -> Result<(), Failure> {
    let names: BTreeSet<String> = parsed.lite_topics.iter().flatten().cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let queue_ids = lite::queue_ids(node, topic_id, &names).await?;
    for (message, name) in parsed.messages.iter_mut().zip(&parsed.lite_topics) {
        let queue_id = name.as_ref().and_then(|name| queue_ids.get(name));
        message.queue_id = queue_id.copied().unwrap_or(message.queue_id);
    }
    Ok(())
}

/// The queue of a message: that of its message group, whatever the client's language makes of it; that
/// of its priority, of which the highest queue is the first to be read; or any.
pub(crate) fn queue(group_hash: u64, priority: Option<u32>, queue_count: u32) -> u32 {
    match priority {
        Some(priority) => priority.min(queue_count - 1),
        None if group_hash != 0 => (group_hash % u64::from(queue_count)) as u32,
        None => NEXT_QUEUE.fetch_add(1, Ordering::Relaxed) % queue_count,
    }
}

/// Id and queue count of the topic, if it takes what is sent, now.
fn topic(node: &Node, parsed: &Parsed) -> Result<(u32, u32), Refusal> {
    let state = node.state.read();
    let topic =
        state.topic(&parsed.topic).ok_or_else(|| Refusal::topic_not_found(&parsed.topic))?;
    for message_type in &parsed.types {
        if !topic.takes(*message_type) {
            let text = format!(
                "a {} message was sent to topic {}, which takes {}",
                message_type.as_str_name(),
                parsed.topic,
                types(&topic.record.message_types)
            );
            return Err(Refusal::new(Code::MessagePropertyConflictWithType, text));
        }
    }
    let (topic_id, rate_max) = (topic.record.id, topic.record.send_rate_max);
    if !node.rates.send(topic_id, rate_max, parsed.messages.len()) {
        let text = format!(
            "topic {} takes {rate_max} messages a second, and that many were sent to it; try again \
             in a moment",
            parsed.topic
        );
        return Err(Refusal::too_many("send_rate", text));
    }
    Ok((topic_id, topic.queues.len() as u32))
}

fn types(numbers: &[i32]) -> String {
    let name = |number: &i32| {
        MessageType::try_from(*number).map_or("another type", |kind| kind.as_str_name())
    };
    numbers.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// As metrics name it; messages of one request nearly always are of one type.
fn message_type(types: &[MessageType]) -> &'static str {
    match types.first() {
        Some(MessageType::Fifo) => "fifo",
        Some(MessageType::Delay) => "delay",
        Some(MessageType::Transaction) => "transaction",
        Some(MessageType::Priority) => "priority",
        Some(MessageType::Lite) => "lite",
        _ => "normal",
    }
}

fn count(node: &Node, topic: &str, message_type: &str, sizes: &[usize], repeated: u64) {
    let labels = node.labels(&[("topic", topic), ("message_type", message_type)]);
    let bytes = sizes.iter().sum::<usize>() as u64;
    metrics::counter!("rocketmq_messages_in_total", labels.clone())
        .increment(sizes.len() as u64 - repeated);
    metrics::counter!("rocketmq_throughput_in_total", labels.clone()).increment(bytes);
    let histogram = metrics::histogram!("rocketmq_message_size", labels);
    for size in sizes {
        histogram.record(*size as f64);
    }
    if repeated > 0 {
        metrics::counter!("raftmq_repeated_sends_total").increment(repeated);
    }
}
