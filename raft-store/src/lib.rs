//! The replicated commit log of one broker group: bytes, indexes and terms.
//!
//! ```text
//!   GroupHandle::propose --> openraft --> log_store --> commit_log (segments, group commit)
//!                               |  \
//!                               |   network --> the other nodes
//!                               v
//!                         state_machine --> Apply (the broker) --> state (RocksDB)
//! ```
//!
//! Positions, each of which never passes the next:
//! `message_first <= raft_first <= applied + 1 <= committed + 1 <= last + 1`. What is committed is on
//! the disks of a majority, though not necessarily on this node's.
//!
//! Not here: topics, queues, messages. openraft and RocksDB are named in this crate only.

pub mod apply;
pub mod commit_log;
mod group;
pub mod log_store;
mod network;
pub mod planted;
pub mod snapshot;
pub mod state;
pub mod state_machine;
mod types;
pub mod world;

pub use commit_log::FlushMode;
pub use group::GroupConfig;
pub use group::GroupHandle;
pub use group::Leadership;
pub use group::MemberInfo;
pub use group::ProposeError;
pub use group::RaftGroup;
pub use group::StartError;
pub use types::Body;
pub use types::Node;
pub use types::NodeId;
pub use types::Reply;
pub use types::TypeConfig;
