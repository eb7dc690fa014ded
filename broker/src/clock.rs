//! The time in log entries: near the wall clock, but never jumping with it.
//!
//! Invisible times and waits are measured with it. An operator or a time service may set the wall
//! clock by an hour at any moment; messages in flight must not all come back at once then, nor stay
//! away. So the time goes on with the monotonic clock, and follows the wall clock by at most half a
//! percent: 10 s are at least 9.95, and a minute is caught up with in 200. A process that starts takes
//! the wall clock's time, which is how an operator cures a clock that was wrong by much.
//!
//! A new leader goes on from the time in its log, so that time never goes back across leaders either.
//!
//! Not here: the clocks of followers, which decide nothing.

use std::time::UNIX_EPOCH;

use parking_lot::Mutex;
use raftmq_raft_store::world::PerNode;
use raftmq_raft_store::world::time;
use raftmq_raft_store::world::time::Instant;

/// How much of the passed time the wall clock may be followed by.
const SLEW_DIVISOR: i64 = 200;

static CLOCK: PerNode<Mutex<Option<Clock>>> = PerNode::new(Mutex::new(None));

/// Milliseconds since 1970. Only leaders decide by it.
pub fn now_ms() -> u64 {
    not_before(0)
}

/// The same, but the clock goes on from `earliest_ms` if it is behind it: from the time in the log
/// that a new leader takes over. Standing still until the wall clock gets there would stop waits.
pub fn not_before(earliest_ms: u64) -> u64 {
    let (monotonic, wall_us) = (Instant::now(), wall_us());
    let earliest_us = i64::try_from(earliest_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
    CLOCK.with(|clock| {
        let mut clock = clock.lock();
        let clock = clock.get_or_insert(Clock { read_at: monotonic, time_us: wall_us });
        let passed_us = monotonic.saturating_duration_since(clock.read_at).as_micros() as i64;
        clock.advance(passed_us, wall_us);
        clock.read_at = monotonic;
        clock.time_us = clock.time_us.max(earliest_us);
        (clock.time_us / 1000) as u64
    })
}

/// The wall clock itself, which jumps: for nothing but a planted bug.
pub(crate) fn wall_ms() -> u64 {
    (wall_us() / 1000) as u64
}

struct Clock {
    read_at: Instant,
    time_us: i64,
}

impl Clock {
    fn advance(&mut self, passed_us: i64, wall_us: i64) {
        let slew_max_us = passed_us / SLEW_DIVISOR;
        let expected_us = self.time_us + passed_us;
        self.time_us = expected_us + (wall_us - expected_us).clamp(-slew_max_us, slew_max_us);
    }
}

fn wall_us() -> i64 {
    time::wall().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;
    const HOUR_US: i64 = 3600 * SECOND_US;

    fn clock() -> Clock {
        Clock { read_at: Instant::now(), time_us: HOUR_US }
    }

    #[test]
    fn a_right_clock_is_followed() {
        let mut clock = clock();
        clock.advance(SECOND_US, HOUR_US + SECOND_US);
        assert_eq!(clock.time_us, HOUR_US + SECOND_US);
    }

    #[test]
    fn a_jump_is_followed_slowly_in_both_directions() {
        let mut ahead = clock();
        ahead.advance(SECOND_US, 3 * HOUR_US);
        assert_eq!(ahead.time_us, HOUR_US + SECOND_US + SECOND_US / 200);
        let mut back = clock();
        back.advance(SECOND_US, 0);
        assert_eq!(back.time_us, HOUR_US + SECOND_US - SECOND_US / 200);
    }

    #[test]
    fn time_never_goes_back() {
        let mut clock = clock();
        let mut before = clock.time_us;
        for wall_us in [5 * HOUR_US, 0, 2 * HOUR_US, -HOUR_US] {
            clock.advance(10, wall_us);
            assert!(clock.time_us >= before);
            before = clock.time_us;
        }
    }
}
