//! Bytes of a segment file: header, entry frames, footer.
//!
//! All integers are little-endian. The layouts also stand in `docs/formats.md`.
//!
//! Segment header, 64 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `RMQSEG\0\x01`; the last byte is the format version |
//! | 8 | 8 | node id that wrote the file |
//! | 16 | 8 | log index of the first frame |
//! | 24 | 8 | hash of cluster and group name |
//! | 32 | 28 | zero |
//! | 60 | 4 | CRC32C of bytes 0..60 |
//!
//! Entry frame, 32 bytes and the body:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | CRC32C of bytes 4..32 and the body |
//! | 4 | 2 | magic `RM` |
//! | 6 | 1 | frame version, 1 |
//! | 7 | 1 | kind: 0 blank, 1 application data, 2 membership |
//! | 8 | 4 | body length, at most [`BODY_BYTES_MAX`] |
//! | 12 | 4 | zero |
//! | 16 | 8 | term |
//! | 24 | 8 | log index |
//! | 32 | … | body |
//!
//! Footer of a closed segment: for each mark 16 bytes (log index, file offset), then 32 bytes:
//! number of marks (8), last log index (8), file offset of the footer (8), CRC32C of all footer
//! bytes before it (4), magic `RMFT` (4).

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::planted::Bug;
use crate::planted::planted;

/// Bytes before the first frame of a segment.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 64;
/// Bytes of a frame before its body.
pub const FRAME_HEADER_BYTES: usize = 32;
/// Largest body of one entry. A batch is bounded far below; this only stops a damaged length from
/// being believed.
pub const BODY_BYTES_MAX: usize = 64 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"RMQSEG\0\x01";
const FRAME_MAGIC: [u8; 2] = *b"RM";
const FRAME_VERSION: u8 = 1;
const FOOTER_MAGIC: [u8; 4] = *b"RMFT";
const FOOTER_TAIL_BYTES: usize = 32;

/// What an entry's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// No body: the first entry of a leader.
    Blank,
    /// Commands of the broker.
    Normal,
    /// A membership.
    Membership,
}

/// A frame taken apart. `body` shares the buffer it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Term of the leader that wrote the entry.
    pub term: u64,
    /// Position in the log.
    pub index: u64,
    /// What the body is.
    pub kind: FrameKind,
    /// The body.
    pub body: Bytes,
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The buffer ends before the frame does.
    #[error("the frame ends beyond the available bytes")]
    Short,
    /// Magic, version, kind or length can not be right.
    #[error("not a frame header")]
    Header,
    /// The checksum does not match.
    #[error("checksum {found:08x} instead of {expected:08x} in the frame of index {index}")]
    Checksum {
        /// What the frame says.
        expected: u32,
        /// What its bytes give.
        found: u32,
        /// The index the header names.
        index: u64,
    },
}

/// Encodes one entry as a frame.
pub fn encode_frame(term: u64, index: u64, kind: FrameKind, body: &[u8]) -> Bytes {
    assert!(body.len() <= BODY_BYTES_MAX, "an entry of {} bytes", body.len());
    let mut frame = BytesMut::with_capacity(FRAME_HEADER_BYTES + body.len());
    frame.put_u32_le(0);
    frame.put_slice(&FRAME_MAGIC);
    frame.put_u8(FRAME_VERSION);
    frame.put_u8(match kind {
        FrameKind::Blank => 0,
        FrameKind::Normal => 1,
        FrameKind::Membership => 2,
    });
    frame.put_u32_le(body.len() as u32);
    frame.put_u32_le(0);
    frame.put_u64_le(term);
    frame.put_u64_le(index);
    frame.put_slice(body);
    let checksum = crc32c::crc32c(&frame[4..]);
    frame[..4].copy_from_slice(&checksum.to_le_bytes());
    frame.freeze()
}

/// Length of the whole frame that starts `bytes`, from its header alone.
///
/// # Errors
/// [`FrameError::Short`] with fewer than 32 bytes, [`FrameError::Header`] for what is no header.
pub fn frame_length(bytes: &[u8]) -> Result<usize, FrameError> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(FrameError::Short);
    };
    let body_bytes = u32_at(header, 8) as usize;
    let plausible = header[4..6] == FRAME_MAGIC
        && header[6] == FRAME_VERSION
        && header[7] <= 2
        && header[12..16] == [0; 4]
        && body_bytes <= BODY_BYTES_MAX;
    if plausible { Ok(FRAME_HEADER_BYTES + body_bytes) } else { Err(FrameError::Header) }
}

/// Term and index in the header of the frame that starts `bytes`; the length must have been checked.
pub(crate) fn frame_position(bytes: &[u8]) -> (u64, u64) {
    (u64_at(bytes, 16), u64_at(bytes, 24))
}

/// The checksum in the header of the frame that starts `bytes`; the length must have been checked.
pub(super) fn frame_checksum(bytes: &[u8]) -> u32 {
    u32_at(bytes, 0)
}

/// Takes the first frame off `bytes`, checking everything.
///
/// # Errors
/// See [`FrameError`]; `bytes` is left as it was.
pub fn decode_frame(bytes: &mut Bytes) -> Result<Frame, FrameError> {
    let length = frame_length(bytes)?;
    if bytes.len() < length {
        return Err(FrameError::Short);
    }
    let expected = u32_at(bytes, 0);
    let found = crc32c::crc32c(&bytes[4..length]);
    let (term, index) = frame_position(bytes);
    if expected != found && !planted(Bug::ChecksumNotCompared) {
        return Err(FrameError::Checksum { expected, found, index });
    }
    let kind = match bytes[7] {
        0 => FrameKind::Blank,
        1 => FrameKind::Normal,
        _ => FrameKind::Membership,
    };
    let frame = bytes.split_to(length);
    Ok(Frame { term, index, kind, body: frame.slice(FRAME_HEADER_BYTES..) })
}

/// Who wrote a segment, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) node_id: u64,
    pub(super) first_index: u64,
    pub(super) group_hash: u64,
}

impl SegmentHeader {
    pub(super) fn encode(self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..16].copy_from_slice(&self.node_id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_index.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.group_hash.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` when the bytes are no segment header of this format version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ SEGMENT_HEADER_BYTES as usize }>()?;
        let intact =
            bytes[..8] == SEGMENT_MAGIC && u32_at(bytes, 60) == crc32c::crc32c(&bytes[..60]);
        intact.then(|| Self {
            node_id: u64_at(bytes, 8),
            first_index: u64_at(bytes, 16),
            group_hash: u64_at(bytes, 24),
        })
    }
}

/// A known place in a segment: this index's frame begins at this file offset.
pub(super) type Mark = (u64, u64);

/// What a closed segment says at its end, so that a start need not read its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) marks: Vec<Mark>,
    pub(super) last_index: u64,
    /// File offset where the frames end and the footer begins.
    pub(super) frames_end: u64,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.marks.len() * 16 + FOOTER_TAIL_BYTES);
        for (index, offset) in &self.marks {
            bytes.extend_from_slice(&index.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.marks.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.last_index.to_le_bytes());
        bytes.extend_from_slice(&self.frames_end.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&FOOTER_MAGIC);
        bytes
    }

    /// Where the footer begins, from the last 32 bytes of a file of `file_bytes`.
    pub(super) fn start(tail: &[u8], file_bytes: u64) -> Option<u64> {
        let tail = tail.last_chunk::<FOOTER_TAIL_BYTES>()?;
        let marks = u64_at(tail, 0);
        let start = u64_at(tail, 16);
        let length = marks.checked_mul(16)?.checked_add(FOOTER_TAIL_BYTES as u64)?;
        (tail[28..] == FOOTER_MAGIC && start.checked_add(length)? == file_bytes).then_some(start)
    }

    /// `None` when the bytes are no intact footer.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (marks, tail) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_TAIL_BYTES)?)?;
        let checksummed = bytes.len() - 8;
        if u32_at(tail, 24) != crc32c::crc32c(&bytes[..checksummed]) {
            return None;
        }
        Some(Self {
            marks: marks.chunks_exact(16).map(|mark| (u64_at(mark, 0), u64_at(mark, 8))).collect(),
            last_index: u64_at(tail, 8),
            frames_end: u64_at(tail, 16),
        })
    }

    /// Bytes of the fixed part at the very end of the file.
    pub(super) const TAIL_BYTES: usize = FOOTER_TAIL_BYTES;
}

/// File offset, relative to `bytes`, of the first whole and intact frame after `from`, if any.
///
/// Tells a torn tail (nothing valid behind the damage) from corruption.
pub(super) fn find_intact_frame(bytes: &Bytes, from: usize) -> Option<usize> {
    let mut at = from;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        let candidate = bytes[at..].windows(6).position(|window| window[4..6] == FRAME_MAGIC)?;
        at += candidate;
        if decode_frame(&mut bytes.slice(at..)).is_ok() {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_survives_and_a_flipped_bit_does_not(
            term: u64,
            index: u64,
            body in proptest::collection::vec(any::<u8>(), 0..200),
            flip in any::<prop::sample::Index>(),
        ) {
            let frame = encode_frame(term, index, FrameKind::Normal, &body);
            let decoded = decode_frame(&mut frame.clone()).unwrap();
            prop_assert_eq!(&decoded.body[..], &body[..]);
            prop_assert_eq!((decoded.term, decoded.index), (term, index));

            let mut damaged = frame.to_vec();
            let bit = flip.index(damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_frame(&mut Bytes::from(damaged)).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_frame(&mut bytes.clone());
            let _ = find_intact_frame(&bytes, 0);
            let _ = SegmentHeader::decode(&bytes);
            let _ = Footer::decode(&bytes);
        }
    }

    #[test]
    fn footer_round_trip() {
        let footer =
            Footer { marks: vec![(5, 64), (9, 70_000)], last_index: 12, frames_end: 70_500 };
        let bytes = footer.encode();
        let file_bytes = footer.frames_end + bytes.len() as u64;
        assert_eq!(Footer::start(&bytes, file_bytes), Some(70_500));
        assert_eq!(Footer::decode(&bytes), Some(footer));
    }
}
