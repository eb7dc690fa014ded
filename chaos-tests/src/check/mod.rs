//! Judges: pure functions from a history to findings.
//!
//! A checker says *fail* with the lines that prove it, *pass*, or *unknown* when the history does not
//! hold what it would need; it never asks the cluster. Each has unit tests with bad histories.
//!
//! - Messages: [`lost`], [`phantom`], [`duplicate`], [`order`], [`one_value`], [`offsets`].
//! - What messages can do: [`fifo_order`], [`lite`], [`delays`], [`transactions`], [`pull`], [`dead_letters`].
//! - Raft: [`leaders`], [`committed`], [`replicas`].
//! - Clients' view in time: [`linearizable`], [`availability`].
//! - Whether the run proves anything: [`vacuity`].
//!
//! What they rely on: `stored` lines between the marks `drained` and `end` are the complete final
//! reading of each replica, and a run whose reading broke off has no mark `end`.
//!
//! Invariants: time and memory are about linear in the history; the same history gives the same
//! findings; a malformed history makes a finding unknown and never panics.

pub mod availability;
pub mod committed;
pub mod dead_letters;
pub mod delays;
pub mod duplicate;
mod expectations;
pub mod fifo_order;
#[cfg(test)]
mod fixture;
mod judge;
mod later;
pub mod leaders;
pub mod linearizable;
pub mod lite;
pub mod lost;
pub mod offsets;
pub mod one_value;
mod operation;
pub mod order;
pub mod phantom;
pub mod pull;
pub mod replicas;
mod settling;
pub mod transactions;
pub mod vacuity;
mod view;
mod window;

use serde::{Deserialize, Serialize};

pub use self::expectations::{Checker, Expectations};
pub use self::view::View;
use crate::history::Event;

/// What one checker found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The checker.
    pub checker: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// What is wrong, most telling first. At most [`VIOLATIONS_MAX`].
    pub violations: Vec<Violation>,
    /// How many there are in all.
    pub violation_count: u64,
    /// One sentence: what was looked at, or why it is unknown.
    pub note: String,
    /// Numbers worth a table, for example `acknowledged` or `redelivered`.
    pub figures: std::collections::BTreeMap<String, f64>,
}

/// The result of a check, a drill or a suite. The order is that of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was looked at is as promised.
    Pass,
    /// Not enough was seen to tell: a fault had no effect, the final reading is incomplete.
    Unknown,
    /// A promise was broken.
    Fail,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// A sentence with names and values.
    pub text: String,
    /// The lines of the history that show it.
    pub events: Vec<u64>,
}

/// Violations that a finding lists.
pub const VIOLATIONS_MAX: usize = 50;

impl Verdict {
    /// The worst of many; of none, unknown, since nothing was looked at.
    pub fn worst(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().max().unwrap_or(Self::Unknown)
    }
}

/// Runs the checkers that apply, in the order of [`Checker`].
///
/// A checker applies unless [`Expectations::skipped`] names it, if [`Expectations::required`] does or
/// the history holds what it looks at. So a drill without, say, `entry` lines has no finding of
/// `committed`, unless it requires one: then that finding is unknown.
pub fn all(events: &[Event], expect: &Expectations) -> Vec<Finding> {
    let view = View::new(events);
    let applies = |checker: &Checker| {
        !expect.skipped.contains(checker)
            && (expect.required.contains(checker) || checker.has_material(&view))
    };
    let applying = Checker::ALL.into_iter().filter(applies);
    applying.map(|checker| run(checker, &view, expect)).collect()
}

fn run(checker: Checker, view: &View<'_>, expect: &Expectations) -> Finding {
    match checker {
        Checker::Lost => lost::check(view, expect),
        Checker::Phantom => phantom::check(view),
        Checker::Duplicate => duplicate::check(view, expect),
        Checker::Order => order::check(view),
        Checker::OneValue => one_value::check(view),
        Checker::Offsets => offsets::check(view, expect),
        Checker::FifoOrder => fifo_order::check(view, expect),
        Checker::Lite => lite::check(view),
        Checker::Delays => delays::check(view, expect),
        Checker::Transactions => transactions::check(view, expect),
        Checker::Pull => pull::check(view, expect),
        Checker::DeadLetters => dead_letters::check(view, expect),
        Checker::Linearizable => linearizable::check(view, expect),
        Checker::Leaders => leaders::check(view, expect),
        Checker::Committed => committed::check(view),
        Checker::Replicas => replicas::check(view, expect),
        Checker::Availability => availability::check(view, expect),
        Checker::Vacuity => vacuity::check(view, expect),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fixture::History;
    use super::*;
    use crate::history::{Action, Delivery, Phase};

    #[test]
    fn good_histories_pass_every_checker() {
        let mut passed = std::collections::BTreeSet::new();
        for history in [History::good(), History::good_features()] {
            let findings = all(&history.events, &Expectations::default());
            for finding in &findings {
                assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
            }
            passed.extend(findings.into_iter().map(|finding| finding.checker));
        }
        assert_eq!(passed, Checker::ALL.map(|checker| checker.as_str().to_owned()).into());
    }

    #[test]
    fn an_empty_history_proves_nothing() {
        let findings = all(&[], &Expectations::default());
        assert!(!findings.is_empty());
        for finding in findings {
            assert_eq!(finding.verdict, Verdict::Unknown, "{finding:?}");
        }
        assert_eq!(Verdict::worst([]), Verdict::Unknown);
    }

    #[test]
    fn a_checker_without_material_is_left_out_unless_required_or_skipped() {
        let names = |expect: &Expectations| -> Vec<String> {
            let mut history = History::new();
            history.sent("a").mark("end");
            all(&history.events, expect).into_iter().map(|finding| finding.checker).collect()
        };
        let mut expect = Expectations { required: [].into(), ..Expectations::default() };
        assert_eq!(names(&expect), ["lost", "phantom"]);
        expect.required.insert(Checker::Replicas);
        expect.skipped.insert(Checker::Phantom);
        assert_eq!(names(&expect), ["lost", "replicas"]);
    }

    #[test]
    fn the_worst_verdict_counts() {
        assert_eq!(Verdict::worst([Verdict::Pass, Verdict::Unknown]), Verdict::Unknown);
        assert_eq!(Verdict::worst([Verdict::Fail, Verdict::Unknown]), Verdict::Fail);
    }

    #[test]
    fn findings_are_the_same_each_time() {
        let mut history = History::new();
        for number in 0..200 {
            history.sent(&format!("v{number}"));
            history.stored("n1", 0, number % 50, &format!("x{number}"));
        }
        history.mark("drained").stored("n2", 0, 0, "y").mark("end");
        let expect = Expectations::default();
        let first = all(&history.events, &expect);
        assert_eq!(Verdict::worst(first.iter().map(|finding| finding.verdict)), Verdict::Fail);
        for _ in 0..5 {
            assert_eq!(all(&history.events, &expect), first);
        }
    }

    #[test]
    fn a_long_good_history_passes() {
        let history = History::good_and_long(8_000);
        for finding in all(&history.events, &Expectations::default()) {
            assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        }
    }

    /// Names of the checkers that fail after `damage` was done to the last line that it takes.
    fn failing(damage: fn(&mut Action) -> bool) -> Vec<String> {
        let mut history = History::good_and_long(100);
        history.events.iter_mut().rev().any(|event| damage(&mut event.action));
        let findings = all(&history.events, &Expectations::default()).into_iter();
        let failing = findings.filter(|finding| finding.verdict == Verdict::Fail);
        failing.map(|finding| finding.checker).collect()
    }

    #[test]
    fn one_wrong_line_in_a_long_history_is_enough() {
        assert_eq!(failing(|_| false), [""; 0]);
        let other_value = |action: &mut Action| match action {
            Action::Stored { value, .. } => {
                *value = "never sent".into();
                true
            }
            _ => false,
        };
        assert_eq!(failing(other_value), ["lost", "phantom", "one_value"]);
        let other_offset = |action: &mut Action| match action {
            Action::Stored { offset, .. } => {
                *offset += 1;
                true
            }
            _ => false,
        };
        assert_eq!(failing(other_offset), ["duplicate"]);
        let other_frame = |action: &mut Action| match action {
            Action::Entry { crc32c, .. } => {
                *crc32c += 1;
                true
            }
            _ => false,
        };
        assert_eq!(failing(other_frame), ["committed"]);
        let other_state = |action: &mut Action| match action {
            Action::Status { state_hash, .. } => {
                *state_hash += 1;
                true
            }
            _ => false,
        };
        assert_eq!(failing(other_state), ["replicas"]);
        let second_leader = |action: &mut Action| match action {
            Action::Status { role, .. } => {
                *role = "leader".into();
                true
            }
            _ => false,
        };
        assert_eq!(failing(second_leader), ["leaders"]);
        let delivered_again = |action: &mut Action| match action {
            Action::Receive { deliveries, .. } if !deliveries.is_empty() => {
                deliveries[0] =
                    Delivery { value: "v3".into(), attempt: 2, ..deliveries[1].clone() };
                true
            }
            _ => false,
        };
        assert_eq!(failing(delivered_again), ["phantom", "duplicate"]);
    }

    /// Lines of a good history in any order, some of them with another phase, process, time or node.
    fn odd_lines() -> impl Strategy<Value = Vec<Event>> {
        let phases = [Phase::Invoke, Phase::Ok, Phase::Fail, Phase::Unknown, Phase::Info];
        let phase = prop::option::of(prop::sample::select(phases.to_vec()));
        let times = vec![0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        let time_ns = prop::option::of(prop::sample::select(times));
        let good = [History::good().events, History::good_features().events].concat();
        let good = prop::sample::select(good);
        let line = (good, phase, time_ns, prop::option::of(0_u32..4), any::<bool>());
        let odd = line.prop_map(|(mut event, phase, time_ns, process, has_node)| {
            event.phase = phase.unwrap_or(event.phase);
            event.time_ns = time_ns.unwrap_or(event.time_ns);
            event.process = process.unwrap_or(event.process);
            event.node = event.node.filter(|_| has_node);
            event
        });
        prop::collection::vec(odd, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn odd_lines_never_panic(lines in odd_lines()) {
            let mut expect = Expectations { required: Checker::ALL.into(), ..Expectations::default() };
            (expect.write_gap_max_ms, expect.recovery_max_ms) = (Some(10), Some(10));
            let findings = all(&lines, &expect);
            prop_assert_eq!(findings.len(), Checker::ALL.len());
            for finding in findings {
                let is_failed = finding.verdict == Verdict::Fail;
                prop_assert_eq!(is_failed, !finding.violations.is_empty());
                prop_assert!(finding.violations.len() <= VIOLATIONS_MAX);
            }
        }
    }
}
