//! A message that a group does not acknowledge is delivered as often as the group allows, and is then
//! one dead letter that says where it comes from.
//!
//! How often is in the `group` lines. A consumer may also give up on a message itself (`dead_letter`). An
//! answer to a `receive` that never arrived may have counted as a delivery that nobody saw; so may one that
//! was lost between brokers, where the one that was asked asked the next leader, and answered.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::judge::{Judge, ms};
use super::operation::Outcome;
use super::view::{Place, Send, Stored, View, dead_letters_of};
use super::window::is_calm;
use super::{Checker, Expectations, Finding};
use crate::history::Action;

/// No delivery goes beyond the attempts of its group; a dead letter had all of them; whatever was
/// delivered and never acknowledged is a dead letter in the end, once, at every replica, with its topic
/// and id; and nothing is that was acknowledged in time.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::DeadLetters);
    let groups = groups(view);
    let (mut letters, mut given_up, mut messages) = (0, 0, 0);
    for (group, max_attempts) in &groups {
        let group = Group::of(view, expect, group, *max_attempts);
        letters += group.letters.len();
        given_up += group.given_up.len();
        messages += group.chains.len();
        group.judge_attempts(&mut judge);
        group.judge_letters(&mut judge);
        group.judge_missing(&mut judge);
    }
    judge.count("dead_letters", letters);
    judge.count("given_up", given_up);
    judge.count("delivered_messages", messages);
    if letters == 0 {
        judge.unknown("there is no dead letter");
    }
    if view.drained().is_none() {
        judge.unknown("there is no complete final reading");
    }
    judge.finish(format!(
        "{letters} dead letters of {messages} messages that were delivered in {} groups",
        groups.len()
    ))
}

fn groups<'a>(view: &View<'a>) -> BTreeMap<&'a str, u32> {
    let groups = view.events.iter().filter_map(|event| match &event.action {
        Action::Group { group, max_attempts, .. } => Some((group.as_str(), *max_attempts)),
        _ => None,
    });
    groups.filter(|(group, _)| !view.is_group_deleted(group)).collect()
}

/// After a fault calls may still be on their way to a leader that is gone.
const SETTLING_NS: u64 = 5_000_000_000;
/// From a delivery to the next one of a message, at the latest: longer than any invisible time here.
const NEXT_NS_MAX: u64 = 25_000_000_000;

/// Topic and value.
type Key<'a> = (&'a str, &'a str);

/// One delivery.
#[derive(Clone, Copy)]
struct Handed {
    attempt: u32,
    begin_ns: u64,
    /// Until then it was with its consumer, at least.
    held_ns: u64,
    line: u64,
}

/// What one group did with each message.
struct Group<'v> {
    name: &'v str,
    max_attempts: u32,
    chains: BTreeMap<Key<'v>, Vec<Handed>>,
    /// Begins and ends of acknowledgements that may have counted, by message; absent end: not known.
    acked: HashMap<Key<'v>, Vec<(u32, Option<u64>, u64)>>,
    given_up: HashSet<Key<'v>>,
    /// Dead letters by value, at each place.
    letters: BTreeMap<&'v str, Vec<&'v Stored<'v>>>,
    /// Dead letters that somebody read and retention then let go of.
    trimmed: HashSet<&'v str>,
    /// Replicas that lack a dead letter are found by these.
    replicas: Vec<&'v str>,
    sends: HashMap<&'v str, &'v Send<'v>>,
    /// From when to when receives took that may have counted for messages nobody saw.
    lost_ns: Vec<(u64, u64)>,
    drained: bool,
}

impl<'v> Group<'v> {
    fn of(view: &'v View<'v>, expect: &'v Expectations, name: &'v str, max_attempts: u32) -> Self {
        let mut group = Self {
            name,
            max_attempts,
            chains: BTreeMap::new(),
            acked: HashMap::new(),
            given_up: HashSet::new(),
            letters: BTreeMap::new(),
            trimmed: trimmed(view, name),
            replicas: view.replicas(&expect.replicas),
            sends: view.sends.iter().map(|send| (send.value, send)).collect(),
            lost_ns: Vec::new(),
            drained: view.drained().is_some(),
        };
        for receive in view.receives.iter().filter(|receive| receive.group == name) {
            let begin_ns = receive.operation.invoke_ns();
            let end_ns = receive.operation.end.map_or(u64::MAX, |end| end.time_ns);
            let is_unknown = receive.operation.outcome() == Outcome::Unknown;
            if is_unknown || !is_calm(&view.windows, (begin_ns, end_ns), SETTLING_NS) {
                group.lost_ns.push((begin_ns, end_ns));
            }
            let Some(end) = receive.operation.end else { continue };
            for delivery in receive.deliveries {
                let held_ns =
                    begin_ns.saturating_add(receive.invisible_ms.saturating_mul(1_000_000));
                let handed =
                    Handed { attempt: delivery.attempt, begin_ns, held_ns, line: end.index };
                let chain = group.chains.entry((receive.topic, &delivery.value)).or_default();
                chain.push(handed);
            }
        }
        for change in view.changes.iter().filter(|change| change.group == name) {
            if change.operation.outcome() == Outcome::Fail {
                continue;
            }
            let chain = group.chains.get_mut(&(change.topic, change.value));
            for handed in chain.into_iter().flatten() {
                if handed.attempt == change.attempt {
                    // It may have been shortened to any time from its begin on.
                    handed.held_ns = handed.held_ns.min(change.operation.invoke_ns());
                }
            }
        }
        for ack in view.acks.iter().filter(|ack| ack.group == name) {
            if ack.operation.outcome() != Outcome::Fail {
                let acks = group.acked.entry((ack.topic, ack.value)).or_default();
                acks.push((ack.attempt, ack.operation.ok_ns(), ack.operation.invoke.index));
            }
        }
        for operation in &view.operations {
            if let Action::DeadLetter { group: by, topic, value, .. } = operation.action()
                && by == name
                && operation.outcome() != Outcome::Fail
            {
                group.given_up.insert((topic, value));
            }
        }
        for one in view.stored.iter().filter(|one| dead_letters_of(one.place.topic) == Some(name)) {
            group.letters.entry(one.value).or_default().push(one);
        }
        group
    }

    fn judge_attempts(&self, judge: &mut Judge) {
        let (name, max) = (self.name, self.max_attempts);
        for ((topic, value), chain) in &self.chains {
            if let Some(beyond) = chain.iter().find(|handed| handed.attempt > max) {
                let attempt = beyond.attempt;
                let text = format!(
                    "{value} of topic {topic} in group {name}: attempt {attempt}, at most {max} are allowed"
                );
                judge.violation(text, [beyond.line]);
            }
        }
    }

    fn judge_letters(&self, judge: &mut Judge) {
        for (value, seen) in &self.letters {
            let first = seen[0];
            let who = format!("{value}, a dead letter of group {}", self.name);
            let places: std::collections::BTreeSet<Place<'_>> =
                seen.iter().map(|one| one.place).collect();
            if places.len() > 1 {
                let places: Vec<String> = places.iter().map(Place::to_string).collect();
                let lines = seen.iter().map(|one| one.event.index);
                judge.violation(format!("{who}, lies at {}", places.join(" and ")), lines);
            }
            let holders: HashSet<&str> = seen.iter().map(|one| one.node).collect();
            let lacking: Vec<&str> =
                self.replicas.iter().copied().filter(|node| !holders.contains(node)).collect();
            if !lacking.is_empty() && self.drained {
                let text = format!("{who}, is not stored at {}", lacking.join(", "));
                judge.violation(text, [first.event.index]);
            }
            let Some(send) = self.sends.get(value) else { continue };
            self.judge_origin(&who, send, first, judge);
            self.judge_cause(&who, &(send.topic, value), first, judge);
        }
    }

    fn judge_origin(&self, who: &str, send: &Send<'_>, letter: &Stored<'_>, judge: &mut Judge) {
        let told = letter.origin.map(|origin| (origin.topic.as_str(), origin.message_id.as_str()));
        let id = send.message_id;
        let is_right = told.is_some_and(|(topic, told_id)| {
            topic == send.topic && id.is_none_or(|id| id == told_id)
        });
        if !is_right {
            let topic = send.topic;
            let text = match told {
                None => format!("{who}, does not say where it comes from"),
                Some((told_topic, told_id)) => format!(
                    "{who}, says that it comes from {told_topic} with id {told_id}, and it was sent to \
                     {topic} with id {}",
                    id.unwrap_or("?")
                ),
            };
            judge.violation(text, [letter.event.index]);
        }
    }

    /// It had all its attempts, and was not acknowledged in time.
    fn judge_cause(&self, who: &str, key: &Key<'_>, letter: &Stored<'_>, judge: &mut Judge) {
        let chain = self.chains.get(key).map_or(&[][..], Vec::as_slice);
        for (attempt, ok_ns, line) in self.acked.get(key).into_iter().flatten() {
            let with_it = chain.iter().find(|handed| handed.attempt == *attempt);
            if let (Some(handed), Some(ok_ns)) = (with_it, ok_ns)
                && *ok_ns < handed.held_ns
            {
                let text = format!("{who}, was acknowledged at {} ms", ms(*ok_ns));
                judge.violation(text, [handed.line, *line, letter.event.index]);
            }
        }
        if self.given_up.contains(key) {
            return;
        }
        let last = chain.iter().max_by_key(|handed| handed.attempt);
        let seen = last.map_or(0, |handed| handed.attempt);
        let last_begin_ns = last.map_or(0, |handed| handed.begin_ns);
        let next_ns = last_begin_ns.saturating_add(NEXT_NS_MAX);
        let may_have_seen_less =
            self.lost_ns.iter().any(|(from, until)| *from < next_ns && *until > last_begin_ns);
        if seen < self.max_attempts && !may_have_seen_less {
            let max = self.max_attempts;
            let text = format!("{who}, was delivered {seen} times, {max} are allowed");
            let lines = chain.iter().map(|handed| handed.line);
            judge.violation(text, lines.chain([letter.event.index]));
        }
    }

    fn judge_missing(&self, judge: &mut Judge) {
        if !self.drained {
            return;
        }
        for (key, chain) in &self.chains {
            let (topic, value) = key;
            if dead_letters_of(topic).is_some()
                || self.acked.contains_key(key)
                || self.letters.contains_key(value)
                || self.trimmed.contains(value)
            {
                continue;
            }
            let text = format!(
                "{value} of topic {topic} in group {}: never acknowledged, and no dead letter",
                self.name
            );
            judge.violation(text, chain.iter().map(|handed| handed.line));
        }
    }
}

/// What was read of a group's dead letters and lies below the `min_offset` of its queue.
fn trimmed<'v>(view: &'v View<'v>, group: &str) -> HashSet<&'v str> {
    let is_of_group = |topic: &str| dead_letters_of(topic) == Some(group);
    let mut min_offsets: HashMap<u32, u64> = HashMap::new();
    for event in view.events {
        if let Action::Progress { topic, queue_id, min_offset, .. } = &event.action
            && is_of_group(topic)
        {
            let known = min_offsets.entry(*queue_id).or_default();
            *known = (*min_offset).max(*known);
        }
    }
    let read = view.receives.iter().filter(|receive| is_of_group(receive.topic));
    let gone = read.flat_map(|receive| receive.deliveries).filter(|letter| {
        let min_offset = letter.queue_id.and_then(|queue_id| min_offsets.get(&queue_id));
        letter.offset.zip(min_offset).is_some_and(|(offset, min_offset)| offset < *min_offset)
    });
    gone.map(|letter| &*letter.value).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;
    use crate::history::Origin;

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events), &Expectations::default())
    }

    fn texts(history: &History) -> Vec<String> {
        judged(history).violations.into_iter().map(|violation| violation.text).collect()
    }

    /// A message that had so many deliveries to a group that allows two, and became a dead letter.
    fn dead(attempts: u32) -> History {
        let mut history = History::new();
        history.group("g", 2, false).sent_at("a", 0);
        for attempt in 1..=attempts {
            history.at(u64::from(attempt) * 20_000).received("g", &[("a", attempt)], 10_000);
        }
        history.mark("drained").dead_letter("n1", 0, "a", "t", "id-a").mark("end");
        history
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good_features());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert_eq!(finding.figures["dead_letters"], 1.0);
        assert_eq!(judged(&dead(2)).verdict, Verdict::Pass, "{:?}", judged(&dead(2)));
    }

    #[test]
    fn no_delivery_goes_beyond_the_attempts() {
        let text = "a of topic t in group g: attempt 3, at most 2 are allowed";
        assert_eq!(texts(&dead(3)), [text]);
    }

    #[test]
    fn a_dead_letter_had_all_its_attempts() {
        let text = "a, a dead letter of group g, was delivered 1 times, 2 are allowed";
        assert_eq!(texts(&dead(1)), [text]);
        let mut history = History::new();
        history.group("g", 2, false).sent_at("a", 0).received("g", &[("a", 1)], 10);
        // Somebody may have got it and never heard of it.
        history.at(1_000).receive_begins(8, "g").mark("drained");
        history.dead_letter("n1", 0, "a", "t", "id-a").mark("end");
        assert_eq!(texts(&history), [""; 0]);
        // Or the answer was lost between brokers, where a leader died; not one of long before.
        for (at_ms, is_excused) in [(5_000, true), (60_000, false)] {
            let mut history = dead(1);
            let end = history.events.split_off(history.events.len() - 3);
            history.at(at_ms + 15_000).receive_begins(8, "g").fault_begins("kill", "n1");
            history.fault_ends("kill", "n1", true).receive_ends(8, "g", &[], 10);
            history.events.extend(end);
            assert_eq!(texts(&history).is_empty(), is_excused, "{at_ms}");
        }
        // Or its consumer gave it up.
        let mut history = History::new();
        history.group("g", 2, false).sent_at("a", 0).received("g", &[("a", 1)], 10);
        history.gave_up("g", "a", 1).mark("drained");
        history.dead_letter("n1", 0, "a", "t", "id-a").mark("end");
        assert_eq!(texts(&history), [""; 0]);
    }

    #[test]
    fn what_nobody_acknowledged_is_a_dead_letter() {
        let mut history = History::new();
        history.group("g", 2, false).sent("a").sent("b").received("g", &[("a", 1), ("b", 1)], 10);
        history.acked("g", "b", 1).at(9_000).received("g", &[("a", 2)], 10);
        history.mark("drained").stored("n1", 0, 0, "a").stored("n1", 0, 1, "b").mark("end");
        let text = "a of topic t in group g: never acknowledged, and no dead letter";
        assert_eq!(texts(&history), [text]);
        // It was one, and retention let go of it.
        for (min_offset, texts_expected) in [(1, &[][..]), (0, &[text][..])] {
            let mut read = History::new();
            read.received_at("reader", "a", 0, 0).progress("n1", [1, 1, min_offset, 1]);
            for event in &mut read.events {
                if let Action::Receive { topic, .. } | Action::Progress { topic, .. } =
                    &mut event.action
                {
                    *topic = "%DLQ%g".to_owned();
                }
            }
            read.events.extend(history.events.iter().cloned());
            assert_eq!(texts(&read), texts_expected, "{min_offset}");
        }
    }

    #[test]
    fn a_dead_letter_is_one_and_everywhere() {
        let mut history = dead(2);
        history.events.pop();
        history.dead_letter("n1", 3, "a", "t", "id-a").dead_letter("n2", 0, "a", "t", "id-a");
        history.stored("n3", 0, 0, "a").mark("end");
        let who = "a, a dead letter of group g,";
        let places = "topic %DLQ%g queue 0 offset 0 and topic %DLQ%g queue 0 offset 3";
        let lacks = format!("{who} is not stored at n3");
        assert_eq!(texts(&history), [lacks, format!("{who} lies at {places}")]);
    }

    #[test]
    fn a_dead_letter_says_where_it_comes_from() {
        let with = |origin: Option<Origin>| {
            let mut history = dead(2);
            for event in &mut history.events {
                if let Action::Stored { origin: told, .. } = &mut event.action {
                    told.clone_from(&origin);
                }
            }
            texts(&history)
        };
        let who = "a, a dead letter of group g,";
        assert_eq!(with(None), [format!("{who} does not say where it comes from")]);
        let other = Origin { topic: "t".into(), message_id: "other".into() };
        let text = "says that it comes from t with id other, and it was sent to t with id id-a";
        assert_eq!(with(Some(other)), [format!("{who} {text}")]);
    }

    #[test]
    fn what_was_acknowledged_in_time_is_no_dead_letter() {
        let acked_at = |at_ms: u64| {
            let mut history = dead(2);
            let end = history.events.split_off(history.events.len() - 3);
            history.at(at_ms).acked("g", "a", 2);
            history.events.extend(end);
            for (index, event) in (0..).zip(&mut history.events) {
                event.index = index;
            }
            texts(&history)
        };
        let text = "a, a dead letter of group g, was acknowledged at 45001 ms";
        assert_eq!(acked_at(45_000), [text]);
        // Its time was over.
        assert_eq!(acked_at(55_000), [""; 0]);
    }

    #[test]
    fn without_dead_letters_it_is_unknown() {
        assert_eq!(judged(&History::good()).verdict, Verdict::Unknown);
    }
}
