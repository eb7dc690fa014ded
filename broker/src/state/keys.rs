//! Keys and values of the tables. Keys are big-endian, so that a range scan is in queue order.
//!
//! | table byte | key | value |
//! |---|---|---|
//! | 1 topic | topic id (4) | `TopicRecord` |
//! | 2 queue | topic id (4), queue id (4) | min offset (8), max offset (8); only after a trim |
//! | 3 unit | topic id (4), queue id (4), queue offset (8) | [`Unit`], 36 bytes |
//! | 4 group | group id (4) | `GroupRecord` |
//! | 5 progress | group id (4), topic id (4), queue id (4) | next offset (8) |
//! | 6 in flight | group id (4), topic id (4), queue id (4), queue offset (8) | `InflightRecord` |
//! | 7 message id | hour of storing (4), topic id (4), message id | queue id (4), queue offset (8), time (8) |
//! | 8 counters | name byte | next topic id, next group id, leader's time, revision, trimmed index |

/// Table bytes.
pub(super) mod table {
    pub(crate) const TOPIC: u8 = 1;
    pub(crate) const QUEUE: u8 = 2;
    pub(crate) const UNIT: u8 = 3;
    pub(crate) const GROUP: u8 = 4;
    pub(crate) const PROGRESS: u8 = 5;
    pub(crate) const INFLIGHT: u8 = 6;
    pub(crate) const MESSAGE_ID: u8 = 7;
    pub(crate) const COUNTERS: u8 = 8;
}

/// Messages of one hour share a bucket of the message-id table, which retention drops as a whole.
pub(super) const BUCKET_MS: u64 = 3_600_000;

/// An index entry: where a message lies in the log, and what filtering needs.
///
/// 36 bytes, big-endian: log index (8), offset in the entry body (4), length (4), tag hash (8), store
/// time (8), flags (4; 1: dead letter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Log index of the entry that holds the record.
    pub log_index: u64,
    /// Where the record begins in the entry body.
    pub offset: u32,
    /// Length of the record.
    pub length: u32,
    /// See [`crate::command::tag_hash`].
    pub tag_hash: u64,
    /// Leader's time when it was stored (or dead-lettered).
    pub stored_ms: u64,
    /// Whether this is the index entry of a dead letter: its record names its original topic.
    pub dead_letter: bool,
}

impl Unit {
    pub(super) fn encode(&self) -> [u8; 36] {
        let mut bytes = [0; 36];
        bytes[..8].copy_from_slice(&self.log_index.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.tag_hash.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.stored_ms.to_be_bytes());
        bytes[32..].copy_from_slice(&u32::from(self.dead_letter).to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            log_index: u64_at(bytes, 0),
            offset: u32_at(bytes, 8),
            length: u32_at(bytes, 12),
            tag_hash: u64_at(bytes, 16),
            stored_ms: u64_at(bytes, 24),
            dead_letter: u32_at(bytes, 32) & 1 != 0,
        }
    }
}

/// A key of numbers behind a table byte.
pub(super) fn key(table: u8, numbers: &[u32]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + numbers.len() * 4 + 8);
    key.push(table);
    for number in numbers {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}

/// Like [`key`], ending with a queue offset.
pub(super) fn offset_key(table: u8, numbers: &[u32], offset: u64) -> Vec<u8> {
    let mut key = key(table, numbers);
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

/// Key of a message id stored at `time_ms`.
pub(super) fn message_id_key(time_ms: u64, topic_id: u32, message_id: &[u8]) -> Vec<u8> {
    let mut key = key(table::MESSAGE_ID, &[(time_ms / BUCKET_MS) as u32, topic_id]);
    key.extend_from_slice(message_id);
    key
}

/// Everything that begins with `prefix`: the first key behind it.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; prefix.len() + 1]
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(value)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_round_trip() {
        let unit = Unit {
            log_index: 1 << 40,
            offset: 7,
            length: 9,
            tag_hash: u64::MAX,
            stored_ms: 123,
            dead_letter: true,
        };
        assert_eq!(Unit::decode(&unit.encode()), unit);
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_every_key_with_it() {
        assert_eq!(end_of(&[1, 2]), [1, 3]);
        assert_eq!(end_of(&[1, u8::MAX]), [2]);
    }
}
