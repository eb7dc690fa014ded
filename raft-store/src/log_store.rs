//! openraft's view of the commit log.
//!
//! Not here: files and flushes (`commit_log`), what purging leaves readable (retention decides).

use std::fmt::Debug;
use std::io;
use std::ops::Bound;
use std::ops::RangeBounds;

use openraft::LogState;
use openraft::OptionalSend;
use openraft::RaftLogReader;
use openraft::storage::IOFlushed;
use openraft::storage::RaftLogStorage;

use crate::commit_log::CommitLog;
use crate::planted::Bug;
use crate::planted::planted;
use crate::snapshot::Incoming;
use crate::types;
use crate::types::Entry;
use crate::types::LogId;
use crate::types::TypeConfig;
use crate::types::Vote;
use crate::world;

/// Bytes of one AppendEntries. Well below the message limit of the peer protocol.
const REPLICATION_BYTES_MAX: usize = 1 << 20;

/// The commit log as Raft's log storage.
#[derive(Clone)]
pub struct LogStore {
    log: CommitLog,
    incoming: Incoming,
}

impl LogStore {
    /// Raft on `log`; `incoming` holds what a snapshot transfer brought for it.
    pub fn new(log: CommitLog, incoming: Incoming) -> Self {
        Self { log, incoming }
    }

    fn entries(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let raft_first = self.log.purged().map_or(0, |purged| purged.index + 1);
        let frames = self.log.read_range(start.max(raft_first), end, bytes_max)?;
        frames.into_iter().map(|(frame, _)| types::frame_entry(frame)).collect()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let next = self.log.last().map_or(0, |last| last.index + 1);
        self.entries(start, end.min(next), usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.entries(start, end, REPLICATION_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.vote().map(types::from_vote_record))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.log.purged().map(types::from_position),
            last_log_id: self.log.last().map(types::from_position),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = types::vote_record(vote);
        self.log.store_vote(vote).await?;
        world::promised(&vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let frames: Vec<_> = entries.into_iter().map(|entry| types::entry_frame(&entry)).collect();
        if planted(Bug::AckBeforeWrite) {
            callback.io_completed(self.log.append(frames, |_| ()).await);
            return Ok(());
        }
        self.log.append(frames, |result| callback.io_completed(result)).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.log.truncate_after(last_log_id.map(|id| id.index)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        // Purging beyond the last entry is how an installed snapshot shows here: the messages that
        // came with it become the log.
        let beyond = self.log.last().is_none_or(|last| last.index < log_id.index);
        if beyond && !planted(Bug::SnapshotWithoutMessages) {
            self.incoming.adopt_frames(&self.log, types::position(&log_id)).await?;
        }
        self.log.purge(types::position(&log_id)).await
    }
}
