//! What consumers say about deliveries, at the leader: done, later, or give up.
//!
//! Step: 8 of the message path. Each is a command; repeating one that succeeded succeeds.

use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;

use crate::clock;
use crate::command::Command;
use crate::handle;
use crate::node::Node;
use crate::rpc::status;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::state::CommandReply;

/// Acknowledges each entry; the answer has one result for each.
///
/// # Errors
/// Refused: unknown group or topic. Elsewhere: some may have been acknowledged.
pub(crate) async fn ack(
    node: &Node,
    request: &v2::AckMessageRequest,
) -> Result<v2::AckMessageResponse, Failure> {
    let ids = ids(node, request.group.as_ref(), request.topic.as_ref())?;
    let mut submitted = Vec::with_capacity(request.entries.len());
    for entry in &request.entries {
        submitted.push(match receipt(ids, &entry.receipt_handle) {
            Ok(receipt) => {
                let command = Command::Ack(wire::Ack { receipt: Some(receipt) });
                Ok(node.proposer.place().await?.submit(&command))
            }
            Err(refusal) => Err(refusal),
        });
    }
    let mut entries = Vec::with_capacity(submitted.len());
    for (entry, submitted) in request.entries.iter().zip(submitted) {
        let status = match submitted {
            Err(refusal) => refusal.status(),
            Ok(submitted) => match submitted.outcome().await? {
                CommandReply::Rejected(rejection) => Refusal::from(rejection).status(),
                _ => status::ok(),
            },
        };
        entries.push(v2::AckMessageResultEntry {
            message_id: entry.message_id.clone(),
            receipt_handle: entry.receipt_handle.clone(),
            status: Some(status),
        });
    }
    Ok(v2::AckMessageResponse { status: Some(overall(&entries)), entries })
}

/// The one code all entries share, or that they differ.
fn overall(entries: &[v2::AckMessageResultEntry]) -> v2::Status {
    let mut statuses = entries.iter().filter_map(|entry| entry.status.clone());
    let Some(first) = statuses.next() else {
        return Refusal::new(Code::BadRequest, "an ack needs at least one entry").status();
    };
    if statuses.all(|status| status.code == first.code) {
        first
    } else {
        let text = "the entries have different results";
        v2::Status { code: Code::MultipleResults.into(), message: text.to_owned() }
    }
}

/// Makes a delivery visible again after `invisible`; returns the new receipt handle.
///
/// # Errors
/// Refused: unknown group or topic, or the delivery has ended.
pub(crate) async fn change_invisible(
    node: &Node,
    request: &v2::ChangeInvisibleDurationRequest,
    invisible: Duration,
) -> Result<String, Failure> {
    let ids = ids(node, request.group.as_ref(), request.topic.as_ref())?;
    let receipt = receipt(ids, &request.receipt_handle)?;
    let now_ms = clock::not_before(node.state.read().time_ms);
    let command = Command::ChangeInvisible(wire::ChangeInvisible {
        receipt: Some(receipt),
        visible_at_ms: now_ms + invisible.as_millis() as u64,
        suspended: request.suspend(),
    });
    match node.proposer.propose(&command).await? {
        CommandReply::Changed { nonce } => Ok(handle::encode(&wire::Receipt { nonce, ..receipt })),
        CommandReply::Rejected(rejection) => Err(rejection.into()),
        other => panic!("a change of the invisible duration was answered with {other:?}"),
    }
}

/// Moves a delivery to the dead letters of its group.
///
/// # Errors
/// Refused: unknown group or topic, or the delivery has ended.
pub(crate) async fn forward_to_dead_letters(
    node: &Node,
    request: &v2::ForwardMessageToDeadLetterQueueRequest,
) -> Result<(), Failure> {
    let ids = ids(node, request.group.as_ref(), request.topic.as_ref())?;
    let receipt = receipt(ids, &request.receipt_handle)?;
    let command =
        Command::DeadLetter(wire::DeadLetter { receipt: Some(receipt), exhausted: false });
    match node.proposer.propose(&command).await? {
        CommandReply::Rejected(rejection) => Err(rejection.into()),
        _ => {
            count_dead_letter(node, ids);
            Ok(())
        }
    }
}

pub(crate) fn count_dead_letter(node: &Node, ids: (u32, u32)) {
    let state = node.state.read();
    let group = state.groups.get(&ids.0).map_or("", |group| &group.name);
    let topic = state.topics.get(&ids.1).map_or("", |topic| &topic.record.name);
    let labels = node.labels(&[("consumer_group", group), ("topic", topic)]);
    metrics::counter!("rocketmq_send_to_dlq_messages_total", labels).increment(1);
}

fn ids(
    node: &Node,
    group: Option<&v2::Resource>,
    topic: Option<&v2::Resource>,
) -> Result<(u32, u32), Refusal> {
    let name = |resource: Option<&v2::Resource>| resource.map_or("", |r| &r.name).to_owned();
    let (group, topic) = (name(group), name(topic));
    let state = node.state.read();
    let topic_id = state.topic(&topic).ok_or_else(|| Refusal::topic_not_found(&topic))?.record.id;
    let group_id = state.group(&group).ok_or_else(|| Refusal::group_not_found(&group))?.id;
    Ok((group_id, topic_id))
}

/// The receipt in a handle, if it is one of this group and topic.
fn receipt(ids: (u32, u32), text: &str) -> Result<wire::Receipt, Refusal> {
    let receipt = handle::decode(text).filter(|r| (r.group_id, r.topic_id) == ids);
    receipt.ok_or_else(|| {
        let text = "the receipt handle is not one that this group received from this topic";
        Refusal::new(Code::InvalidReceiptHandle, text)
    })
}
