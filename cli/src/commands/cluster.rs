//! `raftmq cluster`.

use std::collections::BTreeMap;

use clap::Args;
use clap::Subcommand;
use futures::future::join_all;
use raftmq::client::Admin;
use raftmq::client::AdminError;
use raftmq_proto::raftmq::ClusterStatusRequest;
use raftmq_proto::raftmq::ClusterStatusResponse;
use raftmq_proto::raftmq::MemberStatus;
use raftmq_proto::raftmq::TransferLeaderCommand;
use raftmq_proto::raftmq::TriggerSnapshotRequest;
use serde::Serialize;

use super::AdminArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::output::Table;

const AFTER_HELP: &str = "\
Examples:
  raftmq cluster status                   who leads, who lags, what is wrong
  raftmq cluster transfer-leader --to 2   before work on the leader's machine
  raftmq cluster snapshot --admin 127.0.0.1:8283";

/// Look at and steer the nodes of a broker group.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ClusterArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Show every node of every group that answers at --admin
    Status,
    /// Hand leadership to another node
    TransferLeader {
        /// The node to lead [default: the most up-to-date follower]
        #[arg(long, value_name = "NODE ID")]
        to: Option<u64>,
        /// Do nothing unless this node leads
        #[arg(long, value_name = "NODE ID")]
        from: Option<u64>,
    },
    /// Build a snapshot on the first node that answers at --admin
    Snapshot,
}

pub async fn run(args: ClusterArgs) -> Result<(), Failure> {
    let (admin, output) = (args.admin.admin(), args.output);
    match args.verb {
        Verb::Status => {
            let groups: Vec<_> = status(&admin).await?.into_iter().map(GroupView::from).collect();
            output.print(&groups, |groups| {
                groups.iter().map(group_text).collect::<Vec<_>>().join("\n")
            })
        }
        Verb::TransferLeader { to, from } => {
            let request = TransferLeaderCommand {
                to_node_id: to.unwrap_or_default(),
                from_node_id: from.unwrap_or_default(),
            };
            let transferred =
                admin.call(request, async |mut node, r| node.transfer_leader(r).await).await?;
            output.print(&Leader { leader_id: transferred.leader_id }, |leader| {
                format!("node {} leads", leader.leader_id)
            })
        }
        Verb::Snapshot => {
            let request = TriggerSnapshotRequest {};
            let built =
                admin.call(request, async |mut node, r| node.trigger_snapshot(r).await).await?;
            output.print(&Snapshot { snapshot_index: built.snapshot_index }, |snapshot| {
                format!("the snapshot holds everything up to log index {}", snapshot.snapshot_index)
            })
        }
    }
}

/// One answer for each group that any of the addresses belongs to: that of the node which reaches
/// most members.
async fn status(admin: &Admin) -> Result<Vec<ClusterStatusResponse>, Failure> {
    let ask = |address: &String| {
        let node = Admin::new(vec![address.clone()]);
        async move {
            let request = ClusterStatusRequest {};
            node.call(request, async |mut node, r| node.cluster_status(r).await).await
        }
    };
    let reached = |status: &ClusterStatusResponse| {
        status.members.iter().filter(|member| member.unreachable.is_empty()).count()
    };
    let mut groups: BTreeMap<(String, String), ClusterStatusResponse> = BTreeMap::new();
    let mut causes = Vec::new();
    let mut failure = None;
    for answer in join_all(admin.addresses().iter().map(ask)).await {
        match answer {
            Ok(status) => {
                let key = (status.cluster.clone(), status.group.clone());
                let better = groups.get(&key).is_none_or(|known| reached(known) < reached(&status));
                if better {
                    groups.insert(key, status);
                }
            }
            Err(AdminError::Unreachable(tried)) => causes.extend(tried),
            Err(error) => failure = Some(error),
        }
    }
    match (groups.is_empty(), failure) {
        (false, _) => Ok(groups.into_values().collect()),
        (true, Some(error)) => Err(error.into()),
        (true, None) => Err(AdminError::Unreachable(causes).into()),
    }
}

#[derive(Serialize)]
struct Leader {
    leader_id: u64,
}

#[derive(Serialize)]
struct Snapshot {
    snapshot_index: u64,
}

#[derive(Serialize)]
struct GroupView {
    cluster: String,
    group: String,
    voter_count: u32,
    /// 0: none of the members that answer knows one.
    leader_id: u64,
    members: Vec<MemberView>,
}

#[derive(Serialize)]
struct MemberView {
    node_id: u64,
    broker_name: String,
    /// leader, follower, learner, candidate, or unreachable.
    role: String,
    /// voter, learner or removed.
    membership: String,
    term: u64,
    last_log_index: u64,
    commit_index: u64,
    applied_index: u64,
    lag_entries: u64,
    state_hash: String,
    flush: String,
    log_bytes: u64,
    snapshot_index: u64,
    message_first_index: u64,
    client_address: String,
    peer_address: String,
    version: String,
    /// Empty while all is well.
    trouble: String,
}

impl From<ClusterStatusResponse> for GroupView {
    fn from(status: ClusterStatusResponse) -> Self {
        // Of two opinions the one of the higher term is newer.
        let leader_id = status
            .members
            .iter()
            .filter_map(|member| member.status.as_ref())
            .filter(|status| status.leader_id != 0)
            .max_by_key(|status| status.term)
            .map_or(0, |status| status.leader_id);
        let mut members: Vec<_> = status.members.into_iter().map(MemberView::from).collect();
        mark_divergence(&mut members);
        Self {
            cluster: status.cluster,
            group: status.group,
            voter_count: status.voter_count,
            leader_id,
            members,
        }
    }
}

impl From<MemberStatus> for MemberView {
    fn from(member: MemberStatus) -> Self {
        let answered = member.unreachable.is_empty();
        let status = member.status.unwrap_or_default();
        Self {
            node_id: member.node_id,
            broker_name: member.broker_name,
            role: if answered { status.role } else { "unreachable".to_owned() },
            membership: status.membership,
            term: status.term,
            last_log_index: status.last_log_index,
            commit_index: status.commit_index,
            applied_index: status.applied_index,
            lag_entries: member.lag_entries,
            state_hash: format!("{:016x}", status.state_hash),
            flush: status.flush,
            log_bytes: status.log_bytes,
            snapshot_index: status.snapshot_index,
            message_first_index: status.message_first_index,
            client_address: status.client_address,
            peer_address: member.peer_address,
            version: status.version,
            trouble: if answered { status.trouble } else { member.unreachable },
        }
    }
}

impl MemberView {
    fn answered(&self) -> bool {
        self.role != "unreachable"
    }
}

/// Two nodes that have applied the same entries must have the same state. When they have not, this
/// is the most important thing there is to say.
fn mark_divergence(members: &mut [MemberView]) {
    let mut hashes: BTreeMap<u64, String> = BTreeMap::new();
    for member in members.iter_mut().filter(|member| member.answered()) {
        let first = hashes.entry(member.applied_index).or_insert_with(|| member.state_hash.clone());
        if *first != member.state_hash {
            let rest = match member.trouble.is_empty() {
                true => String::new(),
                false => format!("; {}", member.trouble),
            };
            member.trouble = format!("STATE DIFFERS at index {}{rest}", member.applied_index);
        }
    }
}

fn group_text(group: &GroupView) -> String {
    let leader = match group.leader_id {
        0 => "no leader".to_owned(),
        node_id => format!("node {node_id} leads"),
    };
    let mut table = Table::new([
        ">NODE",
        "ROLE",
        "MEMBERSHIP",
        ">TERM",
        ">LAST",
        ">COMMITTED",
        ">APPLIED",
        ">LAG",
        "STATE HASH",
        "FLUSH",
        ">LOG",
        "CLIENTS AT",
        "TROUBLE",
    ]);
    for member in &group.members {
        let known = |text: String| if member.answered() { text } else { "-".to_owned() };
        table.row([
            member.node_id.to_string(),
            member.role.clone(),
            known(member.membership.clone()),
            known(member.term.to_string()),
            known(member.last_log_index.to_string()),
            known(member.commit_index.to_string()),
            known(member.applied_index.to_string()),
            member.lag_entries.to_string(),
            known(member.state_hash.clone()),
            known(member.flush.clone()),
            known(output::bytes(member.log_bytes)),
            known(member.client_address.clone()),
            member.trouble.clone(),
        ]);
    }
    format!(
        "cluster {}, broker group {}: {leader}, {} voters\n{table}",
        group.cluster, group.group, group.voter_count
    )
}

#[cfg(test)]
mod tests {
    use raftmq_proto::raftmq::NodeStatusResponse;

    use super::*;

    fn member(node_id: u64, applied_index: u64, state_hash: u64) -> MemberStatus {
        let status = NodeStatusResponse {
            node_id,
            role: if node_id == 1 { "leader" } else { "follower" }.to_owned(),
            term: 3,
            leader_id: 1,
            applied_index,
            state_hash,
            ..NodeStatusResponse::default()
        };
        MemberStatus { node_id, status: Some(status), ..MemberStatus::default() }
    }

    fn view(members: Vec<MemberStatus>) -> GroupView {
        GroupView::from(ClusterStatusResponse { members, ..ClusterStatusResponse::default() })
    }

    #[test]
    fn different_state_at_the_same_index_is_trouble() {
        let group = view(vec![member(1, 10, 7), member(2, 10, 8), member(3, 9, 6)]);
        let trouble: Vec<_> = group.members.iter().map(|member| &*member.trouble).collect();
        assert_eq!(trouble, ["", "STATE DIFFERS at index 10", ""]);
        assert_eq!(group.leader_id, 1);
    }

    #[test]
    fn a_member_that_does_not_answer_shows_why() {
        let gone = MemberStatus {
            node_id: 2,
            unreachable: "connection refused".to_owned(),
            ..MemberStatus::default()
        };
        let text = group_text(&view(vec![member(1, 10, 7), gone]));
        let line = text.lines().last().unwrap();
        assert!(line.contains("unreachable") && line.ends_with("connection refused"), "{text}");
    }
}
