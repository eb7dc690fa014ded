//! The keys of a broker node.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use raftmq_broker::Config;
use raftmq_broker::FlushMode;
use raftmq_broker::Member;
use raftmq_broker::Timing;
use raftmq_listener::Tls;
use serde::Deserialize;
use serde::Serialize;

use super::ConfigArgs;
use super::TlsMode;
use super::first_set;
use super::host;
use super::is_wildcard;
use super::read_file;
use super::tls;
use super::to_toml;
use super::without_blanks;
use crate::exit::Failure;

/// What a broker node can be told. All unset is a group of one on loopback.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerKeys {
    /// Name of the cluster that all broker groups belong to [default: DefaultCluster]
    #[arg(long, env = "RAFTMQ_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,

    /// Name of this broker group [default: broker-a]
    #[arg(long, env = "RAFTMQ_GROUP", value_name = "NAME")]
    pub group: Option<String>,

    /// Number of this node in its group, 1 or more, never given to another node [default: 1]
    #[arg(long, env = "RAFTMQ_NODE_ID", value_name = "NUMBER")]
    pub node_id: Option<u64>,

    /// Directory for everything durable of this node [default: ./data]
    #[arg(long, env = "RAFTMQ_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Founding members and their peer ports, this node included [default: this node alone]
    #[arg(long, env = "RAFTMQ_MEMBERS", value_name = "ID=HOST:PORT", value_delimiter = ',')]
    pub members: Option<Vec<String>>,

    /// Where clients connect [default: 127.0.0.1:8081]
    #[arg(long, env = "RAFTMQ_CLIENT_LISTEN", value_name = "HOST:PORT")]
    pub client_listen: Option<String>,

    /// Where clients reach this node; goes into routes [default: as client_listen]
    #[arg(long, env = "RAFTMQ_CLIENT_ADVERTISE", value_name = "HOST:PORT")]
    pub client_advertise: Option<String>,

    /// Where the other nodes of the group connect [default: 127.0.0.1:8082]
    #[arg(long, env = "RAFTMQ_PEER_LISTEN", value_name = "HOST:PORT")]
    pub peer_listen: Option<String>,

    /// Where operators connect [default: 127.0.0.1:8083]
    #[arg(long, env = "RAFTMQ_ADMIN_LISTEN", value_name = "HOST:PORT")]
    pub admin_listen: Option<String>,

    /// Where metrics and probes are served [default: 127.0.0.1:8084]
    #[arg(long, env = "RAFTMQ_HTTP_LISTEN", value_name = "HOST:PORT")]
    pub http_listen: Option<String>,

    /// All name servers [default: none]
    #[arg(long, env = "RAFTMQ_NAME_SERVERS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub name_servers: Option<Vec<String>>,

    /// What the client port does about TLS [default: self-signed]
    #[arg(long, env = "RAFTMQ_TLS", value_enum, value_name = "MODE")]
    pub tls: Option<TlsMode>,

    /// PEM file with the certificate chain [default: none]
    #[arg(long, env = "RAFTMQ_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,

    /// PEM file with the private key [default: none]
    #[arg(long, env = "RAFTMQ_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// What must be on the disks of a majority before a message is acknowledged [default: sync]
    #[arg(long, env = "RAFTMQ_FLUSH", value_enum, value_name = "MODE")]
    pub flush: Option<Flush>,

    /// Size at which a segment of the commit log is closed [default: 67108864]
    #[arg(long, env = "RAFTMQ_SEGMENT_BYTES", value_name = "BYTES")]
    pub segment_bytes: Option<u64>,

    /// How long messages are kept, whether consumed or not [default: 259200000]
    #[arg(long, env = "RAFTMQ_RETENTION_MS", value_name = "MS")]
    pub retention_ms: Option<u64>,

    /// Most the commit log may take, the oldest goes first; 0 is no bound [default: 0]
    #[arg(long, env = "RAFTMQ_RETENTION_BYTES", value_name = "BYTES")]
    pub retention_bytes: Option<u64>,

    /// How often retention looks [default: 30000]
    #[arg(long, env = "RAFTMQ_RETENTION_INTERVAL_MS", value_name = "MS")]
    pub retention_interval_ms: Option<u64>,

    /// When producers are asked about a transaction, unless its message says [default: 6000]
    #[arg(long, env = "RAFTMQ_TRANSACTION_TIMEOUT_MS", value_name = "MS")]
    pub transaction_timeout_ms: Option<u64>,

    /// When producers that gave no answer are asked again [default: 30000]
    #[arg(long, env = "RAFTMQ_TRANSACTION_CHECK_INTERVAL_MS", value_name = "MS")]
    pub transaction_check_interval_ms: Option<u64>,

    /// How often they are asked before the transaction is rolled back [default: 15]
    #[arg(long, env = "RAFTMQ_TRANSACTION_CHECK_MAX", value_name = "COUNT")]
    pub transaction_check_max: Option<u32>,

    /// How far ahead a message may be delayed [default: 315360000000]
    #[arg(long, env = "RAFTMQ_DELAY_MAX_MS", value_name = "MS")]
    pub delay_max_ms: Option<u64>,

    /// Make topics that do not exist when they are first asked for [default: false]
    #[arg(long, env = "RAFTMQ_AUTO_CREATE_TOPICS", value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub auto_create_topics: Option<bool>,

    /// Make consumer groups that do not exist when they are first asked for [default: false]
    #[arg(long, env = "RAFTMQ_AUTO_CREATE_GROUPS", value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub auto_create_groups: Option<bool>,

    /// How often a leader shows that it is alive [default: 150]
    #[arg(long, env = "RAFTMQ_HEARTBEAT_MS", value_name = "MS")]
    pub heartbeat_ms: Option<u64>,

    /// Shortest silence after which a follower stands for election [default: 450]
    #[arg(long, env = "RAFTMQ_ELECTION_MIN_MS", value_name = "MS")]
    pub election_min_ms: Option<u64>,

    /// Longest such silence, and the length of the leader's lease [default: 750]
    #[arg(long, env = "RAFTMQ_ELECTION_MAX_MS", value_name = "MS")]
    pub election_max_ms: Option<u64>,
}

/// What must have happened before a message is acknowledged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Flush {
    /// On the disks of a majority
    Sync,
    /// In the memory of a majority, on disk a moment later
    Async,
}

impl BrokerKeys {
    /// These keys over those in the file.
    pub fn with_file(self, from: &ConfigArgs) -> Result<Self, Failure> {
        let file: Self = read_file(from.config.as_deref())?;
        Ok(first_set!(self, file;
            cluster, group, node_id, data_dir, members,
            client_listen, client_advertise, peer_listen, admin_listen, http_listen, name_servers,
            tls, tls_certificate, tls_key,
            flush, segment_bytes, retention_ms, retention_bytes, retention_interval_ms,
            transaction_timeout_ms, transaction_check_interval_ms, transaction_check_max,
            delay_max_ms, auto_create_topics, auto_create_groups,
            heartbeat_ms, election_min_ms, election_max_ms,
        ))
    }

    /// Fills in the defaults and checks what can be checked without starting.
    pub fn into_config(self) -> Result<Config, Failure> {
        let data_dir = self.data_dir.clone().unwrap_or_else(|| PathBuf::from("./data"));
        let defaults = Config::single(data_dir);
        let client_listen = self.client_listen.clone().unwrap_or(defaults.client_listen);
        let client_advertise = advertised(self.client_advertise.clone(), &client_listen)?;
        let peer_listen = self.peer_listen.clone().unwrap_or(defaults.peer_listen);
        let node_id = self.node_id.unwrap_or(defaults.node_id);
        let members = match self.members.clone().map(without_blanks) {
            Some(members) if !members.is_empty() => parse_members(&members, node_id)?,
            _ => vec![alone(node_id, &client_advertise, &peer_listen)?],
        };
        let config = Config {
            cluster: self.cluster.clone().unwrap_or(defaults.cluster),
            group: self.group.clone().unwrap_or(defaults.group),
            node_id,
            data_dir: defaults.data_dir,
            members,
            client_listen,
            client_advertise,
            peer_listen,
            admin_listen: self.admin_listen.clone().unwrap_or(defaults.admin_listen),
            http_listen: self.http_listen.clone().unwrap_or(defaults.http_listen),
            name_servers: self.name_servers.clone().map_or(defaults.name_servers, without_blanks),
            tls: broker_tls(tls(self.tls, self.tls_certificate.clone(), self.tls_key.clone())?),
            flush: self.flush.map_or(defaults.flush, Flush::mode),
            segment_bytes: self.segment_bytes.unwrap_or(defaults.segment_bytes),
            retention: ms(self.retention_ms, defaults.retention),
            retention_bytes: self.retention_bytes.unwrap_or(defaults.retention_bytes),
            retention_interval: ms(self.retention_interval_ms, defaults.retention_interval),
            transaction_timeout: ms(self.transaction_timeout_ms, defaults.transaction_timeout),
            transaction_check_interval: ms(
                self.transaction_check_interval_ms,
                defaults.transaction_check_interval,
            ),
            transaction_check_max: self
                .transaction_check_max
                .unwrap_or(defaults.transaction_check_max),
            delay_max: ms(self.delay_max_ms, defaults.delay_max),
            auto_create_topics: self.auto_create_topics.unwrap_or(defaults.auto_create_topics),
            auto_create_groups: self.auto_create_groups.unwrap_or(defaults.auto_create_groups),
            timing: self.timing(defaults.timing),
        };
        check(&config)?;
        Ok(config)
    }

    fn timing(&self, defaults: Timing) -> Timing {
        Timing {
            heartbeat: ms(self.heartbeat_ms, defaults.heartbeat),
            election_min: ms(self.election_min_ms, defaults.election_min),
            election_max: ms(self.election_max_ms, defaults.election_max),
        }
    }
}

impl Flush {
    fn mode(self) -> FlushMode {
        match self {
            Flush::Sync => FlushMode::Sync,
            Flush::Async => FlushMode::Async,
        }
    }
}

/// The configuration as TOML, every key spelled out.
pub fn to_file(config: &Config) -> Result<String, Failure> {
    let (tls, tls_certificate, tls_key) = super::tls_keys(&listener_tls(&config.tls));
    let member = |member: &Member| format!("{}={}", member.node_id, member.peer_address);
    let ms = |duration: Duration| Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    to_toml(&BrokerKeys {
        cluster: Some(config.cluster.clone()),
        group: Some(config.group.clone()),
        node_id: Some(config.node_id),
        data_dir: Some(config.data_dir.clone()),
        members: Some(config.members.iter().map(member).collect()),
        client_listen: Some(config.client_listen.clone()),
        client_advertise: Some(config.client_advertise.clone()),
        peer_listen: Some(config.peer_listen.clone()),
        admin_listen: Some(config.admin_listen.clone()),
        http_listen: Some(config.http_listen.clone()),
        name_servers: Some(config.name_servers.clone()),
        tls: Some(tls),
        tls_certificate,
        tls_key,
        flush: Some(match config.flush {
            FlushMode::Sync => Flush::Sync,
            FlushMode::Async => Flush::Async,
        }),
        segment_bytes: Some(config.segment_bytes),
        retention_ms: ms(config.retention),
        retention_bytes: Some(config.retention_bytes),
        retention_interval_ms: ms(config.retention_interval),
        transaction_timeout_ms: ms(config.transaction_timeout),
        transaction_check_interval_ms: ms(config.transaction_check_interval),
        transaction_check_max: Some(config.transaction_check_max),
        delay_max_ms: ms(config.delay_max),
        auto_create_topics: Some(config.auto_create_topics),
        auto_create_groups: Some(config.auto_create_groups),
        heartbeat_ms: ms(config.timing.heartbeat),
        election_min_ms: ms(config.timing.election_min),
        election_max_ms: ms(config.timing.election_max),
    })
}

fn broker_tls(tls: Tls) -> raftmq_broker::Tls {
    match tls {
        Tls::Off => raftmq_broker::Tls::Off,
        Tls::SelfSigned => raftmq_broker::Tls::SelfSigned,
        Tls::Files { certificate, key } => raftmq_broker::Tls::Files { certificate, key },
    }
}

fn listener_tls(tls: &raftmq_broker::Tls) -> Tls {
    match tls.clone() {
        raftmq_broker::Tls::Off => Tls::Off,
        raftmq_broker::Tls::SelfSigned => Tls::SelfSigned,
        raftmq_broker::Tls::Files { certificate, key } => Tls::Files { certificate, key },
    }
}

fn ms(value: Option<u64>, default: Duration) -> Duration {
    value.map_or(default, Duration::from_millis)
}

/// What clients are told to connect to.
fn advertised(configured: Option<String>, listen: &str) -> Result<String, Failure> {
    let advertise = configured.unwrap_or_else(|| listen.to_owned());
    if is_wildcard(host("client_advertise", &advertise)?) {
        let message = format!("clients can not connect to {advertise}");
        return Err(Failure::usage(message).hint(
            "set client_advertise to the host and port under which clients reach this node",
        ));
    }
    Ok(advertise)
}

fn parse_members(members: &[String], node_id: u64) -> Result<Vec<Member>, Failure> {
    let mut parsed: Vec<Member> = Vec::new();
    for text in members {
        let wrong = || Failure::usage(format!("members has {text:?}, write ID=HOST:PORT"));
        let (id, address) = text.split_once('=').ok_or_else(wrong)?;
        let member = Member {
            node_id: id.trim().parse().map_err(|_| wrong())?,
            peer_address: address.trim().to_owned(),
        };
        if is_wildcard(host("members", &member.peer_address)?) {
            let message = format!("members has {text:?}, which nobody can connect to");
            return Err(Failure::usage(message));
        }
        if parsed.iter().any(|other| other.node_id == member.node_id) {
            return Err(Failure::usage(format!("members has node {id} twice")));
        }
        parsed.push(member);
    }
    if !parsed.iter().any(|member| member.node_id == node_id) {
        let message = format!("members has no node {node_id}, which is this node (node_id)");
        return Err(Failure::usage(message));
    }
    Ok(parsed)
}

/// A group of one: its peer port under the host by which clients know it, so that others can join.
fn alone(node_id: u64, client_advertise: &str, peer_listen: &str) -> Result<Member, Failure> {
    let peer_host = host("peer_listen", peer_listen)?;
    let peer_address = match is_wildcard(peer_host) {
        false => peer_listen.to_owned(),
        true => {
            let host = host("client_advertise", client_advertise)?;
            peer_listen.replacen(peer_host, host, 1)
        }
    };
    Ok(Member { node_id, peer_address })
}

fn check(config: &Config) -> Result<(), Failure> {
    if config.node_id == 0 {
        return Err(Failure::usage("node_id is 0, nodes are counted from 1"));
    }
    for (key, address) in [
        ("client_listen", &config.client_listen),
        ("peer_listen", &config.peer_listen),
        ("admin_listen", &config.admin_listen),
        ("http_listen", &config.http_listen),
    ] {
        host(key, address)?;
    }
    for address in &config.name_servers {
        host("name_servers", address)?;
    }
    for (key, value) in [
        ("transaction_timeout_ms", config.transaction_timeout),
        ("transaction_check_interval_ms", config.transaction_check_interval),
        ("delay_max_ms", config.delay_max),
    ] {
        if value.is_zero() {
            return Err(Failure::usage(format!("{key} is 0, it must be 1 or more")));
        }
    }
    let Timing { heartbeat, election_min, election_max } = config.timing;
    if !(Duration::ZERO < heartbeat && heartbeat < election_min && election_min < election_max) {
        return Err(Failure::usage(format!(
            "heartbeat_ms {}, election_min_ms {} and election_max_ms {} must grow in this order",
            heartbeat.as_millis(),
            election_min.as_millis(),
            election_max.as_millis()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        from: ConfigArgs,
        #[command(flatten)]
        keys: BrokerKeys,
    }

    fn parse(flags: &[&str]) -> Flags {
        Flags::try_parse_from([&["broker"], flags].concat()).unwrap()
    }

    fn config(flags: &[&str]) -> Result<Config, String> {
        parse(flags).keys.into_config().map_err(|failure| failure.to_string())
    }

    #[test]
    fn no_keys_give_the_documented_defaults() {
        let config = BrokerKeys::default().into_config().unwrap();
        let printed = to_file(&config).unwrap();
        assert_eq!(printed, to_file(&Config::single("./data".into())).unwrap());
        // The one default that is said in words.
        let documented = printed.replace(
            "client_advertise = \"127.0.0.1:8081\"",
            "client_advertise = \"as client_listen\"",
        );
        super::super::assert_documented::<BrokerKeys>(&documented);
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "node_id = 2\nsegment_bytes = 1024\nname_servers = [\"a:1\"]").unwrap();
        writeln!(file, "members = [\"2=b:8082\"]").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let flags = parse(&["--config", &path, "--segment-bytes", "2048"]);
        let config = flags.keys.with_file(&flags.from).unwrap().into_config().unwrap();
        assert_eq!(config.node_id, 2);
        assert_eq!(config.segment_bytes, 2048);
        assert_eq!(config.name_servers, ["a:1"]);
        assert_eq!(config.group, "broker-a");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "segment_byte = 1").unwrap();
        let from = ConfigArgs { config: Some(file.path().to_owned()), print_config: false };
        let error = BrokerKeys::default().with_file(&from).unwrap_err().to_string();
        assert!(error.contains("unknown field `segment_byte`"), "{error}");
        assert!(error.contains("segment_bytes"), "{error}");
    }

    #[test]
    fn what_is_printed_gives_the_same_configuration() {
        let flags = [
            "--members=1=a:1,2=b:2,3=c:3",
            "--node-id=2",
            "--client-advertise=broker-2:8081",
            "--name-servers=n1:1,n2:2",
            "--flush=async",
            "--tls=off",
            "--heartbeat-ms=10",
            "--election-min-ms=20",
            "--election-max-ms=30",
        ];
        let printed = to_file(&config(&flags).unwrap()).unwrap();
        let again: BrokerKeys = toml::from_str(&printed).unwrap();
        assert_eq!(to_file(&again.into_config().unwrap()).unwrap(), printed);
        assert!(printed.contains("members = [\"1=a:1\", \"2=b:2\", \"3=c:3\"]"), "{printed}");
    }

    #[test]
    fn a_node_that_listens_everywhere_must_say_where_it_is() {
        let error = config(&["--client-listen=0.0.0.0:8081"]).unwrap_err();
        assert!(error.contains("set client_advertise"), "{error}");
        let flags = [
            "--client-listen=0.0.0.0:8081",
            "--client-advertise=host:9",
            "--peer-listen=0.0.0.0:8082",
        ];
        let alone = config(&flags).unwrap();
        assert_eq!(alone.members[0].peer_address, "host:8082");
    }

    #[test]
    fn members_are_checked() {
        for (members, problem) in [
            ("1", "ID=HOST:PORT"),
            ("x=a:1", "ID=HOST:PORT"),
            ("1=a", "host:port"),
            ("1=a:1,1=b:2", "twice"),
            ("2=a:1", "no node 1"),
            ("1=0.0.0.0:1", "nobody can connect"),
        ] {
            let error = config(&[&format!("--members={members}")]).unwrap_err();
            assert!(error.contains(problem), "{members}: {error}");
        }
    }

    #[test]
    fn transactions_and_delays_have_limits() {
        let config_of = |flags: &[&str]| config(flags).unwrap();
        let set = config_of(&["--transaction-check-max=0", "--delay-max-ms=1000"]);
        assert_eq!(set.transaction_check_max, 0);
        assert_eq!(set.delay_max, Duration::from_secs(1));
        let error = config(&["--transaction-check-interval-ms=0"]).unwrap_err();
        assert!(error.contains("transaction_check_interval_ms is 0"), "{error}");
    }

    #[test]
    fn what_is_made_unasked_is_said_with_or_without_a_value() {
        let both = |flags: &[&str]| {
            let config = config(flags).unwrap();
            (config.auto_create_topics, config.auto_create_groups)
        };
        assert_eq!(both(&[]), (false, false));
        assert_eq!(both(&["--auto-create-topics", "--auto-create-groups=true"]), (true, true));
        assert_eq!(both(&["--auto-create-topics=false", "--auto-create-groups"]), (false, true));
    }

    #[test]
    fn times_must_grow() {
        let error = config(&["--heartbeat-ms=450"]).unwrap_err();
        assert!(error.contains("must grow in this order"), "{error}");
        assert!(config(&["--node-id=0", "--members=0=a:1"]).is_err());
    }
}
