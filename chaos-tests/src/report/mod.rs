//! What came of a run, for people and for machines.
//!
//! - [`json`]: `report.json`, everything in numbers; [`openchaos`]: the part of it that has the
//!   names of OpenChaos.
//! - [`html`]: `report.html`, one file that needs nothing else; two runs on one scale.
//! - [`junit`]: `junit.xml`; [`markdown`]: `summary.md`; each for one run or for a suite.
//! - [`figures`], [`recovery`]: what is computed from a history on the way.
//!
//! Not here: judgement. Findings and verdicts come with the [`Run`]; a report only shows them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::check::{Finding, Verdict};
use crate::history::Event;

mod dots;
pub mod figures;
pub mod html;
mod invocation;
pub mod json;
pub mod junit;
mod losses;
pub mod markdown;
mod messages;
pub mod openchaos;
pub mod recovery;
mod roles;
mod text;
mod timeline;

pub use self::json::Report;

/// Version of the layout of `report.json`. Grows with each change that a reader would notice.
pub const SCHEMA_VERSION: u32 = 1;

/// A run: one drill with one seed, or one part of a soak.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the drill.
    pub drill: String,
    /// Where its chance came from.
    pub seed: u64,
    /// What was tested: `raftmq --version`, or another broker's.
    pub subject: String,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Brokers and name servers.
    pub brokers: usize,
    /// See `brokers`.
    pub name_servers: usize,
    /// How durable an acknowledgement is: `sync` or `async`.
    pub flush: String,
    /// The worst of all findings and faults.
    pub verdict: Verdict,
    /// Every fault that was made.
    pub faults: Vec<FaultWindow>,
    /// What each checker found.
    pub findings: Vec<Finding>,
    /// The command that makes this run again. Empty: `chaos drill` with its name and seed.
    #[serde(default)]
    pub command: String,
    /// Whatever else tells this run from others, by name: git revision, hash of the configuration.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

/// One fault of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FaultWindow {
    /// Its name.
    pub name: String,
    /// Nodes or links.
    pub targets: Vec<String>,
    /// Its settings.
    pub parameters: serde_json::Value,
    /// From when to when, nanoseconds since the run began.
    pub begin_ns: u64,
    /// See `begin_ns`.
    pub end_ns: u64,
    /// Whether it had an effect.
    pub bit: bool,
    /// What shows it.
    pub evidence: String,
}

impl Run {
    /// The command that makes this run again.
    pub fn command_line(&self) -> String {
        match self.command.as_str() {
            "" => format!("chaos drill {} --seed {}", self.drill, self.seed),
            command => command.to_owned(),
        }
    }
}

/// Writes `report.json`, `report.html`, `junit.xml` and `summary.md` into `directory`, where
/// `history.jsonl` with these `events` lies. Returns what `report.json` holds.
///
/// # Errors
/// A file could not be written.
pub fn write(directory: &Path, run: &Run, events: &[Event]) -> anyhow::Result<Report> {
    let report = Report::new(run, events);
    put(directory, json::FILE, &report.to_json()?)?;
    put(directory, html::FILE, &html::page(&report, events)?)?;
    put(directory, junit::FILE, &junit::document(&run.drill, &[&report.run])?)?;
    put(directory, markdown::FILE, &markdown::run(&report))?;
    Ok(report)
}

/// Writes `junit.xml` and `summary.md` of the suite `name` into `directory`.
///
/// # Errors
/// A file could not be written.
pub fn write_suite(directory: &Path, name: &str, reports: &[Report]) -> anyhow::Result<()> {
    let runs: Vec<&Run> = reports.iter().map(|report| &report.run).collect();
    put(directory, junit::FILE, &junit::document(name, &runs)?)?;
    put(directory, markdown::FILE, &markdown::suite(name, reports))
}

fn put(directory: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = directory.join(name);
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}
