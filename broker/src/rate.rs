//! Rate limits of topics and consumer groups, kept by the leader.
//!
//! A limit is part of the topic or group and so replicated; how much of it is used is known to the
//! leader alone. A new leader begins with nothing used, which may cost one burst.
//!
//! Each limit is a token bucket: it fills at the limit and holds one second's worth. A request that
//! wants more than a full bucket is taken when the bucket is full, and the bucket owes the rest: a
//! batch is stored all or none, and may be larger than the limit.
//!
//! Not here: what a refused request is answered (`send`), how a receive waits (`receive`).

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_raft_store::world::time::Instant;

/// Buckets kept before full ones, which are like new, are looked for and dropped.
const BUCKETS_SWEPT_AT: usize = 1024;

/// The limits that are in use, by topic or group id.
#[derive(Debug, Default)]
pub struct Rates {
    sends: Mutex<Buckets>,
    receives: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_id: HashMap<u32, Bucket>,
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Messages a second.
    rate_max: u32,
    /// May be below zero: owed.
    tokens: f64,
    filled: Instant,
}

impl Rates {
    /// Whether `count` messages may be sent to a topic now; they then count as sent.
    pub(crate) fn send(&self, topic_id: u32, rate_max: u32, count: usize) -> bool {
        rate_max == 0 || {
            let (mut sends, now) = (self.sends.lock(), Instant::now());
            sends.bucket(topic_id, rate_max, now).take_all(count)
        }
    }

    /// How many of `count` messages a group may receive now; they then count as received until
    /// [`Self::received`] says otherwise.
    ///
    /// # Errors
    /// None: after this time one may be.
    pub(crate) fn receive(
        &self,
        group_id: u32,
        rate_max: u32,
        count: usize,
    ) -> Result<usize, Duration> {
        if rate_max == 0 {
            return Ok(count);
        }
        let (mut receives, now) = (self.receives.lock(), Instant::now());
        receives.bucket(group_id, rate_max, now).take_some(count)
    }

    /// Of the `allowed` messages of a receive, `count` were received.
    pub(crate) fn received(&self, group_id: u32, rate_max: u32, allowed: usize, count: usize) {
        if rate_max != 0 && allowed != count {
            let (mut receives, now) = (self.receives.lock(), Instant::now());
            receives.bucket(group_id, rate_max, now).tokens += allowed as f64 - count as f64;
        }
    }
}

impl Buckets {
    /// The bucket of `id`, filled up to `now`.
    fn bucket(&mut self, id: u32, rate_max: u32, now: Instant) -> &mut Bucket {
        if self.by_id.len() >= BUCKETS_SWEPT_AT && !self.by_id.contains_key(&id) {
            self.by_id.retain(|_, bucket| {
                bucket.fill(now);
                bucket.tokens < f64::from(bucket.rate_max)
            });
        }
        let full = Bucket { rate_max, tokens: f64::from(rate_max), filled: now };
        let bucket = self.by_id.entry(id).or_insert(full);
        if bucket.rate_max != rate_max {
            *bucket = full;
        }
        bucket.fill(now);
        bucket
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let (rate, burst) = (f64::from(self.rate_max), f64::from(self.rate_max));
        self.tokens = (self.tokens + passed.as_secs_f64() * rate).min(burst);
        self.filled = now;
    }

    fn take_all(&mut self, count: usize) -> bool {
        let count = count as f64;
        let goes = self.tokens >= count.min(f64::from(self.rate_max));
        if goes {
            self.tokens -= count;
        }
        goes
    }

    fn take_some(&mut self, count: usize) -> Result<usize, Duration> {
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / f64::from(self.rate_max)));
        }
        let taken = count.min(self.tokens as usize);
        self.tokens -= taken as f64;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u32 = 7;

    #[test]
    fn a_burst_is_one_second_and_then_the_rate_holds() {
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        let mut taken = 0;
        // Five seconds of as many attempts as fit.
        for ms in 0..5000 {
            let now = start + Duration::from_millis(ms);
            while buckets.bucket(ID, 100, now).take_all(1) {
                taken += 1;
            }
        }
        assert!((590..=600).contains(&taken), "a burst of 100, and 5 s of 100: {taken}");
        let later = start + Duration::from_secs(3600);
        assert_eq!(buckets.bucket(ID, 100, later).take_some(1000), Ok(100), "no more is saved up");
    }

    #[test]
    fn a_batch_larger_than_the_limit_goes_and_is_owed() {
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        assert!(buckets.bucket(ID, 10, start).take_all(35));
        let at = |s: f64| start + Duration::from_secs_f64(s);
        assert!(!buckets.bucket(ID, 10, at(2.4)).take_all(1));
        assert!(buckets.bucket(ID, 10, at(2.7)).take_all(1));
        assert!(!buckets.bucket(ID, 10, at(3.0)).take_all(11), "not before the bucket is full");
    }

    #[test]
    fn a_receive_gets_what_is_left_or_a_time() {
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        assert_eq!(buckets.bucket(ID, 10, start).take_some(8), Ok(8));
        assert_eq!(buckets.bucket(ID, 10, start).take_some(8), Ok(2));
        let wait = buckets.bucket(ID, 10, start).take_some(8).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(buckets.bucket(ID, 10, start + wait).take_some(8), Ok(1));
    }

    #[test]
    fn what_was_not_received_is_given_back() {
        let rates = Rates::default();
        assert_eq!(rates.receive(ID, 10, 32), Ok(10));
        rates.received(ID, 10, 10, 0);
        assert_eq!(rates.receive(ID, 10, 32), Ok(10));
        assert!(rates.receive(ID, 10, 32).is_err());
    }

    #[test]
    fn a_new_limit_counts_at_once_and_none_is_none() {
        let rates = Rates::default();
        assert!(rates.send(ID, 1, 1));
        assert!(!rates.send(ID, 1, 1));
        assert!(rates.send(ID, 5, 5));
        assert!(!rates.send(ID, 5, 1));
        assert!(rates.send(ID, 0, 1_000_000));
    }

    #[test]
    fn full_buckets_are_dropped() {
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        for id in 0..BUCKETS_SWEPT_AT as u32 {
            buckets.bucket(id, 10, start).take_all(1);
        }
        buckets.bucket(u32::MAX, 10, start + Duration::from_secs(1));
        assert_eq!(buckets.by_id.len(), 1);
    }
}
