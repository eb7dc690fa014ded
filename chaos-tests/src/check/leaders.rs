//! One leader in each term, and no node that forgets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::judge::Judge;
use super::view::{Status, View};
use super::window::{may_be_emptied, may_have_restarted};
use super::{Checker, Expectations, Finding};

/// In each term at most one node leads and all nodes believe in the same one. A node's term never
/// goes back unless its disk was emptied. Its commit index, which it keeps in memory only, goes back
/// at most when it was started anew; what it had applied it knew committed by its next status.
///
/// A status is not read at one moment: its applied index may be some entries ahead of its commit
/// index, so it is compared with the commit index of the next status as well.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Leaders);
    let terms = leaders_of_terms(view, &mut judge);
    beliefs(view, &mut judge);
    let mut last: HashMap<&str, &Status<'_>> = HashMap::new();
    for status in &view.statuses {
        if let Some(before) = last.insert(status.node, status) {
            judge_step(view, expect, before, status, &mut judge);
        }
    }
    judge.count("statuses", view.statuses.len());
    judge.count("terms_with_leader", terms);
    judge.figure("term_max", view.statuses.iter().map(|one| one.term).max().unwrap_or(0) as f64);
    if view.statuses.is_empty() {
        judge.unknown("no status was read");
    } else if terms == 0 {
        judge.unknown("nobody was seen to lead");
    }
    judge.finish(format!("{} statuses, {terms} terms with a leader", view.statuses.len()))
}

/// Returns how many terms were seen to have a leader.
fn leaders_of_terms(view: &View<'_>, judge: &mut Judge) -> usize {
    let mut leaders: BTreeMap<u64, BTreeMap<&str, u64>> = BTreeMap::new();
    for status in view.statuses.iter().filter(|status| status.role == "leader") {
        let of_term = leaders.entry(status.term).or_default();
        of_term.entry(status.node).or_insert(status.event.index);
    }
    for (term, nodes) in leaders.iter().filter(|(_, nodes)| nodes.len() > 1) {
        let names: Vec<&str> = nodes.keys().copied().collect();
        let text = format!("term {term} has leaders {}", names.join(" and "));
        judge.violation(text, nodes.values().copied());
    }
    leaders.len()
}

fn beliefs(view: &View<'_>, judge: &mut Judge) {
    let mut first: BTreeMap<u64, &Status<'_>> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for status in view.statuses.iter().filter(|status| status.leader_id != 0) {
        let one = *first.entry(status.term).or_insert(status);
        if one.leader_id != status.leader_id && told.insert((status.term, status.leader_id)) {
            let (term, believed, other) = (status.term, one.leader_id, status.leader_id);
            let (node, other_node) = (one.node, status.node);
            let text = format!("in term {term} {node} follows {believed} and {other_node} {other}");
            judge.violation(text, [one.event.index, status.event.index]);
        }
    }
}

fn judge_step(
    view: &View<'_>,
    expect: &Expectations,
    before: &Status<'_>,
    status: &Status<'_>,
    judge: &mut Judge,
) {
    let node = status.node;
    let between = (before.event.time_ns, status.event.time_ns);
    let lines = [before.event.index, status.event.index];
    if status.term < before.term && !may_be_emptied(&view.windows, node, between) {
        let text = format!("the term of {node} went back from {} to {}", before.term, status.term);
        judge.violation(text, lines);
    }
    let restarting = expect.restarting_faults.as_ref();
    let restarted = || may_have_restarted(&view.windows, restarting, node, between);
    let (from, to) = (before.commit_index, status.commit_index);
    if to < from && !restarted() {
        judge.violation(format!("the commit index of {node} went back from {from} to {to}"), lines);
    }
    let applied = before.applied_index;
    if applied > from.max(to) && !restarted() {
        let text =
            format!("{node} has applied {applied} and knows at most {} committed", from.max(to));
        judge.violation(text, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events), &Expectations::default())
    }

    fn texts(history: &History) -> Vec<String> {
        judged(history).violations.into_iter().map(|violation| violation.text).collect()
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good());
        assert_eq!((finding.verdict, finding.figures["terms_with_leader"]), (Verdict::Pass, 2.0));
    }

    #[test]
    fn two_leaders_in_a_term_are_found_however_far_apart() {
        let mut history = History::new();
        history.status("n1", "leader", 3, 1, 1).status("n1", "leader", 4, 1, 1);
        history.status("n2", "candidate", 3, 1, 1).status("n2", "leader", 3, 1, 1);
        let finding = judged(&history);
        assert_eq!(texts(&history), ["term 3 has leaders n1 and n2"]);
        assert_eq!(finding.violations[0].events, [0, 3]);
    }

    #[test]
    fn an_old_leader_that_has_not_noticed_is_no_second_one() {
        let mut history = History::new();
        history.status("n2", "leader", 4, 1, 1).status("n1", "leader", 3, 1, 1);
        assert_eq!(judged(&history).verdict, Verdict::Pass);
    }

    #[test]
    fn nodes_that_follow_different_leaders_in_one_term_are_found() {
        let mut history = History::new();
        history.status("n1", "leader", 3, 1, 1).status("n3", "follower", 3, 1, 1);
        for (event, id) in history.events.iter_mut().zip([1, 2]) {
            if let crate::history::Action::Status { leader_id, .. } = &mut event.action {
                *leader_id = id;
            }
        }
        assert_eq!(texts(&history), ["in term 3 n1 follows 1 and n3 2"]);
    }

    #[test]
    fn a_term_goes_back_only_with_its_disk() {
        let mut history = History::new();
        history.status("n1", "leader", 3, 1, 1).fault_begins("kill", "n1");
        history.status("n1", "follower", 2, 1, 1);
        assert_eq!(texts(&history), ["the term of n1 went back from 3 to 2"]);
        let mut history = History::new();
        history.status("n1", "leader", 3, 1, 1).fault_begins("emptied-disk", "n1");
        history.status("n1", "follower", 0, 0, 0);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn a_commit_index_goes_back_only_with_its_process() {
        let mut history = History::new();
        history.status("n1", "leader", 3, 9, 9).status("n1", "leader", 3, 8, 8);
        let back = "the commit index of n1 went back from 9 to 8";
        assert_eq!(texts(&history)[0], back);
        let mut history = History::new();
        history.status("n1", "leader", 3, 9, 9).fault_begins("pause", "n1");
        history.status("n1", "leader", 3, 8, 8);
        assert_eq!(texts(&history), [""; 0]);
        let expect = Expectations { restarting_faults: Some([].into()), ..Expectations::default() };
        let finding = check(&View::new(&history.events), &expect);
        assert_eq!(finding.violations[0].text, back);
    }

    #[test]
    fn nothing_is_applied_before_it_is_committed() {
        let mut history = History::new();
        history.status("n1", "leader", 3, 4, 6).status("n1", "leader", 3, 6, 6);
        assert_eq!(texts(&history), [""; 0]);
        history.status("n1", "leader", 3, 6, 9).status("n1", "leader", 3, 8, 8);
        assert_eq!(texts(&history), ["n1 has applied 9 and knows at most 8 committed"]);
    }

    #[test]
    fn without_a_leader_it_is_unknown() {
        let mut history = History::new();
        history.status("n1", "follower", 3, 4, 4);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
