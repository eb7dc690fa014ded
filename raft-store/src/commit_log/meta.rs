//! The small file beside the segments: the vote, and where Raft believes the log begins.
//!
//! Replaced as a whole (write, sync, rename, sync the directory), by the one log writer, so that a
//! vote is durable before anything that follows it. Layout, little-endian, 64 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `RMQMETA\x01` |
//! | 8 | 1 | flags: 1 a vote is set, 2 it is committed, 4 `purged` is set |
//! | 16 | 8 | term of the vote |
//! | 24 | 8 | node id of the vote |
//! | 32 | 8 | term of `purged` |
//! | 40 | 8 | index of `purged` |
//! | 60 | 4 | CRC32C of bytes 0..60 |

use std::io;
use std::io::Write;
use std::path::Path;

use super::LogPosition;
use super::VoteRecord;
use crate::planted::Bug;
use crate::planted::planted;
use crate::world::fs;
use crate::world::fs::File;

const MAGIC: [u8; 8] = *b"RMQMETA\x01";
const BYTES: usize = 64;
/// Name of the file in the log directory.
pub(super) const FILE_NAME: &str = "meta";

/// What is durable beside the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) vote: Option<VoteRecord>,
    /// Last entry that Raft no longer knows. Its bytes may well still be readable.
    pub(super) purged: Option<LogPosition>,
}

impl Meta {
    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        if let Some(vote) = self.vote {
            bytes[8] |= 1 | if vote.committed { 2 } else { 0 };
            bytes[16..24].copy_from_slice(&vote.term.to_le_bytes());
            bytes[24..32].copy_from_slice(&vote.node_id.to_le_bytes());
        }
        if let Some(purged) = self.purged {
            bytes[8] |= 4;
            bytes[32..40].copy_from_slice(&purged.term.to_le_bytes());
            bytes[40..48].copy_from_slice(&purged.index.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| {
            let mut value = [0; 8];
            value.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(value)
        };
        let checksum = crc32c::crc32c(&bytes[..60]).to_le_bytes();
        if bytes[..8] != MAGIC || bytes[60..] != checksum {
            return None;
        }
        let flags = bytes[8];
        Some(Self {
            vote: (flags & 1 != 0).then(|| VoteRecord {
                term: number(16),
                node_id: number(24),
                committed: flags & 2 != 0,
            }),
            purged: (flags & 4 != 0).then(|| LogPosition { term: number(32), index: number(40) }),
        })
    }

    /// Reads the file; a file that does not exist is an empty [`Meta`].
    ///
    /// # Errors
    /// `InvalidData` when the file is damaged: the vote must not be guessed.
    pub(super) fn load(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE_NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        Self::decode(&bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is corrupt", path.display()))
        })
    }

    /// Makes this the durable state.
    pub(super) fn store(self, directory: &Path) -> io::Result<()> {
        let temporary = directory.join("meta.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&self.encode())?;
        if planted(Bug::SkipVoteFsync) {
            return fs::rename(&temporary, directory.join(FILE_NAME));
        }
        file.sync_data()?;
        fs::rename(&temporary, directory.join(FILE_NAME))?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_restart_and_refuses_damage() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Meta::load(directory.path()).unwrap(), Meta::default());
        let meta = Meta {
            vote: Some(VoteRecord { term: 7, node_id: 2, committed: true }),
            purged: Some(LogPosition { term: 6, index: 41 }),
        };
        meta.store(directory.path()).unwrap();
        assert_eq!(Meta::load(directory.path()).unwrap(), meta);

        let path = directory.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Meta::load(directory.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
