//! What was lost, when, and under which fault.

use super::Run;
use super::dots::at;
use super::json::Report;
use crate::check::{Finding, Verdict};
use crate::history::Event;

/// The checker that finds what was acknowledged and is not there.
const CHECKER: &str = "lost";

/// Losses of a run, as its checker counted them.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Acknowledged messages that are lost. `None`: not known.
    pub count: Option<u64>,
    /// When the first of them was sent, nanoseconds since the run began.
    pub first_ns: Option<u64>,
    /// For each fault, those laid to it.
    pub by_fault: Vec<u64>,
    /// Those that a finding counts and does not list, so that no fault is known for them.
    pub unlisted: u64,
}

impl Losses {
    /// Of a run whose history is `events`.
    pub fn new(report: &Report, events: &[Event]) -> Self {
        let run = &report.run;
        let by_fault = vec![0; run.faults.len()];
        let mut losses = Self { count: count(report), by_fault, ..Self::default() };
        let Some(finding) = finding(run) else { return losses };
        losses.unlisted = finding.violation_count.saturating_sub(finding.violations.len() as u64);
        for violation in &finding.violations {
            let cited = violation.events.iter().filter_map(|index| at(events, *index));
            let Some(sent_ns) = cited.map(|event| event.time_ns).min() else { continue };
            losses.first_ns = Some(losses.first_ns.map_or(sent_ns, |first| first.min(sent_ns)));
            if let Some(place) = fault(run, sent_ns) {
                losses.by_fault[place] += 1;
            }
        }
        losses
    }
}

/// Acknowledged messages that are lost: as its checker says, or else as the history does, which knows
/// of those only that nobody ever saw. `None`: not known.
pub(super) fn count(report: &Report) -> Option<u64> {
    match finding(&report.run) {
        Some(finding) if finding.verdict == Verdict::Unknown && finding.violation_count == 0 => {
            report.figures.lost
        }
        Some(finding) => Some(finding.violation_count),
        None => report.figures.lost,
    }
}

fn finding(run: &Run) -> Option<&Finding> {
    run.findings.iter().find(|finding| finding.checker == CHECKER)
}

/// The fault that what was sent then is laid to: the first one that ended later.
pub(super) fn fault(run: &Run, sent_ns: u64) -> Option<usize> {
    let later = run.faults.iter().enumerate().filter(|(_, fault)| fault.end_ns >= sent_ns);
    later.min_by_key(|(_, fault)| fault.end_ns).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::FaultWindow;

    #[test]
    fn a_loss_is_laid_to_the_fault_that_came_next_or_lasted() {
        let window = |begin_ns, end_ns| FaultWindow {
            name: "kill-all".to_owned(),
            targets: Vec::new(),
            parameters: serde_json::Value::Null,
            begin_ns,
            end_ns,
            bit: true,
            evidence: String::new(),
        };
        let run = Run { faults: vec![window(10, 20), window(40, 50)], ..empty() };
        let faults = [5, 10, 20, 21, 45, 51].map(|sent_ns| fault(&run, sent_ns));
        assert_eq!(faults, [Some(0), Some(0), Some(0), Some(1), Some(1), None]);
    }

    fn empty() -> Run {
        Run {
            schema_version: crate::report::SCHEMA_VERSION,
            drill: String::new(),
            seed: 0,
            subject: String::new(),
            started_ms: 0,
            duration_ms: 0,
            brokers: 3,
            name_servers: 2,
            flush: "sync".to_owned(),
            verdict: Verdict::Fail,
            faults: Vec::new(),
            findings: Vec::new(),
            command: String::new(),
            facts: std::collections::BTreeMap::new(),
        }
    }
}
