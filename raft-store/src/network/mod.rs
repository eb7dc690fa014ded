//! Raft between nodes, over gRPC.
//!
//! Each follower has three connections: one for the pipelined stream of appends, one for heartbeats
//! (which must not wait behind bulk data), one for snapshots. Entries travel as the frames that lie
//! in the segment files.
//!
//! Not here: forwarding of client calls (`broker`).

mod addressee;
pub(crate) mod server;
mod snapshot;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use futures::Stream;
use futures::StreamExt;
use openraft::OptionalSend;
use openraft::RaftNetworkFactory;
use openraft::alias::SnapshotOf;
use openraft::base::BoxFuture;
use openraft::base::BoxStream;
use openraft::errors::NetworkError;
use openraft::errors::RPCError;
use openraft::errors::ReplicationClosed;
use openraft::errors::StreamingError;
use openraft::errors::Unreachable;
use openraft::network::RPCOption;
use openraft::network::v2::RaftNetworkV2;
use openraft::raft::AppendEntriesRequest;
use openraft::raft::AppendEntriesResponse;
use openraft::raft::SnapshotResponse;
use openraft::raft::StreamAppendError;
use openraft::raft::StreamAppendResult;
use openraft::raft::TransferLeaderRequest;
use openraft::raft::TransferLeaderResponse;
use openraft::raft::VoteRequest;
use openraft::raft::VoteResponse;
use raftmq_proto::checksum::Checksummed;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::peer_client::PeerClient;
use tonic::service::interceptor::InterceptedService;

pub(crate) use self::addressee::Addressee;
use crate::commit_log::CommitLog;
use crate::planted::Bug;
use crate::planted::planted;
use crate::snapshot::SnapshotFiles;
use crate::types;
use crate::types::Node;
use crate::types::NodeId;
use crate::types::TypeConfig;
use crate::types::Vote;
use crate::world::net;
use crate::world::net::Channel;
use crate::world::net::Endpoint;

/// Largest message between peers: one append is at most 1 MiB of frames unless a single entry is
/// larger.
pub const PEER_MESSAGE_BYTES_MAX: usize = 80 << 20;
/// Longest wait for an answer to an append while one is outstanding.
const APPEND_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Wait after a failed connection. Short: a restarted follower is needed soon.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes connections to peers.
pub(crate) struct Network {
    pub(crate) log: CommitLog,
    pub(crate) group_hash: u64,
}

/// Says with each call for whom it is.
type RaftClient = PeerClient<InterceptedService<Channel, Addressee>>;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Append,
    Heartbeat,
    Snapshot,
}

/// A connection to one peer.
pub(crate) struct Connection {
    client: RaftClient,
    purpose: Purpose,
    log: CommitLog,
}

/// A client for the peer at `address` (`host:port`), for calls to whoever is there. Connects when
/// first used, resolving the name anew each time.
pub fn peer_client(address: &str) -> Result<PeerClient<Channel>, tonic::transport::Error> {
    Ok(PeerClient::new(channel(address)?)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX))
}

fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20);
    Ok(net::connect_lazy(&endpoint))
}

impl Network {
    fn connect(&self, node_id: NodeId, node: &Node, purpose: Purpose) -> Connection {
        let channel = match channel(&node.peer_address) {
            Ok(channel) => channel,
            // An address was checked when its node joined; what is no address is never reachable.
            Err(error) => {
                tracing::error!(address = node.peer_address, %error, "not an address");
                net::connect_lazy(&Endpoint::from_static("http://0.0.0.0:1"))
            }
        };
        let addressee = Addressee::new(self.group_hash, node_id);
        let client = PeerClient::with_interceptor(channel, addressee)
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
        Connection { client, purpose, log: self.log.clone() }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, node_id: NodeId, node: &Node) -> Connection {
        self.connect(node_id, node, Purpose::Append)
    }

    async fn new_heartbeat_client(&mut self, node_id: NodeId, node: &Node) -> Connection {
        self.connect(node_id, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, node_id: NodeId, node: &Node) -> Connection {
        self.connect(node_id, node, Purpose::Snapshot)
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotFiles;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut request = tonic::Request::new(append_to_wire(rpc));
        request.set_timeout(option.hard_ttl());
        let response = self.client.append_one(request).await.map_err(rpc_error)?;
        Ok(match append_result(response.into_inner())? {
            Ok(_) => AppendEntriesResponse::Success,
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.purpose == Purpose::Heartbeat || planted(Bug::CommitWithoutMajority) {
            return Box::pin(self.one_by_one(input, option));
        }
        Box::pin(self.pipelined(input))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFiles>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = snapshot::send(&mut self.client, &self.log, vote, snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = send => result,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = wire::TransferLeaderRequest {
            from_leader: Some(types::vote_to_wire(request.from_leader())),
            to_node_id: *request.to_node_id(),
            last_log_id: request.last_log_id().map(types::log_id_to_wire),
            crc32c: 0,
        };
        let mut message = tonic::Request::new(message.sealed());
        message.set_timeout(option.hard_ttl());
        let response = self.client.transfer_leader(message).await.map_err(rpc_error)?.into_inner();
        if response.refusal.is_empty() {
            Ok(Ok(()))
        } else {
            Err(RPCError::Network(NetworkError::from_string(response.refusal)))
        }
    }
}

type AppendStream<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

impl Connection {
    async fn ask_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = wire::VoteRequest {
            vote: Some(types::vote_to_wire(&rpc.vote)),
            last_log_id: rpc.last_log_id.as_ref().map(types::log_id_to_wire),
            leadership_transfer: rpc.leadership_transfer,
            pre_vote,
            crc32c: 0,
        };
        let mut request = tonic::Request::new(message.sealed());
        request.set_timeout(option.hard_ttl());
        let response = self.client.vote(request).await.map_err(rpc_error)?.into_inner();
        let response = verified(response)?;
        let vote = types::vote_from_wire(response.vote.unwrap_or_default());
        let last_log_id = response.last_log_id.map(types::log_id_from_wire);
        Ok(VoteResponse::new(vote, last_log_id, response.granted))
    }

    /// Heartbeats: a call each, so that the next one does not wait for a lost one.
    async fn one_by_one<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> Result<AppendStream<'s>, RPCError<TypeConfig>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let client = self.client.clone();
        let assume = planted(Bug::CommitWithoutMajority) && self.purpose == Purpose::Append;
        let answers = input.then(move |rpc| {
            let mut client = client.clone();
            let last = || rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
            let assumed = assume.then(last);
            let mut request = tonic::Request::new(append_to_wire(rpc));
            request.set_timeout(option.hard_ttl());
            async move {
                match (client.append_one(request).await, assumed) {
                    (Ok(response), _) => append_result(response.into_inner()),
                    (Err(_), Some(last)) => Ok(Ok(last)),
                    (Err(status), None) => Err(rpc_error(status)),
                }
            }
        });
        Ok(Box::pin(answers))
    }

    /// Bulk: one stream, many requests under way, answers in order.
    async fn pipelined<'s, S>(
        &'s mut self,
        input: S,
    ) -> Result<AppendStream<'s>, RPCError<TypeConfig>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let requests = input.map(move |rpc| {
            counter.fetch_add(1, Ordering::Relaxed);
            append_to_wire(rpc)
        });
        let answers = match self.client.append(requests).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                // openraft waits between attempts only once it has sent something; a peer that
                // refuses connections would be asked thousands of times a second.
                tokio::time::sleep(RECONNECT_INTERVAL).await;
                return Err(rpc_error(status));
            }
        };
        let state = (answers, sent, 0u64, false);
        let results =
            futures::stream::unfold(state, |(mut answers, sent, received, ended)| async move {
                if ended {
                    return None;
                }
                let item = loop {
                    match tokio::time::timeout(APPEND_ANSWER_TIMEOUT, answers.message()).await {
                        Ok(Ok(Some(answer))) => break append_result(answer),
                        Ok(Ok(None)) => return None,
                        Ok(Err(status)) => break Err(rpc_error(status)),
                        // Nothing is owed: silence is fine. Otherwise the answer is lost.
                        Err(_) if sent.load(Ordering::Relaxed) == received => (),
                        Err(_) => break Err(unreachable("no answer to an append in time")),
                    }
                };
                let ended = item.is_err();
                Some((item, (answers, sent, received + 1, ended)))
            });
        Ok(Box::pin(results))
    }
}

pub(crate) fn append_to_wire(rpc: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    let frames: Vec<_> = rpc.entries.iter().map(|entry| types::entry_frame(entry).1).collect();
    let mut bytes = BytesMut::with_capacity(frames.iter().map(|frame| frame.len()).sum());
    for frame in frames {
        bytes.extend_from_slice(&frame);
    }
    wire::AppendRequest {
        vote: Some(types::vote_to_wire(&rpc.vote)),
        prev_log_id: rpc.prev_log_id.as_ref().map(types::log_id_to_wire),
        leader_commit: rpc.leader_commit.as_ref().map(types::log_id_to_wire),
        frames: bytes.freeze(),
        crc32c: 0,
    }
    .sealed()
}

/// A damaged answer is none.
fn verified<M: Checksummed>(answer: M) -> Result<M, RPCError<TypeConfig>> {
    answer.verified().map_err(|damaged| unreachable(&damaged.to_string()))
}

fn append_result(
    response: wire::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
    use wire::append_response::Result as Answer;
    Ok(match verified(response)?.result {
        Some(Answer::Flushed(flushed)) => Ok(flushed.log_id.map(types::log_id_from_wire)),
        Some(Answer::Conflict(id)) => Err(StreamAppendError::Conflict(types::log_id_from_wire(id))),
        Some(Answer::HigherVote(vote)) => {
            Err(StreamAppendError::HigherVote(types::vote_from_wire(vote)))
        }
        None => return Err(unreachable("an empty answer to an append")),
    })
}

/// Makes openraft wait before it tries again; an error that lets it retry at once would spin.
fn rpc_error(status: tonic::Status) -> RPCError<TypeConfig> {
    unreachable(&format!("{:?}: {}", status.code(), status.message()))
}

fn unreachable(text: &str) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(text))
}
