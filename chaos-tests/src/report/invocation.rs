//! The two lines of an operation, put together.

use std::collections::HashMap;

use crate::history::{Event, Phase};

/// One operation of one process.
#[derive(Clone, Copy)]
pub(super) struct Invocation<'a> {
    /// The line with which it began.
    pub begin: &'a Event,
    /// The line with which it ended; absent if it never did.
    pub end: Option<&'a Event>,
}

impl<'a> Invocation<'a> {
    /// How it ended. One that never did is unknown.
    pub fn outcome(&self) -> Phase {
        self.end.map_or(Phase::Unknown, |end| end.phase)
    }

    /// When it ended; of one that never did, when it began. Nanoseconds since the run began.
    pub fn settled_ns(&self) -> u64 {
        self.end.unwrap_or(self.begin).time_ns
    }

    /// How long it took, if it ended.
    pub fn took_us(&self) -> Option<u64> {
        self.end.map(|end| end.time_ns.saturating_sub(self.begin.time_ns) / 1000)
    }

    /// The more complete of its lines.
    pub fn last(&self) -> &'a Event {
        self.end.unwrap_or(self.begin)
    }

    /// Its lines, by index.
    pub fn lines(&self) -> Vec<u64> {
        [Some(self.begin), self.end].into_iter().flatten().map(|event| event.index).collect()
    }
}

/// All operations, in the order in which they began.
pub(super) fn invocations(events: &[Event]) -> Vec<Invocation<'_>> {
    let mut all: Vec<Invocation<'_>> = Vec::new();
    let mut open: HashMap<u32, usize> = HashMap::new();
    for event in events {
        match event.phase {
            Phase::Invoke => {
                open.insert(event.process, all.len());
                all.push(Invocation { begin: event, end: None });
            }
            Phase::Ok | Phase::Fail | Phase::Unknown => {
                if let Some(place) = open.remove(&event.process) {
                    all[place].end = Some(event);
                }
            }
            Phase::Info => {}
        }
    }
    all
}
