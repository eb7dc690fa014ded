//! Letting go of old messages: by age and by size, whole segments at a time.
//!
//! The leader decides up to which log index messages go and proposes it; every replica then drops the
//! index entries, lets Raft forget the entries (after a snapshot) and deletes the files. A message's
//! age counts from when it came into its queue: a delayed one from its delivery, a dead letter from its
//! dead-lettering.
//!
//! Invariants: nothing goes that a consumer holds, that came into its queue lately, or that still waits
//! for its time or its transaction; a reader that has opened a segment reads it to the end.
//!
//! A topic may keep its messages for a shorter time (`state::own_retention`).
//!
//! What waits is carried to the tail of the log, since it may wait for years. For all else the segment
//! waits, for one more retention at the most.

use std::collections::BTreeSet;

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::world::time;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::command::Carried;
use crate::command::Carry;
use crate::command::Command;
use crate::node::Node;
use crate::state;

/// Records that one command carries, and their bytes: what one entry may hold up others for.
const CARRY_MAX: usize = 1000;
const CARRY_BYTES_MAX: usize = 1 << 20;

/// Runs until `stop`.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(node.config.retention_interval) => (),
        }
        if node.leading_term().is_some() {
            decide(&node).await;
        }
        if let Err(error) = let_go(&node).await {
            tracing::warn!(error, "retention could not let go of old entries");
        }
    }
}

/// At the leader: proposes what goes, if anything does.
async fn decide(node: &Node) {
    let old = old(node);
    let mut before_log_index = 0;
    if old > 0 {
        carry(node, old).await;
        before_log_index = old.min(held(node, old).unwrap_or(u64::MAX));
    }
    if before_log_index > node.state.read().trimmed_before {
        tracing::info!(before_log_index, "retention: older messages go");
    } else if has_outlived(node) {
        before_log_index = 0;
    } else {
        return;
    }
    let stored_before_ms = now_ms().saturating_sub(node.config.retention.as_millis() as u64);
    let command = Command::Trim(wire::Trim { before_log_index, stored_before_ms });
    if let Err(error) = node.proposer.propose(&command).await {
        tracing::debug!(%error, "retention will try again");
    }
}

/// Whether messages are older than their topic keeps them.
fn has_outlived(node: &Node) -> bool {
    let (store, time_ms) = (node.group.store(), now_ms());
    let topic_ids = state::short_lived(&node.state.read());
    // Each by itself: entries are applied in between.
    topic_ids.into_iter().any(|topic_id| {
        let first = |queue_id, from, to| state::first_unit(store, topic_id, queue_id, from, to);
        !state::outlived(&node.state.read(), topic_id, time_ms, first).is_empty()
    })
}

/// First log index that age and size let stay.
fn old(node: &Node) -> u64 {
    let config = &node.config;
    let mut total = node.group.log().disk_bytes();
    let mut old = 0;
    for segment in node.group.log().sealed_segments() {
        let age = time::wall().duration_since(segment.sealed).unwrap_or_default();
        let too_old = age >= config.retention;
        let too_much = config.retention_bytes > 0 && total > config.retention_bytes;
        if !too_old && !too_much {
            break;
        }
        old = segment.next_index;
        total -= segment.bytes;
    }
    old
}

/// Writes the records of timers anew that lie before `log_index`.
async fn carry(node: &Node, log_index: u64) {
    loop {
        let records = to_carry(node, log_index);
        if records.is_empty() {
            return;
        }
        metrics::counter!("raftmq_carried_records_total", node.labels(&[]))
            .increment(records.len() as u64);
        let command = Command::Carry(Carry { records });
        if let Err(error) = node.proposer.propose(&command).await {
            tracing::debug!(%error, "what waits is carried in the next round");
            return;
        }
    }
}

fn to_carry(node: &Node, log_index: u64) -> Vec<Carried> {
    let store = node.group.store();
    let (mut records, mut bytes) = (Vec::new(), 0);
    state::timers_in_log_before(store, log_index, |timer| {
        if records.len() >= CARRY_MAX || bytes >= CARRY_BYTES_MAX {
            return false;
        }
        let Some((_, unit)) = state::timer(store, &timer) else { return true };
        match node.group.read_body(unit.log_index, unit.offset, unit.length) {
            Ok(record) => {
                bytes += record.len();
                records.push(Carried { timer, record, record_offset: 0 });
            }
            // Its segment stays, see `held`.
            Err(error) => tracing::error!(%error, "could not read a message that waits"),
        }
        true
    });
    records
}

/// The oldest log index before `old` that is still needed.
fn held(node: &Node, old: u64) -> Option<u64> {
    if planted(Bug::RetentionPastUnread) {
        return None;
    }
    let store = node.group.store();
    let mut cut = old;
    state::timers_in_log_before(store, old, |timer| {
        let unit = state::timer(store, &timer).map(|(_, unit)| unit);
        cut = cut.min(unit.map_or(cut, |unit| unit.log_index));
        unit.is_none()
    });
    let state = node.state.read();
    let topic_ids: BTreeSet<u32> = state.topics.keys().copied().collect();
    for (ids, consumption) in &state.consumptions {
        for (queue_id, progress) in (0..).zip(&consumption.queues) {
            // A smaller offset never came into the queue later.
            if let Some(offset) = progress.inflight.keys().next()
                && let Some(unit) = state::unit(store, ids.1, queue_id, *offset)
            {
                cut = cut.min(unit.placed_index());
            }
        }
    }
    drop(state);
    // What stays in its queue keeps its record, which may hold up others in turn.
    loop {
        let mut needed = cut;
        state::moved_before(store, cut, |_, moved| {
            let stays = moved.placed_index >= cut && topic_ids.contains(&moved.topic_id);
            if stays {
                needed = moved.log_index;
            }
            !stays
        });
        if needed == cut {
            break;
        }
        cut = needed;
    }
    metrics::gauge!("raftmq_retention_held_index", node.labels(&[])).set(if cut < old {
        cut as f64
    } else {
        0.0
    });
    Some(cut)
}

/// On every node: deletes what was trimmed.
async fn let_go(node: &Node) -> Result<(), String> {
    let before = node.state.read().trimmed_before;
    let log = node.group.log();
    if !log.sealed_segments().iter().any(|segment| segment.next_index <= before) {
        return Ok(());
    }
    let raft_first = log.purged().map_or(0, |purged| purged.index + 1);
    if raft_first < before {
        let snapshot = node.group.snapshot().await?;
        if snapshot + 1 < before {
            return Ok(());
        }
        node.group.purge(before - 1).await?;
        // Raft purges when nothing reads there; the files go in a later round.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let raft_first = log.purged().map_or(0, |purged| purged.index + 1);
    log.delete_before(before.min(raft_first)).await.map_err(|error| error.to_string())
}
