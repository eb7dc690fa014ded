//! `raftmq group describe`.

use std::time::Duration;

use raftmq::client::Admin;
use raftmq_proto::raftmq::DescribeGroupRequest;
use raftmq_proto::raftmq::DescribeGroupResponse;
use raftmq_proto::raftmq::GroupClient;
use raftmq_proto::raftmq::QueueProgress;
use serde::Serialize;

use super::BackoffView;
use super::GroupView;
use crate::commands::ReadArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::output::Table;

pub async fn run(
    name: String,
    read: ReadArgs,
    admin: &Admin,
    output: OutputArgs,
) -> Result<(), Failure> {
    let request = DescribeGroupRequest { name, this_node: read.this_node };
    let described = admin.call(request, async |mut node, r| node.describe_group(r).await).await?;
    output.print(&DescriptionView::from(described), text)
}

#[derive(Serialize)]
struct DescriptionView {
    #[serde(flatten)]
    group: GroupView,
    total: LagView,
    topics: Vec<TopicView>,
    progress: Vec<ProgressView>,
    clients: Vec<ClientView>,
}

/// What a group has not consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct LagView {
    /// All that follow.
    lag_count: u64,
    ready_count: u64,
    inflight_count: u64,
    /// Of those in flight: handed out more than once.
    retry_count: u64,
    /// Held back behind a message of the same message group, or for another member's filter.
    held_count: u64,
    /// Age of the oldest.
    lag_ms: u64,
}

#[derive(Serialize)]
struct TopicView {
    topic: String,
    #[serde(flatten)]
    lag: LagView,
}

#[derive(Serialize)]
struct ProgressView {
    topic: String,
    /// Of the lite topics of a topic, which stand together: how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topic_count: Option<u64>,
    queue_id: u32,
    min_offset: u64,
    max_offset: u64,
    next_offset: u64,
    commit_offset: u64,
    #[serde(flatten)]
    lag: LagView,
}

#[derive(Serialize)]
struct ClientView {
    client_id: String,
    language: String,
    client_type: String,
    last_seen_ms_ago: u64,
}

impl LagView {
    fn and(self, other: Self) -> Self {
        Self {
            lag_count: self.lag_count + other.lag_count,
            ready_count: self.ready_count + other.ready_count,
            inflight_count: self.inflight_count + other.inflight_count,
            retry_count: self.retry_count + other.retry_count,
            held_count: self.held_count + other.held_count,
            lag_ms: self.lag_ms.max(other.lag_ms),
        }
    }

    fn age(&self) -> String {
        match self.lag_count {
            0 => "-".to_owned(),
            _ => output::duration(Duration::from_millis(self.lag_ms)),
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.ready_count.to_string(),
            self.inflight_count.to_string(),
            self.retry_count.to_string(),
            self.held_count.to_string(),
            self.lag_count.to_string(),
            self.age(),
        ]
    }
}

impl From<QueueProgress> for ProgressView {
    fn from(queue: QueueProgress) -> Self {
        Self {
            topic: queue.topic,
            lite_topic_count: (queue.lite_topic_count > 0).then_some(queue.lite_topic_count),
            queue_id: queue.queue_id,
            min_offset: queue.min_offset,
            max_offset: queue.max_offset,
            next_offset: queue.next_offset,
            commit_offset: queue.commit_offset,
            lag: LagView {
                lag_count: queue.ready_count + queue.inflight_count + queue.held_count,
                ready_count: queue.ready_count,
                inflight_count: queue.inflight_count,
                retry_count: queue.retry_count,
                held_count: queue.held_count,
                lag_ms: queue.lag_ms,
            },
        }
    }
}

impl ProgressView {
    /// Lite topics have none in common.
    fn place(&self, number: u64) -> String {
        match self.lite_topic_count {
            Some(_) => "-".to_owned(),
            None => number.to_string(),
        }
    }
}

impl From<GroupClient> for ClientView {
    fn from(client: GroupClient) -> Self {
        Self {
            client_id: client.client_id,
            language: client.language,
            client_type: client.client_type,
            last_seen_ms_ago: client.last_seen_ms_ago,
        }
    }
}

impl From<DescribeGroupResponse> for DescriptionView {
    fn from(described: DescribeGroupResponse) -> Self {
        let progress: Vec<_> = described.progress.into_iter().map(ProgressView::from).collect();
        let sum = |queues: &[ProgressView]| {
            queues.iter().map(|queue| queue.lag).fold(LagView::default(), LagView::and)
        };
        // Queues of one topic stand together.
        let topics = progress.chunk_by(|one, other| one.topic == other.topic);
        let topic = |queues: &[ProgressView]| {
            Some(TopicView { topic: queues.first()?.topic.clone(), lag: sum(queues) })
        };
        Self {
            group: described.group.unwrap_or_default().into(),
            total: sum(&progress),
            topics: topics.filter_map(topic).collect(),
            progress,
            clients: described.clients.into_iter().map(ClientView::from).collect(),
        }
    }
}

fn text(description: &DescriptionView) -> String {
    let group = &description.group;
    let backoff = group.backoff.as_ref().map_or("default".to_owned(), BackoffView::text);
    let mut text = format!(
        "consumer group {}\n  {}, starts at {}, max attempts {}, backoff {backoff}, receives {}\n  created {}\n",
        group.name,
        group.order(),
        group.start,
        group.max_attempts,
        group.receive_rate(),
        group.created
    );
    if description.progress.is_empty() {
        text.push_str("\nit has not received anything yet\n");
    } else {
        text.push_str(&format!(
            "  {}\n\n{}",
            total_text(&description.total),
            progress_table(description)
        ));
    }
    if !description.clients.is_empty() {
        text.push_str(&format!("\n{}", client_table(&description.clients)));
    }
    text
}

fn total_text(total: &LagView) -> String {
    match total.lag_count {
        0 => "everything is consumed".to_owned(),
        count => format!(
            "{count} messages behind: {} ready, {} in flight ({} of them again), {} held back; the \
             oldest is {} old",
            total.ready_count,
            total.inflight_count,
            total.retry_count,
            total.held_count,
            total.age()
        ),
    }
}

fn progress_table(description: &DescriptionView) -> Table {
    let mut table = Table::new([
        "TOPIC",
        ">QUEUE",
        ">MIN OFFSET",
        ">COMMITTED",
        ">NEXT",
        ">MAX OFFSET",
        ">READY",
        ">IN FLIGHT",
        ">RETRY",
        ">HELD",
        ">LAG",
        ">OLDEST",
    ]);
    for topic in &description.topics {
        let queues = description.progress.iter().filter(|queue| queue.topic == topic.topic);
        for queue in queues.clone() {
            let [ready, inflight, retry, held, lag, age] = queue.lag.cells();
            table.row([
                queue.topic.clone(),
                queue.place(queue.queue_id.into()),
                queue.place(queue.min_offset),
                queue.place(queue.commit_offset),
                queue.place(queue.next_offset),
                queue.place(queue.max_offset),
                ready,
                inflight,
                retry,
                held,
                lag,
                age,
            ]);
        }
        if queues.count() > 1 {
            let [ready, inflight, retry, held, lag, age] = topic.lag.cells();
            let none = String::new;
            let (topic, all) = (topic.topic.clone(), "all".to_owned());
            let places = [topic, all, none(), none(), none(), none()];
            let [topic, all, min, committed, next, max] = places;
            table.row([
                topic, all, min, committed, next, max, ready, inflight, retry, held, lag, age,
            ]);
        }
    }
    table
}

fn client_table(clients: &[ClientView]) -> Table {
    let mut table = Table::new(["CLIENT", "LANGUAGE", "TYPE", ">SEEN"]);
    for client in clients {
        let seen = output::duration(Duration::from_millis(client.last_seen_ms_ago));
        table.row([
            client.client_id.clone(),
            client.language.clone(),
            client.client_type.clone(),
            format!("{seen} ago"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use raftmq_proto::raftmq::ConsumerGroup;

    use super::*;

    fn queue(topic: &str, queue_id: u32, lag_ms: u64) -> QueueProgress {
        QueueProgress {
            topic: topic.to_owned(),
            queue_id,
            max_offset: 9,
            next_offset: 6,
            ready_count: 3,
            inflight_count: 2,
            retry_count: 1,
            held_count: 1,
            lag_ms,
            ..QueueProgress::default()
        }
    }

    #[test]
    fn lag_is_added_up_for_topics_and_in_all() {
        let described = DescribeGroupResponse {
            group: Some(ConsumerGroup::default()),
            progress: vec![queue("a", 0, 500), queue("a", 1, 60_000), queue("b", 0, 7_000)],
            clients: Vec::new(),
        };
        let view = DescriptionView::from(described);
        assert_eq!((view.total.lag_count, view.total.lag_ms), (18, 60_000));
        let topics: Vec<_> =
            view.topics.iter().map(|topic| (&*topic.topic, topic.lag.lag_count)).collect();
        assert_eq!(topics, [("a", 12), ("b", 6)]);
        let text = text(&view);
        assert!(
            text.contains("18 messages behind: 9 ready, 6 in flight (3 of them again)"),
            "{text}"
        );
        // A line for each queue and one for topic a as a whole.
        let totals: Vec<_> = text.lines().filter(|line| line.contains(" all ")).collect();
        assert_eq!(totals.len(), 1, "{text}");
        assert!(totals[0].contains("   12    60.0 s"), "{text}");
    }
}
