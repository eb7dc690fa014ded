//! A replica without Raft: entries are applied as if they had been committed.

#![allow(dead_code, reason = "each test binary uses some of it")]

pub mod commands;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use raftmq_broker::command;
use raftmq_broker::command::Command;
use raftmq_broker::state::Applier;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::State;
use raftmq_broker::state::Unit;
use raftmq_raft_store::apply::Apply;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::state::Applied;
use raftmq_raft_store::state::StateStore;

/// One replica: tables in a directory and what is in memory.
pub struct Replica {
    pub store: StateStore,
    pub state: Arc<RwLock<State>>,
    applier: Applier,
    pub applied: Applied,
    /// Term of the entries that are applied.
    pub term: u64,
    /// What a log would hold: bodies of entries by log index.
    bodies: HashMap<u64, Bytes>,
    /// Last: tables that close when their directory is gone try for a second.
    _directory: tempfile::TempDir,
}

impl Replica {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = StateStore::open(directory.path()).unwrap();
        let state = Arc::new(RwLock::new(State::default()));
        let mut applier = Applier::new(state.clone());
        applier.load(&store);
        Self {
            store,
            state,
            applier,
            applied: Applied::default(),
            term: 1,
            bodies: HashMap::new(),
            _directory: directory,
        }
    }

    /// Forgets everything in memory, as a restart does.
    pub fn reload(&mut self) {
        self.state = Arc::new(RwLock::new(State::default()));
        self.applier = Applier::new(self.state.clone());
        self.applier.load(&self.store);
        self.applied = self.store.applied();
    }

    /// Reads the tables anew in the running process, as the install of a snapshot does.
    pub fn install(&mut self) {
        self.applier.load(&self.store);
    }

    /// Log index of the next entry.
    pub fn next_index(&self) -> u64 {
        self.applied.position.map_or(0, |position| position.index + 1)
    }

    /// The record of a message.
    pub fn read(&self, unit: &Unit) -> String {
        let start = unit.offset as usize;
        let record = &self.bodies[&unit.log_index][start..start + unit.length as usize];
        String::from_utf8(record.to_vec()).unwrap()
    }

    pub fn apply(&mut self, time_ms: u64, commands: &[Command]) -> Vec<CommandReply> {
        let index = self.next_index();
        let position = LogPosition { term: self.term, index };
        let encoded: Vec<_> = commands.iter().map(command::encode).collect();
        let body = command::encode_entry(time_ms, &encoded);
        self.bodies.insert(index, body.clone());
        let batch = self.store.batch(self.applied.state_hash);
        let mut applied = None;
        let mut write = |batch| applied = Some(self.store.write(batch, position).unwrap());
        let reply = self.applier.apply(position, &body, &self.store, batch, &mut write);
        self.applied = applied.unwrap();
        *reply.0.unwrap().downcast().unwrap()
    }
}
