//! Offsets of queues and of consumer groups never go back.
//!
//! Observations are compared at one node: another may lag behind it. A node that was started anew may
//! lag behind itself for a while, as it applies once more what it had not yet on disk. So the last
//! reading of all nodes is also compared with everything before it.

use std::collections::{BTreeMap, HashMap};

use super::judge::Judge;
use super::view::View;
use super::window::may_have_restarted;
use super::{Checker, Expectations, Finding};
use crate::history::{Action, Event};

const NAMES: [&str; 4] = ["commit_offset", "next_offset", "min_offset", "max_offset"];

/// For each (group, topic, queue): commit, next, min and max offset never go back at a node that was
/// not started anew; after the drain, the node that is furthest has not gone back behind anything
/// seen before; and always commit <= next <= max and min <= max. Deleted groups and topics are left
/// out.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Offsets);
    let seen = seen(view);
    seen.iter().for_each(|one| judge_alone(one, &mut judge));
    judge_nodes(view, expect, &seen, &mut judge);
    judge_end(view, &seen, &mut judge);
    let consumptions = seen.iter().map(|one| one.key).collect::<std::collections::HashSet<_>>();
    judge.count("observations", seen.len());
    judge.count("queues", consumptions.len());
    if seen.is_empty() {
        judge.unknown("no progress was read");
    }
    judge.finish(format!("{} observations of {} queues", seen.len(), consumptions.len()))
}

/// Group, topic and queue.
type Key<'a> = (&'a str, &'a str, u32);

struct Seen<'a> {
    node: &'a str,
    key: Key<'a>,
    /// In the order of [`NAMES`].
    offsets: [u64; 4],
    event: &'a Event,
}

fn seen<'a>(view: &View<'a>) -> Vec<Seen<'a>> {
    let seen = view.events.iter().filter_map(|event| match &event.action {
        Action::Progress {
            group,
            topic,
            queue_id,
            commit_offset,
            next_offset,
            min_offset,
            max_offset,
        } => Some(Seen {
            node: event.node.as_deref()?,
            key: (group, topic, *queue_id),
            offsets: [*commit_offset, *next_offset, *min_offset, *max_offset],
            event,
        }),
        _ => None,
    });
    let kept =
        |one: &Seen<'_>| !view.is_group_deleted(one.key.0) && !view.is_topic_deleted(one.key.1);
    seen.filter(kept).collect()
}

fn sentence(one: &Seen<'_>, what: &str) -> String {
    let (group, topic, queue_id) = one.key;
    format!("group {group}, topic {topic} queue {queue_id} at {}: {what}", one.node)
}

fn judge_alone(one: &Seen<'_>, judge: &mut Judge) {
    for (low, high) in [(0, 1), (1, 3), (2, 3)] {
        let [low_offset, high_offset] = [one.offsets[low], one.offsets[high]];
        if low_offset > high_offset {
            let (low, high) = (NAMES[low], NAMES[high]);
            let what = format!("{low} {low_offset} is above {high} {high_offset}");
            judge.violation(sentence(one, &what), [one.event.index]);
        }
    }
}

fn judge_nodes(view: &View<'_>, expect: &Expectations, seen: &[Seen<'_>], judge: &mut Judge) {
    let mut last: HashMap<(&str, Key<'_>), &Seen<'_>> = HashMap::new();
    for one in seen {
        let Some(before) = last.insert((one.node, one.key), one) else { continue };
        let back = (0..NAMES.len()).filter(|&which| one.offsets[which] < before.offsets[which]);
        let back: Vec<usize> = back.collect();
        let between = (before.event.time_ns, one.event.time_ns);
        let restarting = expect.restarting_faults.as_ref();
        if back.is_empty() || may_have_restarted(&view.windows, restarting, one.node, between) {
            continue;
        }
        for which in back {
            let (from, to) = (before.offsets[which], one.offsets[which]);
            let what = format!("{} went back from {from} to {to}", NAMES[which]);
            judge.violation(sentence(one, &what), [before.event.index, one.event.index]);
        }
    }
}

/// Where the furthest node stands after the drain, against the highest ever seen anywhere.
fn judge_end(view: &View<'_>, seen: &[Seen<'_>], judge: &mut Judge) {
    let Some(drained) = view.drained() else { return };
    let mut highest: HashMap<(Key<'_>, usize), &Seen<'_>> = HashMap::new();
    let mut at_end: BTreeMap<(Key<'_>, usize), &Seen<'_>> = BTreeMap::new();
    for one in seen {
        for which in 0..NAMES.len() {
            let key = (one.key, which);
            let top = highest.entry(key).or_insert(one);
            if one.offsets[which] > top.offsets[which] {
                *top = one;
            }
            if one.event.index > drained.index {
                let top = at_end.entry(key).or_insert(one);
                if one.offsets[which] > top.offsets[which] {
                    *top = one;
                }
            }
        }
    }
    for ((key, which), end) in at_end {
        let Some(top) = highest.get(&(key, which)) else { continue };
        if end.offsets[which] < top.offsets[which] {
            let (name, now, node) = (NAMES[which], end.offsets[which], top.node);
            let before = top.offsets[which];
            let what = format!("{name} is {now} after the drain and was {before} at {node} before");
            judge.violation(sentence(end, &what), [top.event.index, end.event.index]);
        }
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
        assert_eq!(judged(&History::good()).verdict, Verdict::Pass);
        let mut history = History::new();
        history.progress("n1", [0, 0, 0, 3]).progress("n2", [2, 3, 0, 3]);
        // A node that lags behind another one.
        history.progress("n1", [1, 2, 0, 3]).progress("n1", [3, 3, 2, 9]);
        let finding = judged(&history);
        assert_eq!((finding.verdict, finding.figures["observations"]), (Verdict::Pass, 4.0));
    }

    #[test]
    fn each_offset_that_goes_back_at_a_node_is_found() {
        let mut history = History::new();
        history.progress("n1", [5, 6, 2, 9]).progress("n1", [4, 5, 1, 8]);
        let end = "at n1: commit_offset went back from 5 to 4";
        assert_eq!(texts(&history)[0], format!("group g, topic t queue 0 {end}"));
        assert_eq!(texts(&history).len(), 4);
    }

    #[test]
    fn a_node_that_was_started_anew_may_lag_behind_itself() {
        let mut history = History::new();
        history.progress("n1", [5, 6, 2, 9]).fault_begins("kill", "n1");
        history.progress("n1", [4, 5, 1, 8]).fault_ends("kill", "n1", true);
        assert_eq!(texts(&history), [""; 0]);
        history.at(60_000).progress("n1", [5, 6, 2, 9]).progress("n1", [4, 6, 2, 9]);
        assert_eq!(texts(&history).len(), 1);
        // Another node's fault is no excuse.
        let mut history = History::new();
        history.progress("n1", [5, 6, 2, 9]).fault_begins("kill", "n2");
        history.progress("n1", [4, 6, 2, 9]);
        assert_eq!(texts(&history).len(), 1);
    }

    #[test]
    fn what_went_back_for_good_is_found_after_the_drain() {
        let mut history = History::new();
        history.progress("n1", [5, 5, 0, 9]).fault_begins("kill", "n1").mark("drained");
        history.progress("n1", [3, 5, 0, 9]).progress("n2", [4, 9, 0, 9]).mark("end");
        let what = "commit_offset is 4 after the drain and was 5 at n1 before";
        assert_eq!(texts(&history), [format!("group g, topic t queue 0 at n2: {what}")]);
    }

    #[test]
    fn offsets_in_the_wrong_order_are_found() {
        let mut history = History::new();
        history.progress("n1", [3, 2, 0, 9]).progress("n2", [1, 10, 0, 9]);
        history.progress("n3", [1, 1, 10, 9]);
        let texts = texts(&history);
        assert!(texts[0].ends_with("commit_offset 3 is above next_offset 2"));
        assert!(texts[1].ends_with("next_offset 10 is above max_offset 9"));
        assert!(texts[2].ends_with("min_offset 10 is above max_offset 9"));
    }

    #[test]
    fn a_group_made_anew_begins_anew() {
        let mut history = History::new();
        history.progress("n1", [5, 6, 2, 9]).admin(1, "group", "g", "delete", Some(true));
        history.progress("n1", [0, 0, 2, 9]);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
