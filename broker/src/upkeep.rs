//! What the leader does by itself about deliveries whose time ran out: keep them for an owner that
//! lives, move exhausted ones to the dead letters, wake somebody for the rest.

use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::world::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ack;
use crate::clock;
use crate::command::Command;
use crate::lite;
use crate::node::Node;
use crate::receive;
use crate::state;
use crate::state::CommandReply;
use crate::state::State;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Deliveries dealt with in one look, so that a flood does not hold up others.
const DUE_MAX: usize = 1024;
/// Time between two clean-ups of what is remembered about clients and deliveries.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How long messages are held back for a filter with which nobody receives: a waiting receive takes
/// 20 s at the most, and a consumer at work may take a while to come back.
const SUBSCRIBED_FOR: Duration = Duration::from_secs(120);
/// How long before its time a message is renewed, so that nobody else gets it in between.
const RENEW_BEFORE_MS: u64 = 10_000;
/// How long a living owner keeps a message without looking again.
const RENEWAL_MS: u64 = 30_000;
/// A message is not kept for its owner for longer than this.
const RENEWED_FOR_MS: u64 = 3 * 3_600_000;

/// Runs until `stop`.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => (),
        () = tend(&node) => (),
        () = sweep(&node) => (),
    }
}

async fn tend(node: &Node) {
    let mut released_in = 0;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let term = node.until_leading().await;
        if planted(Bug::DoubleDeliveryOnFailover) && term != released_in {
            released_in = term;
            let (client_id, visible_at_ms) = (String::new(), clock::now_ms());
            let all = Command::ReleaseClient(wire::ReleaseClient { client_id, visible_at_ms });
            let _ = node.proposer.propose(&all).await;
        }
        look(node, term).await;
    }
}

async fn sweep(node: &Node) {
    let mut leading = (0, Instant::now());
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        node.clients.sweep();
        if let Some(term) = node.leading_term() {
            if leading.0 != term {
                leading = (term, Instant::now());
            }
            let (_, since) = leading;
            forget_ended(node, term);
            forget_subscriptions(node, term).await;
            lite::sweep(node, since.elapsed()).await;
        }
    }
}

/// What is to be done about what is due.
#[derive(Default)]
struct Due {
    renew: Vec<wire::Receipt>,
    exhausted: Vec<wire::Receipt>,
    wake: Vec<(u32, u32)>,
    /// Topic id and queue id.
    wake_lite: Vec<(u32, u32)>,
}

fn forget_ended(node: &Node, term: u64) {
    let state = node.state.read();
    for (ids, consumption) in &state.consumptions {
        node.lanes.lane(term, *ids).forget_ended(consumption);
    }
}

/// What only a filter wants with which nobody receives any more is not kept for it for ever.
async fn forget_subscriptions(node: &Node, term: u64) {
    let several: Vec<_> = {
        let state = node.state.read();
        let several = state.consumptions.iter().filter(|(_, it)| it.subscriptions.len() > 1);
        several.map(|(ids, _)| *ids).collect()
    };
    for ids in several {
        for subscription in node.lanes.lane(term, ids).unseen_for(SUBSCRIBED_FOR) {
            let command = Command::Unsubscribe(wire::Unsubscribe {
                group_id: ids.0,
                topic_id: ids.1,
                subscription: Some(subscription),
            });
            // Otherwise the next sweep does it.
            let _ = node.proposer.propose(&command).await;
        }
    }
}

async fn look(node: &Node, term: u64) {
    let now_ms = clock::not_before(node.state.read().time_ms);
    let due = gather(node, &node.state.read(), term, now_ms);
    for ids in due.wake {
        node.lanes.wake_lane(ids);
    }
    node.lanes.wake_lite(&node.state.read(), &due.wake_lite);
    if !due.renew.is_empty() {
        let command =
            Command::Renew(wire::Renew { receipts: due.renew, visible_at_ms: now_ms + RENEWAL_MS });
        // What is not renewed now is looked at again.
        let _ = node.proposer.propose(&command).await;
    }
    let exhausted = due.exhausted.into_iter().map(async |receipt| {
        let command =
            Command::DeadLetter(wire::DeadLetter { receipt: Some(receipt), exhausted: true });
        if let Ok(CommandReply::Done) = node.proposer.propose(&command).await {
            ack::count_dead_letter(node, (receipt.group_id, receipt.topic_id));
        }
    });
    futures::future::join_all(exhausted).await;
}

fn gather(node: &Node, state: &State, term: u64, now_ms: u64) -> Due {
    let mut due = Due::default();
    for (ids, consumption) in &state.consumptions {
        let max_attempts = state.groups.get(&ids.0).map_or(u32::MAX, |group| group.max_attempts);
        let mut waiting = false;
        let lane = node.lanes.lane(term, *ids);
        for (visible_at, queue_id, offset) in consumption.due.iter().take(DUE_MAX) {
            if *visible_at > now_ms + RENEW_BEFORE_MS {
                break;
            }
            let Some(record) = consumption.inflight(*queue_id, *offset) else {
                continue;
            };
            let receipt = wire::Receipt {
                group_id: ids.0,
                topic_id: ids.1,
                queue_id: *queue_id,
                offset: *offset,
                nonce: record.nonce,
            };
            let owner = &record.renew_client_id;
            let kept = !owner.is_empty()
                && now_ms.saturating_sub(record.first_delivery_ms) < RENEWED_FOR_MS
                && lane.is_confirmed(&receipt)
                && node.clients.is_alive(owner);
            if kept {
                due.renew.push(receipt);
            } else if *visible_at > now_ms {
                continue;
            } else if receive::is_exhausted(record, max_attempts) {
                due.exhausted.push(receipt);
            } else if state::is_lite(*queue_id) {
                due.wake_lite.push((ids.1, *queue_id));
            } else {
                waiting = true;
            }
        }
        if waiting {
            due.wake.push(*ids);
        }
    }
    due.exhausted.truncate(DUE_MAX);
    due
}
