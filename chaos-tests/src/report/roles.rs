//! Which node said it was what, and when.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::{Action, Event};

/// What one node said of itself.
#[derive(Debug, Serialize)]
pub(super) struct NodeRoles {
    /// The node.
    pub name: String,
    /// Its roles, in order. Times in which it said nothing are missing.
    pub spans: Vec<Span>,
}

/// A time in which a node had one role in one term.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Span {
    /// From when, microseconds since the run began.
    pub from_us: u64,
    /// Until when, exclusive.
    pub to_us: u64,
    /// The role.
    pub role: String,
    /// The term.
    pub term: u64,
}

/// A node that is silent for this many of its usual intervals says nothing about the time between.
const SILENCE_INTERVALS: u64 = 4;

/// Spans of one page. A node that changes its role more often than that is shown up to there.
const SPANS_MAX: usize = 2000;

/// The roles of every node that ever said something, sorted by name.
pub(super) fn roles(events: &[Event]) -> Vec<NodeRoles> {
    let mut nodes: BTreeMap<&str, Vec<(u64, &str, u64)>> = BTreeMap::new();
    for event in events {
        if let (Action::Status { term, role, .. }, Some(node)) = (&event.action, &event.node) {
            nodes.entry(node).or_default().push((event.time_ns / 1000, role, *term));
        }
    }
    let of_node =
        |(name, seen): (&str, Vec<_>)| NodeRoles { name: name.to_owned(), spans: spans(&seen) };
    nodes.into_iter().map(of_node).collect()
}

fn spans(seen: &[(u64, &str, u64)]) -> Vec<Span> {
    let mut intervals: Vec<u64> = seen.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    intervals.sort_unstable();
    let usual_us = intervals.get(intervals.len() / 2).copied().unwrap_or(100_000).max(1);
    let mut spans: Vec<Span> = Vec::new();
    for (place, (time_us, role, term)) in seen.iter().enumerate() {
        let next_us = seen.get(place + 1).map_or(time_us + usual_us, |next| next.0);
        let silent = next_us - time_us > usual_us * SILENCE_INTERVALS;
        let to_us = if silent { time_us + usual_us } else { next_us };
        let full = spans.len() == SPANS_MAX;
        match spans.last_mut() {
            Some(last) if last.to_us == *time_us && last.role == *role && last.term == *term => {
                last.to_us = to_us;
            }
            _ if full => break,
            _ => {
                spans.push(Span { from_us: *time_us, to_us, role: (*role).to_owned(), term: *term })
            }
        }
    }
    spans
}
