//! An Apache RocketMQ cluster of real processes on loopback, to be held beside RaftMQ: three name
//! servers with a controller in each, three brokers of one replica group in controller mode, one
//! proxy that speaks gRPC with clients.
//!
//! - [`servers`]: the released servers, fetched by `rocketmq/pom.xml`. Nothing of theirs is kept here.
//! - [`config`]: what they are told.
//! - [`remoting`], [`replicas`], [`stored`]: what they are asked, in their own protocol.
//!
//! Invariants: who is master is the controller's word, never a guess; what is not said in [`config`]
//! has Apache's default.
//!
//! Not here: faults of anything but brokers. Name servers, controllers and the proxy stay up.

pub mod config;
pub mod remoting;
pub mod replicas;
pub mod servers;
pub mod stored;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use self::config::{CLUSTER, GROUP, Ports, Setting};
use self::remoting::{Answer, Request, SUCCESS};
use self::replicas::Replicas;
use self::servers::{Kind, Servers};
use crate::driver_log::Stored;
use crate::place::free_port;
use crate::process::Process;
use crate::until;

const NAME_SERVERS: usize = 3;
const BROKERS: usize = 3;
const QUEUES: u32 = 8;

/// Java needs its time to start, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Longer than an election of controllers and one of a master.
const MASTER_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(90);
/// How Java ends after SIGTERM: 128 and the number of the signal.
const TERMINATED: i32 = 143;

/// Codes of answers to a pull.
const NOT_FOUND: i64 = 19;
const OFFSET_MOVED: i64 = 21;
/// A pull whose header has the filter.
const WITH_SUBSCRIPTION: u32 = 4;

/// The processes; brokers are numbered from 0.
pub struct Cluster {
    servers: Servers,
    directory: PathBuf,
    ports: Ports,
    // In the order in which they are killed at the end: clients' side first.
    proxy: Option<Process>,
    brokers: Vec<Option<Process>>,
    name_servers: Vec<Process>,
}

impl Cluster {
    /// Starts a cluster with everything in `directory`, and waits until the group has a master and
    /// all replicas are in sync.
    pub async fn start(directory: &Path, setting: Setting) -> anyhow::Result<Self> {
        let servers = Servers::fetch()?;
        let ports = ports();
        let start = |kind, name: &str, text: String| {
            let file = directory.join(format!("{name}.conf"));
            std::fs::write(&file, text)?;
            servers.start(kind, name, directory, &directory.join(name), &file)
        };
        let mut name_servers = Vec::new();
        for number in 0..NAME_SERVERS {
            let name = format!("namesrv-{}", number + 1);
            let text = config::name_server(number, &ports, &directory.join(&name));
            name_servers.push(start(Kind::NameServer, &name, text)?);
        }
        let mut brokers = Vec::new();
        for number in 0..BROKERS {
            let name = broker_name(number);
            let text = config::broker(number, &ports, setting, &directory.join(&name));
            brokers.push(Some(start(Kind::Broker, &name, text)?));
        }
        std::fs::write(directory.join("proxy.conf"), config::proxy(&ports))?;
        let mut cluster = Self {
            servers,
            directory: directory.to_owned(),
            ports,
            proxy: None,
            brokers,
            name_servers,
        };
        let whole = until("all replicas in sync", START_LIMIT, async || cluster.whole().await);
        whole.await.with_context(|| cluster.log_tails())?;
        cluster.start_proxy().await.with_context(|| cluster.log_tails())?;
        Ok(cluster)
    }

    /// The proxy makes a topic of its own when it starts, and ends if there is no master for it yet:
    /// what the controllers know reaches name servers a little later.
    async fn start_proxy(&mut self) -> anyhow::Result<()> {
        let (directory, servers) = (self.directory.clone(), self.servers.clone());
        let (data, file) = (directory.join("proxy"), directory.join("proxy.conf"));
        let port = self.ports.grpc;
        let proxy = &mut self.proxy;
        until("the proxy", START_LIMIT, async || {
            if let Some(process) = proxy.as_mut()
                && process.exit_status()?.is_some()
            {
                *proxy = None;
            }
            if proxy.is_none() {
                *proxy = Some(servers.start(Kind::Proxy, "proxy", &directory, &data, &file)?);
            }
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
            Ok(())
        })
        .await
    }

    /// Version of the servers.
    pub fn version(&self) -> &str {
        &self.servers.version
    }

    /// What clients are given: the proxy.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.grpc)
    }

    /// How many brokers there are, running or not.
    pub fn size(&self) -> usize {
        self.brokers.len()
    }

    /// Name of a broker.
    pub fn name(&self, broker: usize) -> String {
        broker_name(broker)
    }

    /// Asks the controllers, without the cluster.
    pub fn controllers(&self) -> Controllers {
        Controllers {
            controllers: self.ports.controllers.clone(),
            brokers: self.ports.brokers.clone(),
        }
    }

    /// Process id of a broker that is up.
    pub fn pid(&self, broker: usize) -> Option<u32> {
        self.brokers[broker].as_ref().map(Process::pid)
    }

    /// Waits until the controllers know a master that is alive; returns its number.
    pub async fn master(&self) -> anyhow::Result<usize> {
        until("a master", MASTER_LIMIT, async || {
            let replicas = self.controllers().ask().await?;
            let port = replicas.master().context("there is none")?;
            let number = self.ports.brokers.iter().position(|broker| *broker == port);
            number.context("the master is none of ours")
        })
        .await
    }

    /// Fails unless there is a master and all replicas are in sync.
    pub async fn whole(&self) -> anyhow::Result<()> {
        let replicas = self.controllers().ask().await?;
        replicas.master().context("there is no master")?;
        let in_sync = replicas.in_sync();
        ensure!(in_sync == self.size(), "{in_sync} replicas are in sync");
        Ok(())
    }

    /// Makes a topic and a consumer group, and waits until every name server knows the topic.
    pub async fn create(&self, topic: &str, group: &str) -> anyhow::Result<()> {
        let port = self.ports.brokers[self.master().await?];
        let fields = [
            ("topic", topic.to_owned()),
            ("defaultTopic", "TBW102".to_owned()),
            ("readQueueNums", QUEUES.to_string()),
            ("writeQueueNums", QUEUES.to_string()),
            ("perm", "6".to_owned()),
            ("topicFilterType", "SINGLE_TAG".to_owned()),
            ("topicSysFlag", "0".to_owned()),
            ("order", "false".to_owned()),
        ];
        remoting::call(port, Request::CreateTopic, &fields, b"").await?.success()?;
        let body = serde_json::json!({ "groupName": group }).to_string();
        remoting::call(port, Request::CreateGroup, &[], body.as_bytes()).await?.success()?;
        for name_server in &self.ports.name_servers {
            until("the route of the new topic", START_LIMIT, async || {
                let fields = [("topic", topic.to_owned())];
                let route = remoting::call(*name_server, Request::Route, &fields, b"").await?;
                route.success().map(drop)
            })
            .await?;
        }
        Ok(())
    }

    /// `kill -9` of some brokers, before the first of them is gone.
    pub fn kill_several(&mut self, brokers: &[usize]) -> anyhow::Result<()> {
        let mut processes: Vec<Process> =
            brokers.iter().filter_map(|broker| self.brokers[*broker].take()).collect();
        for process in &mut processes {
            process.begin_kill()?;
        }
        // Dropping waits for their end.
        drop(processes);
        Ok(())
    }

    /// SIGTERM to one broker, and waits for its end.
    pub async fn stop(&mut self, broker: usize) -> anyhow::Result<()> {
        let mut process = self.brokers[broker].take().context("it is down already")?;
        process.terminate()?;
        let status = process.ended(STOP_LIMIT).await?;
        let orderly = status.success() || status.code() == Some(TERMINATED);
        ensure!(orderly, "a stopped broker ended with {status}\n{}", process.log_tail());
        Ok(())
    }

    /// Starts a broker that is down, with the data it had. Does not wait.
    pub fn restart(&mut self, broker: usize) -> anyhow::Result<()> {
        ensure!(self.brokers[broker].is_none(), "it runs already");
        let name = broker_name(broker);
        let data = self.directory.join(&name);
        let file = self.directory.join(format!("{name}.conf"));
        let process = self.servers.start(Kind::Broker, &name, &self.directory, &data, &file)?;
        self.brokers[broker] = Some(process);
        Ok(())
    }

    /// Sends a signal to a broker's process.
    pub fn signal(&self, broker: usize, signal: &str) -> anyhow::Result<()> {
        self.brokers[broker].as_ref().context("it is down")?.signal(signal)
    }

    /// Reads every queue of a topic at the master, from its beginning.
    pub async fn stored(&self, topic: &str, group: &str) -> anyhow::Result<Vec<Stored>> {
        let port = self.ports.brokers[self.master().await?];
        let mut all = Vec::new();
        for queue in 0..QUEUES {
            let mut next = 0;
            while let Some((messages, following)) = pull(port, topic, group, queue, next).await? {
                ensure!(following > next, "queue {queue} does not go on at {next}");
                all.extend(messages);
                next = following;
            }
        }
        Ok(all)
    }

    /// The ends of all logs, for the report of a failure.
    pub fn log_tails(&self) -> String {
        let brokers = self.brokers.iter().flatten();
        let servers = self.name_servers.iter().chain(brokers).chain(&self.proxy);
        servers.map(Process::log_tail).collect()
    }
}

/// Messages from an offset on, and the offset behind them. `None`: the queue ends there.
async fn pull(
    port: u16,
    topic: &str,
    group: &str,
    queue: u32,
    offset: u64,
) -> anyhow::Result<Option<(Vec<Stored>, u64)>> {
    let fields = [
        ("consumerGroup", group.to_owned()),
        ("topic", topic.to_owned()),
        ("queueId", queue.to_string()),
        ("queueOffset", offset.to_string()),
        ("maxMsgNums", "32".to_owned()),
        ("sysFlag", WITH_SUBSCRIPTION.to_string()),
        ("commitOffset", "0".to_owned()),
        ("suspendTimeoutMillis", "0".to_owned()),
        ("subscription", "*".to_owned()),
        ("subVersion", "0".to_owned()),
        ("expressionType", "TAG".to_owned()),
    ];
    let answer = remoting::call(port, Request::Pull, &fields, b"").await?;
    pulled(answer, offset)
}

fn pulled(answer: Answer, offset: u64) -> anyhow::Result<Option<(Vec<Stored>, u64)>> {
    let end = answer.number("maxOffset")?;
    match answer.code {
        SUCCESS => Ok(Some((stored::decode(&answer.body)?, answer.number("nextBeginOffset")?))),
        NOT_FOUND | OFFSET_MOVED if offset >= end => Ok(None),
        code => bail!("code {code} at {offset} of {end}: {}", answer.remark),
    }
}

/// The controllers of a cluster.
#[derive(Clone)]
pub struct Controllers {
    controllers: Vec<u16>,
    brokers: Vec<u16>,
}

/// What one broker is, by the controllers' word.
pub struct Role {
    /// Its number.
    pub broker: usize,
    /// `leader`: the master. `follower`: in sync. `learner`: not in sync.
    pub role: &'static str,
    /// The epoch of the master.
    pub term: u64,
    /// The number of the master and one; 0: there is none.
    pub leader_id: u64,
}

impl Controllers {
    /// What the one of them that leads knows of the group.
    pub async fn ask(&self) -> anyhow::Result<Replicas> {
        let mut failed = anyhow::anyhow!("there is no controller");
        let names = serde_json::json!([GROUP]).to_string();
        for port in &self.controllers {
            let asked = remoting::call(*port, Request::SyncStates, &[], names.as_bytes()).await;
            match asked.and_then(Answer::success) {
                Ok(answer) => return Replicas::parse(&answer.body, GROUP),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// What each broker that is heard of is.
    pub async fn roles(&self) -> anyhow::Result<Vec<Role>> {
        let replicas = self.ask().await?;
        let number = |port: u16| self.brokers.iter().position(|broker| *broker == port);
        let leader_id = replicas.master().and_then(number).map_or(0, |broker| broker as u64 + 1);
        let alive = replicas.by_port.iter().filter(|(_, replica)| replica.alive);
        let role = |(port, replica): (&u16, &replicas::Replica)| {
            let role = match (replica.master, replica.in_sync) {
                (true, _) => "leader",
                (false, true) => "follower",
                (false, false) => "learner",
            };
            Some(Role { broker: number(*port)?, role, term: replicas.epoch, leader_id })
        };
        Ok(alive.filter_map(role).collect())
    }
}

fn broker_name(number: usize) -> String {
    format!("broker-{}", number + 1)
}

/// Each broker also listens two ports below its own.
fn ports() -> Ports {
    let some = |count: usize| (0..count).map(|_| free_port()).collect::<Vec<u16>>();
    let (name_servers, controllers) = (some(NAME_SERVERS), some(NAME_SERVERS));
    let (mut brokers, mut replicas) = (Vec::new(), Vec::new());
    while brokers.len() < BROKERS {
        let three = some(3);
        if three[2] == three[0] + 2 {
            brokers.push(three[2]);
            replicas.push(three[1]);
        }
    }
    Ports { name_servers, controllers, brokers, replicas, grpc: free_port(), remoting: free_port() }
}

/// What a cluster is told beyond Apache's defaults, for a report.
pub fn facts(setting: Setting) -> String {
    let keys: Vec<String> =
        setting.keys().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let keys = if keys.is_empty() { "Apache's defaults".to_owned() } else { keys.join(", ") };
    format!("{keys}; cluster {CLUSTER}, controller mode, {BROKERS} replicas, {QUEUES} queues")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i64, end: u64) -> Answer {
        let fields = [("maxOffset", end), ("nextBeginOffset", 0)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_string())).into();
        Answer { code, remark: String::new(), fields, body: Vec::new() }
    }

    #[test]
    fn a_queue_ends_where_the_broker_says_and_nowhere_else() {
        assert!(pulled(answer(NOT_FOUND, 5), 5).unwrap().is_none());
        assert!(pulled(answer(OFFSET_MOVED, 0), 0).unwrap().is_none());
        assert!(pulled(answer(NOT_FOUND, 5), 4).is_err());
        assert!(pulled(answer(1, 5), 5).is_err());
        assert!(pulled(answer(SUCCESS, 5), 4).unwrap().is_some());
    }

    #[test]
    fn no_port_is_given_twice() {
        let ports = ports();
        let mut all = [ports.name_servers, ports.controllers, ports.replicas].concat();
        all.extend(ports.brokers.iter().flat_map(|port| [*port, *port - 2]));
        all.extend([ports.grpc, ports.remoting]);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), count), (17, 17));
    }
}
