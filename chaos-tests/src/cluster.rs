//! A cluster of real processes: name servers, and one broker group.
//!
//! Logs lie in the directory of the run. Clients use any name server as endpoint; its port and the
//! brokers' accept plaintext and TLS (self-signed).
//!
//! Not here: when to break what, which is the test's; what clients see, which is the driver's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use raftmq_proto::names::DEAD_LETTER_PREFIX;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::admin_client::AdminClient;
use raftmq_proto::raftmq::name_server_client::NameServerClient;
use tonic::transport::{Channel, Endpoint};

use crate::driver_log::Stored;
use crate::paths;
use crate::place::Place;
use crate::process::Process;
use crate::{Unmet, must, until};

/// For anything a healthy cluster does in a second or two, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(15);
const PEEK_COUNT: u32 = 100;

/// Ports of a server that has its host for itself, as in a deployment.
const CLIENT_PORT: u16 = 8081;
const PEER_PORT: u16 = 8082;
const ADMIN_PORT: u16 = 8083;
const HTTP_PORT: u16 = 8084;

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

/// One server: how to start it, and its process while it runs. Ports are those that others connect
/// to, but for that of HTTP, which is the server's own.
struct Node {
    name: String,
    args: Vec<String>,
    directory: PathBuf,
    place: Place,
    client_port: u16,
    /// 0: not a broker.
    peer_port: u16,
    admin_port: u16,
    http_port: u16,
    process: Option<Process>,
}

impl Cluster {
    /// Starts a cluster on loopback, with everything in `directory`, and waits until every process
    /// is ready.
    pub async fn start(directory: &Path, size: Size) -> anyhow::Result<Self> {
        Self::start_at(directory, size, &[], |name| Place::loopback(directory, name)).await
    }

    /// Starts a cluster whose servers are where `place` says for each name (`namesrv-1`, `broker-1`,
    /// …), with logs in `directory`, and waits until every process is ready. `broker_options` are
    /// added to the command line of each broker.
    pub async fn start_at(
        directory: &Path,
        size: Size,
        broker_options: &[String],
        place: impl Fn(&str) -> Place,
    ) -> anyhow::Result<Self> {
        let name_servers: Vec<Node> = (1..=size.name_servers)
            .map(|number| format!("namesrv-{number}"))
            .map(|name| name_server(directory, &name, place(&name)))
            .collect::<anyhow::Result<_>>()?;
        let places: Vec<Member> = (1..=size.brokers)
            .map(|node_id| Member::new(place(&broker_name(node_id))))
            .collect::<anyhow::Result<_>>()?;
        let brokers = (1..=size.brokers)
            .map(|node_id| broker(directory, node_id, &places, &name_servers, broker_options))
            .collect::<anyhow::Result<_>>()?;
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
        self.name_servers[0].client_address()
    }

    /// `host:port` of every name server.
    pub fn endpoints(&self) -> Vec<String> {
        self.name_servers.iter().map(Node::client_address).collect()
    }

    /// `host:port` of every broker's admin service, by broker.
    pub fn admin_addresses(&self) -> Vec<String> {
        self.brokers.iter().map(|node| node.address(node.admin_port)).collect()
    }

    /// `host:port` of every broker's peer service, by broker.
    pub fn peer_addresses(&self) -> Vec<String> {
        self.brokers.iter().map(|node| node.address(node.peer_port)).collect()
    }

    /// `host:port` where clients reach each broker, by broker.
    pub fn client_addresses(&self) -> Vec<String> {
        self.brokers.iter().map(Node::client_address).collect()
    }

    /// `host:port` of every server's metrics and probes.
    pub fn http_addresses(&self) -> Vec<String> {
        let all = self.name_servers.iter().chain(&self.brokers);
        all.map(|node| node.address(node.http_port)).collect()
    }

    /// Where a broker shows its metrics.
    pub fn http_address(&self, broker: usize) -> String {
        let node = &self.brokers[broker];
        node.address(node.http_port)
    }

    /// Process ids of all servers that are up.
    pub fn pids(&self) -> Vec<u32> {
        let all = self.name_servers.iter().chain(&self.brokers);
        all.filter_map(|node| node.process.as_ref().map(Process::pid)).collect()
    }

    /// Name of a broker: of its process, its logs and its host.
    pub fn name(&self, broker: usize) -> &str {
        &self.brokers[broker].name
    }

    /// Where a broker's data lie.
    pub fn data_directory(&self, broker: usize) -> &Path {
        &self.brokers[broker].place.data_directory
    }

    /// Whether a broker's process runs, or is stopped by a signal, as far as is known.
    pub fn is_up(&self, broker: usize) -> bool {
        self.brokers[broker].process.is_some()
    }

    /// Process id of a broker that is up.
    pub fn pid(&self, broker: usize) -> Option<u32> {
        self.brokers[broker].process.as_ref().map(Process::pid)
    }

    /// How many name servers there are, running or not.
    pub fn name_server_count(&self) -> usize {
        self.name_servers.len()
    }

    /// `kill -9` of one name server.
    pub fn kill_name_server(&mut self, number: usize) -> anyhow::Result<()> {
        self.name_servers[number].process.take().context("it is down already")?.kill()
    }

    /// Sends a signal to a name server's process.
    pub fn signal_name_server(&self, number: usize, signal: &str) -> anyhow::Result<()> {
        self.name_servers[number].process.as_ref().context("it is down")?.signal(signal)
    }

    /// Whether a name server's process was started and not killed.
    pub fn is_name_server_up(&self, number: usize) -> bool {
        self.name_servers[number].process.is_some()
    }

    /// Everything a broker's processes have logged.
    pub fn log_of(&self, broker: usize) -> anyhow::Result<String> {
        let node = &self.brokers[broker];
        Ok(std::fs::read_to_string(node.directory.join(format!("{}.err", node.name)))?)
    }

    /// Starts a name server that is down. Does not wait.
    pub fn restart_name_server(&mut self, number: usize) -> anyhow::Result<()> {
        self.name_servers[number].start()
    }

    /// Forgets a broker's process that has ended by itself, and returns how. `None`: it runs.
    pub fn ended(&mut self, broker: usize) -> anyhow::Result<Option<std::process::ExitStatus>> {
        let Some(process) = &mut self.brokers[broker].process else { return Ok(None) };
        let status = process.exit_status()?;
        if status.is_some() {
            self.brokers[broker].process = None;
        }
        Ok(status)
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
        let all: Vec<usize> = (0..self.brokers.len()).collect();
        self.kill_several(&all)
    }

    /// The same of some; those that are down already stay so.
    pub fn kill_several(&mut self, brokers: &[usize]) -> anyhow::Result<u64> {
        let mut processes: Vec<Process> =
            brokers.iter().filter_map(|broker| self.brokers[*broker].process.take()).collect();
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
        must!(status.success(), "a stopped broker ended with {status}\n{}", process.log_tail());
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
                let (name, log) = (&node.name, process.log_tail());
                return Err(Unmet(format!("{name} ended by itself: {status}\n{log}")).into());
            }
        }
        Ok(())
    }

    /// Waits until a broker answers that it is ready for clients.
    pub async fn ready(&self, broker: usize) -> anyhow::Result<()> {
        self.brokers[broker].ready().await
    }

    /// Sends a signal to a broker's process.
    pub fn signal(&self, broker: usize, signal: &str) -> anyhow::Result<()> {
        self.brokers[broker].process.as_ref().context("it is down")?.signal(signal)
    }

    /// Status of every member that answers, sorted by node id.
    pub async fn status(&self) -> anyhow::Result<Vec<wire::NodeStatusResponse>> {
        let request = wire::ClusterStatusRequest {};
        let response = self.admin().await?.cluster_status(request).await?.into_inner();
        Ok(response.members.into_iter().filter_map(|member| member.status).collect())
    }

    /// The highest term that a broker knows.
    pub async fn term(&self) -> anyhow::Result<u64> {
        let terms = self.status().await?.into_iter().map(|status| status.term);
        terms.max().context("no broker answers")
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

    /// Hands leadership to a broker, and waits until it leads.
    pub async fn lead(&self, broker: usize) -> anyhow::Result<()> {
        let node_id = broker as u64 + 1;
        until(&format!("broker {node_id} to lead"), PATIENCE, async || {
            let request = wire::TransferLeaderCommand { to_node_id: node_id, from_node_id: 0 };
            self.admin().await?.transfer_leader(request).await?;
            ensure!(self.leader().await? == broker, "another one leads");
            Ok(())
        })
        .await
    }

    /// Fails unless a broker has applied all that the leader has.
    pub async fn caught_up_now(&self, broker: usize) -> anyhow::Result<()> {
        let statuses = self.status().await?;
        let goal = leading(&statuses).context("nobody leads")?.commit_index;
        let own = statuses.iter().find(|status| status.node_id == broker as u64 + 1);
        let applied = own.context("it does not answer")?.applied_index;
        ensure!(applied >= goal, "at {applied} of {goal}");
        Ok(())
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
        must!(same, "replicas differ at index {index}: state hashes {hashes:x?}");
        Ok(index)
    }

    /// Makes topics and groups, and waits until every name server knows the topics.
    pub async fn create(&self, topics: &[String], groups: &[String]) -> anyhow::Result<()> {
        let topic =
            |name: &String| wire::CreateTopicRequest { name: name.clone(), ..Default::default() };
        let group =
            |name: &String| wire::CreateGroupRequest { name: name.clone(), ..Default::default() };
        let topics: Vec<_> = topics.iter().map(topic).collect();
        let groups: Vec<_> = groups.iter().map(group).collect();
        self.create_as(&topics, &groups).await.map(drop)
    }

    /// The same with settings; returns what became of the groups.
    pub async fn create_as(
        &self,
        topics: &[wire::CreateTopicRequest],
        groups: &[wire::CreateGroupRequest],
    ) -> anyhow::Result<Vec<wire::ConsumerGroup>> {
        let mut admin = self.admin().await?;
        for request in topics {
            admin.create_topic(request.clone()).await.with_context(|| request.name.clone())?;
        }
        let mut made = Vec::new();
        for request in groups {
            let group = admin.create_group(request.clone()).await;
            made.push(group.with_context(|| request.name.clone())?.into_inner());
        }
        for server in &self.name_servers {
            until("routes of the new topics", PATIENCE, async || {
                let routes = server.routes().await?.into_iter();
                let known: Vec<String> =
                    routes.flat_map(|route| route.topics).map(|topic| topic.name).collect();
                let missing = topics.iter().find(|topic| !known.contains(&topic.name));
                ensure!(missing.is_none(), "{missing:?} is not known to {}", server.name);
                Ok(())
            })
            .await?;
        }
        Ok(made)
    }

    /// Every topic and group, and every group that a name server has a route of; one line each. Without topics
    /// of dead letters, which come with the first one.
    pub async fn inventory(&self) -> anyhow::Result<Vec<String>> {
        let mut admin = self.admin().await?;
        let topics = admin.list_topics(wire::ListTopicsRequest { this_node: false }).await?;
        let groups = admin.list_groups(wire::ListGroupsRequest { this_node: false }).await?;
        let topics = topics.into_inner().topics.into_iter().map(|it| it.name);
        let topics = topics.filter(|name| !name.starts_with(DEAD_LETTER_PREFIX));
        let topics = topics.map(|name| format!("topic {name}"));
        let groups = groups.into_inner().groups.into_iter().map(|it| format!("group {}", it.name));
        let mut lines: Vec<String> = topics.chain(groups).collect();
        for server in self.name_servers.iter().filter(|server| server.process.is_some()) {
            for route in server.routes().await? {
                lines.push(format!("route {}/{} at {}", route.cluster, route.group, server.name));
            }
        }
        lines.sort_unstable();
        Ok(lines)
    }

    /// What each name server knows, by name server; those that are down are left out.
    pub async fn routes(&self) -> anyhow::Result<Vec<Vec<wire::GroupRoute>>> {
        let mut all = Vec::new();
        for server in self.name_servers.iter().filter(|server| server.process.is_some()) {
            all.push(server.routes().await?);
        }
        Ok(all)
    }

    /// Reads every queue of a topic from its beginning, without consuming.
    pub async fn stored(&self, topic: &str) -> anyhow::Result<Vec<Stored>> {
        self.messages(topic).await?.into_iter().map(as_stored).collect()
    }

    /// The same, with all that the messages have.
    pub async fn messages(&self, topic: &str) -> anyhow::Result<Vec<raftmq_proto::v2::Message>> {
        let mut admin = self.admin().await?;
        let request = wire::DescribeTopicRequest { name: topic.into(), ..Default::default() };
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
                    this_node: false,
                    ..Default::default()
                };
                let messages = admin.peek_messages(request).await?.into_inner().messages;
                ensure!(!messages.is_empty(), "queue {} has a hole at {next}", queue.queue_id);
                for message in messages {
                    let place = place_of(&message)?;
                    ensure!(place == (queue.queue_id, next), "{place:?} where {next} belongs");
                    stored.push(message);
                    next += 1;
                }
            }
        }
        Ok(stored)
    }

    /// Messages that a group has not acknowledged yet, in all queues it has ever received from.
    pub async fn unconsumed(&self, group: &str) -> anyhow::Result<u64> {
        let request = wire::DescribeGroupRequest { name: group.into(), ..Default::default() };
        let described = self.admin().await?.describe_group(request).await?.into_inner();
        let left = |queue: &wire::QueueProgress| match queue.lite_topic_count {
            0 => queue.max_offset - queue.commit_offset,
            // All lite topics together have no offsets.
            _ => queue.ready_count + queue.inflight_count + queue.held_count,
        };
        Ok(described.progress.iter().map(left).sum())
    }

    /// The ends of all logs, for the report of a failure.
    pub fn log_tails(&self) -> String {
        let running = self.name_servers.iter().chain(&self.brokers);
        running.filter_map(|node| node.process.as_ref()).map(Process::log_tail).collect()
    }

    /// A connection to the admin service of some broker that runs.
    async fn admin(&self) -> anyhow::Result<AdminClient<Channel>> {
        let mut failed = anyhow::anyhow!("no broker runs");
        for node in self.brokers.iter().filter(|node| node.process.is_some()) {
            match connect(&node.address(node.admin_port)).await {
                Ok(channel) => return Ok(AdminClient::new(channel)),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl Node {
    fn address(&self, port: u16) -> String {
        format!("{}:{port}", self.place.host)
    }

    fn client_address(&self) -> String {
        self.address(self.client_port)
    }

    /// Of a name server: what it knows.
    async fn routes(&self) -> anyhow::Result<Vec<wire::GroupRoute>> {
        let channel = connect(&self.client_address()).await?;
        let listed = NameServerClient::new(channel).list_routes(wire::ListRoutesRequest {}).await?;
        Ok(listed.into_inner().routes.into_iter().filter_map(|listed| listed.route).collect())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let binary = paths::binary()?;
        let mut command = match self.place.prefix.split_first() {
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.args(&self.args).envs(self.place.environment.iter().cloned());
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info,raftmq_broker=debug");
        }
        let process = Process::start(&self.name, &self.directory, command)?;
        if let Some(front) = &self.place.front {
            front.moved_in(process.pid());
        }
        self.process = Some(process);
        Ok(())
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let ready = until(&format!("{} to be ready", self.name), PATIENCE, async || {
            let answer = http_get(self.place.host, self.http_port, "/readyz")?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            Ok(())
        })
        .await;
        ready.with_context(|| self.process.as_ref().map(Process::log_tail).unwrap_or_default())
    }
}

fn broker_name(node_id: usize) -> String {
    format!("broker-{node_id}")
}

/// Where a broker is, and the ports for its peers: where it listens, and where they connect.
struct Member {
    place: Place,
    listen_port: u16,
    peer_port: u16,
}

impl Member {
    fn new(place: Place) -> anyhow::Result<Self> {
        let listen_port = place.port(PEER_PORT);
        let peer_port = place.public_port(listen_port)?;
        Ok(Self { place, listen_port, peer_port })
    }
}

fn name_server(directory: &Path, name: &str, place: Place) -> anyhow::Result<Node> {
    let (listen_port, http_port) = (place.port(CLIENT_PORT), place.port(HTTP_PORT));
    let client_port = place.public_port(listen_port)?;
    let args = [
        "namesrv".to_owned(),
        format!("--listen={}:{listen_port}", place.host),
        format!("--http-listen={}:{http_port}", place.host),
    ];
    Ok(Node {
        name: name.to_owned(),
        args: args.into(),
        directory: directory.to_owned(),
        place,
        client_port,
        peer_port: 0,
        admin_port: client_port,
        http_port,
        process: None,
    })
}

fn broker(
    directory: &Path,
    node_id: usize,
    members: &[Member],
    name_servers: &[Node],
    options: &[String],
) -> anyhow::Result<Node> {
    let Member { place, listen_port: peer_listen, peer_port } = &members[node_id - 1];
    let (client_listen, admin_listen) = (place.port(CLIENT_PORT), place.port(ADMIN_PORT));
    let client_port = place.public_port(client_listen)?;
    let admin_port = place.public_port(admin_listen)?;
    let http_port = place.port(HTTP_PORT);
    let members = (1..)
        .zip(members)
        .map(|(id, member)| format!("{id}={}:{}", member.place.host, member.peer_port));
    let name_servers = name_servers.iter().map(Node::client_address);
    let host = place.host;
    let mut args = vec![
        "broker".to_owned(),
        format!("--node-id={node_id}"),
        format!("--data-dir={}", place.data_directory.display()),
        format!("--members={}", members.collect::<Vec<_>>().join(",")),
        format!("--client-listen={host}:{client_listen}"),
        format!("--client-advertise={host}:{client_port}"),
        format!("--peer-listen={host}:{peer_listen}"),
        format!("--admin-listen={host}:{admin_listen}"),
        format!("--http-listen={host}:{http_port}"),
        format!("--name-servers={}", name_servers.collect::<Vec<_>>().join(",")),
    ];
    args.extend(options.iter().cloned());
    Ok(Node {
        name: broker_name(node_id),
        args,
        directory: directory.to_owned(),
        place: place.clone(),
        client_port,
        peer_port: *peer_port,
        admin_port,
        http_port,
        process: None,
    })
}

fn leading(statuses: &[wire::NodeStatusResponse]) -> Option<&wire::NodeStatusResponse> {
    // Just after an election the old leader may still believe in itself.
    statuses.iter().filter(|status| status.role == "leader").max_by_key(|status| status.term)
}

/// Queue and offset.
fn place_of(message: &raftmq_proto::v2::Message) -> anyhow::Result<(u32, u64)> {
    let properties = message.system_properties.as_ref().context("no system properties")?;
    let offset = properties.queue_offset.context("no offset")?;
    Ok((properties.queue_id.try_into()?, offset.try_into()?))
}

fn as_stored(message: raftmq_proto::v2::Message) -> anyhow::Result<Stored> {
    let (queue_id, offset) = place_of(&message)?;
    let properties = message.system_properties.context("no system properties")?;
    Ok(Stored {
        queue_id,
        offset,
        id: properties.message_id,
        value: String::from_utf8(message.body.to_vec())?,
    })
}

async fn connect(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let endpoint = endpoint.connect_timeout(CONNECT_LIMIT).timeout(REQUEST_LIMIT);
    Ok(endpoint.connect().await?)
}

fn http_get(host: Ipv4Addr, port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((host, port)), CONNECT_LIMIT)?;
    stream.set_read_timeout(Some(CONNECT_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Milliseconds since 1970, as the drivers log them.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
