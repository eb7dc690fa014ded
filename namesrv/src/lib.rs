//! The name server: tells clients which brokers serve a topic.
//!
//! ```text
//! leaders of broker groups --Register--> RouteTable <--QueryRoute, QueryAssignment-- clients
//! ```
//!
//! Invariants: nothing is stored; whatever is known was said by a leader within the last
//! [`route_table::TTL_MAX`], so a name server that restarts is complete after one heartbeat of each
//! group. Of two leaders of a group the one with the higher term is believed. Every number that
//! strangers choose is bounded.
//!
//! Not here: messages (clients get `NOT_IMPLEMENTED`), other name servers (they do not know of each
//! other), checks of credentials.

pub mod config;
pub mod http;
mod metrics;
pub mod route_table;
mod rpc;
mod server;

pub use config::Config;
pub use server::NameServer;
pub use server::StartError;
