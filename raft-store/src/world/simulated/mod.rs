//! A world in one thread: every node of a group, their disks and links, in virtual time.
//!
//! Everything runs on one tokio runtime whose clock is paused: when no task can go on, time jumps to
//! the next timer. So nothing here waits, and one seed gives one run. What chance decides is drawn
//! from one generator ([`draw`]); every event is noted in one trace whose hash tells two runs apart.
//!
//! A node is a [`Process`]: its tasks are polled only while it lives. A killed one is never polled
//! again, so nothing of it tidies up, as with `kill -9`; files and links know it is dead.
//!
//! Not here: which faults happen and what must hold (the crate `raftmq-simulation`).

pub mod disk;
mod draw;
pub(crate) mod fs;
pub mod net;
mod per_node;
mod process;
mod tables;
pub mod task;
pub mod time;
pub mod trace;

pub use self::disk::Disk;
pub use self::draw::draw;
pub use self::per_node::PerNode;
pub use self::process::Process;
pub(crate) use self::tables::Tables;
pub(crate) use self::tables::Writes;
use crate::commit_log::VoteRecord;

/// A vote is durable, as far as the node knows: from here on it must hold.
pub(crate) fn promised(vote: &VoteRecord) {
    let process = Process::current();
    process.disk().promise(process.node_id(), vote);
}
