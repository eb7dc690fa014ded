//! A name server over real sockets, asked as clients and leaders do.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use raftmq_namesrv::Config;
use raftmq_namesrv::NameServer;
use raftmq_namesrv::StartError;
use raftmq_namesrv::config::Tls;
use raftmq_proto::raftmq::GroupRoute;
use raftmq_proto::raftmq::ListRoutesRequest;
use raftmq_proto::raftmq::RegisterRequest;
use raftmq_proto::raftmq::RouteMember;
use raftmq_proto::raftmq::RouteTopic;
use raftmq_proto::raftmq::name_server_client::NameServerClient;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::EndTransactionRequest;
use raftmq_proto::v2::QueryAssignmentRequest;
use raftmq_proto::v2::QueryRouteRequest;
use raftmq_proto::v2::RecallMessageRequest;
use raftmq_proto::v2::ReceiveMessageRequest;
use raftmq_proto::v2::Resource;
use raftmq_proto::v2::SendMessageRequest;
use raftmq_proto::v2::TelemetryCommand;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::receive_message_response::Content;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

#[tokio::test]
async fn clients_learn_what_leaders_register() {
    let (server, channel) = start().await;
    let mut clients = MessagingServiceClient::new(channel.clone());
    let mut leaders = NameServerClient::new(channel);

    let nobody = query(&mut clients, "demo").await;
    assert_eq!(nobody, (Code::HaNotAvailable, "no broker group has registered yet".into(), 0));

    let register = RegisterRequest { route: Some(route()), ttl_ms: 5_000 };
    let response = leaders.register(register.clone()).await.unwrap().into_inner();
    assert_eq!(response.refusal, "");

    let (code, _, queues) = query(&mut clients, "demo").await;
    assert_eq!((code, queues), (Code::Ok, 8));
    let (code, message, _) = query(&mut clients, "other").await;
    assert_eq!(code, Code::TopicNotFound);
    assert!(message.contains("`raftmq topic create other`"), "{message}");
    let (code, _, _) = query(&mut clients, "no such name").await;
    assert_eq!(code, Code::IllegalTopic);

    let mut deposed = register;
    deposed.route.as_mut().unwrap().term = 1;
    let response = leaders.register(deposed).await.unwrap().into_inner();
    assert_eq!(response.refusal, "term 1 is older than 2, in which node 1 leads");

    let listed = leaders.list_routes(ListRoutesRequest {}).await.unwrap().into_inner().routes;
    assert_eq!(listed[0].route, Some(route()));
    server.shutdown().await;
}

#[tokio::test]
async fn assignments_name_every_node_once() {
    let (_server, channel) = start().await;
    let register = RegisterRequest { route: Some(route()), ttl_ms: 5_000 };
    NameServerClient::new(channel.clone()).register(register).await.unwrap();
    let request = |group: &str| QueryAssignmentRequest {
        topic: Some(resource("demo")),
        group: Some(resource(group)),
        ..Default::default()
    };
    let mut clients = MessagingServiceClient::new(channel);
    let response = clients.query_assignment(request("g")).await.unwrap().into_inner();
    assert_eq!(response.assignments.len(), 1);
    let response = clients.query_assignment(request("")).await.unwrap().into_inner();
    assert_eq!(response.status.unwrap().code(), Code::IllegalConsumerGroup);
}

#[tokio::test]
async fn everything_else_is_answered_with_where_to_go() {
    let (_server, channel) = start().await;
    let mut clients = MessagingServiceClient::new(channel);
    let sent = clients.send_message(SendMessageRequest::default()).await.unwrap().into_inner();
    let status = sent.status.unwrap();
    assert_eq!(status.code(), Code::NotImplemented);
    assert!(status.message.contains("connect to the brokers in the route"));

    let mut frames =
        clients.receive_message(ReceiveMessageRequest::default()).await.unwrap().into_inner();
    let Some(Content::Status(status)) = frames.message().await.unwrap().unwrap().content else {
        panic!("expected a status")
    };
    assert_eq!(status.code(), Code::NotImplemented);
    assert_eq!(frames.message().await.unwrap(), None);

    let commands = tokio_stream::pending::<TelemetryCommand>();
    let mut frames = clients.telemetry(commands).await.unwrap().into_inner();
    let status = frames.message().await.unwrap().unwrap().status.unwrap();
    assert_eq!(status.code(), Code::NotImplemented);
    assert_eq!(frames.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_call_for_a_broker_says_why_it_could_not_be_passed_on() {
    let (_server, channel) = start().await;
    let mut clients = MessagingServiceClient::new(channel.clone());
    let recall =
        |topic: &str| RecallMessageRequest { topic: Some(resource(topic)), ..Default::default() };
    let nobody = clients.recall_message(recall("demo")).await.unwrap().into_inner();
    assert_eq!(nobody.status.unwrap().code(), Code::HaNotAvailable);

    let mut gone = route();
    // Nobody listens on port 1.
    gone.members[0].client_address = "127.0.0.1:1".to_owned();
    let register = RegisterRequest { route: Some(gone), ttl_ms: 5_000 };
    NameServerClient::new(channel).register(register).await.unwrap();
    let unknown = clients.recall_message(recall("other")).await.unwrap().into_inner();
    assert_eq!(unknown.status.unwrap().code(), Code::TopicNotFound);
    let gone = clients.recall_message(recall("demo")).await.unwrap().into_inner().status.unwrap();
    assert_eq!(gone.code(), Code::HaNotAvailable);
    assert!(gone.message.starts_with("127.0.0.1:1 does not answer"), "{}", gone.message);
}

#[tokio::test]
async fn a_call_for_a_broker_is_answered_by_one() {
    // Another name server is broker enough: it has its own word on what it was asked.
    let (leader, _) = start().await;
    let (_server, channel) = start().await;
    let mut route = route();
    route.members[0].client_address = leader.client_address().to_string();
    let register = RegisterRequest { route: Some(route), ttl_ms: 5_000 };
    NameServerClient::new(channel.clone()).register(register).await.unwrap();
    let end = EndTransactionRequest { topic: Some(resource("demo")), ..Default::default() };
    let mut clients = MessagingServiceClient::new(channel);
    let status = clients.end_transaction(end).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.message, "no broker group has registered yet");
}

#[tokio::test]
async fn probes_and_metrics_answer_over_http() {
    let (server, _) = start().await;
    for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
        let mut stream = TcpStream::connect(server.http_address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (server, _) = start().await;
    let taken = Config { listen: server.client_address().to_string(), ..config() };
    let error = NameServer::start(taken, handle()).await.err().unwrap();
    assert!(matches!(error, StartError::Bind { purpose: "clients", .. }), "{error}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_idle_clients() {
    let (server, channel) = start().await;
    query(&mut MessagingServiceClient::new(channel), "demo").await;
    tokio::time::timeout(Duration::from_secs(5), server.shutdown()).await.unwrap();
}

async fn start() -> (NameServer, Channel) {
    let server = NameServer::start(config(), handle()).await.unwrap();
    let url = format!("http://{}", server.client_address());
    (server, Endpoint::from_shared(url).unwrap().connect_lazy())
}

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".to_owned(),
        http_listen: "127.0.0.1:0".to_owned(),
        tls: Tls::Off,
        ..Config::default()
    }
}

fn handle() -> metrics_exporter_prometheus::PrometheusHandle {
    PrometheusBuilder::new().build_recorder().handle()
}

fn route() -> GroupRoute {
    let member = RouteMember {
        node_id: 1,
        broker_name: "broker-a-1".to_owned(),
        client_address: "127.0.0.1:8181".to_owned(),
    };
    let topic = RouteTopic { name: "demo".to_owned(), queue_count: 8, message_types: vec![1] };
    GroupRoute {
        cluster: "DefaultCluster".to_owned(),
        group: "broker-a".to_owned(),
        term: 2,
        leader_id: 1,
        members: vec![member],
        topics: vec![topic],
        revision: 5,
        ..GroupRoute::default()
    }
}

fn resource(name: &str) -> Resource {
    Resource { name: name.to_owned(), ..Resource::default() }
}

/// Code, text and number of queues of a route answer.
async fn query(
    clients: &mut MessagingServiceClient<Channel>,
    topic: &str,
) -> (Code, String, usize) {
    let request = QueryRouteRequest { topic: Some(resource(topic)), ..Default::default() };
    let response = clients.query_route(request).await.unwrap().into_inner();
    let status = response.status.unwrap();
    (status.code(), status.message, response.message_queues.len())
}
