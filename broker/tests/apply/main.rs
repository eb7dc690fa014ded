//! The state machine, one replica at a time and without Raft: commands go in, replies come out.
//!
//! `model` compares it with a simple one, `agreement` replicas with each other; the rest protects one
//! promise each.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]
#![allow(missing_docs)]

mod agreement;
mod dead_letters;
mod fifo;
mod filters;
mod lite;
mod model;
#[path = "../replica/mod.rs"]
mod replica;
mod resets;
mod retention;
mod setup;
mod timers;
mod transactions;
