//! Starts requests, closed loop or on schedule, and records how long they take.
//!
//! Closed loop: a fixed number of callers, each starts anew when it has its answer.
//! Open loop: request number n is due n / rate after the start. Callers take due requests in
//! order; when all callers are busy, requests wait, and their latency grows from the moment they
//! were due. So a server that stalls for a second shows a second, not one slow request.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures::future::join_all;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rustix::time::ClockId;
use tokio::sync::Semaphore;

use crate::exit::Failure;

/// Latencies are recorded with three digits, in microseconds up to five minutes.
const LATENCY_US_MAX: u64 = 300_000_000;
/// Recorders, so that callers on different processors rarely meet.
const SHARDS: usize = 16;

/// How hard to press, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    concurrency: usize,
    /// `None`: closed loop.
    requests_per_s: Option<f64>,
    warmup: Duration,
    duration: Duration,
}

/// One request about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The caller, counted from 0.
    pub caller: usize,
    /// When the request was due.
    pub intended: Instant,
}

/// What came of a load.
#[derive(Debug)]
pub struct Measured {
    /// Requests that succeeded.
    pub requests: u64,
    /// Messages in them.
    pub messages: u64,
    /// Requests that failed, by cause.
    pub errors: BTreeMap<&'static str, u64>,
    /// Requests that were due and never made, for lack of a free caller.
    pub not_started: u64,
    /// Of requests that succeeded.
    pub latencies: Histogram<u64>,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// Processor time of this process meanwhile.
    pub cpu: Duration,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            requests: 0,
            messages: 0,
            errors: BTreeMap::new(),
            not_started: 0,
            latencies: histogram(),
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
        }
    }
}

impl Plan {
    /// A rate of 0 makes a closed loop.
    pub fn new(
        concurrency: u32,
        requests_per_s: f64,
        warmup_seconds: f64,
        seconds: f64,
    ) -> Result<Self, Failure> {
        let span = |name: &str, seconds: f64| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|error| Failure::usage(format!("{name} {seconds}: {error}")))
        };
        if !(0.0..=10e6).contains(&requests_per_s) {
            return Err(Failure::usage("--rate must be between 0 and ten million requests/s"));
        }
        Ok(Self {
            concurrency: concurrency as usize,
            requests_per_s: (requests_per_s > 0.0).then_some(requests_per_s),
            warmup: span("--warmup-seconds", warmup_seconds)?,
            duration: span("--seconds", seconds)?,
        })
    }

    /// Runs `operation`, which returns the number of messages or the cause of its failure, until
    /// the time is over, and waits for the last answers.
    pub async fn run<F, Fut>(&self, operation: F) -> Measured
    where
        F: Fn(Turn) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<u64, &'static str>> + Send + 'static,
    {
        let start = Instant::now();
        let measure_from = start + self.warmup;
        let end = measure_from + self.duration;
        let pace = Arc::new(Pace::start(self.requests_per_s, start, end));
        let recorder = Arc::new(Recorder::new(measure_from));
        let call = |caller| {
            let (pace, recorder) = (Arc::clone(&pace), Arc::clone(&recorder));
            let operation = operation.clone();
            tokio::spawn(async move {
                while let Some(intended) = pace.next().await {
                    let result = operation(Turn { caller, intended }).await;
                    recorder.record(caller, intended, result);
                }
            })
        };
        let calls: Vec<_> = (0..self.concurrency).map(call).collect();
        let cpu = async {
            tokio::time::sleep_until(measure_from.into()).await;
            let before = cpu_time();
            tokio::time::sleep_until(end.into()).await;
            cpu_time().saturating_sub(before)
        };
        let (cpu, _) = tokio::join!(cpu, join_all(calls));
        let mut measured = recorder.sum();
        measured.not_started = pace.not_started();
        measured.cpu = cpu;
        measured
    }
}

/// Tells callers when to start.
enum Pace {
    Closed { end: Instant },
    Open(Arc<Schedule>),
}

struct Schedule {
    start: Instant,
    requests_per_s: f64,
    count: u64,
    taken: AtomicU64,
    /// One permit for each request that is due and not taken; closed when the time is over.
    due: Semaphore,
}

impl Pace {
    fn start(requests_per_s: Option<f64>, start: Instant, end: Instant) -> Self {
        let Some(requests_per_s) = requests_per_s else { return Pace::Closed { end } };
        let schedule = Arc::new(Schedule {
            start,
            requests_per_s,
            count: ((end - start).as_secs_f64() * requests_per_s).ceil() as u64,
            taken: AtomicU64::new(0),
            due: Semaphore::new(0),
        });
        let paced = Arc::clone(&schedule);
        // A thread of its own, as the timers of tokio tick once a millisecond only. It ends with
        // the schedule.
        std::thread::spawn(move || paced.release(end));
        Pace::Open(schedule)
    }

    /// When the next request was due, once it is; `None` when the time is over.
    async fn next(&self) -> Option<Instant> {
        match self {
            Pace::Closed { end } => Some(Instant::now()).filter(|now| now < end),
            Pace::Open(schedule) => {
                schedule.due.acquire().await.ok()?.forget();
                let number = schedule.taken.fetch_add(1, Ordering::Relaxed);
                Some(schedule.due_at(number))
            }
        }
    }

    fn not_started(&self) -> u64 {
        match self {
            Pace::Closed { .. } => 0,
            Pace::Open(schedule) => {
                schedule.count.saturating_sub(schedule.taken.load(Ordering::Relaxed))
            }
        }
    }
}

impl Schedule {
    fn due_at(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.requests_per_s)
    }

    fn release(&self, end: Instant) {
        let mut released = 0;
        while released < self.count {
            std::thread::sleep(self.due_at(released).saturating_duration_since(Instant::now()));
            let due = (self.start.elapsed().as_secs_f64() * self.requests_per_s) as u64 + 1;
            let due = due.min(self.count);
            self.due.add_permits(due.saturating_sub(released) as usize);
            released = released.max(due);
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        self.due.close();
    }
}

struct Recorder {
    measure_from: Instant,
    shards: Vec<Mutex<Shard>>,
}

struct Shard {
    requests: u64,
    messages: u64,
    errors: BTreeMap<&'static str, u64>,
    latencies: Histogram<u64>,
    last: Option<Instant>,
}

impl Recorder {
    fn new(measure_from: Instant) -> Self {
        let shard = || {
            Mutex::new(Shard {
                requests: 0,
                messages: 0,
                errors: BTreeMap::new(),
                latencies: histogram(),
                last: None,
            })
        };
        Self { measure_from, shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    fn record(&self, caller: usize, intended: Instant, result: Result<u64, &'static str>) {
        if intended < self.measure_from {
            return;
        }
        let now = Instant::now();
        let mut shard = self.shards[caller % SHARDS].lock();
        shard.last = Some(now);
        match result {
            Ok(messages) => {
                shard.requests += 1;
                shard.messages += messages;
                record(&mut shard.latencies, now - intended);
            }
            Err(cause) => *shard.errors.entry(cause).or_default() += 1,
        }
    }

    fn sum(&self) -> Measured {
        let mut sum = Measured::default();
        for shard in &self.shards {
            let shard = shard.lock();
            sum.requests += shard.requests;
            sum.messages += shard.messages;
            for (cause, count) in &shard.errors {
                *sum.errors.entry(cause).or_default() += count;
            }
            merge(&mut sum.latencies, &shard.latencies);
            let elapsed = shard.last.map(|last| last.saturating_duration_since(self.measure_from));
            sum.elapsed = sum.elapsed.max(elapsed.unwrap_or_default());
        }
        sum
    }
}

/// An empty histogram of microseconds.
pub fn histogram() -> Histogram<u64> {
    // The bounds are valid: 1 <= low, 2 * low <= high, at most 5 digits.
    #[expect(clippy::expect_used, reason = "constant arguments, see above")]
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constant bounds")
}

/// Records a latency; one beyond the bounds counts as the bound.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(us.max(1));
}

/// Adds what `from` holds. Both have the same bounds, so nothing can be out of range.
pub fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    let _in_range = into.add(from);
}

/// Processor time this process has used, in user and kernel mode.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn plan(concurrency: u32, rate: f64) -> Plan {
        Plan::new(concurrency, rate, 0.0, 0.3).unwrap()
    }

    #[tokio::test]
    async fn a_closed_loop_keeps_all_callers_busy() {
        let measured = plan(4, 0.0)
            .run(|_| async {
                tokio::time::sleep(10 * MS).await;
                Ok(2)
            })
            .await;
        assert!(measured.requests > 4, "{}", measured.requests);
        assert_eq!(measured.messages, 2 * measured.requests);
        assert!(measured.latencies.min() >= 10_000);
        assert!(measured.errors.is_empty());
    }

    #[tokio::test]
    async fn an_open_loop_makes_as_many_requests_as_were_due() {
        let measured = plan(8, 200.0).run(|_| async { Ok(1) }).await;
        assert_eq!(measured.requests + measured.not_started, 60);
        assert!(measured.requests >= 30, "{}", measured.requests);
    }

    #[tokio::test]
    async fn a_stall_shows_in_the_latency_of_everything_that_was_due_meanwhile() {
        // One caller that needs 100 ms for each request, while one is due every 10 ms.
        let measured = plan(1, 100.0)
            .run(|_| async {
                tokio::time::sleep(100 * MS).await;
                Ok(1)
            })
            .await;
        assert!(measured.latencies.max() >= 250_000, "{}", measured.latencies.max());
        assert!(measured.not_started > 20, "{}", measured.not_started);
    }

    #[tokio::test]
    async fn failures_are_counted_by_cause() {
        let measured = plan(1, 100.0).run(|_| async { Err("timeout") }).await;
        assert_eq!(measured.requests, 0);
        assert_eq!(measured.errors.keys().collect::<Vec<_>>(), [&"timeout"]);
        assert_eq!(measured.latencies.len(), 0);
    }

    #[test]
    fn rates_and_times_are_checked() {
        assert!(Plan::new(1, f64::NAN, 0.0, 1.0).is_err());
        assert!(Plan::new(1, -1.0, 0.0, 1.0).is_err());
        assert!(Plan::new(1, 1.0, 0.0, -1.0).is_err());
    }
}
