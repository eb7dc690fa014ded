//! Limits of topics and groups, what a dead consumer costs others, and what comes into being unasked.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod cluster;

use std::time::Duration;
use std::time::Instant;

use cluster::Cluster;
use cluster::PATIENCE;
use cluster::code;
use cluster::message;
use cluster::resource;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::receive_message_response::Content;
use raftmq_proto::v2::telemetry_command::Command;
use tonic::transport::Channel;

type Client = MessagingServiceClient<Channel>;

fn messages(topic: &str, name: &str, count: usize) -> Vec<v2::Message> {
    (0..count).map(|number| message(topic, &format!("{name}-{number}"), "body")).collect()
}

async fn send_one(client: &mut Client, id: &str) -> v2::Status {
    cluster::send(client, vec![message("t", id, "body")]).await.status.unwrap()
}

/// Code of the answer to a receive, and how many messages came with it.
async fn receive(
    client: &mut Client,
    topic: &str,
    group: &str,
    wait: Duration,
) -> (v2::Status, usize) {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let message = v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(v2::MessageQueue {
            topic: Some(resource(topic)),
            ..Default::default()
        }),
        batch_size: 32,
        invisible_duration: seconds(600),
        long_polling_timeout: prost_types::Duration::try_from(wait).ok(),
        ..Default::default()
    };
    let request = cluster::request(message, wait + Duration::from_secs(5));
    let mut parts = client.receive_message(request).await.unwrap().into_inner();
    let (mut status, mut count) = (v2::Status::default(), 0);
    while let Some(part) = parts.message().await.unwrap() {
        match part.content {
            Some(Content::Status(answered)) => status = answered,
            Some(Content::Message(_)) => count += 1,
            _ => (),
        }
    }
    (status, count)
}

async fn limit_sends(cluster: &Cluster, number: usize, send_rate_max: u32) -> wire::Topic {
    let request = wire::UpdateTopicRequest { name: "t".into(), send_rate_max };
    cluster.admin(number).await.update_topic(request).await.unwrap().into_inner()
}

async fn limit_receives(cluster: &Cluster, number: usize, receive_rate_max: u32) {
    let request = wire::UpdateGroupRequest { name: "g".into(), receive_rate_max };
    let group = cluster.admin(number).await.update_group(request).await.unwrap().into_inner();
    assert_eq!(group.receive_rate_max, receive_rate_max);
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_over_the_limit_are_refused_and_others_are_not() {
    let mut cluster = Cluster::start(3).await;
    cluster.create("t", "g").await;
    cluster.create("other", "h").await;
    // Through any node, whoever leads.
    let follower = (cluster.leader().await + 1) % 3;
    assert_eq!(limit_sends(&cluster, follower, 5).await.send_rate_max, 5);
    let mut client = cluster.client(follower).await;
    // Nothing was sent yet: it goes, and the topic takes no more for nine seconds.
    let batch = cluster::send(&mut client, messages("t", "batch", 50)).await;
    assert_eq!(code(&batch.status), Code::Ok);
    let refused = send_one(&mut client, "refused").await;
    assert_eq!(refused.code(), Code::TooManyRequests);
    assert!(refused.message.contains("topic t takes 5 messages a second"), "{refused:?}");
    let other = cluster::send(&mut client, messages("other", "x", 100)).await;
    assert_eq!(code(&other.status), Code::Ok);

    // It is part of the topic: it survives a restart of everybody.
    for number in 0..3 {
        cluster.stop_node(number).await;
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    cluster.ready().await;
    let request = wire::DescribeTopicRequest { name: "t".into(), ..Default::default() };
    let described = cluster.admin(0).await.describe_topic(request).await.unwrap().into_inner();
    assert_eq!(described.topic.unwrap().send_rate_max, 5);
    assert_eq!(limit_sends(&cluster, 0, 0).await.send_rate_max, 0);
    let mut client = cluster.client(0).await;
    for number in 0..20 {
        assert_eq!(send_one(&mut client, &format!("free-{number}")).await.code(), Code::Ok);
    }
    let nobody = wire::UpdateTopicRequest { name: "nobody".into(), send_rate_max: 1 };
    let error = cluster.admin(0).await.update_topic(nobody).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receives_over_the_limit_wait_for_their_turn() {
    let cluster = Cluster::start(1).await;
    cluster.create("t", "g").await;
    let mut client = cluster.client(0).await;
    cluster::send(&mut client, messages("t", "x", 100)).await;
    limit_receives(&cluster, 0, 20).await;
    let started = Instant::now();
    let (mut received, mut answers) = (0, 0);
    while received < 80 {
        let (status, count) = receive(&mut client, "t", "g", Duration::from_secs(5)).await;
        assert_eq!(status.code(), Code::Ok, "a limit is no failure: {status:?}");
        received += count;
        answers += 1;
    }
    let took = started.elapsed();
    // 20 at once, then 60 in 3 s.
    assert!(took >= Duration::from_millis(2900), "{received} messages in {took:?}");
    assert!(took < Duration::from_secs(15), "{received} messages in {took:?}, {answers} answers");
    limit_receives(&cluster, 0, 0).await;
    let mut rest = 0;
    while received + rest < 100 {
        rest += receive(&mut client, "t", "g", Duration::from_secs(5)).await.1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_consumers_died_costs_others_nothing() {
    const INFLIGHT_MAX: usize = 20_000;
    let cluster = Cluster::start(1).await;
    cluster.create("unused", "slow").await;
    let mut admin = cluster.admin(0).await;
    let topic = wire::CreateTopicRequest { name: "t".into(), queue_count: 1, ..Default::default() };
    admin.create_topic(topic).await.unwrap();
    let start = Some(wire::Start { kind: wire::start::Kind::Last.into(), timestamp_ms: 0 });
    let group = wire::CreateGroupRequest { name: "quick".into(), start, ..Default::default() };
    admin.create_group(group).await.unwrap();
    let client = cluster.client(0).await;
    let mut sender = client.clone();
    for batch in 0..21 {
        let sent = cluster::send(&mut sender, messages("t", &format!("b{batch}"), 1000)).await;
        assert_eq!(code(&sent.status), Code::Ok);
    }
    // It takes all it may have, acknowledges nothing, and takes no more.
    let mut consumer = client.clone();
    let (mut taken, mut nothing) = (0, 0);
    while nothing < 3 {
        let (_, count) = receive(&mut consumer, "t", "slow", Duration::ZERO).await;
        taken += count;
        nothing += usize::from(count == 0);
    }
    assert_eq!(taken, INFLIGHT_MAX, "the rest is not handed out");
    // More of the same kind ask in vain.
    let mut in_vain = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut client = client.clone();
        in_vain.spawn(async move { receive(&mut client, "t", "slow", WAIT_IN_VAIN).await.1 });
    }
    let mut consumer = client.clone();
    receive(&mut consumer, "t", "quick", Duration::ZERO).await;
    let mut took = Vec::new();
    for number in 0..50 {
        let started = Instant::now();
        let mut receiver = client.clone();
        let waits = tokio::spawn(async move {
            receive(&mut receiver, "t", "quick", Duration::from_secs(10)).await.1
        });
        let sent = cluster::send(&mut sender, messages("t", &format!("q{number}"), 1)).await;
        assert_eq!(code(&sent.status), Code::Ok);
        assert_eq!(waits.await.unwrap(), 1);
        took.push(started.elapsed());
    }
    took.sort();
    assert!(took[25] < Duration::from_millis(250), "half took longer than {:?}", took[25]);
    assert!(took[48] < Duration::from_secs(2), "the slowest took {took:?}");
    while let Some(count) = in_vain.join_next().await {
        assert_eq!(count.unwrap(), 0, "beyond the limit");
    }
}

const WAIT_IN_VAIN: Duration = Duration::from_secs(10);

async fn creating(count: u64) -> Cluster {
    Cluster::start_with(count, |config| {
        config.auto_create_topics = true;
        config.auto_create_groups = true;
    })
    .await
}

async fn route(client: &mut Client, topic: &str) -> v2::QueryRouteResponse {
    let message = v2::QueryRouteRequest { topic: Some(resource(topic)), ..Default::default() };
    client.query_route(cluster::request(message, PATIENCE)).await.unwrap().into_inner()
}

/// The answer to the settings of a push consumer.
async fn settings(client: &mut Client, group: &str) -> Result<v2::Settings, tonic::Status> {
    let settings = v2::Settings {
        client_type: Some(v2::ClientType::PushConsumer.into()),
        pub_sub: Some(v2::settings::PubSub::Subscription(v2::Subscription {
            group: Some(resource(group)),
            ..Default::default()
        })),
        ..Default::default()
    };
    let command =
        v2::TelemetryCommand { command: Some(Command::Settings(settings)), ..Default::default() };
    let commands = futures::stream::iter([command]);
    let request = cluster::request(commands, PATIENCE);
    let mut answers = client.telemetry(request).await?.into_inner();
    match answers.message().await?.unwrap().command {
        Some(Command::Settings(settings)) => Ok(settings),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_comes_into_being_where_it_may() {
    let cluster = creating(3).await;
    let leader = cluster.leader().await;
    let mut follower = cluster.client((leader + 1) % 3).await;
    // By its route, asked of a node that does not lead.
    let answer = route(&mut follower, "by-route").await;
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
    assert_eq!(answer.message_queues.len(), 8 + 2);
    assert!(answer.message_queues.iter().all(|queue| queue.accept_message_types == [1]));
    // By many at once.
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..20 {
        let mut client = cluster.client(number % 3).await;
        sends.spawn(async move {
            cluster::send(&mut client, vec![message("by-send", &number.to_string(), "b")]).await
        });
    }
    while let Some(answer) = sends.join_next().await {
        assert_eq!(code(&answer.unwrap().status), Code::Ok);
    }
    // Groups: by settings, by a heartbeat, by a receive.
    let answer = settings(&mut follower, "by-settings").await.unwrap();
    assert_eq!(answer.backoff_policy.unwrap().max_attempts, 17);
    let heartbeat = v2::HeartbeatRequest {
        group: Some(resource("by-heartbeat")),
        client_type: v2::ClientType::SimpleConsumer.into(),
    };
    let answer = follower.heartbeat(cluster::request(heartbeat, PATIENCE)).await.unwrap();
    assert_eq!(code(&answer.into_inner().status), Code::Ok);
    let mut received = 0;
    while received < 20 {
        let wait = Duration::from_secs(5);
        let (status, count) = receive(&mut follower, "by-send", "by-receive", wait).await;
        assert_eq!(status.code(), Code::Ok, "{status:?}");
        received += count;
    }
    let mut admin = cluster.admin(leader).await;
    let listed = admin.list_topics(wire::ListTopicsRequest::default()).await.unwrap().into_inner();
    let topics: Vec<_> = listed.topics.iter().map(|it| (&*it.name, it.queue_count)).collect();
    assert_eq!(topics, [("by-route", 8), ("by-send", 8)]);
    let listed = admin.list_groups(wire::ListGroupsRequest::default()).await.unwrap().into_inner();
    let groups: Vec<_> = listed.groups.iter().map(|it| (&*it.name, it.max_attempts)).collect();
    assert_eq!(groups, [("by-heartbeat", 17), ("by-receive", 17), ("by-settings", 17)]);

    // Never what only the broker creates, and never what has no name.
    let answer = route(&mut follower, "%DLQ%by-receive").await;
    assert_eq!(code(&answer.status), Code::TopicNotFound);
    let answer = cluster::send(&mut follower, vec![message("%RETRY%g", "id", "b")]).await;
    assert_eq!(code(&answer.status), Code::TopicNotFound);
    assert_eq!(code(&route(&mut follower, "no good").await.status), Code::IllegalTopic);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_into_being_unless_the_configuration_says_so() {
    let cluster = Cluster::start(1).await;
    cluster.create("t", "g").await;
    let mut client = cluster.client(0).await;
    assert_eq!(code(&route(&mut client, "new").await.status), Code::TopicNotFound);
    let answer = cluster::send(&mut client, vec![message("new", "id", "b")]).await;
    assert_eq!(code(&answer.status), Code::TopicNotFound);
    let (status, _) = receive(&mut client, "t", "new", Duration::ZERO).await;
    assert_eq!(status.code(), Code::ConsumerGroupNotFound);
    let error = settings(&mut client, "new").await.unwrap_err();
    assert!(error.message().contains("consumer group new does not exist"), "{error:?}");
    let mut admin = cluster.admin(0).await;
    let listed = admin.list_topics(wire::ListTopicsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.topics.len(), 1);
}
