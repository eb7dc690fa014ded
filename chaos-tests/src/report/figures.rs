//! A run in numbers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::invocation::Invocation;
use super::messages::Messages;
use crate::history::{Action, Event, Phase};

/// A run in numbers. All come from the history alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Sends.
    pub sends: Outcomes,
    /// Receives, empty ones included.
    pub receives: Outcomes,
    /// Acknowledgements of deliveries.
    pub acks: Outcomes,
    /// Creations, deletions and readings of topics and groups.
    pub admin: Outcomes,
    /// Messages handed to consumers, repetitions included.
    pub delivered: u64,
    /// Of these, those of a message that the same group had got before.
    pub redelivered: u64,
    /// Bodies that were seen though nobody sent them.
    pub phantoms: u64,
    /// Acknowledged messages that nobody saw again; absent if the run was not read to its end.
    pub lost: Option<u64>,
    /// From call to acknowledgement, of acknowledged sends.
    pub send_latency: Latency,
    /// From the call of the send to the first delivery to each group.
    pub end_to_end_latency: Latency,
    /// Longest time between two acknowledged sends.
    pub write_gap_ms_max: u64,
    /// Terms in which some node said that it leads.
    pub terms_led: u64,
}

/// How operations of one kind ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Begun.
    pub begun: u64,
    /// Took effect.
    pub ok: u64,
    /// Certainly had no effect.
    pub failed: u64,
    /// May have had an effect, or never ended.
    pub unknown: u64,
}

/// A distribution of durations, in microseconds. All 0 if `count` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Durations it is about.
    pub count: u64,
    /// Half of them are not longer.
    pub p50_us: u64,
    /// 99 % of them are not longer.
    pub p99_us: u64,
    /// 99.9 % of them are not longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Latency {
    /// Of durations in any order.
    pub fn new(mut durations_us: Vec<u64>) -> Self {
        durations_us.sort_unstable();
        let rank = |share: f64| {
            let place = (share * durations_us.len() as f64).ceil() as usize;
            durations_us.get(place.saturating_sub(1)).copied().unwrap_or(0)
        };
        let count = durations_us.len() as u64;
        let (p50_us, p99_us, p999_us, max_us) = (rank(0.5), rank(0.99), rank(0.999), rank(1.0));
        Self { count, p50_us, p99_us, p999_us, max_us }
    }
}

impl Outcomes {
    fn count(&mut self, invocation: &Invocation<'_>) {
        self.begun += 1;
        match invocation.outcome() {
            Phase::Ok => self.ok += 1,
            Phase::Fail => self.failed += 1,
            _ => self.unknown += 1,
        }
    }
}

/// The figures of a history.
pub(super) fn figures(
    events: &[Event],
    invocations: &[Invocation<'_>],
    messages: &Messages<'_>,
) -> Figures {
    let mut figures = Figures::default();
    for invocation in invocations {
        match invocation.begin.action {
            Action::Send { .. } => figures.sends.count(invocation),
            Action::Receive { .. } => figures.receives.count(invocation),
            Action::Ack { .. } => figures.acks.count(invocation),
            Action::Admin { .. } => figures.admin.count(invocation),
            _ => {}
        }
    }
    let deliveries = || messages.all.iter().flat_map(|message| &message.deliveries);
    figures.delivered = deliveries().map(|delivered| delivered.count).sum();
    figures.redelivered = deliveries().map(|delivered| delivered.count - 1).sum();
    figures.phantoms = messages.phantoms.len() as u64;
    figures.lost = messages.lost().map(|lost| lost.len() as u64);
    let ok = messages.all.iter().filter(|message| message.send.outcome() == Phase::Ok);
    figures.send_latency = Latency::new(ok.filter_map(|message| message.send.took_us()).collect());
    figures.end_to_end_latency = Latency::new(end_to_end_us(messages).collect());
    let ends = acknowledged_ns(invocations);
    let gap_ns = ends.windows(2).map(|pair| pair[1] - pair[0]).max();
    figures.write_gap_ms_max = gap_ns.unwrap_or(0) / 1_000_000;
    figures.terms_led = terms_led(events);
    figures
}

/// For each message and group, the time from the call of the send to the first delivery.
pub(super) fn end_to_end_us<'a>(messages: &'a Messages<'_>) -> impl Iterator<Item = u64> + 'a {
    messages.all.iter().flat_map(|message| {
        let sent_ns = message.send.begin.time_ns;
        message.deliveries.iter().map(move |d| d.first_ns.saturating_sub(sent_ns) / 1000)
    })
}

/// When sends were acknowledged, in order, nanoseconds since the run began.
pub(super) fn acknowledged_ns(invocations: &[Invocation<'_>]) -> Vec<u64> {
    let sends = invocations.iter().filter(|i| matches!(i.begin.action, Action::Send { .. }));
    let ok = sends.filter(|send| send.outcome() == Phase::Ok);
    let mut ends: Vec<u64> = ok.map(Invocation::settled_ns).collect();
    ends.sort_unstable();
    ends
}

fn terms_led(events: &[Event]) -> u64 {
    let led = events.iter().filter_map(|event| match &event.action {
        Action::Status { term, role, .. } if role == "leader" => Some(*term),
        _ => None,
    });
    led.collect::<BTreeSet<u64>>().len() as u64
}
