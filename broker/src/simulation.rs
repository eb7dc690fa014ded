//! A node of a simulated group: everything of a broker but its real sockets.
//!
//! The same parts as in [`crate::Broker`], put together by the same function, over the simulated
//! world of `raft-store`. Clients call the messaging service directly; relayed calls travel over
//! simulated links.
//!
//! Not here: operators' calls, TLS, metrics, name servers.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::messaging_service_server::MessagingService as Messaging;
use raftmq_proto::v2::messaging_service_server::MessagingServiceServer;
use raftmq_raft_store::GroupHandle;
use raftmq_raft_store::RaftGroup;
use raftmq_raft_store::apply::Apply;
use raftmq_raft_store::commit_log::FatalHandler;
use raftmq_raft_store::world::net;
use raftmq_raft_store::world::task;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::StartError;
use crate::broker;
use crate::command::Command;
use crate::config::Config;
use crate::node::Node;
use crate::proposer::Outcome;
use crate::receive;
use crate::retention;
use crate::rpc::MessagingService;
use crate::state;
use crate::timers;
use crate::upkeep;

/// A running node. Lives in the process that started it.
pub struct SimulatedBroker {
    node: Node,
    service: MessagingService,
    group: RaftGroup,
}

/// The parts of an answer to a receive.
type Parts = Pin<Box<dyn Stream<Item = Result<v2::ReceiveMessageResponse, Status>> + Send>>;

/// The messaging service of a node, called without a connection.
#[derive(Clone)]
pub struct Client(MessagingService);

impl Client {
    /// See the client API.
    ///
    /// # Errors
    /// None so far: refusals are answers.
    pub async fn send_message(
        &self,
        request: Request<v2::SendMessageRequest>,
    ) -> Result<Response<v2::SendMessageResponse>, Status> {
        Messaging::send_message(&self.0, request).await
    }

    /// See the client API.
    ///
    /// # Errors
    /// See [`Self::send_message`].
    pub async fn receive_message(
        &self,
        request: Request<v2::ReceiveMessageRequest>,
    ) -> Result<Response<Parts>, Status> {
        Messaging::receive_message(&self.0, request).await
    }

    /// See the client API.
    ///
    /// # Errors
    /// See [`Self::send_message`].
    pub async fn ack_message(
        &self,
        request: Request<v2::AckMessageRequest>,
    ) -> Result<Response<v2::AckMessageResponse>, Status> {
        Messaging::ack_message(&self.0, request).await
    }
}

/// A message as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// The topic.
    pub topic: String,
    /// The queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: u64,
    /// The producer's id.
    pub message_id: String,
    /// Its body; why it can not be read, where it can not.
    pub body: Result<Vec<u8>, String>,
}

impl SimulatedBroker {
    /// Starts the node; `machine` may watch what is applied.
    ///
    /// # Errors
    /// As for [`crate::Broker::start`].
    pub async fn start(
        config: Config,
        on_fatal: FatalHandler,
        machine: impl FnOnce(Box<dyn Apply>) -> Box<dyn Apply>,
    ) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let config = Arc::new(config);
        let machine = |applier| machine(Box::new(applier));
        let (node, group) =
            broker::assemble(config.clone(), on_fatal, machine, stop.clone()).await?;
        net::Listener::bind(&config.peer_listen)
            .and_then(|peers| group.serve_peers(peers, Routes::default()))
            .map_err(raftmq_raft_store::StartError::from)?;
        task::spawn(broker::wake_receives(node.clone(), stop.clone()));
        task::spawn(upkeep::run(node.clone(), stop.clone()));
        task::spawn(retention::run(node.clone(), stop.clone()));
        task::spawn(timers::run(node.clone(), stop));
        let service = MessagingService::new(node.clone());
        serve_relayed(service.clone(), &config.client_listen);
        Ok(Self { node, service, group })
    }

    /// What clients call, each call in the process of this node.
    pub fn client(&self) -> Client {
        Client(self.service.clone())
    }

    /// The node's part in its group.
    pub fn group(&self) -> GroupHandle {
        self.group.handle()
    }

    /// The term in which it leads and serves, if it does.
    pub fn leading_term(&self) -> Option<u64> {
        self.node.leading_term()
    }

    /// Makes a topic, if this node leads.
    pub async fn create_topic(&self, name: &str, queue_count: u32) -> Outcome {
        let command = Command::CreateTopic(wire::CreateTopic {
            name: name.to_owned(),
            queue_count,
            message_types: vec![1],
            ..Default::default()
        });
        self.node.proposer.propose(&command).await
    }

    /// Makes a consumer group, if this node leads.
    pub async fn create_group(&self, name: &str, max_attempts: u32) -> Outcome {
        let command = Command::CreateGroup(wire::CreateGroup {
            name: name.to_owned(),
            max_attempts,
            ..Default::default()
        });
        self.node.proposer.propose(&command).await
    }

    /// Retention has let go of everything before this log index.
    pub fn trimmed_before(&self) -> u64 {
        self.node.state.read().trimmed_before
    }

    /// Every message that can be read here.
    pub fn contents(&self) -> Vec<Stored> {
        let topics: Vec<_> = self.node.state.read().topics.values().cloned().collect();
        let store = self.node.group.store();
        let mut contents = Vec::new();
        for topic in topics {
            for (queue_id, queue) in (0..).zip(&topic.queues) {
                let visit = |offset, unit: state::Unit| {
                    let (message_id, body) = match receive::read(&self.node, &unit) {
                        Ok(message) => {
                            let properties = message.system_properties.unwrap_or_default();
                            (properties.message_id, Ok(message.body.to_vec()))
                        }
                        Err(error) => (String::new(), Err(error.to_string())),
                    };
                    let topic = topic.record.name.clone();
                    contents.push(Stored { topic, queue_id, offset, message_id, body });
                    true
                };
                state::units(store, topic.record.id, queue_id, queue.min, queue.max, visit);
            }
        }
        contents
    }
}

fn serve_relayed(service: MessagingService, address: &str) {
    let service = net::of_this_node(MessagingServiceServer::new(service));
    let arriving = net::Listener::bind(address).and_then(net::incoming);
    task::spawn(async move {
        if let Ok(arriving) = arriving {
            // It ends with the process.
            let _ = Server::builder().add_service(service).serve_with_incoming(arriving).await;
        }
    });
}
