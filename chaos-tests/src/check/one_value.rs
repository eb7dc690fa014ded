//! A place in a queue has one message for ever, on all nodes.

use std::collections::{BTreeMap, HashMap};

use super::judge::Judge;
use super::operation::Outcome;
use super::view::{Place, Sighting, View};
use super::{Checker, Finding};

/// Whatever is seen at a (topic, queue, offset), in any replica and any delivery at any time, is the
/// same message; and a message lies at the offset that its producer was told. Deleted topics are left
/// out.
pub fn check(view: &View<'_>) -> Finding {
    let mut judge = Judge::new(Checker::OneValue);
    let mut first: HashMap<Place<'_>, Sighting<'_>> = HashMap::new();
    // Each other message once for a place, however often it is seen there.
    let mut others: BTreeMap<(Place<'_>, &str, &str), Sighting<'_>> = BTreeMap::new();
    let mut seen_count = 0;
    for seen in view.sightings() {
        seen_count += 1;
        match first.get(&seen.place) {
            None => _ = first.insert(seen.place, seen),
            Some(first) if same(first, &seen) => (),
            Some(_) => {
                _ = others.entry((seen.place, seen.value, seen.message_id)).or_insert(seen);
            }
        }
    }
    for ((place, ..), other) in &others {
        if let Some(one) = first.get(place) {
            let text = format!("{place} is {} and {}", named(one), named(other));
            judge.violation(text, [one.line, other.line]);
        }
    }
    judge_acknowledged(view, &mut judge);
    judge.count("places", first.len());
    judge.count("sightings", seen_count);
    if first.is_empty() {
        judge.unknown("no place of a message is known");
    }
    judge.finish(format!("{} places, seen {seen_count} times", first.len()))
}

/// Whether both are the same message; a client may not tell the id.
fn same(one: &Sighting<'_>, other: &Sighting<'_>) -> bool {
    let ids = [one.message_id, other.message_id];
    one.value == other.value && (ids[0] == ids[1] || ids.contains(&""))
}

fn named(seen: &Sighting<'_>) -> String {
    let whose = seen.node.map_or_else(|| "to a consumer".to_owned(), |node| format!("at {node}"));
    format!("{} (id {}) {whose}", seen.value, seen.message_id)
}

fn judge_acknowledged(view: &View<'_>, judge: &mut Judge) {
    let places = view.places();
    for send in view.sends.iter().filter(|send| send.operation.outcome() == Outcome::Ok) {
        let Some(told) = send.offset else { continue };
        let Some((place, line)) = places.get(&(send.topic, send.value)) else { continue };
        if place.offset != told {
            let text =
                format!("{} lies at {place}, its producer was told offset {told}", send.value);
            judge.violation(text, send.operation.lines().chain([*line]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events))
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert_eq!((finding.figures["places"], finding.figures["sightings"]), (5.0, 15.0));
    }

    #[test]
    fn nodes_that_disagree_about_a_place_are_found() {
        let mut history = History::new();
        history.stored("n1", 0, 0, "a").stored("n2", 0, 0, "b").stored("n3", 0, 0, "b");
        history.stored("n1", 1, 0, "b");
        let finding = judged(&history);
        let text = "topic t queue 0 offset 0 is a (id id-a) at n1 and b (id id-b) at n2";
        assert_eq!(finding.violation_count, 1);
        assert_eq!(finding.violations[0].text, text);
        assert_eq!(finding.violations[0].events, [0, 1]);
    }

    #[test]
    fn a_place_that_changes_on_one_node_is_found() {
        let mut history = History::new();
        history.stored("n1", 0, 0, "a").fault_begins("kill", "n1").stored("n1", 0, 0, "b");
        assert_eq!(judged(&history).violation_count, 1);
    }

    #[test]
    fn a_consumer_that_got_something_else_from_a_place_is_found() {
        let mut history = History::new();
        history.received_at("g", "a", 0, 0).received_at("h", "a", 0, 0).stored("n1", 0, 0, "b");
        let finding = judged(&history);
        assert_eq!(finding.violation_count, 1);
        assert!(finding.violations[0].text.ends_with("a (id id-a) to a consumer"));
    }

    #[test]
    fn a_message_lies_where_its_producer_was_told() {
        let mut history = History::new();
        history.sent_at("a", 4).stored("n1", 0, 5, "a");
        let text = "a lies at topic t queue 0 offset 5, its producer was told offset 4";
        assert_eq!(judged(&history).violations[0].text, text);
    }

    #[test]
    fn a_topic_made_anew_begins_anew() {
        let mut history = History::new();
        history.stored("n1", 0, 0, "a").admin(1, "topic", "t", "delete", Some(true));
        history.stored("n1", 0, 0, "b");
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
