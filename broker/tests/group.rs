//! A group of three real nodes: any node answers, the replicas agree, nodes come and go.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod cluster;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::Cluster;
use cluster::code;
use cluster::message;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::MessageType;

const WAIT: Duration = Duration::from_secs(5);

/// Receives and acknowledges until `count` different bodies came; returns all bodies received.
async fn drain(
    cluster: &Cluster,
    number: usize,
    topic: &str,
    group: &str,
    count: usize,
) -> Vec<String> {
    let mut client = cluster.client(number).await;
    let mut bodies = Vec::new();
    for _ in 0..count + 20 {
        if bodies.iter().collect::<BTreeSet<_>>().len() >= count {
            break;
        }
        let messages = cluster::receive(&mut client, topic, group, WAIT).await;
        let answer = cluster::ack(&mut client, topic, group, &messages).await;
        for (message, entry) in messages.iter().zip(&answer.entries) {
            assert_eq!(code(&entry.status), Code::Ok);
            bodies.push(String::from_utf8(message.body.to_vec()).unwrap());
        }
    }
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_takes_and_gives_messages_and_replicas_agree() {
    let cluster = Cluster::start(3).await;
    cluster.create("orders", "billing").await;
    for number in 0..3 {
        let mut client = cluster.client(number).await;
        let messages = (0..10)
            .map(|i| message("orders", &format!("id-{number}-{i}"), &format!("{number}-{i}")))
            .collect();
        let answer = cluster::send(&mut client, messages).await;
        assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
        assert_eq!(answer.entries.len(), 10);
    }
    let follower = (cluster.leader().await + 1) % 3;
    let bodies = drain(&cluster, follower, "orders", "billing", 30).await;
    assert_eq!(bodies.len(), 30, "each message once");
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_message_id_is_stored_once() {
    let cluster = Cluster::start(1).await;
    cluster.create("t", "g").await;
    let mut client = cluster.client(0).await;
    let first = cluster::send(&mut client, vec![message("t", "same", "body")]).await;
    let again = cluster::send(&mut client, vec![message("t", "same", "body")]).await;
    assert_eq!(first.entries[0].offset, again.entries[0].offset);
    assert_eq!(drain(&cluster, 0, "t", "g", 1).await, ["body"]);
    assert!(cluster::receive(&mut client, "t", "g", Duration::from_millis(300)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_survive_a_restart_of_all_nodes() {
    let mut cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    let mut client = cluster.client(0).await;
    for i in 0..100 {
        let sent = vec![message("t", &format!("id-{i}"), &i.to_string())];
        assert_eq!(code(&cluster::send(&mut client, sent).await.status), Code::Ok);
    }
    for number in 0..3 {
        cluster.stop_node(number).await;
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    cluster.ready().await;
    assert_eq!(drain(&cluster, 1, "t", "g", 100).await.len(), 100);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_was_emptied_rejoins_and_catches_up() {
    let mut cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    let victim = (leader + 1) % 3;
    let mut client = cluster.client(leader).await;
    for i in 0..50 {
        cluster::send(&mut client, vec![message("t", &format!("a-{i}"), &i.to_string())]).await;
    }
    cluster.stop_node(victim).await;
    std::fs::remove_dir_all(cluster.data(victim)).unwrap();
    for i in 50..100 {
        cluster::send(&mut client, vec![message("t", &format!("a-{i}"), &i.to_string())]).await;
    }
    cluster.start_node(victim).await;
    voter(&cluster, victim).await;
    cluster.agree().await;
    assert_eq!(drain(&cluster, victim, "t", "g", 100).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_longer_than_the_log_reaches_back_gets_a_snapshot() {
    // Small segments, and retention by size that looks often.
    let mut cluster = Cluster::start_with(3, |config| {
        config.segment_bytes = 64 << 10;
        config.retention_bytes = 256 << 10;
        config.retention_interval = Duration::from_millis(300);
    })
    .await;
    cluster.create("t", "g").await;
    let leader = cluster.leader().await;
    let victim = (leader + 1) % 3;
    cluster.stop_node(victim).await;
    let mut client = cluster.client(leader).await;
    let body = "x".repeat(10_000);
    for i in 0..200 {
        let sent = vec![message("t", &format!("id-{i}"), &format!("{i}:{body}"))];
        assert_eq!(code(&cluster::send(&mut client, sent).await.status), Code::Ok);
    }
    wait_for(async || {
        let status = cluster.status(leader).await;
        status.iter().any(|status| status.role == "leader" && status.raft_first_index > 50)
    })
    .await;
    cluster.start_node(victim).await;
    cluster.agree().await;
    // Its tables are there a moment before its log begins behind them.
    wait_for(async || cluster.status(victim).await[victim].raft_first_index > 50).await;
    // And it can lead with what it got: every message that retention kept is readable there.
    let mut admin = cluster.admin(leader).await;
    let request = wire::TransferLeaderCommand { to_node_id: victim as u64 + 1, from_node_id: 0 };
    admin.transfer_leader(request).await.unwrap();
    wait_for(async || cluster.leader().await == victim).await;
    let described = cluster
        .admin(victim)
        .await
        .describe_topic(wire::DescribeTopicRequest { name: "t".into(), this_node: false })
        .await
        .unwrap()
        .into_inner();
    let kept: u64 = described.queues.iter().map(|queue| queue.max_offset - queue.min_offset).sum();
    assert!(kept > 0 && kept < 200, "retention kept {kept}");
    assert_eq!(drain(&cluster, victim, "t", "g", kept as usize).await.len() as u64, kept);
}

/// Each cut has messages on both sides of it: stored before, and in their queue later.
#[tokio::test(flavor = "multi_thread")]
async fn retention_goes_on_where_messages_are_delayed_all_the_time() {
    let cluster = Cluster::start_with(1, |config| {
        config.segment_bytes = 64 << 10;
        // Longer than a message is delayed: what waits when its segment is old would be carried.
        config.retention_bytes = 1 << 20;
        config.retention_interval = Duration::from_millis(200);
    })
    .await;
    let topic = wire::CreateTopicRequest {
        name: "t".into(),
        message_types: vec![MessageType::Delay.into()],
        ..Default::default()
    };
    cluster.admin(0).await.create_topic(topic).await.unwrap();
    let mut client = cluster.client(0).await;
    let body = "x".repeat(4_000);
    // Without a pause: everything would be in its queue by then.
    for number in 0..3000 {
        let mut sent = message("t", &format!("id-{number}"), &body);
        let due = std::time::SystemTime::now() + Duration::from_millis(50);
        sent.system_properties.as_mut().unwrap().delivery_timestamp = Some(due.into());
        assert_eq!(code(&cluster::send(&mut client, vec![sent]).await.status), Code::Ok);
        if number % 100 == 99 && cluster.status(0).await[0].raft_first_index > 1000 {
            return;
        }
    }
    panic!("the log begins at {}", cluster.status(0).await[0].raft_first_index);
}

async fn voter(cluster: &Cluster, number: usize) {
    wait_for(async || {
        let statuses = cluster.status(number).await;
        statuses
            .iter()
            .any(|status| status.node_id == number as u64 + 1 && status.membership == "voter")
    })
    .await;
}

async fn wait_for(mut condition: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition().await {
        assert!(started.elapsed() < cluster::PATIENCE, "not in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
