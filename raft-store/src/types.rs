//! The types openraft is used with, and their wire forms: the only place where they meet.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::RaftTypeConfig;
use openraft::alias::EntryOf;
use openraft::alias::LogIdOf;
use openraft::alias::StoredMembershipOf;
use openraft::alias::VoteOf;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftLeaderId;
use prost::Message;
use raftmq_proto::raftmq as wire;

use crate::commit_log::LogPosition;
use crate::commit_log::VoteRecord;
use crate::commit_log::format;
use crate::commit_log::format::Frame;
use crate::commit_log::format::FrameKind;

/// Number of a node within its group. Given once, never again.
pub type NodeId = u64;

openraft::declare_raft_types!(
    /// One leader per term, bodies as shared bytes.
    pub TypeConfig:
        D = Body,
        R = Reply,
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = LeaderId<u64, u64>,
        AsyncRuntime = crate::world::task::Runtime,
);

pub(crate) type Entry = EntryOf<TypeConfig>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Node>;
type CommittedLeaderId = <<TypeConfig as RaftTypeConfig>::LeaderId as RaftLeaderId>::Committed;

/// Body of an entry: commands of the broker, opaque here.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(pub Bytes);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry answered; the broker knows the type behind it.
#[derive(Debug)]
pub struct Reply(pub Option<Box<dyn Any + Send + Sync>>);

/// A member of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `host:port` of the peer port.
    pub peer_address: String,
    /// `host:port` that clients dial.
    pub client_address: String,
    /// Drawn at random when the node's volume was first used; tells a lost disk from a restart.
    pub volume_id: String,
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition { term: id.leader_id.term, index: id.index }
}

pub(crate) fn from_position(position: LogPosition) -> LogId {
    log_id(position.term, position.index)
}

pub(crate) fn vote_record(vote: &Vote) -> VoteRecord {
    VoteRecord {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn from_vote_record(record: VoteRecord) -> Vote {
    Vote {
        leader_id: LeaderId { term: record.term, voted_for: record.node_id },
        committed: record.committed,
    }
}

pub(crate) fn entry_frame(entry: &Entry) -> (LogPosition, Bytes) {
    let LogPosition { term, index } = position(&entry.log_id);
    let frame = match &entry.payload {
        EntryPayload::Blank => format::encode_frame(term, index, FrameKind::Blank, &[]),
        EntryPayload::Normal(body) => format::encode_frame(term, index, FrameKind::Normal, &body.0),
        EntryPayload::Membership(membership) => {
            let body = membership_to_wire(membership).encode_to_vec();
            format::encode_frame(term, index, FrameKind::Membership, &body)
        }
    };
    (LogPosition { term, index }, frame)
}

pub(crate) fn frame_entry(frame: Frame) -> io::Result<Entry> {
    let payload = match frame.kind {
        FrameKind::Blank => EntryPayload::Blank,
        FrameKind::Normal => EntryPayload::Normal(Body(frame.body)),
        FrameKind::Membership => {
            let membership = wire::Membership::decode(frame.body).map_err(io::Error::other)?;
            EntryPayload::Membership(membership_from_wire(membership)?)
        }
    };
    Ok(Entry { log_id: log_id(frame.term, frame.index), payload })
}

pub(crate) fn membership_to_wire(membership: &Membership) -> wire::Membership {
    let configs = membership
        .get_joint_config()
        .iter()
        .map(|voters| wire::VoterSet { node_ids: voters.iter().copied().collect() })
        .collect();
    let nodes = membership
        .nodes()
        .map(|(node_id, node)| wire::MemberNode {
            node_id: *node_id,
            peer_address: node.peer_address.clone(),
            client_address: node.client_address.clone(),
            volume_id: node.volume_id.clone(),
        })
        .collect();
    wire::Membership { configs, nodes }
}

pub(crate) fn membership_from_wire(membership: wire::Membership) -> io::Result<Membership> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|set| set.node_ids.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, Node> = membership
        .nodes
        .into_iter()
        .map(|node| {
            let value = Node {
                peer_address: node.peer_address,
                client_address: node.client_address,
                volume_id: node.volume_id,
            };
            (node.node_id, value)
        })
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(io::Error::other)
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> wire::StoredMembership {
    wire::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_wire(
    stored: wire::StoredMembership,
) -> io::Result<StoredMembership> {
    let membership = membership_from_wire(stored.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(stored.log_id.map(log_id_from_wire), membership))
}

pub(crate) fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, index: id.index }
}

pub(crate) fn log_id_from_wire(id: wire::LogId) -> LogId {
    log_id(id.term, id.index)
}

pub(crate) fn vote_to_wire(vote: &Vote) -> wire::Vote {
    let record = vote_record(vote);
    wire::Vote { term: record.term, node_id: record.node_id, committed: record.committed }
}

pub(crate) fn vote_from_wire(vote: wire::Vote) -> Vote {
    from_vote_record(VoteRecord {
        term: vote.term,
        node_id: vote.node_id,
        committed: vote.committed,
    })
}
