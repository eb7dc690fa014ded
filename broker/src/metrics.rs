//! What is measured: names of RocketMQ 5 where it has one, `raftmq_` otherwise.
//!
//! Counters and histograms are recorded where things happen; gauges are read off the state when
//! somebody asks for the metrics.

use metrics::Label;
use raftmq_proto::raftmq as wire;

use crate::clock::now_ms;
use crate::node::Node;
use crate::state;

impl Node {
    /// The labels every series has, and `more`.
    pub(crate) fn labels(&self, more: &[(&'static str, &str)]) -> Vec<Label> {
        let mut labels = vec![
            Label::new("cluster", self.config.cluster.clone()),
            Label::new("node_type", "broker"),
            Label::new("node_id", self.config.group.clone()),
            Label::new("member_id", self.config.node_id.to_string()),
        ];
        labels.extend(more.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())));
        labels
    }
}

/// Brings all gauges of this node up to date.
pub(crate) fn collect(node: &Node) {
    raft(node, &node.group.status());
    let leads = node.leading_term().is_some();
    let state = node.state.read();
    gauge(node, "rocketmq_topic_number", state.topics.len() as f64);
    gauge(node, "rocketmq_consumer_group_number", state.groups.len() as f64);
    gauge(node, "rocketmq_broker_permission", 6.0);
    lite_topics(node, &state);
    connections(node);
    lag(node, &state, leads);
}

fn gauge(node: &Node, name: &'static str, value: f64) {
    metrics::gauge!(name, node.labels(&[])).set(value);
}

fn raft(node: &Node, status: &wire::NodeStatusResponse) {
    gauge(node, "raftmq_raft_term", status.term as f64);
    gauge(node, "raftmq_raft_leader_id", status.leader_id as f64);
    gauge(node, "raftmq_raft_is_leader", f64::from(status.role == "leader"));
    gauge(node, "raftmq_raft_last_log_index", status.last_log_index as f64);
    gauge(node, "raftmq_raft_commit_index", status.commit_index as f64);
    gauge(node, "raftmq_raft_applied_index", status.applied_index as f64);
    gauge(node, "raftmq_raft_snapshot_index", status.snapshot_index as f64);
    gauge(node, "raftmq_log_message_first_index", status.message_first_index as f64);
    gauge(node, "raftmq_log_bytes", status.log_bytes as f64);
    gauge(node, "raftmq_flush_sync", f64::from(status.flush == "sync"));
    gauge(node, "raftmq_healthy", f64::from(status.trouble.is_empty()));
    let voters = node.group.members().iter().filter(|member| member.voter).count();
    gauge(node, "raftmq_raft_voters", voters as f64);
    let storage = [("storage_type", "local"), ("storage_medium", "disk")];
    metrics::gauge!("rocketmq_storage_size_bytes", node.labels(&storage))
        .set(status.log_bytes as f64);
    for (follower, matched) in &status.matched_index {
        let follower = follower.to_string();
        metrics::gauge!("raftmq_raft_follower_lag", node.labels(&[("follower_id", &follower)]))
            .set(status.last_log_index.saturating_sub(*matched) as f64);
    }
}

fn lite_topics(node: &Node, state: &state::State) {
    for topic in state.topics.values().filter(|topic| topic.is_lite()) {
        let labels = node.labels(&[("topic", &topic.record.name)]);
        metrics::gauge!("raftmq_lite_topics", labels).set(topic.lite.len() as f64);
    }
}

fn connections(node: &Node) {
    let mut producers = std::collections::BTreeMap::new();
    let mut consumers = std::collections::BTreeMap::new();
    for client in node.clients.sweep() {
        if client.group.is_empty() {
            *producers.entry(client.language).or_insert(0) += 1;
        } else {
            *consumers.entry((client.group, client.language)).or_insert(0) += 1;
        }
    }
    for (language, count) in producers {
        let labels = node.labels(&[("language", &language), ("protocol_type", "grpc")]);
        metrics::gauge!("rocketmq_producer_connections", labels).set(f64::from(count));
    }
    for ((group, language), count) in consumers {
        let labels = node.labels(&[
            ("consumer_group", &group),
            ("language", &language),
            ("protocol_type", "grpc"),
        ]);
        metrics::gauge!("rocketmq_consumer_connections", labels).set(f64::from(count));
    }
}

/// Queues of one group and topic that are looked at for the age of what lags behind. Lite topics may be
/// far more: then it is that of some.
const LAGGING_MAX: usize = 2048;

/// Only the leader reports lag, the others zero, so that summing over members counts each message
/// once.
fn lag(node: &Node, state: &state::State, leads: bool) {
    let now_ms = now_ms();
    for (ids, consumption) in &state.consumptions {
        let (Some(group), Some(topic)) = (state.groups.get(&ids.0), state.topics.get(&ids.1))
        else {
            continue;
        };
        let (mut ready, mut inflight, mut looked_at) = (0, 0, 0);
        let mut oldest: Option<u64> = None;
        let mut oldest_ready: Option<u64> = None;
        for (queue_id, progress) in consumption.each() {
            let Some(queue) = topic.queue(queue_id) else { continue };
            ready += queue.max.saturating_sub(progress.next_offset);
            inflight += progress.inflight.len() as u64;
            if progress.commit_offset() >= queue.max || looked_at >= LAGGING_MAX {
                continue;
            }
            looked_at += 1;
            let stored = |offset| {
                let unit = state::unit(node.group.store(), ids.1, queue_id, offset);
                unit.map(|unit| unit.stored_ms)
            };
            oldest = earlier(oldest, stored(progress.commit_offset()));
            oldest_ready = earlier(oldest_ready, stored(progress.next_offset));
        }
        let age = |stored: Option<u64>| stored.map_or(0, |stored| now_ms.saturating_sub(stored));
        let labels = node.labels(&[
            ("consumer_group", &group.name),
            ("topic", &topic.record.name),
            ("is_retry", "false"),
            ("is_system", "false"),
        ]);
        let set = |name: &'static str, value: u64| {
            let value = if leads { value as f64 } else { 0.0 };
            metrics::gauge!(name, labels.clone()).set(value);
        };
        set("rocketmq_consumer_lag_messages", ready + inflight);
        set("rocketmq_consumer_inflight_messages", inflight);
        set("rocketmq_consumer_ready_messages", ready);
        set("rocketmq_consumer_lag_latency_milliseconds", age(oldest));
        set("rocketmq_consumer_queueing_latency_milliseconds", age(oldest_ready));
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
