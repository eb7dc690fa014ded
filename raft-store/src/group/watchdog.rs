//! Steps down when the disk stalls.
//!
//! Heartbeats need no disk, so a leader whose disk hangs would keep its lease for ever. It hands
//! leadership over when its oldest append has waited too long.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;

use super::Member;
use super::leadership;
use crate::planted::Bug;
use crate::planted::planted;

const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Far above the slowest healthy flush, well below what clients wait for an answer.
const STALLED_AFTER: Duration = Duration::from_secs(2);

pub(super) async fn watch_disk(member: Arc<Member>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let waited = member.log.oldest_unflushed();
        metrics::gauge!("raftmq_log_oldest_unflushed_seconds").set(waited.as_secs_f64());
        let leads = member.raft.server_metrics().borrow_watched().state == ServerState::Leader;
        if !leads || waited < STALLED_AFTER || planted(Bug::StalledDiskIgnored) {
            continue;
        }
        tracing::error!(waited_ms = waited.as_millis(), "the disk stalls: handing leadership over");
        metrics::counter!("raftmq_disk_stalls_total").increment(1);
        if let Err(error) = leadership::transfer(&member, None).await {
            tracing::error!(error, "could not hand leadership over");
        }
    }
}
