//! Sending at the leader: choose queues, propose, answer with what was stored.
//!
//! Step: 2 to 6 of the message path. Called by `rpc::messaging` with checked messages.
//!
//! Not here: the checks (`rpc::validate`), batching (`proposer`).

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::MessageType;

use crate::command::Command;
use crate::command::Send;
use crate::node::Node;
use crate::rpc::status;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::rpc::validate::Parsed;
use crate::state::CommandReply;

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
    let (topic_id, queue_count) = topic(node, &parsed)?;
    for message in &mut parsed.messages {
        message.queue_id = NEXT_QUEUE.fetch_add(1, Ordering::Relaxed) % queue_count;
    }
    let sizes: Vec<usize> = parsed.messages.iter().map(|message| message.record.len()).collect();
    let command = Command::Send(Send { topic_id, messages: parsed.messages });
    let sent = match node.proposer.propose(&command).await? {
        CommandReply::Sent(sent) => sent,
        CommandReply::Rejected(rejection) => return Err(rejection.into()),
        other => panic!("a send was answered with {other:?}"),
    };
    let repeated = sent.iter().filter(|sent| sent.repeated).count() as u64;
    count(node, &parsed.topic, &sizes, repeated);
    let entries =
        sent.into_iter().zip(&parsed.message_ids).map(|(sent, message_id)| v2::SendResultEntry {
            status: Some(status::ok()),
            message_id: message_id.clone(),
            offset: sent.offset as i64,
            ..Default::default()
        });
    Ok(v2::SendMessageResponse { status: Some(status::ok()), entries: entries.collect() })
}

/// Id and queue count of the topic, if it takes what is sent.
fn topic(node: &Node, parsed: &Parsed) -> Result<(u32, u32), Refusal> {
    let state = node.state.read();
    let topic =
        state.topic(&parsed.topic).ok_or_else(|| Refusal::topic_not_found(&parsed.topic))?;
    for message_type in &parsed.types {
        if *message_type != MessageType::Normal {
            let text = format!(
                "a {} message was sent to topic {}, which takes {}",
                message_type.as_str_name(),
                parsed.topic,
                topic_type(topic.record.message_type)
            );
            return Err(Refusal::new(Code::MessagePropertyConflictWithType, text));
        }
    }
    Ok((topic.record.id, topic.queues.len() as u32))
}

fn topic_type(number: i32) -> &'static str {
    MessageType::try_from(number).map_or("another type", |kind| kind.as_str_name())
}

fn count(node: &Node, topic: &str, sizes: &[usize], repeated: u64) {
    let labels = node.labels(&[("topic", topic), ("message_type", "normal")]);
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
