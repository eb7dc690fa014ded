//! Operations that another program did, and wrote down with the times of the machine's monotonic clock:
//! official clients, which are processes of their own.

use std::collections::BTreeSet;

use super::{Action, Event, Phase};

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// When it began: of the monotonic clock of the machine, in nanoseconds.
    pub begin_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// What was begun.
    pub begun: Action,
    /// The same with what the answer told.
    pub ended: Action,
    /// How it ended: `ok`, `fail` or `unknown`.
    pub phase: Phase,
    /// Why it failed or is unknown.
    pub error: Option<String>,
}

/// The lines of `operations`, each before that of its end. A process does one operation at a time,
/// so each takes one that is free by then, or the `next` number. Times are as given.
pub(super) fn lines(mut operations: Vec<Foreign>, next: &mut u32) -> Vec<Event> {
    operations.sort_by_key(|operation| operation.begin_ns);
    // By when they are free.
    let mut processes = BTreeSet::new();
    let mut lines = Vec::with_capacity(2 * operations.len());
    for operation in operations {
        let Foreign { begin_ns, begun, ended, phase, error, .. } = operation;
        let end_ns = operation.end_ns.max(begin_ns);
        // At the very same moment the order of lines would be left to chance.
        let free = processes.first().copied().filter(|(free_ns, _)| *free_ns < begin_ns);
        let process = match free {
            Some((free_ns, process)) => {
                processes.remove(&(free_ns, process));
                process
            }
            None => {
                *next += 1;
                *next - 1
            }
        };
        processes.insert((end_ns, process));
        let line = |time_ns, phase, action, error| Event {
            index: 0,
            time_ns,
            wall_ms: 0,
            process,
            phase,
            action,
            node: None,
            error,
        };
        lines.push(line(begin_ns, Phase::Invoke, begun, None));
        lines.push(line(end_ns, phase, ended, error));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(begin_ns: u64, end_ns: u64) -> Foreign {
        let action = Action::Mark { what: format!("{begin_ns}") };
        let (begun, ended) = (action.clone(), action);
        Foreign { begin_ns, end_ns, begun, ended, phase: Phase::Ok, error: None }
    }

    #[test]
    fn a_process_does_one_operation_at_a_time() {
        let mut next = 7;
        let lines = lines(vec![operation(30, 40), operation(0, 20), operation(10, 30)], &mut next);
        let of_begins: Vec<(u64, u32)> = lines
            .iter()
            .filter(|line| line.phase == Phase::Invoke)
            .map(|line| (line.time_ns, line.process))
            .collect();
        // The third begins when the second has ended just then, so it takes the first one's place.
        assert_eq!(of_begins, [(0, 7), (10, 8), (30, 7)]);
        assert_eq!(next, 9);
    }

    #[test]
    fn an_end_is_never_before_its_begin() {
        let lines = lines(vec![operation(30, 10)], &mut 1);
        assert_eq!((lines[0].time_ns, lines[1].time_ns), (30, 30));
    }
}
