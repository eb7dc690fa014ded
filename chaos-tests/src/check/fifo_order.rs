//! Messages of a message group come in the order in which they were sent, and a message group that is
//! held up holds up no other.
//!
//! A producer of a message group sends one message after the other, so the order of the first begins of
//! their sends is the producing order. A delivery was decided at some moment before the end of its
//! `receive`; by then everything earlier of its message group must have been consumed: an acknowledgement
//! or a giving up had at least begun. Or it is in the same answer. And nothing of that may come again
//! afterwards, since then it was not consumed, whatever became of its acknowledgement.
//!
//! A lite topic is a message group whose queue nobody else is in; its turn does not come before somebody
//! subscribes to it. One that is held up must not hold up the others of its topic.
//! A message waits for its turn only while somebody asks: consumers that are all at work are no delay.
//!
//! Groups that were not made for it (`Group` lines) consume concurrently and are not judged.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::judge::{Judge, ms, percentile};
use super::operation::Outcome;
use super::view::{Place, Receive, View, dead_letters_of};
use super::window::{Window, calm_after, is_calm};
use super::{Checker, Expectations, Finding};
use crate::history::{Action, Kind};

/// From here on a message group counts as held up.
const HELD_NS_MIN: u64 = 4_000_000_000;
/// After a fault the cluster is given time to get going.
const SETTLING_NS: u64 = 5_000_000_000;
/// The longest that a receive takes whose end nobody wrote down.
const RECEIVE_NS_MAX: u64 = 10_000_000_000;
/// How long it takes to ask again after an answer that was lost.
const ASKED_AGAIN_NS: u64 = 1_000_000_000;

/// In each queue the messages of a message group lie in their order, all in one queue; each delivery of
/// one finds the earlier ones consumed; and a message whose turn it is comes within
/// [`Expectations::turn_max_ms`] while nothing is broken, whatever holds up the others.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::FifoOrder);
    let lines = Line::all(view);
    let messages: usize = lines.values().map(|line| line.messages.len()).sum();
    let places = view.places();
    for ((topic, message_group), line) in &lines {
        judge_stored(message_group, topic, line, &places, &mut judge);
    }
    let mut turns = Turns::default();
    let groups = fifo_groups(view);
    for group in &groups {
        let consumed = Consumed::by(view, group);
        judge_deliveries(view, group, &lines, &places, &consumed, &mut judge);
        judge_turns(view, expect, group, &lines, &places, &consumed, &mut turns, &mut judge);
    }
    judge.count("message_groups", lines.len());
    judge.count("messages", messages);
    judge.count("turns", turns.waits_ms.len());
    judge.count("turns_beside_held", turns.beside_held);
    turns.waits_ms.sort_unstable();
    judge.figure("turn_p99_ms", percentile(&turns.waits_ms, 99) as f64);
    judge.figure("turn_max_ms", turns.waits_ms.last().copied().unwrap_or(0) as f64);
    if messages == 0 {
        judge.unknown("no message has a message group");
    }
    if groups.is_empty() {
        judge.unknown("no consumer group keeps the order");
    } else if turns.beside_held == 0 {
        judge.unknown("no message had its turn beside a message group that was held up");
    }
    let beside = turns.beside_held;
    judge.finish(format!(
        "{messages} messages of {} message groups, {beside} had their turn beside one that was held up",
        lines.len()
    ))
}

/// Topic and message group.
type Name<'a> = (&'a str, &'a str);

/// The messages of a message group.
#[derive(Default)]
struct Line<'a> {
    /// In producing order.
    messages: Vec<&'a str>,
    /// When each was acknowledged first; absent: never.
    ok_ns: HashMap<&'a str, u64>,
    /// It is a lite topic.
    is_lite: bool,
}

impl<'a> Line<'a> {
    fn all(view: &View<'a>) -> BTreeMap<Name<'a>, Self> {
        let mut lines: BTreeMap<Name<'_>, Line<'_>> = BTreeMap::new();
        let mut known = HashSet::new();
        for send in &view.sends {
            let (message_group, is_lite) = match send.kind {
                Kind::Fifo { message_group } => (message_group, false),
                Kind::Lite { lite_topic } => (lite_topic, true),
                _ => continue,
            };
            if view.is_topic_deleted(send.topic) {
                continue;
            }
            let line = lines.entry((send.topic, message_group)).or_default();
            line.is_lite = is_lite;
            if known.insert((send.topic, send.value)) {
                line.messages.push(send.value);
            }
            if let Some(ok_ns) = send.operation.ok_ns() {
                let first_ns = line.ok_ns.entry(send.value).or_insert(ok_ns);
                *first_ns = ok_ns.min(*first_ns);
            }
        }
        lines
    }
}

impl Line<'_> {
    /// Whoever has the same one, of the same topic, must not be held up with it.
    fn lane(&self, queue_id: u32) -> u32 {
        if self.is_lite { u32::MAX } else { queue_id }
    }
}

fn fifo_groups<'a>(view: &View<'a>) -> BTreeSet<&'a str> {
    let groups = view.events.iter().filter_map(|event| match &event.action {
        Action::Group { group, fifo: true, .. } => Some(group.as_str()),
        _ => None,
    });
    groups.filter(|group| !view.is_group_deleted(group)).collect()
}

type Places<'a> = HashMap<(&'a str, &'a str), (Place<'a>, u64)>;

fn judge_stored(
    message_group: &str,
    topic: &str,
    line: &Line<'_>,
    places: &Places<'_>,
    judge: &mut Judge,
) {
    let placed =
        line.messages.iter().filter_map(|value| Some((value, places.get(&(topic, *value))?)));
    let placed: Vec<_> = placed.collect();
    for pair in placed.windows(2) {
        let ((before, (one, line)), (after, (other, other_line))) = (pair[0], pair[1]);
        let wrong = match one.queue_id == other.queue_id {
            false => "in another queue than",
            true if other.offset < one.offset => "before",
            true => continue,
        };
        let text = format!(
            "message group {message_group}: {after} lies {wrong} {before}, which was sent before it: \
             {other} and {one}"
        );
        judge.violation(text, [*line, *other_line]);
    }
}

/// When a group was done with its messages.
struct Consumed<'a> {
    /// When that may have begun, by topic and value.
    begun_ns: HashMap<Name<'a>, u64>,
    /// When it was certain.
    ok_ns: HashMap<Name<'a>, u64>,
    /// The latest begin of a receive that brought it.
    received_ns: HashMap<Name<'a>, u64>,
}

impl<'a> Consumed<'a> {
    fn by(view: &View<'a>, by: &str) -> Self {
        let (begun_ns, ok_ns, received_ns) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut consumed = Self { begun_ns, ok_ns, received_ns };
        for operation in &view.operations {
            let (topic, value) = match operation.action() {
                Action::Ack { group, topic, value, .. }
                | Action::DeadLetter { group, topic, value, .. }
                    if group == by && operation.outcome() != Outcome::Fail =>
                {
                    (topic, value)
                }
                Action::Receive { group, topic, deliveries, .. } if group == by => {
                    for delivery in deliveries {
                        let last = consumed.received_ns.entry((topic.as_str(), &*delivery.value));
                        let last_ns = last.or_default();
                        *last_ns = operation.invoke_ns().max(*last_ns);
                    }
                    continue;
                }
                _ => continue,
            };
            let key = (topic.as_str(), value.as_str());
            let first_ns = consumed.begun_ns.entry(key).or_insert(u64::MAX);
            *first_ns = operation.invoke_ns().min(*first_ns);
            if let Some(end_ns) = operation.ok_ns() {
                let first_ns = consumed.ok_ns.entry(key).or_insert(u64::MAX);
                *first_ns = end_ns.min(*first_ns);
            }
        }
        // The leader gave up on it, at a time that nobody was told.
        let letters = view.stored.iter().filter(|one| dead_letters_of(one.place.topic) == Some(by));
        let dead: HashSet<&str> = letters.map(|one| one.value).collect();
        for send in view.sends.iter().filter(|send| dead.contains(send.value)) {
            consumed.begun_ns.entry((send.topic, send.value)).or_insert(0);
        }
        consumed
    }
}

fn judge_deliveries(
    view: &View<'_>,
    group: &str,
    lines: &BTreeMap<Name<'_>, Line<'_>>,
    places: &Places<'_>,
    consumed: &Consumed<'_>,
    judge: &mut Judge,
) {
    let mut positions: HashMap<Name<'_>, (&Name<'_>, usize)> = HashMap::new();
    let mut fronts: HashMap<&Name<'_>, Vec<u64>> = HashMap::new();
    for (name, line) in lines {
        let mut front_ns = 0;
        let fronts = fronts.entry(name).or_default();
        for (position, value) in line.messages.iter().enumerate() {
            positions.insert((name.0, value), (name, position));
            fronts.push(front_ns);
            // What no replica has and nobody received does not stand in the way.
            if places.contains_key(&(name.0, *value)) {
                front_ns = front_ns.max(done_ns(consumed, (name.0, value)));
            }
        }
    }
    for receive in view.receives.iter().filter(|receive| receive.group == group) {
        let Some(end) = receive.operation.end else { continue };
        let mut before: HashSet<&str> = HashSet::new();
        for delivery in receive.deliveries {
            if let Some((name, position)) = positions.get(&(receive.topic, &*delivery.value)) {
                let is_free = fronts[*name][*position] <= end.time_ns;
                let earlier = if is_free { &[][..] } else { &lines[*name].messages[..*position] };
                let in_the_way = earlier.iter().find(|value| {
                    places.contains_key(&(receive.topic, **value))
                        && !before.contains(**value)
                        && done_ns(consumed, (receive.topic, value)) > end.time_ns
                });
                if let Some(in_the_way) = in_the_way {
                    let (value, attempt, message_group) =
                        (&delivery.value, delivery.attempt, name.1);
                    let text = format!(
                        "message group {message_group}, group {group}: {value} (attempt {attempt}) came \
                         while {in_the_way}, which was sent before it, was not consumed"
                    );
                    let (_, line) = places[&(receive.topic, *in_the_way)];
                    judge.violation(text, receive.operation.lines().chain([line]));
                }
            }
            before.insert(&delivery.value);
        }
    }
}

/// From when on a message may have been consumed. What came again after that was not.
fn done_ns(consumed: &Consumed<'_>, message: Name<'_>) -> u64 {
    let begun_ns = consumed.begun_ns.get(&message).copied().unwrap_or(u64::MAX);
    begun_ns.max(consumed.received_ns.get(&message).copied().unwrap_or(0))
}

#[derive(Default)]
struct Turns {
    waits_ms: Vec<u64>,
    beside_held: usize,
}

/// The first delivery of each message of a group.
struct First {
    end_ns: u64,
    line: u64,
}

#[allow(clippy::too_many_arguments, reason = "everything that was prepared, once")]
fn judge_turns(
    view: &View<'_>,
    expect: &Expectations,
    group: &str,
    lines: &BTreeMap<Name<'_>, Line<'_>>,
    places: &Places<'_>,
    consumed: &Consumed<'_>,
    turns: &mut Turns,
    judge: &mut Judge,
) {
    let receives = || view.receives.iter().filter(|receive| receive.group == group);
    let lost = receives().filter(|receive| receive.operation.outcome() == Outcome::Unknown);
    let lost: Vec<(u64, u64)> = lost.map(abandoned).collect();
    let asking = Asking::of(receives());
    let mut firsts: HashMap<Name<'_>, First> = HashMap::new();
    for receive in receives() {
        let Some(end) = receive.operation.end else { continue };
        for delivery in receive.deliveries.iter().filter(|delivery| delivery.attempt == 1) {
            let first = First { end_ns: end.time_ns, line: end.index };
            firsts.entry((receive.topic, &delivery.value)).or_insert(first);
        }
    }
    let held = held(view, group, lines, places);
    let subscribed = subscribed(view, group);
    let max_ns = expect.turn_max_ms.saturating_mul(1_000_000);
    // What was asked for beyond measure comes later.
    let after_load_ns = expect.settling_max_ms.unwrap_or(0).saturating_mul(1_000_000);
    let settling_ns = SETTLING_NS.saturating_add(after_load_ns);
    for (name, line) in lines {
        let mut free_ns = match line.is_lite {
            true => subscribed.get(name).copied().unwrap_or(u64::MAX),
            false => 0,
        };
        for value in &line.messages {
            let key = (name.0, *value);
            let place = places.get(&key);
            let turn_ns = line.ok_ns.get(value).map(|ok_ns| free_ns.max(*ok_ns));
            let turn_ns = turn_ns.filter(|turn_ns| *turn_ns < u64::MAX);
            if place.is_some() {
                free_ns = free_ns.max(consumed.ok_ns.get(&key).copied().unwrap_or(u64::MAX));
            }
            let (Some(turn_ns), Some(first), Some((place, _))) = (turn_ns, firsts.get(&key), place)
            else {
                continue;
            };
            let came = (turn_ns, first.end_ns);
            let Some(due_ns) = due(&view.windows, came, max_ns, settling_ns) else { continue };
            let waited_ns = asking.time_ns(due_ns, first.end_ns);
            // It should have come by then.
            let wanted_ns = asking.asked_for(due_ns, max_ns);
            let between = (due_ns.min(first.end_ns), first.end_ns.min(wanted_ns));
            let swallowed =
                lost.iter().any(|(from, until)| *from < between.1 && *until > between.0);
            if swallowed || !is_calm(&view.windows, between, settling_ns) {
                continue;
            }
            let wait_ms = ms(waited_ns);
            turns.waits_ms.push(wait_ms);
            let beside =
                held.get(&(name.0, line.lane(place.queue_id))).into_iter().flatten().find(|one| {
                    one.message_group != name.1 && (one.from_ns..one.until_ns).contains(&due_ns)
                });
            turns.beside_held += usize::from(beside.is_some());
            if wait_ms > expect.turn_max_ms {
                let (message_group, max_ms) = (name.1, expect.turn_max_ms);
                let beside = beside.map_or_else(String::new, |one| {
                    format!(", while message group {} beside it was held up", one.message_group)
                });
                let text = format!(
                    "message group {message_group}, group {group}: {value} came {wait_ms} ms after its \
                     turn, at most {max_ms} ms are allowed{beside}"
                );
                judge.violation(text, [first.line]);
            }
        }
    }
}

/// When somebody asked and was answered: times in order, none of which overlap.
struct Asking(Vec<(u64, u64)>);

impl Asking {
    fn of<'v>(receives: impl Iterator<Item = &'v Receive<'v>>) -> Self {
        let answered = receives.filter(|receive| receive.operation.outcome() == Outcome::Ok);
        let times = answered.filter_map(|receive| {
            Some((receive.operation.invoke_ns(), receive.operation.end?.time_ns))
        });
        let mut times: Vec<(u64, u64)> = times.collect();
        times.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (begin, end) in times {
            match joined.last_mut() {
                Some((_, until)) if begin <= *until => *until = end.max(*until),
                _ => joined.push((begin, end)),
            }
        }
        Self(joined)
    }

    /// For how long between two moments.
    fn time_ns(&self, from_ns: u64, until_ns: u64) -> u64 {
        let first = self.0.partition_point(|(_, end)| *end <= from_ns);
        let overlapping = self.0[first..].iter().take_while(|(begin, _)| *begin < until_ns);
        overlapping
            .map(|(begin, end)| (*end).min(until_ns).saturating_sub((*begin).max(from_ns)))
            .sum()
    }

    /// The moment by which somebody asked for so long, from another moment on; never is `u64::MAX`.
    fn asked_for(&self, from_ns: u64, mut length_ns: u64) -> u64 {
        let first = self.0.partition_point(|(_, end)| *end <= from_ns);
        for (begin, end) in &self.0[first..] {
            let begin_ns = (*begin).max(from_ns);
            let asked_ns = end.saturating_sub(begin_ns);
            if asked_ns >= length_ns {
                return begin_ns.saturating_add(length_ns);
            }
            length_ns -= asked_ns;
        }
        u64::MAX
    }
}

/// From when on a message was due, `max_ns` long or until it came: its turn or, if something was broken then
/// or shortly before, the moment after which nothing was. None: until it came something was.
fn due(
    windows: &[Window<'_>],
    (turn_ns, came_ns): (u64, u64),
    max_ns: u64,
    settling_ns: u64,
) -> Option<u64> {
    let mut due_ns = turn_ns;
    loop {
        let until_ns = came_ns.min(due_ns.saturating_add(max_ns));
        match calm_after(windows, (due_ns.min(came_ns), until_ns), settling_ns) {
            None => return Some(due_ns),
            Some(calm_ns) if calm_ns >= came_ns => return None,
            Some(calm_ns) => due_ns = calm_ns,
        }
    }
}

/// Between what a message may have been handed out whose answer was lost, and that came again by asking
/// again. Without that it comes at its second attempt.
fn abandoned(receive: &Receive<'_>) -> (u64, u64) {
    let begin_ns = receive.operation.invoke_ns();
    let end_ns = receive.operation.end.map(|end| end.time_ns.saturating_add(ASKED_AGAIN_NS));
    (begin_ns, end_ns.unwrap_or_else(|| begin_ns.saturating_add(RECEIVE_NS_MAX)))
}

/// A message group that nothing came of for a while, since one of its messages was with a consumer.
struct Held<'a> {
    message_group: &'a str,
    from_ns: u64,
    until_ns: u64,
}

/// When somebody of a group was first told that it subscribes, by topic and lite topic.
fn subscribed<'a>(view: &View<'a>, by: &str) -> HashMap<Name<'a>, u64> {
    let mut first_ns = HashMap::new();
    for operation in &view.operations {
        let Action::Subscribe { group, topic, lite_topics } = operation.action() else { continue };
        let Some(ok_ns) = operation.ok_ns().filter(|_| group == by) else { continue };
        for lite_topic in lite_topics {
            let first_ns = first_ns.entry((topic.as_str(), lite_topic.as_str())).or_insert(ok_ns);
            *first_ns = ok_ns.min(*first_ns);
        }
    }
    first_ns
}

/// By topic and lane.
fn held<'a>(
    view: &View<'a>,
    group: &str,
    lines: &BTreeMap<Name<'a>, Line<'a>>,
    places: &Places<'a>,
) -> HashMap<(&'a str, u32), Vec<Held<'a>>> {
    let mut of: HashMap<Name<'_>, (&str, &Line<'_>)> = HashMap::new();
    for (name, line) in lines {
        of.extend(line.messages.iter().map(|value| ((name.0, *value), (name.1, line))));
    }
    let mut last_ns: HashMap<Name<'_>, u64> = HashMap::new();
    let mut held: HashMap<(&str, u32), Vec<Held<'_>>> = HashMap::new();
    for receive in view.receives.iter().filter(|receive| receive.group == group) {
        let Some(end) = receive.operation.end else { continue };
        for delivery in receive.deliveries {
            let key = (receive.topic, &*delivery.value);
            let (Some((message_group, line)), Some((place, _))) = (of.get(&key), places.get(&key))
            else {
                continue;
            };
            let from_ns = last_ns.insert(key, end.time_ns);
            if let Some(from_ns) = from_ns
                && end.time_ns.saturating_sub(from_ns) >= HELD_NS_MIN
            {
                let until_ns = end.time_ns;
                let one = Held { message_group, from_ns, until_ns };
                let lane = line.lane(place.queue_id);
                held.entry((receive.topic, lane)).or_default().push(one);
            }
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;
    use crate::history::Phase;

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events), &Expectations::default())
    }

    fn texts(history: &History) -> Vec<String> {
        judged(history).violations.into_iter().map(|violation| violation.text).collect()
    }

    /// Three messages of one message group and one of another, stored in one queue.
    fn sent() -> History {
        let mut history = History::new();
        history.group("g", 17, true);
        history.sent_in("x", "x1").sent_in("x", "x2").sent_in("x", "x3").sent_in("y", "y1");
        for (offset, value) in (0..).zip(["x1", "x2", "x3", "y1"]) {
            history.stored("n1", 0, offset, value);
        }
        history
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good_features());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert!(finding.figures["turns_beside_held"] > 0.0);
    }

    #[test]
    fn one_after_the_other_or_together_is_in_order() {
        let mut history = sent();
        history.received("g", &[("x1", 1), ("y1", 1)], 10_000).acked("g", "x1", 1);
        history.received("g", &[("x2", 1), ("x3", 1)], 10_000);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn a_later_message_must_not_come_while_an_earlier_one_is_out() {
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10_000).received("g", &[("x2", 1)], 10_000);
        let text = "message group x, group g: x2 (attempt 1) came while x1, which was sent before it, \
                    was not consumed";
        assert_eq!(texts(&history), [text]);
        // Another group may.
        let mut history = sent();
        history.received("h", &[("x1", 1)], 10_000).received("h", &[("x2", 1)], 10_000);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn an_acknowledgement_that_may_have_taken_effect_is_enough() {
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10).ack_begins(4, "g", "x1", 1);
        history.ack_ends(4, Phase::Unknown, "g", "x1", 1).received("g", &[("x2", 1)], 10);
        assert_eq!(texts(&history), [""; 0]);
        // It has not: the message came again.
        history.at(5_000).received("g", &[("x1", 2)], 10);
        assert_eq!(texts(&history).len(), 1);
    }

    #[test]
    fn a_refused_acknowledgement_consumes_nothing() {
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10).ack_begins(4, "g", "x1", 1);
        history.ack_ends(4, Phase::Fail, "g", "x1", 1).received("g", &[("x2", 1)], 10);
        assert_eq!(texts(&history).len(), 1);
    }

    #[test]
    fn a_redelivery_keeps_the_order_too() {
        let mut history = sent();
        history.received("g", &[("x1", 1), ("x2", 1)], 10);
        history.at(5_000).received("g", &[("x2", 2)], 10);
        assert_eq!(texts(&history).len(), 1);
        let mut history = sent();
        history.received("g", &[("x1", 1), ("x2", 1)], 10);
        history.at(5_000).received("g", &[("x1", 2), ("x2", 2)], 10);
        assert_eq!(texts(&history), [""; 0]);
        // In the wrong order within an answer.
        let mut history = sent();
        history.received("g", &[("x2", 1), ("x1", 1)], 10);
        assert_eq!(texts(&history).len(), 1);
    }

    #[test]
    fn what_the_group_gave_up_on_holds_up_nothing() {
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10).gave_up("g", "x1", 1).received(
            "g",
            &[("x2", 1)],
            10,
        );
        assert_eq!(texts(&history), [""; 0]);
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10).received("g", &[("x2", 1)], 10);
        history.stored_in("%DLQ%g", "n1", 0, 0, "x1");
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn a_message_group_lies_in_one_queue_in_its_order() {
        let mut history = History::new();
        history.group("g", 17, true).sent_in("x", "x1").sent_in("x", "x2").sent_in("x", "x3");
        history.stored("n1", 0, 5, "x1").stored("n1", 0, 4, "x2").stored("n1", 1, 9, "x3");
        let texts = texts(&history);
        assert!(texts[0].starts_with("message group x: x2 lies before x1"), "{texts:?}");
        assert!(texts[1].starts_with("message group x: x3 lies in another queue than x2"));
    }

    #[test]
    fn a_message_that_nobody_has_is_in_nobodys_way() {
        let mut history = History::new();
        history.group("g", 17, true).send_begins_in(1, "x", "x1").sent_in("x", "x2");
        history.stored("n1", 0, 0, "x2").received("g", &[("x2", 1)], 10);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn a_message_group_that_is_held_up_holds_up_no_other() {
        let waiting = |asked_ms: u64, until_ms: u64| {
            let mut history = sent();
            history.received("g", &[("x1", 1)], 10_000).at(2_000).sent_in("y", "y2");
            history.received("g", &[("y1", 1)], 10_000).acked("g", "y1", 1);
            history.stored("n1", 0, 4, "y2").at(asked_ms).receive_begins(7, "g");
            history.at(until_ms).receive_ends(7, "g", &[], 0);
            history.received("g", &[("y2", 1)], 10_000);
            history.at(until_ms + 10_000).received("g", &[("x1", 2)], 10_000);
            judged(&history)
        };
        let finding = waiting(2_100, 2_500);
        assert_eq!((finding.verdict, finding.figures["turns_beside_held"]), (Verdict::Pass, 1.0));
        assert_eq!(waiting(12_000, 15_000).verdict, Verdict::Pass, "nobody asked");
        let finding = waiting(2_100, 15_000);
        let text = "message group y, group g: y2 came 12901 ms after its turn, at most 6000 ms are \
                    allowed, while message group x beside it was held up";
        assert_eq!(finding.violations[0].text, text);
    }

    #[test]
    fn what_a_fault_or_a_lost_answer_delayed_is_not_judged() {
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10_000).fault_begins("kill", "n1");
        history.at(20_000).fault_ends("kill", "n1", true).received("g", &[("y1", 1)], 10_000);
        assert_eq!(texts(&history), [""; 0]);
        // Nor what came soon after.
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10_000).fault_begins("kill", "n1");
        history.at(20_000).fault_ends("kill", "n1", true);
        history.at(32_000).received("g", &[("y1", 1)], 10_000);
        assert_eq!(texts(&history), [""; 0]);
        let mut history = sent();
        history.at(5_000).receive_begins(8, "g").at(12_000).received("g", &[("y1", 1)], 10_000);
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn what_a_fault_delayed_has_its_turn_again_when_all_is_calm() {
        let mut history = sent();
        history.received("g", &[("x1", 1)], 10_000).fault_begins("kill", "n1");
        history.at(20_000).fault_ends("kill", "n1", true).receive_begins(7, "g");
        // Another fault does not excuse what should have come before it.
        history.at(34_000).fault_begins("kill", "n2").at(36_000).fault_ends("kill", "n2", true);
        history.receive_ends(7, "g", &[], 0).at(37_000).received("g", &[("y1", 1)], 10_000);
        let texts = texts(&history);
        assert!(texts[0].starts_with("message group y, group g: y1 came 11"), "{texts:?}");
        assert_eq!(texts.len(), 1);
    }

    #[test]
    fn without_order_to_keep_it_is_unknown() {
        assert_eq!(judged(&History::good()).verdict, Verdict::Unknown);
        assert_eq!(judged(&sent()).verdict, Verdict::Unknown);
    }
}
