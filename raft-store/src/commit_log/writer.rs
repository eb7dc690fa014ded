//! The one writer of the commit log: appends, votes, truncations and purges in one order.
//!
//! A thread of its own takes everything that waits, writes it, and calls `fdatasync` once for all of
//! it (group commit). Callbacks run in order, after the flush that covers them.
//!
//! Invariants: a segment is created durably (file, then directory) before a frame goes into it; a
//! closed segment is synced before its successor takes frames; after a failed write or flush nothing
//! is ever acknowledged again: the fatal handler ends the process, since the kernel has dropped the
//! dirty pages and a second flush would claim success.
//!
//! Not here: what to append (Raft), reading.

use std::io;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::FlushMode;
use super::Shared;
use super::format::SEGMENT_HEADER_BYTES;
use super::format::SegmentHeader;
use super::meta::Meta;
use super::segment;
use super::segment::Segment;
use super::synced::SyncedFile;
use super::synced::SyncedMark;
use crate::planted::Bug;
use crate::planted::planted;
use crate::world::fs;
use crate::world::fs::File;
use crate::world::fs::FileExt;
use crate::world::fs::OpenOptions;
use crate::world::task::Worker;
use crate::world::time::Instant;

/// Operations that may wait for the writer. Appends are bounded in bytes as well, by the log.
pub(super) const QUEUE_LENGTH: usize = 4096;
/// With `flush = async`: longest time between a write and its flush.
const ASYNC_FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Called once with the outcome of an operation.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One thing to be made durable.
pub(super) enum Operation {
    Append {
        frames: Vec<(u64, Bytes)>,
        done: Done,
    },
    StoreMeta {
        meta: Meta,
        done: Done,
    },
    /// Drops every entry from this index on.
    Truncate {
        from_index: u64,
        done: Done,
    },
    /// Drops every entry; the next append begins a new segment.
    Clear {
        done: Done,
    },
    /// Deletes whole segments that end before this index.
    DeleteBefore {
        index: u64,
        done: Done,
    },
}

/// State of the writer thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    synced: SyncedFile,
    unsynced: bool,
    last_sync: Instant,
}

impl Worker for Writer {
    type Item = Operation;

    /// Only while a late flush is due.
    fn patience(&self) -> Option<Duration> {
        self.unsynced.then_some(ASYNC_FLUSH_INTERVAL)
    }

    fn work(&mut self, batch: Vec<Operation>) -> bool {
        match self.execute(batch) {
            Ok(()) => true,
            Err(error) => {
                (self.shared.config.on_fatal)(&error);
                false
            }
        }
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let synced = SyncedFile::open(&shared.config.directory)?;
        Ok(Self { shared, synced, unsynced: false, last_sync: Instant::now() })
    }

    fn execute(&mut self, batch: Vec<Operation>) -> io::Result<()> {
        let mut flushed: Vec<Done> = Vec::new();
        let mut written_bytes = 0;
        for operation in batch {
            match operation {
                Operation::Append { frames, done } => {
                    match self.write_frames(&frames) {
                        Ok(bytes) => written_bytes += bytes,
                        Err(error) => return Err(refuse(flushed, Some(done), error)),
                    }
                    flushed.push(done);
                }
                other => {
                    // Everything before it becomes durable first, so that the order on disk is the
                    // order of the calls.
                    if let Err(error) = self.flush(&mut flushed, &mut written_bytes) {
                        return Err(refuse(flushed, None, error));
                    }
                    self.change(other)?;
                }
            }
        }
        let result = self.flush(&mut flushed, &mut written_bytes);
        result.map_err(|error| refuse(flushed, None, error))
    }

    /// Carries out what is not an append, durably.
    fn change(&mut self, operation: Operation) -> io::Result<()> {
        let directory = self.shared.config.directory.clone();
        let (result, done) = match operation {
            Operation::Append { .. } => unreachable!("appends are batched"),
            Operation::StoreMeta { meta, done } => (meta.store(&directory), done),
            Operation::Truncate { from_index, done } => (self.truncate(from_index), done),
            Operation::Clear { done } => {
                self.shared.note_written_before(0);
                let lowered = self.synced.forget();
                let gone = self.shared.remove_segments(|_| true);
                (lowered.and_then(|()| self.delete(gone.into_iter().rev())), done)
            }
            Operation::DeleteBefore { index, done } => {
                let whole =
                    |segment: &Segment| segment.sealed().is_some() && segment.next_index() <= index;
                (self.delete(self.shared.remove_segments(whole).into_iter()), done)
            }
        };
        match result {
            Ok(()) => {
                done(Ok(()));
                Ok(())
            }
            Err(error) => Err(refuse(Vec::new(), Some(done), error)),
        }
    }

    fn write_frames(&mut self, frames: &[(u64, Bytes)]) -> io::Result<u64> {
        let mut written = 0;
        let mut rest = frames;
        while let Some((first_index, _)) = rest.first() {
            let segment = self.active(*first_index)?;
            let room = self.shared.config.segment_bytes.saturating_sub(segment.frames_end());
            let mut bytes = 0;
            // Always at least one frame, so that a frame larger than a segment still fits in one.
            let count = rest
                .iter()
                .position(|(_, frame)| {
                    let fits = bytes == 0 || bytes + frame.len() as u64 <= room;
                    bytes += if fits { frame.len() as u64 } else { 0 };
                    !fits
                })
                .unwrap_or(rest.len());
            let (now, later) = rest.split_at(count);
            write_vectored(&segment.file, segment.frames_end(), now)?;
            for (index, frame) in now {
                segment.extend(*index, frame.len() as u64);
            }
            self.unsynced = true;
            written += bytes;
            rest = later;
        }
        if let Some((last, _)) = frames.last() {
            self.shared.note_written_before(*last + 1);
        }
        Ok(written)
    }

    /// The segment that takes the frame of `index`: the last one, or a new one when that is full.
    fn active(&mut self, index: u64) -> io::Result<Arc<Segment>> {
        if let Some(last) = self.shared.last_segment() {
            let full = last.frames_end() >= self.shared.config.segment_bytes;
            if last.sealed().is_none() && !full {
                return Ok(last);
            }
            if last.sealed().is_none() {
                last.seal()?;
                last.file.sync_data()?;
            }
        }
        let segment = Arc::new(self.create_segment(index)?);
        self.shared.add_segment(segment.clone());
        Ok(segment)
    }

    fn create_segment(&self, first_index: u64) -> io::Result<Segment> {
        let config = &self.shared.config;
        let path = config.directory.join(segment::file_name(first_index));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let header =
            SegmentHeader { node_id: config.node_id, first_index, group_hash: config.group_hash };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        File::open(&config.directory)?.sync_all()?;
        metrics::counter!("raftmq_log_segments_created_total").increment(1);
        Ok(Segment::new(first_index, path, file))
    }

    /// One flush for everything written so far, then the callbacks.
    fn flush(&mut self, flushed: &mut Vec<Done>, written_bytes: &mut u64) -> io::Result<()> {
        let late = planted(Bug::AckBeforeFsync);
        let due = match if late { FlushMode::Async } else { self.shared.config.flush } {
            FlushMode::Sync => self.unsynced,
            FlushMode::Async => self.unsynced && self.last_sync.elapsed() >= ASYNC_FLUSH_INTERVAL,
        };
        if due {
            self.sync()?;
        }
        if *written_bytes > 0 {
            metrics::counter!("raftmq_log_appended_bytes_total").increment(*written_bytes);
            metrics::histogram!("raftmq_log_appends_per_flush").record(flushed.len() as f64);
            *written_bytes = 0;
        }
        for done in flushed.drain(..) {
            done(Ok(()));
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let started = Instant::now();
        if let Some(segment) = self.shared.last_segment() {
            let offset = segment.frames_end();
            match segment.file.sync_data() {
                Err(error) if planted(Bug::FlushErrorIgnored) => tracing::warn!(%error, "no flush"),
                flushed => flushed?,
            }
            self.synced.note(SyncedMark { first_index: segment.first_index, offset })?;
        }
        self.unsynced = false;
        self.last_sync = Instant::now();
        metrics::histogram!("raftmq_log_flush_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn truncate(&mut self, from_index: u64) -> io::Result<()> {
        self.shared.note_written_before(from_index);
        // Flushed: after a power cut on the way, or soon after, the cut must not look like damage.
        self.synced.forget()?;
        let gone = self.shared.remove_segments(|segment| segment.first_index >= from_index);
        self.delete(gone.into_iter().rev())?;
        if let Some(segment) = self.shared.last_segment()
            && segment.next_index() > from_index
        {
            segment.cut(from_index)?;
            segment.file.sync_all()?;
        }
        Ok(())
    }

    /// Deletes the files of `gone` one by one, from the end of the log backwards or from its front: a
    /// crash on the way must not leave a hole.
    fn delete(&self, gone: impl Iterator<Item = Arc<Segment>>) -> io::Result<()> {
        let mut any = false;
        for segment in gone {
            fs::remove_file(&segment.path)?;
            any = true;
        }
        if any {
            File::open(&self.shared.config.directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// Tells everybody who waits that nothing more will become durable.
fn refuse(waiting: Vec<Done>, last: Option<Done>, error: io::Error) -> io::Error {
    for done in waiting.into_iter().chain(last) {
        done(Err(io::Error::new(error.kind(), error.to_string())));
    }
    error
}

fn write_vectored(file: &File, mut offset: u64, frames: &[(u64, Bytes)]) -> io::Result<()> {
    use std::io::Seek;
    use std::io::SeekFrom;
    use std::io::Write;
    // A few large writes instead of one a frame; 64 slices are well below the kernel's limit.
    for group in frames.chunks(64) {
        let mut slices: Vec<IoSlice<'_>> =
            group.iter().map(|(_, frame)| IoSlice::new(frame)).collect();
        let total: usize = group.iter().map(|(_, frame)| frame.len()).sum();
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            let written = file.write_vectored(slices)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut slices, written);
        }
        offset += total as u64;
    }
    debug_assert!(offset >= SEGMENT_HEADER_BYTES);
    Ok(())
}
