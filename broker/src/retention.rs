//! Letting go of old messages: by age and by size, whole segments at a time.
//!
//! The leader decides up to which log index messages go and proposes it; every replica then drops the
//! index entries, lets Raft forget the entries (after a snapshot) and deletes the files. A message's
//! age counts from when it came into its queue: a delayed one from its delivery, a dead letter from its
//! dead-lettering.
//!
//! Invariants: nothing goes that a consumer holds or held within one retention, that came into its queue
//! lately, or that still waits for its time or its transaction; a reader that has opened a segment reads it
//! to the end.
//!
//! A topic may keep its messages for a shorter time (`state::own_retention`).
//!
//! What waits is carried to the tail of the log, since it may wait for years. For all else the segment
//! waits, for one more retention at the most.

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

/// Lite topics of one parent that one trim takes messages from, but for those of its last entry.
const LITE_TOPICS_CUT_MAX: usize = 2000;

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
    let stored_before_ms = now_ms().saturating_sub(node.config.retention.as_millis() as u64);
    let mut before_log_index = 0;
    if old > 0 {
        carry(node, old).await;
        before_log_index = old.min(held(node, old, stored_before_ms).unwrap_or(u64::MAX));
    }
    if before_log_index > node.state.read().trimmed_before {
        tracing::info!(before_log_index, "retention: older messages go");
        trim(node, before_log_index, stored_before_ms).await;
    } else if has_outlived(node) {
        trim(node, 0, stored_before_ms).await;
    }
}

/// Proposes that everything goes that came into its queue before this log index, in steps.
async fn trim(node: &Node, before_log_index: u64, stored_before_ms: u64) {
    loop {
        let step = step(node, before_log_index);
        let command = Command::Trim(wire::Trim { before_log_index: step, stored_before_ms });
        if let Err(error) = node.proposer.propose(&command).await {
            tracing::debug!(%error, "retention will try again");
            return;
        }
        // Not as far as decided: something is needed by now, and the next round decides again.
        if step == before_log_index || node.state.read().trimmed_before < step {
            return;
        }
    }
}

/// How far one trim goes on the way to `before`: each lite topic that loses messages costs time in which
/// nothing else is applied.
fn step(node: &Node, before: u64) -> u64 {
    let state = node.state.read();
    let older = |topic: &state::Topic| {
        topic.lite.older_than(before).nth(LITE_TOPICS_CUT_MAX).map(|(log_index, _)| log_index)
    };
    let step = state.topics.values().filter_map(older).min().unwrap_or(before);
    // One entry may have stored to more than that many.
    step.max(state.trimmed_before + 1).min(before)
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

/// The oldest log index before `old` that is still needed; what a group holds, since `since_ms`.
fn held(node: &Node, old: u64, since_ms: u64) -> Option<u64> {
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
    for (ids, consumption) in &state.consumptions {
        for (queue_id, progress) in consumption.each() {
            // A smaller offset never came into the queue later.
            let first = progress.inflight.iter().find_map(|(offset, record)| {
                let unit = state::unit(store, ids.1, queue_id, *offset)?;
                state::is_held(record, &unit, since_ms).then_some(unit)
            });
            cut = cut.min(first.map_or(cut, |unit| unit.placed_index()));
        }
    }
    drop(state);
    metrics::gauge!("raftmq_retention_held_index", node.labels(&[])).set(if cut < old {
        cut as f64
    } else {
        0.0
    });
    Some(cut)
}

/// On every node: deletes what was trimmed, and of what no record is in a queue any more.
///
/// A record that was moved into a queue later keeps its segment, and nothing else: what came into its queue
/// when the record did is trimmed all the same. Otherwise each record moved over a cut would move the cut
/// back over others, and where messages are delayed all the time nothing would ever go.
async fn let_go(node: &Node) -> Result<(), String> {
    let before = {
        let state = node.state.read();
        match planted(Bug::RetentionPastUnread) {
            true => state.trimmed_before,
            false => state.needed_from(node.group.store()),
        }
    };
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
