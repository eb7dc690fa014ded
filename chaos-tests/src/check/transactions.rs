//! Each transaction ends once: a committed message is delivered and lies in one place, and one that was
//! rolled back, or about which nobody decided, never shows.
//!
//! Decisions are `end_transaction` operations, of producers by themselves or when a broker asked. One
//! whose outcome nobody knows may have counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::judge::{Judge, ms};
use super::operation::{Operation, Outcome};
use super::view::{Place, Send, View};
use super::{Checker, Expectations, Finding};
use crate::history::{Action, Kind};

/// A half message shows only after somebody may have committed it; a commit that was acknowledged makes
/// it show, at one place; a transaction is not told that it ended both ways; a decision that is repeated
/// is acknowledged again; nobody is asked before the time that the message gives its producer; and in
/// the end nothing is undecided.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Transactions);
    let transactions = transactions(view);
    let (mut committed, mut rolled_back, mut silent) = (0, 0, 0);
    for ((topic, value), transaction) in &transactions {
        let done = [true, false].map(|commit| transaction.ok(commit).next().is_some());
        committed += usize::from(done[0]);
        rolled_back += usize::from(done[1]);
        silent += usize::from(transaction.ends.is_empty());
        let who = format!("{value} of topic {topic}");
        transaction.judge_shown(&who, &mut judge);
        transaction.judge_committed(&who, view, &mut judge);
        transaction.judge_ends(&who, &mut judge);
        transaction.judge_checks(&who, expect, &mut judge);
    }
    judge_undecided(view, &mut judge);
    let checks: usize = transactions.values().map(|one| one.checks_ns.len()).sum();
    judge.count("transactions", transactions.len());
    judge.count("committed", committed);
    judge.count("rolled_back", rolled_back);
    judge.count("never_decided", silent);
    judge.count("checks", checks);
    if committed == 0 || rolled_back == 0 {
        judge.unknown("not both a commit and a rollback were acknowledged");
    }
    judge.finish(format!(
        "{} transactions: {committed} committed, {rolled_back} rolled back, {silent} never decided; \
         {checks} checks",
        transactions.len()
    ))
}

/// One transaction.
struct Transaction<'v> {
    send: &'v Send<'v>,
    /// Decisions about it, in the order of their begins.
    ends: Vec<&'v Operation<'v>>,
    /// When producers were asked, and the line.
    checks_ns: Vec<(u64, u64)>,
    /// Where it was seen first: the time, the line.
    shown: Option<(u64, u64)>,
    /// At which places it was seen.
    places: BTreeSet<Place<'v>>,
    is_received: bool,
}

fn transactions<'v>(view: &'v View<'v>) -> BTreeMap<(&'v str, &'v str), Transaction<'v>> {
    let mut all: HashMap<(&str, &str), Transaction<'_>> = HashMap::new();
    for send in view.sends.iter().filter(|send| matches!(send.kind, Kind::Half { .. })) {
        all.entry((send.topic, send.value)).or_insert_with(|| Transaction {
            send,
            ends: Vec::new(),
            checks_ns: Vec::new(),
            shown: None,
            places: BTreeSet::new(),
            is_received: false,
        });
    }
    for operation in &view.operations {
        if let Action::EndTransaction { topic, value, .. } = operation.action()
            && let Some(one) = all.get_mut(&(topic.as_str(), value.as_str()))
        {
            one.ends.push(operation);
        }
    }
    for event in view.events {
        if let Action::Check { topic, value } = &event.action
            && let Some(one) = all.get_mut(&(topic.as_str(), value.as_str()))
        {
            one.checks_ns.push((event.time_ns, event.index));
        }
    }
    let mut show = |key: (&'v str, &'v str), time_ns: u64, line: u64, received: bool| {
        if let Some(one) = all.get_mut(&key) {
            let first = one.shown.get_or_insert((time_ns, line));
            *first = (time_ns, line).min(*first);
            one.is_received |= received;
        }
    };
    for receive in &view.receives {
        let Some(end) = receive.operation.end else { continue };
        for delivery in receive.deliveries {
            show((receive.topic, &delivery.value), end.time_ns, end.index, true);
        }
    }
    for one in &view.stored {
        show((one.place.topic, one.value), one.event.time_ns, one.event.index, false);
    }
    for seen in view.sightings() {
        if let Some(one) = all.get_mut(&(seen.place.topic, seen.value)) {
            one.places.insert(seen.place);
        }
    }
    all.into_iter().collect()
}

fn commits(operation: &Operation<'_>) -> bool {
    matches!(operation.action(), Action::EndTransaction { commit: true, .. })
}

fn is_refused(operation: &Operation<'_>) -> bool {
    matches!(operation.action(), Action::EndTransaction { refused: true, .. })
}

impl<'v> Transaction<'v> {
    /// Acknowledged decisions of this kind.
    fn ok(&self, commit: bool) -> impl Iterator<Item = &&'v Operation<'v>> {
        let ends = self.ends.iter();
        ends.filter(move |end| end.outcome() == Outcome::Ok && commits(end) == commit)
    }

    fn judge_shown(&self, who: &str, judge: &mut Judge) {
        let Some((shown_ns, line)) = self.shown else { return };
        let may_commit = |end: &&&Operation<'_>| {
            commits(end) && end.outcome() != Outcome::Fail && end.invoke_ns() <= shown_ns
        };
        if self.ends.iter().any(|end| may_commit(&end)) {
            return;
        }
        let text = match (self.ok(false).next(), self.ends.iter().any(|end| commits(end))) {
            (Some(_), _) => format!("{who} was delivered although it was rolled back"),
            (None, true) => format!("{who} was delivered before anybody could commit it"),
            (None, false) => format!("{who} was delivered and nobody committed it"),
        };
        let ends = self.ends.iter().flat_map(|end| end.lines());
        judge.violation(text, self.send.operation.lines().chain(ends).chain([line]));
    }

    fn judge_committed(&self, who: &str, view: &View<'_>, judge: &mut Judge) {
        if self.places.len() > 1 {
            let places: Vec<String> = self.places.iter().map(Place::to_string).collect();
            let text = format!("{who} was committed to {}", places.join(" and "));
            let ends = self.ends.iter().flat_map(|end| end.lines());
            judge.violation(text, ends.chain(self.shown.map(|(_, line)| line)));
        }
        let (Some(commit), Some(_)) = (self.ok(true).next(), view.drained()) else { return };
        let is_consumed = view.receives.iter().any(|one| one.topic == self.send.topic);
        if is_consumed && !self.is_received {
            let at_ms = commit.ok_ns().map_or(0, ms);
            let text = format!("{who} was committed at {at_ms} ms and never delivered");
            judge.violation(text, commit.lines());
        }
    }

    fn judge_ends(&self, who: &str, judge: &mut Judge) {
        if let (Some(commit), Some(rollback)) = (self.ok(true).next(), self.ok(false).next()) {
            let text = format!("{who} was told that it is committed and that it is rolled back");
            judge.violation(text, commit.lines().chain(rollback.lines()));
        }
        for again in self.ends.iter().filter(|end| is_refused(end)) {
            let mut done = self.ok(commits(again));
            let before =
                done.find(|done| done.ok_ns().is_some_and(|ok_ns| ok_ns < again.invoke_ns()));
            if let Some(before) = before {
                let what = if commits(again) { "commit" } else { "rollback" };
                let text = format!("{who}: a repeated {what} was refused");
                judge.violation(text, before.lines().chain(again.lines()));
            }
        }
    }

    fn judge_checks(&self, who: &str, expect: &Expectations, judge: &mut Judge) {
        let Kind::Half { recovery_ms } = self.send.kind else { return };
        let slack_ns = expect.clock_slack_ms.saturating_mul(1_000_000);
        let earliest_ns = self
            .send
            .operation
            .invoke_ns()
            .saturating_add(recovery_ms.saturating_mul(1_000_000))
            .saturating_sub(slack_ns);
        if let Some((_, line)) = self.checks_ns.iter().find(|(time_ns, _)| *time_ns < earliest_ns) {
            let text = format!("{who}: its producer was asked before the {recovery_ms} ms it has");
            judge.violation(text, self.send.operation.lines().chain([*line]));
        }
    }
}

/// The last word on each topic, after the drain.
fn judge_undecided(view: &View<'_>, judge: &mut Judge) {
    let Some(drained) = view.drained() else { return };
    let mut last: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for event in view.events.iter().filter(|event| event.index > drained.index) {
        if let Action::Undecided { topic, count } = &event.action {
            last.insert(topic, (*count, event.index));
        }
    }
    if last.is_empty() {
        judge.unknown("nobody asked what is undecided in the end");
    }
    for (topic, (count, line)) in last.into_iter().filter(|(_, (count, _))| *count > 0) {
        let text = format!("topic {topic}: {count} half messages are undecided in the end");
        judge.violation(text, [line]);
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
        let figures =
            ["committed", "rolled_back", "never_decided"].map(|name| finding.figures[name]);
        assert_eq!(figures, [1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_half_message_does_not_show() {
        let mut history = History::new();
        history.sent_half("a").received("g", &[("a", 1)], 10);
        assert_eq!(texts(&history), ["a of topic t was delivered and nobody committed it"]);
        history.ended("a", true);
        assert_eq!(texts(&history), ["a of topic t was delivered before anybody could commit it"]);
        let mut history = History::new();
        history.sent_half("a").stored("n1", 0, 0, "a");
        assert_eq!(texts(&history).len(), 1);
    }

    #[test]
    fn what_was_rolled_back_does_not_show() {
        let mut history = History::new();
        history.sent_half("a").ended("a", false).end_transaction(Phase::Fail, "a", true);
        history.received("g", &[("a", 1)], 10);
        assert_eq!(texts(&history), ["a of topic t was delivered although it was rolled back"]);
    }

    #[test]
    fn a_commit_that_may_have_counted_may_show() {
        let mut history = History::new();
        history.sent_half("a").end_transaction(Phase::Unknown, "a", true);
        history.received("g", &[("a", 1)], 10);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn what_was_committed_comes_once() {
        let mut history = History::new();
        history.sent_half("a").ended("a", true).sent_half("b").ended("b", true);
        history.received("g", &[("a", 1)], 10).mark("drained").undecided(0).mark("end");
        assert_eq!(texts(&history), ["b of topic t was committed at 7 ms and never delivered"]);
        let mut history = History::new();
        history.sent_half("a").ended("a", true).stored("n1", 0, 0, "a").stored("n2", 0, 3, "a");
        let places = "topic t queue 0 offset 0 and topic t queue 0 offset 3";
        assert_eq!(texts(&history), [format!("a of topic t was committed to {places}")]);
    }

    #[test]
    fn a_transaction_ends_one_way_and_says_so_again() {
        let mut history = History::new();
        history.sent_half("a").ended("a", true).ended("a", false);
        let text = "a of topic t was told that it is committed and that it is rolled back";
        assert_eq!(texts(&history), [text]);
        let mut history = History::new();
        history.sent_half("a").ended("a", true).end_transaction(Phase::Fail, "a", true);
        assert_eq!(texts(&history), ["a of topic t: a repeated commit was refused"]);
        let mut history = History::new();
        history.sent_half("a").ended("a", false).ended("a", false);
        history.end_transaction(Phase::Fail, "a", true);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn a_producer_has_the_time_that_its_message_gives_it() {
        let mut history = History::new();
        history.sent_half("a").at(900).checked("a");
        assert_eq!(
            texts(&history),
            ["a of topic t: its producer was asked before the 1000 ms it has"]
        );
        let mut history = History::new();
        history.sent_half("a").at(1_000).checked("a");
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn in_the_end_everything_is_decided() {
        let mut history = History::new();
        history.sent_half("a").undecided(1).mark("drained").undecided(1).mark("end");
        assert_eq!(texts(&history), ["topic t: 1 half messages are undecided in the end"]);
    }

    #[test]
    fn without_ends_it_is_unknown() {
        let mut history = History::new();
        history.sent_half("a").ended("a", true);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
