//! The peer service: what other nodes of the group ask of this one.
//!
//! Invariant: before this node is admitted (its disk is known to hold what it once promised, or the
//! group knows that it is empty), it answers no Raft message; and it answers none that is for another
//! node or group, or whose term no group can have reached.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::StreamExt;
use openraft::raft::AppendEntriesRequest;
use openraft::raft::StreamAppendError;
use openraft::raft::StreamAppendResult;
use openraft::raft::TransferLeaderRequest;
use openraft::raft::VoteRequest;
use raftmq_proto::checksum::Checksummed;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::append_response::Result as Answer;
use raftmq_proto::raftmq::peer_server::Peer;
use raftmq_proto::raftmq::snapshot_chunk::Part;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::commit_log::format;
use crate::group::Member;
use crate::network::Addressee;
use crate::planted::Bug;
use crate::planted::planted;
use crate::snapshot::IncomingTransfer;
use crate::types;
use crate::types::TypeConfig;
use crate::world;

/// By how much a term that is heard of may exceed the one that is known: more elections than there
/// can be between two messages. A term is kept for ever and grows with each election: one close to
/// the largest number, from a flipped bit or a stranger, would leave no room for the next.
const TERM_STEP_MAX: u64 = 1 << 32;

/// Answers peers on behalf of one node.
#[derive(Clone)]
pub struct PeerService {
    member: Arc<Member>,
    own: Addressee,
    transfer: Arc<tokio::sync::Mutex<Option<IncomingTransfer>>>,
}

impl PeerService {
    pub(crate) fn new(member: Arc<Member>, own: Addressee) -> Self {
        Self { member, own, transfer: Arc::default() }
    }

    /// Whether a Raft message may be looked at.
    fn admitted<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.own.check(request.metadata())?;
        if self.member.is_admitted() {
            return Ok(());
        }
        Err(Status::unavailable(format!(
            "node {} has an empty disk and is not admitted to the group yet",
            self.member.config.node_id
        )))
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<wire::AppendResponse, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.admitted(&request)?;
        let member = self.member.clone();
        let mut incoming = request.into_inner();
        let requests = async_stream(member.clone(), async move |yielder| {
            let mut leader = None;
            loop {
                match incoming.message().await {
                    Ok(Some(message)) => {
                        leader = message.vote.map(|vote| vote.node_id);
                        match append_from_wire(&member, message) {
                            Ok(request) => {
                                if yielder.send(request).await.is_err() {
                                    return;
                                }
                            }
                            Err(status) => {
                                tracing::warn!(error = status.message(), "refused an append");
                                return;
                            }
                        }
                    }
                    Ok(None) => return,
                    Err(status) => {
                        if let Some(leader) = leader {
                            member.leader_connection_broke(leader, &status);
                        }
                        return;
                    }
                }
            }
        });
        let answers = self.member.raft.stream_append(requests).map(|result| match result {
            Ok(result) => Ok(append_answer(result)),
            Err(fatal) => Err(Status::internal(fatal.to_string())),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn append_one(
        &self,
        request: Request<wire::AppendRequest>,
    ) -> Result<Response<wire::AppendResponse>, Status> {
        self.admitted(&request)?;
        let request = append_from_wire(&self.member, request.into_inner())?;
        let (previous, last) = (
            request.prev_log_id,
            request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id),
        );
        let response = self.member.raft.append_entries(request).await.map_err(internal)?;
        Ok(Response::new(append_answer(response.into_stream_result(previous, last))))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        self.admitted(&request)?;
        let message = verified(request.into_inner())?;
        let vote = believable(&self.member, message.vote)?;
        let mut last_log_id = message.last_log_id.map(types::log_id_from_wire);
        if planted(Bug::VoteForShorterLog) {
            last_log_id = last_log_id.max(self.member.log.last().map(types::from_position));
        }
        let mut request = VoteRequest::<TypeConfig>::new(vote, last_log_id);
        request.leadership_transfer = message.leadership_transfer;
        let response = if message.pre_vote {
            self.member.raft.pre_vote(request).await
        } else {
            self.member.raft.vote(request).await
        };
        let response = response.map_err(internal)?;
        let answer = wire::VoteResponse {
            vote: Some(types::vote_to_wire(&response.vote)),
            granted: response.vote_granted,
            last_log_id: response.last_log_id.as_ref().map(types::log_id_to_wire),
            ..Default::default()
        };
        Ok(Response::new(answer.sealed()))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        self.admitted(&request)?;
        let message = verified(request.into_inner())?;
        let request = TransferLeaderRequest::<TypeConfig>::new(
            believable(&self.member, message.from_leader)?,
            message.to_node_id,
            message.last_log_id.map(types::log_id_from_wire),
        );
        let answer = self.member.raft.handle_transfer_leader(request).await.map_err(internal)?;
        let refusal = answer.err().map_or_else(String::new, |error| error.to_string());
        Ok(Response::new(wire::TransferLeaderResponse { refusal }))
    }

    async fn offer_snapshot(
        &self,
        request: Request<wire::SnapshotOffer>,
    ) -> Result<Response<wire::SnapshotWanted>, Status> {
        self.admitted(&request)?;
        let offer = verified(request.into_inner())?;
        let current = self.member.log.vote().map(types::from_vote_record);
        let offered = believable(&self.member, offer.vote)?;
        if let Some(current) = current.filter(|current| *current > offered) {
            let higher_vote = Some(types::vote_to_wire(&current));
            return Ok(Response::new(wire::SnapshotWanted { higher_vote, ..Default::default() }));
        }
        let mut transfer = self.member.incoming.begin(&offer).map_err(internal)?;
        // What was applied here is committed, so the sender holds the very same entries.
        let applied = self.member.shared.applied().position.map_or(0, |applied| applied.index);
        let oldest_offered = offer.message_first.map_or(0, |id| id.index + 1);
        if applied > 0
            && applied >= oldest_offered
            && self.member.log.message_first() <= oldest_offered
        {
            transfer.have_log_through = Some(applied);
        }
        let wanted = wire::SnapshotWanted {
            have_bytes: transfer.have_bytes.clone(),
            have_log_through: transfer.have_log_through.unwrap_or(0),
            higher_vote: None,
        };
        *self.transfer.lock().await = Some(transfer);
        Ok(Response::new(wanted))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        self.admitted(&request)?;
        let Some(mut transfer) = self.transfer.lock().await.take() else {
            return Err(Status::failed_precondition("no snapshot was offered"));
        };
        let mut parts = request.into_inner();
        let mut vote = None;
        while let Some(chunk) = parts.message().await? {
            match chunk.part {
                Some(Part::Begin(begin)) if begin.snapshot_id == transfer.offer.snapshot_id => {
                    vote = begin.vote;
                }
                Some(Part::Begin(_)) | None => {
                    return Err(Status::failed_precondition("another snapshot was offered since"));
                }
                Some(Part::File(chunk)) => transfer.write_file(&chunk).map_err(internal)?,
                Some(Part::Frames(frames)) => transfer.write_frames(&frames).map_err(internal)?,
            }
        }
        let files = world::task::spawn_blocking(move || transfer.finish())
            .await
            .map_err(internal)?
            .map_err(internal)?;
        let snapshot = openraft::alias::SnapshotOf::<TypeConfig, _> {
            meta: files.meta().map_err(internal)?,
            snapshot: files,
        };
        let vote = believable(&self.member, vote)?;
        let response =
            self.member.raft.install_full_snapshot(vote, snapshot).await.map_err(internal)?;
        self.member.incoming.remove().map_err(internal)?;
        Ok(Response::new(wire::SnapshotResponse {
            vote: Some(types::vote_to_wire(&response.vote)),
        }))
    }

    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::JoinResponse>, Status> {
        Ok(Response::new(self.member.admit(request.into_inner()).await))
    }

    async fn node_status(
        &self,
        _: Request<wire::NodeStatusRequest>,
    ) -> Result<Response<wire::NodeStatusResponse>, Status> {
        Ok(Response::new(self.member.status()))
    }
}

/// A bounded stream filled by `produce`.
fn async_stream<F, Fut>(
    member: Arc<Member>,
    produce: F,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static
where
    F: FnOnce(tokio::sync::mpsc::Sender<AppendEntriesRequest<TypeConfig>>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    // openraft keeps up to 64 appends under way itself.
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    member.runtime.spawn(produce(sender));
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// The vote of a message, unless no group can have come to its term.
fn believable(member: &Member, vote: Option<wire::Vote>) -> Result<types::Vote, Status> {
    let vote = vote.unwrap_or_default();
    let known = member.log.vote().map_or(0, |vote| vote.term);
    if vote.term > known.saturating_add(TERM_STEP_MAX) && !planted(Bug::StrangerBelieved) {
        let text = format!("term {} is not believed after term {known}", vote.term);
        tracing::warn!(sender = vote.node_id, "refused a message: {text}");
        return Err(Status::invalid_argument(text));
    }
    Ok(types::vote_from_wire(vote))
}

fn verified<M: Checksummed>(message: M) -> Result<M, Status> {
    message.verified().map_err(|damaged| Status::data_loss(damaged.to_string()))
}

fn append_from_wire(
    member: &Member,
    message: wire::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let message = verified(message)?;
    Ok(AppendEntriesRequest {
        vote: believable(member, message.vote)?,
        prev_log_id: message.prev_log_id.map(types::log_id_from_wire),
        leader_commit: message.leader_commit.map(types::log_id_from_wire),
        entries: decode_entries(message.frames)?,
    })
}

fn decode_entries(mut frames: Bytes) -> Result<Vec<types::Entry>, Status> {
    let mut entries = Vec::new();
    while !frames.is_empty() {
        let frame = format::decode_frame(&mut frames)
            .map_err(|error| Status::data_loss(error.to_string()))?;
        entries.push(types::frame_entry(frame).map_err(internal)?);
    }
    Ok(entries)
}

fn append_answer(result: StreamAppendResult<TypeConfig>) -> wire::AppendResponse {
    let answer = match result {
        Ok(log_id) => Answer::Flushed(wire::Flushed {
            log_id: log_id.as_ref().map(types::log_id_to_wire),
            partial: false,
        }),
        Err(StreamAppendError::Conflict(id)) => Answer::Conflict(types::log_id_to_wire(&id)),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(types::vote_to_wire(&vote)),
    };
    wire::AppendResponse { result: Some(answer), crc32c: 0 }.sealed()
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
