//! Nothing is stored twice, and nothing is delivered again without cause.
//!
//! A receive that repeats another one, with its attempt id, may bring the same deliveries again.
//!
//! A message is stored once, since a repeated send has the same message id. A dead letter is the same
//! message in another topic and counts by itself.
//!
//! A delivery was decided at some moment between the begin and the end of its `receive`. So it came
//! too early only if even its end lies before the earliest end of the time for which the delivery
//! before it was invisible; that may have been changed meanwhile, to be counted from the begin of the
//! change at the earliest, and nobody knows whether a change without an answer took effect. And it came after an acknowledgement only if it began after that one's
//! end, or if its attempt is above every attempt that anybody acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::judge::{Judge, ms};
use super::operation::Outcome;
use super::view::{Ack, Change, Place, View, dead_letters_of};
use super::{Checker, Expectations, Finding};

/// No value and no message id at two places; no delivery of a message that is still invisible or
/// was acknowledged; attempts grow.
///
/// A `receive` with `invisible_ms` 0 says nothing about how long its messages are invisible.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Duplicate);
    let stored = stored_twice(view, &mut judge);
    let chains = chains(view);
    let delivered: usize = chains.values().map(|chain| chain.handed.len()).sum();
    let mut again = 0;
    for (key, chain) in &chains {
        again += chain.handed.len().saturating_sub(1);
        chain.judge(key, expect.clock_slack_ms.saturating_mul(1_000_000), &mut judge);
    }
    judge.count("delivered", delivered);
    judge.count("redelivered", again);
    if stored == 0 && delivered == 0 {
        judge.unknown("nothing was stored or received");
    }
    judge.finish(format!("{stored} stored values, {delivered} deliveries, {again} of them again"))
}

/// Judges places; returns how many values have one.
fn stored_twice(view: &View<'_>, judge: &mut Judge) -> usize {
    // Dead letters apart: they are in two topics by right.
    let mut values: HashMap<(&str, &str), Places<'_>> = HashMap::new();
    let mut ids: HashMap<(&str, &str), Places<'_>> = HashMap::new();
    for seen in view.sightings() {
        let kind = dead_letters_of(seen.place.topic).unwrap_or_default();
        values.entry((kind, seen.value)).or_default().note(seen.place, seen.line);
        if !seen.message_id.is_empty() {
            ids.entry((kind, seen.message_id)).or_default().note(seen.place, seen.line);
        }
    }
    let mut told: BTreeSet<Vec<Place<'_>>> = BTreeSet::new();
    let count = values.len();
    let twice_values = twice(values);
    judge.count("stored_twice", twice_values.len());
    for ((_, value), places) in &twice_values {
        judge.violation(format!("{value} is stored at {}", places.names()), places.lines());
        told.insert(places.all());
    }
    for ((_, id), places) in twice(ids) {
        if !told.contains(&places.all()) {
            let text = format!("message id {id} is stored at {}", places.names());
            judge.violation(text, places.lines());
        }
    }
    count
}

/// Those with more than one place, sorted.
fn twice<'a>(
    all: HashMap<(&'a str, &'a str), Places<'a>>,
) -> BTreeMap<(&'a str, &'a str), Places<'a>> {
    all.into_iter().filter(|(_, places)| places.is_twice()).collect()
}

/// Where something was seen. Nearly always at one place only, which needs no tree.
#[derive(Default)]
struct Places<'a> {
    first: Option<(Place<'a>, u64)>,
    others: BTreeMap<Place<'a>, u64>,
}

impl<'a> Places<'a> {
    fn note(&mut self, place: Place<'a>, line: u64) {
        match &self.first {
            None => self.first = Some((place, line)),
            Some((first, _)) if *first == place => (),
            Some(_) => _ = self.others.entry(place).or_insert(line),
        }
    }

    fn is_twice(&self) -> bool {
        !self.others.is_empty()
    }

    fn all(&self) -> Vec<Place<'a>> {
        self.first.iter().map(|(place, _)| *place).chain(self.others.keys().copied()).collect()
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.all().iter().map(Place::to_string).collect();
        names.join(" and ")
    }

    fn lines(&self) -> Vec<u64> {
        self.first.iter().map(|(_, line)| *line).chain(self.others.values().copied()).collect()
    }
}

/// Group, topic and value.
type Key<'a> = (&'a str, &'a str, &'a str);

/// What happened to one message in one group.
#[derive(Default)]
struct Chain<'a> {
    handed: Vec<Handed<'a>>,
    acks: Vec<&'a Ack<'a>>,
    /// In the order of their begins.
    changes: Vec<&'a Change<'a>>,
}

/// One delivery.
#[derive(Clone, Copy)]
struct Handed<'a> {
    attempt: u32,
    attempt_id: Option<&'a str>,
    invoke_ns: u64,
    end_ns: u64,
    /// 0: not known.
    invisible_ms: u64,
    line: u64,
}

/// Messages that were delivered, sorted. Deleted groups and topics begin anew and are left out.
fn chains<'v>(view: &'v View<'_>) -> BTreeMap<Key<'v>, Chain<'v>> {
    let mut chains: HashMap<Key<'_>, Chain<'_>> = HashMap::new();
    for receive in &view.receives {
        if view.is_group_deleted(receive.group) || view.is_topic_deleted(receive.topic) {
            continue;
        }
        let Some(end) = receive.operation.end else { continue };
        for delivery in receive.deliveries {
            let chain = chains.entry((receive.group, receive.topic, &delivery.value)).or_default();
            chain.handed.push(Handed {
                attempt: delivery.attempt,
                attempt_id: receive.attempt_id,
                invoke_ns: receive.operation.invoke_ns(),
                end_ns: end.time_ns,
                invisible_ms: receive.invisible_ms,
                line: end.index,
            });
        }
    }
    for ack in view.acks.iter().filter(|ack| ack.operation.outcome() != Outcome::Fail) {
        if let Some(chain) = chains.get_mut(&(ack.group, ack.topic, ack.value)) {
            chain.acks.push(ack);
        }
    }
    for change in view.changes.iter().filter(|one| one.operation.outcome() != Outcome::Fail) {
        if let Some(chain) = chains.get_mut(&(change.group, change.topic, change.value)) {
            chain.changes.push(change);
        }
    }
    let mut sorted: BTreeMap<_, _> = chains.into_iter().collect();
    for chain in sorted.values_mut() {
        chain.handed.sort_by_key(|handed| (handed.attempt, handed.end_ns, handed.line));
    }
    sorted
}

impl<'a> Chain<'a> {
    fn judge(&self, key: &Key<'_>, slack_ns: u64, judge: &mut Judge) {
        let (group, topic, value) = key;
        let who = format!("{value} of topic {topic} in group {group}");
        let mut latest = self.handed.first();
        for pair in self.handed.windows(2) {
            let (before, handed) = (&pair[0], &pair[1]);
            latest = latest.into_iter().chain([before]).max_by_key(|one| one.invoke_ns);
            let going_back = latest.filter(|latest| latest.invoke_ns > handed.end_ns);
            let (what, before) = match (self.wrong_after(before, handed, slack_ns), going_back) {
                (_, Some(latest)) => {
                    let (later, earlier) = (handed.attempt, latest.attempt);
                    (format!("attempt {later} came before attempt {earlier}"), latest)
                }
                (Some(what), None) => (what, before),
                (None, None) => continue,
            };
            judge.violation(format!("{who}: {what}"), [before.line, handed.line]);
        }
        for (handed, ack) in self.old_receipts() {
            let (attempt, acked) = (handed.attempt, ack.attempt);
            let text =
                format!("{who}: the receipt of attempt {acked} counted for attempt {attempt}");
            judge.violation(text, ack.operation.lines().chain([handed.line]));
        }
        for (handed, ack) in self.after_acks() {
            let (attempt, acked) = (handed.attempt, ack.attempt);
            let text = format!("{who}: attempt {attempt} although attempt {acked} is acknowledged");
            judge.violation(text, ack.operation.lines().chain([handed.line]));
        }
    }

    /// What is wrong with a delivery, given the one of the attempt before it.
    fn wrong_after(
        &self,
        before: &Handed<'_>,
        handed: &Handed<'_>,
        slack_ns: u64,
    ) -> Option<String> {
        let attempt = handed.attempt;
        if before.attempt == attempt
            && before.attempt_id.is_some_and(|id| Some(id) == handed.attempt_id)
        {
            return None;
        }
        if before.attempt == attempt {
            return Some(format!("two deliveries are attempt {attempt}"));
        }
        let (visible_ns, invisible_ms) = self.visible_again(before)?;
        let early_ns = visible_ns.saturating_sub(handed.end_ns).saturating_sub(slack_ns);
        (early_ns > 0).then(|| {
            let (early_ms, before) = (ms(visible_ns - handed.end_ns), before.attempt);
            format!("attempt {attempt} came {early_ms} ms before the {invisible_ms} ms of attempt {before} were over")
        })
    }

    /// When a delivery's message was visible again at the earliest, and the time it then had been
    /// invisible for, in milliseconds. None: nobody knows.
    fn visible_again(&self, handed: &Handed<'_>) -> Option<(u64, u64)> {
        let until = |begin_ns: u64, invisible_ms: u64| {
            (begin_ns.saturating_add(invisible_ms.saturating_mul(1_000_000)), invisible_ms)
        };
        let known = handed.invisible_ms > 0;
        let mut visible = known.then(|| until(handed.invoke_ns, handed.invisible_ms));
        for change in self.changes.iter().filter(|change| change.attempt == handed.attempt) {
            let changed = until(change.operation.invoke_ns(), change.invisible_ms);
            visible = match change.operation.outcome() {
                Outcome::Ok => Some(changed),
                _ => visible.map(|before| before.min(changed)),
            };
        }
        visible
    }

    /// Acknowledgements that were accepted although a later delivery was out, each with that delivery.
    /// Not where somebody else may have acknowledged by then: whose message is consumed may say so
    /// again.
    fn old_receipts(&self) -> Vec<(&Handed<'a>, &Ack<'a>)> {
        let out_by_then = |ack: &Ack<'_>| {
            let by = ack.operation.invoke_ns();
            let later = self.handed.iter().filter(move |handed| handed.end_ns < by);
            later.max_by_key(|handed| handed.attempt).filter(|last| last.attempt > ack.attempt)
        };
        let accepted = self.acks.iter().filter_map(|ack| {
            let (ok_ns, handed) = (ack.operation.ok_ns()?, out_by_then(ack)?);
            let consumed = self
                .acks
                .iter()
                .any(|other| other.attempt > ack.attempt && other.operation.invoke_ns() < ok_ns);
            (!consumed).then_some((handed, *ack))
        });
        accepted.collect()
    }

    /// Deliveries of what was consumed, each with the acknowledgement that ended it.
    fn after_acks(&self) -> Vec<(&Handed<'a>, &Ack<'a>)> {
        let ok = |ack: &&&Ack<'_>| ack.operation.ok_ns().is_some();
        let Some(first) = self.acks.iter().filter(ok).min_by_key(|ack| ack.operation.ok_ns())
        else {
            return Vec::new();
        };
        let acked_ns = first.operation.ok_ns().unwrap_or(u64::MAX);
        let highest = self.acks.iter().map(|ack| ack.attempt).max().unwrap_or(u32::MAX);
        let late = |handed: &&Handed<'_>| handed.invoke_ns > acked_ns || handed.attempt > highest;
        self.handed.iter().filter(late).map(|handed| (handed, *first)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;
    use crate::history::Phase;

    fn texts(history: &History) -> Vec<String> {
        let expect = Expectations { clock_slack_ms: 0, ..Expectations::default() };
        let finding = check(&View::new(&history.events), &expect);
        finding.violations.into_iter().map(|violation| violation.text).collect()
    }

    #[test]
    fn an_old_receipt_speaks_for_no_later_delivery() {
        let mut history = History::new();
        history.received("g", &[("a", 1)], 1).at(5000).received("g", &[("a", 2)], 60_000);
        history.at(6000).acked("g", "a", 1).acked("g", "a", 2);
        let texts = texts(&history);
        let text = "a of topic t in group g: the receipt of attempt 1 counted for attempt 2";
        assert_eq!(texts, [text]);
        // Consumed by then: it may be told so.
        let mut history = History::new();
        history.received("g", &[("a", 1)], 1).at(5000).received("g", &[("a", 2)], 60_000);
        history.acked("g", "a", 2).at(6000).acked("g", "a", 1);
        assert_eq!(self::texts(&history), [""; 0]);
    }

    #[test]
    fn a_good_history_passes() {
        let finding = check(&View::new(&History::good().events), &Expectations::default());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert_eq!((finding.figures["delivered"], finding.figures["redelivered"]), (6.0, 1.0));
    }

    #[test]
    fn a_value_at_two_places_is_a_violation_even_on_different_nodes() {
        let mut history = History::new();
        history.stored("n1", 0, 0, "a").stored("n2", 0, 0, "a").stored("n2", 1, 7, "a");
        let text = "a is stored at topic t queue 0 offset 0 and topic t queue 1 offset 7";
        assert_eq!(texts(&history), [text]);
        let finding = check(&View::new(&history.events), &Expectations::default());
        assert_eq!(finding.violations[0].events, [0, 2]);
    }

    #[test]
    fn a_delivery_is_invisible_for_as_long_as_it_was_changed_to() {
        let again = |changes: &[(u64, Phase)]| {
            let mut history = History::new();
            history.received("g", &[("a", 1)], 100);
            for (invisible_ms, phase) in changes {
                history.change_invisible(*phase, "g", "a", 1, *invisible_ms);
            }
            history.at(250).received("g", &[("a", 2)], 100);
            texts(&history)
        };
        let early =
            ["a of topic t in group g: attempt 2 came 51 ms before the 300 ms of attempt 1 \
                      were over"];
        assert_eq!(again(&[]), [""; 0]);
        assert_eq!(again(&[(300, Phase::Ok)]), early);
        assert_eq!(again(&[(300, Phase::Fail)]), [""; 0]);
        // It may have taken no effect.
        assert_eq!(again(&[(300, Phase::Unknown)]), [""; 0]);
        // The last one counts.
        assert_eq!(again(&[(300, Phase::Ok), (10, Phase::Ok)]), [""; 0]);
        assert_eq!(again(&[(300, Phase::Ok), (10, Phase::Unknown)]), [""; 0]);
    }

    #[test]
    fn a_message_given_back_may_come_at_once() {
        let mut history = History::new();
        history.received("g", &[("a", 1)], 1000).change_invisible(Phase::Ok, "g", "a", 1, 0);
        history.received("g", &[("a", 2)], 1000);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn a_message_id_at_two_places_is_a_violation_even_with_different_values() {
        let mut history = History::new();
        history.stored("n1", 0, 0, "a").stored("n1", 0, 1, "b");
        for event in &mut history.events {
            if let crate::history::Action::Stored { message_id, .. } = &mut event.action {
                *message_id = "same".into();
            }
        }
        let places = "topic t queue 0 offset 0 and topic t queue 0 offset 1";
        assert_eq!(texts(&history), [format!("message id same is stored at {places}")]);
    }

    #[test]
    fn a_dead_letter_is_no_duplicate_unless_there_are_two() {
        let mut history = History::new();
        history.stored("n1", 0, 0, "a").stored_in("%DLQ%g", "n1", 0, 0, "a");
        assert_eq!(texts(&history), [""; 0]);
        history.stored_in("%DLQ%g", "n1", 0, 1, "a");
        assert_eq!(texts(&history).len(), 1);
    }

    #[test]
    fn a_delivery_before_the_invisible_time_is_over_has_no_cause() {
        let mut history = History::new();
        history.at(100).received("g", &[("a", 1)], 1000).at(1090).received("g", &[("a", 2)], 1000);
        let early = "attempt 2 came 9 ms before the 1000 ms of attempt 1 were over";
        assert_eq!(texts(&history), [format!("a of topic t in group g: {early}")]);
        let tolerant = Expectations { clock_slack_ms: 10, ..Expectations::default() };
        assert_eq!(check(&View::new(&history.events), &tolerant).verdict, Verdict::Pass);
    }

    #[test]
    fn a_delivery_after_the_invisible_time_is_right_also_from_a_call_that_waited() {
        let mut history = History::new();
        history.at(100).received("g", &[("a", 1)], 1000);
        history.receive_begins(3, "g").at(1100).receive_ends(3, "g", &[("a", 2)], 1000);
        // Another group has its own deliveries, and 0 says nothing.
        history.received("h", &[("a", 1)], 0).received("h", &[("a", 2)], 0);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn a_delivery_after_its_acknowledgement_has_no_cause() {
        let mut history = History::new();
        history.received("g", &[("a", 1)], 1).acked("g", "a", 1);
        history.at(100).received("g", &[("a", 2)], 1).acked("g", "a", 2);
        let text = "a of topic t in group g: attempt 2 although attempt 1 is acknowledged";
        assert_eq!(texts(&history), [text]);
    }

    #[test]
    fn a_call_that_waited_must_not_bring_an_attempt_above_all_acknowledged_ones() {
        let mut history = History::new();
        history.received("g", &[("a", 1)], 1).receive_begins(5, "g").acked("g", "a", 1);
        history.at(100).receive_ends(5, "g", &[("a", 2)], 1);
        assert_eq!(texts(&history).len(), 1);
        // Its own acknowledgement may have ended it, and the first found that done already.
        history.ack_begins(6, "g", "a", 2);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn an_acknowledgement_that_failed_or_is_unknown_ends_nothing() {
        let mut history = History::new();
        history.received("g", &[("a", 1), ("b", 1)], 1);
        history.ack_begins(4, "g", "a", 1).ack_ends(4, Phase::Unknown, "g", "a", 1);
        history.ack_begins(4, "g", "b", 1).ack_ends(4, Phase::Fail, "g", "b", 1);
        history.at(100).received("g", &[("a", 2), ("b", 2)], 1);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn attempts_neither_repeat_nor_go_back() {
        let mut history = History::new();
        history.received("g", &[("a", 2)], 0).received("g", &[("a", 1)], 0);
        assert_eq!(texts(&history), ["a of topic t in group g: attempt 2 came before attempt 1"]);
        let mut history = History::new();
        history.received("g", &[("a", 1)], 1).at(100).received("g", &[("a", 1)], 1);
        assert_eq!(texts(&history), ["a of topic t in group g: two deliveries are attempt 1"]);
        // Attempt 2 overlaps both; the others are in the wrong order nevertheless.
        let mut history = History::new();
        history.receive_begins(5, "g").received("g", &[("a", 3)], 0);
        history.received("g", &[("a", 1)], 0).receive_ends(5, "g", &[("a", 2)], 0);
        assert_eq!(texts(&history), ["a of topic t in group g: attempt 3 came before attempt 1"]);
    }

    #[test]
    fn a_receive_that_is_repeated_may_bring_the_same() {
        let repeated = |ids: [&str; 2]| {
            let mut history = History::new();
            history.received("g", &[("a", 1)], 1000).received("g", &[("a", 1)], 1000);
            let mut ids = ids.into_iter();
            for event in &mut history.events {
                if let crate::history::Action::Receive { attempt_id, .. } = &mut event.action
                    && event.phase == Phase::Ok
                {
                    *attempt_id = ids.next().map(str::to_owned);
                }
            }
            texts(&history)
        };
        assert_eq!(repeated(["one", "one"]), [""; 0]);
        assert_eq!(
            repeated(["one", "other"]),
            ["a of topic t in group g: two deliveries are attempt 1"]
        );
    }

    #[test]
    fn without_messages_it_is_unknown() {
        let finding = check(&View::new(&[]), &Expectations::default());
        assert_eq!(finding.verdict, Verdict::Unknown);
    }
}
