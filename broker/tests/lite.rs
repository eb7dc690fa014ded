//! Lite topics over the wire: codes and quotas, order, leaders that change, operators, and very many.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod cluster;

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use cluster::Cluster;
use cluster::PATIENCE;
use cluster::code;
use cluster::resource;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::ClientType;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::LiteSubscriptionAction as Action;
use raftmq_proto::v2::MessageType;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::receive_message_response::Content;
use raftmq_proto::v2::telemetry_command::Command;
use tonic::transport::Channel;

const TOPIC: &str = "sessions";
const GROUP: &str = "g";
const WAIT: Duration = Duration::from_secs(5);

/// Topic `sessions` and group `g`, made as `change` says.
async fn start(
    nodes: u64,
    change: impl Fn(&mut wire::CreateTopicRequest, &mut wire::CreateGroupRequest),
) -> Cluster {
    let cluster = Cluster::start(nodes).await;
    let mut topic = wire::CreateTopicRequest {
        name: TOPIC.into(),
        message_types: vec![MessageType::Lite.into()],
        ..Default::default()
    };
    let mut group = wire::CreateGroupRequest { name: GROUP.into(), ..Default::default() };
    change(&mut topic, &mut group);
    let mut admin = cluster.admin(0).await;
    admin.create_topic(topic).await.unwrap();
    admin.create_group(group).await.unwrap();
    // A node answers settings by what it has applied.
    cluster.agree().await;
    cluster
}

type Client = MessagingServiceClient<Channel>;

fn request<T>(client_id: &str, message: T) -> tonic::Request<T> {
    let mut request = cluster::request(message, PATIENCE);
    request.metadata_mut().insert("x-mq-client-id", client_id.parse().unwrap());
    request
}

fn message(lite_topic: &str, id: &str) -> v2::Message {
    let mut message = cluster::message(TOPIC, id, id);
    message.system_properties.as_mut().unwrap().lite_topic = Some(lite_topic.to_owned());
    message
}

async fn send(client: &mut Client, lite_topic: &str, ids: &[&str]) -> Code {
    let messages = ids.iter().map(|id| message(lite_topic, id)).collect();
    code(&cluster::send(client, messages).await.status)
}

async fn sync(client: &mut Client, client_id: &str, action: Action, names: &[&str]) -> Code {
    let message = v2::SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: Some(resource(TOPIC)),
        group: Some(resource(GROUP)),
        lite_topic_set: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let answer = client.sync_lite_subscription(request(client_id, message)).await.unwrap();
    code(&answer.into_inner().status)
}

async fn subscribe(client: &mut Client, client_id: &str, names: &[&str]) {
    assert_eq!(sync(client, client_id, Action::CompleteAdd, names).await, Code::Ok);
}

/// One receive: the code of the answer, and its messages.
async fn receive(client: &mut Client, client_id: &str, wait: Duration) -> (Code, Vec<v2::Message>) {
    let message = v2::ReceiveMessageRequest {
        group: Some(resource(GROUP)),
        message_queue: Some(v2::MessageQueue {
            topic: Some(resource(TOPIC)),
            id: -1,
            ..Default::default()
        }),
        batch_size: 32,
        invisible_duration: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        long_polling_timeout: prost_types::Duration::try_from(wait).ok(),
        ..Default::default()
    };
    let parts = client.receive_message(request(client_id, message)).await.unwrap();
    let (mut told, mut parts, mut messages) = (Code::Unspecified, parts.into_inner(), Vec::new());
    while let Some(part) = parts.message().await.unwrap() {
        match part.content {
            Some(Content::Status(status)) => told = status.code(),
            Some(Content::Message(message)) => messages.push(message),
            _ => (),
        }
    }
    (told, messages)
}

async fn received(client: &mut Client, client_id: &str) -> Vec<v2::Message> {
    receive(client, client_id, WAIT).await.1
}

fn ids(messages: &[v2::Message]) -> Vec<&str> {
    let properties = messages.iter().filter_map(|message| message.system_properties.as_ref());
    properties.map(|properties| &*properties.message_id).collect()
}

async fn ack(client: &mut Client, messages: &[v2::Message]) {
    let answer = cluster::ack(client, TOPIC, GROUP, messages).await;
    assert_eq!(code(&answer.status), Code::Ok);
}

async fn heartbeat(client: &mut Client, client_id: &str, client_type: ClientType) {
    let group = Some(resource(GROUP));
    let message = v2::HeartbeatRequest { group, client_type: client_type.into() };
    let answer = client.heartbeat(request(client_id, message)).await.unwrap();
    assert_eq!(code(&answer.into_inner().status), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_has_its_code() {
    let cluster = start(1, |topic, group| {
        topic.lite_topics_max = 3;
        group.lite_subscriptions_max = 2;
    })
    .await;
    let client = &mut cluster.client(0).await;
    let long = "x".repeat(65);
    for illegal in ["", " ", "a\u{7}", &long] {
        assert_eq!(send(client, illegal, &["id"]).await, Code::IllegalLiteTopic, "{illegal:?}");
        for action in [Action::PartialAdd, Action::CompleteAdd] {
            assert_eq!(sync(client, "c", action, &[illegal]).await, Code::IllegalLiteTopic);
        }
    }
    let plain = cluster::send(client, vec![cluster::message(TOPIC, "id", "x")]).await;
    assert_eq!(code(&plain.status), Code::MessagePropertyConflictWithType);
    let mut both = message("a", "id");
    both.system_properties.as_mut().unwrap().message_group = Some("g".into());
    let both = cluster::send(client, vec![both]).await;
    assert_eq!(code(&both.status), Code::MessagePropertyConflictWithType);

    assert_eq!(sync(client, "c", Action::PartialAdd, &["a", "b"]).await, Code::Ok);
    assert_eq!(
        sync(client, "c", Action::PartialAdd, &["x"]).await,
        Code::LiteSubscriptionQuotaExceeded
    );
    assert_eq!(send(client, "x", &["1"]).await, Code::Ok);
    assert_eq!(send(client, "y", &["2"]).await, Code::LiteTopicQuotaExceeded);
    assert_eq!(send(client, "x", &["3"]).await, Code::Ok, "those that exist go on");

    cluster.create("plain", "other").await;
    let mut elsewhere = v2::SyncLiteSubscriptionRequest {
        topic: Some(resource("plain")),
        group: Some(resource(GROUP)),
        ..Default::default()
    };
    for (topic, expected) in [("plain", Code::BadRequest), ("none", Code::TopicNotFound)] {
        elsewhere.topic = Some(resource(topic));
        let answer = client.sync_lite_subscription(request("c", elsewhere.clone())).await.unwrap();
        assert_eq!(code(&answer.into_inner().status), expected);
    }
    heartbeat(client, "ordinary", ClientType::PushConsumer).await;
    assert_eq!(receive(client, "ordinary", WAIT).await.0, Code::BadRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lite_topic_is_in_order_and_holds_up_no_other() {
    let cluster = start(1, |_, _| ()).await;
    let client = &mut cluster.client(0).await;
    subscribe(client, "c", &["a", "b"]).await;
    assert_eq!(send(client, "a", &["a1", "a2"]).await, Code::Ok);
    let first = received(client, "c").await;
    assert_eq!(ids(&first), ["a1", "a2"]);
    let properties = first[0].system_properties.as_ref().unwrap();
    assert_eq!(properties.lite_topic.as_deref(), Some("a"));
    assert_eq!(properties.message_type(), MessageType::Lite);
    // Behind what is out.
    assert_eq!(send(client, "a", &["a3"]).await, Code::Ok);
    assert_eq!(send(client, "b", &["b1"]).await, Code::Ok);
    let second = received(client, "c").await;
    assert_eq!(ids(&second), ["b1"]);
    let waiting = {
        let mut client = client.clone();
        tokio::spawn(async move { received(&mut client, "c").await })
    };
    ack(client, &first[..1]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "one of two is out");
    let began = Instant::now();
    ack(client, &first[1..]).await;
    assert_eq!(ids(&waiting.await.unwrap()), ["a3"]);
    assert!(began.elapsed() < Duration::from_millis(900), "woken, not found by a later look");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_one_lite_topic_but_for_simple_consumers() {
    let cluster = start(1, |_, _| ()).await;
    let client = &mut cluster.client(0).await;
    heartbeat(client, "push", ClientType::LitePushConsumer).await;
    heartbeat(client, "simple", ClientType::LiteSimpleConsumer).await;
    subscribe(client, "push", &["a", "b"]).await;
    subscribe(client, "simple", &["x", "y"]).await;
    for lite_topic in ["a", "b", "x", "y"] {
        assert_eq!(send(client, lite_topic, &[lite_topic]).await, Code::Ok);
    }
    assert_eq!(received(client, "push").await.len(), 1);
    assert_eq!(received(client, "push").await.len(), 1);
    assert_eq!(ids(&received(client, "simple").await), ["x", "y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_knows_who_subscribes_and_what_is_out() {
    let mut cluster = start(3, |_, _| ()).await;
    let leader = cluster.leader().await;
    let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = &mut cluster.client(follower).await;
    subscribe(client, "c", &["a", "b"]).await;
    assert_eq!(send(client, "a", &["a1"]).await, Code::Ok);
    let out = received(client, "c").await;
    assert_eq!(ids(&out), ["a1"]);
    assert_eq!(send(client, "a", &["a2"]).await, Code::Ok);
    cluster.stop_node(leader).await;
    let client = &mut cluster.client(third).await;
    assert_eq!(send(client, "b", &["b1"]).await, Code::Ok);
    assert_eq!(ids(&received(client, "c").await), ["b1"], "nothing was said again");
    ack(client, &out).await;
    assert_eq!(ids(&received(client, "c").await), ["a2"]);
    cluster.start_node(leader).await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_an_exclusive_one_is_told_wherever_it_is() {
    let cluster = start(3, |_, group| group.lite_exclusive = true).await;
    let leader = cluster.leader().await;
    let former = &mut cluster.client((leader + 1) % 3).await;
    let (say, said) = tokio::sync::mpsc::channel(4);
    let settings = v2::Settings {
        client_type: Some(ClientType::LitePushConsumer.into()),
        pub_sub: Some(v2::settings::PubSub::Subscription(v2::Subscription {
            group: Some(resource(GROUP)),
            ..Default::default()
        })),
        ..Default::default()
    };
    let command = Some(Command::Settings(settings));
    say.send(v2::TelemetryCommand { status: None, command }).await.unwrap();
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let told = former.telemetry(request("former", said)).await.unwrap();
    let mut told = told.into_inner();
    let Some(Command::Settings(settings)) = told.message().await.unwrap().unwrap().command else {
        panic!("no settings")
    };
    let Some(v2::settings::PubSub::Subscription(subscription)) = settings.pub_sub else { panic!() };
    assert_eq!((subscription.lite_subscription_quota, subscription.fifo), (Some(2000), Some(true)));
    assert_eq!(subscription.max_lite_topic_size, Some(64));

    subscribe(former, "former", &["a", "b"]).await;
    let newcomer = &mut cluster.client((leader + 2) % 3).await;
    assert_eq!(sync(newcomer, "newcomer", Action::PartialAdd, &["a"]).await, Code::Ok);
    let command = tokio::time::timeout(PATIENCE, told.message()).await.unwrap().unwrap();
    let Some(Command::NotifyUnsubscribeLiteCommand(command)) = command.unwrap().command else {
        panic!("another command")
    };
    assert_eq!(command.lite_topic, "a");
    assert_eq!(send(newcomer, "a", &["a1"]).await, Code::Ok);
    assert_eq!(ids(&received(newcomer, "newcomer").await), ["a1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_back_to_their_lite_topic() {
    let cluster = start(1, |_, _| ()).await;
    let client = &mut cluster.client(0).await;
    subscribe(client, "c", &["a"]).await;
    assert_eq!(send(client, "a", &["a1", "a2"]).await, Code::Ok);
    let out = received(client, "c").await;
    let properties = out[0].system_properties.clone().unwrap();
    let forward = v2::ForwardMessageToDeadLetterQueueRequest {
        group: Some(resource(GROUP)),
        topic: Some(resource(TOPIC)),
        receipt_handle: properties.receipt_handle.unwrap(),
        message_id: properties.message_id,
        lite_topic: Some("a".into()),
        ..Default::default()
    };
    let answer = client.forward_message_to_dead_letter_queue(request("c", forward)).await.unwrap();
    assert_eq!(code(&answer.into_inner().status), Code::Ok);
    ack(client, &out[1..]).await;
    let back = wire::DeadLettersRequest { group: GROUP.into(), count: 10, ..Default::default() };
    let answer = cluster.admin(0).await.redrive_dead_letters(back).await.unwrap().into_inner();
    assert_eq!((answer.done_count, answer.skipped_count), (1, 0));
    let again = received(client, "c").await;
    assert_eq!(ids(&again), ["a1"]);
    let properties = again[0].system_properties.as_ref().unwrap();
    assert_eq!(properties.lite_topic.as_deref(), Some("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_lite_topics_and_move_cursors_in_one() {
    let cluster = start(1, |_, _| ()).await;
    let client = &mut cluster.client(0).await;
    let mut admin = cluster.admin(0).await;
    subscribe(client, "c", &["a"]).await;
    for lite_topic in ["a", "b", "d"] {
        let ids = [format!("{lite_topic}1"), format!("{lite_topic}2")];
        assert_eq!(send(client, lite_topic, &[&ids[0], &ids[1]]).await, Code::Ok);
    }
    let out = received(client, "c").await;
    ack(client, &out).await;

    let list = wire::ListLiteTopicsRequest { topic: TOPIC.into(), count: 2, ..Default::default() };
    let page = admin.list_lite_topics(list.clone()).await.unwrap().into_inner();
    let names: Vec<_> = page.lite_topics.iter().map(|lite| &*lite.name).collect();
    assert_eq!((names, &*page.next_name, page.total_count), (vec!["a", "b"], "d", 3));
    let group = &page.lite_topics[0].groups[0];
    assert_eq!((group.commit_offset, group.subscriber_count, &*group.client_ids[0]), (2, 1, "c"));
    assert!(page.lite_topics[1].groups.is_empty());
    let rest = wire::ListLiteTopicsRequest { from_name: "c".into(), ..list };
    let rest = admin.list_lite_topics(rest).await.unwrap().into_inner();
    assert_eq!((rest.lite_topics.len(), &*rest.next_name), (1, ""));

    let by_id = wire::find_messages_request::By::MessageId("b2".into());
    let find =
        wire::FindMessagesRequest { topic: TOPIC.into(), by: Some(by_id), ..Default::default() };
    let found = admin.find_messages(find.clone()).await.unwrap().into_inner().messages;
    assert_eq!((found.len(), found[0].offset), (1, Some(1)));
    let ever = wire::TimeRange { from_ms: 0, to_ms: u64::MAX };
    let by_time = Some(wire::find_messages_request::By::Stored(ever));
    let find = wire::FindMessagesRequest { by: by_time, count: 9, ..find };
    let status = admin.find_messages(find.clone()).await.unwrap_err();
    assert!(status.message().contains("--lite-topic"), "{status}");
    let find = wire::FindMessagesRequest { lite_topic: "d".into(), ..find };
    assert_eq!(admin.find_messages(find).await.unwrap().into_inner().messages.len(), 2);
    let peek = wire::PeekMessagesRequest {
        topic: TOPIC.into(),
        count: 1,
        lite_topic: "d".into(),
        ..Default::default()
    };
    assert_eq!(ids(&admin.peek_messages(peek).await.unwrap().into_inner().messages), ["d2"]);

    let reset = wire::ResetOffsetRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        lite_topic: "a".into(),
        to: Some(wire::reset_offset_request::To::Offset(1)),
        ..Default::default()
    };
    assert_eq!(admin.reset_offset(reset).await.unwrap().into_inner().queues.len(), 1);
    assert_eq!(ids(&received(client, "c").await), ["a2"]);
    let describe = wire::DescribeGroupRequest { name: GROUP.into(), this_node: false };
    let progress = admin.describe_group(describe).await.unwrap().into_inner().progress;
    let [all] = &progress[..] else { panic!("{progress:?}") };
    assert_eq!((all.lite_topic_count, all.inflight_count, all.ready_count), (1, 1, 0));
}

/// Files and threads of this process, and its memory in bytes.
fn costs(cluster: &Cluster) -> (usize, usize, u64) {
    let files = walk(cluster.data(0));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    (files, number("Threads:") as usize, number("VmRSS:") * 1024)
}

fn walk(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|it| if it.path().is_dir() { walk(&it.path()) } else { 1 }).sum()
}

/// `RAFTMQ_LITE_TOPICS` of them: another number shows what they cost.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_cost_neither_a_file_nor_a_task_each() {
    let count: usize =
        std::env::var("RAFTMQ_LITE_TOPICS").map_or(100_000, |text| text.parse().unwrap());
    let cluster = start(1, |topic, _| topic.lite_topics_max = 2_000_000).await;
    let client = &mut cluster.client(0).await;
    subscribe(client, "first", &["warm"]).await;
    let (files, threads, memory) = costs(&cluster);
    let began = Instant::now();
    let names: Vec<String> = (0..count).map(|number| format!("session-{number:07}")).collect();
    for names in names.chunks(1000) {
        let messages = names.iter().map(|name| message(name, name)).collect();
        assert_eq!(code(&cluster::send(client, messages).await.status), Code::Ok);
    }
    let sent = began.elapsed();
    let (more_files, more_threads, more_memory) = costs(&cluster);
    println!(
        "{count} lite topics, a message in each: {sent:.1?}, {} files, {} threads, {} bytes of \
         memory for each (with caches)",
        more_files as i64 - files as i64,
        more_threads as i64 - threads as i64,
        more_memory.saturating_sub(memory) / count as u64
    );
    assert!(more_files < files + 40, "{files} files became {more_files}");
    assert!(more_threads < threads + 40, "{threads} threads became {more_threads}");

    // One client wants 2,000 of them, and gets just these.
    let mine: Vec<&str> =
        names.iter().step_by(count / 2000).map(|name| &**name).take(2000).collect();
    heartbeat(client, "c", ClientType::LiteSimpleConsumer).await;
    subscribe(client, "c", &mine).await;
    let began = Instant::now();
    let mut got = BTreeMap::new();
    while got.len() < mine.len() {
        let messages = received(client, "c").await;
        assert!(!messages.is_empty(), "{} of {} came", got.len(), mine.len());
        ack(client, &messages).await;
        got.extend(ids(&messages).into_iter().map(|id| (id.to_owned(), ())));
    }
    println!("2000 of them were received in {:.1?}", began.elapsed());
    assert!(mine.iter().all(|name| got.contains_key(*name)));
    // A new message in one of them comes at once, whatever else there is.
    let began = Instant::now();
    assert_eq!(send(client, mine[1234], &["one more"]).await, Code::Ok);
    assert_eq!(ids(&received(client, "c").await), ["one more"]);
    println!("one more came after {:.1?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}
