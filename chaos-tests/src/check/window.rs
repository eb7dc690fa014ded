//! When faults lasted, and what they do to a node.

use std::collections::BTreeSet;

use crate::history::{Action, Event, Stage};

/// How much later than the deed the line that a fault began may be written: its targets are known
/// only afterwards.
const LATE_NS: u64 = 10_000_000_000;

/// The parameter of a fault that takes away everything some of its targets had on disk: their names.
const EMPTIED: &str = "emptied";

/// One fault from begin to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub name: &'a str,
    pub targets: &'a [String],
    pub begin: &'a Event,
    pub end: Option<&'a Event>,
    pub bit: Option<bool>,
}

impl Window<'_> {
    /// Its name and targets, for sentences.
    pub(super) fn title(&self) -> String {
        match self.targets {
            [] => self.name.to_owned(),
            targets => format!("{} of {}", self.name, targets.join(", ")),
        }
    }

    /// Its lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = u64> + use<> {
        [Some(self.begin.index), self.end.map(|end| end.index)].into_iter().flatten()
    }

    /// Whether it struck `node` at any time between two observations, not counting the first moment.
    fn touches(&self, node: &str, from_ns: u64, until_ns: u64) -> bool {
        self.targets.iter().any(|target| target == node) && self.overlaps(from_ns, until_ns)
    }

    /// Whether it gave `node` a new disk.
    fn empties(&self, node: &str) -> bool {
        emptied(self.begin).contains(&node)
    }

    fn overlaps(&self, from_ns: u64, until_ns: u64) -> bool {
        let begin_ns = self.begin.time_ns.saturating_sub(LATE_NS);
        let end_ns = self.end.map_or(u64::MAX, |end| end.time_ns);
        begin_ns <= until_ns && end_ns > from_ns
    }
}

/// All faults in the order of their begins, and the lines that end what never began.
pub(super) fn windows(events: &[Event]) -> (Vec<Window<'_>>, Vec<u64>) {
    let (mut windows, mut stray) = (Vec::<Window<'_>>::new(), Vec::new());
    // Few are open at a time, so that looking through them is cheap.
    let mut open: Vec<usize> = Vec::new();
    for event in events {
        let Action::Fault { name, targets, stage, bit, .. } = &event.action else { continue };
        if *stage == Stage::Begin {
            open.push(windows.len());
            windows.push(Window { name, targets, begin: event, end: None, bit: None });
            continue;
        }
        let same_name = |at: &usize| windows[*at].name == name;
        let same = |at: &usize| same_name(at) && windows[*at].targets == targets.as_slice();
        let found = open.iter().position(same).or_else(|| open.iter().position(same_name));
        match found {
            Some(place) => {
                let window = &mut windows[open.remove(place)];
                (window.end, window.bit) = (Some(event), *bit);
            }
            None => stray.push(event.index),
        }
    }
    (windows, stray)
}

/// Whether the process of `node` may have been started anew between two observations. Only faults do
/// that; `restarting` names those which do, absent: any may.
pub(super) fn may_have_restarted(
    windows: &[Window<'_>],
    restarting: Option<&BTreeSet<String>>,
    node: &str,
    (from_ns, until_ns): (u64, u64),
) -> bool {
    windows.iter().any(|window| {
        let restarts = restarting.is_none_or(|names| names.contains(window.name));
        (restarts || window.empties(node)) && window.touches(node, from_ns, until_ns)
    })
}

/// Whether nothing was broken between two moments, nor for `settling_ns` before them.
pub(super) fn is_calm(
    windows: &[Window<'_>],
    (from_ns, until_ns): (u64, u64),
    settling_ns: u64,
) -> bool {
    !windows.iter().any(|window| {
        let end_ns = window.end.map_or(u64::MAX, |end| end.time_ns.saturating_add(settling_ns));
        window.begin.time_ns <= until_ns && end_ns > from_ns
    })
}

/// When all is calm again after what was broken between two moments or, less than `settling_ns`, before
/// them. None: nothing was.
pub(super) fn calm_after(
    windows: &[Window<'_>],
    (from_ns, until_ns): (u64, u64),
    settling_ns: u64,
) -> Option<u64> {
    let end_ns = |window: &Window<'_>| {
        window.end.map_or(u64::MAX, |end| end.time_ns.saturating_add(settling_ns))
    };
    let broken = windows.iter().filter(|window| window.begin.time_ns <= until_ns);
    broken.map(end_ns).filter(|end_ns| *end_ns > from_ns).max()
}

/// Whether `node` may have lost its disk between two observations.
pub(super) fn may_be_emptied(
    windows: &[Window<'_>],
    node: &str,
    (from_ns, until_ns): (u64, u64),
) -> bool {
    let mut emptied = windows.iter().filter(|window| window.empties(node));
    emptied.any(|window| window.overlaps(from_ns, until_ns))
}

/// The nodes whose disks are emptied by the fault of this line.
pub(super) fn emptied(event: &Event) -> Vec<&str> {
    let Action::Fault { parameters, .. } = &event.action else { return Vec::new() };
    let names = parameters.get(EMPTIED).and_then(|names| names.as_array());
    names.into_iter().flatten().filter_map(|name| name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::History;
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn ends_find_their_begins() {
        let mut history = History::new();
        history.fault_begins("kill", "n1").fault_begins("kill", "n2").fault_begins("pause", "n3");
        history.fault_ends("kill", "n2", true).fault_ends("kill", "?", false);
        history.fault_ends("kill", "n1", true);
        let (windows, stray) = windows(&history.events);
        let seen: Vec<_> = windows.iter().map(|one| (one.title(), one.bit)).collect();
        assert_eq!(seen[0], ("kill of n1".to_owned(), Some(false)));
        assert_eq!(seen[1], ("kill of n2".to_owned(), Some(true)));
        assert_eq!(seen[2], ("pause of n3".to_owned(), None));
        assert_eq!(stray, [5]);
    }

    #[test]
    fn a_node_restarts_only_near_faults_that_name_it() {
        let mut history = History::new();
        history.at(60_000).fault_begins("kill", "n1").at(70_000).fault_ends("kill", "n1", true);
        let (windows, _) = windows(&history.events);
        let only =
            |names: &[&str]| -> BTreeSet<String> { names.iter().map(|&n| n.into()).collect() };
        let restarted = |node, from_s: u64, until_s: u64| {
            let between = (from_s * SECOND_NS, until_s * SECOND_NS);
            may_have_restarted(&windows, None, node, between)
        };
        assert!(restarted("n1", 55, 65));
        assert!(restarted("n1", 1, 200));
        assert!(!restarted("n1", 10, 40));
        assert!(!restarted("n1", 71, 80));
        assert!(!restarted("n2", 55, 65));
        let all = (0, 200 * SECOND_NS);
        assert!(may_have_restarted(&windows, Some(&only(&["kill"])), "n1", all));
        assert!(!may_have_restarted(&windows, Some(&only(&["pause"])), "n1", all));
        assert!(!may_be_emptied(&windows, "n1", all));
    }
}
