//! Looking messages up by what their producers called them: ids and keys.
//!
//! Both tables are kept in hours, and so are read an hour at a time, the newest first.
//!
//! Not here: reading messages, and telling two keys with one hash apart (`rpc::admin`).

use std::ops::ControlFlow;

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::state::StateStore;

use super::NO_OFFSET;
use super::decode;
use super::keys;
use super::keys::BUCKET_MS;
use super::table;

/// What is remembered of a message id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered {
    /// Queue and offset; `None`: it was in no queue then.
    pub(crate) place: Option<(u32, u64)>,
    pub(crate) time_ms: u64,
    /// Set when it was delayed then.
    pub(crate) timer: Option<wire::Timer>,
}

/// Everything that is remembered of a message id, the newest first.
pub(crate) fn by_message_id(
    store: &StateStore,
    topic_id: u32,
    message_id: &[u8],
) -> Vec<Remembered> {
    hours(store, table::MESSAGE_ID)
        .filter_map(|time_ms| store.get(&keys::message_id_key(time_ms, topic_id, message_id)))
        .map(|value| {
            let (queue_id, offset) = (keys::u32_at(&value, 0), keys::u64_at(&value, 4));
            Remembered {
                place: (offset != NO_OFFSET).then_some((queue_id, offset)),
                time_ms: keys::u64_at(&value, 12),
                timer: (value.len() > 20).then(|| keys::timer_at(&value, 20)),
            }
        })
        .collect()
}

/// Calls `visit` with the places of one hour that have a key with this hash, an hour at a time and the
/// newest first, until it breaks. An hour with more than `places_max` is not told in full.
pub(crate) fn by_key(
    store: &StateStore,
    topic_id: u32,
    key_hash: u64,
    places_max: usize,
    mut visit: impl FnMut(Vec<(u32, u64)>) -> ControlFlow<()>,
) {
    for time_ms in hours(store, table::KEY) {
        let prefix = keys::key_prefix(time_ms, topic_id, key_hash);
        let mut places = Vec::new();
        store.scan(&prefix, &keys::end_of(&prefix), |key, _| {
            places.push((keys::u32_at(key, 17), keys::u64_at(key, 21)));
            places.len() < places_max
        });
        if !places.is_empty() && visit(places).is_break() {
            return;
        }
    }
}

/// Topic id, queue id and offset of everything whose record lies in that entry and that came into its
/// queue with a later one.
pub(crate) fn moved_of(store: &StateStore, log_index: u64) -> Vec<(u32, u32, u64)> {
    let mut prefix = vec![table::MOVED];
    prefix.extend_from_slice(&log_index.to_be_bytes());
    let mut places = Vec::new();
    store.scan(&prefix, &keys::end_of(&prefix), |key, _| {
        places.push((keys::u32_at(key, 9), keys::u32_at(key, 13), keys::u64_at(key, 17)));
        true
    });
    places
}

/// The half message of a transaction that is pending.
pub(crate) fn half(
    store: &StateStore,
    topic_id: u32,
    transaction_id: &[u8],
) -> Option<wire::HalfRecord> {
    store.get(&keys::half_key(topic_id, transaction_id)).map(|value| decode(&value))
}

/// How a transaction ended, as far as that is remembered.
pub(crate) fn ended(
    store: &StateStore,
    topic_id: u32,
    transaction_id: &[u8],
) -> Option<wire::EndedRecord> {
    hours(store, table::ENDED)
        .find_map(|time_ms| store.get(&keys::ended_key(time_ms, topic_id, transaction_id)))
        .map(|value| decode(&value))
}

/// Whether a delayed message was taken back, as far as that is remembered.
pub(crate) fn is_recalled(store: &StateStore, timer: &wire::Timer) -> bool {
    store.get(&keys::recalled_key(timer)).is_some()
}

/// The hours that a table reaches over, as milliseconds since 1970, the newest first.
fn hours(store: &StateStore, table: u8) -> impl Iterator<Item = u64> {
    let hour = |key: &[u8]| u64::from(keys::u32_at(key, 1));
    let mut first = 0;
    store.scan(&[table], &[table + 1], |key, _| {
        first = hour(key);
        false
    });
    let behind = store.last(&[table], &[table + 1]).map_or(0, |(key, _)| hour(&key) + 1);
    (first..behind).rev().map(|hour| hour * BUCKET_MS)
}
