//! Bounded waiting, and what it means when something does not come.

use std::time::{Duration, Instant};

/// The cluster did not do what it must: a finding. Every other error is the harness's own, after which
/// nothing is known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unmet(pub String);

impl Unmet {
    /// Whether an error says so of the cluster.
    pub fn is_in(error: &anyhow::Error) -> bool {
        error.chain().any(|cause| cause.is::<Self>())
    }
}

/// Returns [`Unmet`] with this text unless the condition holds.
macro_rules! must {
    ($holds:expr, $($text:tt)+) => {
        let holds: bool = $holds;
        if !holds {
            return Err($crate::Unmet(format!($($text)+)).into());
        }
    };
}
pub(crate) use must;

const PAUSE: Duration = Duration::from_millis(50);

/// Asks `attempt` until it gives a value; `what` says in the error what did not come in time.
///
/// An error of `attempt` means "not yet", the last one is part of the final error, an [`Unmet`].
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if begin.elapsed() > limit => {
                return Err(Unmet(format!("waited {limit:?} for {what}: {error:#}")).into());
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// As [`until`], of something that is known at once. May wait in any task, which an asynchronous
/// closure that borrows may not.
pub(crate) async fn until_seen<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if begin.elapsed() > limit => {
                return Err(Unmet(format!("waited {limit:?} for {what}: {error:#}")).into());
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
