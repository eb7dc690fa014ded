//! What operators ask: topics, groups, the state of the cluster.
//!
//! Any node answers: changes are relayed to the leader, over the peer port, where this service is
//! served too.

use std::time::Duration;

use raftmq_proto::names;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::admin_client::AdminClient;
use raftmq_proto::raftmq::admin_server::Admin;
use raftmq_proto::v2;
use raftmq_proto::v2::MessageType;
use raftmq_raft_store::Leadership;
use raftmq_raft_store::ProposeError;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use super::leader::RELAYED;
use crate::command::Command;
use crate::node::Node;
use crate::receive;
use crate::state;
use crate::state::CommandReply;
use crate::state::Rejection;
use crate::state::Topic;

const QUEUES_DEFAULT: u32 = 8;
const QUEUES_MAX: u32 = 1024;
const ATTEMPTS_DEFAULT: u32 = 17;
const ATTEMPTS_MAX: u32 = 1000;
const PEEK_MAX: u32 = 100;
/// Longest wait for a member's status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
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

    /// Carries out `command` at this node, which leads.
    async fn change(&self, command: Command) -> Result<CommandReply, Status> {
        match self.node.proposer.propose(&command).await {
            Ok(CommandReply::Rejected(rejection)) => Err(rejected(rejection)),
            Ok(reply) => Ok(reply),
            Err(error @ ProposeError::NotLeader) => Err(Status::unavailable(error.to_string())),
            Err(ProposeError::Unknown) => Err(Status::unknown(
                "leadership was lost on the way: look whether the change was made",
            )),
            Err(error @ ProposeError::Stopped(_)) => Err(Status::unavailable(error.to_string())),
        }
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
        Ok(Some(AdminClient::new(endpoint.connect_lazy())))
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
            $self.node.group.confirm_leadership().await.map_err(Status::unavailable)?;
        }
    };
}

fn rejected(rejection: Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::TopicNotFound | Rejection::GroupNotFound => Status::not_found(text),
        Rejection::Exists(_) => Status::already_exists(text),
        Rejection::ReceiptExpired => Status::failed_precondition(text),
    }
}

fn topic_to_wire(topic: &wire::TopicRecord) -> wire::Topic {
    wire::Topic {
        name: topic.name.clone(),
        queue_count: topic.queue_count,
        message_types: topic.message_types.clone(),
        created_ms: topic.created_ms,
        retention_ms: topic.retention_ms,
    }
}

fn group_to_wire(group: &wire::GroupRecord) -> wire::ConsumerGroup {
    wire::ConsumerGroup {
        name: group.name.clone(),
        max_attempts: group.max_attempts,
        fifo: false,
        created_ms: group.created_ms,
    }
}

fn limit(name: &str, value: u32, default: u32, max: u32) -> Result<u32, Status> {
    match value {
        0 => Ok(default),
        value if value <= max => Ok(value),
        value => Err(Status::invalid_argument(format!("{name} {value} is more than {max}"))),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_topic(
        &self,
        mut request: Request<wire::CreateTopicRequest>,
    ) -> Result<Response<wire::Topic>, Status> {
        at_leader!(self, request, create_topic);
        let request = request.into_inner();
        names::new_topic(&request.name)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let message_type = request.message_type();
        if !matches!(message_type, MessageType::Unspecified | MessageType::Normal) {
            return Err(Status::unimplemented(format!(
                "topics of type {} are not implemented yet; only NORMAL ones are",
                message_type.as_str_name()
            )));
        }
        if request.retention_ms != 0 {
            return Err(Status::unimplemented(
                "a retention of its own for each topic is not implemented yet",
            ));
        }
        let command = Command::CreateTopic(wire::CreateTopic {
            queue_count: limit("queue_count", request.queue_count, QUEUES_DEFAULT, QUEUES_MAX)?,
            name: request.name,
            message_type: MessageType::Normal.into(),
            retention_ms: request.retention_ms,
        });
        if let (true, Command::CreateTopic(topic)) =
            (planted(Bug::TopicCreateNotReplicated), &command)
        {
            drop(self.node.proposer.place().await.map(|place| place.submit(&command)));
            let (name, queue_count) = (topic.name.clone(), topic.queue_count);
            return Ok(Response::new(wire::Topic { name, queue_count, ..Default::default() }));
        }
        match self.change(command).await? {
            CommandReply::Topic(topic) => Ok(Response::new(topic_to_wire(&topic))),
            other => panic!("creating a topic was answered with {other:?}"),
        }
    }

    async fn delete_topic(
        &self,
        mut request: Request<wire::DeleteTopicRequest>,
    ) -> Result<Response<wire::DeleteTopicResponse>, Status> {
        at_leader!(self, request, delete_topic);
        let name = request.into_inner().name;
        self.change(Command::DeleteTopic(wire::DeleteTopic { name })).await?;
        Ok(Response::new(wire::DeleteTopicResponse {}))
    }

    async fn list_topics(
        &self,
        mut request: Request<wire::ListTopicsRequest>,
    ) -> Result<Response<wire::ListTopicsResponse>, Status> {
        read_at_leader!(self, request, list_topics);
        let state = self.node.state.read();
        let mut topics: Vec<_> =
            state.topics.values().map(|topic| topic_to_wire(&topic.record)).collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Response::new(wire::ListTopicsResponse { topics }))
    }

    async fn describe_topic(
        &self,
        mut request: Request<wire::DescribeTopicRequest>,
    ) -> Result<Response<wire::DescribeTopicResponse>, Status> {
        read_at_leader!(self, request, describe_topic);
        let name = request.into_inner().name;
        let state = self.node.state.read();
        let topic = state.topic(&name).ok_or_else(|| no_topic(&name))?;
        let queues = topic.queues.iter().zip(0..).map(|(queue, queue_id)| wire::QueueRange {
            queue_id,
            min_offset: queue.min,
            max_offset: queue.max,
        });
        let groups = state
            .consumptions
            .keys()
            .filter(|ids| ids.1 == topic.record.id)
            .filter_map(|ids| Some(state.groups.get(&ids.0)?.name.clone()));
        Ok(Response::new(wire::DescribeTopicResponse {
            topic: Some(topic_to_wire(&topic.record)),
            queues: queues.collect(),
            groups: groups.collect(),
        }))
    }

    async fn create_group(
        &self,
        mut request: Request<wire::CreateGroupRequest>,
    ) -> Result<Response<wire::ConsumerGroup>, Status> {
        at_leader!(self, request, create_group);
        let request = request.into_inner();
        names::consumer_group(&request.name)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if request.fifo {
            return Err(Status::unimplemented("FIFO groups are not implemented yet"));
        }
        let attempts = request.max_attempts;
        let command = Command::CreateGroup(wire::CreateGroup {
            max_attempts: limit("max_attempts", attempts, ATTEMPTS_DEFAULT, ATTEMPTS_MAX)?,
            name: request.name,
        });
        match self.change(command).await? {
            CommandReply::Group(group) => Ok(Response::new(group_to_wire(&group))),
            other => panic!("creating a group was answered with {other:?}"),
        }
    }

    async fn delete_group(
        &self,
        mut request: Request<wire::DeleteGroupRequest>,
    ) -> Result<Response<wire::DeleteGroupResponse>, Status> {
        at_leader!(self, request, delete_group);
        let name = request.into_inner().name;
        self.change(Command::DeleteGroup(wire::DeleteGroup { name })).await?;
        Ok(Response::new(wire::DeleteGroupResponse {}))
    }

    async fn list_groups(
        &self,
        mut request: Request<wire::ListGroupsRequest>,
    ) -> Result<Response<wire::ListGroupsResponse>, Status> {
        read_at_leader!(self, request, list_groups);
        let state = self.node.state.read();
        let mut groups: Vec<_> = state.groups.values().map(group_to_wire).collect();
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Response::new(wire::ListGroupsResponse { groups }))
    }

    async fn describe_group(
        &self,
        mut request: Request<wire::DescribeGroupRequest>,
    ) -> Result<Response<wire::DescribeGroupResponse>, Status> {
        read_at_leader!(self, request, describe_group);
        let name = request.into_inner().name;
        let state = self.node.state.read();
        let group = state
            .group(&name)
            .ok_or_else(|| Status::not_found(format!("consumer group {name} does not exist")))?;
        let mut progress = Vec::new();
        for (ids, consumption) in state.consumptions.iter().filter(|(ids, _)| ids.0 == group.id) {
            let Some(topic) = state.topics.get(&ids.1) else { continue };
            for (queue_id, queue) in topic.queues.iter().enumerate() {
                let Some(own) = consumption.queues.get(queue_id) else { continue };
                progress.push(wire::QueueProgress {
                    topic: topic.record.name.clone(),
                    queue_id: queue_id as u32,
                    min_offset: queue.min,
                    max_offset: queue.max,
                    next_offset: own.next_offset,
                    commit_offset: own.commit_offset(),
                    inflight_count: own.inflight.len() as u64,
                    ready_count: queue.max.saturating_sub(own.next_offset),
                });
            }
        }
        let clients = self.node.clients.of_group(&name).into_iter();
        let clients = clients.map(|(client_id, client)| wire::GroupClient {
            client_id,
            language: client.language,
            client_type: client.client_type.as_str_name().to_owned(),
            last_seen_ms_ago: client.seen.elapsed().as_millis() as u64,
        });
        Ok(Response::new(wire::DescribeGroupResponse {
            group: Some(group_to_wire(group)),
            progress,
            clients: clients.collect(),
        }))
    }

    async fn peek_messages(
        &self,
        mut request: Request<wire::PeekMessagesRequest>,
    ) -> Result<Response<wire::PeekMessagesResponse>, Status> {
        read_at_leader!(self, request, peek_messages);
        let request = request.into_inner();
        let topic = {
            let state = self.node.state.read();
            state.topic(&request.topic).ok_or_else(|| no_topic(&request.topic))?.clone()
        };
        let node = self.node.clone();
        let messages = tokio::task::spawn_blocking(move || peek(&node, &topic, &request))
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(wire::PeekMessagesResponse { messages }))
    }

    async fn cluster_status(
        &self,
        _: Request<wire::ClusterStatusRequest>,
    ) -> Result<Response<wire::ClusterStatusResponse>, Status> {
        let members = self.node.group.members();
        let voter_count = members.iter().filter(|member| member.voter).count() as u32;
        let own = self.node.config.node_id;
        let asked = members.into_iter().map(async |member| {
            let status = if member.node_id == own {
                Ok(self.node.group.status())
            } else {
                self.node.group.peer_status(&member.peer_address, STATUS_TIMEOUT).await
            };
            let (status, unreachable) = match status {
                Ok(status) => (Some(status), String::new()),
                Err(error) => (None, error),
            };
            wire::MemberStatus {
                node_id: member.node_id,
                broker_name: format!("{}-{}", self.node.config.group, member.node_id),
                peer_address: member.peer_address,
                unreachable,
                status,
                lag_entries: 0,
            }
        });
        let mut members = futures::future::join_all(asked).await;
        note_lag(&mut members);
        Ok(Response::new(wire::ClusterStatusResponse {
            cluster: self.node.config.cluster.clone(),
            group: self.node.config.group.clone(),
            members,
            voter_count,
        }))
    }

    async fn transfer_leader(
        &self,
        mut request: Request<wire::TransferLeaderCommand>,
    ) -> Result<Response<wire::TransferLeaderResult>, Status> {
        at_leader!(self, request, transfer_leader);
        let wire::TransferLeaderCommand { to_node_id, from_node_id } = request.into_inner();
        if from_node_id == 0 || from_node_id == self.node.config.node_id {
            let to = Some(to_node_id).filter(|to| *to != 0);
            self.node.group.transfer_leader(to).await.map_err(Status::failed_precondition)?;
        }
        let leader_id = self.node.group.status().leader_id;
        Ok(Response::new(wire::TransferLeaderResult { leader_id }))
    }

    async fn trigger_snapshot(
        &self,
        _: Request<wire::TriggerSnapshotRequest>,
    ) -> Result<Response<wire::TriggerSnapshotResponse>, Status> {
        let snapshot_index = self.node.group.snapshot().await.map_err(Status::unavailable)?;
        Ok(Response::new(wire::TriggerSnapshotResponse { snapshot_index }))
    }
}

fn no_topic(name: &str) -> Status {
    Status::not_found(format!(
        "topic {name} does not exist; create it with: raftmq topic create {name}"
    ))
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

fn peek(
    node: &Node,
    topic: &Topic,
    request: &wire::PeekMessagesRequest,
) -> Result<Vec<v2::Message>, Status> {
    let count = u64::from(limit("count", request.count, 1, PEEK_MAX)?);
    let resource = v2::Resource { name: request.topic.clone(), ..Default::default() };
    let mut messages = Vec::new();
    for (queue_id, queue) in (0..).zip(&topic.queues) {
        if request.queue_id.is_some_and(|wanted| wanted != queue_id) {
            continue;
        }
        let from = request.offset.unwrap_or_else(|| queue.max.saturating_sub(count)).max(queue.min);
        let mut units = Vec::new();
        state::units(
            node.group.store(),
            topic.record.id,
            queue_id,
            from,
            queue.max,
            |offset, unit| {
                units.push((offset, unit));
                (units.len() as u64) < count
            },
        );
        for (offset, unit) in units {
            let message =
                receive::read(node, &unit).map_err(|error| Status::data_loss(error.to_string()))?;
            messages.push(receive::placed(message, &resource, queue_id, offset, &unit));
        }
    }
    Ok(messages)
}
