//! One segment file: where its frames lie, and reading them.
//!
//! Invariants: frames are consecutive in log index; what a reader gets has a correct checksum; a
//! file that was unlinked stays readable for whoever holds the [`Segment`].
//!
//! Not here: deciding when to roll over or delete (`writer`, retention).

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::RwLock;

use super::format;
use super::format::Footer;
use super::format::Frame;
use super::format::FrameError;
use super::format::Mark;
use super::format::SEGMENT_HEADER_BYTES;
use crate::world;
use crate::world::fs::File;
use crate::world::fs::FileExt;

/// Distance between two marks. A read of one small entry costs at most one read of this size.
const MARK_BYTES: u64 = 64 << 10;

/// A segment file and what is known of its contents.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first_index: u64,
    pub(super) path: PathBuf,
    pub(super) file: File,
    extent: RwLock<Extent>,
    /// Held shared while bytes are read at places that the extent told, and alone while frames are cut
    /// off: behind a cut there is nothing, or soon another frame.
    cutting: RwLock<()>,
}

/// How far the frames of a segment reach.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) marks: Vec<Mark>,
    /// File offset behind the last frame.
    pub(super) frames_end: u64,
    /// Index behind the last frame.
    pub(super) next_index: u64,
    /// Set when the file was closed with a footer: when that was.
    pub(super) sealed: Option<SystemTime>,
}

impl Segment {
    pub(super) fn new(first_index: u64, path: PathBuf, file: File) -> Self {
        let extent = Extent {
            marks: Vec::new(),
            frames_end: SEGMENT_HEADER_BYTES,
            next_index: first_index,
            sealed: None,
        };
        Self { first_index, path, file, extent: RwLock::new(extent), cutting: RwLock::default() }
    }

    pub(super) fn with_extent(self, extent: Extent) -> Self {
        Self { extent: RwLock::new(extent), ..self }
    }

    pub(super) fn extent(&self) -> Extent {
        self.extent.read().clone()
    }

    pub(super) fn next_index(&self) -> u64 {
        self.extent.read().next_index
    }

    pub(super) fn frames_end(&self) -> u64 {
        self.extent.read().frames_end
    }

    pub(super) fn sealed(&self) -> Option<SystemTime> {
        self.extent.read().sealed
    }

    /// Notes that the frame of `index`, `length` bytes long, was written behind the last one.
    pub(super) fn extend(&self, index: u64, length: u64) {
        let mut extent = self.extent.write();
        assert_eq!(index, extent.next_index, "frames of a segment are consecutive");
        let offset = extent.frames_end;
        extent.note_frame(index, offset, length);
    }

    /// Closes the file: writes its footer. The caller syncs.
    pub(super) fn seal(&self) -> io::Result<()> {
        let mut extent = self.extent.write();
        let footer = Footer {
            marks: extent.marks.clone(),
            last_index: extent.next_index - 1,
            frames_end: extent.frames_end,
        };
        self.file.write_all_at(&footer.encode(), extent.frames_end)?;
        extent.sealed = Some(world::time::wall());
        Ok(())
    }

    /// Cuts off every frame from `index` on, and the footer. The caller syncs.
    pub(super) fn cut(&self, index: u64) -> Result<(), ReadError> {
        let offset = self.offset_of(index)?;
        let _alone = self.cutting.write();
        let mut extent = self.extent.write();
        self.file.set_len(offset)?;
        extent.marks.retain(|mark| mark.0 < index);
        extent.frames_end = offset;
        extent.next_index = index;
        extent.sealed = None;
        Ok(())
    }

    /// The frame of `index`, as bytes, checked.
    pub(super) fn read(&self, index: u64) -> Result<Bytes, ReadError> {
        let _uncut = self.cutting.read();
        let chunk = self.read_chunk(index)?;
        let (mut bytes, base) = (chunk.bytes, chunk.offset);
        let mut offset = base;
        loop {
            let start = bytes.clone();
            let frame = self.decode(&mut bytes, offset)?;
            let length = start.len() - bytes.len();
            if frame.index == index {
                return Ok(start.slice(..length));
            }
            offset += length as u64;
        }
    }

    /// Frames from `index` on, whole and checked, at least one and until about `bytes_max`.
    pub(super) fn read_from(
        &self,
        index: u64,
        bytes_max: usize,
    ) -> Result<Vec<(Frame, Bytes)>, ReadError> {
        let _uncut = self.cutting.read();
        let start = self.offset_of(index)?;
        let end = self.frames_end();
        let mut length = (bytes_max as u64).max(MARK_BYTES) as usize;
        loop {
            length = length.min((end - start) as usize);
            let mut bytes = self.read_at(start, length)?;
            let mut frames = Vec::new();
            loop {
                let before = bytes.clone();
                match format::decode_frame(&mut bytes) {
                    Ok(frame) => {
                        let taken = before.len() - bytes.len();
                        frames.push((frame, before.slice(..taken)));
                    }
                    Err(FrameError::Short) => break,
                    Err(error) => {
                        let offset = start + (length - bytes.len()) as u64;
                        return Err(self.corrupt(offset, error));
                    }
                }
            }
            if !frames.is_empty() || start + length as u64 >= end {
                return Ok(frames);
            }
            // One frame larger than asked for: take all of it.
            length = format::frame_length(&bytes).unwrap_or(length * 2);
        }
    }

    fn decode(&self, bytes: &mut Bytes, offset: u64) -> Result<Frame, ReadError> {
        format::decode_frame(bytes).map_err(|error| self.corrupt(offset, error))
    }

    fn corrupt(&self, offset: u64, error: FrameError) -> ReadError {
        ReadError::Corrupt { path: self.path.clone(), offset, error }
    }

    /// File offset of the frame of `index`, which must lie in this segment (or just behind it).
    fn offset_of(&self, index: u64) -> Result<u64, ReadError> {
        let extent = self.extent();
        if index == extent.next_index {
            return Ok(extent.frames_end);
        }
        let chunk = self.read_chunk(index)?;
        let mut bytes = chunk.bytes;
        let mut offset = chunk.offset;
        loop {
            let before = bytes.len();
            let frame = self.decode(&mut bytes, offset)?;
            if frame.index == index {
                return Ok(offset);
            }
            offset += (before - bytes.len()) as u64;
        }
    }

    /// The bytes between the marks around `index`.
    fn read_chunk(&self, index: u64) -> Result<Chunk, ReadError> {
        let (offset, end) = {
            let extent = self.extent.read();
            if index < self.first_index || index >= extent.next_index {
                return Err(ReadError::Absent { index });
            }
            let behind = extent.marks.partition_point(|mark| mark.0 <= index);
            let offset = match behind.checked_sub(1) {
                Some(mark) => extent.marks[mark].1,
                None => SEGMENT_HEADER_BYTES,
            };
            (offset, extent.marks.get(behind).map_or(extent.frames_end, |mark| mark.1))
        };
        Ok(Chunk { bytes: self.read_at(offset, (end - offset) as usize)?, offset })
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer.into())
    }
}

impl Extent {
    /// Notes a frame at `offset`; sets a mark when the last one is far enough away.
    pub(super) fn note_frame(&mut self, index: u64, offset: u64, length: u64) {
        if self.marks.last().is_none_or(|mark| offset - mark.1 >= MARK_BYTES) {
            self.marks.push((index, offset));
        }
        self.frames_end = offset + length;
        self.next_index = index + 1;
    }
}

struct Chunk {
    bytes: Bytes,
    offset: u64,
}

/// Name of the segment file that begins with `first_index`.
pub(crate) fn file_name(first_index: u64) -> String {
    format!("{first_index:020}.log")
}

/// Where the frames of a whole segment file end, as its footer tells. `None` without a footer.
pub(super) fn frames_end(file: &[u8]) -> Option<u64> {
    let length = file.len() as u64;
    let tail = file.last_chunk::<{ Footer::TAIL_BYTES }>()?;
    let start = Footer::start(tail, length)?;
    Footer::decode(&file[start as usize..]).map(|footer| footer.frames_end)
}

/// The index in the name of a segment file, or `None` for another file.
pub(super) fn index_in_name(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
    (name.len() == 20).then(|| name.parse().ok())?
}

/// Why an entry could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log does not hold this index: retention let it go, or it was never written.
    #[error("the log does not hold index {index}")]
    Absent {
        /// The index asked for.
        index: u64,
    },
    /// The bytes on disk are damaged. Never skipped, never served.
    #[error("{} is corrupt at offset {offset}: {error}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it the damaged frame begins.
        offset: u64,
        /// What is wrong there.
        error: FrameError,
    },
    /// The disk did not answer.
    #[error("could not read the commit log: {0}")]
    Io(#[from] io::Error),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            ReadError::Absent { .. } => Self::new(io::ErrorKind::NotFound, error),
            ReadError::Corrupt { .. } => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}
