//! A run in equal parts of time, small enough to be drawn.

use serde::Serialize;

use super::invocation::Invocation;
use super::messages::Messages;
use crate::history::{Action, Phase};

/// Counts for each bucket of `bucket_us`; bucket 0 begins with the run. Operations count in the
/// bucket in which they ended; those that never did in the one in which they began.
#[derive(Debug, Default, Serialize)]
pub(super) struct Timeline {
    /// Length of a bucket.
    pub bucket_us: u64,
    /// Sends begun.
    pub begun: Vec<u32>,
    /// Sends acknowledged.
    pub ok: Vec<u32>,
    /// Sends that failed.
    pub failed: Vec<u32>,
    /// Sends of unknown outcome.
    pub unknown: Vec<u32>,
    /// Longest time to an acknowledgement.
    pub latency_max_us: Vec<u64>,
    /// Times to acknowledgements: pairs of bin and count; see [`bin`].
    pub latency_bins: Vec<Vec<u32>>,
    /// Messages handed to consumers.
    pub received: Vec<u32>,
    /// Deliveries acknowledged by consumers.
    pub acked: Vec<u32>,
    /// At the end of the bucket: acknowledged messages that a group has not got yet, of all groups.
    pub backlog: Vec<u32>,
}

/// Buckets of a time line: enough to zoom in, few enough for a small file.
const BUCKETS_MAX: u64 = 2400;

/// Bins of a latency histogram in each doubling: a bin is 9 % wide.
pub(super) const BINS_PER_OCTAVE: u32 = 8;

/// The bin of a latency: the floor of 8 · log2 of its microseconds.
fn bin(latency_us: u64) -> u32 {
    ((latency_us.max(1) as f64).log2() * f64::from(BINS_PER_OCTAVE)) as u32
}

/// Smallest of 1, 2, 5, 10, … milliseconds of which [`BUCKETS_MAX`] cover the run.
fn bucket_us(horizon_us: u64) -> u64 {
    let mut decade_us = 1000_u64;
    loop {
        for bucket_us in [decade_us, 2 * decade_us, 5 * decade_us] {
            if horizon_us <= bucket_us.saturating_mul(BUCKETS_MAX) {
                return bucket_us;
            }
        }
        decade_us *= 10;
    }
}

impl Timeline {
    /// Of a run that lasted `horizon_us`.
    pub fn new(horizon_us: u64, invocations: &[Invocation<'_>], messages: &Messages<'_>) -> Self {
        let bucket_us = bucket_us(horizon_us);
        let count = (horizon_us / bucket_us + 1) as usize;
        let zeros = || vec![0; count];
        let mut timeline = Self {
            bucket_us,
            begun: zeros(),
            ok: zeros(),
            failed: zeros(),
            unknown: zeros(),
            latency_max_us: vec![0; count],
            latency_bins: vec![Vec::new(); count],
            received: zeros(),
            acked: zeros(),
            backlog: zeros(),
        };
        for invocation in invocations {
            timeline.add(invocation);
        }
        timeline.latency_bins.iter_mut().for_each(|bins| *bins = pairs(bins));
        timeline.fill_backlog(messages);
        timeline
    }

    fn place(&self, time_ns: u64) -> usize {
        ((time_ns / 1000 / self.bucket_us) as usize).min(self.ok.len() - 1)
    }

    fn add(&mut self, invocation: &Invocation<'_>) {
        let end = self.place(invocation.settled_ns());
        match (&invocation.last().action, invocation.outcome()) {
            (Action::Send { .. }, outcome) => {
                let begin = self.place(invocation.begin.time_ns);
                self.begun[begin] += 1;
                match outcome {
                    Phase::Ok => {
                        let took_us = invocation.took_us().unwrap_or(0);
                        self.ok[end] += 1;
                        self.latency_max_us[end] = self.latency_max_us[end].max(took_us);
                        self.latency_bins[end].push(bin(took_us));
                    }
                    Phase::Fail => self.failed[end] += 1,
                    _ => self.unknown[end] += 1,
                }
            }
            (Action::Receive { deliveries, .. }, Phase::Ok) => {
                self.received[end] += deliveries.len() as u32;
            }
            (Action::Ack { .. }, Phase::Ok) => self.acked[end] += 1,
            _ => {}
        }
    }

    fn fill_backlog(&mut self, messages: &Messages<'_>) {
        let mut changes = vec![0_i64; self.backlog.len()];
        for message in &messages.all {
            if message.send.outcome() != Phase::Ok {
                continue;
            }
            let sent_ns = message.send.settled_ns();
            for (group, topic) in &messages.subscriptions {
                if *topic != message.topic {
                    continue;
                }
                let got = message.deliveries.iter().find(|delivered| delivered.group == *group);
                // A consumer may be faster than the acknowledgement.
                if got.is_some_and(|got| got.first_ns <= sent_ns) {
                    continue;
                }
                changes[self.place(sent_ns)] += 1;
                if let Some(got) = got {
                    changes[self.place(got.first_ns)] -= 1;
                }
            }
        }
        let mut waiting = 0;
        for (backlog, change) in self.backlog.iter_mut().zip(changes) {
            waiting += change;
            *backlog = u32::try_from(waiting).unwrap_or(0);
        }
    }
}

/// Bins, each with how often it comes, as one list.
fn pairs(bins: &mut [u32]) -> Vec<u32> {
    bins.sort_unstable();
    bins.chunk_by(|a, b| a == b).flat_map(|same| [same[0], same.len() as u32]).collect()
}
