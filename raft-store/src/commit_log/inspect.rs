//! Reads the segments of a log that nobody has open, without changing anything.
//!
//! For operators and tests; `recovery` decides what a node makes of the same bytes.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;

use super::format;
use super::format::FrameKind;
use super::format::SEGMENT_HEADER_BYTES;
use super::segment;
use crate::world::fs;

/// One entry as it lies in a file, its checksum verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The segment file.
    pub path: PathBuf,
    /// Where in the file its frame begins.
    pub offset: u64,
    /// Term of the leader that wrote it.
    pub term: u64,
    /// Position in the log.
    pub index: u64,
    /// What its body is.
    pub kind: FrameKind,
    /// Length of its body.
    pub body_bytes: u64,
    /// Checksum of its frame.
    pub crc32c: u32,
}

/// Where a segment stops being readable before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment file.
    pub path: PathBuf,
    /// The first byte that belongs to no frame.
    pub offset: u64,
    /// Bytes from there to the end.
    pub rest_bytes: u64,
    /// What was found there.
    pub what: String,
}

/// Calls `visit` with each entry of the log in `directory`, in order, and returns where segments end
/// before their files do: an unfinished last write, or damage.
///
/// # Errors
/// A file can not be read.
pub fn inspect(directory: &Path, mut visit: impl FnMut(Inspected)) -> io::Result<Vec<Damage>> {
    let mut paths: Vec<(u64, PathBuf)> = Vec::new();
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        if let Some(index) = segment::index_in_name(&path) {
            paths.push((index, path));
        }
    }
    paths.sort();
    let mut damages = Vec::new();
    for (_, path) in paths {
        damages.extend(segment_frames(&path, &mut visit)?);
    }
    Ok(damages)
}

fn segment_frames(path: &Path, visit: &mut impl FnMut(Inspected)) -> io::Result<Option<Damage>> {
    let all = Bytes::from(fs::read(path)?);
    let length = all.len() as u64;
    let end = segment::frames_end(&all).unwrap_or(length);
    let mut offset = SEGMENT_HEADER_BYTES.min(length);
    let mut rest = all.slice(offset as usize..end as usize);
    while !rest.is_empty() {
        let before = rest.clone();
        let frame = match format::decode_frame(&mut rest) {
            Ok(frame) => frame,
            Err(error) => {
                let (path, what) = (path.to_owned(), error.to_string());
                return Ok(Some(Damage { path, offset, rest_bytes: length - offset, what }));
            }
        };
        visit(Inspected {
            path: path.to_owned(),
            offset,
            term: frame.term,
            index: frame.index,
            kind: frame.kind,
            body_bytes: frame.body.len() as u64,
            crc32c: format::frame_checksum(&before),
        });
        offset += (before.len() - rest.len()) as u64;
    }
    Ok(None)
}
