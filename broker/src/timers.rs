//! The leader's clockwork: proposes that what is due happens, when it is due.
//!
//! Invariant: never early. What fires is decided by the time in the log, which this only waits for.
//!
//! Not here: what happens then (`state::apply`), asking producers (`transaction`).

use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::command::Command;
use crate::node::Node;
use crate::rpc::status::Failure;
use crate::state::CommandReply;
use crate::state::Fired;
use crate::transaction;

/// Timers of one command: what one entry may hold up others for.
const FIRE_MAX: u32 = 1000;
/// Longest sleep: a leader that was just elected looks at once, and a timer that is set for sooner
/// than the one slept for is at most this late.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// By how much the planted bug fires early.
pub(crate) const EARLY_MS: u64 = 2_000;

/// Runs until `stop`.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => (),
        () = tick(&node) => (),
    }
}

async fn tick(node: &Node) {
    loop {
        let term = node.until_leading().await;
        if planted(Bug::TimersForgotten) && term > 1 {
            tokio::time::sleep(LOOK_INTERVAL).await;
            continue;
        }
        let (next_due_ms, time_ms) = {
            let state = node.state.read();
            (state.next_due_ms, state.time_ms)
        };
        let early_ms = if planted(Bug::TimerFiresEarly) { EARLY_MS } else { 0 };
        let now_ms = clock::not_before(time_ms) + early_ms;
        if next_due_ms > now_ms {
            let wait = Duration::from_millis(next_due_ms - now_ms).min(LOOK_INTERVAL);
            tokio::time::sleep(wait).await;
            continue;
        }
        match fire(node, now_ms).await {
            Ok(fired) => note(node, fired),
            Err(error) => {
                tracing::debug!(%error, "what is due will be tried again");
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
    }
}

async fn fire(node: &Node, until_ms: u64) -> Result<Fired, Failure> {
    let config = &node.config;
    let command = Command::Fire(wire::Fire {
        until_ms,
        count: FIRE_MAX,
        check_interval_ms: config.transaction_check_interval.as_millis() as u64,
        check_max: config.transaction_check_max,
    });
    match node.proposer.propose(&command).await? {
        CommandReply::Fired(fired) => Ok(fired),
        CommandReply::Rejected(rejection) => Err(rejection.into()),
        other => panic!("a fire was answered with {other:?}"),
    }
}

fn note(node: &Node, fired: Fired) {
    metrics::counter!("raftmq_delayed_delivered_total", node.labels(&[]))
        .increment(fired.delivered);
    for topic_id in fired.given_up {
        transaction::count_given_up(node, topic_id);
    }
    if !fired.checks.is_empty() {
        tokio::spawn(transaction::check_back(node.clone(), fired.checks));
    }
}
