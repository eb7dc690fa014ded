//! The first start of a node, and the first start after its disk was lost.
//!
//! A node with an empty disk must not vote before it knows that nobody counts on what it has
//! forgotten. It asks the other members: if all of them are empty too, a new group is founded (by the
//! lowest node id); if a group exists, it asks that group to take it in as a new learner.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use raftmq_proto::raftmq as wire;

use super::Member;
use crate::network::peer_client;
use crate::planted::Bug;
use crate::planted::planted;
use crate::types::Node;
use crate::world::fs;

const ASK_INTERVAL: Duration = Duration::from_millis(150);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// A join commits two membership changes.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

/// The id of this volume; drawn at random when the directory is first used.
pub(super) fn volume_id(directory: &Path) -> io::Result<String> {
    let path = directory.join("volume");
    match fs::read_to_string(&path) {
        Ok(id) => return Ok(id.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => (),
    }
    let id = format!("{:016x}", rand::random::<u64>());
    let temporary = directory.join("volume.new");
    fs::write(&temporary, &id)?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, &path)?;
    fs::File::open(directory)?.sync_all()?;
    Ok(id)
}

/// Asks the peer at `address` for its status.
pub(super) async fn ask_status(
    address: &str,
    timeout: Duration,
) -> Result<wire::NodeStatusResponse, String> {
    let mut client = peer_client(address).map_err(|error| error.to_string())?;
    let mut request = tonic::Request::new(wire::NodeStatusRequest {});
    request.set_timeout(timeout);
    match tokio::time::timeout(timeout, client.node_status(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
        Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
    }
}

/// Runs until this node belongs to a group.
pub(super) async fn join_or_found(member: Arc<Member>) {
    let mut asked = 0u32;
    while !member.is_admitted() {
        match look_around(&member).await {
            Surroundings::Group { contact } => join(&member, contact).await,
            Surroundings::AllEmpty { nodes } => found(&member, nodes).await,
            Surroundings::Unknown { missing } => {
                // Said once in a while: a group is founded only when all members are there.
                if asked.is_multiple_of(40) {
                    tracing::info!(
                        ?missing,
                        "waiting for the other founding members before a new group is formed"
                    );
                }
            }
        }
        asked += 1;
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

/// What the other members say.
enum Surroundings {
    /// A group exists; this member of it can be asked.
    Group { contact: String },
    /// Every founding member is there and empty.
    AllEmpty { nodes: Vec<(u64, Node)> },
    /// Some did not answer, and none knows of a group.
    Unknown { missing: Vec<String> },
}

async fn look_around(member: &Member) -> Surroundings {
    let config = &member.config;
    let others = config.members.iter().filter(|(node_id, _)| *node_id != config.node_id);
    let answers = futures::future::join_all(others.map(|(node_id, address)| async move {
        (*node_id, address.clone(), ask_status(address, ASK_TIMEOUT).await)
    }))
    .await;
    let own = Node {
        peer_address: member.own_peer_address(),
        client_address: config.client_address.clone(),
        volume_id: member.volume_id.clone(),
    };
    let mut nodes = vec![(config.node_id, own)];
    let mut missing = Vec::new();
    for (node_id, address, answer) in answers {
        match answer {
            Ok(status) if status.last_log_index > 0 || status.term > 0 => {
                return Surroundings::Group { contact: address };
            }
            Ok(status) => nodes.push((
                node_id,
                Node {
                    peer_address: address,
                    client_address: status.client_address,
                    volume_id: status.volume_id,
                },
            )),
            Err(_) => missing.push(address),
        }
    }
    if missing.is_empty() {
        Surroundings::AllEmpty { nodes }
    } else {
        Surroundings::Unknown { missing }
    }
}

async fn found(member: &Member, nodes: Vec<(u64, Node)>) {
    // Nobody has promised anything yet, so this node may vote.
    member.admitted.store(true, Ordering::Release);
    let lowest = nodes.iter().map(|(node_id, _)| *node_id).min();
    if lowest != Some(member.config.node_id) {
        return;
    }
    let nodes: std::collections::BTreeMap<u64, Node> = nodes.into_iter().collect();
    tracing::info!(members = ?nodes.keys().collect::<Vec<_>>(), "founding the group");
    if let Err(error) = member.raft.initialize(nodes).await {
        tracing::warn!(%error, "the group was not founded by this node");
    }
}

async fn join(member: &Member, mut contact: String) {
    if planted(Bug::EmptiedNodeVotes) {
        member.admitted.store(true, Ordering::Release);
        return;
    }
    let request = wire::JoinRequest {
        cluster: member.config.cluster.clone(),
        group: member.config.group.clone(),
        node_id: member.config.node_id,
        volume_id: member.volume_id.clone(),
        peer_address: member.own_peer_address(),
        client_address: member.config.client_address.clone(),
    };
    // The contact may name the leader, and the leader may have changed meanwhile.
    for _ in 0..3 {
        let Ok(mut client) = peer_client(&contact) else { return };
        let answer = tokio::time::timeout(JOIN_TIMEOUT, client.join(request.clone())).await;
        match answer {
            Ok(Ok(response)) => {
                let response = response.into_inner();
                if response.refusal.is_empty() {
                    tracing::info!(leader = contact, "admitted to the group");
                    member.admitted.store(true, Ordering::Release);
                    return;
                }
                if response.leader_peer_address.is_empty() {
                    tracing::warn!(contact, refusal = response.refusal, "not admitted yet");
                    return;
                }
                contact = response.leader_peer_address;
            }
            Ok(Err(status)) => {
                tracing::warn!(contact, error = status.message(), "could not ask to join");
                return;
            }
            Err(_) => {
                tracing::warn!(contact, "no answer to a request to join");
                return;
            }
        }
    }
}

impl Member {
    /// The peer address of the leader this node knows, or empty.
    pub(super) fn leader_peer_address(&self) -> String {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        metrics
            .current_leader
            .and_then(|id| metrics.membership_config.membership().get_node(&id).cloned())
            .map_or_else(String::new, |node| node.peer_address)
    }
}
