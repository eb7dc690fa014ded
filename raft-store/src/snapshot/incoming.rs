//! A snapshot on its way in: files of the checkpoint and frames of the commit log, staged in a
//! directory of their own until everything is there.
//!
//! Once `COMPLETE` is written the snapshot will be installed, if need be by the next start: first the
//! tables become the current snapshot, then the staged frames replace what the local log lacks.
//! Each step can be repeated. An interrupted transfer goes on where it stopped.
//!
//! The sender's retention goes on meanwhile: the first frame that arrives may be a later one than was
//! offered. What is before it is gone from the group, and so from this log.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use prost::Message;
use raftmq_proto::raftmq as wire;

use super::MANIFEST;
use super::SnapshotFiles;
use super::TABLES;
use super::remove_if_there;
use super::write_durably;
use crate::commit_log::CommitLog;
use crate::commit_log::LogPosition;
use crate::commit_log::format;
use crate::world::fs;
use crate::world::fs::File;
use crate::world::fs::FileExt;
use crate::world::fs::OpenOptions;

const COMPLETE: &str = "COMPLETE";
const FRAMES: &str = "frames";
const ID: &str = "ID";
/// Frames taken into the log at once.
const ADOPT_BYTES: usize = 4 << 20;

/// The directory of the one transfer that may be under way.
#[derive(Clone, Debug)]
pub struct Incoming {
    directory: PathBuf,
}

impl Incoming {
    /// Uses `directory`; it exists only while a transfer does.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What has arrived completely and is not yet part of this node.
    pub(crate) fn complete(&self) -> io::Result<Option<(wire::IncomingSnapshot, SnapshotFiles)>> {
        let bytes = match fs::read(self.directory.join(COMPLETE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let incoming = wire::IncomingSnapshot::decode(&bytes[..]).map_err(io::Error::other)?;
        let manifest = incoming.manifest.clone().unwrap_or_default();
        Ok(Some((incoming, SnapshotFiles { directory: self.directory.clone(), manifest })))
    }

    /// Makes the staged frames part of `log`, when a complete transfer ends at `last`.
    pub(crate) async fn adopt_frames(&self, log: &CommitLog, last: LogPosition) -> io::Result<()> {
        let Some((incoming, _)) = self.complete()? else { return Ok(()) };
        let arrived = incoming.manifest.and_then(|manifest| manifest.last_log_id);
        if arrived.map(|id| (id.term, id.index)) != Some((last.term, last.index)) {
            return Ok(());
        }
        let mut is_prepared = false;
        let file = File::open(self.directory.join(FRAMES))?;
        let length = file.metadata()?.len();
        let mut offset = 0;
        let mut pending = BytesMut::new();
        while offset < length {
            let count = ADOPT_BYTES.min((length - offset) as usize);
            let start = pending.len();
            pending.resize(start + count, 0);
            file.read_exact_at(&mut pending[start..], offset)?;
            offset += count as u64;
            let frames = take_frames(&mut pending)?;
            if let Some((first, _)) = frames.first() {
                if !is_prepared {
                    make_room(log, incoming.have_log_through, incoming.log_base, Some(*first))
                        .await?;
                    is_prepared = true;
                }
                // Durable before the snapshot counts as installed: the purge behind it waits.
                log.append(frames, |_| ()).await?;
            }
        }
        if !is_prepared {
            make_room(log, incoming.have_log_through, incoming.log_base, None).await?;
        }
        tracing::info!(bytes = length, "took over the messages that came with a snapshot");
        Ok(())
    }

    /// Forgets the transfer.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove_if_there(&self.directory)
    }

    /// Begins the transfer `id`, or goes on with it when it was interrupted.
    pub(crate) fn begin(&self, offer: &wire::SnapshotOffer) -> io::Result<IncomingTransfer> {
        let same =
            fs::read_to_string(self.directory.join(ID)).is_ok_and(|id| id == offer.snapshot_id);
        if !same || fs::exists(self.directory.join(COMPLETE))? {
            self.remove()?;
        }
        fs::create_dir_all(self.directory.join(TABLES))?;
        write_durably(&self.directory.join(ID), offer.snapshot_id.as_bytes())?;
        let have_bytes = offer
            .files
            .iter()
            .map(|file| {
                fs::metadata(self.directory.join(TABLES).join(&file.name))
                    .map_or(0, |metadata| metadata.len().min(file.size_bytes))
            })
            .collect();
        // Frames are sent anew: they are appended in order, and how many arrived is cheap to lose.
        let frames = File::create(self.directory.join(FRAMES))?;
        Ok(IncomingTransfer {
            directory: self.directory.clone(),
            offer: offer.clone(),
            have_bytes,
            frames,
            pending: BytesMut::new(),
            next_index: None,
            have_log_through: None,
        })
    }
}

/// A transfer that is being received.
pub(crate) struct IncomingTransfer {
    directory: PathBuf,
    pub(crate) offer: wire::SnapshotOffer,
    pub(crate) have_bytes: Vec<u64>,
    frames: File,
    pending: BytesMut,
    next_index: Option<u64>,
    pub(crate) have_log_through: Option<u64>,
}

impl IncomingTransfer {
    /// Writes a piece of a file of the checkpoint.
    pub(crate) fn write_file(&mut self, chunk: &wire::SnapshotFileChunk) -> io::Result<()> {
        let file = self
            .offer
            .files
            .get(chunk.file as usize)
            .ok_or_else(|| io::Error::other(format!("no file {} was offered", chunk.file)))?;
        let path = self.directory.join(TABLES).join(safe_name(&file.name)?);
        let out = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        out.write_all_at(&chunk.data, chunk.offset)
    }

    /// Where the frames begin that this log lacks.
    fn first_index(&self) -> u64 {
        let before_first = self.offer.message_first.map(|id| id.index);
        self.have_log_through.or(before_first).map_or(0, |index| index + 1)
    }

    /// Appends frames, which may be cut anywhere.
    pub(crate) fn write_frames(&mut self, bytes: &Bytes) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.split().freeze();
        while let Ok(length) = format::frame_length(&rest) {
            if rest.len() < length {
                break;
            }
            let raw = rest.slice(..length);
            let frame = format::decode_frame(&mut rest).map_err(io::Error::other)?;
            let is_next = match self.next_index {
                Some(next) => frame.index == next,
                None => frame.index >= self.first_index(),
            };
            if !is_next {
                return Err(io::Error::other(format!("frame {} out of order", frame.index)));
            }
            self.next_index = Some(frame.index + 1);
            self.frames.write_all(&raw)?;
        }
        self.pending.extend_from_slice(&rest);
        Ok(())
    }

    /// Checks that everything is there and intact, and marks the transfer as complete.
    pub(crate) fn finish(self) -> io::Result<SnapshotFiles> {
        let last = self.offer.last_log_id;
        if self.pending.has_remaining() {
            return Err(io::Error::other("the frames end in the middle of one"));
        }
        // A sender that gave up in the middle ends its stream, too.
        if let Some(last) = last
            && self.next_index.unwrap_or(self.first_index()) < last.index + 1
        {
            return Err(io::Error::other("frames are missing at the end"));
        }
        self.frames.sync_all()?;
        for file in &self.offer.files {
            let path = self.directory.join(TABLES).join(safe_name(&file.name)?);
            let found = super::checksum(&path)?;
            if found != (file.size_bytes, file.crc32c) {
                // The next attempt fetches it anew.
                fs::remove_file(&path)?;
                return Err(io::Error::other(format!("{} arrived damaged", file.name)));
            }
            File::open(&path)?.sync_all()?;
        }
        File::open(self.directory.join(TABLES))?.sync_all()?;
        let membership =
            wire::Membership::decode(self.offer.membership.clone()).map_err(io::Error::other)?;
        let manifest = wire::SnapshotManifest {
            last_log_id: last,
            membership: Some(wire::StoredMembership {
                log_id: self.offer.membership_log_id,
                membership: Some(membership),
            }),
            files: self.offer.files.clone(),
        };
        write_durably(&self.directory.join(MANIFEST), &manifest.encode_to_vec())?;
        let complete = wire::IncomingSnapshot {
            manifest: Some(manifest.clone()),
            have_log_through: self.have_log_through,
            log_base: self.offer.message_first,
        };
        write_durably(&self.directory.join(COMPLETE), &complete.encode_to_vec())?;
        Ok(SnapshotFiles { directory: self.directory, manifest })
    }
}

/// Makes `log` end where the staged frames begin, of which `first` is the first.
async fn make_room(
    log: &CommitLog,
    have_log_through: Option<u64>,
    log_base: Option<wire::LogId>,
    first: Option<LogPosition>,
) -> io::Result<()> {
    let joins = |have: &u64| first.is_none_or(|first| first.index == have + 1);
    if let Some(index) = have_log_through.filter(joins) {
        return log.truncate_after(Some(index)).await;
    }
    let base = match first {
        Some(first) => first.index.checked_sub(1).map(|index| LogPosition { term: 0, index }),
        None => log_base.map(|id| LogPosition { term: id.term, index: id.index }),
    };
    log.clear(base).await
}

/// File names come from a peer: they must not lead out of the directory.
fn safe_name(name: &str) -> io::Result<&str> {
    let plain = !name.is_empty()
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain { Ok(name) } else { Err(io::Error::other(format!("file name {name:?} is refused"))) }
}

fn take_frames(pending: &mut BytesMut) -> io::Result<Vec<(LogPosition, Bytes)>> {
    let mut rest = pending.split().freeze();
    let mut frames = Vec::new();
    while let Ok(length) = format::frame_length(&rest) {
        if rest.len() < length {
            break;
        }
        let raw = rest.slice(..length);
        let frame = format::decode_frame(&mut rest).map_err(io::Error::other)?;
        frames.push((LogPosition { term: frame.term, index: frame.index }, raw));
    }
    pending.extend_from_slice(&rest);
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::commit_log::FlushMode;
    use crate::commit_log::LogConfig;
    use crate::commit_log::format::FrameKind;

    fn log(directory: &Path) -> CommitLog {
        CommitLog::open(LogConfig {
            directory: directory.join("log"),
            node_id: 1,
            group_hash: 7,
            segment_bytes: 1 << 20,
            flush: FlushMode::Sync,
            on_fatal: Arc::new(|error| panic!("{error}")),
        })
        .expect("a log")
    }

    /// A transfer of entries 6 to 10, begun in `directory`.
    fn transfer(directory: &Path) -> IncomingTransfer {
        let offer = wire::SnapshotOffer {
            snapshot_id: "1-10".to_owned(),
            last_log_id: Some(wire::LogId { term: 1, index: 10 }),
            message_first: Some(wire::LogId { term: 0, index: 5 }),
            ..Default::default()
        };
        Incoming::new(directory.join("incoming")).begin(&offer).expect("a transfer")
    }

    fn frames(indexes: std::ops::RangeInclusive<u64>) -> Bytes {
        let frames = indexes.map(|index| format::encode_frame(1, index, FrameKind::Normal, &[7]));
        Bytes::from(frames.collect::<Vec<_>>().concat())
    }

    #[tokio::test]
    async fn the_senders_retention_may_go_on_during_a_transfer() {
        for have in [None, Some(5)] {
            let directory = tempfile::tempdir().expect("a directory");
            let log = log(directory.path());
            let mut transfer = transfer(directory.path());
            transfer.have_log_through = have;
            transfer.write_frames(&frames(8..=10)).expect("frames");
            transfer.finish().expect("a whole transfer");
            let incoming = Incoming::new(directory.path().join("incoming"));
            let last = LogPosition { term: 1, index: 10 };
            // Twice: a process may end in between.
            for _ in 0..2 {
                incoming.adopt_frames(&log, last).await.expect("a log");
                assert_eq!(log.last(), Some(last));
                assert_eq!(log.message_first(), 8);
            }
        }
    }

    #[test]
    fn a_transfer_that_was_given_up_is_not_complete() {
        for arrived in [None, Some(6..=9)] {
            let directory = tempfile::tempdir().expect("a directory");
            let mut transfer = transfer(directory.path());
            if let Some(arrived) = arrived {
                transfer.write_frames(&frames(arrived)).expect("frames");
            }
            assert!(transfer.finish().is_err());
        }
    }

    #[test]
    fn a_gap_between_frames_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut transfer = transfer(directory.path());
        transfer.write_frames(&frames(6..=7)).expect("frames");
        assert!(transfer.write_frames(&frames(9..=10)).is_err());
    }
}
