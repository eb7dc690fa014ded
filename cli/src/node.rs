//! STUB until raftmq_broker::Broker exists.
use std::path::PathBuf;
use std::time::Duration;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    Sync,
    Async,
}
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: String,
    pub group: String,
    pub node_id: u64,
    pub data_dir: PathBuf,
    pub members: Vec<Member>,
    pub client_listen: String,
    pub client_advertise: String,
    pub peer_listen: String,
    pub admin_listen: String,
    pub http_listen: String,
    pub name_servers: Vec<String>,
    pub tls: Tls,
    pub flush: FlushMode,
    pub segment_bytes: u64,
    pub retention: Duration,
    pub retention_bytes: u64,
    pub retention_interval: Duration,
    pub timing: Timing,
    pub dedup_window: Duration,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub node_id: u64,
    pub peer_address: String,
}
#[derive(Clone, Debug)]
pub enum Tls {
    Off,
    SelfSigned,
    Files { certificate: PathBuf, key: PathBuf },
}
#[derive(Clone, Debug)]
pub struct Timing {
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}
impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
        }
    }
}
impl Config {
    pub fn broker_name(&self) -> String {
        format!("{}-{}", self.group, self.node_id)
    }
    pub fn single(data_dir: PathBuf) -> Self {
        Self {
            cluster: "DefaultCluster".to_owned(),
            group: "broker-a".to_owned(),
            node_id: 1,
            data_dir,
            members: vec![Member { node_id: 1, peer_address: "127.0.0.1:8082".to_owned() }],
            client_listen: "127.0.0.1:8081".to_owned(),
            client_advertise: "127.0.0.1:8081".to_owned(),
            peer_listen: "127.0.0.1:8082".to_owned(),
            admin_listen: "127.0.0.1:8083".to_owned(),
            http_listen: "127.0.0.1:8084".to_owned(),
            name_servers: Vec::new(),
            tls: Tls::SelfSigned,
            flush: FlushMode::Sync,
            segment_bytes: 64 << 20,
            retention: Duration::from_secs(72 * 3600),
            retention_bytes: 0,
            retention_interval: Duration::from_secs(30),
            timing: Timing::default(),
            dedup_window: Duration::from_secs(600),
        }
    }
}
pub struct Broker;
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct StartError;
impl Broker {
    pub async fn start(
        _: Config,
        _: metrics_exporter_prometheus::PrometheusHandle,
    ) -> Result<Self, StartError> {
        Ok(Self)
    }
    pub async fn ready(&self) {}
    pub async fn failed(&self) -> StartError {
        std::future::pending().await
    }
    pub async fn shutdown(self) {}
}
use raftmq_listener::Tls as L;
pub fn tls(t: L) -> Tls {
    match t {
        L::Off => Tls::Off,
        L::SelfSigned => Tls::SelfSigned,
        L::Files { certificate, key } => Tls::Files { certificate, key },
    }
}
pub fn listener_tls(t: &Tls) -> L {
    match t.clone() {
        Tls::Off => L::Off,
        Tls::SelfSigned => L::SelfSigned,
        Tls::Files { certificate, key } => L::Files { certificate, key },
    }
}
