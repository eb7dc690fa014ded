//! Judges: pure functions from a history to findings.
//!
//! A checker says *fail* with the lines that prove it, *pass*, or *unknown* when the history does not
//! hold what it would need; it never asks the cluster. Each has unit tests with bad histories.

use serde::{Deserialize, Serialize};

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
