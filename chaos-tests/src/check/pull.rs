//! Clients that keep their own place in a queue see everything, once, in order, and find their place
//! again.
//!
//! A pull without a filter brings what lies from the place it names on, without a hole. A place that was
//! kept at the server (`update_offset`) is what the next question for it is told; one whose outcome is
//! not known may count at any later time. What retention has let go of (`min_offset`) is found by no time.

use std::collections::{BTreeMap, HashMap};

use super::judge::Judge;
use super::operation::{Operation, Outcome};
use super::view::{Place, View};
use super::{Checker, Expectations, Finding};
use crate::history::{Action, Delivery};

/// Within this time of an answer somebody has looked at what retention had let go of by then.
const LOOKED_NS: u64 = 5_000_000_000;

/// Each pull has no hole; places that are kept come back; the ends of queues are told truthfully; and
/// in the end each queue was pulled from its beginning to its end.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Pull);
    let mut readings: BTreeMap<Key<'_>, Reading<'_>> = BTreeMap::new();
    let (mut pulls, mut pulled, mut kept, mut told) = (0, 0, 0, 0);
    for operation in &view.operations {
        match operation.action() {
            Action::Pull { group, topic, queue_id, from_offset, deliveries, next_offset } => {
                let reading = readings.entry((group, topic, *queue_id)).or_default();
                if let (Outcome::Ok, Some(next)) = (operation.outcome(), next_offset) {
                    (pulls, pulled) = (pulls + 1, pulled + deliveries.len());
                    let pull = Pull { from: *from_offset, next: *next, deliveries, operation };
                    pull.judge(&mut judge);
                    reading.pulls.push(pull);
                }
            }
            Action::UpdateOffset { group, topic, queue_id, .. } => {
                kept += usize::from(operation.outcome() == Outcome::Ok);
                let reading = readings.entry((group, topic, *queue_id)).or_default();
                reading.places.push(operation);
            }
            Action::GetOffset { group, topic, queue_id, .. } => {
                told += usize::from(operation.outcome() == Outcome::Ok);
                let reading = readings.entry((group, topic, *queue_id)).or_default();
                reading.places.push(operation);
            }
            _ => (),
        }
    }
    for (key, reading) in &readings {
        reading.judge_places(key, &mut judge);
        reading.judge_whole(key, view, &mut judge);
    }
    let asked = judge_queries(view, expect, &readings, &mut judge);
    judge.count("pulls", pulls);
    judge.count("pulled", pulled);
    judge.count("offsets_kept", kept);
    judge.count("offsets_told", told);
    judge.count("offsets_asked", asked);
    if pulled == 0 {
        judge.unknown("nothing was pulled");
    }
    judge.finish(format!(
        "{pulled} messages in {pulls} pulls of {} queues, {kept} places kept, {told} found again",
        readings.len()
    ))
}

/// Group, topic and queue.
type Key<'a> = (&'a str, &'a str, u32);

struct Pull<'a> {
    from: u64,
    next: u64,
    deliveries: &'a [Delivery],
    operation: &'a Operation<'a>,
}

impl Pull<'_> {
    fn judge(&self, judge: &mut Judge) {
        let offsets: Vec<u64> = self.deliveries.iter().filter_map(|one| one.offset).collect();
        let expected = (self.from..).take(self.deliveries.len());
        let next = self.from + self.deliveries.len() as u64;
        if offsets.len() < self.deliveries.len() || !offsets.iter().copied().eq(expected) {
            let text = format!("a pull from offset {} brought offsets {offsets:?}", self.from);
            judge.violation(text, self.operation.lines());
        } else if self.next != next {
            let (from, told) = (self.from, self.next);
            let text = format!(
                "a pull from offset {from} that brought {} messages goes on at {told}",
                offsets.len()
            );
            judge.violation(text, self.operation.lines());
        }
    }
}

/// What one group did in one queue.
#[derive(Default)]
struct Reading<'a> {
    pulls: Vec<Pull<'a>>,
    /// Places that were kept and asked for, in the order of their begins.
    places: Vec<&'a Operation<'a>>,
}

impl Reading<'_> {
    /// One client at a time keeps the place of a queue, so its operations have an order.
    fn judge_places(&self, (group, topic, queue_id): &Key<'_>, judge: &mut Judge) {
        let mut certain: (Option<u64>, Option<&Operation<'_>>) = (None, None);
        let mut possible: Vec<u64> = Vec::new();
        for operation in &self.places {
            match (operation.action(), operation.outcome()) {
                (Action::UpdateOffset { offset, .. }, Outcome::Ok) => {
                    certain = (Some(*offset), Some(operation));
                }
                (Action::UpdateOffset { offset, .. }, Outcome::Unknown) => possible.push(*offset),
                (Action::GetOffset { offset, .. }, Outcome::Ok) => {
                    // A group that left a place in one queue stands at the beginning of the others.
                    let at_begin = certain.0.is_none() && *offset == Some(0);
                    let may_be = offset.is_some_and(|offset| possible.contains(&offset));
                    if *offset != certain.0 && !may_be && !at_begin {
                        let name = |offset: Option<u64>| {
                            offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string())
                        };
                        let text = format!(
                            "group {group}, topic {topic} queue {queue_id}: the offset is {}, and {} \
                             was kept",
                            name(*offset),
                            name(certain.0)
                        );
                        let before = certain.1.into_iter().flat_map(|before| before.lines());
                        judge.violation(text, before.chain(operation.lines()));
                    }
                    certain = (*offset, Some(operation));
                }
                _ => (),
            }
        }
    }

    /// What is in the queue in the end was pulled.
    fn judge_whole(&self, (group, topic, queue_id): &Key<'_>, view: &View<'_>, judge: &mut Judge) {
        let Some(drained) = view.drained() else { return };
        let in_queue = |place: &Place<'_>| place.topic == *topic && place.queue_id == *queue_id;
        let stored = view.stored.iter().filter(|one| one.event.index > drained.index);
        let there = stored.filter(|one| in_queue(&one.place));
        let there: BTreeMap<u64, u64> =
            there.map(|one| (one.place.offset, one.event.index)).collect();
        let mut ranges: Vec<(u64, u64)> =
            self.pulls.iter().map(|pull| (pull.from, pull.next)).collect();
        ranges.sort_unstable();
        let mut ranges = ranges.into_iter().peekable();
        let mut reached = 0;
        let mut missed = Vec::new();
        for (offset, line) in there {
            while let Some((_, next)) = ranges.next_if(|(from, _)| *from <= offset) {
                reached = reached.max(next);
            }
            if offset >= reached {
                missed.push((offset, line));
            }
        }
        if let (Some(first), Some(last)) = (missed.first(), missed.last()) {
            let (count, first, last) = (missed.len(), *first, last.0);
            let text = format!(
                "group {group}, topic {topic} queue {queue_id}: {count} messages were never pulled, \
                 from offset {} to {last}",
                first.0
            );
            judge.violation(text, [first.1]);
        }
    }
}

/// Judges what was told of places in queues; returns how often somebody asked.
fn judge_queries(
    view: &View<'_>,
    expect: &Expectations,
    readings: &BTreeMap<Key<'_>, Reading<'_>>,
    judge: &mut Judge,
) -> usize {
    let values = values(view);
    let sent = sent_ms(view);
    let trimmed = trimmed(view);
    let mut asked = 0;
    for operation in &view.operations {
        let Action::QueryOffset { topic, queue_id, since_ms, offset: Some(offset) } =
            operation.action()
        else {
            continue;
        };
        asked += 1;
        let queue = format!("topic {topic} queue {queue_id}");
        let sent_of = |offset: u64| {
            let place = Place { topic, queue_id: *queue_id, offset };
            values.get(&place).and_then(|value| sent.get(value))
        };
        match since_ms {
            None => {
                let pulls = readings.iter().filter(|(key, _)| (key.1, key.2) == (topic, *queue_id));
                let before = pulls.flat_map(|(_, reading)| &reading.pulls).filter(|pull| {
                    pull.operation.ok_ns().is_some_and(|ns| ns < operation.invoke_ns())
                });
                if let Some(pull) = before.max_by_key(|pull| pull.next)
                    && pull.next > *offset
                {
                    let next = pull.next;
                    let text =
                        format!("{queue}: the end is {offset}, and {next} was reached before");
                    judge.violation(text, pull.operation.lines().chain(operation.lines()));
                }
            }
            Some(since_ms) => {
                let slack_ms = expect.clock_slack_ms;
                let looked_ns = operation.ok_ns().unwrap_or(0).saturating_add(LOOKED_NS);
                let mut mins = trimmed.get(&(topic, *queue_id)).into_iter().flatten();
                let is_first = mins.any(|(at_ns, min)| *at_ns < looked_ns && min >= offset);
                let passed = offset.checked_sub(1).filter(|_| !is_first).and_then(sent_of);
                if let Some((begin_ms, _, line)) = passed
                    && *begin_ms > since_ms.saturating_add(slack_ms)
                {
                    let text = format!(
                        "{queue}: the first message since {since_ms} is at {offset}, and the one before \
                         it was sent {} ms later than that",
                        begin_ms - since_ms
                    );
                    judge.violation(text, operation.lines().chain([*line]));
                }
                if let Some((_, Some(ok_ms), line)) = sent_of(*offset)
                    && ok_ms.saturating_add(slack_ms) < *since_ms
                {
                    let text = format!(
                        "{queue}: the first message since {since_ms} is at {offset}, which was \
                         acknowledged {} ms before",
                        since_ms - ok_ms
                    );
                    judge.violation(text, operation.lines().chain([*line]));
                }
            }
        }
    }
    asked
}

/// When it was seen of each queue that it began where, but for the beginning.
fn trimmed<'a>(view: &View<'a>) -> HashMap<(&'a str, u32), Vec<(u64, u64)>> {
    let mut trimmed: HashMap<(&str, u32), Vec<(u64, u64)>> = HashMap::new();
    for event in view.events {
        if let Action::Progress { topic, queue_id, min_offset, .. } = &event.action
            && *min_offset > 0
        {
            trimmed.entry((topic, *queue_id)).or_default().push((event.time_ns, *min_offset));
        }
    }
    trimmed
}

/// What lies at each place.
fn values<'a>(view: &View<'a>) -> HashMap<Place<'a>, &'a str> {
    view.sightings().map(|seen| (seen.place, seen.value)).collect()
}

/// When each value was sent first, and acknowledged first, in milliseconds since 1970; and a line.
fn sent_ms<'a>(view: &View<'a>) -> HashMap<&'a str, (u64, Option<u64>, u64)> {
    let mut sent: HashMap<&str, (u64, Option<u64>, u64)> = HashMap::new();
    for send in &view.sends {
        let begin = send.operation.invoke;
        let one = sent.entry(send.value).or_insert((begin.wall_ms, None, begin.index));
        let end = send.operation.end.filter(|_| send.operation.outcome() == Outcome::Ok);
        one.1 = one.1.or(end.map(|end| end.wall_ms));
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;
    use crate::history::Phase;

    fn judged(history: &History) -> Finding {
        let expect = Expectations { clock_slack_ms: 0, ..Expectations::default() };
        check(&View::new(&history.events), &expect)
    }

    fn texts(history: &History) -> Vec<String> {
        judged(history).violations.into_iter().map(|violation| violation.text).collect()
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good_features());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert!(finding.figures["pulled"] > 0.0 && finding.figures["offsets_told"] > 0.0);
    }

    #[test]
    fn a_pull_has_no_hole_and_no_message_twice() {
        let mut history = History::new();
        history.pulled(3, &[("a", 3), ("b", 4)], 5);
        assert_eq!(texts(&history), [""; 0]);
        history.pulled(5, &[("c", 6)], 7).pulled(7, &[("d", 7), ("d", 7)], 9);
        history.pulled(9, &[("e", 9)], 11);
        let texts = texts(&history);
        assert_eq!(texts[0], "a pull from offset 5 brought offsets [6]");
        assert_eq!(texts[1], "a pull from offset 7 brought offsets [7, 7]");
        assert_eq!(texts[2], "a pull from offset 9 that brought 1 messages goes on at 11");
    }

    #[test]
    fn a_place_that_was_kept_is_found_again() {
        let mut history = History::new();
        history.got_offset(None).got_offset(Some(0)).kept_offset(Phase::Ok, 5).got_offset(Some(5));
        history.kept_offset(Phase::Unknown, 9).got_offset(Some(5)).got_offset(Some(9));
        history.kept_offset(Phase::Fail, 12).got_offset(Some(9));
        assert_eq!(texts(&history), [""; 0]);
        history.got_offset(Some(12)).kept_offset(Phase::Ok, 20).got_offset(None);
        let who = "group g, topic t queue 0: the offset is";
        assert_eq!(
            texts(&history),
            [format!("{who} 12, and 9 was kept"), format!("{who} none, and 20 was kept"),]
        );
    }

    #[test]
    fn everything_is_pulled_in_the_end() {
        let mut history = History::new();
        history.pulled(0, &[("a", 0)], 1).pulled(2, &[("c", 2)], 3).mark("drained");
        for (offset, value) in (0..).zip(["a", "b", "c", "d"]) {
            history.stored("n1", 0, offset, value);
        }
        history.stored("n1", 1, 0, "of another queue").mark("end");
        let text = "group g, topic t queue 0: 2 messages were never pulled, from offset 1 to 3";
        assert_eq!(texts(&history), [text]);
    }

    #[test]
    fn the_end_of_a_queue_is_not_before_what_was_pulled() {
        let mut history = History::new();
        history.pulled(0, &[("a", 0), ("b", 1)], 2).asked_offset(None, 2).asked_offset(None, 1);
        assert_eq!(texts(&history), ["topic t queue 0: the end is 1, and 2 was reached before"]);
    }

    #[test]
    fn a_time_is_a_place_between_the_sends_around_it() {
        let mut history = History::new();
        history.at(1_000).sent("a").at(2_000).sent("b").at(3_000).sent("c");
        for (offset, value) in (0..).zip(["a", "b", "c"]) {
            history.stored("n1", 0, offset, value);
        }
        history.asked_offset(Some(0), 0).asked_offset(Some(1_500), 1).asked_offset(Some(9_000), 3);
        assert_eq!(texts(&history), [""; 0]);
        history.asked_offset(Some(1_500), 2).asked_offset(Some(2_500), 1);
        // Retention has let go of what lay before.
        history.at(60_000).asked_offset(Some(0), 1).progress("n1", [1, 1, 1, 3]);
        let texts = texts(&history);
        assert_eq!(texts.len(), 2, "{texts:?}");
        let passed = "is at 2, and the one before it was sent 500 ms later than that";
        assert!(texts[0].ends_with(passed), "{texts:?}");
        assert!(texts[1].ends_with("is at 1, which was acknowledged 499 ms before"), "{texts:?}");
    }

    #[test]
    fn without_pulls_it_is_unknown() {
        assert_eq!(judged(&History::good()).verdict, Verdict::Unknown);
    }
}
