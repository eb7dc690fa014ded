//! A broker group of several nodes in this process, on real sockets and files.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;
use raftmq_broker::Broker;
use raftmq_broker::Config;
use raftmq_broker::Member;
use raftmq_broker::Tls;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::admin_client::AdminClient;
use raftmq_proto::v2;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::receive_message_response::Content;
use tonic::transport::Channel;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Addresses and data of the nodes; nodes may be down.
pub struct Cluster {
    pub configs: Vec<Config>,
    pub nodes: Vec<Option<Broker>>,
    _directory: tempfile::TempDir,
    metrics: PrometheusHandle,
}

impl Cluster {
    /// Starts `count` nodes and waits until they have a leader.
    pub async fn start(count: u64) -> Self {
        Self::start_with(count, |_| ()).await
    }

    /// Starts `count` nodes whose configuration `change` has changed.
    pub async fn start_with(count: u64, change: impl Fn(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports: Vec<[u16; 4]> = (0..count).map(|_| free_ports()).collect();
        let members: Vec<Member> = (1..)
            .zip(&ports)
            .map(|(node_id, ports)| Member {
                node_id,
                peer_address: format!("127.0.0.1:{}", ports[1]),
            })
            .collect();
        let configs: Vec<Config> = (1..)
            .zip(&ports)
            .map(|(node_id, ports)| {
                let address = |port: u16| format!("127.0.0.1:{port}");
                let mut config = Config {
                    node_id,
                    members: members.clone(),
                    client_listen: address(ports[0]),
                    client_advertise: address(ports[0]),
                    peer_listen: address(ports[1]),
                    admin_listen: address(ports[2]),
                    http_listen: address(ports[3]),
                    tls: Tls::Off,
                    ..Config::single(directory.path().join(node_id.to_string()))
                };
                change(&mut config);
                config
            })
            .collect();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let nodes = configs.iter().map(|_| None).collect();
        let mut cluster = Self { configs, nodes, _directory: directory, metrics };
        for number in 0..cluster.configs.len() {
            cluster.start_node(number).await;
        }
        cluster.ready().await;
        cluster
    }

    pub async fn start_node(&mut self, number: usize) {
        let config = self.configs[number].clone();
        self.nodes[number] = Some(Broker::start(config, self.metrics.clone()).await.unwrap());
    }

    pub async fn stop_node(&mut self, number: usize) {
        if let Some(node) = self.nodes[number].take() {
            node.shutdown().await;
        }
    }

    /// Stops all nodes that are up, without handing leadership over.
    async fn stop_all(&mut self) {
        let up = self.nodes.iter_mut().filter_map(Option::take);
        futures::future::join_all(up.map(Broker::stop)).await;
    }

    pub async fn ready(&self) {
        for node in self.nodes.iter().flatten() {
            tokio::time::timeout(PATIENCE, node.ready()).await.expect("no leader in time");
        }
    }

    pub fn data(&self, number: usize) -> &Path {
        &self.configs[number].data_dir
    }

    pub async fn client(&self, number: usize) -> MessagingServiceClient<Channel> {
        let address = format!("http://{}", self.configs[number].client_advertise);
        MessagingServiceClient::new(connect(address).await)
    }

    pub async fn admin(&self, number: usize) -> AdminClient<Channel> {
        let address = format!("http://{}", self.configs[number].admin_listen);
        AdminClient::new(connect(address).await)
    }

    pub async fn status(&self, number: usize) -> Vec<wire::NodeStatusResponse> {
        let request = wire::ClusterStatusRequest {};
        let response = self.admin(number).await.cluster_status(request).await.unwrap();
        response.into_inner().members.into_iter().filter_map(|member| member.status).collect()
    }

    /// Number (from 0) of the node that leads.
    pub async fn leader(&self) -> usize {
        let up = self.nodes.iter().position(Option::is_some).unwrap();
        for _ in 0..300 {
            let statuses = self.status(up).await;
            if let Some(status) = statuses.iter().find(|status| status.role == "leader") {
                return status.node_id as usize - 1;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no leader in time");
    }

    pub async fn create(&self, topic: &str, group: &str) {
        let mut admin = self.admin(self.leader().await).await;
        let topic = wire::CreateTopicRequest { name: topic.into(), ..Default::default() };
        admin.create_topic(topic).await.unwrap();
        let group = wire::CreateGroupRequest { name: group.into(), ..Default::default() };
        admin.create_group(group).await.unwrap();
    }

    /// Waits until all nodes that are up have applied the same and agree on the state.
    pub async fn agree(&self) {
        let up = self.nodes.iter().position(Option::is_some).unwrap();
        let mut last = Vec::new();
        for _ in 0..300 {
            last = self.status(up).await;
            let first = &last[0];
            let same = last.iter().all(|status| {
                (status.applied_index, status.state_hash) == (first.applied_index, first.state_hash)
            });
            if same && last.len() == self.nodes.iter().flatten().count() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the nodes do not agree: {last:#?}");
    }
}

/// A node that writes to a directory that is gone ends the process, and with it the tests beside this one.
impl Drop for Cluster {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(self.stop_all()));
    }
}

/// A request as a client sends it.
pub fn request<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", "test@1".parse().unwrap());
    request.set_timeout(timeout);
    request
}

pub fn resource(name: &str) -> v2::Resource {
    v2::Resource { name: name.into(), ..Default::default() }
}

pub fn message(topic: &str, id: &str, body: &str) -> v2::Message {
    v2::Message {
        topic: Some(resource(topic)),
        system_properties: Some(v2::SystemProperties {
            message_id: id.into(),
            ..Default::default()
        }),
        body: body.to_owned().into(),
        ..Default::default()
    }
}

pub async fn send(
    client: &mut MessagingServiceClient<Channel>,
    messages: Vec<v2::Message>,
) -> v2::SendMessageResponse {
    let message = v2::SendMessageRequest { messages };
    client.send_message(request(message, PATIENCE)).await.unwrap().into_inner()
}

/// One receive with an invisible duration of 10 s.
pub async fn receive(
    client: &mut MessagingServiceClient<Channel>,
    topic: &str,
    group: &str,
    wait: Duration,
) -> Vec<v2::Message> {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let message = v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(v2::MessageQueue {
            topic: Some(resource(topic)),
            id: -1,
            ..Default::default()
        }),
        batch_size: 32,
        invisible_duration: seconds(10),
        long_polling_timeout: prost_types::Duration::try_from(wait).ok(),
        ..Default::default()
    };
    let request = request(message, wait + Duration::from_secs(5));
    let mut parts = client.receive_message(request).await.unwrap().into_inner();
    let mut messages = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        if let Some(Content::Message(message)) = part.content {
            messages.push(message);
        }
    }
    messages
}

pub async fn ack(
    client: &mut MessagingServiceClient<Channel>,
    topic: &str,
    group: &str,
    messages: &[v2::Message],
) -> v2::AckMessageResponse {
    let entries = messages
        .iter()
        .map(|message| {
            let properties = message.system_properties.clone().unwrap();
            v2::AckMessageEntry {
                message_id: properties.message_id,
                receipt_handle: properties.receipt_handle.unwrap(),
                lite_topic: None,
            }
        })
        .collect();
    let message = v2::AckMessageRequest {
        group: Some(resource(group)),
        topic: Some(resource(topic)),
        entries,
    };
    client.ack_message(request(message, PATIENCE)).await.unwrap().into_inner()
}

pub fn code(status: &Option<v2::Status>) -> v2::Code {
    status.as_ref().unwrap().code()
}

async fn connect(address: String) -> Channel {
    tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap()
}

/// Below those that connections are given: a node that is restarted finds its ports free.
fn free_ports() -> [u16; 4] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    // Tests run in several processes at once.
    let begin = std::process::id().wrapping_mul(101);
    let ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|number| 10_000 + (begin.wrapping_add(number) % 20_000) as u16);
    let ports: Vec<u16> = ports.filter(is_free).take(4).collect();
    ports.try_into().unwrap()
}
