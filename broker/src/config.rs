//! What a broker node can be told. Every limit has a unit and a reason.
//!
//! Not here: reading files, flags and the environment (the `raftmq` binary does).

use std::path::PathBuf;
use std::time::Duration;

pub use raftmq_raft_store::FlushMode;

/// One node of a broker group.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster all groups belong to; the label `cluster` of every metric.
    pub cluster: String,
    /// Name of the broker group, for example `broker-a`.
    pub group: String,
    /// Number of this node within its group, 1 or more, never given to another node.
    pub node_id: u64,
    /// Directory that holds everything durable of this node.
    pub data_dir: PathBuf,
    /// All members of the group when it is first formed, this node included.
    pub members: Vec<Member>,
    /// Where clients connect.
    pub client_listen: String,
    /// `host:port` under which clients reach this node; goes into routes.
    pub client_advertise: String,
    /// Where the other nodes of the group connect.
    pub peer_listen: String,
    /// Where operators connect.
    pub admin_listen: String,
    /// Where metrics and probes are served.
    pub http_listen: String,
    /// `host:port` of every name server. Resolved anew on each reconnect.
    pub name_servers: Vec<String>,
    /// What the client port does about TLS.
    pub tls: Tls,
    /// What must be on disk before a message is acknowledged.
    pub flush: FlushMode,
    /// Size at which a segment of the commit log is closed.
    pub segment_bytes: u64,
    /// How long messages are kept, whether consumed or not.
    pub retention: Duration,
    /// Upper bound of the commit log on disk; the oldest segments go first. 0: no bound.
    pub retention_bytes: u64,
    /// How often retention looks.
    pub retention_interval: Duration,
    /// Longest time for which a message may be delayed.
    pub delay_max: Duration,
    /// How long a half message waits for its producer before it is asked, when it does not say.
    pub transaction_timeout: Duration,
    /// Time between two checks of a half message.
    pub transaction_check_interval: Duration,
    /// Checks without an answer after which a half message is rolled back.
    pub transaction_check_max: u32,
    /// Topics come into being when they are first asked for.
    pub auto_create_topics: bool,
    /// Consumer groups do.
    pub auto_create_groups: bool,
    /// Raft timing.
    pub timing: Timing,
}

/// A founding member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its node id.
    pub node_id: u64,
    /// `host:port` of its peer port.
    pub peer_address: String,
}

/// TLS on the client port. Plaintext is accepted on the same port in every case.
#[derive(Clone, Debug)]
pub enum Tls {
    /// Plaintext only.
    Off,
    /// A certificate made at start; official Java and Go clients accept it as they are.
    SelfSigned,
    /// PEM files.
    Files {
        /// The certificate chain.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// Raft timing. Elections are to be over well within a second, without flapping under load.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How often a leader shows that it is alive.
    pub heartbeat: Duration,
    /// Shortest silence after which a follower stands for election.
    pub election_min: Duration,
    /// Longest such silence, and the length of the leader's lease.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(450),
            election_max: Duration::from_millis(750),
        }
    }
}

impl Config {
    /// A node with the documented defaults, alone in its group, on the standard ports.
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
            delay_max: Duration::from_secs(10 * 365 * 86_400),
            transaction_timeout: Duration::from_secs(6),
            transaction_check_interval: Duration::from_secs(30),
            transaction_check_max: 15,
            auto_create_topics: false,
            auto_create_groups: false,
            timing: Timing::default(),
        }
    }

    /// The name this node has as a broker in routes: `<group>-<node id>`.
    pub fn broker_name(&self) -> String {
        format!("{}-{}", self.group, self.node_id)
    }
}
