//! The client behind the operator commands, the benchmarks and the chaos tests.
//!
//! The `raftmq` binary of this package is built on it; its commands are not part of this library.

pub mod client;
