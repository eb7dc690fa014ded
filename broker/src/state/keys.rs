//! Keys and values of the tables. Keys are big-endian, so that a range scan is in queue order.
//!
//! | table byte | key | value |
//! |---|---|---|
//! | 1 topic | topic id (4) | `TopicRecord` |
//! | 2 queue | topic id (4), queue id (4) | min offset (8), max offset (8), whether messages were taken out (1); only after a trim or that |
//! | 3 unit | topic id (4), queue id (4), queue offset (8) | [`Unit`], 36 to 52 bytes |
//! | 4 group | group id (4) | `GroupRecord` |
//! | 5 progress | group id (4), topic id (4), queue id (4) | next offset (8) |
//! | 6 in flight | group id (4), topic id (4), queue id (4), queue offset (8) | `InflightRecord` |
//! | 7 message id | hour of storing (4), topic id (4), message id | queue id (4), queue offset (8), time (8), timer (20) if it is delayed |
//! | 8 counters | name byte | next topic id, next group id, leader's time, revision, trimmed index |
//! | 9 timer | due time (8), log index (8), offset (4) | `TimerRecord` |
//! | 10 timer by log | log index (8), offset (4), timer (20) | empty |
//! | 11 half | topic id (4), transaction id | `HalfRecord` |
//! | 12 ended | hour of the end (4), topic id (4), transaction id | `EndedRecord` |
//! | 13 recalled | hour of the due time (4), timer (20) | message id |
//! | 14 subscriptions | group id (4), topic id (4) | `SubscriptionRecord` |
//! | 15 moved | log index (8), topic id (4), queue id (4), queue offset (8) | placed index (8) |
//! | 16 key | hour of storing (4), topic id (4), key hash (8), queue id (4), queue offset (8) | empty |
//! | 17 lite topic | topic id (4), queue id (4) | `LiteTopicRecord` |
//! | 18 lite subscription | group id (4), topic id (4), queue id (4), client id | empty |
//!
//! A timer's log index and offset tell where its record was when it was set; they stay when the record
//! is carried to the tail of the log. Queue offset `u64::MAX` of a message id: in no queue yet.

use raftmq_proto::raftmq::Timer;

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
    pub(crate) const TIMER: u8 = 9;
    pub(crate) const TIMER_BY_LOG: u8 = 10;
    pub(crate) const HALF: u8 = 11;
    pub(crate) const ENDED: u8 = 12;
    pub(crate) const RECALLED: u8 = 13;
    pub(crate) const SUBSCRIPTIONS: u8 = 14;
    pub(crate) const MOVED: u8 = 15;
    pub(crate) const KEY: u8 = 16;
    pub(crate) const LITE: u8 = 17;
    pub(crate) const LITE_SUBSCRIPTION: u8 = 18;
}

/// Messages of one hour share a bucket of the tables of message ids and keys, which retention drops as a whole.
pub(super) const BUCKET_MS: u64 = 3_600_000;

/// An index entry: where a message lies in the log, and what filtering and ordering need.
///
/// Big-endian: log index (8), offset in the entry body (4), length (4), tag hash (8), store time (8),
/// flags (4; 1: dead letter, 2: a group hash follows, 4: a placed index follows), then what the flags
/// say: group hash (8), placed index (8).
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
    /// See [`crate::command::group_hash`].
    pub group_hash: u64,
    /// Leader's time when it came into its queue.
    pub stored_ms: u64,
    /// Whether this is the index entry of a dead letter: its record names its original topic.
    pub dead_letter: bool,
    /// Log index of the entry that put it into its queue, when that is not the one that holds the
    /// record: it was delayed, in a transaction, or dead-lettered. Retention goes by it.
    pub moved_at: Option<u64>,
}

const DEAD_LETTER: u32 = 1;
const HAS_GROUP: u32 = 2;
const HAS_PLACED_INDEX: u32 = 4;

impl Unit {
    /// Log index of the entry that put it into its queue.
    pub fn placed_index(&self) -> u64 {
        self.moved_at.unwrap_or(self.log_index)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        if self.dead_letter {
            flags |= DEAD_LETTER;
        }
        if self.group_hash != 0 {
            flags |= HAS_GROUP;
        }
        if self.moved_at.is_some() {
            flags |= HAS_PLACED_INDEX;
        }
        let mut bytes = Vec::with_capacity(52);
        bytes.extend_from_slice(&self.log_index.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes.extend_from_slice(&self.tag_hash.to_be_bytes());
        bytes.extend_from_slice(&self.stored_ms.to_be_bytes());
        bytes.extend_from_slice(&flags.to_be_bytes());
        if self.group_hash != 0 {
            bytes.extend_from_slice(&self.group_hash.to_be_bytes());
        }
        if let Some(index) = self.moved_at {
            bytes.extend_from_slice(&index.to_be_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        let flags = u32_at(bytes, 32);
        let has_group = flags & HAS_GROUP != 0;
        let placed_at = if has_group { 44 } else { 36 };
        Self {
            log_index: u64_at(bytes, 0),
            offset: u32_at(bytes, 8),
            length: u32_at(bytes, 12),
            tag_hash: u64_at(bytes, 16),
            stored_ms: u64_at(bytes, 24),
            dead_letter: flags & DEAD_LETTER != 0,
            group_hash: if has_group { u64_at(bytes, 36) } else { 0 },
            moved_at: (flags & HAS_PLACED_INDEX != 0).then(|| u64_at(bytes, placed_at)),
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

/// What the places of messages with a key begin with that were stored in an hour.
pub(super) fn key_prefix(time_ms: u64, topic_id: u32, key_hash: u64) -> Vec<u8> {
    let mut key = key(table::KEY, &[(time_ms / BUCKET_MS) as u32, topic_id]);
    key.extend_from_slice(&key_hash.to_be_bytes());
    key
}

/// Key of a place by a key of the message that was stored there at `time_ms`.
pub(super) fn key_key(
    time_ms: u64,
    topic_id: u32,
    key_hash: u64,
    (queue_id, offset): (u32, u64),
) -> Vec<u8> {
    let mut key = key_prefix(time_ms, topic_id, key_hash);
    key.extend_from_slice(&queue_id.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

/// Key of the outcome of a transaction that ended at `time_ms`.
pub(super) fn ended_key(time_ms: u64, topic_id: u32, transaction_id: &[u8]) -> Vec<u8> {
    let mut key = key(table::ENDED, &[(time_ms / BUCKET_MS) as u32, topic_id]);
    key.extend_from_slice(transaction_id);
    key
}

/// Key of the subscription of a client to a lite topic.
pub(super) fn lite_subscription_key(
    (group_id, topic_id): (u32, u32),
    queue_id: u32,
    client_id: &str,
) -> Vec<u8> {
    let mut key = key(table::LITE_SUBSCRIPTION, &[group_id, topic_id, queue_id]);
    key.extend_from_slice(client_id.as_bytes());
    key
}

/// Key of the half message of a transaction.
pub(super) fn half_key(topic_id: u32, transaction_id: &[u8]) -> Vec<u8> {
    let mut key = key(table::HALF, &[topic_id]);
    key.extend_from_slice(transaction_id);
    key
}

/// Bytes of a timer in keys.
pub(super) const TIMER_BYTES: usize = 20;

/// Key of a timer.
pub(super) fn timer_key(timer: &Timer) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + TIMER_BYTES);
    key.push(table::TIMER);
    put_timer(&mut key, timer);
    key
}

/// Key of a timer whose record lies at `unit`.
pub(super) fn timer_by_log_key(unit: &Unit, timer: &Timer) -> Vec<u8> {
    let mut key = key(table::TIMER_BY_LOG, &[]);
    key.extend_from_slice(&unit.log_index.to_be_bytes());
    key.extend_from_slice(&unit.offset.to_be_bytes());
    put_timer(&mut key, timer);
    key
}

/// Key of a delayed message that was recalled.
pub(super) fn recalled_key(timer: &Timer) -> Vec<u8> {
    let mut key = key(table::RECALLED, &[(timer.due_ms / BUCKET_MS) as u32]);
    put_timer(&mut key, timer);
    key
}

/// Key of an index entry whose record was stored before it came into its queue.
pub(super) fn moved_key(log_index: u64, topic_id: u32, queue_id: u32, offset: u64) -> Vec<u8> {
    let mut key = vec![table::MOVED];
    key.extend_from_slice(&log_index.to_be_bytes());
    key.extend_from_slice(&topic_id.to_be_bytes());
    key.extend_from_slice(&queue_id.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

pub(super) fn put_timer(bytes: &mut Vec<u8>, timer: &Timer) {
    bytes.extend_from_slice(&timer.due_ms.to_be_bytes());
    bytes.extend_from_slice(&timer.log_index.to_be_bytes());
    bytes.extend_from_slice(&timer.offset.to_be_bytes());
}

pub(super) fn timer_at(bytes: &[u8], at: usize) -> Timer {
    Timer {
        due_ms: u64_at(bytes, at),
        log_index: u64_at(bytes, at + 8),
        offset: u32_at(bytes, at + 16),
    }
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
            group_hash: 0,
            stored_ms: 123,
            dead_letter: true,
            moved_at: None,
        };
        assert_eq!(unit.encode().len(), 36);
        for (group_hash, moved_at) in [(0, None), (5, None), (0, Some(6)), (5, Some(6))] {
            let unit = Unit { group_hash, moved_at, ..unit };
            assert_eq!(Unit::decode(&unit.encode()), unit);
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_every_key_with_it() {
        assert_eq!(end_of(&[1, 2]), [1, 3]);
        assert_eq!(end_of(&[1, u8::MAX]), [2]);
    }
}
