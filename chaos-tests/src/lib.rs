//! Runs a RaftMQ cluster as real processes, loads it, breaks it, and judges.
//!
//! - [`cluster`]: starts, kills and asks the processes of the `raftmq` binary.
//! - [`net`], [`disk`]: what the processes stand on, where it can be broken.
//! - [`fault`]: what is broken. [`drill`]: when, and what must hold then.
//! - [`load`]: what applications do meanwhile.
//! - [`history`]: what was done and seen, one line each.
//! - [`check`]: pure functions from histories to findings.
//! - [`report`]: a run for people and for machines. [`ledger`]: all runs that count, in one line each.
//! - [`selftest`]: shows that bugs are caught. [`probe`]: what the machine allows. [`mesh`]: drills as
//!   manifests for clusters in Kubernetes.
//! - [`compare`]: the same load and faults for RaftMQ and for [`rocketmq`], side by side.
//! - [`driver`]: builds and runs the client drivers under `clients/`, one for each language;
//!   [`features`]: what they check beyond ordinary messages; [`driver_log`], [`checker`], [`figures`]: what these log, and what it shows.
//!
//! Invariants: every wait is bounded; every process that was started is killed when its owner is
//! dropped, by its own id; a judgement depends on histories only, never on the running cluster.
//!
//! Not here: any code of the server. The binary is a black box, reached as operators reach it.

pub mod check;
pub mod checker;
pub mod cluster;
pub mod compare;
pub mod disk;
pub mod drill;
pub mod driver;
pub mod driver_log;
pub mod fault;
pub mod features;
pub mod figures;
pub mod history;
pub mod ledger;
pub mod load;
pub mod mesh;
pub mod net;
pub mod paths;
pub mod place;
pub mod probe;
mod process;
pub mod report;
pub mod rocketmq;
pub mod selftest;
mod wait;

pub use wait::{Unmet, until};
use wait::{must, until_seen};
