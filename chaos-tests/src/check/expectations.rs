//! What a drill demands of its history.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::View;
use super::view::dead_letters_of;
use crate::history::{Action, Kind};

/// The checkers, in the order in which they report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checker {
    /// What was acknowledged is stored everywhere and consumed by all.
    Lost,
    /// What is there was sent.
    Phantom,
    /// Nothing is there twice, or delivered again without cause.
    Duplicate,
    /// Queues keep the order of time.
    Order,
    /// A place in a queue has one value for ever.
    OneValue,
    /// Offsets never go back.
    Offsets,
    /// A message group keeps its order, and holds up no other.
    FifoOrder,
    /// Lite topics come to those who subscribe to them.
    Lite,
    /// Delayed messages come when they are due.
    Delays,
    /// Each transaction ends once.
    Transactions,
    /// Who keeps its own place sees everything once.
    Pull,
    /// What a group gives up on is kept.
    DeadLetters,
    /// Topics and consumer groups behave as if there were one copy.
    Linearizable,
    /// One leader in each term.
    Leaders,
    /// Committed entries are the same everywhere and stay.
    Committed,
    /// Replicas have the same state at the same index.
    Replicas,
    /// How long writes were not possible.
    Availability,
    /// Enough happened.
    Vacuity,
}

impl Checker {
    /// Every one.
    pub const ALL: [Self; 18] = [
        Self::Lost,
        Self::Phantom,
        Self::Duplicate,
        Self::Order,
        Self::OneValue,
        Self::Offsets,
        Self::FifoOrder,
        Self::Lite,
        Self::Delays,
        Self::Transactions,
        Self::Pull,
        Self::DeadLetters,
        Self::Linearizable,
        Self::Leaders,
        Self::Committed,
        Self::Replicas,
        Self::Availability,
        Self::Vacuity,
    ];

    /// Its name in findings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Phantom => "phantom",
            Self::Duplicate => "duplicate",
            Self::Order => "order",
            Self::OneValue => "one_value",
            Self::Offsets => "offsets",
            Self::FifoOrder => "fifo_order",
            Self::Lite => "lite",
            Self::Delays => "delays",
            Self::Transactions => "transactions",
            Self::Pull => "pull",
            Self::DeadLetters => "dead_letters",
            Self::Linearizable => "linearizable",
            Self::Leaders => "leaders",
            Self::Committed => "committed",
            Self::Replicas => "replicas",
            Self::Availability => "availability",
            Self::Vacuity => "vacuity",
        }
    }

    /// Whether the history holds anything that it looks at.
    pub(super) fn has_material(self, view: &View<'_>) -> bool {
        let sent = |is: fn(&Kind) -> bool| view.sends.iter().any(|send| is(send.kind));
        match self {
            Self::Lost | Self::Phantom => !view.sends.is_empty(),
            Self::Duplicate => !view.stored.is_empty() || !view.receives.is_empty(),
            Self::Order | Self::OneValue => view.sightings().next().is_some(),
            Self::Offsets => view.has_progress,
            Self::FifoOrder => sent(|kind| matches!(kind, Kind::Fifo { .. } | Kind::Lite { .. })),
            Self::Lite => sent(|kind| matches!(kind, Kind::Lite { .. })),
            Self::Delays => sent(|kind| matches!(kind, Kind::Delay { .. })),
            Self::Transactions => sent(|kind| matches!(kind, Kind::Half { .. })),
            Self::Pull => {
                let mut actions = view.operations.iter().map(|operation| operation.action());
                actions.any(|action| matches!(action, Action::Pull { .. }))
            }
            Self::DeadLetters => {
                view.stored.iter().any(|one| dead_letters_of(one.place.topic).is_some())
            }
            Self::Linearizable => !view.admins.is_empty(),
            Self::Leaders | Self::Replicas => !view.statuses.is_empty(),
            Self::Committed => view.has_entries,
            Self::Availability | Self::Vacuity => !view.windows.is_empty(),
        }
    }
}

/// What a drill demands. The default suits a drill that sends, reads every replica at the end and
/// makes at least one fault; it demands no speed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expectations {
    /// Checkers that must have something to look at; without it they are unknown.
    pub required: BTreeSet<Checker>,
    /// Checkers that do not apply: for example `lost` where `flush = async` meets a power cut.
    pub skipped: BTreeSet<Checker>,
    /// Nodes that hold replicas at the end. Empty: all that the history saw.
    pub replicas: BTreeSet<String>,
    /// Faults that the history must have.
    pub faults_min: usize,
    /// Acknowledged sends that each fault must have met while it lasted.
    pub ok_sends_per_fault_min: u64,
    /// Longest allowed time without an acknowledged send around a fault.
    pub write_gap_max_ms: Option<u64>,
    /// Longest allowed time from a fault's begin until throughput is as before it.
    pub recovery_max_ms: Option<u64>,
    /// Longest allowed time from a fault's end until sends are answered as quickly as before it.
    pub settling_max_ms: Option<u64>,
    /// By how much nodes' clocks may disagree or run fast when they judge invisible times.
    pub clock_slack_ms: u64,
    /// How long a message of a message group may wait once the one before it is consumed, while nothing
    /// is broken.
    pub turn_max_ms: u64,
    /// How late a delayed message may come while nothing is broken.
    pub late_max_ms: u64,
    /// Faults that end the processes of the nodes they name; what a node keeps in memory only may
    /// then go back. Absent: all faults.
    pub restarting_faults: Option<BTreeSet<String>>,
    /// Whether looking at topics and groups may show an old state: true where any node answers.
    pub admin_reads_may_be_stale: bool,
    /// Steps that the search for an order of operations may take for each topic or group.
    pub linearizable_steps_max: usize,
}

impl Default for Expectations {
    fn default() -> Self {
        Self {
            required: [
                Checker::Lost,
                Checker::Phantom,
                Checker::Duplicate,
                Checker::Order,
                Checker::OneValue,
                Checker::Leaders,
                Checker::Replicas,
                Checker::Vacuity,
            ]
            .into(),
            skipped: BTreeSet::new(),
            replicas: BTreeSet::new(),
            faults_min: 1,
            ok_sends_per_fault_min: 1,
            write_gap_max_ms: None,
            recovery_max_ms: None,
            settling_max_ms: None,
            clock_slack_ms: 100,
            // Less than any invisible time. Usually a tenth of a second.
            turn_max_ms: 6000,
            late_max_ms: 3000,
            restarting_faults: None,
            admin_reads_may_be_stale: false,
            linearizable_steps_max: 2_000_000,
        }
    }
}
