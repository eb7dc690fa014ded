//! What came of a run, for people and for machines.

use serde::{Deserialize, Serialize};

use crate::check::{Finding, Verdict};

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
