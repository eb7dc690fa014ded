//! The disks and clocks of the processes of a cluster, where they can fail.
//!
//! - [`volume`]: a file system of its own for each node. It can lose power, be full, and hang.
//! - [`shim`]: slow, hanging and failing system calls, and clocks that are wrong, in one process.
//! - [`damage`]: damage to the files of a node that is down.
//!
//! Invariants: nothing here touches a disk, a clock or a file outside the run; the clock of the
//! machine is never set; what was made is removed when its owner is dropped, and what a run that was
//! killed left behind is removed by the next one.
//!
//! Not here: when to break what (`fault`), and who is a leader.

pub mod damage;
pub mod shim;
pub mod volume;

mod compile;
mod owner;
mod stop;
mod tool;
