//! One seed: build the group, torment it, heal it, and see what is left.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use raftmq_broker::simulation::Stored;
use raftmq_raft_store::planted;
use raftmq_raft_store::world::Process;
use raftmq_raft_store::world::draw;
use raftmq_raft_store::world::time;
use raftmq_raft_store::world::trace;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::checks::History;
use crate::cluster::Cluster;
use crate::faults;
use crate::load::Load;
use crate::load::TOPIC;
use crate::plan::Plan;

/// Time for the group to come to rest when nothing is broken any more.
const HEALING: Duration = Duration::from_secs(240);
/// Time for a new group to serve.
const FOUNDING: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a run was and found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What happened that must not, if something did.
    pub violation: Option<String>,
    /// Hash of all events.
    pub trace_hash: String,
    /// How many there were.
    pub events: u64,
    /// Virtual time.
    pub simulated_ms: u64,
    /// Nodes of the group.
    pub node_count: u64,
    /// Faults made.
    pub faults: u64,
    /// Calls of clients; those without an outcome; sends acknowledged; messages consumed.
    pub calls: u64,
    /// See above.
    pub unknown: u64,
    /// See above.
    pub acknowledged: u64,
    /// See above.
    pub consumed: u64,
    /// Entries committed.
    pub entries: u64,
    /// Terms that had a leader.
    pub leaders: u64,
    /// Incarnations of nodes beyond the first.
    pub restarts: u64,
    /// Snapshots that were installed.
    pub snapshots_installed: u64,
    /// Changes of disks.
    pub disk_changes: u64,
}

/// Runs `seed` in this process, which must do nothing else.
///
/// # Errors
/// The trace can not be written, or the runtime not be made. A violation is no error.
pub fn run(seed: u64, trace_file: Option<&Path>) -> anyhow::Result<Report> {
    anyhow::ensure!(
        std::env::var("RAFTMQ_SIM_SEED").is_ok_and(|text| text == seed.to_string()),
        "the entropy of the system is not taken away; start it with: sim run --seeds {seed}"
    );
    if let Err(error) = planted::active() {
        anyhow::bail!(error);
    }
    draw().seed(seed);
    if let Some(path) = trace_file {
        let file = std::fs::File::create(path);
        trace::to_file(file.with_context(|| format!("could not create {}", path.display()))?);
    }
    std::panic::set_hook(Box::new(|panic| {
        let process = Process::try_current();
        // What a dead process does on its way down is nothing that happens.
        if process.as_ref().is_none_or(|process| !process.is_dead()) {
            trace::violation(format_args!("{process:?} panics: {panic}"));
        }
    }));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let report = runtime.block_on(simulate(seed));
    // The tasks of dead processes are never ended, here neither.
    std::mem::forget(runtime);
    Ok(report)
}

async fn simulate(seed: u64) -> Report {
    time::elapsed();
    let plan = Plan::of(seed);
    trace::note(format_args!("{plan:?}"));
    let cluster = Cluster::new(plan);
    let history = Arc::new(Mutex::new(History::default()));
    let load = Load { cluster: cluster.clone(), history: history.clone() };
    let mut progress = Progress { cluster: cluster.clone(), load, faults: 0 };
    tokio::select! {
        biased;
        () = until_violated() => (),
        () = progress.everything() => (),
    }
    let (hash, events) = trace::finish();
    let history = history.lock();
    let incarnations =
        |node_id| cluster.process(node_id).map_or(0, |process| process.incarnation());
    Report {
        seed,
        violation: trace::violated(),
        trace_hash: format!("{hash:016x}"),
        events,
        simulated_ms: time::elapsed().as_millis() as u64,
        node_count: cluster.plan.node_count,
        faults: progress.faults,
        calls: history.calls,
        unknown: history.unknown,
        acknowledged: history.acknowledged.len() as u64,
        consumed: history.consumed.len() as u64,
        entries: cluster.checks.committed_count() as u64,
        leaders: cluster.checks.leader_count() as u64,
        restarts: cluster.ids().map(incarnations).sum(),
        snapshots_installed: cluster.checks.installed(),
        disk_changes: cluster.ids().map(|node_id| cluster.disk(node_id).changes()).sum(),
    }
}

async fn until_violated() {
    while trace::violated().is_none() {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

struct Progress {
    cluster: Arc<Cluster>,
    load: Load,
    faults: u64,
}

impl Progress {
    async fn everything(&mut self) {
        faults::healthy_links(&self.cluster);
        for node_id in self.cluster.ids() {
            tokio::spawn(self.cluster.clone().supervise(node_id));
        }
        if tokio::time::timeout(FOUNDING, self.load.prepare()).await.is_err() {
            trace::violation(format_args!("a new group does not serve"));
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let mut producers = Vec::new();
        for number in 0..self.cluster.plan.producers {
            producers.push(tokio::spawn(self.load.clone().produce(number, stopped.clone())));
        }
        for number in 0..self.cluster.plan.consumers {
            tokio::spawn(self.load.clone().consume(number, stopped.clone()));
        }
        self.faults = faults::torment(self.cluster.clone()).await;
        trace::note(format_args!("everything is well from here on"));
        stop.send_replace(true);
        let until = Instant::now() + HEALING;
        for producer in producers {
            // A producer has no other end than this.
            let _ = tokio::time::timeout_at(until, producer).await;
        }
        while let Some(lacking) = self.lacks() {
            if Instant::now() >= until {
                trace::violation(format_args!("the group does not come to rest: {lacking}"));
                return;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        self.inspect();
    }

    /// What there is to wait for.
    fn lacks(&self) -> Option<String> {
        if self.cluster.leader().is_none() {
            return Some("nobody leads".to_owned());
        }
        if !self.cluster.agrees() {
            let says = |node_id| {
                let (_, broker) = self.cluster.node(node_id)?;
                let status = broker.group().status();
                Some((status.role, status.membership, status.applied_index, status.last_log_index))
            };
            let nodes: Vec<_> = self.cluster.ids().map(says).collect();
            return Some(format!("the nodes differ: {nodes:?}"));
        }
        let trimmed = self.trimmed_before();
        let history = self.load.history.lock();
        let missing: Vec<&String> = history
            .acknowledged
            .keys()
            .filter(|id| !history.consumed.contains(*id) && !history.perhaps_consumed.contains(*id))
            .filter(|id| self.cluster.checks.stored_at(id).is_none_or(|index| index >= trimmed))
            .collect();
        let first = missing.first()?;
        Some(format!("{} acknowledged messages were not consumed, {first} first", missing.len()))
    }

    fn trimmed_before(&self) -> u64 {
        let nodes = self.cluster.ids().filter_map(|node_id| self.cluster.node(node_id));
        nodes.map(|(_, broker)| broker.trimmed_before()).max().unwrap_or(0)
    }

    /// The last look, when everything stands still.
    fn inspect(&self) {
        self.cluster.checks.logs_match();
        let trimmed = self.trimmed_before();
        let history = self.load.history.lock();
        let mut first: Option<Vec<Stored>> = None;
        for node_id in self.cluster.ids() {
            let Some((process, broker)) = self.cluster.node(node_id) else { continue };
            let contents = process.now(|| broker.contents());
            check_contents(node_id, &contents, &history);
            let held: BTreeSet<(&str, i64)> =
                contents.iter().map(|m| (m.message_id.as_str(), m.offset as i64)).collect();
            for (id, offset) in &history.acknowledged {
                let gone = self.cluster.checks.stored_at(id).is_some_and(|index| index < trimmed);
                if !gone && !held.contains(&(id.as_str(), *offset)) {
                    trace::violation(format_args!(
                        "message {id} was acknowledged at offset {offset}; node {node_id} lacks it"
                    ));
                }
            }
            match &first {
                Some(first) if *first != contents => trace::violation(format_args!(
                    "node {node_id} holds other messages than the first"
                )),
                Some(_) => (),
                None => first = Some(contents),
            }
        }
    }
}

fn check_contents(node_id: u64, contents: &[Stored], history: &History) {
    let mut ids = BTreeSet::new();
    for message in contents.iter().filter(|message| message.topic == TOPIC) {
        let id = &message.message_id;
        match &message.body {
            Err(error) => trace::violation(format_args!(
                "node {node_id} can not read offset {} of queue {}: {error}",
                message.offset, message.queue_id
            )),
            Ok(body) if !body.starts_with(format!("{id}:").as_bytes()) => {
                trace::violation(format_args!("node {node_id} holds another body for message {id}"))
            }
            Ok(_) => (),
        }
        if !history.sent.contains_key(id) {
            trace::violation(format_args!("node {node_id} holds {id:?}, which nobody sent"));
        }
        if !ids.insert(id) {
            trace::violation(format_args!("node {node_id} holds message {id} twice"));
        }
    }
}

impl Report {
    /// Of a run that could not tell what it found.
    pub fn failed(seed: u64, violation: String) -> Self {
        Self {
            seed,
            violation: Some(violation),
            trace_hash: String::new(),
            events: 0,
            simulated_ms: 0,
            node_count: 0,
            faults: 0,
            calls: 0,
            unknown: 0,
            acknowledged: 0,
            consumed: 0,
            entries: 0,
            leaders: 0,
            restarts: 0,
            snapshots_installed: 0,
            disk_changes: 0,
        }
    }
}
