//! Runs a RaftMQ cluster as real processes, loads it with official clients, breaks it, and judges.
//!
//! - [`cluster`]: starts, kills and asks the processes of the `raftmq` binary.
//! - [`driver`]: builds and runs the client drivers under `clients/`, one for each language.
//! - [`history`]: what producers and consumers logged, and what the topics hold afterwards.
//! - [`checker`]: pure functions from histories to violations and gaps.
//! - [`report`]: the table on standard output and the JSON file beside it.
//!
//! Invariants: every wait is bounded; every process that was started is killed when its owner is
//! dropped, by its own id; a judgement depends on histories only, never on the running cluster.
//!
//! Not here: any code of the server. The binary is a black box, reached as operators reach it.

pub mod checker;
pub mod cluster;
pub mod driver;
pub mod history;
pub mod paths;
mod process;
pub mod report;
mod wait;

pub use wait::until;
