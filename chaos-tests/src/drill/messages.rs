//! Every fault of the catalogue under everything that messages can do: message groups, delays,
//! transactions, pulling, and dead letters, all at once.
//!
//! Drills are data, so that most of these need no line of their own: [`under_messages`] makes of a drill
//! the same one under another load. What has to be otherwise stands in [`OTHERWISE`], what is left out
//! in [`LEFT_OUT`] with the reason.
//!
//! Invariant, by a test: each fault that any drill makes is also made by one of these.
//!
//! Not here: one workload by itself at its full rate, which is in the catalogue (`fifo-kills` and so on).

use std::time::Duration;

use super::Drill;
use super::catalog::{SHORT_TRANSACTIONS, available};
use crate::check::{Checker, Expectations};
use crate::load::{Churn, DeadLetters, Delay, Fifo, Flood, Pull, Queue, Transactions, Workload};

/// The checkers of these workloads.
pub(super) const OF_MESSAGES: &[Checker] = &[
    Checker::FifoOrder,
    Checker::Delays,
    Checker::Transactions,
    Checker::Pull,
    Checker::DeadLetters,
];

/// What a message group is judged by takes place while nothing is broken: five seconds after a fault, and
/// beside another message group that has been held up for a while.
const LOAD_AFTER: Duration = Duration::from_secs(14);

/// Drills without a fault of their own, and where that fault is made instead.
const LEFT_OUT: &[(&str, &str)] = &[
    ("nothing", "it breaks nothing"),
    ("administration", "kill-leader"),
    ("retried-sends", "kill-leader, pause-leader"),
    ("redelivery", "kill-leader"),
    ("features", "kill-leader, kill-all"),
    ("leader-kills", "kill-leader"),
    ("power-cuts", "power-cut-all"),
];

/// Drills that have such a load already, or clients of their own, of which these do nothing.
const LEFT_OUT_PREFIXES: &[&str] =
    &["fifo-", "lite-", "delay-", "transactions-", "pull-", "dead-letters-", "java-", "python-"];

/// What a drill needs beside another load.
type Change = fn(Drill) -> Drill;

/// Drills that need more than another load.
const OTHERWISE: &[(&str, Change)] = &[
    ("overload", |drill| Drill { workloads: messages_and_flood, ..drill }),
    ("churn", |drill| Drill { workloads: messages_and_churn, ..drill }),
    ("lagging-node", |drill| Drill { workloads: large_messages, ..drill }),
    ("interrupted-snapshot", |drill| Drill { workloads: large_messages, ..drill }),
    ("interrupted-sender", |drill| Drill { workloads: large_messages, ..drill }),
    ("interrupted-link", |drill| Drill { workloads: large_messages, ..drill }),
    // Two times five seconds at half speed, which the time in the log catches up with by half a percent:
    // what is due by it comes late by as much, and messages are found at an earlier time.
    ("slow-timers", |drill| Drill {
        expect: || Expectations { clock_slack_ms: 6000, late_max_ms: 9000, ..available() },
        ..drill
    }),
];

/// The drill that makes the same faults under these workloads; absent if there is nothing in it.
pub(super) fn under_messages(drill: &Drill) -> Option<Drill> {
    let is_left_out = LEFT_OUT.iter().any(|(name, _)| *name == drill.name)
        || LEFT_OUT_PREFIXES.iter().any(|prefix| drill.name.starts_with(prefix));
    if is_left_out {
        return None;
    }
    // Leaked, like everything of the catalogue that is made once.
    let about = format!("Under everything that messages can do: {}", drill.about);
    let same = Drill {
        name: format!("messages-{}", drill.name).leak(),
        about: about.leak(),
        broker_options: [drill.broker_options, SHORT_TRANSACTIONS].concat().leak(),
        workloads: messages,
        load_after: LOAD_AFTER,
        requires: OF_MESSAGES,
        faults_of: Some(drill.name),
        ..*drill
    };
    let otherwise = OTHERWISE.iter().find(|(name, _)| *name == drill.name);
    Some(otherwise.map_or(same, |(_, change)| change(same)))
}

/// Each with less than it has when it is alone.
pub(super) fn messages() -> Vec<Box<dyn Workload>> {
    let (pull, letters) = (Pull::default(), DeadLetters::default());
    let queue = Queue { rate_per_s: 12.0, ..pull.queue };
    with(Pull { queue, ..pull }, letters)
}

/// The same, and enough bytes for the log to move on. They are pulled: what is received keeps the log. So do
/// messages that are given back, dead or delayed, for a minute or so, and whoever is to need a snapshot is
/// away for longer than that.
fn large_messages() -> Vec<Box<dyn Workload>> {
    let (pull, letters) = (Pull::default(), DeadLetters::default());
    let queue = Queue { rate_per_s: 100.0, body_bytes: 4096, ..pull.queue };
    with(Pull { queue, ..pull }, DeadLetters { max_attempts: 2, ..letters })
}

fn with(pull: Pull, letters: DeadLetters) -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(Fifo { rate_per_s: 2.0, ..Fifo::default() }),
        Box::new(Delay { rate_per_s: 10.0, ..Delay::default() }),
        Box::new(Transactions { rate_per_s: 10.0, ..Transactions::default() }),
        Box::new(pull),
        Box::new(DeadLetters { queue: Queue { rate_per_s: 12.0, ..letters.queue }, ..letters }),
    ]
}

fn messages_and_flood() -> Vec<Box<dyn Workload>> {
    let flood: Box<dyn Workload> = Box::new(Flood::default());
    messages().into_iter().chain([flood]).collect()
}

/// Those that come and go consume transactions: members that only acknowledge do not change what is to
/// become of a message there.
fn messages_and_churn() -> Vec<Box<dyn Workload>> {
    let topic = Transactions::default().topic;
    let churn: Box<dyn Workload> = Box::new(Churn { topic, members: 4 });
    messages().into_iter().chain([churn]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::{all, find, suite};
    use super::*;

    fn faults(drills: &[&Drill]) -> BTreeSet<&'static str> {
        let plan = |drill: &&Drill| (drill.plan)(&mut ChaCha8Rng::seed_from_u64(1));
        drills.iter().flat_map(plan).map(|step| step.fault.name()).collect()
    }

    #[test]
    fn every_fault_is_made_under_messages() {
        let every: Vec<&Drill> = all().iter().collect();
        let under_messages = suite("messages").expect("a suite");
        assert_eq!(faults(&under_messages), faults(&every));
        for drill in under_messages {
            let names: Vec<_> = (drill.workloads)().iter().map(|it| it.name()).collect();
            for name in ["fifo", "delay", "transactions", "pull", "dead-letters"] {
                assert!(names.contains(&name), "{} lacks {name}", drill.name);
            }
        }
    }

    #[test]
    fn what_is_left_out_or_otherwise_is_a_drill_and_its_faults_are_made_elsewhere() {
        for (name, _) in OTHERWISE {
            assert!(find(&format!("messages-{name}")).is_some(), "{name}");
        }
        for (name, elsewhere) in LEFT_OUT {
            let left_out = find(name).unwrap_or_else(|| panic!("there is no drill {name}"));
            let others = elsewhere.split(", ").filter_map(|name| find(&format!("messages-{name}")));
            let others: Vec<&Drill> = others.collect();
            assert!(faults(&[left_out]).is_subset(&faults(&others)), "{name}");
        }
    }

    #[test]
    fn suites_have_what_they_name() {
        assert!(suite("other").is_none());
        let names = |name| -> Vec<&str> {
            suite(name).expect("a suite").iter().map(|drill| drill.name).collect()
        };
        let (ci, full) = (names("ci"), names("full"));
        assert_eq!(full.len(), all().len());
        assert!(ci.contains(&"messages-lagging-node") && !ci.contains(&"messages-kill-leader"));
        assert!(ci.contains(&"features") && !ci.contains(&"leader-kills"));
        assert_eq!(full.iter().collect::<BTreeSet<_>>().len(), full.len(), "a name twice");
    }
}
