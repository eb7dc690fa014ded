//! Committed entries are the same on all nodes, for ever.

use std::collections::{BTreeSet, HashMap};

use super::judge::Judge;
use super::view::View;
use super::window::emptied;
use super::{Checker, Finding};
use crate::history::{Action, Event};

/// Entries up to a commit index that their own node had told before they were read have the same
/// term and checksum wherever and whenever they are read. What lies above may still be replaced and
/// is passed over. A node whose disk was emptied has told nothing.
pub fn check(view: &View<'_>) -> Finding {
    let mut judge = Judge::new(Checker::Committed);
    let mut known: HashMap<&str, u64> = HashMap::new();
    let mut first: HashMap<u64, Seen<'_>> = HashMap::new();
    let mut compared = 0;
    let (mut read, mut nodes) = (0, BTreeSet::new());
    for event in view.events {
        emptied(event).into_iter().for_each(|node| _ = known.remove(node));
        let Some(node) = event.node.as_deref() else { continue };
        match &event.action {
            Action::Status { commit_index, .. } => {
                let known = known.entry(node).or_default();
                *known = (*known).max(*commit_index);
            }
            Action::Entry { log_index, term, crc32c } => {
                read += 1;
                if known.get(node).is_none_or(|known| log_index > known) {
                    continue;
                }
                compared += 1;
                nodes.insert(node);
                let seen = Seen { node, term: *term, crc32c: *crc32c, event };
                let one = first.entry(*log_index).or_insert(seen);
                if (one.term, one.crc32c) != (*term, *crc32c) {
                    judge.violation(
                        sentence(*log_index, one, &seen),
                        [one.event.index, event.index],
                    );
                }
            }
            _ => (),
        }
    }
    judge.count("entries", read);
    judge.count("committed_entries", compared);
    judge.count("log_indexes", first.len());
    if nodes.len() < 2 {
        judge.unknown("committed entries of fewer than two nodes were read");
    }
    let nodes = nodes.len();
    judge.finish(format!("{compared} of {read} entries read were committed, at {nodes} nodes"))
}

#[derive(Clone, Copy)]
struct Seen<'a> {
    node: &'a str,
    term: u64,
    crc32c: u32,
    event: &'a Event,
}

fn sentence(log_index: u64, one: &Seen<'_>, other: &Seen<'_>) -> String {
    let named =
        |seen: &Seen<'_>| format!("term {} crc32c {:08x} at {}", seen.term, seen.crc32c, seen.node);
    format!("log index {log_index} is committed as {} and as {}", named(one), named(other))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events))
    }

    fn two_nodes() -> History {
        let mut history = History::new();
        history.status("n1", "leader", 2, 5, 5).status("n2", "follower", 2, 4, 4);
        history
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert_eq!(finding.figures["committed_entries"], 15.0);
    }

    #[test]
    fn nodes_that_disagree_about_a_committed_entry_are_found() {
        let mut history = two_nodes();
        history.entry("n1", 4, 2, 0xA).entry("n2", 4, 2, 0xB);
        let both = "term 2 crc32c 0000000a at n1 and as term 2 crc32c 0000000b at n2";
        let finding = judged(&history);
        assert_eq!(finding.violations[0].text, format!("log index 4 is committed as {both}"));
        let mut history = two_nodes();
        history.entry("n1", 4, 2, 0xA).entry("n2", 4, 1, 0xA);
        assert_eq!(judged(&history).verdict, Verdict::Fail);
    }

    #[test]
    fn above_the_smaller_commit_index_nodes_may_differ() {
        let mut history = two_nodes();
        history.entry("n1", 5, 2, 0xA).entry("n2", 5, 1, 0xB);
        history.entry("n1", 4, 2, 0xA).entry("n2", 4, 2, 0xA);
        assert_eq!(judged(&history).verdict, Verdict::Pass);
    }

    #[test]
    fn a_committed_entry_that_changes_later_is_found() {
        let mut history = two_nodes();
        history.entry("n1", 3, 1, 0xA).fault_begins("kill", "n1").entry("n1", 3, 2, 0xB);
        assert_eq!(judged(&history).verdict, Verdict::Fail);
    }

    #[test]
    fn an_emptied_node_must_tell_anew_what_it_knows_committed() {
        let mut history = two_nodes();
        history.entry("n1", 3, 1, 0xA).entry("n2", 3, 1, 0xA).fault_begins("emptied-disk", "n2");
        history.entry("n2", 3, 2, 0xB);
        assert_eq!(judged(&history).verdict, Verdict::Pass);
        history.status("n2", "follower", 2, 3, 3).entry("n2", 3, 2, 0xB);
        assert_eq!(judged(&history).verdict, Verdict::Fail);
    }

    #[test]
    fn with_one_node_it_is_unknown() {
        let mut history = two_nodes();
        history.entry("n1", 4, 2, 0xA).entry("n1", 4, 2, 0xA);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
