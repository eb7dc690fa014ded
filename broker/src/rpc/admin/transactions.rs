//! Half messages whose producers have not decided.

use std::collections::BTreeMap;

use raftmq_proto::raftmq as wire;
use tonic::Status;

use super::leaders_time;
use super::limit;
use super::no_topic;
use super::reading;
use crate::node::Node;
use crate::receive;
use crate::state;

const COUNT_DEFAULT: u32 = 100;
const COUNT_MAX: u32 = 1000;

/// Half messages by the time they were stored, topic id and transaction id.
type Oldest = BTreeMap<(u64, u32, Vec<u8>), wire::HalfRecord>;

pub(super) async fn list(
    node: &Node,
    request: wire::ListTransactionsRequest,
) -> Result<wire::ListTransactionsResponse, Status> {
    let count = limit("count", request.count, COUNT_DEFAULT, COUNT_MAX)? as usize;
    let topic_id = match request.topic.as_str() {
        "" => None,
        name => {
            let state = node.state.read();
            Some(state.topic(name).ok_or_else(|| no_topic(name))?.record.id)
        }
    };
    let now_ms = leaders_time(node);
    reading(node, move |node| {
        let (oldest, total_count) = oldest(node, topic_id, count);
        let to_wire = |(key, half): (&(u64, u32, Vec<u8>), &wire::HalfRecord)| {
            transaction(node, now_ms, key, half)
        };
        let transactions = oldest.iter().map(to_wire).collect();
        Ok(wire::ListTransactionsResponse { transactions, total_count })
    })
    .await
}

/// The oldest ones, and how many there are in all.
fn oldest(node: &Node, topic_id: Option<u32>, count: usize) -> (Oldest, u64) {
    let mut total_count = 0;
    let mut oldest = Oldest::new();
    state::halves(node.group.store(), topic_id, |topic_id, transaction_id, half| {
        total_count += 1;
        oldest.insert((half.stored_ms, topic_id, transaction_id.to_vec()), half);
        if oldest.len() > count {
            oldest.pop_last();
        }
        true
    });
    (oldest, total_count)
}

fn transaction(
    node: &Node,
    now_ms: u64,
    (stored_ms, topic_id, transaction_id): &(u64, u32, Vec<u8>),
    half: &wire::HalfRecord,
) -> wire::Transaction {
    let topic = node.state.read().topics.get(topic_id).map(|topic| topic.record.name.clone());
    wire::Transaction {
        topic: topic.unwrap_or_default(),
        transaction_id: String::from_utf8_lossy(transaction_id).into_owned(),
        stored_ms: *stored_ms,
        pending_ms: now_ms.saturating_sub(*stored_ms),
        checks: half.checks,
        next_check_ms: half.timer.map_or(0, |timer| timer.due_ms),
        born_host: born_host(node, half).unwrap_or_default(),
    }
}

/// Where the message came from; `None` when it was decided meanwhile, or can not be read, which must
/// not hide the others.
fn born_host(node: &Node, half: &wire::HalfRecord) -> Option<String> {
    let (_, unit) = state::timer(node.group.store(), half.timer.as_ref()?)?;
    match receive::read(node, &unit) {
        Ok(message) => Some(message.system_properties?.born_host),
        Err(error) => {
            tracing::error!(%error, "could not read a half message");
            None
        }
    }
}
