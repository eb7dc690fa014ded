//! Wiring: binds the ports, starts the tasks, stops them in order.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use raftmq_listener::Listener;
use raftmq_listener::TlsError;
use raftmq_proto::DESCRIPTORS;
use raftmq_proto::raftmq::name_server_server::NameServerServer;
use raftmq_proto::v2::messaging_service_server::MessagingServiceServer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::config::Config;
use crate::http;
use crate::metrics;
use crate::rpc::Messaging;
use crate::rpc::Registry;
use crate::rpc::Relay;
use crate::rpc::SharedTable;

/// A request of a client is a name or two.
const QUERY_BYTES_MAX: usize = 64 << 10;
/// A heartbeat carries all topics of a group: some 100,000 with names of ordinary length.
const REGISTER_BYTES_MAX: usize = 16 << 20;
/// Answers: a client that is told more queues than this can not be helped.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Calls under way on one connection; each is answered from memory at once.
const STREAMS_MAX: u32 = 1_024;
/// Header bytes of one call; credentials and tokens fit in a fraction.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// How often a silent client is asked whether it is there, and how long it has to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// How often expired routes are dropped. Queries do not depend on it: they look at the time.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a stop waits for calls under way; only a health watch lasts longer than a moment.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A running name server. Dropping it stops it at once, [`NameServer::shutdown`] in order.
pub struct NameServer {
    client_address: SocketAddr,
    http_address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Why a name server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate of the client port is missing or unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port can not be had.
    #[error("could not listen on {address} for {purpose}: {source}")]
    Bind {
        /// What was configured.
        address: String,
        /// `clients` or `metrics and probes`.
        purpose: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The descriptors for gRPC reflection do not decode: a broken build.
    #[error("could not set up gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl NameServer {
    /// Binds both ports and serves on them. `metrics` is what `/metrics` renders: the process has
    /// one recorder, which its binary installs.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running.
    pub async fn start(config: Config, metrics: PrometheusHandle) -> Result<Self, StartError> {
        metrics::describe();
        let tls = config.tls.server_config(&config.tls_names)?;
        let clients = Listener::bind(&config.listen, tls)
            .await
            .map_err(bind_error(&config.listen, "clients"))?
            .labels(vec![::metrics::Label::from_static_parts("port", "namesrv")]);
        let http = TcpListener::bind(&config.http_listen)
            .await
            .map_err(bind_error(&config.http_listen, "metrics and probes"))?;
        let client_address = clients.local_addr().map_err(bind_error(&config.listen, "clients"))?;
        let http_address =
            http.local_addr().map_err(bind_error(&config.http_listen, "metrics and probes"))?;

        let table = SharedTable::default();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_clients(clients, routes(table.clone()).await?, stop.clone()));
        tasks.spawn(serve_http(http, http::router(metrics), stop.clone()));
        tasks.spawn(expire(table, stop.clone()));
        info!(%client_address, %http_address, "name server started");
        Ok(Self { client_address, http_address, stop, tasks })
    }

    /// Where clients and leaders connect, with the real port.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where metrics and probes are served, with the real port.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Stops accepting, lets calls under way end for up to two seconds, and stops.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            warn!(timeout = ?DRAIN_TIMEOUT, "calls were still under way, cutting them off");
        }
        self.tasks.shutdown().await;
    }
}

fn bind_error(address: &str, purpose: &'static str) -> impl FnOnce(io::Error) -> StartError {
    let address = address.to_owned();
    move |source| StartError::Bind { address, purpose, source }
}

/// Every service of the client port.
async fn routes(table: SharedTable) -> Result<tonic::service::Routes, StartError> {
    let messaging = Messaging { table: table.clone(), relay: Relay::default() };
    let messaging = MessagingServiceServer::new(messaging)
        .max_decoding_message_size(QUERY_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let registry = NameServerServer::new(Registry { table })
        .max_decoding_message_size(REGISTER_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<MessagingServiceServer<Messaging>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut routes = tonic::service::Routes::builder();
    routes.add_service(messaging).add_service(registry).add_service(health).add_service(reflection);
    Ok(routes.routes())
}

async fn serve_clients(
    listener: Listener,
    routes: tonic::service::Routes,
    stop: CancellationToken,
) {
    let (interval, timeout) = KEEPALIVE;
    let served = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(interval))
        .http2_keepalive_timeout(Some(timeout))
        .add_routes(routes)
        .serve_with_incoming_shutdown(listener.into_incoming(), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(%error, "the client port ended");
    }
}

async fn serve_http(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        error!(%error, "the HTTP port ended");
    }
}

async fn expire(table: SharedTable, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EXPIRE_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for group in table.write(|table, now| table.expire(now)) {
            warn!(group, "route dropped: its leader has stopped sending heartbeats");
        }
    }
}
