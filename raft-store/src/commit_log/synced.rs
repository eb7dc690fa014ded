//! The synced mark: how far the active segment was flushed, as last noted.
//!
//! Written after each flush, itself without a flush: it may be older than the truth, never newer.
//! Where frames are taken away, it is forgotten first, and that is flushed.
//! It tells a torn tail from damaged acknowledged frames. 24 bytes, little-endian: first index of
//! the segment (8), offset (8), CRC32C of the 16 bytes (4), zero (4).

use std::io;
use std::path::Path;

use crate::world::fs;
use crate::world::fs::File;
use crate::world::fs::FileExt;
use crate::world::fs::OpenOptions;

const FILE_NAME: &str = "synced";

/// Everything before `offset` in the segment of `first_index` is on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SyncedMark {
    pub(super) first_index: u64,
    pub(super) offset: u64,
}

impl SyncedMark {
    /// The noted mark. A missing or damaged file only makes recovery less strict.
    pub(super) fn load(directory: &Path) -> io::Result<Self> {
        let bytes = match fs::read(directory.join(FILE_NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let Some((numbers, checksum)) = bytes.split_at_checked(16) else {
            return Ok(Self::default());
        };
        if checksum.get(..4) != Some(&crc32c::crc32c(numbers).to_le_bytes()[..]) {
            return Ok(Self::default());
        }
        let number = |at: usize| {
            let mut value = [0; 8];
            value.copy_from_slice(&numbers[at..at + 8]);
            u64::from_le_bytes(value)
        };
        Ok(Self { first_index: number(0), offset: number(8) })
    }

    /// Whether the segment of `first_index` was flushed up to `offset` (exclusive) or further.
    pub(super) fn reaches(&self, first_index: u64, offset: u64) -> bool {
        self.offset > 0 && self.first_index == first_index && self.offset >= offset
    }
}

/// Notes the mark.
pub(super) struct SyncedFile(File);

impl SyncedFile {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(FILE_NAME))?;
        Ok(Self(file))
    }

    /// Forgets the mark, and waits until that is on disk: frames that it speaks of may go after this.
    pub(super) fn forget(&self) -> io::Result<()> {
        self.note(SyncedMark::default())?;
        self.0.sync_data()
    }

    pub(super) fn note(&self, mark: SyncedMark) -> io::Result<()> {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&mark.first_index.to_le_bytes());
        bytes[8..16].copy_from_slice(&mark.offset.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..16]);
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}
