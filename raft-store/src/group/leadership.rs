//! Who leads, and handing that over.
//!
//! A node counts as the serving leader only after it has applied everything committed before its
//! term: only then may it decide. When the leader's process dies, its connections break; a follower
//! that sees that and can not connect again stands for election at once instead of waiting for the
//! silence to grow long.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::watch;

use super::Member;
use crate::planted::Bug;
use crate::planted::planted;
use crate::types;
use crate::types::NodeId;
use crate::types::TypeConfig;
use crate::world;

/// How long a dead leader's first successor waits, and each further one longer.
const SUCCESSOR_STEP: Duration = Duration::from_millis(80);
/// Longest wait for a refused connection; a host that is gone does not refuse.
const PROBE_TIMEOUT: Duration = Duration::from_millis(100);
/// How often the connection is tried. A process that is being killed loses its connections one after the
/// other, and may take new ones a moment longer than it keeps the old.
const PROBES: u32 = 5;
/// Time between two tries: all of them are over before the next successor begins.
const PROBE_INTERVAL: Duration = Duration::from_millis(15);
/// Time between two looks while nobody is known to lead.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(200);
/// Longest wait for a hand-over.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// Who leads the group, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leadership {
    /// Nobody, or not known.
    #[default]
    None,
    /// This node, in this term; everything committed before has been applied.
    Local {
        /// The leader's term.
        term: u64,
    },
    /// Another node.
    Remote {
        /// Its term.
        term: u64,
        /// Its node id.
        node_id: NodeId,
        /// `host:port` to forward client calls to.
        client_address: String,
    },
}

/// Follows Raft's own view and publishes it.
pub(super) fn watch(member: Arc<Member>) -> watch::Receiver<Leadership> {
    let (sender, receiver) = watch::channel(Leadership::None);
    let runtime = member.runtime.clone();
    runtime.spawn(async move {
        let mut metrics = member.raft.server_metrics();
        loop {
            let known = sender.borrow().clone();
            let leadership = current(&member, &known).await;
            sender.send_if_modified(|known| {
                let changed = *known != leadership;
                if changed {
                    tracing::info!(?leadership, "leadership");
                    metrics::counter!("raftmq_leader_changes_total").increment(1);
                    *known = leadership;
                }
                changed
            });
            // A leader that could not yet confirm its leadership tries again by itself.
            let patience = match *sender.borrow() {
                Leadership::None => CONFIRM_INTERVAL,
                Leadership::Local { .. } | Leadership::Remote { .. } => Duration::MAX,
            };
            let changed = tokio::time::timeout(patience, WatchReceiver::changed(&mut metrics));
            if sender.is_closed() || matches!(changed.await, Ok(Err(_))) {
                return;
            }
        }
    });
    receiver
}

/// What Raft says now; `known` is what was published last.
async fn current(member: &Member, known: &Leadership) -> Leadership {
    if planted(Bug::ServeAsDeposedLeader) && matches!(known, Leadership::Local { .. }) {
        return known.clone();
    }
    let metrics = member.raft.server_metrics().borrow_watched().clone();
    let term = metrics.vote.leader_id.term;
    match metrics.current_leader {
        Some(leader) if leader == member.config.node_id => {
            if metrics.state != ServerState::Leader {
                return Leadership::None;
            }
            if *known == (Leadership::Local { term }) || planted(Bug::ServeBeforeApplied) {
                return Leadership::Local { term };
            }
            // Waits until the first entry of this term is applied, and so everything before it.
            match member.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
                Ok(_) => Leadership::Local { term },
                Err(error) => {
                    tracing::debug!(%error, "not serving yet");
                    Leadership::None
                }
            }
        }
        Some(leader) => match metrics.membership_config.membership().get_node(&leader) {
            Some(node) => Leadership::Remote {
                term,
                node_id: leader,
                client_address: node.client_address.clone(),
            },
            None => Leadership::None,
        },
        None => Leadership::None,
    }
}

/// See [`super::GroupHandle::transfer_leader`].
pub(super) async fn transfer(member: &Member, to: Option<NodeId>) -> Result<(), String> {
    let metrics = member.raft.metrics().borrow_watched().clone();
    let own = member.config.node_id;
    if metrics.state != ServerState::Leader {
        return Ok(());
    }
    let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
    let target = match to {
        Some(target) if target == own => return Ok(()),
        Some(target) if voters.contains(&target) => target,
        Some(target) => return Err(format!("node {target} is not a voter of this group")),
        None => metrics
            .replication
            .iter()
            .flatten()
            .filter(|(node_id, _)| **node_id != own && voters.contains(node_id))
            .max_by_key(|(_, matched)| matched.map(|id| id.index))
            .map(|(node_id, _)| *node_id)
            .ok_or("there is no other voter")?,
    };
    member.raft.trigger().transfer_leader(target).await.map_err(|error| error.to_string())?;
    let wait = member.raft.wait(Some(TRANSFER_TIMEOUT));
    let handed_over = wait
        .metrics(
            |metrics| metrics.current_leader.is_some_and(|leader| leader != own),
            "another node leads",
        )
        .await;
    handed_over.map(drop).map_err(|_| {
        format!("node {target} did not take over within {} s", TRANSFER_TIMEOUT.as_secs())
    })
}

impl Member {
    /// The stream of appends from `leader` broke. Usually its process is gone.
    pub(crate) fn leader_connection_broke(self: &Arc<Self>, leader: NodeId, why: &tonic::Status) {
        tracing::info!(leader, why = why.message(), "the leader's connection broke");
        let member = self.clone();
        self.runtime.spawn(async move { succeed(&member, leader).await });
    }
}

/// Stands for election if `leader` still counts as leader but refuses connections.
async fn succeed(member: &Member, leader: NodeId) {
    let before = member.raft.metrics().borrow_watched().clone();
    let membership = before.membership_config.membership();
    let own = member.config.node_id;
    let Some(node) = membership.get_node(&leader) else { return };
    let mut successors: Vec<u64> = membership.voter_ids().filter(|id| *id != leader).collect();
    successors.sort_unstable();
    let Some(rank) = successors.iter().position(|id| *id == own) else { return };
    tokio::time::sleep(SUCCESSOR_STEP * rank as u32).await;

    if !refuses(&node.peer_address).await {
        return;
    }
    let now = member.raft.metrics().borrow_watched().clone();
    if now.vote != before.vote || now.current_leader != Some(leader) {
        return;
    }
    tracing::info!(leader, "the leader refuses connections: standing for election");
    metrics::counter!("raftmq_elections_on_broken_connection_total").increment(1);
    // The message a leader sends when it hands over; its lease no longer stands in the way.
    let request = TransferLeaderRequest::<TypeConfig>::new(
        now.vote,
        own,
        member.log.last().map(types::from_position),
    );
    match member.raft.handle_transfer_leader(request).await {
        Ok(Ok(())) => (),
        Ok(Err(error)) => tracing::debug!(%error, "no early election"),
        Err(error) => tracing::debug!(%error, "no early election"),
    }
}

/// Whether nobody listens at an address any more, or soon.
async fn refuses(address: &str) -> bool {
    for _ in 0..PROBES {
        let connect = world::net::Stream::connect(address);
        match tokio::time::timeout(PROBE_TIMEOUT, connect).await {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return true,
            // Taken, or taken and lost before that was seen.
            Ok(_) => tokio::time::sleep(PROBE_INTERVAL).await,
            Err(_) => return false,
        }
    }
    false
}

#[cfg(all(test, not(feature = "simulation")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_one_more_connection_and_closes_its_port_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dying = tokio::spawn(async move { listener.accept().await.map(drop) });
        assert!(refuses(&address).await);
        dying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_goes_on_listening_does_not_refuse() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(!refuses(&listener.local_addr().unwrap().to_string()).await);
    }
}
