//! Carries committed entries to the broker's [`Apply`] and their changes into the tables.
//!
//! Invariants: entries are applied in log order, once; what an entry changed becomes visible together
//! with its position; replies go out after the write.
//!
//! Not here: what commands mean (`broker`), moving snapshots between nodes (`snapshot`).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::Stream;
use futures::StreamExt;
use openraft::EntryPayload;
use openraft::OptionalSend;
use openraft::alias::SnapshotMetaOf;
use openraft::alias::SnapshotOf;
use openraft::storage::EntryResponder;
use openraft::storage::RaftStateMachine;
use parking_lot::RwLock;

use crate::apply::Apply;
use crate::commit_log::LogPosition;
use crate::snapshot::SnapshotBuilder;
use crate::snapshot::SnapshotDirectory;
use crate::snapshot::SnapshotFiles;
use crate::state::Applied;
use crate::state::StateStore;
use crate::types;
use crate::types::LogId;
use crate::types::Reply;
use crate::types::StoredMembership;
use crate::types::TypeConfig;

/// Entries applied under one lock and written in one batch.
const APPLY_ENTRIES_MAX: usize = 64;

/// State shared with whoever reads it.
pub struct Shared<A> {
    /// The broker's working set; written only by apply.
    pub machine: RwLock<A>,
    /// The tables.
    pub store: StateStore,
    applied: RwLock<Applied>,
}

impl<A: Apply> Shared<A> {
    /// Opens the tables in `directory` and loads the working set.
    ///
    /// # Errors
    /// The tables can not be opened.
    pub fn open(directory: &std::path::Path, mut machine: A) -> io::Result<Self> {
        let store = StateStore::open(directory)?;
        machine.load(&store);
        let applied = RwLock::new(store.applied());
        Ok(Self { machine: RwLock::new(machine), store, applied })
    }

    /// How far this replica is.
    pub fn applied(&self) -> Applied {
        *self.applied.read()
    }
}

/// The state machine that openraft drives.
pub struct StateMachine<A> {
    shared: Arc<Shared<A>>,
    directory: PathBuf,
    membership: StoredMembership,
    snapshots: SnapshotDirectory,
}

impl<A: Apply> StateMachine<A> {
    /// Drives `shared`, whose tables lie in `directory`.
    ///
    /// # Errors
    /// The stored membership can not be read.
    pub fn new(
        shared: Arc<Shared<A>>,
        directory: PathBuf,
        snapshots: SnapshotDirectory,
        ) -> io::Result<Self> {
        let membership = shared.store.membership()?;
        Ok(Self { shared, directory, membership, snapshots })
    }

    /// Applies entries that came together: one lock, one write.
    fn apply_chunk(
        &mut self,
        entries: Vec<EntryResponder<TypeConfig>>,
    ) -> io::Result<()> {
        let mut replies = Vec::with_capacity(entries.len());
        let mut membership = None;
        let mut last = None;
        {
            let mut machine = self.shared.machine.write();
            for (entry, responder) in entries {
                let position = types::position(&entry.log_id);
                let applied = self.shared.applied().position;
                assert!(
                    applied.is_none_or(|applied| position.index == applied.index + 1)
                        || last.is_some(),
                    "entry {} applied after {applied:?}",
                    position.index
                );
                // One write an entry: the machine may look up what earlier entries wrote.
                let mut batch = self.shared.store.batch(self.shared.applied().state_hash);
                let mut changed = None;
                let reply = match entry.payload {
                    EntryPayload::Blank => Reply(None),
                    EntryPayload::Normal(body) => {
                        machine.apply(position, &body.0, &self.shared.store, &mut batch)
                    }
                    EntryPayload::Membership(value) => {
                        changed = Some(StoredMembership::new(Some(entry.log_id), value));
                        Reply(None)
                    }
                };
                let applied = self.shared.store.write(batch, position, changed.as_ref())?;
                *self.shared.applied.write() = applied;
                membership = changed.or(membership);
                last = Some(position);
                replies.push((responder, reply));
            }
        }
        if let Some(membership) = membership {
            self.membership = membership;
        }
        for (responder, reply) in replies {
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        self.shared.machine.read().applied();
        Ok(())
    }

    fn last_applied(&self) -> Option<LogPosition> {
        self.shared.applied().position
    }
}

impl<A: Apply> RaftStateMachine<TypeConfig> for StateMachine<A> {
    type SnapshotData = SnapshotFiles;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last_applied().map(types::from_position), self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(APPLY_ENTRIES_MAX);
        while let Some(chunk) = chunks.next().await {
            let entries = chunk.into_iter().collect::<io::Result<Vec<_>>>()?;
            self.apply_chunk(entries)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.snapshots.builder(&self.shared.store, self.last_applied(), &self.membership)
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotFiles,
    ) -> io::Result<()> {
        tracing::info!(last = ?meta.last_log_id, "installing a snapshot");
        let snapshot = self.snapshots.keep(&snapshot)?;
        let tables = self.snapshots.prepare_tables(&snapshot)?;
        let mut machine = self.shared.machine.write();
        self.shared.store.replace(&self.directory, &tables)?;
        machine.load(&self.shared.store);
        *self.shared.applied.write() = self.shared.store.applied();
        self.membership = meta.last_membership.clone();
        metrics::counter!("raftmq_snapshots_installed_total").increment(1);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotFiles>>> {
        self.snapshots.current()
    }
}
