//! A cluster of real processes on loopback: name servers, and one broker group.
//!
//! Data and logs lie in the directory of the run. Clients use the first name server as endpoint;
//! its port and the brokers' accept plaintext and TLS (self-signed).
//!
//! Not here: when to break what, which is the test's; what clients see, which is the driver's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::admin_client::AdminClient;
use raftmq_proto::raftmq::name_server_client::NameServerClient;
use tonic::transport::{Channel, Endpoint};

use crate::driver_log::Stored;
use crate::paths;
use crate::process::Process;
use crate::until;

/// For anything a healthy cluster does in a second or two, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(15);
const PEEK_COUNT: u32 = 100;

/// Below the range from which Linux takes the local port of an outgoing connection: while a broker
/// is down, nobody can take its port by accident, and no dialler can connect to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How many processes of which kind.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Name servers, one or more.
    pub name_servers: usize,
    /// Members of the one broker group.
    pub brokers: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { name_servers: 1, brokers: 3 }
    }
}

/// The processes; brokers are numbered from 0, their node id is one more.
pub struct Cluster {
    name_servers: Vec<Node>,
    brokers: Vec<Node>,
}

/// One server: how to start it, and its process while it runs.
struct Node {
    name: String,
    args: Vec<String>,
    directory: PathBuf,
    client_port: u16,
    admin_port: u16,
    http_port: u16,
    process: Option<Process>,
}

impl Cluster {
    /// Starts a cluster in `directory` and waits until every process is ready.
    pub async fn start(directory: &Path, size: Size) -> anyhow::Result<Self> {
        let name_servers: Vec<Node> =
            (1..=size.name_servers).map(|number| name_server(directory, number)).collect();
        let peer_ports: Vec<u16> = (0..size.brokers).map(|_| free_port()).collect();
        let brokers = (0..size.brokers)
            .map(|number| broker(directory, number, &peer_ports, &name_servers))
            .collect();
        let mut cluster = Self { name_servers, brokers };
        for node in cluster.name_servers.iter_mut().chain(&mut cluster.brokers) {
            node.start()?;
        }
        for node in cluster.name_servers.iter().chain(&cluster.brokers) {
            node.ready().await?;
        }
        Ok(cluster)
    }

    /// What clients are given: the first name server.
    pub fn endpoint(&self) -> String {
        address(self.name_servers[0].client_port)
    }

    /// How many brokers there are, running or not.
    pub fn size(&self) -> usize {
        self.brokers.len()
    }

    /// `kill -9` of one broker. Returns when the signal was sent, in milliseconds since 1970.
    pub fn kill(&mut self, broker: usize) -> anyhow::Result<u64> {
        let mut process = self.brokers[broker].process.take().context("it is down already")?;
        let at_ms = now_ms();
        process.kill()?;
        Ok(at_ms)
    }

    /// `kill -9` of all brokers, before the first of them is gone. Returns when, as [`Self::kill`].
    pub fn kill_all(&mut self) -> anyhow::Result<u64> {
        let mut processes: Vec<Process> =
            self.brokers.iter_mut().filter_map(|node| node.process.take()).collect();
        let at_ms = now_ms();
        for process in &mut processes {
            process.begin_kill()?;
        }
        // Dropping waits for their end.
        drop(processes);
        Ok(at_ms)
    }

    /// SIGTERM to one broker, and waits for its end.
    pub async fn stop(&mut self, broker: usize) -> anyhow::Result<()> {
        let mut process = self.brokers[broker].process.take().context("it is down already")?;
        process.terminate()?;
        let status = process.ended(STOP_LIMIT).await?;
        ensure!(status.success(), "a stopped broker ended with {status}\n{}", process.log_tail());
        Ok(())
    }

    /// Starts a broker that is down, with the data it had. Does not wait.
    pub fn restart(&mut self, broker: usize) -> anyhow::Result<()> {
        self.brokers[broker].start()
    }

    /// Fails if a broker that should run has ended, for example by a panic.
    pub fn ensure_alive(&mut self) -> anyhow::Result<()> {
        for node in self.name_servers.iter_mut().chain(&mut self.brokers) {
            if let Some(process) = &mut node.process
                && let Some(status) = process.exit_status()?
            {
                bail!("{} ended by itself: {status}\n{}", node.name, process.log_tail());
            }
        }
        Ok(())
    }

    /// Waits until a broker answers that it is ready for clients.
    pub async fn ready(&self, broker: usize) -> anyhow::Result<()> {
        self.brokers[broker].ready().await
    }

    /// Status of every member that answers, sorted by node id.
    pub async fn status(&self) -> anyhow::Result<Vec<wire::NodeStatusResponse>> {
        let request = wire::ClusterStatusRequest {};
        let response = self.admin().await?.cluster_status(request).await?.into_inner();
        Ok(response.members.into_iter().filter_map(|member| member.status).collect())
    }

    /// Waits until one broker leads and a majority follows it; returns its number.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        until("a leader", PATIENCE, async || {
            let statuses = self.status().await?;
            let leader = leading(&statuses).context("nobody leads")?;
            let same = |status: &&wire::NodeStatusResponse| status.leader_id == leader.node_id;
            let followers = statuses.iter().filter(same).count();
            ensure!(followers * 2 > self.size(), "{followers} nodes know the leader");
            Ok(leader.node_id as usize - 1)
        })
        .await
    }

    /// Waits until a broker has applied what is committed now, and may vote.
    pub async fn caught_up(&self, broker: usize) -> anyhow::Result<()> {
        let node_id = broker as u64 + 1;
        let mut goal = None;
        until(&format!("broker {node_id} to catch up"), PATIENCE, async || {
            let statuses = self.status().await?;
            let leader = leading(&statuses).context("nobody leads")?;
            let goal = *goal.get_or_insert(leader.commit_index);
            let own = statuses.iter().find(|status| status.node_id == node_id);
            let own = own.context("it does not answer")?;
            ensure!(own.membership == "voter", "it is a {}", own.membership);
            ensure!(own.applied_index >= goal, "at {} of {goal}", own.applied_index);
            Ok(())
        })
        .await?;
        self.ready(broker).await
    }

    /// Waits until all brokers have applied the same log, and fails if their states then differ.
    /// Returns the index they agree at.
    pub async fn agree(&self) -> anyhow::Result<u64> {
        let verdict = until("all brokers at the same index", PATIENCE, async || {
            let statuses = self.status().await?;
            ensure!(statuses.len() == self.size(), "only {} brokers answer", statuses.len());
            let index = statuses[0].applied_index;
            let applied: Vec<u64> = statuses.iter().map(|status| status.applied_index).collect();
            ensure!(applied.iter().all(|applied| *applied == index), "applied {applied:?}");
            let hashes: Vec<u64> = statuses.iter().map(|status| status.state_hash).collect();
            Ok((index, hashes))
        });
        let (index, hashes) = verdict.await?;
        let same = hashes.iter().all(|hash| *hash == hashes[0]);
        ensure!(same, "replicas differ at index {index}: state hashes {hashes:x?}");
        Ok(index)
    }

    /// Makes topics and groups, and waits until every name server knows the topics.
    pub async fn create(&self, topics: &[String], groups: &[String]) -> anyhow::Result<()> {
        let mut admin = self.admin().await?;
        for name in topics {
            let request = wire::CreateTopicRequest { name: name.clone(), ..Default::default() };
            admin.create_topic(request).await?;
        }
        for name in groups {
            let request = wire::CreateGroupRequest { name: name.clone(), ..Default::default() };
            admin.create_group(request).await?;
        }
        for server in &self.name_servers {
            until("routes of the new topics", PATIENCE, async || {
                let channel = connect(server.client_port).await?;
                let request = wire::ListRoutesRequest {};
                let routes = NameServerClient::new(channel).list_routes(request).await?;
                let routes = routes.into_inner().routes.into_iter().filter_map(|r| r.route);
                let known: Vec<String> =
                    routes.flat_map(|route| route.topics).map(|topic| topic.name).collect();
                let missing = topics.iter().find(|topic| !known.contains(topic));
                ensure!(missing.is_none(), "{missing:?} is not known to {}", server.name);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Reads every queue of a topic from its beginning, without consuming.
    pub async fn stored(&self, topic: &str) -> anyhow::Result<Vec<Stored>> {
        let mut admin = self.admin().await?;
        let request = wire::DescribeTopicRequest { name: topic.into() };
        let queues = admin.describe_topic(request).await?.into_inner().queues;
        let mut stored = Vec::new();
        for queue in queues {
            ensure!(queue.min_offset == 0, "retention took from queue {}", queue.queue_id);
            let mut next = queue.min_offset;
            while next < queue.max_offset {
                let request = wire::PeekMessagesRequest {
                    topic: topic.into(),
                    queue_id: Some(queue.queue_id),
                    offset: Some(next),
                    count: PEEK_COUNT,
                };
                let messages = admin.peek_messages(request).await?.into_inner().messages;
                ensure!(!messages.is_empty(), "queue {} has a hole at {next}", queue.queue_id);
                for message in messages {
                    let held = as_stored(message)?;
                    let place = (held.queue_id, held.offset);
                    ensure!(place == (queue.queue_id, next), "{place:?} where {next} belongs");
                    stored.push(held);
                    next += 1;
                }
            }
        }
        Ok(stored)
    }

    /// Messages that a group has not acknowledged yet, in all queues it has ever received from.
    pub async fn unconsumed(&self, group: &str) -> anyhow::Result<u64> {
        let request = wire::DescribeGroupRequest { name: group.into() };
        let described = self.admin().await?.describe_group(request).await?.into_inner();
        Ok(described.progress.iter().map(|queue| queue.max_offset - queue.commit_offset).sum())
    }

    /// The ends of all logs, for the report of a failure.
    pub fn log_tails(&self) -> String {
        let running = self.name_servers.iter().chain(&self.brokers);
        running.filter_map(|node| node.process.as_ref()).map(Process::log_tail).collect()
    }

    /// A connection to the admin service of some broker that runs.
    async fn admin(&self) -> anyhow::Result<AdminClient<Channel>> {
        let up = self.brokers.iter().find(|node| node.process.is_some());
        let port = up.context("no broker runs")?.admin_port;
        Ok(AdminClient::new(connect(port).await?))
    }
}

impl Node {
    fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let mut command = Command::new(paths::binary()?);
        command.args(&self.args);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info,raftmq_broker=debug");
        }
        self.process = Some(Process::start(&self.name, &self.directory, command)?);
        Ok(())
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let ready = until(&format!("{} to be ready", self.name), PATIENCE, async || {
            let answer = http_get(self.http_port, "/readyz")?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            Ok(())
        })
        .await;
        ready.with_context(|| self.process.as_ref().map(Process::log_tail).unwrap_or_default())
    }
}

fn name_server(directory: &Path, number: usize) -> Node {
    let (client_port, http_port) = (free_port(), free_port());
    let listen = address(client_port);
    let http = address(http_port);
    let args = ["namesrv", "--listen", &listen, "--http-listen", &http];
    Node {
        name: format!("namesrv-{number}"),
        args: args.map(str::to_owned).into(),
        directory: directory.to_owned(),
        client_port,
        admin_port: client_port,
        http_port,
        process: None,
    }
}

fn broker(directory: &Path, number: usize, peer_ports: &[u16], name_servers: &[Node]) -> Node {
    let node_id = number + 1;
    let (client_port, admin_port, http_port) = (free_port(), free_port(), free_port());
    let name = format!("broker-{node_id}");
    let members = (1..).zip(peer_ports).map(|(id, port)| format!("{id}={}", address(*port)));
    let name_servers = name_servers.iter().map(|server| address(server.client_port));
    let args = [
        "broker".to_owned(),
        format!("--node-id={node_id}"),
        format!("--data-dir={}", directory.join(&name).display()),
        format!("--members={}", members.collect::<Vec<_>>().join(",")),
        format!("--client-listen={}", address(client_port)),
        format!("--peer-listen={}", address(peer_ports[number])),
        format!("--admin-listen={}", address(admin_port)),
        format!("--http-listen={}", address(http_port)),
        format!("--name-servers={}", name_servers.collect::<Vec<_>>().join(",")),
    ];
    let directory = directory.to_owned();
    Node { name, args: args.into(), directory, client_port, admin_port, http_port, process: None }
}

fn leading(statuses: &[wire::NodeStatusResponse]) -> Option<&wire::NodeStatusResponse> {
    // Just after an election the old leader may still believe in itself.
    statuses.iter().filter(|status| status.role == "leader").max_by_key(|status| status.term)
}

fn as_stored(message: raftmq_proto::v2::Message) -> anyhow::Result<Stored> {
    let properties = message.system_properties.context("no system properties")?;
    Ok(Stored {
        queue_id: properties.queue_id.try_into()?,
        offset: properties.queue_offset.context("no offset")?.try_into()?,
        id: properties.message_id,
        value: String::from_utf8(message.body.to_vec())?,
    })
}

async fn connect(port: u16) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", address(port)))?;
    let endpoint = endpoint.connect_timeout(CONNECT_LIMIT).timeout(REQUEST_LIMIT);
    Ok(endpoint.connect().await?)
}

fn http_get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), CONNECT_LIMIT)?;
    stream.set_read_timeout(Some(CONNECT_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A port that is free now and that no other call in this process returns.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Tests of several processes begin at different places.
    let begin = (std::process::id() % u32::from(count / 100)) as u16 * 100;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + begin.wrapping_add(step) % count;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Milliseconds since 1970, as the drivers log them.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
