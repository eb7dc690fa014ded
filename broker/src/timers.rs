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
/// Pause after a failure, as when leadership was lost on the way.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

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
    let mut next_due = node.next_due.clone();
    loop {
        let term = node.until_leading().await;
        let next_due_ms = *next_due.borrow_and_update();
        let forgotten = planted(Bug::TimersForgotten) && term > 1;
        let early_ms = if planted(Bug::TimerFiresEarly) { EARLY_MS } else { 0 };
        let now_ms = clock::not_before(node.state.read().time_ms) + early_ms;
        if next_due_ms > now_ms || forgotten {
            tokio::select! {
                changed = next_due.changed() => if changed.is_err() { return },
                () = sleep_until_due(next_due_ms, now_ms), if !forgotten => (),
                () = node.until_not_leading(term) => (),
            }
            continue;
        }
        match fire(node, now_ms).await {
            Ok(fired) => note(node, fired),
            Err(error) => {
                tracing::debug!(%error, "what is due will be tried again");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

/// The leader's time may run a little slower than the clock that is slept by: a short look more.
async fn sleep_until_due(next_due_ms: u64, now_ms: u64) {
    if next_due_ms == u64::MAX {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(next_due_ms - now_ms)).await;
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
    let lateness = metrics::histogram!("raftmq_delay_lateness_seconds", node.labels(&[]));
    for late_ms in fired.late_ms {
        lateness.record(late_ms as f64 / 1e3);
    }
    for topic_id in fired.given_up {
        transaction::count_given_up(node, topic_id);
    }
    if !fired.checks.is_empty() {
        tokio::spawn(transaction::check_back(node.clone(), fired.checks));
    }
}
