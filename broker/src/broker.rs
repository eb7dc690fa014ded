//! Wiring: build a node, start it, stop it in order. The only place where everything meets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::RwLock;
use raftmq_listener::Listener;
use raftmq_listener::TlsError;
use raftmq_proto::raftmq::admin_server::AdminServer;
use raftmq_proto::raftmq::connections_server::ConnectionsServer;
use raftmq_proto::v2::messaging_service_server::MessagingServiceServer;
use raftmq_raft_store::GroupConfig;
use raftmq_raft_store::Leadership;
use raftmq_raft_store::RaftGroup;
use raftmq_raft_store::apply::Apply;
use raftmq_raft_store::commit_log::FatalHandler;
use raftmq_raft_store::world::net;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::clients::Clients;
use crate::config::Config;
use crate::config::Tls;
use crate::end::end_process;
use crate::node::Node;
use crate::proposer::Proposer;
use crate::receive::Lanes;
use crate::registrar;
use crate::retention;
use crate::rpc::AdminService;
use crate::rpc::ConnectionsService;
use crate::rpc::MessagingService;
use crate::rpc::router;
use crate::state::Applier;
use crate::state::Event;
use crate::state::State;
use crate::timers;
use crate::upkeep;

/// Largest request of a client: a send of several bodies.
const REQUEST_BYTES_MAX: usize = 130 << 20;
/// Calls one connection may have under way.
const STREAMS_MAX: u32 = 4096;
/// How long a stopping node goes on answering what is under way.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listening address can not be used.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data or the group.
    #[error(transparent)]
    Group(#[from] raftmq_raft_store::StartError),
}

/// A running broker node.
pub struct Broker {
    node: Node,
    group: RaftGroup,
    stop: CancellationToken,
    tasks: TaskTracker,
    client_address: SocketAddr,
    admin_address: SocketAddr,
    http_address: SocketAddr,
}

impl Broker {
    /// Starts a node; returns when it listens. See [`Self::ready`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config, metrics: PrometheusHandle) -> Result<Self, StartError> {
        describe_metrics();
        let config = Arc::new(config);
        let stop = CancellationToken::new();
        let on_fatal: FatalHandler = Arc::new(|error| {
            // The page cache can not be trusted after this; the others go on without this node.
            end_process(&format!("the commit log could not be written: {error}"));
        });
        let machine = |applier| Box::new(applier) as Box<dyn Apply>;
        let (node, group) = assemble(config.clone(), on_fatal, machine, stop.clone()).await?;

        // Not before the data is open: who is let in must be answered, and who is refused goes to
        // another node at once.
        let peers = net::Listener::bind(&config.peer_listen)
            .map_err(|source| listen_error(&config.peer_listen, source))?;
        let admin = admin_listener(&config).await?;
        let http = bind(&config.http_listen).await?;
        let client = client_listener(&config).await?;
        let addresses = (client.local_addr(), admin.local_addr(), http.local_addr());

        let admin_service = AdminServer::new(AdminService::new(node.clone()));
        let connections = ConnectionsServer::new(ConnectionsService(node.clone()));
        let beside = Routes::new(admin_service.clone()).add_service(connections);
        group
            .serve_peers(peers, beside)
            .map_err(|source| listen_error(&config.peer_listen, source))?;
        let tasks = TaskTracker::new();
        tasks.spawn(wake_receives(node.clone(), stop.clone()));
        tasks.spawn(upkeep::run(node.clone(), stop.clone()));
        tasks.spawn(retention::run(node.clone(), stop.clone()));
        tasks.spawn(timers::run(node.clone(), stop.clone()));
        for name_server in &config.name_servers {
            tasks.spawn(registrar::run(node.clone(), name_server.clone(), stop.clone()));
        }
        tasks.spawn(serve_clients(node.clone(), client, stop.clone()));
        tasks.spawn(serve_operators(admin_service, admin, stop.clone()));
        tasks.spawn(serve_http(node.clone(), http, metrics, stop.clone()));
        tasks.close();
        let unknown = |source| listen_error(&config.client_listen, source);
        Ok(Self {
            node,
            group,
            stop,
            tasks,
            client_address: addresses.0.map_err(unknown)?,
            admin_address: addresses.1.map_err(unknown)?,
            http_address: addresses.2.map_err(unknown)?,
        })
    }

    /// Where clients connect.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where metrics and probes are served.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Resolves when the group has a leader that serves.
    pub async fn ready(&self) {
        let mut leadership = self.node.leadership.clone();
        // An error means that the group ended; `failed` tells.
        let _ = leadership.wait_for(|now| *now != Leadership::None).await;
    }

    /// Resolves when the node has ended by itself, with the reason. The process must end then.
    pub async fn failed(&self) -> String {
        self.node.group.failed().await
    }

    /// Hands leadership over, answers what is under way, stops.
    pub async fn shutdown(self) {
        self.node.group.hand_over().await;
        self.stop().await;
    }

    /// Stops without handing leadership over: for when the whole group stops.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(waited_s = DRAIN.as_secs(), "some calls were still under way");
        }
        self.group.shutdown().await;
    }
}

/// A node that takes part in its group as soon as peers are served, and serves nobody yet.
pub(crate) async fn assemble(
    config: Arc<Config>,
    on_fatal: FatalHandler,
    machine: impl FnOnce(Applier) -> Box<dyn Apply>,
    stop: CancellationToken,
) -> Result<(Node, RaftGroup), StartError> {
    let state = Arc::new(RwLock::new(State::default()));
    let applier = Applier::new(state.clone());
    let events = applier.events();
    let next_due = applier.next_due();
    let group = RaftGroup::start(group_config(&config, on_fatal), |_| machine(applier)).await?;
    let proposer = Proposer::start(group.handle(), state.clone());
    let node = Node {
        config,
        group: group.handle(),
        leadership: group.leadership(),
        state,
        proposer,
        clients: Arc::new(Clients::new()),
        lanes: Arc::new(Lanes::default()),
        events,
        next_due,
        stop,
    };
    Ok((node, group))
}

fn group_config(config: &Config, on_fatal: FatalHandler) -> GroupConfig {
    let members =
        config.members.iter().map(|member| (member.node_id, member.peer_address.clone())).collect();
    GroupConfig {
        cluster: config.cluster.clone(),
        group: config.group.clone(),
        node_id: config.node_id,
        directory: config.data_dir.clone(),
        members,
        client_address: config.client_advertise.clone(),
        flush: config.flush,
        segment_bytes: config.segment_bytes,
        heartbeat: config.timing.heartbeat,
        election: (config.timing.election_min, config.timing.election_max),
        on_fatal,
    }
}

async fn bind(address: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| listen_error(address, source))
}

async fn client_listener(config: &Config) -> Result<Listener, StartError> {
    let tls = match &config.tls {
        Tls::Off => raftmq_listener::Tls::Off,
        Tls::SelfSigned => raftmq_listener::Tls::SelfSigned,
        Tls::Files { certificate, key } => {
            raftmq_listener::Tls::Files { certificate: certificate.clone(), key: key.clone() }
        }
    };
    let host = config.client_advertise.rsplit_once(':').map_or("", |(host, _)| host);
    let names = [host.to_owned()];
    let tls = tls.server_config(&names)?;
    Listener::bind(&config.client_listen, tls)
        .await
        .map_err(|source| listen_error(&config.client_listen, source))
}

async fn admin_listener(config: &Config) -> Result<Listener, StartError> {
    let address = &config.admin_listen;
    let listener = Listener::bind(address, None).await;
    let listener = listener.map_err(|source| listen_error(address, source))?;
    // Otherwise its connections would count as those of clients.
    Ok(listener.labels(vec![metrics::Label::from_static_parts("port", "admin")]))
}

fn listen_error(address: &str, source: io::Error) -> StartError {
    StartError::Listen { address: address.to_owned(), source }
}

/// Wakes receives that wait for messages when some were stored.
pub(crate) async fn wake_receives(node: Node, stop: CancellationToken) {
    let mut events = node.events.subscribe();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => event,
        };
        // One that fell behind is made up for by the receives' own looks.
        if let Ok(Event::Stored(topic_ids)) = event {
            node.lanes.wake(&topic_ids);
        }
    }
}

async fn serve_clients(node: Node, listener: Listener, stop: CancellationToken) {
    let (health, health_service) = tonic_health::server::health_reporter();
    let messaging = MessagingServiceServer::new(MessagingService::new(node.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX);
    health.set_serving::<MessagingServiceServer<MessagingService>>().await;
    let mut server = Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(Some(STREAMS_MAX))
        // Many calls of one client may time out together; that is no attack.
        .http2_max_pending_accept_reset_streams(Some(STREAMS_MAX as usize))
        // A client whose host vanished must not count as alive for ever.
        .http2_keepalive_interval(Some(Duration::from_secs(15)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(messaging)
        .add_service(health_service);
    if let Ok(reflection) = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(raftmq_proto::DESCRIPTORS)
        .build_v1()
    {
        server = server.add_service(reflection);
    }
    let served =
        server.serve_with_incoming_shutdown(listener.into_incoming(), stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "clients are no longer served");
    }
}

async fn serve_operators(
    service: AdminServer<AdminService>,
    listener: Listener,
    stop: CancellationToken,
) {
    let served = Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(listener.into_incoming(), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "operators are no longer served");
    }
}

async fn serve_http(
    node: Node,
    listener: TcpListener,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) {
    let served = axum::serve(listener, router(node, metrics))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics and probes are no longer served");
    }
}

fn describe_metrics() {
    metrics::describe_histogram!("raftmq_log_flush_seconds", "time of one fdatasync");
    metrics::describe_histogram!(
        "raftmq_delay_lateness_seconds",
        "time from when a delayed message was due until it came into its queue"
    );
    metrics::describe_histogram!("raftmq_commands_per_entry", "commands that shared a log entry");
    metrics::describe_histogram!("raftmq_log_appends_per_flush", "appends that shared a flush");
    metrics::describe_counter!("raftmq_leader_changes_total", "changes of leadership seen");
}
