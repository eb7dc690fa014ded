//! The ledger: one line for each run that counts, so that many bounded runs add up to hours.
//!
//! Failures are entered like everything else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::check::Verdict;
use crate::history::{Action, Event, Phase};
use crate::report::Run;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// Name of the drill.
    pub drill: String,
    /// Its seed.
    pub seed: u64,
    /// What was tested.
    pub subject: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Faults that had an effect.
    pub faults: u64,
    /// Sends begun.
    pub sends: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// What came of it.
    pub verdict: Verdict,
}

/// Sums over a ledger.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Hours of all runs.
    pub hours: f64,
    /// Faults that had an effect.
    pub faults: u64,
    /// Sends begun.
    pub sends: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// Runs by verdict.
    pub verdicts: BTreeMap<String, u64>,
}

impl Entry {
    /// Of a run and its history.
    pub fn new(run: &Run, events: &[Event]) -> Self {
        let sends = |phase| {
            let is_send = |event: &&Event| {
                event.phase == phase && matches!(event.action, Action::Send { .. })
            };
            events.iter().filter(is_send).count() as u64
        };
        Self {
            started_ms: run.started_ms,
            drill: run.drill.clone(),
            seed: run.seed,
            subject: run.subject.clone(),
            duration_ms: run.duration_ms,
            faults: run.faults.iter().filter(|fault| fault.bit).count() as u64,
            sends: sends(Phase::Invoke),
            acknowledged: sends(Phase::Ok),
            verdict: run.verdict,
        }
    }

    /// Adds it to the ledger at `path`.
    pub fn append(&self, path: &Path) -> anyhow::Result<()> {
        let file = File::options().create(true).append(true).open(path);
        let mut file = file.with_context(|| path.display().to_string())?;
        let line = serde_json::to_string(self)?;
        Ok(writeln!(file, "{line}")?)
    }
}

/// Sums, by drill and of everything (under the name `all`).
pub fn totals(path: &Path) -> anyhow::Result<BTreeMap<String, Totals>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let entry: Entry = serde_json::from_str(line)
            .with_context(|| format!("{} line {}", path.display(), number + 1))?;
        for name in [entry.drill.as_str(), "all"] {
            let sum = totals.entry(name.to_owned()).or_default();
            sum.runs += 1;
            sum.hours += entry.duration_ms as f64 / 3_600_000.0;
            sum.faults += entry.faults;
            sum.sends += entry.sends;
            sum.acknowledged += entry.acknowledged;
            *sum.verdicts.entry(format!("{:?}", entry.verdict).to_lowercase()).or_default() += 1;
        }
    }
    Ok(totals)
}
