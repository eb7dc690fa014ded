//! One node's part in its broker group: the handle the broker works with.
//!
//! Raft runs on a runtime of its own, so that heartbeats and votes do not queue behind client work.
//!
//! Not here: commands (opaque bytes), topics, routes.

mod bootstrap;
mod leadership;
mod membership;
mod watchdog;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::Raft;
use openraft::ReadPolicy;
use openraft::SnapshotPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::peer_server::PeerServer;
use tokio::sync::watch;
use tonic::service::Routes;

pub use self::leadership::Leadership;
use crate::apply::Apply;
use crate::commit_log::CommitLog;
use crate::commit_log::FatalHandler;
use crate::commit_log::FlushMode;
use crate::commit_log::LogConfig;
use crate::commit_log::OpenError;
use crate::commit_log::ReadError;
use crate::log_store::LogStore;
use crate::network::Addressee;
use crate::network::Network;
use crate::network::PEER_MESSAGE_BYTES_MAX;
use crate::network::server::PeerService;
use crate::planted::Bug;
use crate::planted::planted;
use crate::snapshot::Incoming;
use crate::snapshot::SnapshotDirectory;
use crate::state::Applied;
use crate::state::StateStore;
use crate::state_machine::Shared;
use crate::state_machine::StateMachine;
use crate::types;
use crate::types::Body;
use crate::types::NodeId;
use crate::types::Reply;
use crate::types::TypeConfig;
use crate::world;
use crate::world::task::Threads;

/// Threads of the Raft runtime: one may be in a slow read while the other answers heartbeats.
const RAFT_THREADS: usize = 2;
/// Longest wait for a snapshot to be installed by its receiver.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);

/// What a node of a group needs to know.
#[derive(Clone)]
pub struct GroupConfig {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the broker group.
    pub group: String,
    /// This node.
    pub node_id: NodeId,
    /// Directory for everything durable.
    pub directory: PathBuf,
    /// Founding members: node id and peer address (`host:port`), this node included.
    pub members: Vec<(NodeId, String)>,
    /// `host:port` that clients (and forwarding nodes) dial.
    pub client_address: String,
    /// When an append counts as done.
    pub flush: FlushMode,
    /// Size at which a segment is closed.
    pub segment_bytes: u64,
    /// How often a leader shows that it is alive.
    pub heartbeat: Duration,
    /// Shortest and longest silence after which a follower stands for election.
    pub election: (Duration, Duration),
    /// What to do when the disk fails.
    pub on_fatal: FatalHandler,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The commit log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The tables, a snapshot or a socket.
    #[error("could not start node: {0}")]
    Io(#[from] io::Error),
    /// The log lost entries that the tables have.
    #[error(
        "the commit log ends before index {next}, and the tables point to entries up to {applied}: \
         what was flushed is gone. Nothing was changed. If the other nodes of the group are healthy, \
         move this node's data directory away and start it again: it rejoins as a learner and copies \
         everything"
    )]
    LogBehindTables {
        /// Index behind the last entry of the log.
        next: u64,
        /// Last applied index.
        applied: u64,
    },
    /// Raft refused its configuration or its stored state.
    #[error("raft could not start: {0}")]
    Raft(String),
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead; nothing was appended. Try again at the leader.
    #[error("this node is not the leader")]
    NotLeader,
    /// Leadership was lost on the way: the entry may or may not come to be committed. Try again at
    /// the leader with something that recognizes a repetition.
    #[error("leadership was lost before the outcome was known")]
    Unknown,
    /// The node is ending.
    #[error("this node is stopping: {0}")]
    Stopped(String),
}

/// Everything of a node that its services share.
pub(crate) struct Member {
    pub(crate) config: GroupConfig,
    pub(crate) volume_id: String,
    pub(crate) raft: Raft<TypeConfig, StateMachine>,
    pub(crate) log: CommitLog,
    pub(crate) shared: Arc<Shared>,
    pub(crate) incoming: Incoming,
    pub(crate) runtime: world::task::Handle,
    admitted: AtomicBool,
    /// One membership change at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Member {
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }
}

/// A node of a broker group.
pub struct RaftGroup {
    member: Arc<Member>,
    leadership: watch::Receiver<Leadership>,
    _threads: Threads,
}

impl RaftGroup {
    /// Opens the node's data and takes part in the group as soon as peers are served: a new group is
    /// formed once all founding members are there, an emptied node asks to be taken in again.
    ///
    /// Returns when the local part is up; [`Self::leadership`] tells when there is a leader.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing was changed on disk when the log is corrupt.
    pub async fn start(
        config: GroupConfig,
        machine: impl FnOnce(Arc<Shared>) -> Box<dyn Apply>,
    ) -> Result<Self, StartError> {
        world::fs::create_dir_all(&config.directory)?;
        let volume_id = bootstrap::volume_id(&config.directory)?;
        let log = CommitLog::open(LogConfig {
            directory: config.directory.join("log"),
            node_id: config.node_id,
            group_hash: group_hash(&config),
            segment_bytes: config.segment_bytes,
            flush: config.flush,
            on_fatal: config.on_fatal.clone(),
        })?;
        let incoming = Incoming::new(config.directory.join("incoming"));
        let snapshots = SnapshotDirectory::open(config.directory.join("snapshots"))?;
        finish_install(&log, &incoming, &snapshots).await?;

        let tables = config.directory.join("state");
        let shared = Arc::new(Shared::open(&tables)?);
        check_positions(&log, &shared)?;
        let fresh = log.last().is_none() && log.vote().is_none();
        let state_machine =
            StateMachine::new(shared.clone(), machine(shared.clone()), tables, snapshots)?
                .behind(log.clone());
        let log_store = LogStore::new(log.clone(), incoming.clone());

        let threads = Threads::new("raft", RAFT_THREADS)?;
        let runtime = threads.handle().clone();
        let raft_config = Arc::new(raft_config(&config)?);
        let network = Network { log: log.clone(), group_hash: group_hash(&config) };
        let node_id = config.node_id;
        let raft = runtime
            .spawn(async move {
                Raft::new(node_id, raft_config, network, log_store, state_machine).await
            })
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?
            .map_err(|error| StartError::Raft(error.to_string()))?;

        let member = Arc::new(Member {
            config,
            volume_id,
            raft,
            log,
            shared,
            incoming,
            runtime: runtime.clone(),
            admitted: AtomicBool::new(!fresh),
            changing: tokio::sync::Mutex::new(()),
        });
        let leadership = leadership::watch(member.clone());
        if fresh {
            runtime.spawn(bootstrap::join_or_found(member.clone()));
        }
        runtime.spawn(membership::keep(member.clone()));
        runtime.spawn(watchdog::watch_disk(member.clone()));
        Ok(Self { member, leadership, _threads: threads })
    }

    /// Serves peers on `listener`: Raft's own messages, and `beside` them what the nodes of the
    /// application ask of each other.
    ///
    /// # Errors
    /// The socket can not be used.
    pub fn serve_peers(&self, listener: world::net::Listener, beside: Routes) -> io::Result<()> {
        serve_peers(&self.member, listener, beside)
    }

    /// Who leads, as this node knows it.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// A clonable handle for everything but ending the node.
    pub fn handle(&self) -> GroupHandle {
        GroupHandle { member: self.member.clone() }
    }

    /// Ends the node: stops Raft and closes the tables. Leadership was handed over before.
    pub async fn shutdown(self) {
        let raft = self.member.raft.clone();
        if let Err(error) = raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        // Flushed, so that the next start applies nothing anew; closed, since RocksDB must not be
        // closed by a thread that lives on while the process exits.
        if let Err(error) = self.member.shared.store.flush() {
            tracing::warn!(%error, "could not flush the tables");
        }
        self.member.shared.store.close();
    }
}

/// What the broker does with its group. Cheap to clone.
#[derive(Clone)]
pub struct GroupHandle {
    member: Arc<Member>,
}

/// A member of the group, for routes and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its node id.
    pub node_id: NodeId,
    /// `host:port` of its peer port.
    pub peer_address: String,
    /// `host:port` that clients dial.
    pub client_address: String,
    /// Whether it votes; otherwise it is a learner.
    pub voter: bool,
}

impl GroupHandle {
    /// Replicates `body` and applies it; returns what applying it answered.
    ///
    /// # Errors
    /// See [`ProposeError`].
    ///
    /// # Cancel safety
    /// A dropped future does not take the proposal back.
    pub async fn propose(&self, body: Bytes) -> Result<Reply, ProposeError> {
        self.submit(body).await?.await
    }

    /// Hands `body` to Raft; entries enter the log in the order of these calls. The returned future
    /// resolves when the entry was applied.
    ///
    /// # Errors
    /// The node is ending.
    pub async fn submit(
        &self,
        body: Bytes,
    ) -> Result<impl Future<Output = Result<Reply, ProposeError>> + Send + use<>, ProposeError>
    {
        let (responder, applied) = ProgressResponder::<TypeConfig, _>::complete_only();
        let raft = &self.member.raft;
        raft.client_write_ff(Body(body), Some(responder))
            .await
            .map_err(|fatal| ProposeError::Stopped(fatal.to_string()))?;
        Ok(async move {
            match applied.await {
                Ok(Ok(response)) => Ok(response.data),
                Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => Err(ProposeError::Unknown),
                Ok(Err(_)) => Err(ProposeError::NotLeader),
                Err(_) => Err(ProposeError::Stopped("raft has ended".to_owned())),
            }
        })
    }

    /// The tables.
    pub fn store(&self) -> &StateStore {
        &self.member.shared.store
    }

    /// How far this replica is.
    pub fn applied(&self) -> Applied {
        self.member.shared.applied()
    }

    /// `length` bytes at `offset` of the body of entry `index`.
    ///
    /// # Errors
    /// [`ReadError`]; the node must not serve what is corrupt.
    pub fn read_body(&self, index: u64, offset: u32, length: u32) -> Result<Bytes, ReadError> {
        self.member.log.read_body(index, offset, length)
    }

    /// The commit log, for retention.
    pub fn log(&self) -> &CommitLog {
        &self.member.log
    }

    /// Members of the group as this node knows them, by node id.
    pub fn members(&self) -> Vec<MemberInfo> {
        let metrics = self.member.raft.server_metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        membership
            .nodes()
            .map(|(node_id, node)| MemberInfo {
                node_id: *node_id,
                peer_address: node.peer_address.clone(),
                client_address: node.client_address.clone(),
                voter: voters.contains(node_id),
            })
            .collect()
    }

    /// This node's view of itself.
    pub fn status(&self) -> wire::NodeStatusResponse {
        self.member.status()
    }

    /// Asks the peer at `address` for its status, for at most `timeout`.
    ///
    /// # Errors
    /// Why it did not answer.
    pub async fn peer_status(
        &self,
        address: &str,
        timeout: Duration,
    ) -> Result<wire::NodeStatusResponse, String> {
        bootstrap::ask_status(address, timeout).await
    }

    /// Asks the most up-to-date follower, or `to`, to lead, and waits until this node does not lead.
    /// Does nothing on a node that does not lead.
    ///
    /// # Errors
    /// Nobody can take over, or the hand-over did not happen in time.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<(), String> {
        leadership::transfer(&self.member, to).await
    }

    /// Waits until a majority has confirmed that this node still leads and everything committed before
    /// this call is applied here: a read that follows is not stale.
    ///
    /// # Errors
    /// Why it could not be confirmed.
    pub async fn confirm_leadership(&self) -> Result<(), String> {
        let confirmed = self.member.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        confirmed.map(drop).map_err(|error| error.to_string())
    }

    /// Hands leadership over if this node has it and somebody can take it.
    pub async fn hand_over(&self) {
        if self.members().iter().filter(|member| member.voter).count() > 1
            && let Err(error) = self.transfer_leader(None).await
        {
            tracing::warn!(error, "leadership was not handed over; the others will elect");
        }
    }

    /// Builds a snapshot now and returns its last index.
    ///
    /// # Errors
    /// Raft stopped, or it did not finish within a minute.
    pub async fn snapshot(&self) -> Result<u64, String> {
        let applied = self.applied().position.map_or(0, |position| position.index);
        let raft = &self.member.raft;
        raft.trigger().snapshot().await.map_err(|error| error.to_string())?;
        let wait = raft.wait(Some(Duration::from_secs(60)));
        let metrics = wait
            .metrics(
                |metrics| metrics.snapshot.is_some_and(|id| id.index >= applied),
                "snapshot built",
            )
            .await
            .map_err(|error| error.to_string())?;
        Ok(metrics.snapshot.map_or(0, |id| id.index))
    }

    /// Lets Raft forget entries up to `index` (inclusive), as far as the last snapshot reaches. Their
    /// bytes stay until [`CommitLog::delete_before`].
    ///
    /// # Errors
    /// Raft stopped.
    pub async fn purge(&self, index: u64) -> Result<(), String> {
        self.member.raft.trigger().purge_log(index).await.map_err(|error| error.to_string())
    }

    /// Resolves when Raft has stopped by itself, with the reason.
    pub async fn failed(&self) -> String {
        // The full metrics change with each entry and tick; these only with votes and members.
        let mut metrics = self.member.raft.server_metrics();
        while WatchReceiver::changed(&mut metrics).await.is_ok() {}
        let running = self.member.raft.metrics().borrow_watched().running_state.clone();
        running.err().map_or_else(|| "raft has ended".to_owned(), |fatal| fatal.to_string())
    }
}

impl Member {
    pub(crate) fn status(&self) -> wire::NodeStatusResponse {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let node_id = self.config.node_id;
        let voter = membership.voter_ids().any(|id| id == node_id);
        let applied = self.shared.applied();
        let index = |position: Option<crate::commit_log::LogPosition>| {
            position.map_or(0, |position| position.index)
        };
        // Raft's metrics begin at 0 and follow a moment behind; what the disk holds was promised
        // before. In a term that they do not know yet, this node neither leads nor knows who does.
        let promised = self.log.vote().map_or(0, |vote| vote.term);
        let behind = promised > metrics.current_term;
        let role = match metrics.state {
            openraft::ServerState::Leader if behind => "follower",
            openraft::ServerState::Leader => "leader",
            openraft::ServerState::Candidate => "candidate",
            openraft::ServerState::Follower => "follower",
            openraft::ServerState::Learner => "learner",
            openraft::ServerState::Shutdown => "stopped",
        };
        let trouble = match &metrics.running_state {
            Err(fatal) => fatal.to_string(),
            Ok(()) if !self.is_admitted() => "waiting to be admitted to the group".to_owned(),
            Ok(()) => String::new(),
        };
        wire::NodeStatusResponse {
            node_id,
            volume_id: self.volume_id.clone(),
            role: role.to_owned(),
            term: metrics.current_term.max(promised),
            leader_id: metrics.current_leader.filter(|_| !behind).unwrap_or(0),
            last_log_index: index(self.log.last()),
            commit_index: metrics.local_committed.map_or(0, |id| id.index),
            applied_index: index(applied.position),
            state_hash: applied.state_hash,
            raft_first_index: self.log.purged().map_or(0, |purged| purged.index + 1),
            message_first_index: self.log.message_first(),
            log_bytes: self.log.disk_bytes(),
            flush: self.config.flush.as_str().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            client_address: self.config.client_address.clone(),
            peer_address: self.own_peer_address(),
            trouble,
            snapshot_index: metrics.snapshot.map_or(0, |id| id.index),
            matched_index: metrics
                .replication
                .iter()
                .flatten()
                .map(|(node_id, matched)| (*node_id, matched.map_or(0, |id| id.index)))
                .collect(),
            membership: match (voter, membership.get_node(&node_id).is_some()) {
                (true, _) => "voter",
                (false, true) => "learner",
                (false, false) => "none",
            }
            .to_owned(),
        }
    }

    pub(crate) fn own_peer_address(&self) -> String {
        let own = self.config.members.iter().find(|(id, _)| *id == self.config.node_id);
        own.map_or_else(String::new, |(_, address)| address.clone())
    }
}

/// Refuses tables that are ahead of the log: Raft would take the log for one that a snapshot replaced,
/// and drop all of it, with the messages in it.
fn check_positions(log: &CommitLog, shared: &Shared) -> Result<(), StartError> {
    let next = log.last().map_or(0, |last| last.index + 1);
    match shared.applied().position {
        Some(applied) if applied.index >= next => {
            Err(StartError::LogBehindTables { next, applied: applied.index })
        }
        _ => Ok(()),
    }
}

/// Goes on with a snapshot that had arrived completely when the node went down.
async fn finish_install(
    log: &CommitLog,
    incoming: &Incoming,
    snapshots: &SnapshotDirectory,
) -> io::Result<()> {
    if let Some((_, files)) = incoming.complete()? {
        tracing::info!("going on with a snapshot that had arrived before the last stop");
        snapshots.keep(&files)?;
        if let Some(last) = files.meta()?.last_log_id {
            let last = types::position(&last);
            if log.last().is_none_or(|own| own.index < last.index) {
                incoming.adopt_frames(log, last).await?;
                log.purge(last).await?;
            }
        }
    }
    incoming.remove()
}

fn raft_config(config: &GroupConfig) -> Result<openraft::Config, StartError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: format!("{}/{}", config.cluster, config.group),
        heartbeat_interval: ms(config.heartbeat),
        election_timeout_min: ms(config.election.0),
        election_timeout_max: ms(config.election.1),
        enable_pre_vote: Some(true),
        // Entries are batches of up to 1 MiB; the reader bounds an append in bytes.
        max_payload_entries: 256,
        // Retention asks for a snapshot before it lets Raft forget; nothing else does.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: ms(SNAPSHOT_TIMEOUT),
        // A leader that restarts asks for votes: its state may be behind what it had acknowledged.
        enable_leader_restore: Some(false),
        backoff: "50ms 100ms 200ms ...1s".to_owned(),
        // A follower never loses what it acknowledged, but for bugs.
        allow_log_reversion: Some(
            planted(Bug::CommitWithoutMajority) || planted(Bug::EmptiedNodeVotes),
        ),
        ..Default::default()
    }
    .validate()
    .map_err(|error| StartError::Raft(error.to_string()))
}

fn group_hash(config: &GroupConfig) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{}/{}", config.cluster, config.group).as_bytes())
}

fn serve_peers(
    member: &Arc<Member>,
    listener: world::net::Listener,
    beside: Routes,
) -> io::Result<()> {
    let own = Addressee::new(group_hash(&member.config), member.config.node_id);
    let service = PeerServer::new(PeerService::new(member.clone(), own))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let _inside = member.runtime.enter();
    let incoming = world::net::incoming(listener)?;
    member.runtime.spawn(async move {
        let served = tonic::transport::Server::builder()
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .http2_keepalive_interval(Some(Duration::from_secs(2)))
            .http2_keepalive_timeout(Some(Duration::from_secs(3)))
            .add_routes(beside)
            .add_service(world::net::of_this_node(service))
            .serve_with_incoming(incoming)
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "peers are no longer served");
        }
    });
    Ok(())
}
