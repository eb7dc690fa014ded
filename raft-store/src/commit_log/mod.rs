//! The commit log: append-only segment files that are the Raft log and the only home of message
//! bodies.
//!
//! ```text
//!   message_first          raft_first                          last
//!        |  readable, no longer Raft's  |  what Raft replicates    |
//!   -----+------------------------------+--------------------------+
//!        segment   segment   segment   segment   segment (active)
//! ```
//!
//! Invariants: entries are consecutive; an entry is readable as soon as `append` returned and durable
//! when its callback ran; `raft_first` moves by purge and snapshot install, `message_first` only by
//! retention (`delete_before`) or when a log with a gap has to be begun anew.
//!
//! Not here: Raft's rules (`log_store` adapts this to openraft), topics, what is in a body.

pub mod format;
pub mod inspect;
mod meta;
mod recovery;
pub(crate) mod segment;
mod synced;
mod writer;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::sync::watch;

use self::format::Frame;
use self::meta::Meta;
pub use self::segment::ReadError;
use self::segment::Segment;
use self::writer::Operation;
use self::writer::Writer;
use crate::planted::Bug;
use crate::planted::planted;
use crate::world;
use crate::world::time::Instant;

/// Recent frames kept in memory for replication and fresh reads.
const TAIL_BYTES_MAX: usize = 32 << 20;
/// Bytes that may wait for the disk. More, and appends wait: memory is bounded, and a leader whose
/// disk hangs takes no more.
const UNFLUSHED_BYTES_MAX: usize = 64 << 20;
/// Unit of the semaphore behind [`UNFLUSHED_BYTES_MAX`].
const PERMIT_BYTES: usize = 1 << 10;

/// When an append counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// After `fdatasync`. The default: acknowledged means on disk on a majority.
    Sync,
    /// After the write; the flush follows within 200 ms. A power cut of a majority can lose what was
    /// acknowledged in that time.
    Async,
}

impl FlushMode {
    /// `sync` or `async`, as in configuration and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

/// Term and index of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// Term of the leader that wrote it.
    pub term: u64,
    /// Position in the log, from 0.
    pub index: u64,
}

/// A Raft vote as it is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRecord {
    /// The term voted in.
    pub term: u64,
    /// Whom for.
    pub node_id: u64,
    /// Whether a quorum granted it.
    pub committed: bool,
}

/// Called when the disk can no longer be trusted. Must not return control to normal work.
pub type FatalHandler = Arc<dyn Fn(&io::Error) + Send + Sync>;

/// Where and how to keep the log.
#[derive(Clone)]
pub struct LogConfig {
    /// Directory of the segments; made if missing.
    pub directory: PathBuf,
    /// This node; a segment of another node is refused.
    pub node_id: u64,
    /// Hash of cluster and group; a segment of another group is refused.
    pub group_hash: u64,
    /// Size at which a segment is closed.
    pub segment_bytes: u64,
    /// When an append counts as done.
    pub flush: FlushMode,
    /// What to do when a write or flush fails.
    pub on_fatal: FatalHandler,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Damage before the tail, or in what was known to be on disk.
    #[error(
        "{} is corrupt at offset {offset}: {what}. Nothing was changed. If the other nodes of the \
         group are healthy, move this node's data directory away and start it again: it rejoins as \
         a learner and copies everything",
        path.display()
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A segment is missing.
    #[error("{} does not follow its predecessor, which ends before index {expected}", path.display())]
    Gap {
        /// The file behind the hole.
        path: PathBuf,
        /// The index that should come first in it.
        expected: u64,
    },
    /// The files of another node or group.
    #[error("{} belongs to another group or node (it names node {node_id})", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The node it names.
        node_id: u64,
    },
    /// The disk did not answer.
    #[error("could not open the commit log: {0}")]
    Io(#[from] io::Error),
}

/// Handle of the commit log. Cheap to clone; the writer thread ends with the last handle.
#[derive(Clone)]
pub struct CommitLog {
    shared: Arc<Shared>,
    operations: world::task::Sender<Operation>,
    unflushed: Arc<Semaphore>,
    oldest_unflushed: Arc<Mutex<VecDeque<Instant>>>,
    /// Index behind the last entry whose append is done.
    done_next: Arc<watch::Sender<u64>>,
}

/// What readers and the writer share.
struct Shared {
    config: LogConfig,
    view: RwLock<View>,
    /// Last index whose frame is in a file, plus one.
    written_next: AtomicU64,
}

/// The log as readers see it.
struct View {
    segments: BTreeMap<u64, Arc<Segment>>,
    /// The newest frames, consecutive, ending with the last entry.
    tail: VecDeque<TailFrame>,
    tail_bytes: usize,
    last: Option<LogPosition>,
    meta: Meta,
}

struct TailFrame {
    position: LogPosition,
    bytes: Bytes,
}

impl CommitLog {
    /// Opens the log, cutting off a torn tail.
    ///
    /// # Errors
    /// See [`OpenError`]. Corruption is never repaired here.
    pub fn open(config: LogConfig) -> Result<Self, OpenError> {
        world::fs::create_dir_all(&config.directory)?;
        let meta = Meta::load(&config.directory)?;
        let segments =
            recovery::open_segments(&config.directory, config.node_id, config.group_hash)?;
        let mut last = meta.purged;
        if let Some(segment) = segments.values().rev().find(|s| s.next_index() > s.first_index) {
            let mut bytes = segment.read(segment.next_index() - 1).map_err(io::Error::from)?;
            let frame = format::decode_frame(&mut bytes).map_err(io::Error::other)?;
            last = last.max(Some(LogPosition { term: frame.term, index: frame.index }));
        }
        let written_next = segments.values().next_back().map_or(0, |segment| segment.next_index());
        let view = View { segments, tail: VecDeque::new(), tail_bytes: 0, last, meta };
        let shared = Arc::new(Shared {
            config,
            view: RwLock::new(view),
            written_next: AtomicU64::new(written_next),
        });
        let (operations, queue) = world::task::queue(writer::QUEUE_LENGTH);
        queue.start("log-writer", Writer::new(shared.clone())?)?;
        Ok(Self {
            shared,
            operations,
            unflushed: Arc::new(Semaphore::new(UNFLUSHED_BYTES_MAX / PERMIT_BYTES)),
            oldest_unflushed: Arc::default(),
            done_next: Arc::new(watch::Sender::new(last.map_or(0, |last| last.index + 1))),
        })
    }

    /// The vote last stored.
    pub fn vote(&self) -> Option<VoteRecord> {
        self.shared.view.read().meta.vote
    }

    /// The last entry Raft no longer knows.
    pub fn purged(&self) -> Option<LogPosition> {
        self.shared.view.read().meta.purged
    }

    /// The last entry, or the purged one when there is none behind it.
    pub fn last(&self) -> Option<LogPosition> {
        self.shared.view.read().last
    }

    /// First index whose entry can still be read. Equal to the next index when the log is empty.
    pub fn message_first(&self) -> u64 {
        let view = self.shared.view.read();
        let in_file = view.segments.keys().next().copied();
        let in_memory = view.tail.front().map(|frame| frame.position.index);
        in_file.or(in_memory).unwrap_or_else(|| view.last.map_or(0, |last| last.index + 1))
    }

    /// Bytes of all segments on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.shared.view.read().segments.values().map(|segment| segment.frames_end()).sum()
    }

    /// How long the oldest append has been waiting for its flush. Zero when none waits.
    pub fn oldest_unflushed(&self) -> Duration {
        self.oldest_unflushed.lock().front().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Waits until the entry at `index` is on this node's disk, as `done` of its append tells.
    pub async fn until_done(&self, index: u64) {
        if *self.done_next.borrow() <= index {
            // The sender lives as long as this handle.
            let _ = self.done_next.subscribe().wait_for(|next| *next > index).await;
        }
    }

    /// Closed segments, oldest first: first index, index behind the last, bytes, when it was closed.
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        let view = self.shared.view.read();
        let sealed = view.segments.values().filter_map(|segment| {
            Some(SealedSegment {
                first_index: segment.first_index,
                next_index: segment.next_index(),
                bytes: segment.frames_end(),
                sealed: segment.sealed()?,
            })
        });
        sealed.collect()
    }

    /// Makes `vote` durable.
    ///
    /// # Errors
    /// The log is failing; the process is about to end.
    pub async fn store_vote(&self, vote: VoteRecord) -> io::Result<()> {
        if planted(Bug::VoteInMemory) {
            self.shared.view.write().meta.vote = Some(vote);
            return Ok(());
        }
        self.change_meta(|meta| meta.vote = Some(vote)).await
    }

    /// Appends whole frames, consecutive and behind the last entry. They are readable on return;
    /// `done` runs when they are durable. Waits while too many bytes are on their way to the disk.
    ///
    /// # Errors
    /// The log is failing, or the frames do not follow the last entry.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing was appended when the future is dropped before it is ready.
    pub async fn append(
        &self,
        frames: Vec<(LogPosition, Bytes)>,
        done: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> io::Result<()> {
        let bytes: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
        let permits = (bytes / PERMIT_BYTES + 1).min(UNFLUSHED_BYTES_MAX / PERMIT_BYTES) as u32;
        let permit =
            self.unflushed.clone().acquire_many_owned(permits).await.map_err(io::Error::other)?;
        {
            let mut view = self.shared.view.write();
            for (position, frame) in &frames {
                let follows = view.last.is_none_or(|last| position.index == last.index + 1);
                if !follows {
                    return Err(io::Error::other(format!(
                        "entry {} does not follow {:?}",
                        position.index, view.last
                    )));
                }
                view.push(*position, frame.clone());
            }
            view.trim_tail(self.shared.written_next.load(Ordering::Acquire));
        }
        self.oldest_unflushed.lock().push_back(Instant::now());
        let oldest = self.oldest_unflushed.clone();
        let done_next = self.done_next.clone();
        let next = frames.last().map(|(position, _)| position.index + 1);
        let frames = frames.into_iter().map(|(position, frame)| (position.index, frame)).collect();
        let done = move |result| {
            oldest.lock().pop_front();
            drop(permit);
            if let (Some(next), Ok(())) = (next, &result) {
                done_next.send_replace(next);
            }
            done(result);
        };
        self.submit(Operation::Append { frames, done: Box::new(done) })
    }

    /// Drops every entry behind `index` (exclusive; `None`: all entries), durably on return.
    ///
    /// # Errors
    /// The log is failing.
    pub async fn truncate_after(&self, index: Option<u64>) -> io::Result<()> {
        let from_index = index.map_or(0, |index| index + 1);
        if self.last().is_none_or(|last| last.index < from_index) {
            return Ok(());
        }
        let term_of_last = match index {
            Some(index) => Some(self.position(index)?),
            None => None,
        };
        {
            let mut view = self.shared.view.write();
            while view.tail.back().is_some_and(|frame| frame.position.index >= from_index) {
                if let Some(frame) = view.tail.pop_back() {
                    view.tail_bytes -= frame.bytes.len();
                }
            }
            view.last = term_of_last.or(view.meta.purged);
        }
        self.perform(|done| Operation::Truncate { from_index, done }).await?;
        // Appends before this are done, and none after it has begun.
        self.done_next.send_replace(from_index);
        Ok(())
    }

    /// Notes that Raft no longer needs entries up to `position` (inclusive). Bytes stay.
    ///
    /// A position behind the last entry means that a snapshot was installed: the log begins anew
    /// behind it, and what it held is dropped.
    ///
    /// # Errors
    /// The log is failing.
    pub async fn purge(&self, position: LogPosition) -> io::Result<()> {
        if self.last().is_none_or(|last| last.index < position.index) {
            self.clear(Some(position)).await?;
        }
        self.change_meta(|meta| meta.purged = meta.purged.max(Some(position))).await
    }

    /// Drops every entry. The next append may carry any index.
    ///
    /// # Errors
    /// The log is failing.
    pub async fn clear(&self, last: Option<LogPosition>) -> io::Result<()> {
        {
            let mut view = self.shared.view.write();
            view.tail.clear();
            view.tail_bytes = 0;
            view.last = last;
        }
        self.perform(|done| Operation::Clear { done }).await?;
        self.done_next.send_replace(last.map_or(0, |last| last.index + 1));
        Ok(())
    }

    /// Deletes closed segments that end before `index` (exclusive).
    ///
    /// # Errors
    /// The log is failing.
    pub async fn delete_before(&self, index: u64) -> io::Result<()> {
        self.perform(|done| Operation::DeleteBefore { index, done }).await
    }

    /// The frame of `index`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, index: u64) -> Result<Bytes, ReadError> {
        let segment = {
            let view = self.shared.view.read();
            if let Some(frame) = view.tail_frame(index) {
                return Ok(frame.bytes.clone());
            }
            view.segment_of(index).ok_or(ReadError::Absent { index })?
        };
        segment.read(index)
    }

    /// `length` bytes at `offset` of the body of entry `index`.
    ///
    /// # Errors
    /// See [`ReadError`]; a range outside the body is [`ReadError::Absent`].
    pub fn read_body(&self, index: u64, offset: u32, length: u32) -> Result<Bytes, ReadError> {
        let start = format::FRAME_HEADER_BYTES + offset as usize;
        let end = start + length as usize;
        let frame = self.read(index)?;
        if end > frame.len() {
            return Err(ReadError::Absent { index });
        }
        Ok(frame.slice(start..end))
    }

    /// Frames with index `start..end` (end exclusive), stopping after about `bytes_max` but never
    /// without the first. Indexes the log does not hold at either end are left out.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_range(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Vec<(Frame, Bytes)>, ReadError> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut next = start.max(self.message_first());
        while next < end && (bytes < bytes_max || frames.is_empty()) {
            let segment = {
                let view = self.shared.view.read();
                match view.tail_frame(next) {
                    Some(tail) => {
                        let raw = tail.bytes.clone();
                        // Checked when it was encoded or received.
                        let frame =
                            format::decode_frame(&mut raw.clone()).map_err(io::Error::other)?;
                        bytes += raw.len();
                        next += 1;
                        frames.push((frame, raw));
                        continue;
                    }
                    None => view.segment_of(next),
                }
            };
            let Some(segment) = segment else { break };
            let budget = bytes_max.saturating_sub(bytes).max(1);
            for (frame, raw) in segment.read_from(next, budget)? {
                if frame.index >= end {
                    return Ok(frames);
                }
                next = frame.index + 1;
                bytes += raw.len();
                frames.push((frame, raw));
            }
        }
        Ok(frames)
    }

    /// Term and index of the entry at `index`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn position(&self, index: u64) -> Result<LogPosition, ReadError> {
        {
            let view = self.shared.view.read();
            if let Some(purged) = view.meta.purged.filter(|purged| purged.index == index) {
                return Ok(purged);
            }
            if let Some(frame) = view.tail_frame(index) {
                return Ok(frame.position);
            }
        }
        let (term, index) = format::frame_position(&self.read(index)?);
        Ok(LogPosition { term, index })
    }

    async fn change_meta(&self, change: impl FnOnce(&mut Meta)) -> io::Result<()> {
        let meta = {
            let mut view = self.shared.view.write();
            change(&mut view.meta);
            view.meta
        };
        self.perform(|done| Operation::StoreMeta { meta, done }).await
    }

    async fn perform(
        &self,
        operation: impl FnOnce(Box<dyn FnOnce(io::Result<()>) + Send>) -> Operation,
    ) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done = move |result| {
            // Whoever asked may have gone.
            let _ = sender.send(result);
        };
        self.submit(operation(Box::new(done)))?;
        receiver.await.map_err(io::Error::other)?
    }

    fn submit(&self, operation: Operation) -> io::Result<()> {
        self.operations.send(operation).map_err(|_| io::Error::other("the commit log has failed"))
    }
}

/// A closed segment, for retention.
#[derive(Clone, Copy, Debug)]
pub struct SealedSegment {
    /// Index of its first entry.
    pub first_index: u64,
    /// Index behind its last entry.
    pub next_index: u64,
    /// Its size.
    pub bytes: u64,
    /// When it was closed.
    pub sealed: SystemTime,
}

impl Shared {
    fn last_segment(&self) -> Option<Arc<Segment>> {
        self.view.read().segments.values().next_back().cloned()
    }

    fn add_segment(&self, segment: Arc<Segment>) {
        self.view.write().segments.insert(segment.first_index, segment);
    }

    fn remove_segments(&self, which: impl Fn(&Segment) -> bool) -> Vec<Arc<Segment>> {
        let mut view = self.view.write();
        let (gone, kept) =
            std::mem::take(&mut view.segments).into_iter().partition(|(_, s)| which(s));
        view.segments = kept;
        gone.into_values().collect()
    }

    /// Only the writer calls this, in the order of its operations.
    fn note_written_before(&self, index: u64) {
        self.written_next.store(index, Ordering::Release);
    }
}

impl View {
    fn push(&mut self, position: LogPosition, bytes: Bytes) {
        self.tail_bytes += bytes.len();
        self.tail.push_back(TailFrame { position, bytes });
        self.last = Some(position);
    }

    /// Forgets the oldest frames beyond the limit, never one that is not in a file yet.
    fn trim_tail(&mut self, written_next: u64) {
        while self.tail_bytes > TAIL_BYTES_MAX {
            match self.tail.front() {
                Some(frame) if frame.position.index < written_next => {
                    self.tail_bytes -= frame.bytes.len();
                    self.tail.pop_front();
                }
                _ => return,
            }
        }
    }

    fn tail_frame(&self, index: u64) -> Option<&TailFrame> {
        let first = self.tail.front()?.position.index;
        self.tail.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    fn segment_of(&self, index: u64) -> Option<Arc<Segment>> {
        let (_, segment) = self.segments.range(..=index).next_back()?;
        (index < segment.next_index()).then(|| segment.clone())
    }
}
