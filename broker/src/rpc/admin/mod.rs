//! What operators ask, on the admin port of any node.
//!
//! Changes are relayed to the leader, over the peer port, where this service is served too; so are
//! reads, unless only the asked node is meant. This file says where a call is carried out; what it
//! does stands in one file for each subject.
//!
//! Not here: sending and receiving (`rpc::messaging`), and deciding what `apply` does.

mod cluster;
mod dead_letters;
mod find;
mod groups;
mod history;
mod lite;
mod messages;
mod offsets;
mod topics;
mod transactions;

use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::admin_client::AdminClient;
use raftmq_proto::raftmq::admin_server::Admin;
use raftmq_raft_store::Leadership;
use raftmq_raft_store::ProposeError;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

pub(crate) use self::groups::ATTEMPTS_DEFAULT;
use super::leader::RELAYED;
use crate::clock;
use crate::command::Command;
use crate::node::Node;
use crate::state::CommandReply;
use crate::state::Rejection;

/// Longest wait for a member's status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest relayed answer: as many as can be peeked at, of a good size.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest wait for a leader before a change is refused.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// Serves operators.
#[derive(Clone)]
pub(crate) struct AdminService {
    node: Node,
}

impl AdminService {
    pub(crate) fn new(node: Node) -> Self {
        Self { node }
    }

    /// Waits until a leader is known; `None` when it is this node.
    async fn leader_elsewhere<T>(
        &self,
        request: &mut Request<T>,
    ) -> Result<Option<AdminClient<Channel>>, Status> {
        let mut leadership = self.node.leadership.clone();
        let known = leadership.wait_for(|known| *known != Leadership::None);
        let node_id = match tokio::time::timeout(LEADER_WAIT, known).await {
            Ok(Ok(known)) => match &*known {
                Leadership::Remote { node_id, .. } => *node_id,
                Leadership::Local { .. } | Leadership::None => return Ok(None),
            },
            Ok(Err(_)) | Err(_) => {
                let text = "the group has no leader: a majority of its nodes must be up";
                return Err(Status::unavailable(text));
            }
        };
        if request.metadata_mut().insert(RELAYED, MetadataValue::from_static("1")).is_some() {
            return Err(Status::unavailable("leadership has just moved: try again"));
        }
        let members = self.node.group.members();
        let leader = members.into_iter().find(|member| member.node_id == node_id);
        let address = leader.map(|leader| leader.peer_address).unwrap_or_default();
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| Status::internal(format!("node {node_id} has no address")))?
            .connect_timeout(STATUS_TIMEOUT);
        let client = AdminClient::new(endpoint.connect_lazy());
        Ok(Some(client.max_decoding_message_size(ANSWER_BYTES_MAX)))
    }

    /// From here on this node sees everything that was acknowledged before.
    async fn see_everything(&self) -> Result<(), Status> {
        self.node.group.confirm_leadership().await.map_err(Status::unavailable)
    }
}

/// Leaves the method with the leader's answer when another node leads.
macro_rules! at_leader {
    ($self:ident, $request:ident, $call:ident) => {
        if let Some(mut leader) = $self.leader_elsewhere(&mut $request).await? {
            return leader.$call($request).await;
        }
    };
}

/// The same for reading: unless only this node was asked for, what follows sees everything that was
/// acknowledged before.
macro_rules! read_at_leader {
    ($self:ident, $request:ident, $call:ident) => {
        if !$request.get_ref().this_node {
            at_leader!($self, $request, $call);
            $self.see_everything().await?;
        }
    };
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_topic(
        &self,
        mut request: Request<wire::CreateTopicRequest>,
    ) -> Answer<wire::Topic> {
        at_leader!(self, request, create_topic);
        topics::create(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn update_topic(
        &self,
        mut request: Request<wire::UpdateTopicRequest>,
    ) -> Answer<wire::Topic> {
        at_leader!(self, request, update_topic);
        topics::update(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn delete_topic(
        &self,
        mut request: Request<wire::DeleteTopicRequest>,
    ) -> Answer<wire::DeleteTopicResponse> {
        at_leader!(self, request, delete_topic);
        topics::delete(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_topics(
        &self,
        mut request: Request<wire::ListTopicsRequest>,
    ) -> Answer<wire::ListTopicsResponse> {
        read_at_leader!(self, request, list_topics);
        Ok(Response::new(topics::list(&self.node)))
    }

    async fn describe_topic(
        &self,
        mut request: Request<wire::DescribeTopicRequest>,
    ) -> Answer<wire::DescribeTopicResponse> {
        read_at_leader!(self, request, describe_topic);
        topics::describe(&self.node, &request.into_inner().name).map(Response::new)
    }

    async fn list_lite_topics(
        &self,
        mut request: Request<wire::ListLiteTopicsRequest>,
    ) -> Answer<wire::ListLiteTopicsResponse> {
        read_at_leader!(self, request, list_lite_topics);
        lite::list(&self.node, request.get_ref()).map(Response::new)
    }

    async fn create_group(
        &self,
        mut request: Request<wire::CreateGroupRequest>,
    ) -> Answer<wire::ConsumerGroup> {
        at_leader!(self, request, create_group);
        groups::create(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn update_group(
        &self,
        mut request: Request<wire::UpdateGroupRequest>,
    ) -> Answer<wire::ConsumerGroup> {
        at_leader!(self, request, update_group);
        groups::update(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn delete_group(
        &self,
        mut request: Request<wire::DeleteGroupRequest>,
    ) -> Answer<wire::DeleteGroupResponse> {
        at_leader!(self, request, delete_group);
        groups::delete(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_groups(
        &self,
        mut request: Request<wire::ListGroupsRequest>,
    ) -> Answer<wire::ListGroupsResponse> {
        read_at_leader!(self, request, list_groups);
        Ok(Response::new(groups::list(&self.node)))
    }

    async fn describe_group(
        &self,
        mut request: Request<wire::DescribeGroupRequest>,
    ) -> Answer<wire::DescribeGroupResponse> {
        read_at_leader!(self, request, describe_group);
        groups::describe(&self.node, &request.into_inner().name).await.map(Response::new)
    }

    async fn reset_offset(
        &self,
        mut request: Request<wire::ResetOffsetRequest>,
    ) -> Answer<wire::ResetOffsetResponse> {
        at_leader!(self, request, reset_offset);
        self.see_everything().await?;
        offsets::reset(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_dead_letters(
        &self,
        mut request: Request<wire::ListDeadLettersRequest>,
    ) -> Answer<wire::ListDeadLettersResponse> {
        at_leader!(self, request, list_dead_letters);
        self.see_everything().await?;
        dead_letters::list(&self.node).await.map(Response::new)
    }

    async fn redrive_dead_letters(
        &self,
        mut request: Request<wire::DeadLettersRequest>,
    ) -> Answer<wire::DeadLettersResponse> {
        at_leader!(self, request, redrive_dead_letters);
        self.see_everything().await?;
        dead_letters::redrive(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn purge_dead_letters(
        &self,
        mut request: Request<wire::DeadLettersRequest>,
    ) -> Answer<wire::DeadLettersResponse> {
        at_leader!(self, request, purge_dead_letters);
        self.see_everything().await?;
        dead_letters::purge(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_transactions(
        &self,
        mut request: Request<wire::ListTransactionsRequest>,
    ) -> Answer<wire::ListTransactionsResponse> {
        at_leader!(self, request, list_transactions);
        self.see_everything().await?;
        transactions::list(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn peek_messages(
        &self,
        mut request: Request<wire::PeekMessagesRequest>,
    ) -> Answer<wire::PeekMessagesResponse> {
        read_at_leader!(self, request, peek_messages);
        messages::peek(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn find_messages(
        &self,
        mut request: Request<wire::FindMessagesRequest>,
    ) -> Answer<wire::FindMessagesResponse> {
        read_at_leader!(self, request, find_messages);
        find::find(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn message_history(
        &self,
        mut request: Request<wire::MessageHistoryRequest>,
    ) -> Answer<wire::MessageHistoryResponse> {
        read_at_leader!(self, request, message_history);
        history::history(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn cluster_status(
        &self,
        _: Request<wire::ClusterStatusRequest>,
    ) -> Answer<wire::ClusterStatusResponse> {
        Ok(Response::new(cluster::status(&self.node).await))
    }

    async fn transfer_leader(
        &self,
        mut request: Request<wire::TransferLeaderCommand>,
    ) -> Answer<wire::TransferLeaderResult> {
        at_leader!(self, request, transfer_leader);
        cluster::transfer_leader(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn trigger_snapshot(
        &self,
        _: Request<wire::TriggerSnapshotRequest>,
    ) -> Answer<wire::TriggerSnapshotResponse> {
        cluster::snapshot(&self.node).await.map(Response::new)
    }
}

/// Carries out `command` at this node, which leads.
async fn change(node: &Node, command: &Command) -> Result<CommandReply, Status> {
    match node.proposer.propose(command).await {
        Ok(CommandReply::Rejected(rejection)) => Err(rejected(rejection)),
        Ok(reply) => Ok(reply),
        Err(error @ ProposeError::NotLeader) => Err(Status::unavailable(error.to_string())),
        Err(ProposeError::Unknown) => {
            Err(Status::unknown("leadership was lost on the way: look whether the change was made"))
        }
        Err(error @ ProposeError::Stopped(_)) => Err(Status::unavailable(error.to_string())),
    }
}

fn rejected(rejection: Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::TopicNotFound | Rejection::GroupNotFound => Status::not_found(text),
        Rejection::Exists(_) => Status::already_exists(text),
        Rejection::TooManyLiteTopics { .. } | Rejection::TooManyLiteSubscriptions { .. } => {
            Status::resource_exhausted(text)
        }
        Rejection::ReceiptExpired
        | Rejection::NotPending(_)
        | Rejection::TransactionNotFound(_)
        | Rejection::NotLite(_)
        | Rejection::LiteTopicGone
        | Rejection::TooManyFilters(_) => Status::failed_precondition(text),
    }
}

/// Runs `work`, which reads tables or the log, where it holds up no other task.
async fn reading<T: Send + 'static>(
    node: &Node,
    work: impl FnOnce(&Node) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let node = node.clone();
    tokio::task::spawn_blocking(move || work(&node))
        .await
        .map_err(|error| Status::internal(error.to_string()))?
}

/// The time in the log, if something were written to it now.
fn leaders_time(node: &Node) -> u64 {
    let written = node.state.read().time_ms;
    clock::not_before(written)
}

fn limit(name: &str, value: u32, default: u32, max: u32) -> Result<u32, Status> {
    match value {
        0 => Ok(default),
        value if value <= max => Ok(value),
        value => Err(Status::invalid_argument(format!("{name} {value} is more than {max}"))),
    }
}

fn no_topic(name: &str) -> Status {
    Status::not_found(format!(
        "topic {name} does not exist; create it with: raftmq topic create {name}"
    ))
}

fn no_group(name: &str) -> Status {
    Status::not_found(format!(
        "consumer group {name} does not exist; create it with: raftmq group create {name}"
    ))
}
