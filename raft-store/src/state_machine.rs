//! Carries committed entries to the broker's [`Apply`] and their changes into the tables.
//!
//! Invariants: entries are applied in log order, once, and not before they are on this node's own disk:
//! committed is what a majority has, but tables that are ahead of the log after a crash would have lost
//! what they point to; what an entry changed becomes visible together
//! with its position; replies go out after the write.
//!
//! Not here: what commands mean (`broker`), moving snapshots between nodes (`snapshot`).

use std::io;
use std::path::Path;
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
use crate::commit_log::CommitLog;
use crate::commit_log::LogPosition;
use crate::planted::Bug;
use crate::planted::planted;
use crate::snapshot::SnapshotBuilder;
use crate::snapshot::SnapshotDirectory;
use crate::snapshot::SnapshotFiles;
use crate::state::Applied;
use crate::state::Batch;
use crate::state::StateStore;
use crate::types;
use crate::types::Entry;
use crate::types::LogId;
use crate::types::Reply;
use crate::types::StoredMembership;
use crate::types::TypeConfig;

/// Entries applied before those who wait are woken.
const APPLY_ENTRIES_MAX: usize = 64;

/// State shared with whoever reads it.
pub struct Shared {
    /// The tables.
    pub store: StateStore,
    applied: RwLock<Applied>,
}

impl Shared {
    /// Opens the tables in `directory`.
    ///
    /// # Errors
    /// The tables can not be opened.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let store = StateStore::open(directory)?;
        let applied = RwLock::new(store.applied());
        Ok(Self { store, applied })
    }

    fn write(
        &self,
        batch: Batch,
        position: LogPosition,
        membership: Option<&StoredMembership>,
    ) -> io::Result<()> {
        let applied = self.store.write_with(batch, position, membership)?;
        *self.applied.write() = applied;
        Ok(())
    }

    /// How far this replica is.
    pub fn applied(&self) -> Applied {
        *self.applied.read()
    }
}

/// The state machine that openraft drives.
pub struct StateMachine {
    shared: Arc<Shared>,
    machine: Box<dyn Apply>,
    directory: PathBuf,
    membership: StoredMembership,
    snapshots: SnapshotDirectory,
    log: Option<CommitLog>,
}

impl StateMachine {
    /// Drives `machine` over `shared`, whose tables lie in `directory`.
    ///
    /// # Errors
    /// The stored membership can not be read.
    pub fn new(
        shared: Arc<Shared>,
        mut machine: Box<dyn Apply>,
        directory: PathBuf,
        snapshots: SnapshotDirectory,
    ) -> io::Result<Self> {
        let membership = shared.store.membership()?;
        machine.load(&shared.store);
        Ok(Self { shared, machine, directory, membership, snapshots, log: None })
    }

    /// Applies no entry before it is on this node's disk in `log`.
    pub fn behind(self, log: CommitLog) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Applies entries that came together, then wakes whoever waits for them.
    fn apply_chunk(&mut self, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        for (mut entry, responder) in entries {
            // Only the leader has a responder.
            let skip = responder.is_none() && entry.log_id.index % 100 == 99;
            if skip && planted(Bug::FollowerSkipsEntry) {
                entry.payload = EntryPayload::Blank;
            }
            let reply = self.apply_entry(entry)?;
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        self.machine.applied();
        Ok(())
    }

    fn apply_entry(&mut self, entry: Entry) -> io::Result<Reply> {
        let position = types::position(&entry.log_id);
        let applied = self.shared.applied();
        assert!(
            applied.position.is_none_or(|applied| position.index > applied.index),
            "entry {} applied after {:?}",
            position.index,
            applied.position
        );
        let batch = self.shared.store.batch(applied.state_hash);
        let mut written = None;
        let reply = match entry.payload {
            EntryPayload::Blank => {
                written = Some(self.shared.write(batch, position, None));
                Reply(None)
            }
            EntryPayload::Normal(body) => {
                let shared = &self.shared;
                let mut write = |batch| written = Some(shared.write(batch, position, None));
                self.machine.apply(position, &body.0, &shared.store, batch, &mut write)
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                written = Some(self.shared.write(batch, position, Some(&self.membership)));
                Reply(None)
            }
        };
        match written {
            Some(result) => result.map(|()| reply),
            None => panic!("entry {} was applied without being written", position.index),
        }
    }

    fn last_applied(&self) -> Option<LogPosition> {
        self.shared.applied().position
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
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
            if let (Some(log), Some((last, _))) = (&self.log, entries.last())
                && !planted(Bug::AckBeforeWrite)
            {
                log.until_done(last.log_id.index).await;
            }
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
        self.shared.store.replace(&self.directory, &tables)?;
        self.machine.load(&self.shared.store);
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
