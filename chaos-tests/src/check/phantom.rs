//! What is there was sent: no message comes from nowhere, or from a send that was refused.

use std::collections::{BTreeMap, HashMap};

use super::judge::Judge;
use super::operation::Outcome;
use super::view::{Send, View, dead_letters_of};
use super::{Checker, Finding};

/// Every value that a replica stored or a consumer received was sent to that topic, not before its
/// send began, by a send that did not fail; and it has the id that its producer was told.
pub fn check(view: &View<'_>) -> Finding {
    let mut judge = Judge::new(Checker::Phantom);
    let sent = sent(view);
    let mut seen_count = 0;
    let mut phantoms: BTreeMap<(&str, String), Vec<u64>> = BTreeMap::new();
    for seen in observed(view) {
        seen_count += 1;
        if let Some(reason) = reason(&sent, &seen) {
            phantoms.entry((seen.value, reason)).or_default().push(seen.line);
        }
    }
    judge.count("sent", sent.len());
    judge.count("observed", seen_count);
    for ((value, reason), mut lines) in phantoms {
        lines.sort_unstable();
        let begins = sent.get(value).into_iter().flatten().map(|one| one.operation.invoke.index);
        let times = match lines.len() {
            1 => String::new(),
            more => format!(" ({more} times)"),
        };
        judge.violation(format!("{value} {reason}{times}"), lines.into_iter().chain(begins));
    }
    if seen_count == 0 {
        judge.unknown("nothing was stored or received");
    }
    judge.finish(format!("{seen_count} sightings of {} sent values", sent.len()))
}

/// A value where it should only be if it was sent.
struct Observed<'a> {
    topic: &'a str,
    value: &'a str,
    message_id: &'a str,
    time_ns: u64,
    line: u64,
}

fn observed<'v>(view: &'v View<'_>) -> impl Iterator<Item = Observed<'v>> {
    let stored = view.stored.iter().map(|one| Observed {
        topic: one.place.topic,
        value: one.value,
        message_id: one.message_id,
        time_ns: one.event.time_ns,
        line: one.event.index,
    });
    let delivered = view.receives.iter().flat_map(|receive| {
        receive.deliveries.iter().map(|delivery| Observed {
            topic: receive.topic,
            value: &delivery.value,
            message_id: &delivery.message_id,
            time_ns: receive.operation.end.map_or(u64::MAX, |end| end.time_ns),
            line: receive.operation.end.map_or(0, |end| end.index),
        })
    });
    stored.chain(delivered)
}

fn sent<'a, 'v>(view: &'v View<'a>) -> HashMap<&'a str, Vec<&'v Send<'a>>> {
    let mut sent: HashMap<&str, Vec<&Send<'_>>> = HashMap::with_capacity(view.sends.len());
    for send in &view.sends {
        sent.entry(send.value).or_default().push(send);
    }
    sent
}

/// Why it can not be there.
fn reason(sent: &HashMap<&str, Vec<&Send<'_>>>, seen: &Observed<'_>) -> Option<String> {
    let topic = seen.topic;
    let Some(sends) = sent.get(seen.value) else {
        return Some(format!("is in topic {topic} and nobody sent it"));
    };
    let begun = sends.iter().filter(|send| send.operation.invoke_ns() <= seen.time_ns);
    let begun: Vec<&&Send<'_>> = begun.collect();
    if begun.is_empty() {
        return Some(format!("is in topic {topic} before it was sent"));
    }
    let here = |send: &&&&Send<'_>| send.topic == topic || dead_letters_of(topic).is_some();
    let Some(first) = begun.iter().find(here) else {
        return Some(format!("is in topic {topic} and was sent to {}", begun[0].topic));
    };
    if begun.iter().filter(here).all(|send| send.operation.outcome() == Outcome::Fail) {
        return Some(format!("is in topic {topic} and its send failed"));
    }
    let told = first.message_id.filter(|_| sends.len() == 1 && !seen.message_id.is_empty());
    let told = told.filter(|told| *told != seen.message_id)?;
    Some(format!("has id {} in topic {topic}, its producer was told {told}", seen.message_id))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;

    fn texts(history: &History) -> Vec<String> {
        let finding = check(&View::new(&history.events));
        finding.violations.into_iter().map(|violation| violation.text).collect()
    }

    #[test]
    fn a_good_history_passes() {
        let finding = check(&View::new(&History::good().events));
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert_eq!((finding.figures["sent"], finding.figures["observed"]), (5.0, 21.0));
    }

    #[test]
    fn what_nobody_sent_is_a_phantom_wherever_it_is_seen() {
        let mut history = History::new();
        history.sent("a").stored("n1", 0, 0, "x").stored("n2", 0, 0, "x");
        history.received("g", &[("y", 1)], 10);
        let x = "x is in topic t and nobody sent it (2 times)";
        assert_eq!(texts(&history), [x, "y is in topic t and nobody sent it"]);
        let finding = check(&View::new(&history.events));
        assert_eq!(finding.violations[0].events, [2, 3]);
    }

    #[test]
    fn what_failed_must_not_be_there_and_what_is_unknown_may() {
        let mut history = History::new();
        history.send_begins(1, "a").send_fails(1, "a").send_begins(1, "b").send_unknown(1, "b");
        history.send_begins(1, "c").stored("n1", 0, 0, "a").stored("n1", 0, 1, "b");
        history.stored("n1", 0, 2, "c");
        assert_eq!(texts(&history), ["a is in topic t and its send failed"]);
    }

    #[test]
    fn nothing_is_there_before_it_was_sent() {
        let mut history = History::new();
        history.stored("n1", 0, 0, "a").sent("a");
        assert_eq!(texts(&history), ["a is in topic t before it was sent"]);
    }

    #[test]
    fn a_message_stays_in_its_topic_or_becomes_a_dead_letter() {
        let mut history = History::new();
        history.sent("a").stored_in("%DLQ%g", "n1", 0, 0, "a").stored_in("other", "n1", 0, 0, "a");
        assert_eq!(texts(&history), ["a is in topic other and was sent to t"]);
    }

    #[test]
    fn a_message_keeps_its_id() {
        let mut history = History::new();
        history.sent_at("a", 0).stored("n1", 0, 0, "a");
        if let crate::history::Action::Stored { message_id, .. } = &mut history.events[2].action {
            *message_id = "other".into();
        }
        let text = "a has id other in topic t, its producer was told id-a";
        assert_eq!(texts(&history), [text]);
    }

    #[test]
    fn without_sightings_it_is_unknown() {
        let mut history = History::new();
        history.sent("a");
        assert_eq!(check(&View::new(&history.events)).verdict, Verdict::Unknown);
    }
}
