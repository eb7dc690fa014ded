//! Lite topics, a page at a time.

use raftmq_proto::raftmq as wire;
use tonic::Status;

use super::limit;
use super::no_topic;
use crate::node::Node;
use crate::state::LiteTopic;
use crate::state::Queue;
use crate::state::State;
use crate::state::Topic;

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;
/// Subscribers that are named of one group and lite topic.
const CLIENTS_MAX: usize = 10;

pub(super) fn list(
    node: &Node,
    request: &wire::ListLiteTopicsRequest,
) -> Result<wire::ListLiteTopicsResponse, Status> {
    let count = limit("count", request.count, PAGE_DEFAULT, PAGE_MAX)? as usize;
    let state = node.state.read();
    let topic = state.topic(&request.topic).ok_or_else(|| no_topic(&request.topic))?;
    if !topic.is_lite() {
        let text = format!("topic {} is not one of lite topics", request.topic);
        return Err(Status::failed_precondition(text));
    }
    let mut found = topic.lite.named_from(&request.from_name);
    let page = found.by_ref().take(count);
    let lite_topics = page.map(|(id, lite)| describe(&state, topic, id, lite)).collect();
    Ok(wire::ListLiteTopicsResponse {
        lite_topics,
        next_name: found.next().map_or_else(String::new, |(_, next)| next.name.to_string()),
        total_count: topic.lite.len() as u64,
    })
}

/// The queues that an operator means: of a topic of lite topics that of one, of another one all.
pub(super) fn queues(topic: &Topic, lite_topic: &str) -> Result<Vec<(u32, Queue)>, Status> {
    let name = &topic.record.name;
    match (topic.is_lite(), lite_topic) {
        (false, "") => Ok((0..).zip(topic.queues.iter().copied()).collect()),
        (false, _) => {
            Err(Status::failed_precondition(format!("topic {name} is not one of lite topics")))
        }
        (true, "") => Err(Status::invalid_argument(format!(
            "topic {name} is one of lite topics: say which one with --lite-topic NAME"
        ))),
        (true, lite_topic) => {
            let found = topic.lite.id(lite_topic).and_then(|id| Some((id, *topic.queue(id)?)));
            found.map(|queue| vec![queue]).ok_or_else(|| {
                Status::not_found(format!(
                    "topic {name} has no lite topic {lite_topic}; look with: raftmq lite list {name}"
                ))
            })
        }
    }
}

fn describe(state: &State, topic: &Topic, queue_id: u32, lite: &LiteTopic) -> wire::LiteTopic {
    let consumptions = state.consumptions.iter().filter(|(ids, _)| ids.1 == topic.record.id);
    let groups = consumptions.filter_map(|(ids, consumption)| {
        let progress = consumption.progress(queue_id)?;
        let subscribers = consumption.lite.subscribers(queue_id);
        Some(wire::LiteTopicGroup {
            group: state.groups.get(&ids.0)?.name.clone(),
            next_offset: progress.next_offset,
            commit_offset: progress.commit_offset(),
            inflight_count: progress.inflight.len() as u64,
            subscriber_count: consumption.lite.subscribers(queue_id).count() as u64,
            client_ids: subscribers.take(CLIENTS_MAX).map(|it| it.to_string()).collect(),
        })
    });
    wire::LiteTopic {
        name: lite.name.to_string(),
        queue_id,
        min_offset: lite.queue.min,
        max_offset: lite.queue.max,
        touched_ms: lite.touched_ms,
        groups: groups.collect(),
    }
}
