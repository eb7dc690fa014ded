//! Looks at every node while a run goes on, and at everything a node has when it is over.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::admin_client::AdminClient;
use raftmq_proto::raftmq::peer_client::PeerClient;
use raftmq_proto::v2::MessageType;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::Context;
use crate::history::{Action, Origin, Recorder};

const STATUS_INTERVAL: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(2);
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const PEEK_COUNT: u32 = 100;
const LITE_COUNT: u32 = 1000;
/// The name under which what the leader says of offsets is written down: whoever leads answers.
const LEADER: &str = "leader";

/// Asks each node (name, peer address) about itself, until the end of the run.
pub fn observe(context: &Context, nodes: Vec<(String, String)>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (name, address) in nodes {
        let context = context.clone();
        tasks.spawn(async move {
            while !context.end.is_cancelled() {
                if let Ok(status) = status(&address).await {
                    context.recorder.observe(status, Some(name.clone()));
                }
                tokio::time::sleep(STATUS_INTERVAL).await;
            }
        });
    }
    tasks
}

/// Asks how far `groups` are, by the leader's word, until the end of the run.
pub fn progress(context: &Context, groups: Vec<String>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let context = context.clone();
    tasks.spawn(async move {
        let mut asked = 0;
        while !context.end.is_cancelled() {
            for group in &groups {
                // Each time another node, which relays to the leader.
                asked += 1;
                let address = &context.admin[asked % context.admin.len()];
                if let Ok(described) = describe_group(address, group, false).await {
                    let of_lite = lite_topics_of(address, &described, false).await;
                    record_progress(&context.recorder, group, described, LEADER);
                    record_lite_progress(
                        &context.recorder,
                        group,
                        of_lite.unwrap_or_default(),
                        LEADER,
                    );
                }
            }
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
    });
    tasks
}

/// Writes down the state of one node, as it says itself.
pub(crate) async fn status(peer_address: &str) -> anyhow::Result<Action> {
    let channel = channel(peer_address, TIMEOUT)?;
    let asked = PeerClient::new(channel).node_status(wire::NodeStatusRequest {}).await?;
    let status = asked.into_inner();
    Ok(Action::Status {
        term: status.term,
        role: status.role,
        leader_id: status.leader_id,
        commit_index: status.commit_index,
        applied_index: status.applied_index,
        state_hash: status.state_hash,
    })
}

/// Writes down how many half messages of a topic wait for a decision, and returns it. Any node answers
/// with the leader's word.
pub(crate) async fn undecided(
    recorder: &Recorder,
    admin_address: &str,
    topic: &str,
) -> anyhow::Result<u64> {
    let mut node = AdminClient::new(channel(admin_address, TIMEOUT)?);
    let request = wire::ListTransactionsRequest { topic: topic.to_owned(), count: 1 };
    let count = node.list_transactions(request).await?.into_inner().total_count;
    recorder.observe(Action::Undecided { topic: topic.to_owned(), count }, Some(LEADER.to_owned()));
    Ok(count)
}

/// Writes down everything that the node `name` itself has of `topics`, of the dead letters of `groups`,
/// and how far it knows these.
pub(crate) async fn read_everything(
    recorder: &Recorder,
    name: &str,
    admin_address: &str,
    topics: &[String],
    groups: &[String],
) -> anyhow::Result<()> {
    for topic in topics {
        read_topic(recorder, name, admin_address, topic)
            .await
            .with_context(|| format!("could not read {topic} at {name}"))?;
    }
    for group in groups {
        let described = describe_group(admin_address, group, true).await?;
        let of_lite = lite_topics_of(admin_address, &described, true).await?;
        record_progress(recorder, group, described, name);
        record_lite_progress(recorder, group, of_lite, name);
        let dead_letters = dead_letters(group);
        let mut node = AdminClient::new(channel(admin_address, READ_TIMEOUT)?);
        let request = wire::DescribeTopicRequest { name: dead_letters.clone(), this_node: true };
        match node.describe_topic(request).await {
            Ok(_) => read_topic(recorder, name, admin_address, &dead_letters).await?,
            // It is made for the first one.
            Err(status) if status.code() == tonic::Code::NotFound => (),
            Err(status) => return Err(status).context(dead_letters),
        }
    }
    Ok(())
}

/// The topic that a group's dead letters come into.
pub(super) fn dead_letters(group: &str) -> String {
    format!("%DLQ%{group}")
}

async fn read_topic(
    recorder: &Recorder,
    name: &str,
    admin_address: &str,
    topic: &str,
) -> anyhow::Result<()> {
    let mut node = AdminClient::new(channel(admin_address, READ_TIMEOUT)?);
    let request = wire::DescribeTopicRequest { name: topic.to_owned(), this_node: true };
    let described = node.describe_topic(request).await?.into_inner();
    let ordinary = described
        .queues
        .iter()
        .map(|it| (String::new(), it.queue_id, it.min_offset, it.max_offset));
    let mut queues: Vec<_> = ordinary.collect();
    if described.topic.is_some_and(|topic| topic.message_types.contains(&MessageType::Lite.into()))
    {
        let lite_topics = lite_topics(admin_address, topic, true).await?.into_iter();
        queues.extend(lite_topics.map(|it| (it.name, it.queue_id, it.min_offset, it.max_offset)));
    }
    for (lite_topic, queue_id, min_offset, max_offset) in queues {
        let mut next = min_offset;
        while next < max_offset {
            let request = wire::PeekMessagesRequest {
                topic: topic.to_owned(),
                queue_id: Some(queue_id),
                offset: Some(next),
                count: PEEK_COUNT,
                this_node: true,
                lite_topic: lite_topic.clone(),
            };
            let messages = node.peek_messages(request).await?.into_inner().messages;
            ensure!(!messages.is_empty(), "queue {queue_id} has a hole at {next}");
            for message in messages {
                let properties = message.system_properties.unwrap_or_default();
                let origin = properties
                    .dead_letter_queue
                    .map(|from| Origin { topic: from.topic, message_id: from.message_id });
                let offset = properties.queue_offset.unwrap_or_default() as u64;
                ensure!(offset == next, "queue {queue_id}: {offset} where {next} belongs");
                let stored = Action::Stored {
                    topic: topic.to_owned(),
                    queue_id,
                    offset,
                    value: String::from_utf8_lossy(&message.body).trim_end().to_owned(),
                    message_id: properties.message_id,
                    origin,
                };
                recorder.observe(stored, Some(name.to_owned()));
                next += 1;
            }
        }
    }
    Ok(())
}

/// All lite topics of a topic.
async fn lite_topics(
    admin_address: &str,
    topic: &str,
    this_node: bool,
) -> anyhow::Result<Vec<wire::LiteTopic>> {
    let mut node = AdminClient::new(channel(admin_address, TIMEOUT)?);
    let (topic, count) = (topic.to_owned(), LITE_COUNT);
    let mut request = wire::ListLiteTopicsRequest { topic, count, this_node, ..Default::default() };
    let mut all = Vec::new();
    loop {
        let page = node.list_lite_topics(request.clone()).await?.into_inner();
        all.extend(page.lite_topics);
        if page.next_name.is_empty() {
            return Ok(all);
        }
        request.from_name = page.next_name;
    }
}

/// The lite topics of all topics that a group consumes, each with its topic.
async fn lite_topics_of(
    admin_address: &str,
    described: &wire::DescribeGroupResponse,
    this_node: bool,
) -> anyhow::Result<Vec<(String, wire::LiteTopic)>> {
    let mut all = Vec::new();
    for queue in described.progress.iter().filter(|queue| queue.lite_topic_count > 0) {
        let of_topic = lite_topics(admin_address, &queue.topic, this_node).await?.into_iter();
        all.extend(of_topic.map(|it| (queue.topic.clone(), it)));
    }
    Ok(all)
}

async fn describe_group(
    admin_address: &str,
    group: &str,
    this_node: bool,
) -> anyhow::Result<wire::DescribeGroupResponse> {
    let mut node = AdminClient::new(channel(admin_address, TIMEOUT)?);
    let request = wire::DescribeGroupRequest { name: group.to_owned(), this_node };
    Ok(node.describe_group(request).await?.into_inner())
}

fn record_progress(
    recorder: &Recorder,
    group: &str,
    described: wire::DescribeGroupResponse,
    node: &str,
) {
    // Of its lite topics it tells only what they have together.
    for queue in described.progress.into_iter().filter(|queue| queue.lite_topic_count == 0) {
        let progress = Action::Progress {
            group: group.to_owned(),
            topic: queue.topic,
            queue_id: queue.queue_id,
            commit_offset: queue.commit_offset,
            next_offset: queue.next_offset,
            min_offset: queue.min_offset,
            max_offset: queue.max_offset,
        };
        recorder.observe(progress, Some(node.to_owned()));
    }
}

fn record_lite_progress(
    recorder: &Recorder,
    group: &str,
    lite_topics: Vec<(String, wire::LiteTopic)>,
    node: &str,
) {
    for (topic, lite_topic) in lite_topics {
        let Some(own) = lite_topic.groups.iter().find(|it| it.group == group) else { continue };
        let progress = Action::Progress {
            group: group.to_owned(),
            topic,
            queue_id: lite_topic.queue_id,
            commit_offset: own.commit_offset,
            next_offset: own.next_offset,
            min_offset: lite_topic.min_offset,
            max_offset: lite_topic.max_offset,
        };
        recorder.observe(progress, Some(node.to_owned()));
    }
}

fn channel(address: &str, timeout: Duration) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_timeout(timeout).timeout(timeout).connect_lazy())
}
