//! A broker node: topics, queues, groups; the life of a message.
//!
//! The path of one message, top to bottom (more in `docs/message-path.md`):
//!
//! 1. [`rpc::validate`]: the request is checked
//! 2. `rpc::leader`: and brought to the leader,
//! 3. `send`: which chooses queues,
//! 4. [`proposer`]: gathers what waits into one log entry,
//! 5. `raft-store`: appends, replicates and flushes it on a majority,
//! 6. [`state`]: and applies it on every replica: queue offsets, index entries.
//! 7. `receive`: A consumer's receive is given messages by a checkout,
//! 8. `ack`: and says what became of them.
//!
//! Beside it: `timers` (what happens at a time), `transaction`, `recall`, `pull`.
//!
//! Not here: consensus and files (`raft-store`), routes of other groups (`namesrv`).

mod ack;
mod auto_create;
mod broker;
mod clients;
pub mod clock;
pub mod command;
mod config;
mod end;
mod handle;
mod history;
mod lite;
mod metrics;
mod node;
pub mod proposer;
mod pull;
mod rate;
mod recall;
mod receive;
mod registrar;
mod retention;
pub mod rpc;
mod send;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod state;
mod timers;
mod transaction;
mod upkeep;

pub use broker::Broker;
pub use broker::StartError;
pub use config::Config;
pub use config::FlushMode;
pub use config::Member;
pub use config::Timing;
pub use config::Tls;
pub use end::end_process;
