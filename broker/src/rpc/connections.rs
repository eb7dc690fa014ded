//! What the leader asks of the node to which a client is connected.

use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::connections_client::ConnectionsClient;
use raftmq_proto::raftmq::connections_server::Connections;
use raftmq_raft_store::world::net::Channel;
use raftmq_raft_store::world::net::Endpoint;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::lite;
use crate::node::Node;
use crate::transaction;

/// Asks the other nodes, one after the other and each for `timeout` at the most, until one says yes;
/// whether one did.
pub(crate) async fn ask_others<F, R>(node: &Node, timeout: Duration, ask: F) -> bool
where
    F: Fn(ConnectionsClient<Channel>) -> R,
    R: Future<Output = Result<bool, Status>>,
{
    for member in node.group.members() {
        if member.node_id == node.config.node_id {
            continue;
        }
        let Ok(endpoint) = Endpoint::from_shared(format!("http://{}", member.peer_address)) else {
            continue;
        };
        let endpoint = endpoint.connect_timeout(timeout).timeout(timeout);
        match ask(ConnectionsClient::new(endpoint.connect_lazy())).await {
            Ok(true) => return true,
            Ok(false) => (),
            Err(status) => {
                tracing::debug!(%status, node_id = member.node_id, "could not ask for a client");
            }
        }
    }
    false
}

/// Serves the leader.
pub(crate) struct ConnectionsService(pub(crate) Node);

#[tonic::async_trait]
impl Connections for ConnectionsService {
    async fn ask_producer(
        &self,
        request: Request<wire::AskProducerRequest>,
    ) -> Result<Response<wire::AskProducerResponse>, Status> {
        let asked = transaction::ask_here(&self.0, request.get_ref());
        Ok(Response::new(wire::AskProducerResponse { asked }))
    }

    async fn tell_unsubscribed(
        &self,
        request: Request<wire::TellUnsubscribedRequest>,
    ) -> Result<Response<wire::TellUnsubscribedResponse>, Status> {
        let told = lite::unsubscribed_here(&self.0, request.get_ref());
        Ok(Response::new(wire::TellUnsubscribedResponse { told }))
    }
}
