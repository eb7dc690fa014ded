//! When a packet leaves a link: rate, delay, jitter, order.
//!
//! Invariant: packets leave in the order they came, except those held back on purpose.

use std::time::{Duration, Instant};

use super::fate::Fate;
use super::link::Quality;

/// How much longer than others a packet is held back that is to be overtaken. Longer than what a
/// sender of TCP waits before it takes a missing packet for lost on a fast link.
pub(super) const REORDER_HOLD: Duration = Duration::from_millis(10);

/// How long the queue before a rate limit may get, as in a small router.
const QUEUE_MAX: Duration = Duration::from_millis(200);
/// The queue may hold this much in any case: a window of TCP at its beginning.
const QUEUE_BYTES_MIN: u64 = 32 * 1024;

/// The departures of one link.
#[derive(Default)]
pub(super) struct Schedule {
    /// When the rate limit lets the next one begin.
    free_at: Option<Instant>,
    /// When the latest one leaves that was not held back.
    last: Option<Instant>,
}

impl Schedule {
    /// Whether the queue before the rate limit takes nothing more.
    pub fn full(&self, now: Instant, quality: &Quality) -> bool {
        let (Some(rate), Some(free_at)) = (quality.rate_bytes_per_s, self.free_at) else {
            return false;
        };
        free_at.saturating_duration_since(now) > QUEUE_MAX.max(duration_of(QUEUE_BYTES_MIN, rate))
    }

    /// When a packet of `length` bytes leaves that comes now.
    pub fn departure(
        &mut self,
        now: Instant,
        quality: &Quality,
        fate: &Fate,
        length: usize,
    ) -> Instant {
        let sent = match quality.rate_bytes_per_s {
            None => now,
            Some(rate) => {
                let begin = self.free_at.map_or(now, |free_at| free_at.max(now));
                let end = begin + duration_of(length as u64, rate);
                self.free_at = Some(end);
                end
            }
        };
        let arrival = sent + quality.delay + fate.jitter;
        let arrival = self.last.map_or(arrival, |last| arrival.max(last));
        if fate.held_back {
            return arrival + REORDER_HOLD;
        }
        self.last = Some(arrival);
        arrival
    }
}

fn duration_of(bytes: u64, rate_bytes_per_s: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate_bytes_per_s as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn jitter_keeps_order_and_reorder_does_not() {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        let quality = Quality { delay: 10 * MS, ..Quality::PERFECT };
        let late = Fate { jitter: 5 * MS, ..Fate::default() };
        let held = Fate { held_back: true, ..Fate::default() };
        let mut departure =
            |at, fate: &Fate| schedule.departure(now + at, &quality, fate, 100) - now;
        assert_eq!(departure(Duration::ZERO, &late), 15 * MS);
        assert_eq!(departure(MS, &Fate::default()), 15 * MS);
        assert_eq!(departure(2 * MS, &held), 15 * MS + REORDER_HOLD);
        assert_eq!(departure(6 * MS, &Fate::default()), 16 * MS);
    }

    #[test]
    fn rate_spaces_packets_and_fills_the_queue() {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        let quality = Quality { rate_bytes_per_s: Some(1_000_000), ..Quality::PERFECT };
        let mut sent = 0;
        let mut last = now;
        while !schedule.full(now, &quality) {
            last = schedule.departure(now, &quality, &Fate::default(), 1000);
            sent += 1;
        }
        assert_eq!(sent, 201);
        assert_eq!(last - now, 201 * MS);
        assert!(!schedule.full(now + 100 * MS, &quality));
    }
}
