//! Topics.

use raftmq_proto::names;
use raftmq_proto::raftmq as wire;
use raftmq_proto::route::QUEUES_DEFAULT;
use raftmq_proto::v2::MessageType;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use tonic::Status;

use super::change;
use super::limit;
use super::no_topic;
use crate::command::Command;
use crate::node::Node;
use crate::state;
use crate::state::CommandReply;
use crate::state::Topic;

const QUEUES_MAX: u32 = 1024;
/// 2 GB of memory on every node.
const LITE_TOPICS_MAX: u32 = 10_000_000;

pub(super) async fn create(
    node: &Node,
    request: wire::CreateTopicRequest,
) -> Result<wire::Topic, Status> {
    names::new_topic(&request.name).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let longest = node.config.retention;
    if request.retention_ms > longest.as_millis() as u64 {
        let text = format!(
            "a topic can keep its messages for a shorter time than the broker, which keeps them for \
             {longest:?}"
        );
        return Err(Status::invalid_argument(text));
    }
    let message_types = message_types(&request.message_types)?;
    if request.retention_ms > 0 && message_types.contains(&MessageType::Lite.into()) {
        let text =
            "lite topics are kept as long as other messages; let idle ones go with an expiration";
        return Err(Status::invalid_argument(text));
    }
    let limited = request.lite_topics_max > 0 || request.lite_expiration_ms > 0;
    if limited && !message_types.contains(&MessageType::Lite.into()) {
        let text = "only a topic of type LITE has lite topics";
        return Err(Status::invalid_argument(text));
    }
    let command = Command::CreateTopic(wire::CreateTopic {
        queue_count: limit("queue_count", request.queue_count, QUEUES_DEFAULT, QUEUES_MAX)?,
        message_types,
        name: request.name,
        retention_ms: request.retention_ms,
        send_rate_max: request.send_rate_max,
        lite_topics_max: limit("lite_topics_max", request.lite_topics_max, 0, LITE_TOPICS_MAX)?,
        lite_expiration_ms: request.lite_expiration_ms,
    });
    if let (true, Command::CreateTopic(topic)) = (planted(Bug::TopicCreateNotReplicated), &command)
    {
        drop(node.proposer.place().await.map(|place| place.submit(&command)));
        let (name, queue_count) = (topic.name.clone(), topic.queue_count);
        return Ok(wire::Topic { name, queue_count, ..Default::default() });
    }
    match change(node, &command).await? {
        CommandReply::Topic(topic) => Ok(to_wire(&topic, 0)),
        other => panic!("creating a topic was answered with {other:?}"),
    }
}

pub(super) async fn update(
    node: &Node,
    request: wire::UpdateTopicRequest,
) -> Result<wire::Topic, Status> {
    let wire::UpdateTopicRequest { name, send_rate_max } = request;
    let command = Command::UpdateTopic(wire::UpdateTopic { name, send_rate_max });
    match change(node, &command).await? {
        CommandReply::Topic(topic) => {
            let state = node.state.read();
            let count = state.topics.get(&topic.id).map_or(0, |topic| topic.lite.len());
            Ok(to_wire(&topic, count))
        }
        other => panic!("updating a topic was answered with {other:?}"),
    }
}

/// What may be sent to a topic, each once and in order; the state holds nothing that clients do not
/// know.
fn message_types(asked: &[i32]) -> Result<Vec<i32>, Status> {
    let mut types = Vec::with_capacity(asked.len());
    for number in asked {
        match MessageType::try_from(*number) {
            Ok(MessageType::Unspecified) | Err(_) => {
                let text = format!("{number} is not the number of a message type");
                return Err(Status::invalid_argument(text));
            }
            Ok(kind) => types.push(kind),
        }
    }
    if types.is_empty() {
        types.push(MessageType::Normal);
    }
    types.sort_unstable();
    types.dedup();
    let alone = [MessageType::Priority, MessageType::Lite];
    if types.len() > 1 && alone.iter().any(|kind| types.contains(kind)) {
        let text = "a topic takes PRIORITY or LITE messages alone, or a mix of NORMAL, FIFO, DELAY \
                    and TRANSACTION";
        return Err(Status::invalid_argument(text));
    }
    Ok(types.into_iter().map(i32::from).collect())
}

pub(super) async fn delete(
    node: &Node,
    request: wire::DeleteTopicRequest,
) -> Result<wire::DeleteTopicResponse, Status> {
    change(node, &Command::DeleteTopic(wire::DeleteTopic { name: request.name })).await?;
    Ok(wire::DeleteTopicResponse {})
}

pub(super) fn list(node: &Node) -> wire::ListTopicsResponse {
    let state = node.state.read();
    let mut topics: Vec<_> = state.topics.values().map(of_topic).collect();
    topics.sort_by(|one, other| one.name.cmp(&other.name));
    wire::ListTopicsResponse { topics }
}

pub(super) fn describe(node: &Node, name: &str) -> Result<wire::DescribeTopicResponse, Status> {
    let state = node.state.read();
    let topic = state.topic(name).ok_or_else(|| no_topic(name))?;
    let queues = topic.queues.iter().zip(0..).map(|(queue, queue_id)| wire::QueueRange {
        queue_id,
        min_offset: queue.min,
        max_offset: queue.max,
    });
    let groups = state
        .consumptions
        .keys()
        .filter(|ids| ids.1 == topic.record.id)
        .filter_map(|ids| Some(state.groups.get(&ids.0)?.name.clone()));
    Ok(wire::DescribeTopicResponse {
        topic: Some(of_topic(topic)),
        queues: queues.collect(),
        groups: groups.collect(),
    })
}

fn of_topic(topic: &Topic) -> wire::Topic {
    to_wire(&topic.record, topic.lite.len())
}

fn to_wire(topic: &wire::TopicRecord, lite_topic_count: usize) -> wire::Topic {
    let lite = topic.message_types.contains(&MessageType::Lite.into());
    let lite_topics_max = if lite { state::lite_topics_max(topic) } else { 0 };
    wire::Topic {
        lite_topic_count: lite_topic_count as u64,
        lite_topics_max,
        lite_expiration_ms: topic.lite_expiration_ms,
        name: topic.name.clone(),
        queue_count: topic.queue_count,
        message_types: topic.message_types.clone(),
        created_ms: topic.created_ms,
        retention_ms: topic.retention_ms,
        send_rate_max: topic.send_rate_max,
    }
}

#[cfg(test)]
mod tests {
    use MessageType::*;

    use super::*;

    fn checked(asked: &[MessageType]) -> Result<Vec<i32>, tonic::Code> {
        let asked: Vec<i32> = asked.iter().copied().map(i32::from).collect();
        message_types(&asked).map_err(|status| status.code())
    }

    fn numbers(types: &[MessageType]) -> Result<Vec<i32>, tonic::Code> {
        Ok(types.iter().copied().map(i32::from).collect())
    }

    #[test]
    fn no_type_is_the_ordinary_one_and_several_are_in_order() {
        assert_eq!(checked(&[]), numbers(&[Normal]));
        assert_eq!(checked(&[Delay, Normal, Delay]), numbers(&[Normal, Delay]));
        assert_eq!(checked(&[Priority, Priority]), numbers(&[Priority]));
    }

    #[test]
    fn what_can_not_be_mixed_is_refused() {
        assert_eq!(checked(&[Normal, Priority]), Err(tonic::Code::InvalidArgument));
        assert_eq!(checked(&[Unspecified]), Err(tonic::Code::InvalidArgument));
        assert_eq!(checked(&[Normal, Lite]), Err(tonic::Code::InvalidArgument));
        assert_eq!(checked(&[Lite]), numbers(&[Lite]));
        assert!(message_types(&[77]).is_err());
    }
}
