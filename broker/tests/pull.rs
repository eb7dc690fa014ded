//! Consuming by offset: PullMessage, GetOffset, UpdateOffset, QueryOffset. No official client has a
//! consumer for them, so they are called as they are.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod cluster;

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use cluster::Cluster;
use cluster::PATIENCE;
use cluster::code;
use cluster::message;
use cluster::request;
use cluster::resource;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::FilterType;
use raftmq_proto::v2::QueryOffsetPolicy;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::pull_message_response::Content;
use tonic::transport::Channel;

const TOPIC: &str = "orders";
const GROUP: &str = "readers";
/// The shortest long poll that is granted in full.
const WAIT: Duration = Duration::from_secs(5);

/// A topic of one queue, and a client of one node.
struct Queue {
    cluster: Cluster,
    client: MessagingServiceClient<Channel>,
}

/// The answer to one pull.
struct Pulled {
    code: Code,
    bodies: Vec<String>,
    next_offset: Option<i64>,
}

impl Queue {
    async fn start(nodes: u64) -> Self {
        let cluster = Cluster::start(nodes).await;
        let leader = cluster.leader().await;
        let mut admin = cluster.admin(leader).await;
        let topic =
            wire::CreateTopicRequest { name: TOPIC.into(), queue_count: 1, ..Default::default() };
        admin.create_topic(topic).await.unwrap();
        let group = wire::CreateGroupRequest { name: GROUP.into(), ..Default::default() };
        admin.create_group(group).await.unwrap();
        // Not the leader, if there is another node: calls are relayed.
        let client = cluster.client((leader + 1) % nodes as usize).await;
        Self { cluster, client }
    }

    /// Sends messages of these bodies; a body is the tag, too.
    async fn send(&mut self, bodies: &[&str]) {
        for body in bodies {
            let mut message = message(TOPIC, &format!("id-{body}"), body);
            message.system_properties.as_mut().unwrap().tag = Some((*body).to_owned());
            let answer = cluster::send(&mut self.client, vec![message]).await;
            assert_eq!(code(&answer.status), Code::Ok);
        }
    }

    async fn pull(&mut self, offset: i64, batch_size: i32) -> Pulled {
        self.pull_tag("*", offset, batch_size).await
    }

    async fn pull_tag(&mut self, tag: &str, offset: i64, batch_size: i32) -> Pulled {
        pull(&mut self.client, (FilterType::Tag, tag), offset, batch_size).await
    }

    async fn stored_offset(&mut self) -> (Code, i64) {
        let asked = v2::GetOffsetRequest {
            group: Some(resource(GROUP)),
            message_queue: Some(message_queue()),
        };
        let answer = self.client.get_offset(request(asked, PATIENCE)).await.unwrap().into_inner();
        (code(&answer.status), answer.offset)
    }

    async fn store_offset(&mut self, offset: i64) -> Code {
        let update = v2::UpdateOffsetRequest {
            group: Some(resource(GROUP)),
            message_queue: Some(message_queue()),
            offset,
        };
        let answer = self.client.update_offset(request(update, PATIENCE)).await.unwrap();
        code(&answer.into_inner().status)
    }

    async fn query_offset(&mut self, policy: QueryOffsetPolicy, at: Option<SystemTime>) -> i64 {
        let question = v2::QueryOffsetRequest {
            message_queue: Some(message_queue()),
            query_offset_policy: policy.into(),
            timestamp: at.map(Into::into),
        };
        let answer = self.client.query_offset(request(question, PATIENCE)).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!(code(&answer.status), Code::Ok);
        answer.offset
    }
}

fn message_queue() -> v2::MessageQueue {
    v2::MessageQueue { topic: Some(resource(TOPIC)), id: 0, ..Default::default() }
}

async fn pull(
    client: &mut MessagingServiceClient<Channel>,
    (filter_type, expression): (FilterType, &str),
    offset: i64,
    batch_size: i32,
) -> Pulled {
    let asked = v2::PullMessageRequest {
        group: Some(resource(GROUP)),
        message_queue: Some(message_queue()),
        offset,
        batch_size,
        filter_expression: Some(v2::FilterExpression {
            r#type: filter_type.into(),
            expression: expression.to_owned(),
        }),
        long_polling_timeout: prost_types::Duration::try_from(WAIT).ok(),
    };
    let mut parts = client.pull_message(request(asked, PATIENCE)).await.unwrap().into_inner();
    let mut pulled = Pulled { code: Code::Unspecified, bodies: Vec::new(), next_offset: None };
    while let Some(part) = parts.message().await.unwrap() {
        match part.content.unwrap() {
            Content::Status(status) => pulled.code = status.code(),
            Content::Message(message) => {
                pulled.bodies.push(String::from_utf8(message.body.to_vec()).unwrap());
            }
            Content::NextOffset(next) => pulled.next_offset = Some(next),
        }
    }
    pulled
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_read_from_any_offset_any_number_of_times() {
    let mut queue = Queue::start(3).await;
    queue.send(&["a", "b", "c", "d", "e"]).await;
    let first = queue.pull(0, 2).await;
    assert_eq!((first.code, first.next_offset), (Code::Ok, Some(2)));
    assert_eq!(first.bodies, ["a", "b"]);
    let rest = queue.pull(first.next_offset.unwrap(), 32).await;
    assert_eq!((rest.code, rest.next_offset), (Code::Ok, Some(5)));
    assert_eq!(rest.bodies, ["c", "d", "e"]);
    assert_eq!(queue.pull(0, 1).await.bodies, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_at_the_end_waits_for_the_next_message() {
    let mut queue = Queue::start(3).await;
    queue.send(&["a"]).await;
    let mut client = queue.client.clone();
    let waiting = tokio::spawn(async move {
        let begin = Instant::now();
        (pull(&mut client, (FilterType::Tag, "*"), 1, 32).await, begin.elapsed())
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    queue.send(&["b"]).await;
    let (pulled, waited) = waiting.await.unwrap();
    assert_eq!((pulled.code, pulled.next_offset), (Code::Ok, Some(2)));
    assert_eq!(pulled.bodies, ["b"]);
    assert!(waited < WAIT, "it was not woken: {waited:?}");

    let begin = Instant::now();
    let nothing = queue.pull(2, 32).await;
    assert_eq!((nothing.code, nothing.next_offset), (Code::Ok, Some(2)));
    assert!(nothing.bodies.is_empty());
    assert!(begin.elapsed() > WAIT / 2, "it did not wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_offset_is_behind_what_the_filter_excludes() {
    let mut queue = Queue::start(1).await;
    queue.send(&["a", "b", "c", "d"]).await;
    let pulled = queue.pull_tag("b || c", 0, 32).await;
    assert_eq!(pulled.bodies, ["b", "c"]);
    let next = pulled.next_offset.unwrap();
    assert!((3..=4).contains(&next), "next offset {next}");
    let first = queue.pull_tag("b || c", 0, 1).await;
    assert_eq!(first.bodies, ["b"]);
    assert_eq!(queue.pull_tag("b || c", first.next_offset.unwrap(), 32).await.bodies, ["c"]);

    let malformed = pull(&mut queue.client, (FilterType::Sql, "a >"), 0, 32).await;
    assert_eq!(malformed.code, Code::IllegalFilterExpression);
    assert!(malformed.bodies.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_outside_of_the_queue_is_refused() {
    let mut queue = Queue::start(1).await;
    queue.send(&["a", "b"]).await;
    for offset in [-1, 3] {
        let pulled = queue.pull(offset, 32).await;
        assert_eq!(pulled.code, Code::IllegalOffset, "pull from {offset}");
        assert!(pulled.bodies.is_empty());
    }
    assert_eq!(queue.store_offset(-1).await, Code::IllegalOffset);
    assert_eq!(queue.store_offset(3).await, Code::IllegalOffset);
    assert_eq!(queue.stored_offset().await.0, Code::OffsetNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_offset_survives_a_restart() {
    let mut queue = Queue::start(1).await;
    queue.send(&["a", "b", "c"]).await;
    assert_eq!(queue.stored_offset().await.0, Code::OffsetNotFound);
    assert_eq!(queue.store_offset(3).await, Code::Ok);
    // A consumer may read again what it has read.
    assert_eq!(queue.store_offset(2).await, Code::Ok);
    assert_eq!(queue.stored_offset().await, (Code::Ok, 2));
    queue.cluster.stop_node(0).await;
    queue.cluster.start_node(0).await;
    queue.cluster.ready().await;
    queue.client = queue.cluster.client(0).await;
    assert_eq!(queue.stored_offset().await, (Code::Ok, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_position_and_by_time() {
    let mut queue = Queue::start(3).await;
    assert_eq!(queue.query_offset(QueryOffsetPolicy::End, None).await, 0);
    queue.send(&["a", "b"]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let between = SystemTime::now();
    tokio::time::sleep(Duration::from_millis(50)).await;
    queue.send(&["c"]).await;
    assert_eq!(queue.query_offset(QueryOffsetPolicy::Beginning, None).await, 0);
    assert_eq!(queue.query_offset(QueryOffsetPolicy::End, None).await, 3);
    let at = |time| (QueryOffsetPolicy::Timestamp, Some(time));
    for ((policy, time), offset) in [
        (at(between - Duration::from_secs(60)), 0),
        (at(between), 2),
        (at(between + Duration::from_secs(60)), 3),
    ] {
        assert_eq!(queue.query_offset(policy, time).await, offset, "at {time:?}");
    }
}
