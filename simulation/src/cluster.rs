//! The nodes of a run: started, watched, started again after they died.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_broker::Config;
use raftmq_broker::Member;
use raftmq_broker::StartError;
use raftmq_broker::Tls;
use raftmq_broker::simulation::SimulatedBroker;
use raftmq_raft_store::commit_log::VoteRecord;
use raftmq_raft_store::world::Disk;
use raftmq_raft_store::world::Process;
use raftmq_raft_store::world::disk::FAILED_FLUSH;
use raftmq_raft_store::world::draw;
use raftmq_raft_store::world::net;
use raftmq_raft_store::world::trace;

use crate::checks::Checks;
use crate::plan::Plan;

/// How often nodes are asked for their status.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// All nodes of a run.
pub struct Cluster {
    pub plan: Plan,
    pub checks: Arc<Checks>,
    nodes: Vec<Mutex<Slot>>,
}

struct Slot {
    disk: Disk,
    process: Option<Process>,
    broker: Option<Arc<SimulatedBroker>>,
    death: Death,
}

/// How the next death of a node goes on.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// The host loses its power.
    pub power_lost: bool,
    /// Time until the next start.
    pub down: Duration,
    /// A bit flips meanwhile.
    pub damage: bool,
    /// The disk is empty then.
    pub empty: bool,
}

impl Default for Death {
    fn default() -> Self {
        let down = Duration::from_millis(300);
        Self { power_lost: false, down, damage: false, empty: false }
    }
}

impl Cluster {
    /// Nodes that are not running yet.
    pub fn new(plan: Plan) -> Arc<Self> {
        let disks: Vec<Disk> = (0..plan.node_count).map(|_| Disk::default()).collect();
        let nodes = disks.iter().map(|disk| {
            disk.set_faults(|faults| faults.flush_us = plan.flush_us);
            let death = Death::default();
            Mutex::new(Slot { disk: disk.clone(), process: None, broker: None, death })
        });
        let nodes = nodes.collect();
        let checks = Checks::new(disks);
        Arc::new(Self { plan, checks, nodes })
    }

    /// Node ids.
    pub fn ids(&self) -> impl Iterator<Item = u64> + use<> {
        1..=self.plan.node_count
    }

    fn slot(&self, node_id: u64) -> parking_lot::MutexGuard<'_, Slot> {
        self.nodes[node_id as usize - 1].lock()
    }

    /// Process and broker of a node that is up.
    pub fn node(&self, node_id: u64) -> Option<(Process, Arc<SimulatedBroker>)> {
        let slot = self.slot(node_id);
        Some((slot.process.clone()?, slot.broker.clone()?))
    }

    /// The process of a node, also of one that is starting.
    pub fn process(&self, node_id: u64) -> Option<Process> {
        self.slot(node_id).process.clone()
    }

    /// The disk of a node.
    pub fn disk(&self, node_id: u64) -> Disk {
        self.slot(node_id).disk.clone()
    }

    /// Nodes that serve as leader, as far as they know.
    pub fn leader(&self) -> Option<u64> {
        let leads = |node_id: &u64| {
            self.node(*node_id).is_some_and(|(_, broker)| broker.leading_term().is_some())
        };
        self.ids().find(leads)
    }

    /// Says how the next death of a node goes on, whenever it comes.
    pub fn arrange(&self, node_id: u64, death: Death) {
        self.slot(node_id).death = death;
    }

    /// Ends the process of a node.
    pub fn kill(&self, node_id: u64, death: Death, why: &str) {
        self.arrange(node_id, death);
        net::set_power(node_id, !death.power_lost);
        if let Some(process) = self.process(node_id) {
            process.kill(why);
        }
    }

    /// Whether every node is up, a voter, and of one mind with the others.
    pub fn agrees(&self) -> bool {
        let mut first = None;
        self.ids().all(|node_id| {
            let Some((_, broker)) = self.node(node_id) else { return false };
            let status = broker.group().status();
            let mind = (status.applied_index, status.state_hash, status.last_log_index);
            status.membership == "voter" && *first.get_or_insert(mind) == mind
        })
    }

    /// Keeps a node running: starts it, and again whenever it died.
    pub async fn supervise(self: Arc<Self>, node_id: u64) {
        let disk = self.disk(node_id);
        let mut left: Option<Left> = None;
        for incarnation in 0.. {
            net::set_power(node_id, true);
            let process = Process::start(node_id, incarnation, disk.clone());
            self.slot(node_id).process = Some(process.clone());
            trace::note(format_args!("{process:?} starts"));
            let start = process.run(start(self.clone(), process.clone()));
            tokio::select! {
                biased;
                _ = process.dead() => (),
                started = start => self.started(&process, started, left.take()),
            }
            let why = process.dead().await;
            let death = {
                let mut slot = self.slot(node_id);
                slot.broker = None;
                std::mem::take(&mut slot.death)
            };
            // Power is lost with the changes of the disk, which crash at their n-th.
            if death.power_lost {
                net::set_power(node_id, false);
            }
            left = Some(Left {
                last_index: disk.durable_log().keys().next_back().copied(),
                promised: disk.promised(),
                damaged: false,
            });
            disk.crash(death.power_lost);
            tokio::time::sleep(death.down).await;
            if death.empty {
                disk.wipe();
                left = None;
            } else if death.damage
                && let (Some(left), Some(_)) = (&mut left, disk.damage_log())
            {
                left.damaged = true;
            }
            trace::note(format_args!("node {node_id} was down: {why}"));
        }
    }

    /// Checks what a start made of what was left behind.
    fn started(
        self: &Arc<Self>,
        process: &Process,
        started: Result<SimulatedBroker, StartError>,
        left: Option<Left>,
    ) {
        let node_id = process.node_id();
        let damaged = left.as_ref().is_some_and(|left| left.damaged);
        let broker = match started {
            Ok(broker) => broker,
            Err(error) if error.to_string().contains(FAILED_FLUSH) => {
                self.kill(node_id, Death::default(), "its disk fails as it starts");
                return;
            }
            Err(error) => {
                if !damaged {
                    trace::violation(format_args!("node {node_id} refuses to start: {error}"));
                }
                // What an operator does then.
                let death = Death { empty: true, ..Death::default() };
                self.kill(node_id, death, "it refuses to start");
                return;
            }
        };
        if damaged {
            trace::violation(format_args!("node {node_id} starts with a damaged log"));
        }
        if let Some(left) = left {
            left.check(node_id, &broker);
        }
        let broker = Arc::new(broker);
        self.slot(node_id).broker = Some(broker.clone());
        tokio::spawn(process.run(watch(self.clone(), process.clone(), broker.clone())));
        let ending = process.clone();
        tokio::spawn(process.run(async move {
            let why = broker.group().failed().await;
            // The product's process ends then, as it must when its disk does not do its part.
            if why.contains(FAILED_FLUSH) {
                ending.kill(&format!("its Raft has ended: {why}"));
                return;
            }
            trace::violation(format_args!("Raft of node {node_id} ends by itself: {why}"));
        }));
    }
}

/// What a node must still know after its death.
struct Left {
    last_index: Option<u64>,
    promised: Option<VoteRecord>,
    damaged: bool,
}

impl Left {
    fn check(&self, node_id: u64, broker: &SimulatedBroker) {
        let group = broker.group();
        let last = group.log().last().map(|last| last.index);
        if last < self.last_index {
            trace::violation(format_args!(
                "node {node_id} had flushed its log up to {:?} and starts with {last:?}",
                self.last_index
            ));
        }
        let vote = group.log().vote();
        let kept = |promised: VoteRecord| {
            vote.is_some_and(|vote| {
                vote.term > promised.term
                    || (vote.term == promised.term
                        && (vote.node_id == promised.node_id || vote.committed))
            })
        };
        if let Some(promised) = self.promised
            && !kept(promised)
        {
            trace::violation(format_args!(
                "node {node_id} promised {promised:?} and starts with {vote:?}"
            ));
        }
    }
}

async fn start(cluster: Arc<Cluster>, process: Process) -> Result<SimulatedBroker, StartError> {
    let plan = &cluster.plan;
    let node_id = process.node_id();
    let address = |node_id: u64, port: u16| format!("node-{node_id}:{port}");
    let members = cluster
        .ids()
        .map(|node_id| Member { node_id, peer_address: address(node_id, 8082) })
        .collect();
    let config = Config {
        node_id,
        members,
        client_listen: address(node_id, 8081),
        client_advertise: address(node_id, 8081),
        peer_listen: address(node_id, 8082),
        tls: Tls::Off,
        segment_bytes: plan.segment_bytes,
        retention_bytes: plan.retention_bytes,
        retention_interval: plan.retention_interval,
        timing: plan.timing.clone(),
        ..Config::single(process.directory())
    };
    let dying = process.clone();
    let on_fatal = Arc::new(move |error: &std::io::Error| {
        dying.kill(&format!("it ends itself: {error}"));
    });
    let checks = cluster.checks.clone();
    let watched = process.clone();
    SimulatedBroker::start(config, on_fatal, move |machine| checks.watch(&watched, machine)).await
}

/// Looks at a node as long as it lives.
async fn watch(cluster: Arc<Cluster>, process: Process, broker: Arc<SimulatedBroker>) {
    // Not all at the same moment.
    tokio::time::sleep(draw().micros(0, 50_000)).await;
    loop {
        cluster.checks.status(&process, &broker.group().status());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
