//! Delayed messages come when they are due: never early, seldom late, and not at all once they were
//! recalled.
//!
//! A delivery was decided before the end of its `receive`, so it was early only if even that end lies
//! before the due time; by how much the clocks may differ is [`Expectations::clock_slack_ms`]. How late
//! the first delivery of each came is measured always, and judged while nothing is broken. A message
//! whose send took longer than its delay is late from its acknowledgement on.

use std::collections::{BTreeMap, HashMap};

use super::judge::{Judge, ms, percentile};
use super::later::due_ns;
use super::operation::{Operation, Outcome};
use super::view::{Send, View};
use super::window::is_calm;
use super::{Checker, Expectations, Finding};
use crate::history::{Action, Kind};

/// After a fault the cluster is given time to get going.
const SETTLING_NS: u64 = 5_000_000_000;

/// No delivery before its message is due; none of a message whose recall was acknowledged; no recall
/// acknowledged of one that was delivered before; everything acknowledged and due is delivered; and late
/// by at most [`Expectations::late_max_ms`] where nothing is broken.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Delays);
    let delayed = delayed(view);
    let seen = Seen::of(view);
    let mut late_ms = Vec::new();
    let (mut delivered, mut recalled, mut pending) = (0, 0, 0);
    for (key, message) in &delayed {
        let deliveries = seen.delivered.get(key).map_or(&[][..], Vec::as_slice);
        let recalls = seen.recalls.get(key).map_or(&[][..], Vec::as_slice);
        delivered += usize::from(!deliveries.is_empty());
        recalled += usize::from(recalls.iter().any(|recall| recall.outcome() == Outcome::Ok));
        message.judge_early(deliveries, expect, &mut judge);
        message.judge_recalls(deliveries, recalls, &seen, key, &mut judge);
        if let Some(first) = deliveries.first() {
            late_ms.extend(message.judge_late(view, first, expect, &mut judge));
        } else if recalls.iter().all(|recall| recall.outcome() == Outcome::Fail) {
            pending += usize::from(!message.judge_missing(view, key, &mut judge));
        }
    }
    late_ms.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| percentile(&late_ms, percent));
    let max = late_ms.last().copied().unwrap_or(0);
    judge.count("delayed", delayed.len());
    judge.count("delivered", delivered);
    judge.count("recalled", recalled);
    judge.count("not_due", pending);
    judge.figure("late_p50_ms", p50 as f64);
    judge.figure("late_p99_ms", p99 as f64);
    judge.figure("late_max_ms", max as f64);
    if delivered == 0 {
        judge.unknown("no delayed message was delivered");
    }
    judge.finish(format!(
        "{} delayed messages, {delivered} delivered, {recalled} recalled; late by {p50} ms (p50), \
         {p99} ms (p99), {max} ms at the most, faults included",
        delayed.len()
    ))
}

/// Topic and value.
type Key<'a> = (&'a str, &'a str);

/// One delayed message.
struct Delayed<'v> {
    value: &'v str,
    due_ns: u64,
    /// When it was first acknowledged.
    ok_ns: Option<u64>,
    send: &'v Send<'v>,
}

fn delayed<'v>(view: &'v View<'v>) -> BTreeMap<Key<'v>, Delayed<'v>> {
    let mut all: BTreeMap<Key<'_>, Delayed<'_>> = BTreeMap::new();
    for send in view.sends.iter().filter(|send| matches!(send.kind, Kind::Delay { .. })) {
        let Some(due_ns) = due_ns(send) else { continue };
        let first = Delayed { value: send.value, due_ns, ok_ns: None, send };
        let message = all.entry((send.topic, send.value)).or_insert(first);
        if let Some(ok_ns) = send.operation.ok_ns() {
            message.ok_ns = Some(message.ok_ns.map_or(ok_ns, |first_ns| ok_ns.min(first_ns)));
        }
    }
    all
}

/// A delivery.
struct Delivered {
    attempt: u32,
    begin_ns: u64,
    end_ns: u64,
    line: u64,
}

/// What became of the messages.
struct Seen<'a> {
    /// In the order of the ends.
    delivered: HashMap<Key<'a>, Vec<Delivered>>,
    recalls: HashMap<Key<'a>, Vec<&'a Operation<'a>>>,
    /// A line that shows it in a replica.
    stored: HashMap<Key<'a>, u64>,
}

impl<'a> Seen<'a> {
    fn of(view: &'a View<'a>) -> Self {
        let mut delivered: HashMap<Key<'_>, Vec<Delivered>> = HashMap::new();
        for receive in &view.receives {
            let Some(end) = receive.operation.end else { continue };
            for delivery in receive.deliveries {
                let seen = Delivered {
                    attempt: delivery.attempt,
                    begin_ns: receive.operation.invoke_ns(),
                    end_ns: end.time_ns,
                    line: end.index,
                };
                delivered.entry((receive.topic, &delivery.value)).or_default().push(seen);
            }
        }
        delivered.values_mut().for_each(|all| all.sort_by_key(|one| (one.end_ns, one.line)));
        let mut recalls: HashMap<Key<'_>, Vec<&Operation<'_>>> = HashMap::new();
        for operation in &view.operations {
            if let Action::Recall { topic, value } = operation.action() {
                recalls.entry((topic, value)).or_default().push(operation);
            }
        }
        let stored = view.stored.iter();
        let stored = stored.map(|one| ((one.place.topic, one.value), one.event.index)).collect();
        Self { delivered, recalls, stored }
    }
}

impl Delayed<'_> {
    fn judge_early(&self, deliveries: &[Delivered], expect: &Expectations, judge: &mut Judge) {
        let slack_ns = expect.clock_slack_ms.saturating_mul(1_000_000);
        let early = deliveries.iter().find(|one| one.end_ns.saturating_add(slack_ns) < self.due_ns);
        if let Some(early) = early {
            let early_ms = ms(self.due_ns - early.end_ns);
            let text = format!("{} came {early_ms} ms before it was due", self.value);
            judge.violation(text, self.send.operation.lines().chain([early.line]));
        }
    }

    fn judge_recalls(
        &self,
        deliveries: &[Delivered],
        recalls: &[&Operation<'_>],
        seen: &Seen<'_>,
        key: &Key<'_>,
        judge: &mut Judge,
    ) {
        let ok = recalls.iter().find(|recall| recall.outcome() == Outcome::Ok);
        let Some(recall) = ok else { return };
        let before = deliveries.iter().find(|one| one.end_ns < recall.invoke_ns());
        let text = match (before, deliveries.first(), seen.stored.get(key)) {
            (Some(_), _, _) => "was recalled after it had been delivered",
            (None, Some(_), _) => "was delivered although it was recalled",
            (None, None, Some(_)) => "is in its queue although it was recalled",
            (None, None, None) => return,
        };
        let shown = before.or(deliveries.first()).map(|one| one.line);
        let line = shown.or(seen.stored.get(key).copied());
        judge.violation(format!("{} {text}", self.value), recall.lines().chain(line));
    }

    /// How late it was, if it came for the first time.
    fn judge_late(
        &self,
        view: &View<'_>,
        first: &Delivered,
        expect: &Expectations,
        judge: &mut Judge,
    ) -> Option<u64> {
        if first.attempt != 1 {
            return None;
        }
        let wanted_ns = self.due_ns.max(self.ok_ns?);
        let late_ms = ms(first.end_ns.saturating_sub(wanted_ns));
        // Nobody asked for it before that.
        let asked_late = first.begin_ns > wanted_ns;
        // It should have come by then.
        let latest_ns = wanted_ns.saturating_add(expect.late_max_ms.saturating_mul(1_000_000));
        let between = (wanted_ns.min(first.end_ns), first.end_ns.min(latest_ns));
        let judged = !asked_late && is_calm(&view.windows, between, SETTLING_NS);
        if judged && late_ms > expect.late_max_ms {
            let max_ms = expect.late_max_ms;
            let text = format!(
                "{} came {late_ms} ms after it was due, at most {max_ms} ms are allowed",
                self.value
            );
            judge.violation(text, self.send.operation.lines().chain([first.line]));
        }
        Some(late_ms)
    }

    /// Whether it should have come and did not.
    fn judge_missing(&self, view: &View<'_>, key: &Key<'_>, judge: &mut Judge) -> bool {
        let Some(drained) = view.drained() else { return false };
        let consumed = view.receives.iter().any(|receive| receive.topic == key.0);
        if self.ok_ns.is_none() || !consumed || self.due_ns >= drained.time_ns {
            return false;
        }
        let due_ms = ms(self.due_ns);
        let text = format!("{} was due at {due_ms} ms and never came", self.value);
        judge.violation(text, self.send.operation.lines());
        true
    }
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
        assert_eq!((finding.figures["delivered"], finding.figures["recalled"]), (1.0, 1.0));
    }

    #[test]
    fn nothing_comes_early_also_not_again() {
        let mut history = History::new();
        history.sent_later("a", 5_000).at(4_990).received("g", &[("a", 1)], 10);
        assert_eq!(texts(&history), ["a came 9 ms before it was due"]);
        let slack = Expectations { clock_slack_ms: 10, ..Expectations::default() };
        assert_eq!(check(&View::new(&history.events), &slack).verdict, Verdict::Pass);
    }

    #[test]
    fn a_call_that_waited_may_begin_early() {
        let mut history = History::new();
        history.sent_later("a", 5_000).receive_begins(3, "g");
        history.at(5_000).receive_ends(3, "g", &[("a", 1)], 10);
        let finding = judged(&history);
        assert_eq!((finding.verdict, finding.figures["late_max_ms"]), (Verdict::Pass, 0.0));
    }

    #[test]
    fn lateness_is_judged_where_nothing_is_broken() {
        let late = |broken: bool| {
            let mut history = History::new();
            history.sent_later("a", 1_000).receive_begins(3, "g");
            if broken {
                history.at(900).fault_begins("kill", "n1").at(1_100).fault_ends("kill", "n1", true);
            }
            history.at(9_000).receive_ends(3, "g", &[("a", 1)], 10);
            judged(&history)
        };
        let text = "a came 8000 ms after it was due, at most 3000 ms are allowed";
        assert_eq!(late(false).violations[0].text, text);
        assert_eq!(late(true).verdict, Verdict::Pass);
        assert_eq!(late(true).figures["late_max_ms"], 8000.0);
        // Nobody asked before.
        let mut history = History::new();
        history.sent_later("a", 1_000).at(9_000).received("g", &[("a", 1)], 10);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn what_was_recalled_never_comes() {
        let mut history = History::new();
        history.sent_later("a", 1_000).recall(Phase::Ok, "a");
        history.at(2_000).received("g", &[("a", 1)], 10);
        assert_eq!(texts(&history), ["a was delivered although it was recalled"]);
        let mut history = History::new();
        history.sent_later("a", 1_000).recall(Phase::Ok, "a").stored("n1", 0, 0, "a");
        assert_eq!(texts(&history), ["a is in its queue although it was recalled"]);
        for phase in [Phase::Fail, Phase::Unknown] {
            let mut history = History::new();
            history.sent_later("a", 1_000).recall(phase, "a");
            history.at(2_000).received("g", &[("a", 1)], 10);
            assert_eq!(texts(&history), [""; 0]);
        }
    }

    #[test]
    fn what_was_delivered_is_not_recalled() {
        let mut history = History::new();
        history.sent_later("a", 1_000).at(2_000).received("g", &[("a", 1)], 10);
        history.recall(Phase::Fail, "a");
        assert_eq!(texts(&history), [""; 0]);
        history.recall(Phase::Ok, "a");
        assert_eq!(texts(&history), ["a was recalled after it had been delivered"]);
    }

    #[test]
    fn everything_due_comes_in_the_end() {
        let mut history = History::new();
        history.sent_later("a", 1_000).sent_later("b", 1_000).sent_later("c", 90_000);
        history.sent_later("d", 1_000).recall(Phase::Unknown, "d");
        history.at(2_000).received("g", &[("a", 1)], 10).mark("drained").mark("end");
        assert_eq!(texts(&history), ["b was due at 1000 ms and never came"]);
        assert_eq!(judged(&history).figures["not_due"], 1.0);
    }

    #[test]
    fn without_deliveries_it_is_unknown() {
        let mut history = History::new();
        history.sent_later("a", 1_000);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
