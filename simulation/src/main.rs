//! Deterministic simulation of broker groups: the product's own code in a simulated world, thousands
//! of times with other faults, each time repeatable by its seed.
//!
//! ```text
//!   suite: a process for each seed --> run --> cluster: nodes, started again when they died
//!                                       |        |
//!                                    load      checks: what must hold, at every step
//!                                       |
//!                                    faults, from plan (the seed)
//! ```
//!
//! The simulated world itself is `raft-store/src/world/simulated`. Not here: real processes, disks and
//! clients (`chaos-tests`).

mod checks;
mod cluster;
mod faults;
mod load;
mod plan;
mod run;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use clap::Parser;
use clap::Subcommand;
use raftmq_raft_store::planted::Bug;

use crate::suite::Suite;

/// Seeds of `selftest` for each bug.
const SELFTEST_SEEDS: u64 = 100;

#[derive(Parser)]
#[command(name = "sim", about = "Deterministic simulation of broker groups")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where traces go.
    #[arg(long, global = true, default_value = "target/sim-runs")]
    directory: PathBuf,
    /// Seeds at a time.
    #[arg(long, global = true, default_value_t = 2)]
    jobs: usize,
    /// `text` or `json`.
    #[arg(long, global = true, default_value = "text")]
    output: String,
}

#[derive(Subcommand)]
enum Command {
    /// Run seeds and tell what failed.
    Run {
        /// Such as `1..200` (both ends included), `7`, or `1,5,9`.
        #[arg(long)]
        seeds: String,
        /// Plant this bug (docs/planted-bugs.md).
        #[arg(long)]
        bug: Option<String>,
        /// Write the trace of each seed, not only of the first that fails.
        #[arg(long)]
        trace: bool,
        /// Stop starting seeds after one has failed.
        #[arg(long)]
        stop_at_first: bool,
        /// Start no seed after this many seconds.
        #[arg(long)]
        budget_s: Option<u64>,
    },
    /// Run each seed twice; fail unless both runs are the same.
    Twice {
        /// As in `run`.
        #[arg(long)]
        seeds: String,
    },
    /// For each planted bug that can show here: the first seed that catches it.
    Selftest {
        /// Only this bug.
        #[arg(long)]
        bug: Option<String>,
    },
    /// One seed in this process. Started by the others.
    #[command(hide = true)]
    One {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        trace: Option<PathBuf>,
    },
}

/// Bugs that the simulation must find.
const FINDABLE: &[Bug] = &[
    Bug::AckBeforeFsync,
    Bug::AckBeforeWrite,
    Bug::FlushErrorIgnored,
    Bug::SkipVoteFsync,
    Bug::VoteInMemory,
    Bug::TruncateOnCrcError,
    Bug::ChecksumNotCompared,
    Bug::CommitWithoutMajority,
    Bug::VoteForShorterLog,
    Bug::FollowerSkipsEntry,
    Bug::SnapshotWithoutMessages,
    Bug::SnapshotForgetsInflight,
    Bug::DedupNotReplicated,
    Bug::QueueOffsetReused,
];

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let suite = |bug: Option<String>, trace, stop_at_first| Suite {
        jobs: arguments.jobs.max(1),
        directory: arguments.directory.clone(),
        bug,
        trace,
        stop_at_first,
    };
    match arguments.command {
        Command::One { seed, trace } => {
            let report = run::run(seed, trace.as_deref())?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { seeds, bug, trace, stop_at_first, budget_s } => {
            let mut seeds = parse_seeds(&seeds)?;
            let until = budget_s.map(|seconds| Instant::now() + Duration::from_secs(seconds));
            let mut summary = Summary::new(arguments.output == "json");
            let suite = suite(bug, trace, stop_at_first);
            // In rounds, so that a budget can end them.
            while !seeds.is_empty() && until.is_none_or(|until| Instant::now() < until) {
                let rest = seeds.split_off(seeds.len().min(suite.jobs * 8));
                suite.run(std::mem::replace(&mut seeds, rest), |report| summary.add(report))?;
                if stop_at_first && !summary.failed.is_empty() {
                    break;
                }
            }
            summary.print(&suite)
        }
        Command::Twice { seeds } => twice(&suite(None, false, false), &parse_seeds(&seeds)?),
        Command::Selftest { bug } => selftest(bug.as_deref(), suite),
    }
}

fn parse_seeds(text: &str) -> anyhow::Result<Vec<u64>> {
    let mut seeds = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            Some((first, last)) => {
                seeds.extend(first.trim().parse::<u64>()?..=last.trim().parse()?)
            }
            None => seeds.push(part.trim().parse()?),
        }
    }
    Ok(seeds)
}

/// What all seeds together come to.
struct Summary {
    json: bool,
    started: Instant,
    all: Vec<run::Report>,
    failed: Vec<(u64, String)>,
    simulated_ms: u64,
}

impl Summary {
    fn new(json: bool) -> Self {
        Self { json, started: Instant::now(), all: Vec::new(), failed: Vec::new(), simulated_ms: 0 }
    }

    fn add(&mut self, report: &run::Report) {
        self.simulated_ms += report.simulated_ms;
        if let Some(violation) = &report.violation {
            if !self.json {
                println!("seed {} fails: {violation}", report.seed);
            }
            self.failed.push((report.seed, violation.clone()));
        }
        self.all.push(report.clone());
    }

    fn total(&self, of: impl Fn(&run::Report) -> u64) -> u64 {
        self.all.iter().map(of).sum()
    }

    fn print(mut self, suite: &Suite) -> anyhow::Result<ExitCode> {
        self.failed.sort();
        let took = self.started.elapsed();
        let ratio = self.simulated_ms as f64 / 1e3 / took.as_secs_f64();
        let first = self.failed.first().map(|(seed, violation)| (*seed, violation.clone()));
        let mut trace = None;
        if let Some((seed, _)) = first {
            // Repeated for its trace: the run is the same.
            let again = Suite {
                trace: true,
                directory: suite.directory.clone(),
                bug: suite.bug.clone(),
                ..*suite
            };
            again.run([seed], |_| ())?;
            trace = Some(suite.trace_file(seed));
        }
        if self.json {
            let text = serde_json::json!({
                "seeds": self.all.len(),
                "failed": self.failed.iter().map(|(seed, violation)| {
                    serde_json::json!({ "seed": seed, "violation": violation })
                }).collect::<Vec<_>>(),
                "simulated_s": self.simulated_ms / 1000,
                "took_s": took.as_secs_f64(),
                "times_real_time": ratio,
                "trace": trace,
                "runs": self.all,
            });
            println!("{text}");
        } else {
            println!(
                "{} seeds, {} failed; {} simulated seconds in {:.1} s: {:.0} times real time",
                self.all.len(),
                self.failed.len(),
                self.simulated_ms / 1000,
                took.as_secs_f64(),
                ratio
            );
            println!(
                "{} calls, {} without an outcome; {} sends acknowledged, {} messages consumed",
                self.total(|r| r.calls),
                self.total(|r| r.unknown),
                self.total(|r| r.acknowledged),
                self.total(|r| r.consumed)
            );
            println!(
                "{} faults, {} restarts, {} leaders, {} snapshots installed, {} entries, {} disk changes",
                self.total(|r| r.faults),
                self.total(|r| r.restarts),
                self.total(|r| r.leaders),
                self.total(|r| r.snapshots_installed),
                self.total(|r| r.entries),
                self.total(|r| r.disk_changes)
            );
            if let (Some((seed, violation)), Some(trace)) = (first, trace) {
                println!("first failing seed: {seed}: {violation}");
                println!("repeat with: make sim SEEDS={seed}; trace: {}", trace.display());
            }
        }
        Ok(if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn twice(suite: &Suite, seeds: &[u64]) -> anyhow::Result<ExitCode> {
    let mut runs: Vec<run::Report> = Vec::new();
    for _ in 0..2 {
        suite.run(seeds.iter().copied(), |report| runs.push(report.clone()))?;
    }
    runs.sort_by_key(|report| report.seed);
    let mut differ = 0;
    for pair in runs.chunks(2) {
        let [one, other] = pair else { continue };
        let same = (&one.trace_hash, one.events) == (&other.trace_hash, other.events);
        if !same || one.events == 0 {
            differ += 1;
            println!(
                "seed {}: {} events with hash {}, then {} with {}",
                one.seed, one.events, one.trace_hash, other.events, other.trace_hash
            );
        }
    }
    println!("{} seeds run twice, {differ} differ", seeds.len());
    Ok(if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn selftest(
    only: Option<&str>,
    suite: impl Fn(Option<String>, bool, bool) -> Suite,
) -> anyhow::Result<ExitCode> {
    let mut missed = 0;
    for bug in FINDABLE.iter().filter(|bug| only.is_none_or(|only| only == bug.name())) {
        let started = Instant::now();
        let suite = suite(Some(bug.name().to_owned()), false, true);
        let mut caught: Option<(u64, String)> = None;
        suite.run(1..=SELFTEST_SEEDS, |report| {
            if let (seed, Some(violation)) = (report.seed, report.violation.clone())
                && caught.as_ref().is_none_or(|(first, _)| seed < *first)
            {
                caught = Some((seed, violation));
            }
        })?;
        let took = started.elapsed().as_secs_f64();
        match caught {
            Some((seed, how)) => println!("{}: seed {seed}, {took:.1} s: {how}", bug.name()),
            None => {
                missed += 1;
                println!("{}: NOT FOUND in {SELFTEST_SEEDS} seeds, {took:.1} s", bug.name());
            }
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
