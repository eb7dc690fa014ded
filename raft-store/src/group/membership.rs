//! Changing the members: taking nodes in as learners, making them voters when they caught up.
//!
//! A node that lost its disk comes back under its old id with a new volume id. Its old self is removed
//! before the new one is added, so that nothing the old one promised is expected of the new one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use raftmq_proto::raftmq as wire;

use super::Member;
use crate::types;
use crate::types::Node;

const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A learner this close behind the leader becomes a voter.
const CAUGHT_UP_ENTRIES: u64 = 256;

impl Member {
    /// Takes a node into the group, if this node leads it.
    pub(crate) async fn admit(&self, request: wire::JoinRequest) -> wire::JoinResponse {
        let refuse = |refusal: String| wire::JoinResponse {
            refusal,
            leader_peer_address: self.leader_peer_address(),
            admitted_at: None,
        };
        let config = &self.config;
        if request.cluster != config.cluster || request.group != config.group {
            return wire::JoinResponse {
                refusal: format!(
                    "this is group {} of cluster {}, not {} of {}",
                    config.group, config.cluster, request.group, request.cluster
                ),
                ..Default::default()
            };
        }
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        // A founder that asks before there is a leader: it is a member with the very disk it has.
        let known = metrics.membership_config.membership().get_node(&request.node_id).cloned();
        if known.is_some_and(|node| node.volume_id == request.volume_id) {
            return wire::JoinResponse::default();
        }
        if metrics.state != ServerState::Leader {
            return refuse(format!("node {} does not lead", config.node_id));
        }
        let Ok(_one_at_a_time) = self.changing.try_lock() else {
            return wire::JoinResponse {
                refusal: "another membership change is under way".to_owned(),
                ..Default::default()
            };
        };
        match self.replace(&metrics.membership_config, &request).await {
            Ok(()) => wire::JoinResponse {
                admitted_at: self
                    .log
                    .last()
                    .map(|last| wire::LogId { term: last.term, index: last.index }),
                ..Default::default()
            },
            Err(error) => refuse(error),
        }
    }

    async fn replace(
        &self,
        membership: &types::StoredMembership,
        request: &wire::JoinRequest,
    ) -> Result<(), String> {
        let node_id = request.node_id;
        if let Some(known) = membership.membership().get_node(&node_id) {
            if known.volume_id == request.volume_id {
                return Ok(());
            }
            tracing::warn!(node_id, "a member came back with an empty disk: replacing it");
            let gone = BTreeSet::from([node_id]);
            let change = if membership.voter_ids().any(|id| id == node_id) {
                ChangeMembers::RemoveVoters(gone)
            } else {
                ChangeMembers::RemoveNodes(gone)
            };
            self.raft
                .change_membership(change, false)
                .await
                .map_err(|error| format!("could not remove the old node {node_id}: {error}"))?;
        }
        let node = Node {
            peer_address: request.peer_address.clone(),
            client_address: request.client_address.clone(),
            volume_id: request.volume_id.clone(),
        };
        self.raft
            .add_learner(node_id, node, false)
            .await
            .map_err(|error| format!("could not add node {node_id}: {error}"))?;
        tracing::info!(node_id, "added as a learner");
        Ok(())
    }
}

/// While this node leads: makes learners voters when they caught up, and finishes changes that a
/// former leader left halfway.
pub(super) async fn keep(member: Arc<Member>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let metrics = member.raft.metrics().borrow_watched().clone();
        if metrics.state != ServerState::Leader {
            continue;
        }
        let Ok(_one_at_a_time) = member.changing.try_lock() else { continue };
        let membership = metrics.membership_config.membership();
        if let [_, target] = &membership.get_joint_config()[..] {
            let change = ChangeMembers::ReplaceAllVoters(target.clone());
            if let Err(error) = member.raft.change_membership(change, false).await {
                tracing::warn!(%error, "could not finish a membership change");
            }
            continue;
        }
        let last = metrics.last_log_index.unwrap_or(0);
        let matched: BTreeMap<u64, Option<types::LogId>> = metrics.replication.unwrap_or_default();
        let ready: BTreeSet<u64> = membership
            .learner_ids()
            .filter(|id| {
                let matched = matched.get(id).copied().flatten();
                matched.is_some_and(|id| id.index + CAUGHT_UP_ENTRIES >= last)
            })
            .collect();
        if ready.is_empty() {
            continue;
        }
        tracing::info!(?ready, "learners have caught up: making them voters");
        let change = ChangeMembers::AddVoterIds(ready);
        if let Err(error) = member.raft.change_membership(change, true).await {
            tracing::warn!(%error, "could not make the learners voters");
        }
    }
}
