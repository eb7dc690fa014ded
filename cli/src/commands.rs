//! The verbs of the binary, one file each.

mod body;
pub mod broker;
pub mod chaos;
pub mod cluster;
pub mod dev;
pub mod dlq;
pub mod group;
pub mod lite;
pub mod log;
pub mod message;
pub mod namesrv;
#[cfg(feature = "planted-bugs")]
pub mod planted_bugs;
pub mod topic;
pub mod transaction;

use clap::Args;
use raftmq::client::Admin;
use raftmq::client::addresses;

use crate::output::COMMON;

/// Where operator commands find a broker.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// Admin ports of brokers, tried in order
    #[arg(
        long,
        env = "RAFTMQ_ADMIN",
        value_name = "HOST:PORT,…",
        default_value = "127.0.0.1:8183,127.0.0.1:8283,127.0.0.1:8383,127.0.0.1:8083",
        global = true,
        help_heading = COMMON
    )]
    pub admin: String,
}

impl AdminArgs {
    pub fn admin(&self) -> Admin {
        Admin::new(addresses(&self.admin))
    }
}

/// How topics, groups and messages are read.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReadArgs {
    /// Show what the asked node has applied, even if it is out of touch with the others
    #[arg(long)]
    pub this_node: bool,
}

/// Where client calls begin.
#[derive(Args, Clone, Debug)]
pub struct EndpointArgs {
    /// Client ports of name servers or brokers, tried in order
    #[arg(
        long,
        env = "RAFTMQ_ENDPOINT",
        value_name = "HOST:PORT,…",
        default_value = "127.0.0.1:8081",
        global = true,
        help_heading = COMMON
    )]
    pub endpoint: String,
}

impl EndpointArgs {
    pub fn endpoints(&self) -> Vec<String> {
        addresses(&self.endpoint)
    }
}
