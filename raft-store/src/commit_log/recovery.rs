//! Opens the segments at start and decides what the log holds.
//!
//! Closed segments are taken by their footers, only the last one is read frame by frame, so that a
//! start does not take longer with more data. A torn tail (an incomplete last write that nobody was
//! told about) is cut off; damage anywhere else is corruption: the node refuses to start and says
//! which file and where. A torn tail can only hold bytes behind the synced mark (`synced`), so
//! damage below that mark is corruption too, even at the very end.
//!
//! What a start finds behind the synced mark was perhaps never flushed; it is before the start is over.
//!
//! Not here: repair from a peer.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::OpenError;
use super::format;
use super::format::Footer;
use super::format::SEGMENT_HEADER_BYTES;
use super::format::SegmentHeader;
use super::segment;
use super::segment::Extent;
use super::segment::Segment;
use super::synced::SyncedMark;
use crate::planted::Bug;
use crate::planted::planted;
use crate::world::fs;
use crate::world::fs::File;
use crate::world::fs::FileExt;
use crate::world::fs::OpenOptions;

/// Bytes written again at once.
const WRITE_AGAIN_BYTES: u64 = 1 << 20;

/// All segments in `directory`, by first index.
pub(super) fn open_segments(
    directory: &Path,
    node_id: u64,
    group_hash: u64,
) -> Result<BTreeMap<u64, Arc<Segment>>, OpenError> {
    let synced = SyncedMark::load(directory)?;
    let mut paths: Vec<(u64, PathBuf)> = Vec::new();
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        if let Some(index) = segment::index_in_name(&path) {
            paths.push((index, path));
        }
    }
    paths.sort();

    let mut segments = BTreeMap::new();
    let mut expected = None;
    let count = paths.len();
    for (number, (first_index, path)) in paths.into_iter().enumerate() {
        let is_last = number + 1 == count;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        if is_last && !synced.reaches(first_index, 0) && is_unborn(&file)? {
            drop(file);
            fs::remove_file(&path)?;
            continue;
        }
        check_header(&file, &path, first_index, node_id, group_hash)?;
        if expected.is_some_and(|expected| expected != first_index) {
            return Err(OpenError::Gap { path, expected: expected.unwrap_or_default() });
        }
        let extent = match sealed_extent(&file, first_index)? {
            Some(extent) => extent,
            None => scan(&file, &path, first_index, is_last, &synced)?,
        };
        expected = Some(extent.next_index);
        let segment = Segment::new(first_index, path, file).with_extent(extent);
        segments.insert(first_index, Arc::new(segment));
    }
    if let Some(last) = segments.values().next_back() {
        write_again(last, &synced)?;
    }
    // Names, too: of the last segment, and of the file with the vote.
    File::open(directory)?.sync_all()?;
    Ok(segments)
}

/// Makes what the last segment holds behind the synced mark durable.
///
/// A process that was killed leaves bytes in the page cache that no flush has covered, and after a
/// failed flush they even count as clean there, so that flushing them once more would do nothing.
/// From here on they count as written by this node, so they are written again, and flushed.
fn write_again(segment: &Segment, synced: &SyncedMark) -> io::Result<()> {
    let length = segment.file.metadata()?.len();
    let mut offset = if synced.reaches(segment.first_index, 0) { synced.offset } else { 0 };
    while offset < length {
        let mut bytes = vec![0; WRITE_AGAIN_BYTES.min(length - offset) as usize];
        segment.file.read_exact_at(&mut bytes, offset)?;
        segment.file.write_all_at(&bytes, offset)?;
        offset += bytes.len() as u64;
    }
    segment.file.sync_data()
}

/// Whether a segment was being made when the node went down: a header is flushed before the first
/// frame follows, so without an intact one, and without a frame, there was never anything in it.
fn is_unborn(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length < SEGMENT_HEADER_BYTES {
        return Ok(true);
    }
    let mut header = [0; SEGMENT_HEADER_BYTES as usize];
    file.read_exact_at(&mut header, 0)?;
    if SegmentHeader::decode(&header).is_some() {
        return Ok(false);
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(format::find_intact_frame(&Bytes::from(bytes), 0).is_none())
}

fn check_header(
    file: &File,
    path: &Path,
    first_index: u64,
    node_id: u64,
    group_hash: u64,
) -> Result<(), OpenError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    let header = match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => SegmentHeader::decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(error.into()),
    };
    let Some(header) = header else {
        return Err(OpenError::Corrupt {
            path: path.to_owned(),
            offset: 0,
            what: "not a segment header".to_owned(),
        });
    };
    let expected = SegmentHeader { node_id, first_index, group_hash };
    if header != expected {
        return Err(OpenError::Foreign { path: path.to_owned(), node_id: header.node_id });
    }
    Ok(())
}

/// The extent as the footer tells it; `None` when there is no intact footer.
fn sealed_extent(file: &File, first_index: u64) -> io::Result<Option<Extent>> {
    let metadata = file.metadata()?;
    let length = metadata.len();
    let Some(tail_start) = length.checked_sub(Footer::TAIL_BYTES as u64) else {
        return Ok(None);
    };
    let mut tail = [0; Footer::TAIL_BYTES];
    file.read_exact_at(&mut tail, tail_start)?;
    let Some(start) = Footer::start(&tail, length) else { return Ok(None) };
    let mut bytes = vec![0; (length - start) as usize];
    file.read_exact_at(&mut bytes, start)?;
    let Some(footer) = Footer::decode(&bytes) else { return Ok(None) };
    if footer.last_index < first_index {
        return Ok(None);
    }
    Ok(Some(Extent {
        marks: footer.marks,
        frames_end: footer.frames_end,
        next_index: footer.last_index + 1,
        sealed: Some(metadata.modified()?),
    }))
}

/// Reads every frame of a segment without a footer.
fn scan(
    file: &File,
    path: &Path,
    first_index: u64,
    is_last: bool,
    synced: &SyncedMark,
) -> Result<Extent, OpenError> {
    let length = file.metadata()?.len();
    let mut buffer = vec![0; length as usize];
    file.read_exact_at(&mut buffer, 0)?;
    let buffer = Bytes::from(buffer);
    let mut extent = Extent {
        marks: Vec::new(),
        frames_end: SEGMENT_HEADER_BYTES,
        next_index: first_index,
        sealed: None,
    };
    let mut rest = buffer.slice(SEGMENT_HEADER_BYTES as usize..);
    while !rest.is_empty() {
        let offset = extent.frames_end;
        let before = rest.len();
        let what = match format::decode_frame(&mut rest) {
            Ok(frame) if frame.index == extent.next_index => {
                extent.note_frame(frame.index, offset, (before - rest.len()) as u64);
                continue;
            }
            Ok(frame) => format!("index {} instead of {}", frame.index, extent.next_index),
            Err(error) => error.to_string(),
        };
        let torn = is_last
            && !synced.reaches(first_index, offset + 1)
            && format::find_intact_frame(&buffer, offset as usize + 1).is_none();
        if !torn && !planted(Bug::TruncateOnCrcError) {
            return Err(OpenError::Corrupt { path: path.to_owned(), offset, what });
        }
        tracing::warn!(
            path = %path.display(), offset, cut_bytes = length - offset, what,
            "cutting off a torn tail that was never acknowledged"
        );
        file.set_len(offset)?;
        file.sync_data()?;
        break;
    }
    let gone = synced.reaches(first_index, extent.frames_end + 1);
    if gone && !planted(Bug::TruncateOnCrcError) {
        return Err(OpenError::Corrupt {
            path: path.to_owned(),
            offset: extent.frames_end,
            what: format!("frames were synced up to offset {} and are gone", synced.offset),
        });
    }
    Ok(extent)
}
