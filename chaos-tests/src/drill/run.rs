//! Runs one drill: start, load, break, heal, drain, read everything, judge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use raftmq_proto::v2::MessageType;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Drill;
use crate::check::{self, Finding, Verdict, Violation};
use crate::cluster::{Cluster, now_ms};
use crate::fault::{Bite, Field};
use crate::history::{Action, Event, Recorder, Stage};
use crate::load::{self, Context, Failures, Workload};
use crate::net::Way;
use crate::report::{FaultWindow, Run, SCHEMA_VERSION};
use crate::{Unmet, paths, until};

/// Load before the first fault, which later figures are compared with.
const WARM_UP: Duration = Duration::from_secs(4);
/// For clients that are processes to be ready: the slowest runtime, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// For what is being sent to be answered or given up: longer than any client waits.
const SENDING_LIMIT: Duration = Duration::from_secs(75);
/// For consumers to take what is left: longer than two invisible times and a long poll.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// For tasks of workloads to end: longer than any call they make.
const END_LIMIT: Duration = Duration::from_secs(40);

/// Where and how a drill is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where chance begins.
    pub seed: u64,
    /// The run's directory; must not exist.
    pub directory: PathBuf,
    /// Added to the environment of each broker.
    pub environment: Vec<(String, String)>,
    /// How hosts are connected where the drill breaks links. None: the best way there is.
    pub network: Option<Way>,
}

/// Runs `drill` and returns what came of it, with the history. An error means that the harness could
/// not do its work; the cluster's faults are findings.
pub async fn run(drill: &Drill, options: &Options) -> anyhow::Result<(Run, Vec<Event>)> {
    std::fs::create_dir_all(&options.directory)?;
    let recorder = Recorder::create(&options.directory.join("history.jsonl"))?;
    let (started_ms, began) = (now_ms(), Instant::now());
    let mut field = Field::start(drill, options).await?;
    let failures = Failures::default();
    let stages = Stages { drill, recorder: &recorder, options, failures: &failures };
    let outcome = stages.run(&mut field).await;
    if let Err(error) = &outcome {
        // What is broken in the cluster shows in the history; this says where it was given up.
        recorder.mark("given_up");
        let logs = options.directory.display();
        eprintln!("{}: {error:#}\n  the servers' logs are in {logs}", drill.name);
    }
    let directory = options.directory.clone();
    let (brokers, name_servers) = (drill.size.brokers, drill.size.name_servers);
    read_logs(&recorder, &mut field.cluster).await?;
    recorder.mark("end");
    let way = field.network.as_ref().map(|wires| ("network".to_owned(), wires.way().to_string()));
    drop(field);

    let events = recorder.events()?;
    let expect = drill.expectations();
    let mut findings = check::all(&events, &expect);
    if let Err(error) = outcome {
        findings.push(given_up(&error));
    }
    if !failures.all().is_empty() {
        findings.push(clients_failed(failures.all()));
    }
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown);
    let run = Run {
        schema_version: SCHEMA_VERSION,
        drill: drill.name.to_owned(),
        seed: options.seed,
        subject: subject()?,
        started_ms,
        duration_ms: began.elapsed().as_millis() as u64,
        brokers,
        name_servers,
        flush: "sync".to_owned(),
        verdict,
        faults: windows(&events),
        findings,
        command: command_line(drill, options),
        facts: options.environment.iter().cloned().chain(way).collect(),
    };
    crate::report::write(&directory, &run, &events)?;
    Ok((run, events))
}

/// The command that makes a run again.
fn command_line(drill: &Drill, options: &Options) -> String {
    let variables = options.environment.iter().map(|(name, value)| format!("{name}={value} "));
    let variables: String = variables.collect();
    format!("{variables}chaos drill {} --seed {}", drill.name, options.seed)
}

struct Stages<'a> {
    drill: &'a Drill,
    recorder: &'a Recorder,
    options: &'a Options,
    failures: &'a Failures,
}

impl Stages<'_> {
    async fn run(&self, field: &mut Field) -> anyhow::Result<()> {
        let workloads = (self.drill.workloads)();
        let topics: Vec<String> = workloads.iter().flat_map(|it| it.topics()).collect();
        let groups: Vec<String> =
            workloads.iter().flat_map(|it| it.groups()).map(|(group, _)| group).collect();
        self.make(field, &workloads).await?;

        self.recorder.mark("warm_up");
        let context = Context {
            recorder: self.recorder.clone(),
            endpoints: field.cluster.endpoints(),
            admin: field.cluster.admin_addresses(),
            brokers: field.cluster.client_addresses(),
            seed: self.options.seed,
            surge: field.surge.clone(),
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
            starting: TaskTracker::new(),
            sending: TaskTracker::new(),
            failures: self.failures.clone(),
            directory: self.options.directory.clone(),
        };
        let names: Vec<String> =
            (0..field.cluster.size()).map(|it| field.cluster.name(it).to_owned()).collect();
        let nodes = names.iter().cloned().zip(field.cluster.peer_addresses()).collect();
        let mut tasks: Vec<JoinSet<()>> =
            workloads.iter().map(|workload| workload.start(&context)).collect();
        tasks.push(load::observe(&context, nodes));
        tasks.push(load::progress(&context, groups.clone()));
        let all_ready = none_left(&context.starting, START_LIMIT).await;
        tokio::time::sleep(WARM_UP).await;

        let broken = match all_ready {
            true => self.break_it(field).await,
            false => Err(anyhow::anyhow!("a client was not ready in time")),
        };
        let healed = match broken {
            Ok(()) => self.heal(field).await,
            Err(error) => Err(error),
        };
        tokio::time::sleep(self.drill.load_after).await;
        self.recorder.mark("stop");
        context.stop.cancel();
        none_left(&context.sending, SENDING_LIMIT).await;
        let drained = match healed {
            Ok(()) => self.drain(field, &groups).await,
            Err(error) => Err(error),
        };
        context.end.cancel();
        for mut tasks in tasks {
            let ended = async { while tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(END_LIMIT, ended).await.is_err() {
                tasks.shutdown().await;
            }
        }
        drained?;
        field.cluster.agree().await?;
        let (peers, admins) = (field.cluster.peer_addresses(), field.cluster.admin_addresses());
        for ((name, peer), admin) in names.iter().zip(&peers).zip(&admins) {
            self.recorder.observe(load::status(peer).await?, Some(name.clone()));
            load::read_everything(self.recorder, name, admin, &topics, &groups).await?;
        }
        for topic in workloads.iter().flat_map(|it| it.make_topics()) {
            if topic.message_types().any(|kind| kind == MessageType::Transaction) {
                load::undecided(self.recorder, &admins[0], &topic.name).await?;
            }
        }
        Ok(())
    }

    /// Makes topics and groups, and writes down what the groups are like.
    async fn make(&self, field: &Field, workloads: &[Box<dyn Workload>]) -> anyhow::Result<()> {
        let topics: Vec<_> = workloads.iter().flat_map(|it| it.make_topics()).collect();
        let groups: Vec<_> = workloads.iter().flat_map(|it| it.make_groups()).collect();
        for group in field.cluster.create_as(&topics, &groups).await? {
            let (max_attempts, fifo) = (group.max_attempts, group.fifo);
            self.recorder.observe(Action::Group { group: group.name, max_attempts, fifo }, None);
        }
        Ok(())
    }

    async fn break_it(&self, field: &mut Field) -> anyhow::Result<()> {
        self.recorder.mark("faults");
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        for mut step in (self.drill.plan)(&mut random) {
            let fault = &mut step.fault;
            let name = fault.name();
            let event = |targets, stage, bite: Option<Bite>, parameters| {
                let (bit, evidence) = match bite {
                    Some(Bite::Bit(evidence)) => (Some(true), Some(evidence)),
                    Some(Bite::Missed(evidence)) => (Some(false), Some(evidence)),
                    None => (None, None),
                };
                let name = name.to_owned();
                Action::Fault { name, targets, stage, bit, evidence, parameters }
            };
            let targets = fault.choose(field).await.with_context(|| format!("could not {name}"))?;
            let parameters = fault.parameters();
            let begins = event(targets.clone(), Stage::Begin, None, parameters.clone());
            self.recorder.observe(begins, None);
            fault.begin(field).await.with_context(|| format!("could not {name}"))?;
            tokio::time::sleep(step.hold).await;
            let bite = fault.end(field).await.with_context(|| format!("could not end {name}"))?;
            self.recorder.observe(event(targets, Stage::End, Some(bite), parameters), None);
            tokio::time::sleep(step.rest).await;
        }
        Ok(())
    }

    /// Everything that should run does, and has caught up.
    async fn heal(&self, field: &mut Field) -> anyhow::Result<()> {
        self.recorder.mark("healed");
        field.heal().await?;
        for broker in 0..field.cluster.size() {
            field.cluster.caught_up(broker).await?;
        }
        field.cluster.ensure_alive()
    }

    async fn drain(&self, field: &Field, groups: &[String]) -> anyhow::Result<()> {
        self.recorder.mark("drain");
        until("consumers to take what is left", DRAIN_LIMIT, async || {
            for group in groups {
                let left = field.cluster.unconsumed(group).await?;
                ensure!(left == 0, "{left} messages are not acknowledged by {group}");
            }
            Ok(())
        })
        .await?;
        self.recorder.mark("drained");
        Ok(())
    }
}

/// Waits until nobody holds a token any more; whether that came in time.
async fn none_left(tracker: &TaskTracker, limit: Duration) -> bool {
    tracker.close();
    tokio::time::timeout(limit, tracker.wait()).await.is_ok()
}

/// What `raftmq log inspect` prints.
#[derive(Deserialize)]
struct Log {
    entries: Vec<LogEntry>,
}

#[derive(Deserialize)]
struct LogEntry {
    index: u64,
    term: u64,
    crc32c: u32,
}

/// Stops the brokers and writes down every entry that lies in their files.
async fn read_logs(recorder: &Recorder, cluster: &mut Cluster) -> anyhow::Result<()> {
    for broker in 0..cluster.size() {
        if cluster.is_up(broker) {
            cluster.stop(broker).await.ok();
        }
    }
    for broker in 0..cluster.size() {
        let printed = Command::new(paths::binary()?)
            .args(["log", "inspect", "--output", "json", "--data-dir"])
            .arg(cluster.data_directory(broker))
            .output()?;
        // Damage at the end of the log is the node's to judge; what is readable counts.
        let Ok(log) = serde_json::from_slice::<Log>(&printed.stdout) else { continue };
        for entry in log.entries {
            let LogEntry { index: log_index, term, crc32c } = entry;
            let entry = Action::Entry { log_index, term, crc32c };
            recorder.observe(entry, Some(cluster.name(broker).to_owned()));
        }
    }
    Ok(())
}

/// Why a run was given up: the cluster did not do what it must once nothing is broken any more, or
/// the harness could not do its own work, which says nothing about the cluster.
pub(crate) fn given_up(error: &anyhow::Error) -> Finding {
    let violation = Violation { text: format!("{error:#}"), events: Vec::new() };
    let (checker, verdict, note) = match Unmet::is_in(error) {
        true => ("liveness", Verdict::Fail, "it did not do what it must"),
        false => ("harness", Verdict::Unknown, "the drill could not be carried out"),
    };
    Finding {
        checker: checker.to_owned(),
        verdict,
        violations: vec![violation],
        violation_count: 1,
        note: note.to_owned(),
        figures: BTreeMap::new(),
    }
}

/// A client that is a process of its own ended, or did not do what it had to.
fn clients_failed(texts: Vec<String>) -> Finding {
    let violations: Vec<Violation> =
        texts.into_iter().map(|text| Violation { text, events: Vec::new() }).collect();
    Finding {
        checker: "clients".to_owned(),
        verdict: Verdict::Fail,
        violation_count: violations.len() as u64,
        violations,
        note: "an official client did not get through".to_owned(),
        figures: BTreeMap::new(),
    }
}

/// Builds what the workloads of a drill need. Before its clock starts, since it may take minutes.
///
/// # Errors
/// It can not be built here: nothing can be said about the drill.
pub fn prepare(drill: &Drill) -> anyhow::Result<()> {
    (drill.workloads)().iter().try_for_each(|workload| workload.prepare())
}

/// The faults of a history, each with its begin and end.
pub(crate) fn windows(events: &[Event]) -> Vec<FaultWindow> {
    let mut windows: Vec<FaultWindow> = Vec::new();
    for event in events {
        let Action::Fault { name, targets, stage, bit, evidence, parameters } = &event.action
        else {
            continue;
        };
        match stage {
            Stage::Begin => windows.push(FaultWindow {
                name: name.clone(),
                targets: targets.clone(),
                parameters: parameters.clone(),
                begin_ns: event.time_ns,
                end_ns: u64::MAX,
                bit: false,
                evidence: "it was not ended".to_owned(),
            }),
            Stage::End => {
                if let Some(window) = windows.last_mut() {
                    window.end_ns = event.time_ns;
                    window.bit = bit.unwrap_or(false);
                    window.evidence = evidence.clone().unwrap_or_default();
                }
            }
        }
    }
    windows
}

/// What `raftmq --version` says.
pub(crate) fn subject() -> anyhow::Result<String> {
    let version = Command::new(paths::binary()?).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&version.stdout).trim().to_owned())
}

/// A new directory for a run, in `runs`.
pub fn directory(runs: &Path, drill: &str, seed: u64) -> PathBuf {
    let mut number = 0;
    loop {
        let suffix = if number == 0 { String::new() } else { format!("-{number}") };
        let directory = runs.join(format!("{drill}-{seed}{suffix}"));
        if !directory.exists() {
            return directory;
        }
        number += 1;
    }
}
