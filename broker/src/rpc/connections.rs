//! What the leader asks of the node to which a client is connected.

use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::connections_server::Connections;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::lite;
use crate::node::Node;
use crate::transaction;

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
