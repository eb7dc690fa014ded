//! What one broker says to another, said by the harness.

use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::peer_client::PeerClient;
use tonic::transport::{Channel, Endpoint};

use super::Field;

const CALL_LIMIT: Duration = Duration::from_secs(2);

/// The peer service of a broker. Connects when it is needed.
pub(super) fn peer(field: &Field, broker: usize) -> anyhow::Result<PeerClient<Channel>> {
    let address = &field.cluster.peer_addresses()[broker];
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CALL_LIMIT)
        .timeout(CALL_LIMIT);
    Ok(PeerClient::new(endpoint.connect_lazy()))
}

/// How a broker sees itself.
pub(super) async fn status(
    peer: &mut PeerClient<Channel>,
) -> anyhow::Result<wire::NodeStatusResponse> {
    Ok(peer.node_status(wire::NodeStatusRequest {}).await?.into_inner())
}
