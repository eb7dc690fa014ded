//! Puts the two lines of an operation together.

use std::collections::HashMap;
use std::mem::discriminant;

use crate::history::{Action, Event, Phase};

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Fail,
    /// It ended so, or never ended: it may take effect at any time after its begin, or never.
    Unknown,
}

/// One operation of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    pub invoke: &'a Event,
    pub end: Option<&'a Event>,
}

impl<'a> Operation<'a> {
    pub(super) fn outcome(&self) -> Outcome {
        match self.end.map(|end| end.phase) {
            Some(Phase::Ok) => Outcome::Ok,
            Some(Phase::Fail) => Outcome::Fail,
            _ => Outcome::Unknown,
        }
    }

    pub(super) fn invoke_ns(&self) -> u64 {
        self.invoke.time_ns
    }

    /// When it had certainly taken effect. None: not known whether it did.
    pub(super) fn ok_ns(&self) -> Option<u64> {
        self.end.filter(|end| end.phase == Phase::Ok).map(|end| end.time_ns)
    }

    /// The fullest account of it: that of its end, else of its begin.
    pub(super) fn action(&self) -> &'a Action {
        &self.end.unwrap_or(self.invoke).action
    }

    /// Its lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = u64> + use<> {
        [Some(self.invoke.index), self.end.map(|end| end.index)].into_iter().flatten()
    }
}

/// All operations in the order of their begins, and the lines that end what never began.
///
/// A process that begins anew while an operation is open has given that one up: it stays unknown.
pub(super) fn pair(events: &[Event]) -> (Vec<Operation<'_>>, Vec<u64>) {
    let (mut operations, mut stray) = (Vec::<Operation<'_>>::new(), Vec::new());
    let mut open: HashMap<u32, usize> = HashMap::new();
    for event in events {
        match event.phase {
            Phase::Info => (),
            Phase::Invoke => {
                open.insert(event.process, operations.len());
                operations.push(Operation { invoke: event, end: None });
            }
            Phase::Ok | Phase::Fail | Phase::Unknown => {
                let begun = open.remove(&event.process).and_then(|at| operations.get_mut(at));
                match begun {
                    Some(begun) if ends(begun.invoke, event) => begun.end = Some(event),
                    _ => stray.push(event.index),
                }
            }
        }
    }
    (operations, stray)
}

fn ends(invoke: &Event, end: &Event) -> bool {
    discriminant(&invoke.action) == discriminant(&end.action) && end.time_ns >= invoke.time_ns
}

#[cfg(test)]
mod tests {
    use super::super::fixture::History;
    use super::*;

    #[test]
    fn begins_and_ends_of_concurrent_processes_are_paired() {
        let mut history = History::new();
        history.send_begins(1, "a").send_begins(2, "b");
        history.send_ok(2, "b", 0).send_fails(1, "a").send_begins(1, "c").send_begins(1, "d");
        let (operations, stray) = pair(&history.events);
        let seen: Vec<_> =
            operations.iter().map(|one| (one.outcome(), one.lines().count())).collect();
        let (open, none) = ((Outcome::Unknown, 1), Vec::<u64>::new());
        assert_eq!(seen, [(Outcome::Fail, 2), (Outcome::Ok, 2), open, open]);
        assert_eq!(stray, none);
    }

    #[test]
    fn an_end_without_its_begin_is_stray() {
        let mut history = History::new();
        history.send_ok(1, "a", 0);
        history.send_begins(2, "b").ack_ends(2, Phase::Ok, "g", "b", 1).send_ok(2, "b", 0);
        let (operations, stray) = pair(&history.events);
        assert_eq!(stray, [0, 2, 3]);
        assert_eq!(operations[0].outcome(), Outcome::Unknown);
    }
}
