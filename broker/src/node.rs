//! What the services of a node share.

use std::sync::Arc;

use parking_lot::RwLock;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::GroupRoute;
use raftmq_proto::raftmq::RouteMember;
use raftmq_proto::raftmq::RouteTopic;
use raftmq_raft_store::GroupHandle;
use raftmq_raft_store::Leadership;
use tokio::sync::broadcast;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::config::Config;
use crate::proposer::Proposer;
use crate::receive::Lanes;
use crate::state::Event;
use crate::state::State;

/// A broker node, as its services see it. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    pub(crate) config: Arc<Config>,
    pub(crate) group: GroupHandle,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) proposer: Proposer,
    pub(crate) clients: Arc<Clients>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) events: broadcast::Sender<Event>,
    /// When the next timer is due, milliseconds since 1970; `u64::MAX` without one.
    pub(crate) next_due: watch::Receiver<u64>,
    /// Cancelled when the node stops answering.
    pub(crate) stop: CancellationToken,
}

impl Node {
    /// The term in which this node leads and serves, if it does.
    pub(crate) fn leading_term(&self) -> Option<u64> {
        match *self.leadership.borrow() {
            Leadership::Local { term } => Some(term),
            Leadership::Remote { .. } | Leadership::None => None,
        }
    }

    /// The group as clients see it, as far as this node knows.
    pub(crate) fn route(&self) -> GroupRoute {
        let (term, leader_id) = match &*self.leadership.borrow() {
            Leadership::Local { term } => (*term, self.config.node_id),
            Leadership::Remote { term, node_id, .. } => (*term, *node_id),
            Leadership::None => (0, 0),
        };
        let members = self.group.members().into_iter().map(|member| RouteMember {
            node_id: member.node_id,
            broker_name: format!("{}-{}", self.config.group, member.node_id),
            client_address: member.client_address,
        });
        let state = self.state.read();
        let topics = state.topics.values().map(|topic| route_topic(&topic.record)).collect();
        GroupRoute {
            cluster: self.config.cluster.clone(),
            group: self.config.group.clone(),
            term,
            leader_id,
            members: members.collect(),
            topics,
            revision: state.revision,
        }
    }

    /// Resolves with the term when this node leads and serves; never when the group has ended.
    pub(crate) async fn until_leading(&self) -> u64 {
        let mut leadership = self.leadership.clone();
        loop {
            if let Some(term) = self.leading_term() {
                return term;
            }
            if leadership.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Resolves when `leading` changes or this node no longer leads in `term`.
    pub(crate) async fn until_not_leading(&self, term: u64) {
        let mut leadership = self.leadership.clone();
        // An error means that the group ended, and with it the leadership.
        let _ = leadership.wait_for(|now| *now != Leadership::Local { term }).await;
    }
}

/// A topic as it is listed in routes.
pub(crate) fn route_topic(record: &wire::TopicRecord) -> RouteTopic {
    RouteTopic {
        name: record.name.clone(),
        queue_count: record.queue_count,
        message_types: record.message_types.clone(),
    }
}
