//! Letting go of old messages: by age and by size, whole segments at a time.
//!
//! The leader decides up to which log index messages go and proposes it; every replica then drops the
//! index entries, lets Raft forget the entries (after a snapshot) and deletes the files.
//!
//! Invariants: nothing goes that a consumer holds, or a dead letter younger than the retention; a
//! reader that has opened a segment reads it to the end.
//!
//! Not here: carrying a held message forward so that its segment can go (the segment waits instead).

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::world::time;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::command::Command;
use crate::node::Node;
use crate::state;
use crate::state::State;

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
    let dead_letters_before_ms = now_ms().saturating_sub(node.config.retention.as_millis() as u64);
    let before_log_index = cut(node, dead_letters_before_ms);
    if before_log_index <= node.state.read().trimmed_before {
        return;
    }
    tracing::info!(before_log_index, "retention: older messages go");
    let command = Command::Trim(wire::Trim { before_log_index, dead_letters_before_ms });
    if let Err(error) = node.proposer.propose(&command).await {
        tracing::debug!(%error, "retention will try again");
    }
}

/// First log index that stays.
fn cut(node: &Node, dead_letters_before_ms: u64) -> u64 {
    let config = &node.config;
    let mut total = node.group.log().disk_bytes();
    let mut cut = 0;
    for segment in node.group.log().sealed_segments() {
        let age = time::wall().duration_since(segment.sealed).unwrap_or_default();
        let too_old = age >= config.retention;
        let too_much = config.retention_bytes > 0 && total > config.retention_bytes;
        if !too_old && !too_much {
            break;
        }
        cut = segment.next_index;
        total -= segment.bytes;
    }
    if cut == 0 {
        return 0;
    }
    let mut held = held(node, &node.state.read(), dead_letters_before_ms);
    if planted(Bug::RetentionPastUnread) {
        held = None;
    }
    let cut = cut.min(held.unwrap_or(u64::MAX));
    metrics::gauge!("raftmq_retention_held_index", node.labels(&[]))
        .set(held.map_or(0.0, |index| index as f64));
    cut
}

/// The oldest log index that a consumer or a young dead letter still needs.
fn held(node: &Node, state: &State, dead_letters_before_ms: u64) -> Option<u64> {
    let store = node.group.store();
    let mut oldest: Option<u64> = None;
    let mut hold = |index: u64| oldest = Some(oldest.map_or(index, |other| other.min(index)));
    for (ids, consumption) in &state.consumptions {
        for (queue_id, progress) in consumption.queues.iter().enumerate() {
            // Within a queue, a smaller offset never lies later in the log, except for dead letters.
            if let Some(offset) = progress.inflight.keys().next()
                && let Some(unit) = state::unit(store, ids.1, queue_id as u32, *offset)
            {
                hold(unit.log_index);
            }
        }
    }
    for topic in state.topics.values().filter(|topic| !topic.record.dead_letters_of.is_empty()) {
        for (queue_id, queue) in (0..).zip(&topic.queues) {
            state::units(store, topic.record.id, queue_id, queue.min, queue.max, |_, unit| {
                if unit.stored_ms >= dead_letters_before_ms {
                    hold(unit.log_index);
                }
                true
            });
        }
    }
    oldest
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
