//! Derived state in RocksDB: everything the log says, in a form that can be looked up.
//!
//! Runs without a write-ahead log: the commit log is the write-ahead log. The applied position lies in
//! the same atomic write as the changes, so that after a crash the entries behind it are applied
//! again. One column family with a table byte in front of each key: a crash can not leave tables at
//! different positions, and nothing has to be said about the order of their flushes.
//!
//! Table 0 is this module's own; all others are the broker's.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use parking_lot::RwLockReadGuard;
use prost::Message;
use raftmq_proto::raftmq as wire;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::commit_log::LogPosition;
use crate::types;
use crate::types::StoredMembership;
use crate::world::Tables;
use crate::world::Writes;
use crate::world::fs;

const APPLIED_KEY: &[u8] = &[0, 0];
const MEMBERSHIP_KEY: &[u8] = &[0, 1];
/// Writes after which the tables are flushed, full or not. A start reads every entry behind the last
/// flush, for Raft and to apply it, and small entries fill no memtable for a long time.
const UNFLUSHED_ENTRIES_MAX: u64 = 4096;
/// How far the state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied entry.
    pub position: Option<LogPosition>,
    /// Hash of every change up to it.
    pub state_hash: u64,
}

/// The tables. Readers and the one applier share it.
pub struct StateStore {
    /// Since a flush was asked for.
    unflushed_entries: AtomicU64,
    tables: RwLock<Option<Tables>>,
}

/// Changes of one or more entries, written together.
#[derive(Default)]
pub struct Batch {
    writes: Writes,
    state_hash: u64,
}

impl Batch {
    /// Sets `key` (table byte first) to `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.note(1, key, value);
        self.writes.put(key, value);
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) {
        self.note(2, key, &[]);
        self.writes.delete(key);
    }

    /// Removes every key in `from..to` (`to` exclusive).
    pub fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        self.note(3, from, to);
        self.writes.delete_range(from, to);
    }

    fn note(&mut self, operation: u64, key: &[u8], value: &[u8]) {
        let seed = self.state_hash ^ operation.rotate_left(61) ^ (key.len() as u64).rotate_left(32);
        self.state_hash = xxh3_64_with_seed(value, xxh3_64_with_seed(key, seed));
    }

    /// Hash of everything written so far, this batch included.
    pub fn state_hash(&self) -> u64 {
        self.state_hash
    }
}

impl StateStore {
    /// Opens or creates the tables in `directory`.
    ///
    /// # Errors
    /// RocksDB's, as text.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let tables = RwLock::new(Some(Tables::open(directory)?));
        Ok(Self { tables, unflushed_entries: AtomicU64::new(0) })
    }

    /// Replaces the tables by those in `from`, which is moved to `directory`.
    pub(crate) fn replace(&self, directory: &Path, from: &Path) -> io::Result<()> {
        let mut tables = self.tables.write();
        // Closed first: RocksDB must not write into a directory that is being removed.
        drop(tables.take());
        if fs::exists(directory)? {
            fs::remove_dir_all(directory)?;
        }
        fs::rename(from, directory)?;
        if let Some(parent) = directory.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
        *tables = Some(Tables::open(directory)?);
        Ok(())
    }

    /// The value of `key`.
    ///
    /// # Panics
    /// When RocksDB can not read: derived state that can not be read must not be guessed.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        open(&self.tables()).get(key)
    }

    /// Calls `visit` for each key in `from..to` (`to` exclusive), in key order, until it says `false`.
    pub fn scan(&self, from: &[u8], to: &[u8], visit: impl FnMut(&[u8], &[u8]) -> bool) {
        open(&self.tables()).scan(from, to, visit);
    }

    /// The last key in `from..to` (`to` exclusive) and its value.
    pub fn last(&self, from: &[u8], to: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        open(&self.tables()).last(from, to)
    }

    /// How far the tables are.
    pub fn applied(&self) -> Applied {
        let Some(bytes) = self.get(APPLIED_KEY) else { return Applied::default() };
        let number = |at: usize| {
            let mut value = [0; 8];
            value.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(value)
        };
        Applied {
            position: Some(LogPosition { term: number(0), index: number(8) }),
            state_hash: number(16),
        }
    }

    /// The last membership among the applied entries.
    pub(crate) fn membership(&self) -> io::Result<StoredMembership> {
        match self.get(MEMBERSHIP_KEY) {
            None => Ok(StoredMembership::default()),
            Some(bytes) => {
                let stored =
                    wire::StoredMembership::decode(&bytes[..]).map_err(io::Error::other)?;
                types::stored_membership_from_wire(stored)
            }
        }
    }

    /// An empty batch that continues the state hash.
    pub fn batch(&self, state_hash: u64) -> Batch {
        Batch { writes: Writes::default(), state_hash }
    }

    /// Writes `batch`, after which the tables stand at `position`.
    ///
    /// # Errors
    /// RocksDB's, as text.
    pub fn write(&self, batch: Batch, position: LogPosition) -> io::Result<Applied> {
        self.write_with(batch, position, None)
    }

    /// Like [`Self::write`], with a changed membership.
    pub(crate) fn write_with(
        &self,
        mut batch: Batch,
        position: LogPosition,
        membership: Option<&StoredMembership>,
    ) -> io::Result<Applied> {
        let state_hash = batch.state_hash;
        let mut applied = Vec::with_capacity(24);
        applied.extend_from_slice(&position.term.to_be_bytes());
        applied.extend_from_slice(&position.index.to_be_bytes());
        applied.extend_from_slice(&state_hash.to_be_bytes());
        batch.writes.put(APPLIED_KEY, &applied);
        if let Some(membership) = membership {
            let bytes = types::stored_membership_to_wire(membership).encode_to_vec();
            batch.writes.put(MEMBERSHIP_KEY, &bytes);
        }
        open(&self.tables()).write(batch.writes)?;
        if self.unflushed_entries.fetch_add(1, Ordering::Relaxed) + 1 >= UNFLUSHED_ENTRIES_MAX {
            self.unflushed_entries.store(0, Ordering::Relaxed);
            open(&self.tables()).flush_soon()?;
        }
        Ok(Applied { position: Some(position), state_hash })
    }

    /// A consistent copy of the tables as they are, in the new directory `to` (hard links).
    pub(crate) fn checkpoint(&self, to: &Path) -> io::Result<()> {
        open(&self.tables()).checkpoint(to)
    }

    /// Brings everything written so far into files.
    ///
    /// # Errors
    /// RocksDB's, as text.
    pub fn flush(&self) -> io::Result<()> {
        open(&self.tables()).flush()
    }

    /// Closes the tables. Nothing may be read afterwards.
    pub(crate) fn close(&self) {
        drop(self.tables.write().take());
    }

    fn tables(&self) -> RwLockReadGuard<'_, Option<Tables>> {
        self.tables.read()
    }
}

fn open<'a>(tables: &'a RwLockReadGuard<'_, Option<Tables>>) -> &'a Tables {
    match tables.as_ref() {
        Some(tables) => tables,
        None => panic!("the state tables are closed"),
    }
}
