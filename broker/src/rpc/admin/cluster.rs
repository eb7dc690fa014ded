//! The nodes of the group.

use raftmq_proto::raftmq as wire;
use tonic::Status;

use super::STATUS_TIMEOUT;
use crate::node::Node;

/// Asks every member.
pub(super) async fn status(node: &Node) -> wire::ClusterStatusResponse {
    let members = node.group.members();
    let voter_count = members.iter().filter(|member| member.voter).count() as u32;
    let own = node.config.node_id;
    let asked = members.into_iter().map(async |member| {
        let status = if member.node_id == own {
            Ok(node.group.status())
        } else {
            node.group.peer_status(&member.peer_address, STATUS_TIMEOUT).await
        };
        let (status, unreachable) = match status {
            Ok(status) => (Some(status), String::new()),
            Err(error) => (None, error),
        };
        wire::MemberStatus {
            node_id: member.node_id,
            broker_name: format!("{}-{}", node.config.group, member.node_id),
            peer_address: member.peer_address,
            unreachable,
            status,
            lag_entries: 0,
        }
    });
    let mut members = futures::future::join_all(asked).await;
    note_lag(&mut members);
    wire::ClusterStatusResponse {
        cluster: node.config.cluster.clone(),
        group: node.config.group.clone(),
        members,
        voter_count,
    }
}

/// The lag of each member, from what the leader knows.
fn note_lag(members: &mut [wire::MemberStatus]) {
    let leader = members
        .iter()
        .filter_map(|member| member.status.clone())
        .filter(|status| status.role == "leader")
        .max_by_key(|status| status.term);
    let Some(leader) = leader else { return };
    for member in members.iter_mut().filter(|member| member.node_id != leader.node_id) {
        let matched = leader.matched_index.get(&member.node_id).copied().unwrap_or(0);
        member.lag_entries = leader.last_log_index.saturating_sub(matched);
    }
}

pub(super) async fn transfer_leader(
    node: &Node,
    request: wire::TransferLeaderCommand,
) -> Result<wire::TransferLeaderResult, Status> {
    let wire::TransferLeaderCommand { to_node_id, from_node_id } = request;
    if from_node_id == 0 || from_node_id == node.config.node_id {
        let to = Some(to_node_id).filter(|to| *to != 0);
        node.group.transfer_leader(to).await.map_err(Status::failed_precondition)?;
    }
    Ok(wire::TransferLeaderResult { leader_id: node.group.status().leader_id })
}

pub(super) async fn snapshot(node: &Node) -> Result<wire::TriggerSnapshotResponse, Status> {
    let snapshot_index = node.group.snapshot().await.map_err(Status::unavailable)?;
    Ok(wire::TriggerSnapshotResponse { snapshot_index })
}
