//! Lite topics come to those who subscribe to them, and to nobody else.
//!
//! Each client says to what it subscribes as one process, one call after the other: what it was told last
//! counts, and so may anything whose answer it did not get. What a client receives was decided after it
//! asked first; an answer that was lost comes again although a subscription has ended since.
//!
//! Subscriptions survive faults: clients that say nothing again go on receiving soon after each.
//!
//! Not here: the order within a lite topic and how long its messages wait (`fifo_order`), whether all of
//! them came (`lost`).

use std::collections::{BTreeSet, HashMap};

use super::judge::{Judge, ms};
use super::operation::{Operation, Outcome};
use super::view::{Receive, View};
use super::window::Window;
use super::{Checker, Finding};
use crate::history::{Action, Kind};

/// After a fault has ended, something of lite topics comes within this.
const GAP_NS_MAX: u64 = 5_000_000_000;

/// Each delivery went to a client that subscribed to its lite topic, and deliveries go on soon after each
/// fault, some of them to clients that subscribed before it.
pub fn check(view: &View<'_>) -> Finding {
    let mut judge = Judge::new(Checker::Lite);
    let lite_topics = lite_topics(view);
    let subscriptions = Subscriptions::of(view);
    let mut deliveries = Vec::new();
    let mut first_asked_ns: HashMap<&str, u64> = HashMap::new();
    for receive in &view.receives {
        let mut asked_ns = receive.operation.invoke_ns();
        if let Some(attempt_id) = receive.attempt_id {
            asked_ns = *first_asked_ns.entry(attempt_id).or_insert(asked_ns);
        }
        let Some(end) = receive.operation.end else { continue };
        for delivery in receive.deliveries {
            let Some(lite_topic) = lite_topics.get(&(receive.topic, &*delivery.value)) else {
                continue;
            };
            let process = receive.operation.invoke.process;
            deliveries.push((end.time_ns, process));
            let between = (asked_ns, end.time_ns);
            if !subscriptions.may_have(receive, process, lite_topic, between) {
                let (value, group) = (&delivery.value, receive.group);
                let text = format!(
                    "group {group}: {value} came to process {process}, which does not subscribe to \
                     {lite_topic}"
                );
                judge.violation(text, receive.operation.lines());
            }
        }
    }
    let mut gaps_ns: Vec<u64> = Vec::new();
    let mut kept = 0;
    for window in &view.windows {
        gaps_ns.extend(judge_gap(view, window, &deliveries, &mut judge));
        kept += subscriptions.kept(window, &deliveries);
    }
    judge.count("lite_topics", lite_topics.values().collect::<BTreeSet<_>>().len());
    judge.count("deliveries", deliveries.len());
    judge.count("subscriptions_kept", kept);
    judge.figure("gap_max_ms", ms(gaps_ns.iter().copied().max().unwrap_or(0)) as f64);
    if deliveries.is_empty() {
        judge.unknown("nothing of a lite topic was delivered");
    } else if kept == 0 {
        judge.unknown("no client received after a fault by what it had subscribed to before");
    }
    judge.finish(format!(
        "{} deliveries; {kept} times a client went on after a fault without a word",
        deliveries.len()
    ))
}

/// The lite topic of each message, by topic and value.
fn lite_topics<'a>(view: &View<'a>) -> HashMap<(&'a str, &'a str), &'a str> {
    let of = view.sends.iter().filter_map(|send| match send.kind {
        Kind::Lite { lite_topic } => Some(((send.topic, send.value), lite_topic.as_str())),
        _ => None,
    });
    of.collect()
}

/// What each process said, in turn.
struct Subscriptions<'a>(HashMap<u32, Vec<(Operation<'a>, BTreeSet<&'a str>)>>);

impl<'a> Subscriptions<'a> {
    fn of(view: &View<'a>) -> Self {
        let mut said: HashMap<u32, Vec<_>> = HashMap::new();
        for operation in &view.operations {
            let Action::Subscribe { lite_topics, .. } = operation.action() else { continue };
            let all = lite_topics.iter().map(String::as_str).collect();
            said.entry(operation.invoke.process).or_default().push((*operation, all));
        }
        Self(said)
    }

    /// Whether a process may have subscribed to a lite topic at some time of a span.
    fn may_have(
        &self,
        receive: &Receive<'_>,
        process: u32,
        lite_topic: &str,
        (from_ns, until_ns): (u64, u64),
    ) -> bool {
        let of_group = |operation: &Operation<'_>| match operation.action() {
            Action::Subscribe { group, topic, .. } => {
                group == receive.group && topic == receive.topic
            }
            _ => false,
        };
        // From the last one on that counted when the span began, and what is not known to count.
        let said = self.0.get(&process).into_iter().flatten();
        let said: Vec<_> = said.filter(|(operation, _)| of_group(operation)).collect();
        let counted =
            |operation: &Operation<'_>| operation.ok_ns().is_some_and(|ok_ns| ok_ns < from_ns);
        let last = said.iter().rposition(|(operation, _)| counted(operation)).unwrap_or(0);
        said.iter().enumerate().any(|(position, (operation, all))| {
            let may_count = match operation.outcome() {
                Outcome::Ok => position >= last,
                Outcome::Unknown => true,
                Outcome::Fail => false,
            };
            may_count && operation.invoke_ns() <= until_ns && all.contains(lite_topic)
        })
    }

    /// Processes that received soon after a fault, and had said nothing since it began.
    fn kept(&self, window: &Window<'_>, deliveries: &[(u64, u32)]) -> usize {
        let Some(end) = window.end else { return 0 };
        let until_ns = end.time_ns.saturating_add(GAP_NS_MAX);
        let begin_ns = window.begin.time_ns;
        let silent = |(at_ns, process): &&(u64, u32)| {
            let said = self.0.get(process).into_iter().flatten();
            let mut times_ns = said.map(|(operation, _)| operation.invoke_ns());
            times_ns.all(|said_ns| said_ns < begin_ns || said_ns > *at_ns)
        };
        let soon = deliveries.iter().filter(|(at_ns, _)| (end.time_ns..until_ns).contains(at_ns));
        soon.filter(silent).map(|(_, process)| process).collect::<BTreeSet<_>>().len()
    }
}

/// From the end of a fault until something came; nothing while no message was sent.
fn judge_gap(
    view: &View<'_>,
    window: &Window<'_>,
    deliveries: &[(u64, u32)],
    judge: &mut Judge,
) -> Option<u64> {
    let end_ns = window.end?.time_ns;
    let until_ns = end_ns.saturating_add(GAP_NS_MAX);
    // Another one may strike meanwhile.
    let mut others = view.windows.iter().map(|other| other.begin.time_ns);
    if others.any(|begin_ns| (end_ns..until_ns).contains(&begin_ns)) {
        return None;
    }
    let lite = |kind: &Kind| matches!(kind, Kind::Lite { .. });
    let mut sends = view.sends.iter().filter(|send| lite(send.kind));
    let is_sent = sends.any(|send| {
        let ok_ns = send.operation.ok_ns().unwrap_or(0);
        // In its first half, so that there is time to receive it.
        (end_ns..end_ns.saturating_add(GAP_NS_MAX / 2)).contains(&ok_ns)
    });
    let after = deliveries.iter().map(|(at_ns, _)| *at_ns).filter(|at_ns| *at_ns >= end_ns);
    let gap_ns = after.min().map_or(u64::MAX, |at_ns| at_ns - end_ns);
    if is_sent && gap_ns > GAP_NS_MAX {
        let text = format!(
            "nothing of a lite topic came for {} ms after {}",
            ms(GAP_NS_MAX),
            window.title()
        );
        judge.violation(text, window.lines());
    }
    (is_sent && gap_ns < u64::MAX).then_some(gap_ns)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;
    use crate::history::Phase;

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events))
    }

    fn texts(history: &History) -> Vec<String> {
        judged(history).violations.into_iter().map(|violation| violation.text).collect()
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good_features());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert_eq!(finding.figures["subscriptions_kept"], 1.0);
    }

    /// Process 3 subscribes to `x`; `x1` and `y1` are sent.
    fn sent() -> History {
        let mut history = History::new();
        history.subscribed(Phase::Ok, "g", &["x"]).sent_lite("x", "x1").sent_lite("y", "y1");
        history
    }

    #[test]
    fn what_nobody_subscribed_to_must_not_come() {
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10_000);
        assert_eq!(texts(&history), [""; 0]);
        history.received("g", &[("y1", 1)], 10_000);
        assert_eq!(
            texts(&history),
            ["group g: y1 came to process 3, which does not subscribe to y"]
        );
        // For another group it does not count.
        let mut history = sent();
        history.received("h", &[("x1", 1)], 10_000);
        assert_eq!(texts(&history).len(), 1);
    }

    #[test]
    fn what_was_given_up_must_not_come_any_more() {
        let mut history = sent();
        history.subscribed(Phase::Ok, "g", &["y"]).received("g", &[("x1", 1)], 10_000);
        assert_eq!(texts(&history).len(), 1);
        // Neither is known to count.
        let mut history = sent();
        history.subscribed(Phase::Unknown, "g", &["y"]);
        history.received("g", &[("x1", 1), ("y1", 1)], 10_000);
        assert_eq!(texts(&history), [""; 0]);
        let mut history = sent();
        history.subscribed(Phase::Fail, "g", &["y"]).received("g", &[("y1", 1)], 10_000);
        assert_eq!(texts(&history).len(), 1);
    }

    #[test]
    fn deliveries_go_on_after_a_fault() {
        let after = |ms: u64| {
            let mut history = sent();
            history.at(1_000).fault_begins("kill", "n1").fault_ends("kill", "n1", true);
            history.sent_lite("x", "x2").at(ms).received("g", &[("x1", 1)], 10_000);
            judged(&history)
        };
        assert_eq!(after(2_000).verdict, Verdict::Pass);
        let finding = after(9_000);
        assert_eq!(
            finding.violations[0].text,
            "nothing of a lite topic came for 5000 ms after kill of n1"
        );
    }

    #[test]
    fn without_a_fault_that_was_survived_it_is_unknown() {
        let mut history = sent();
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
        history.received("g", &[("x1", 1)], 10_000);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
