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
use crate::figures::GapDistribution;
use crate::history::{Action, Event, Phase};
use crate::report::{Run, recovery};

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
    /// By name of the fault, for each that had an effect: the longest time between two acknowledged
    /// sends, as in the report. Older lines have none.
    #[serde(default)]
    pub write_gaps_ms: BTreeMap<String, Vec<u64>>,
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
            write_gaps_ms: write_gaps_ms(run, events),
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

fn write_gaps_ms(run: &Run, events: &[Event]) -> BTreeMap<String, Vec<u64>> {
    let mut gaps: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let measured = recovery::measure(&run.faults, events);
    for (fault, seen) in run.faults.iter().zip(measured).filter(|(fault, _)| fault.bit) {
        gaps.entry(fault.name.clone()).or_default().push(seen.write_gap_ms);
    }
    gaps
}

/// Every line of the ledger at `path`.
pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let entry = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .with_context(|| format!("{} line {}", path.display(), number + 1))
    };
    text.lines().enumerate().map(entry).collect()
}

/// Sums, by drill and of everything (under the name `all`).
pub fn totals(entries: &[Entry]) -> BTreeMap<String, Totals> {
    let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
    for entry in entries {
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
    totals
}

/// How long nothing could be written around faults, by their names, over all runs.
pub fn write_gaps(entries: &[Entry]) -> BTreeMap<String, GapDistribution> {
    let mut gaps: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (name, of_run) in entries.iter().flat_map(|entry| &entry.write_gaps_ms) {
        gaps.entry(name).or_default().extend(of_run);
    }
    gaps.into_iter().map(|(name, gaps)| (name.to_owned(), GapDistribution::new(gaps))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD_LINE: &str = r#"{"started_ms":1,"drill":"kill-leader","seed":7,"subject":"raftmq",
        "duration_ms":3600000,"faults":2,"sends":10,"acknowledged":9,"verdict":"pass"}"#;

    #[test]
    fn gaps_of_all_runs_are_one_distribution_for_each_fault() {
        let mut first: Entry = serde_json::from_str(OLD_LINE).expect("an older line");
        assert_eq!(first.write_gaps_ms, BTreeMap::new());
        let mut second = Entry { seed: 8, ..first.clone() };
        first.write_gaps_ms = [("kill".to_owned(), vec![30, 10])].into();
        second.write_gaps_ms =
            [("kill".to_owned(), vec![20]), ("pause".to_owned(), vec![3000])].into();
        let gaps = write_gaps(&[first, second]);
        let kill = gaps["kill"];
        assert_eq!((kill.count, kill.p50_ms, kill.max_ms), (3, 20, 30));
        assert_eq!((gaps["pause"].count, gaps["pause"].p90_ms), (1, 3000));
    }

    #[test]
    fn sums_are_by_drill_and_of_everything() {
        let first: Entry = serde_json::from_str(OLD_LINE).expect("an older line");
        let other = Entry { drill: "pause".to_owned(), verdict: Verdict::Fail, ..first.clone() };
        let totals = totals(&[first, other]);
        assert_eq!((totals["kill-leader"].runs, totals["pause"].runs), (1, 1));
        assert_eq!((totals["all"].runs, totals["all"].acknowledged), (2, 18));
        assert_eq!(totals["all"].verdicts["fail"], 1);
    }
}
