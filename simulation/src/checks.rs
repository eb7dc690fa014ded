//! What must hold at every moment, checked where it can change.
//!
//! The first thing that does not hold ends the run (`trace::violation`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raftmq_broker::command;
use raftmq_broker::command::Command;
use raftmq_raft_store::Reply;
use raftmq_raft_store::apply::Apply;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::state::Batch;
use raftmq_raft_store::state::StateStore;
use raftmq_raft_store::world::Disk;
use raftmq_raft_store::world::Process;
use raftmq_raft_store::world::trace;
use xxhash_rust::xxh3::xxh3_64;

/// What is known of the group's log and state, whoever told it.
#[derive(Default)]
pub struct Checks {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    disks: Vec<Disk>,
    /// By index: every committed entry that carries commands.
    committed: BTreeMap<u64, Committed>,
    /// By message id: index of the entry that first carried it.
    stored: BTreeMap<String, u64>,
    /// By term.
    leaders: BTreeMap<u64, u64>,
    /// Snapshots that were installed.
    installed: u64,
    /// By node: what its present incarnation said last.
    seen: BTreeMap<u64, Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Committed {
    term: u64,
    body: u64,
    state: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    incarnation: u64,
    term: u64,
    committed: u64,
    applied: u64,
    /// How often in a row its positions were out of order.
    disorder: u64,
}

/// Looks at a node in a row that may find its positions out of order: while a snapshot is taken over,
/// the tables are ahead of the log.
const DISORDER_MAX: u64 = 40;

impl Checks {
    /// For a group on `disks`.
    pub fn new(disks: Vec<Disk>) -> Arc<Self> {
        let known = Known { disks, ..Known::default() };
        Arc::new(Self { known: Mutex::new(known) })
    }

    /// Lets `machine` be watched as it applies.
    pub fn watch(self: &Arc<Self>, process: &Process, machine: Box<dyn Apply>) -> Box<dyn Apply> {
        Box::new(Watched { checks: self.clone(), process: process.clone(), machine, loaded: false })
    }

    /// Index of the entry in which the message was first stored, if it is committed.
    pub fn stored_at(&self, message_id: &str) -> Option<u64> {
        self.known.lock().stored.get(message_id).copied()
    }

    /// Entries applied so far.
    pub fn committed_count(&self) -> usize {
        self.known.lock().committed.len()
    }

    /// Terms that had a leader.
    pub fn leader_count(&self) -> usize {
        self.known.lock().leaders.len()
    }

    /// Snapshots that were installed.
    pub fn installed(&self) -> u64 {
        self.known.lock().installed
    }

    fn applied(&self, process: &Process, position: LogPosition, body: &Bytes, state: u64) {
        let mut known = self.known.lock();
        let entry = Committed { term: position.term, body: xxh3_64(body), state };
        let index = position.index;
        trace::note(format_args!(
            "{process:?} applies {index} of term {} state {state:x}",
            position.term
        ));
        if let Some(before) = known.committed.get(&index) {
            if *before != entry {
                trace::violation(format_args!(
                    "node {} applies {entry:x?} at index {index}, where {before:x?} was applied",
                    process.node_id()
                ));
            }
            return;
        }
        let holding = known.disks.iter().filter(|disk| disk.holds(position.term, index)).count();
        if holding <= known.disks.len() / 2 {
            trace::violation(format_args!(
                "entry {index} of term {} counts as committed and is on {holding} of {} disks",
                position.term,
                known.disks.len()
            ));
        }
        known.committed.insert(index, entry);
        let Ok((_, commands)) = command::decode_entry(body) else { return };
        for command in commands {
            if let Command::Send(send) = command {
                for message in send.messages {
                    let id = String::from_utf8_lossy(&message.message_id).into_owned();
                    known.stored.entry(id).or_insert(index);
                }
            }
        }
    }

    /// What a node says of itself.
    pub fn status(&self, process: &Process, status: &raftmq_proto::raftmq::NodeStatusResponse) {
        let mut known = self.known.lock();
        let node_id = process.node_id();
        if status.role == "leader" {
            let leader = *known.leaders.entry(status.term).or_insert(node_id);
            if leader != node_id {
                trace::violation(format_args!(
                    "nodes {leader} and {node_id} both lead in term {}",
                    status.term
                ));
            }
        }
        let seen = known.seen.entry(node_id).or_default();
        if seen.incarnation != process.incarnation() {
            *seen = Seen { incarnation: process.incarnation(), ..Seen::default() };
        }
        let now = Seen {
            incarnation: process.incarnation(),
            term: status.term,
            committed: status.commit_index,
            applied: status.applied_index,
            disorder: seen.disorder,
        };
        if now.term < seen.term || now.committed < seen.committed || now.applied < seen.applied {
            trace::violation(format_args!(
                "node {node_id} goes back: term {} to {}, committed {} to {}, applied {} to {}",
                seen.term, now.term, seen.committed, now.committed, seen.applied, now.applied
            ));
        }
        *seen = now;
        let ordered = status.message_first_index <= status.raft_first_index
            && status.raft_first_index <= status.applied_index + 1
            && status.applied_index <= status.last_log_index;
        seen.disorder = if ordered || status.last_log_index == 0 { 0 } else { seen.disorder + 1 };
        if seen.disorder > DISORDER_MAX {
            trace::violation(format_args!(
                "node {node_id} has positions out of order: message first {}, raft first {}, \
                 applied {}, last {}",
                status.message_first_index,
                status.raft_first_index,
                status.applied_index,
                status.last_log_index
            ));
        }
    }

    /// At the end: the logs of all disks agree with each other up to what is applied.
    pub fn logs_match(&self) {
        let known = self.known.lock();
        for (number, disk) in known.disks.iter().enumerate() {
            for (index, term) in disk.durable_log() {
                if let Some(entry) = known.committed.get(&index)
                    && entry.term != term
                {
                    trace::violation(format_args!(
                        "disk {number} holds index {index} of term {term}, committed was term {}",
                        entry.term
                    ));
                }
            }
        }
    }
}

struct Watched {
    checks: Arc<Checks>,
    process: Process,
    machine: Box<dyn Apply>,
    loaded: bool,
}

impl Apply for Watched {
    fn apply(
        &mut self,
        position: LogPosition,
        body: &Bytes,
        store: &StateStore,
        batch: Batch,
        write: &mut dyn FnMut(Batch),
    ) -> Reply {
        let mut state = 0;
        let reply = self.machine.apply(position, body, store, batch, &mut |batch: Batch| {
            state = batch.state_hash();
            write(batch);
        });
        if !self.process.is_dead() {
            self.checks.applied(&self.process, position, body, state);
        }
        reply
    }

    fn load(&mut self, store: &StateStore) {
        // Tables are loaded at a start, and again when a snapshot has replaced them.
        if std::mem::replace(&mut self.loaded, true) {
            self.checks.known.lock().installed += 1;
        }
        self.machine.load(store);
    }

    fn applied(&mut self) {
        self.machine.applied();
    }
}

/// What clients did and were told.
#[derive(Default)]
pub struct History {
    /// Message ids that were sent, with the number of attempts.
    pub sent: BTreeMap<String, u64>,
    /// Those whose send was acknowledged, with the offset that was told.
    pub acknowledged: BTreeMap<String, i64>,
    /// Those whose consumption was acknowledged.
    pub consumed: BTreeSet<String>,
    /// Those for which there was no answer to that.
    pub perhaps_consumed: BTreeSet<String>,
    /// Calls of clients, and those without an outcome.
    pub calls: u64,
    /// See above.
    pub unknown: u64,
}
