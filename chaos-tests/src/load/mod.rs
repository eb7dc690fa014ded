//! Workloads: what applications do with a cluster while it is broken, recorded as a history.
//!
//! A workload is done by the native client, which can tell what certainly had no effect, or by an
//! official one ([`Official`]), which is a process of its own. What the client library does not do
//! (message groups, delays, transactions, pulling), `native.rs` does on the wire.
//!
//! A workload names the topics and groups it needs and starts its tasks. These send until `stop`, and
//! consume until `end`; all bounded by the request time-outs of the client.
//!
//! A further workload is one more file here, with a checker for what it promises.

mod admin;
mod churn;
mod dead_letters;
mod delay;
mod fifo;
mod flood;
mod lite;
mod member;
mod native;
mod observe;
mod official;
mod pull;
mod queue;
mod redelivery;
mod retried;
mod transactions;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raftmq_proto::raftmq as wire;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::admin::Admin;
pub use self::churn::Churn;
pub use self::dead_letters::DeadLetters;
pub use self::delay::Delay;
pub use self::fifo::Fifo;
pub use self::flood::{Flood, Surge, SurgeCounts};
pub use self::lite::Lite;
pub(crate) use self::native::send_one;
pub use self::observe::{observe, progress};
pub(crate) use self::observe::{read_everything, status, undecided};
pub use self::official::Official;
pub use self::pull::Pull;
pub use self::queue::Queue;
pub use self::redelivery::Redelivery;
pub use self::retried::Retried;
pub use self::transactions::Transactions;
use crate::history::Recorder;

/// What the tasks of a workload are given.
#[derive(Clone)]
pub struct Context {
    /// Where everything is written down.
    pub recorder: Recorder,
    /// Name servers, `host:port`.
    pub endpoints: Vec<String>,
    /// Admin services of the brokers, `host:port`.
    pub admin: Vec<String>,
    /// Where clients reach the brokers, `host:port`.
    pub brokers: Vec<String>,
    /// Where chance begins.
    pub seed: u64,
    /// When [`Flood`] sends.
    pub surge: Arc<Surge>,
    /// No new work after this.
    pub stop: CancellationToken,
    /// No further consuming after this.
    pub end: CancellationToken,
    /// Who is not yet ready holds a token of it: the run's warm-up begins after.
    pub starting: TaskTracker,
    /// Who may still send, or waits for an answer, holds a token of it: only then it can be told
    /// whether everything is consumed.
    pub sending: TaskTracker,
    /// What went wrong with programs that a workload runs.
    pub failures: Failures,
    /// Where a workload may leave files.
    pub directory: PathBuf,
}

/// Sentences about programs of a workload that did not do what they had to. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<Mutex<Vec<String>>>);

impl Failures {
    /// One more.
    pub fn note(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// All so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One kind of work.
pub trait Workload: Send + Sync {
    /// Its name, as in `chaos list`.
    fn name(&self) -> &'static str;

    /// Topics that must exist.
    fn topics(&self) -> Vec<String>;

    /// Consumer groups that must exist, each with the topic it consumes.
    fn groups(&self) -> Vec<(String, String)>;

    /// How its topics are made: unless it says otherwise, for normal messages.
    fn make_topics(&self) -> Vec<wire::CreateTopicRequest> {
        let make = |name| wire::CreateTopicRequest { name, ..Default::default() };
        self.topics().into_iter().map(make).collect()
    }

    /// How its groups are made: unless it says otherwise, as the broker makes them.
    fn make_groups(&self) -> Vec<wire::CreateGroupRequest> {
        let make = |(name, _)| wire::CreateGroupRequest { name, ..Default::default() };
        self.groups().into_iter().map(make).collect()
    }

    /// Builds what it needs, before the run's clock starts.
    ///
    /// # Errors
    /// It can not be built here.
    fn prepare(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Starts it. All tasks end soon after `end` of the context.
    fn start(&self, context: &Context) -> JoinSet<()>;
}

/// Hands out turns at a steady rate: an open loop, which does not slow down with the server.
struct Pace {
    begin: Instant,
    rate_per_s: f64,
    next: std::sync::atomic::AtomicU64,
}

impl Pace {
    fn new(rate_per_s: f64) -> Self {
        Self { begin: Instant::now(), rate_per_s, next: 0.into() }
    }

    /// Waits until the next turn is due, and returns its number. `None` after `stop`.
    async fn turn(&self, stop: &CancellationToken) -> Option<u64> {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let due = self.begin + Duration::from_secs_f64(number as f64 / self.rate_per_s);
        tokio::select! {
            () = stop.cancelled() => None,
            () = tokio::time::sleep_until(due) => Some(number),
        }
    }
}

/// Tries `start` until it succeeds or `stop`: a client may begin in the middle of a fault.
async fn started<T, E, F: Future<Output = Result<T, E>>>(
    stop: &CancellationToken,
    mut start: impl FnMut() -> F,
) -> Option<T> {
    loop {
        if let Ok(client) = start().await {
            return Some(client);
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_millis(200)) => (),
        }
    }
}
