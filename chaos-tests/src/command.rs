//! The verbs of `chaos`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use raftmq_chaos_tests::check::{self, Finding, Verdict};
use raftmq_chaos_tests::compare::table::{HEAD, Row};
use raftmq_chaos_tests::drill::{self, Drill, Options};
use raftmq_chaos_tests::ledger::{self, Entry};
use raftmq_chaos_tests::mesh::{self, Export};
use raftmq_chaos_tests::net::Way;
use raftmq_chaos_tests::report::Run;
use raftmq_chaos_tests::rocketmq::config::Setting;
use raftmq_chaos_tests::{compare, figures, history, probe, selftest};

/// Prints a line.
macro_rules! say {
    ($($part:tt)*) => { figures::print_line(format_args!($($part)*)) };
}

const AFTER_HELP: &str = "\
Examples:
  chaos probe                         what this machine allows
  chaos drill kill-leader --seed 7    one drill; its report is chaos-runs/kill-leader-7/report.html
  chaos suite smoke                   the quick ones
  chaos suite ci --budget 30m         each drill once
  chaos suite messages --jobs 6       every fault under everything that messages can do
  chaos compare                       the same faults for Apache RocketMQ, side by side
  chaos selftest                      show that planted bugs are caught
  chaos check chaos-runs/kill-leader-7/history.jsonl

The brokers are processes of the raftmq binary beside this one, or of RAFTMQ_BIN.
A run's directory has report.html and summary.md for people, report.json and junit.xml for machines,
history.jsonl with every operation, and the servers' own logs.
Exit codes: 0 pass, 1 fail, 2 not known: a fault had no effect, or the machine lacks something.";

/// Failure drills: breaks a cluster of real processes under load, and judges what it promised.
#[derive(Parser)]
#[command(name = "chaos", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,

    /// Where runs leave their histories and reports
    #[arg(long, global = true, default_value = "chaos-runs", value_name = "DIRECTORY")]
    runs: PathBuf,

    /// Add each run to this ledger
    #[arg(long, global = true, value_name = "FILE")]
    ledger: Option<PathBuf>,

    /// How hosts are connected where links are broken: namespaces (needs root) or proxy. The best
    /// there is, if absent
    #[arg(long, global = true, value_name = "WAY")]
    network: Option<Way>,

    /// What to print: text for people, or json with one document a line
    #[arg(
        long,
        value_enum,
        default_value_t,
        global = true,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    output: Format,
}

/// Who reads what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A person.
    #[default]
    Text,
    /// A program.
    Json,
}

#[derive(Subcommand)]
enum Verb {
    /// Show what this machine allows
    Probe,
    /// List the drills
    List,
    /// Run one drill
    Drill {
        /// Its name, as in `chaos list`
        name: String,
        /// Where chance begins
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How often, each time with the next seed
        #[arg(long, default_value_t = 1)]
        rounds: u64,
    },
    /// Run several drills
    Suite {
        /// smoke, ci, messages or full
        name: String,
        /// No further drill begins after this time, such as 15m
        #[arg(long, default_value = "60m", value_parser = duration)]
        budget: Duration,
        /// Leave out, with a word, what this machine can not do; otherwise it counts as not known
        #[arg(long)]
        allow_missing: bool,
        /// Where chance begins
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Drills at the same time: each has its own processes, network and disks
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
        jobs: u8,
    },
    /// Run random drills for hours
    Soak {
        /// How long
        #[arg(long)]
        hours: f64,
        /// Where chance begins
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Run the drill of an earlier run again, with its seed
    Replay {
        /// The run's directory
        directory: PathBuf,
    },
    /// Judge a history again
    Check {
        /// history.jsonl of a run
        history: PathBuf,
        /// Whose expectations hold; without it those of the drill in report.json beside it
        #[arg(long)]
        drill: Option<String>,
    },
    /// Show that planted bugs are caught (needs a raftmq with the feature planted-bugs)
    Selftest {
        /// Only these bugs
        bugs: Vec<String>,
        /// Seeds that are tried for each bug
        #[arg(long, default_value_t = 3)]
        attempts: u64,
        /// Where chance begins
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Bugs at the same time
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
        jobs: u8,
    },
    /// Write drills as manifests for Chaos Mesh, for a cluster in Kubernetes
    Export {
        /// Only these, and no README.md
        drills: Vec<String>,
        /// Where to
        #[arg(long, default_value = "deploy/chaos")]
        directory: PathBuf,
    },
    /// Hold RaftMQ and Apache RocketMQ side by side, under the same process faults
    ///
    /// Needs Java and Maven; RocketMQ's released servers are fetched. A run whose report lies in the
    /// directory already is not made again. The exit code is RaftMQ's: what RocketMQ loses is a figure.
    Compare {
        /// With what
        #[arg(long, value_enum, default_values_t = [Against::Rocketmq])]
        against: Vec<Against>,
        /// Where chance begins
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How often each fault is made
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Sends a second
        #[arg(long, default_value_t = 100)]
        rate: u32,
    },
    /// Add up a ledger
    Ledger {
        /// The file
        #[arg(default_value = "chaos-tests/ledger.jsonl")]
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Against {
    /// Controller mode; an acknowledged message is flushed at the master and at the replicas in sync
    Rocketmq,
    /// Controller mode with Apache's defaults
    RocketmqDefaults,
    /// Nothing: RaftMQ's own run only
    Nothing,
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.len().saturating_sub(1));
    let value: u64 = digits.parse().map_err(|_| format!("{text} is no time such as 90s or 15m"))?;
    match unit {
        "s" => Ok(Duration::from_secs(value)),
        "m" => Ok(Duration::from_secs(60 * value)),
        "h" => Ok(Duration::from_secs(3600 * value)),
        _ => Err(format!("{text} has no unit: s, m or h")),
    }
}

/// 0 pass, 1 fail, 2 unknown.
pub fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::Unknown => 2,
    }
}

pub async fn run(cli: Cli) -> anyhow::Result<Verdict> {
    let json = cli.output == Format::Json;
    let book = Book { runs: cli.runs, ledger: cli.ledger, network: cli.network, json };
    match cli.verb {
        Verb::Probe => Ok(show_probe(book.json)),
        Verb::List => {
            list(book.json);
            Ok(Verdict::Pass)
        }
        Verb::Drill { name, seed, rounds } => {
            let drill = find(&name)?;
            let mut worst = Verdict::Pass;
            for round in 0..rounds {
                worst = worst.max(book.drill(drill, seed + round).await?);
            }
            Ok(worst)
        }
        Verb::Suite { name, budget, allow_missing, seed, jobs } => {
            let suite = Suite { budget, allow_missing, seed, jobs: jobs.into() };
            book.suite(&name, &suite).await
        }
        Verb::Soak { hours, seed } => book.soak(hours, seed).await,
        Verb::Replay { directory } => {
            let run = read_run(&directory)?;
            book.drill(find(&run.drill)?, run.seed).await
        }
        Verb::Check { history, drill } => {
            let events = history::read(&history)?;
            let drill = match drill {
                Some(drill) => drill,
                None => {
                    let directory = history.parent().unwrap_or(Path::new("."));
                    read_run(directory).context("--drill says whose expectations hold")?.drill
                }
            };
            let findings = check::all(&events, &find(&drill)?.expectations());
            if book.json {
                for finding in &findings {
                    say!("{}", serde_json::to_string(finding)?);
                }
            } else {
                show_findings(&findings);
                let passed = findings.iter().filter(|it| it.verdict == Verdict::Pass).count();
                say!("{passed} of {} checkers pass", findings.len());
            }
            Ok(findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown))
        }
        Verb::Selftest { bugs, attempts, seed, jobs } => {
            let results = selftest::run(&book.runs, &bugs, attempts, seed, jobs.into()).await?;
            ensure!(!results.is_empty(), "there is no such bug");
            let caught = results.iter().filter(|result| result.caught_by.is_some()).count();
            if book.json {
                for result in &results {
                    say!("{}", serde_json::to_string(result)?);
                }
            } else {
                figures::print_table("planted bugs", &selftest::table(&results));
                say!("\n{caught} of {} planted bugs were caught", results.len());
            }
            Ok(if caught == results.len() { Verdict::Pass } else { Verdict::Fail })
        }
        Verb::Export { drills, directory } => export(&drills, &directory),
        Verb::Compare { against, seed, rounds, rate } => {
            book.compare(&against, seed, rounds, rate).await
        }
        Verb::Ledger { file } => {
            show_ledger(&file, book.json)?;
            Ok(Verdict::Pass)
        }
    }
}

fn find(name: &str) -> anyhow::Result<&'static Drill> {
    drill::find(name)
        .with_context(|| format!("there is no drill {name}; `chaos list` shows those there are"))
}

fn read_run(directory: &Path) -> anyhow::Result<Run> {
    let path = directory.join("report.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// How a suite is run.
struct Suite {
    budget: Duration,
    allow_missing: bool,
    seed: u64,
    jobs: usize,
}

/// Where runs are kept and counted.
struct Book {
    runs: PathBuf,
    ledger: Option<PathBuf>,
    network: Option<Way>,
    json: bool,
}

impl Book {
    async fn drill(&self, drill: &Drill, seed: u64) -> anyhow::Result<Verdict> {
        if let Some(missing) = probe::missing(drill.needs) {
            self.show_not_run(drill, seed, &format!("this machine lacks {missing}"));
            return Ok(Verdict::Unknown);
        }
        let prepared = *drill;
        let prepare = tokio::task::spawn_blocking(move || drill::prepare(&prepared));
        if let Err(error) = prepare.await? {
            println!("{:<30} seed {seed:<6} UNKNOWN  {error:#}", drill.name);
            return Ok(Verdict::Unknown);
        }
        let directory = drill::directory(&self.runs, drill.name, seed);
        let options = Options {
            seed,
            directory: directory.clone(),
            environment: Vec::new(),
            network: self.network,
        };
        let (run, events) = drill::run(drill, &options).await?;
        if let Some(ledger) = &self.ledger {
            Entry::new(&run, &events).append(ledger)?;
        }
        self.show(&run, &directory)?;
        Ok(run.verdict)
    }

    fn show_not_run(&self, drill: &Drill, seed: u64, reason: &str) {
        let name = drill.name;
        if self.json {
            let verdict = Verdict::Unknown;
            let line = serde_json::json!({
                "drill": name, "seed": seed, "verdict": verdict, "reason": reason,
            });
            say!("{line}");
        } else {
            say!("{name:<30} seed {seed:<6} UNKNOWN  {reason}");
        }
    }

    fn show(&self, run: &Run, directory: &Path) -> anyhow::Result<()> {
        if self.json {
            say!("{}", serde_json::to_string(run)?);
            return Ok(());
        }
        let verdict = format!("{:?}", run.verdict).to_uppercase();
        let bit = run.faults.iter().filter(|fault| fault.bit).count();
        say!(
            "{:<30} seed {:<6} {verdict:<8} {:>4} s, {bit} of {} faults had an effect; {}",
            run.drill,
            run.seed,
            run.duration_ms / 1000,
            run.faults.len(),
            directory.join("report.html").display()
        );
        if run.verdict != Verdict::Pass {
            show_findings(&run.findings);
        }
        Ok(())
    }

    async fn suite(&self, name: &str, suite: &Suite) -> anyhow::Result<Verdict> {
        let drills = drill::suite(name).context("suites are smoke, ci, messages and full")?;
        let rounds = if name == "full" { 3 } else { 1 };
        let begin = Instant::now();
        let runs = (0..rounds).flat_map(|round| drills.iter().map(move |drill| (round, *drill)));
        let verdicts = stream::iter(runs)
            .map(async |(round, drill)| {
                let seed = suite.seed + round;
                if begin.elapsed() > suite.budget {
                    self.show_not_run(drill, seed, "no time left");
                    return Ok(Verdict::Unknown);
                }
                let verdict = self.drill(drill, seed).await?;
                let left_out = suite.allow_missing && probe::missing(drill.needs).is_some();
                anyhow::Ok(if left_out { Verdict::Pass } else { verdict })
            })
            .buffer_unordered(suite.jobs)
            .try_collect::<Vec<Verdict>>()
            .await?;
        let worst = verdicts.into_iter().max().unwrap_or(Verdict::Unknown);
        if !self.json {
            let word = format!("{worst:?}").to_uppercase();
            say!("suite {name}: {word} after {} s", begin.elapsed().as_secs());
        }
        Ok(worst)
    }

    async fn compare(
        &self,
        against: &[Against],
        seed: u64,
        rounds: u32,
        rate: u32,
    ) -> anyhow::Result<Verdict> {
        ensure!(rounds > 0 && rate > 0, "--rounds and --rate must be more than 0");
        let setting = |against: &Against| match against {
            Against::Rocketmq => Some(Setting::Strict),
            Against::RocketmqDefaults => Some(Setting::Defaults),
            Against::Nothing => None,
        };
        let directory = self.runs.join(format!("compare-{seed}"));
        let against = against.iter().filter_map(setting).collect();
        let options =
            compare::Options { seed, rounds, rate, against, directory: directory.clone() };
        let (verdict, sides) = compare::compare(&options).await?;
        for side in &sides {
            self.show(&side.report.run, &directory.join(side.choice.name()))?;
        }
        let named: Vec<(&str, &[Row])> =
            sides.iter().map(|side| (&*side.report.run.subject, &*side.rows)).collect();
        if !self.json {
            let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
            rows.extend(compare::table::cells(&named));
            figures::print_table("side by side", &rows);
            println!("\n{}", directory.join("compare.html").display());
        }
        Ok(verdict)
    }

    async fn soak(&self, hours: f64, seed: u64) -> anyhow::Result<Verdict> {
        ensure!(hours > 0.0, "--hours must be more than 0");
        let (begin, drills) = (Instant::now(), drill::all());
        let mut worst = Verdict::Pass;
        for number in 0.. {
            if begin.elapsed().as_secs_f64() > hours * 3600.0 {
                break;
            }
            let drill = &drills[number as usize % drills.len()];
            if probe::missing(drill.needs).is_none() {
                worst = worst.max(self.drill(drill, seed + number).await?);
            }
        }
        Ok(worst)
    }
}

fn show_probe(json: bool) -> Verdict {
    let probed = probe::probe();
    let missing = probed.iter().any(|probed| probed.missing.is_some());
    if json {
        for probed in &probed {
            say!("{}", serde_json::json!(probed));
        }
    } else {
        let mut rows = vec![["what", "here", "for"].map(str::to_owned).to_vec()];
        for probed in probed {
            let here = match (probed.missing, probed.how) {
                (Some(missing), _) => format!("no: {missing}"),
                (None, Some(how)) => how,
                (None, None) => "yes".to_owned(),
            };
            rows.push(vec![probed.name.to_owned(), here, probed.about.to_owned()]);
        }
        figures::print_table("this machine", &rows);
    }
    if missing { Verdict::Unknown } else { Verdict::Pass }
}

fn list(json: bool) {
    if json {
        for drill in drill::all() {
            let needs: Vec<&str> = drill.needs.iter().map(|need| need.name()).collect();
            let (name, brokers) = (drill.name, drill.size.brokers);
            let about = drill.about;
            let line = serde_json::json!({
                "name": name, "brokers": brokers, "needs": needs, "about": about,
            });
            say!("{line}");
        }
        return;
    }
    let mut rows = vec![["drill", "brokers", "needs", "what"].map(str::to_owned).to_vec()];
    for drill in drill::all() {
        let needs: Vec<&str> = drill.needs.iter().map(|need| need.name()).collect();
        let about = drill.about.split_whitespace().collect::<Vec<_>>().join(" ");
        let brokers = drill.size.brokers.to_string();
        rows.push(vec![drill.name.to_owned(), brokers, needs.join(" "), about]);
    }
    figures::print_table("drills", &rows);
}

/// Unknown if a drill that was named has no manifest.
fn export(names: &[String], directory: &Path) -> anyhow::Result<Verdict> {
    let files = if names.is_empty() {
        mesh::files(drill::all())?
    } else {
        let mut files = BTreeMap::new();
        for name in names {
            match mesh::export(find(name)?)? {
                Export::Manifest { text, .. } => drop(files.insert(format!("{name}.yaml"), text)),
                Export::Nothing(reasons) => {
                    for (fault, reason) in reasons {
                        eprintln!("{name} has no manifest, because of {fault}: {reason}");
                    }
                }
            }
        }
        files
    };
    mesh::write(directory, &files)?;
    say!("{} files in {}", files.len(), directory.display());
    Ok(if files.len() < names.len() { Verdict::Unknown } else { Verdict::Pass })
}

fn show_findings(findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| finding.verdict != Verdict::Pass) {
        let verdict = format!("{:?}", finding.verdict).to_uppercase();
        say!("  {} {verdict}: {}", finding.checker, finding.note);
        for violation in finding.violations.iter().take(5) {
            say!("    {}", violation.text);
        }
    }
}

fn show_ledger(file: &Path, json: bool) -> anyhow::Result<()> {
    let entries = ledger::read(file)?;
    let (totals, gaps) = (ledger::totals(&entries), ledger::write_gaps(&entries));
    if json {
        say!("{}", serde_json::json!({ "totals": totals, "write_gaps": gaps }));
        return Ok(());
    }
    let head = ["drill", "runs", "hours", "faults", "sends", "acknowledged", "verdicts"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, sum) in totals {
        let verdicts = sum.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}"));
        rows.push(vec![
            name,
            sum.runs.to_string(),
            format!("{:.2}", sum.hours),
            sum.faults.to_string(),
            sum.sends.to_string(),
            sum.acknowledged.to_string(),
            verdicts.collect::<Vec<_>>().join(", "),
        ]);
    }
    figures::print_table("ledger", &rows);
    let head = ["fault", "times", "p50", "p90", "p99", "max"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, gaps) in gaps {
        let times_ms = [gaps.p50_ms, gaps.p90_ms, gaps.p99_ms, gaps.max_ms];
        let mut row = vec![name, gaps.count.to_string()];
        row.extend(times_ms.map(|time_ms| time_ms.to_string()));
        rows.push(row);
    }
    figures::print_table("milliseconds without an acknowledged send", &rows);
    Ok(())
}
