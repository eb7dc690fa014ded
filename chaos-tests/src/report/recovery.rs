//! How long each fault was felt by those who send.

use serde::{Deserialize, Serialize};

use super::FaultWindow;
use super::figures::acknowledged_ns;
use super::invocation::{Invocation, invocations};
use crate::history::{Action, Event, Phase};

/// What one fault did to sends. It is looked at from its begin to the begin of the next fault that
/// begins after its end, or to the last send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Its name.
    pub fault: String,
    /// Its nodes or links.
    pub targets: Vec<String>,
    /// When it began, nanoseconds since the run began.
    pub begin_ns: u64,
    /// Longest time between two acknowledged sends.
    pub write_gap_ms: u64,
    /// From the begin of the fault to the end of that gap.
    pub gap_end_ms: u64,
    /// Whether a send was acknowledged after that gap and before the next fault.
    pub recovered: bool,
    /// Sends that ended meanwhile and failed.
    pub failed: u64,
    /// Sends that ended meanwhile with an unknown outcome, or never ended.
    pub unknown: u64,
    /// Acknowledged sends per second in the [`BASELINE_NS_MAX`] before the fault, as far back as
    /// the end of an earlier fault. Absent if there were none.
    pub baseline_per_second: Option<f64>,
    /// From the begin of the fault until sends were back at 90 % of the baseline; 0 if they never
    /// fell below by more than chance explains. Absent without a baseline, or if they never were.
    pub to_90_percent_ms: Option<u64>,
}

/// Time before a fault that is taken as normal.
pub const BASELINE_NS_MAX: u64 = 5_000_000_000;

/// Less than this is not enough to tell what is normal.
const BASELINE_NS_MIN: u64 = 500_000_000;

/// Rates are those of windows of this length.
const WINDOW_NS: u64 = 500_000_000;

/// Distance of one window from the next.
const STEP_NS: u64 = 10_000_000;

/// One line for each of `faults`, from the history they are part of.
pub fn measure(faults: &[FaultWindow], events: &[Event]) -> Vec<Recovery> {
    recoveries(faults, &invocations(events))
}

/// One line for each fault.
pub(super) fn recoveries(faults: &[FaultWindow], invocations: &[Invocation<'_>]) -> Vec<Recovery> {
    let sends: Vec<Invocation<'_>> = invocations
        .iter()
        .filter(|invocation| matches!(invocation.begin.action, Action::Send { .. }))
        .copied()
        .collect();
    let ends = acknowledged_ns(&sends);
    let last_ns = sends.iter().map(|send| send.begin.time_ns).max().unwrap_or(0);
    let settled_ns = sends.iter().map(Invocation::settled_ns).max().unwrap_or(0);
    let recover = |fault: &FaultWindow| {
        let begins = faults.iter().map(|other| other.begin_ns);
        let later = begins.filter(|begin| *begin > fault.begin_ns && *begin >= fault.end_ns);
        let limit_ns = later.min().unwrap_or(settled_ns).max(fault.begin_ns);
        recovery(fault, faults, limit_ns, &sends, &Acknowledged { ends: &ends, last_ns })
    };
    faults.iter().map(recover).collect()
}

fn recovery(
    fault: &FaultWindow,
    faults: &[FaultWindow],
    limit_ns: u64,
    sends: &[Invocation<'_>],
    acknowledged: &Acknowledged<'_>,
) -> Recovery {
    let begin_ns = fault.begin_ns;
    let gap = acknowledged.longest_gap(begin_ns, limit_ns);
    let meanwhile = |phase: Phase| {
        let within = sends.iter().filter(|send| (begin_ns..=limit_ns).contains(&send.settled_ns()));
        within.filter(|send| send.outcome() == phase).count() as u64
    };
    let earlier = faults.iter().map(|other| other.end_ns).filter(|end| *end <= begin_ns).max();
    let baseline = acknowledged.baseline(earlier.unwrap_or(0), begin_ns);
    Recovery {
        fault: fault.name.clone(),
        targets: fault.targets.clone(),
        begin_ns,
        write_gap_ms: gap.length_ns() / 1_000_000,
        gap_end_ms: gap.end_ns.saturating_sub(begin_ns) / 1_000_000,
        recovered: gap.over,
        failed: meanwhile(Phase::Fail),
        unknown: meanwhile(Phase::Unknown),
        baseline_per_second: baseline,
        to_90_percent_ms: baseline
            .filter(|_| gap.over)
            .and_then(|per_second| acknowledged.back_at(per_second, begin_ns, limit_ns, gap))
            .map(|back_ns| (back_ns - begin_ns) / 1_000_000),
    }
}

/// When sends were acknowledged, sorted, and when the last send of any outcome began.
struct Acknowledged<'a> {
    ends: &'a [u64],
    last_ns: u64,
}

#[derive(Clone, Copy)]
struct Gap {
    begin_ns: u64,
    end_ns: u64,
    /// Whether an acknowledged send ended it, not the next fault or the end of all sends.
    over: bool,
}

impl Gap {
    fn length_ns(self) -> u64 {
        self.end_ns - self.begin_ns
    }
}

impl Acknowledged<'_> {
    /// The longest of the gaps that end in `begin_ns..=limit_ns` or are cut by its end.
    fn longest_gap(&self, begin_ns: u64, limit_ns: u64) -> Gap {
        let first = self.ends.partition_point(|end| *end < begin_ns);
        let past = self.ends.partition_point(|end| *end <= limit_ns);
        let mut previous = first.checked_sub(1).map_or(begin_ns, |place| self.ends[place]);
        let mut longest = Gap { begin_ns: previous, end_ns: previous, over: true };
        for end_ns in &self.ends[first..past] {
            let gap = Gap { begin_ns: previous, end_ns: *end_ns, over: true };
            if gap.length_ns() > longest.length_ns() {
                longest = gap;
            }
            previous = *end_ns;
        }
        let cut_ns = if past < self.ends.len() { limit_ns } else { self.last_ns.min(limit_ns) };
        let open = Gap { begin_ns: previous, end_ns: cut_ns.max(previous), over: false };
        // Between two sends there is always some time: only what is clearly more is an outage that
        // was not over yet.
        if open.length_ns() > 2 * longest.length_ns() { open } else { longest }
    }

    /// Acknowledged sends per second before a fault.
    fn baseline(&self, after_ns: u64, begin_ns: u64) -> Option<f64> {
        let first_ns = self.ends.first().copied()?;
        let from_ns = after_ns.max(first_ns).max(begin_ns.saturating_sub(BASELINE_NS_MAX));
        let length_ns = begin_ns.saturating_sub(from_ns);
        let count = self.count(from_ns, begin_ns);
        let enough = length_ns >= BASELINE_NS_MIN && count > 0;
        enough.then(|| count as f64 / (length_ns as f64 / 1e9))
    }

    /// When sends were back at 90 % of `per_second`: begin of the first such window after the worst
    /// one. `begin_ns` if even the worst is no worse than chance makes it.
    fn back_at(&self, per_second: f64, begin_ns: u64, limit_ns: u64, gap: Gap) -> Option<u64> {
        let expected = per_second * WINDOW_NS as f64 / 1e9;
        let windows = || {
            let last_ns = limit_ns.min(self.last_ns).saturating_sub(WINDOW_NS).max(begin_ns);
            (begin_ns..=last_ns).step_by(STEP_NS as usize)
        };
        let held = |from_ns: u64| self.count(from_ns, from_ns + WINDOW_NS) as f64;
        let worst_ns = windows().min_by(|a, b| held(*a).total_cmp(&held(*b)))?;
        // Independent sends vary by the root of their number; three times that is no accident. Nor
        // is a gap of twelve usual distances, which a burst after it may hide from the windows.
        let dip = (0.9 * expected).min(expected - 3.0 * expected.sqrt());
        let stood_still = gap.length_ns() as f64 / 1e9 > 12.0 / per_second;
        if held(worst_ns) >= dip {
            return match stood_still {
                true => windows().find(|at| *at >= gap.end_ns && held(*at) >= 0.9 * expected),
                false => Some(begin_ns),
            };
        }
        let from_ns = if gap.begin_ns < worst_ns + WINDOW_NS { gap.end_ns } else { worst_ns };
        windows().find(|at| *at >= from_ns.max(worst_ns) && held(*at) >= 0.9 * expected)
    }

    fn count(&self, from_ns: u64, to_ns: u64) -> usize {
        self.ends.partition_point(|end| *end < to_ns)
            - self.ends.partition_point(|end| *end < from_ns)
    }
}
