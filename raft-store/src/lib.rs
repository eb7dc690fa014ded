//! The replicated commit log of one broker group: bytes, indexes and terms.

pub mod apply;
pub mod commit_log;
pub mod log_store;
pub mod snapshot;
pub mod state;
pub mod state_machine;
mod types;

pub use types::Body;
pub use types::Node;
pub use types::NodeId;
pub use types::Reply;
pub use types::TypeConfig;

pub use commit_log::FlushMode;
