//! Replicas that applied the same log have the same state.

use std::collections::HashMap;

use super::judge::Judge;
use super::view::{Status, View};
use super::{Checker, Expectations, Finding};

/// At any time, nodes at the same applied index have the same state hash; after the mark `drained`
/// the last status of every replica shows the same index. Index 0 is passed over: it stands for a node
/// that applied nothing as well as for one that applied the first entry.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Replicas);
    let indexes = judge_hashes(view, &mut judge);
    judge.count("applied_indexes_compared", indexes);
    let replicas = view.replicas(&expect.replicas);
    judge.count("replicas", replicas.len());
    let looked_at = format!("{} replicas, {indexes} applied indexes seen twice", replicas.len());
    let Some(drained) = view.mark("drained") else {
        judge.unknown("there is no mark `drained`");
        return judge.finish(looked_at);
    };
    let mut last: HashMap<&str, &Status<'_>> = HashMap::new();
    for status in view.statuses.iter().filter(|status| status.event.index > drained.index) {
        last.insert(status.node, status);
    }
    for node in replicas.iter().filter(|node| !last.contains_key(*node)) {
        judge.unknown(format!("{node} told no status after the drain"));
    }
    if replicas.len() < 2 {
        judge.unknown("fewer than two replicas were seen");
    }
    let reached: Vec<&&Status<'_>> = replicas.iter().filter_map(|node| last.get(node)).collect();
    if reached.windows(2).any(|pair| pair[0].applied_index != pair[1].applied_index) {
        let named = |status: &&&Status<'_>| format!("{} at {}", status.node, status.applied_index);
        let at: Vec<String> = reached.iter().map(named).collect();
        judge.unknown(format!("the replicas have not reached the same index: {}", at.join(", ")));
    }
    judge.finish(looked_at)
}

/// Returns how many indexes were seen more than once.
fn judge_hashes(view: &View<'_>, judge: &mut Judge) -> usize {
    struct First<'v> {
        status: &'v Status<'v>,
        again: bool,
        told: bool,
    }
    let mut first: HashMap<u64, First<'_>> = HashMap::new();
    for status in view.statuses.iter().filter(|status| status.applied_index > 0) {
        let one = first.entry(status.applied_index);
        let one = one.or_insert(First { status, again: false, told: false });
        one.again |= one.status.event.index != status.event.index;
        if one.status.state_hash != status.state_hash && !std::mem::replace(&mut one.told, true) {
            let (index, hash, other) =
                (status.applied_index, one.status.state_hash, status.state_hash);
            let (node, other_node) = (one.status.node, status.node);
            let text =
                format!("at index {index} {node} has state {hash:016x}, {other_node} {other:016x}");
            judge.violation(text, [one.status.event.index, status.event.index]);
        }
    }
    first.values().filter(|one| one.again).count()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;
    use crate::history::Action;

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events), &Expectations::default())
    }

    fn drained_at(indexes: [u64; 2]) -> History {
        let mut history = History::new();
        history.status("n1", "leader", 2, 3, 3).mark("drained");
        for (node, index) in ["n1", "n2"].into_iter().zip(indexes) {
            history.status(node, "follower", 2, index, index);
        }
        history
    }

    fn falsify_last_hash(history: &mut History) {
        if let Some(event) = history.events.last_mut()
            && let Action::Status { state_hash, .. } = &mut event.action
        {
            *state_hash += 1;
        }
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good());
        assert_eq!((finding.verdict, finding.figures["replicas"]), (Verdict::Pass, 3.0));
    }

    #[test]
    fn different_states_at_the_end_are_found() {
        let mut history = drained_at([9, 9]);
        falsify_last_hash(&mut history);
        let text = "at index 9 n1 has state 0000000000000117, n2 0000000000000118";
        assert_eq!(judged(&history).violations[0].text, text);
    }

    #[test]
    fn different_states_at_any_time_are_found() {
        let mut history = drained_at([9, 9]);
        history.status("n3", "follower", 2, 3, 3);
        falsify_last_hash(&mut history);
        assert_eq!(judged(&history).verdict, Verdict::Fail);
    }

    #[test]
    fn replicas_at_different_indexes_prove_nothing() {
        let finding = judged(&drained_at([9, 8]));
        assert_eq!(finding.verdict, Verdict::Unknown);
        let reason = "the replicas have not reached the same index: n1 at 9, n2 at 8";
        assert!(finding.note.ends_with(reason), "{}", finding.note);
        assert_eq!(judged(&drained_at([8, 8])).verdict, Verdict::Pass);
    }

    #[test]
    fn a_replica_that_is_silent_after_the_drain_makes_it_unknown() {
        let mut history = History::new();
        history.status("n1", "leader", 2, 3, 3).status("n2", "follower", 2, 3, 3);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
        history.mark("drained").status("n1", "leader", 2, 3, 3);
        let finding = judged(&history);
        assert!(finding.note.ends_with("n2 told no status after the drain"), "{}", finding.note);
    }
}
