//! Virtual clocks.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

pub use tokio::time::Instant;

use super::Process;

/// Wall clock at the start of a run, seconds since 1970.
const START_S: u64 = 1_790_000_000;

static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

/// Time since the start of the run. The first call is the start.
pub fn elapsed() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// The wall clock of this node, which a fault may have set wrong.
pub fn wall() -> SystemTime {
    let right = UNIX_EPOCH + Duration::from_secs(START_S) + elapsed();
    let wrong_ms = Process::try_current().map_or(0, |process| process.clock_wrong_ms());
    if wrong_ms >= 0 {
        right + Duration::from_millis(wrong_ms.unsigned_abs())
    } else {
        right - Duration::from_millis(wrong_ms.unsigned_abs())
    }
}
