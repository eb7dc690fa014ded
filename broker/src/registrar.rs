//! Tells every name server about this group, while this node leads it.
//!
//! Each name server has a task of its own, so that a dead one delays nobody; its name is resolved anew
//! on each connection. A change of leader, members or topics is told at once.

use std::time::Duration;

use raftmq_proto::raftmq::RegisterRequest;
use raftmq_proto::raftmq::name_server_client::NameServerClient;
use raftmq_raft_store::Leadership;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::node::Node;
use crate::state::Event;

const HEARTBEAT: Duration = Duration::from_secs(2);
/// Without a heartbeat a name server drops the route after this long; three may be lost.
const TTL: Duration = Duration::from_secs(8);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub(crate) async fn run(node: Node, name_server: String, stop: CancellationToken) {
    let mut failing = false;
    let mut leadership = node.leadership.clone();
    let mut events = node.events.subscribe();
    loop {
        leadership.mark_unchanged();
        if node.leading_term().is_some() {
            match register(&node, &name_server).await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!(name_server, "registered again");
                }
                Ok(()) => (),
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(name_server, error, "could not register; will go on trying");
                }
                Err(_) => (),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed(&mut leadership, &mut events) => (),
            () = tokio::time::sleep(HEARTBEAT) => (),
        }
    }
}

async fn register(node: &Node, name_server: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{name_server}"))
        .map_err(|error| error.to_string())?
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT);
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let request = RegisterRequest { route: Some(node.route()), ttl_ms: TTL.as_millis() as u64 };
    let answer = NameServerClient::new(channel)
        .register(request)
        .await
        .map_err(|status| status.message().to_owned())?;
    let refusal = answer.into_inner().refusal;
    if refusal.is_empty() { Ok(()) } else { Err(refusal) }
}

/// Resolves when something that a route shows may have changed.
async fn changed(
    leadership: &mut watch::Receiver<Leadership>,
    events: &mut broadcast::Receiver<Event>,
) {
    let metadata = async {
        loop {
            match events.recv().await {
                Ok(Event::Stored(_) | Event::Lite(_)) => (),
                Ok(Event::Metadata) | Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        _ = leadership.changed() => (),
        () = metadata => (),
    }
}
