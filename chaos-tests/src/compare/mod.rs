//! RaftMQ and Apache RocketMQ under the same load and the same process faults, to be held side by
//! side: what was lost, how long nothing could be written.
//!
//! The load is that of the official Java client in both cases, with the same rate, topic, group and
//! settings. [`subject`] is what a cluster must offer, [`plan`] the faults, [`run`] the run,
//! [`story`] its history, [`table`] what is read from it.
//!
//! Invariants: nothing here knows which cluster it breaks; figures come from histories only; of
//! RaftMQ every replica is read at the end, of RocketMQ the master: what lacks at any is lost.
//!
//! Not here: a judgement about RocketMQ. What it loses is a figure; the verdict is RaftMQ's, and
//! *unknown* if either run could not be finished.

pub mod plan;
pub mod run;
pub mod story;
pub mod subject;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

use self::run::{Outcome, Plan};
use self::table::Row;
use crate::check::{self, Checker, Expectations, Verdict};
use crate::cluster::{self, Size, now_ms};
use crate::drill::{given_up, subject as raftmq_version, windows};
use crate::history::{self, Action, Event};
use crate::paths;
use crate::report::html::{self, Comparison};
use crate::report::{Report, Run, SCHEMA_VERSION, json};
use crate::rocketmq::config::Setting;
use crate::rocketmq::{self, servers};

const SIZE: Size = Size { name_servers: 3, brokers: 3 };

/// A cluster that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// RaftMQ with its defaults: an acknowledged message is flushed at a majority.
    RaftMq,
    /// RocketMQ in controller mode.
    RocketMq(Setting),
}

impl Choice {
    /// Its name, of its directory too.
    pub fn name(self) -> &'static str {
        match self {
            Self::RaftMq => "raftmq",
            Self::RocketMq(Setting::Strict) => "rocketmq",
            Self::RocketMq(Setting::Defaults) => "rocketmq-defaults",
        }
    }

    fn title(self, version: &str) -> String {
        match self {
            Self::RaftMq => version.replacen("raftmq", "RaftMQ", 1),
            Self::RocketMq(Setting::Strict) => format!("RocketMQ {version}, strict"),
            Self::RocketMq(Setting::Defaults) => format!("RocketMQ {version}, defaults"),
        }
    }
}

/// What is compared, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where chance begins.
    pub seed: u64,
    /// How often each fault is made.
    pub rounds: u32,
    /// Sends a second.
    pub rate: u32,
    /// What RaftMQ is held beside.
    pub against: Vec<Setting>,
    /// For everything. Runs that it has already are not made again.
    pub directory: PathBuf,
}

/// One run, as it is compared.
pub struct Side {
    /// Whose.
    pub choice: Choice,
    /// The report of the run.
    pub report: Report,
    /// Its history.
    pub events: Vec<Event>,
    /// What each fault did.
    pub rows: Vec<Row>,
}

/// Makes the runs that are not there yet, and writes `compare.html`, `compare.json` and
/// `compare.md`. Returns the verdict and the runs.
pub async fn compare(options: &Options) -> anyhow::Result<(Verdict, Vec<Side>)> {
    let mut sides = vec![side(Choice::RaftMq, options).await?];
    for setting in &options.against {
        sides.push(side(Choice::RocketMq(*setting), options).await?);
    }
    write(&options.directory, &sides)?;
    let verdicts = sides.iter().map(|side| (side.choice, side.report.run.verdict));
    Ok((verdict(verdicts), sides))
}

/// RaftMQ's; not known, if that of any run is not.
fn verdict(sides: impl IntoIterator<Item = (Choice, Verdict)>) -> Verdict {
    let of_side = |(choice, verdict)| match (choice, verdict) {
        (Choice::RocketMq(_), Verdict::Fail) => Verdict::Pass,
        (_, verdict) => verdict,
    };
    Verdict::worst(sides.into_iter().map(of_side))
}

async fn side(choice: Choice, options: &Options) -> anyhow::Result<Side> {
    let directory = options.directory.join(choice.name());
    if !directory.join(json::FILE).exists() {
        std::fs::create_dir_all(&directory)?;
        make(choice, options, &directory).await?;
    }
    let mut run = Report::read(&directory)?.run;
    let events = history::read(&directory.join("history.jsonl"))?;
    // An earlier run is judged as one of today.
    judge(choice, &mut run, &events);
    let report = crate::report::write(&directory, &run, &events)?;
    let rows = table::rows(&events);
    Ok(Side { choice, report, events, rows })
}

async fn make(choice: Choice, options: &Options, directory: &Path) -> anyhow::Result<()> {
    let (started_ms, began) = (now_ms(), Instant::now());
    let faults = plan::plan(options.seed, options.rounds);
    let plan = Plan { faults: &faults, rate: options.rate, directory };
    let mut facts = machine();
    facts.insert("sends a second".to_owned(), options.rate.to_string());
    facts.insert("client".to_owned(), client());
    let (outcome, version) = match choice {
        Choice::RaftMq => {
            let mut cluster = cluster::Cluster::start(directory, SIZE).await?;
            let build = if paths::binary()?.iter().any(|part| part == "release") {
                "release build"
            } else {
                "not a release build"
            };
            facts.insert("settings".to_owned(), format!("defaults: flush = sync; {build}"));
            (run::run(&mut cluster, &plan).await?, raftmq_version()?)
        }
        Choice::RocketMq(setting) => {
            let mut cluster = rocketmq::Cluster::start(directory, setting).await?;
            facts.insert("settings".to_owned(), rocketmq::facts(setting));
            facts.insert("java".to_owned(), servers::JAVA_OPTIONS.join(" "));
            (run::run(&mut cluster, &plan).await?, cluster.version().to_owned())
        }
    };
    facts.insert("load average at the end".to_owned(), load_average());
    let Outcome { events, given_up: error } = outcome;
    let mut run = Run {
        schema_version: SCHEMA_VERSION,
        drill: "compare".to_owned(),
        seed: options.seed,
        subject: choice.title(&version),
        started_ms,
        duration_ms: began.elapsed().as_millis() as u64,
        brokers: SIZE.brokers,
        name_servers: SIZE.name_servers,
        flush: match choice {
            Choice::RaftMq => "sync".to_owned(),
            Choice::RocketMq(setting) => setting.flush().to_owned(),
        },
        verdict: Verdict::Unknown,
        faults: windows(&events),
        findings: error.as_ref().map(given_up).into_iter().collect(),
        command: format!("chaos compare --seed {} --rounds {}", options.seed, options.rounds),
        facts,
    };
    judge(choice, &mut run, &events);
    history::write(&directory.join("history.jsonl"), &events)?;
    // Last: with it the run is complete.
    crate::report::write(directory, &run, &events).map(drop)
}

/// Judges a run. That it was given up was found when it was made, and stays.
fn judge(choice: Choice, run: &mut Run, events: &[Event]) {
    let checkers = Checker::ALL.map(Checker::as_str);
    run.findings.retain(|finding| !checkers.contains(&finding.checker.as_str()));
    let mut expect = expectations(choice, run.faults.len());
    expect.replicas = match choice {
        Choice::RaftMq => (1..=run.brokers).map(|number| format!("broker-{number}")).collect(),
        Choice::RocketMq(_) => readers(events),
    };
    run.findings.extend(check::all(events, &expect));
    run.verdict = Verdict::worst(run.findings.iter().map(|finding| finding.verdict));
}

/// Who was read at the end: of RocketMQ whoever was master then.
fn readers(events: &[Event]) -> BTreeSet<String> {
    let stored = events.iter().filter(|event| matches!(event.action, Action::Stored { .. }));
    stored.filter_map(|event| event.node.clone()).collect()
}

/// What is demanded. The driver can not tell when a delivery was made invisible, so what was
/// delivered again is counted and not judged.
fn expectations(choice: Choice, faults: usize) -> Expectations {
    let mut expect = Expectations {
        required: [Checker::Lost, Checker::Phantom, Checker::Vacuity].into(),
        skipped: [Checker::Duplicate].into(),
        faults_min: faults,
        // Nothing can be acknowledged while all are away.
        ok_sends_per_fault_min: 0,
        ..Expectations::default()
    };
    if let Choice::RocketMq(_) = choice {
        // What RaftMQ promises of its log and its queues, and RocketMQ does not.
        expect.skipped.extend([Checker::Order, Checker::Leaders, Checker::Replicas]);
    }
    expect
}

fn machine() -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let facts = [
        ("machine", format!("one for all servers and clients, {cores} cores, loopback")),
        ("load average at the begin", load_average()),
    ];
    facts.map(|(name, fact)| (name.to_owned(), fact)).into()
}

/// Of the last minute, five, and fifteen: what else went on.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

fn client() -> String {
    let pom = include_str!("../../clients/java/pom.xml");
    let version = pom.split_once("<rocketmq.client.version>").map_or("", |(_, rest)| rest);
    let version = version.split('<').next().unwrap_or_default();
    format!("rocketmq-client-java {version}, its defaults")
}

fn write(directory: &Path, sides: &[Side]) -> anyhow::Result<()> {
    let document = |side: &Side| {
        let run = &side.report.run;
        serde_json::json!({
            "name": side.choice.name(),
            "subject": run.subject,
            "seed": run.seed,
            "verdict": run.verdict,
            "duration_ms": run.duration_ms,
            "facts": run.facts,
            "rows": side.rows,
        })
    };
    let document = serde_json::json!({
        "schema_version": SCHEMA_VERSION,
        "sides": sides.iter().map(document).collect::<Vec<_>>(),
    });
    let put = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    put("compare.json", serde_json::to_string_pretty(&document)? + "\n")?;
    let named: Vec<(&str, &[Row])> =
        sides.iter().map(|side| (&*side.report.run.subject, &*side.rows)).collect();
    put("compare.md", table::markdown(&named))?;
    let runs: Vec<(&Report, &[Event])> =
        sides.iter().map(|side| (&side.report, &*side.events)).collect();
    let comparison = Comparison {
        head: table::HEAD.map(str::to_owned).into(),
        rows: table::cells(&named),
        notes: sides.iter().map(|side| facts(&side.report.run)).collect(),
    };
    put("compare.html", html::comparison(&runs, &comparison)?)
}

/// Under what a run was made, in one line.
fn facts(run: &Run) -> String {
    let facts: Vec<String> =
        run.facts.iter().map(|(name, fact)| format!("{name}: {fact}")).collect();
    format!("{}: {}", run.subject, facts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_has_a_version() {
        let client = client();
        let words: Vec<&str> = client.split([' ', ',']).collect();
        assert!(words[1].split('.').count() == 3 && words[1].len() >= 5, "{client}");
    }

    #[test]
    fn what_rocketmq_loses_is_a_figure_and_what_raftmq_loses_a_failure() {
        let both = |raftmq, rocketmq| {
            verdict([(Choice::RaftMq, raftmq), (Choice::RocketMq(Setting::Strict), rocketmq)])
        };
        assert_eq!(both(Verdict::Pass, Verdict::Fail), Verdict::Pass);
        assert_eq!(both(Verdict::Fail, Verdict::Pass), Verdict::Fail);
        assert_eq!(both(Verdict::Pass, Verdict::Unknown), Verdict::Unknown);
    }

    #[test]
    fn rocketmq_is_not_held_to_what_only_raftmq_promises() {
        let strict = expectations(Choice::RocketMq(Setting::Strict), 4);
        assert!(strict.skipped.contains(&Checker::Order));
        assert!(!expectations(Choice::RaftMq, 4).skipped.contains(&Checker::Order));
        for choice in [Choice::RaftMq, Choice::RocketMq(Setting::Defaults)] {
            assert!(!expectations(choice, 4).skipped.contains(&Checker::Lost));
        }
    }
}
