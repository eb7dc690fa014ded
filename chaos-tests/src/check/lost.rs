//! What was acknowledged is stored at every replica and was consumed by every group.
//!
//! Retention may let messages go: what lies below the `min_offset` of its queue is excused, unless a
//! group has received it and not acknowledged it: that one is held until it was. Excused is also, for
//! one group, what that group gave up on: it lies in the group's dead-letter topic.
//!
//! A delayed message is due once its time has come, unless somebody may have recalled it; a half message
//! when its commit was acknowledged.
//!
//! Not here: what `flush = async` may lose in a power cut. Such a drill skips this checker.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::judge::{Judge, ms};
use super::later::Later;
use super::operation::Outcome;
use super::view::{Place, Send, View, dead_letters_of};
use super::{Checker, Expectations, Finding};
use crate::history::Action;

/// Every acknowledged send is in the final reading of every replica, and was received and
/// acknowledged by each group that received from its topic at all.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Lost);
    let mut acknowledged = acknowledged(view);
    judge.count("acknowledged", acknowledged.len());
    let looked_at = format!("acknowledged sends: {}", acknowledged.len());
    if acknowledged.is_empty() {
        judge.unknown("no send was acknowledged");
    }
    let Some(drained) = view.drained() else {
        judge.unknown("there is no complete final reading: no mark `drained` and after it `end`");
        return judge.finish(looked_at);
    };
    let later = Later::of(view);
    acknowledged.retain(|send| later.is_owed(send, drained));
    let storage = Storage::at_the_end(view, expect, drained.index);
    for node in storage.replicas.iter().filter(|node| !storage.held.contains_key(**node)) {
        judge.unknown(format!("the final reading has nothing of {node}"));
    }
    if storage.replicas.is_empty() {
        judge.unknown("no replica was read");
    }
    let consumption = Consumption::of(view);
    let trimmed = Trimmed::of(view);
    let mut losses = Losses::default();
    let excused = acknowledged.iter().filter(|send| trimmed.may_hold(send)).count();
    for send in &acknowledged {
        let may_be_gone = trimmed.may_hold(send);
        let not_stored = if may_be_gone { None } else { storage.lacking(send) };
        let not_consumed = consumption.lacking(send, may_be_gone);
        losses.stored += usize::from(not_stored.is_some());
        losses.consumed += usize::from(!not_consumed.is_empty());
        let ways: Vec<String> = not_stored.into_iter().chain(not_consumed).collect();
        losses.note(send.topic, !ways.is_empty());
        if !ways.is_empty() {
            let at_ms = send.operation.ok_ns().map_or(0, ms);
            let Send { topic, value, .. } = send;
            let ways = ways.join(", ");
            let text = format!("{value} of topic {topic}, acknowledged at {at_ms} ms: {ways}");
            judge.violation(text, send.operation.lines());
        }
    }
    let stored = storage.held.values().map(HashSet::len).min().unwrap_or(0);
    judge.count("stored", stored);
    judge.count("trimmed", excused);
    judge.count("groups", consumption.groups.values().map(BTreeSet::len).sum());
    losses.report(&mut judge);
    let groups = consumption.groups.values().flatten().collect::<BTreeSet<_>>().len();
    let nodes = storage.replicas.len();
    let lost = losses.sentence();
    judge.finish(format!("{looked_at}, replicas: {nodes}, consumer groups: {groups}; {lost}"))
}

/// In the order of acknowledgement.
fn acknowledged<'a, 'v>(view: &'v View<'a>) -> Vec<&'v Send<'a>> {
    let ok = |send: &&Send<'_>| send.operation.outcome() == Outcome::Ok;
    let mut sends: Vec<_> = view.sends.iter().filter(ok).collect();
    sends.retain(|send| !view.is_topic_deleted(send.topic));
    sends.sort_by_key(|send| (send.operation.ok_ns(), send.operation.invoke.index));
    sends
}

/// What the final reading has of each replica.
struct Storage<'a> {
    replicas: Vec<&'a str>,
    held: HashMap<&'a str, HashSet<(&'a str, &'a str)>>,
}

impl<'a> Storage<'a> {
    fn at_the_end(view: &'a View<'_>, expect: &'a Expectations, drained: u64) -> Self {
        let mut held: HashMap<&str, HashSet<(&str, &str)>> = HashMap::new();
        for one in view.stored.iter().filter(|one| one.event.index > drained) {
            held.entry(one.node).or_default().insert((one.place.topic, one.value));
        }
        let replicas = view.replicas(&expect.replicas);
        held.retain(|node, _| replicas.contains(node));
        Self { replicas, held }
    }

    /// Replicas that were read and do not have it.
    fn lacking(&self, send: &Send<'_>) -> Option<String> {
        let read = self.replicas.iter().filter_map(|node| Some((*node, self.held.get(node)?)));
        let lacks = read.filter(|(_, held)| !held.contains(&(send.topic, send.value)));
        let nodes: Vec<&str> = lacks.map(|(node, _)| node).collect();
        (!nodes.is_empty()).then(|| format!("not stored at {}", nodes.join(", ")))
    }
}

/// What each group did.
#[derive(Default)]
struct Consumption<'a> {
    /// Groups by the topic that they received from.
    groups: BTreeMap<&'a str, BTreeSet<&'a str>>,
    received: HashSet<(&'a str, &'a str, &'a str)>,
    /// Also where nobody knows whether the acknowledgement took effect.
    acked: HashSet<(&'a str, &'a str, &'a str)>,
    given_up: HashSet<(&'a str, &'a str)>,
}

impl<'a> Consumption<'a> {
    fn of(view: &View<'a>) -> Self {
        let mut all = Self::default();
        for receive in &view.receives {
            let (group, topic) = (receive.group, receive.topic);
            if !view.is_group_deleted(group) {
                all.groups.entry(topic).or_default().insert(group);
            }
            for delivery in receive.deliveries {
                all.received.insert((group, topic, &delivery.value));
                all.given_up.extend(dead_letters_of(topic).map(|by| (by, &*delivery.value)));
            }
        }
        let acks = view.acks.iter().filter(|ack| ack.operation.outcome() != Outcome::Fail);
        all.acked.extend(acks.map(|ack| (ack.group, ack.topic, ack.value)));
        let dead = view.stored.iter();
        all.given_up
            .extend(dead.filter_map(|one| Some((dead_letters_of(one.place.topic)?, one.value))));
        all
    }

    /// What each group that is not done with it has to do with it. With `may_be_gone`, only what a
    /// group had in its hands counts.
    fn lacking(&self, send: &Send<'_>, may_be_gone: bool) -> Vec<String> {
        let groups = self.groups.get(send.topic).into_iter().flatten();
        let lacks = groups.filter_map(|group| {
            let key = (*group, send.topic, send.value);
            if self.acked.contains(&key) || self.given_up.contains(&(*group, send.value)) {
                None
            } else if self.received.contains(&key) {
                Some(format!("received and never acknowledged by group {group}"))
            } else {
                (!may_be_gone).then(|| format!("never received by group {group}"))
            }
        });
        lacks.collect()
    }
}

/// What retention took.
struct Trimmed<'a> {
    /// Highest `min_offset` seen of each queue, if above 0, and of each topic.
    queues: HashMap<(&'a str, u32), u64>,
    topics: HashMap<&'a str, u64>,
    places: HashMap<(&'a str, &'a str), (Place<'a>, u64)>,
}

impl<'a> Trimmed<'a> {
    fn of(view: &View<'a>) -> Self {
        let mut trimmed =
            Self { queues: HashMap::new(), topics: HashMap::new(), places: HashMap::new() };
        for event in view.events {
            let Action::Progress { topic, queue_id, min_offset, .. } = &event.action else {
                continue;
            };
            if *min_offset > 0 {
                let queue = trimmed.queues.entry((topic, *queue_id)).or_default();
                *queue = (*queue).max(*min_offset);
                let all = trimmed.topics.entry(topic).or_default();
                *all = (*all).max(*min_offset);
            }
        }
        if !trimmed.topics.is_empty() {
            trimmed.places = view.places();
        }
        trimmed
    }

    /// Whether retention may have taken it. An acknowledgement names no queue; where no replica and
    /// no delivery told it either, the queue that was trimmed furthest decides.
    fn may_hold(&self, send: &Send<'_>) -> bool {
        let Some(furthest) = self.topics.get(send.topic) else { return false };
        match (self.places.get(&(send.topic, send.value)), send.offset) {
            (Some((place, _)), _) => {
                let min = self.queues.get(&(place.topic, place.queue_id));
                min.is_some_and(|min| place.offset < *min)
            }
            (None, Some(offset)) => offset < *furthest,
            (None, None) => true,
        }
    }
}

/// Where in the order of acknowledgement the losses lie: a lost beginning tells of a wiped replica, a
/// lost end of a tail that was cut off.
#[derive(Default)]
struct Losses<'a> {
    stored: usize,
    consumed: usize,
    topics: BTreeMap<&'a str, Vec<bool>>,
}

impl<'a> Losses<'a> {
    fn note(&mut self, topic: &'a str, lost: bool) {
        self.topics.entry(topic).or_default().push(lost);
    }

    /// How many were lost before everything that remains of their topic, amid it, and after it.
    fn split(&self) -> [usize; 3] {
        let mut split = [0; 3];
        for lost in self.topics.values() {
            let total = lost.iter().filter(|lost| **lost).count();
            let prefix = lost.iter().take_while(|lost| **lost).count();
            let postfix = match total - prefix {
                0 => 0,
                _ => lost.iter().rev().take_while(|lost| **lost).count(),
            };
            split[0] += prefix;
            split[1] += total - prefix - postfix;
            split[2] += postfix;
        }
        split
    }

    fn report(&self, judge: &mut Judge) {
        let [prefix, middle, postfix] = self.split();
        judge.count("lost_stored", self.stored);
        judge.count("lost_consumed", self.consumed);
        judge.count("lost_prefix", prefix);
        judge.count("lost_middle", middle);
        judge.count("lost_postfix", postfix);
    }

    fn sentence(&self) -> String {
        match self.split() {
            [0, 0, 0] => "nothing is lost".to_owned(),
            [prefix, middle, postfix] => {
                let total = prefix + middle + postfix;
                format!("lost {total}: {prefix} prefix, {middle} middle, {postfix} postfix")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::History;
    use super::super::{Verdict, Violation};
    use super::*;
    use crate::history::Phase;

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events), &Expectations::default())
    }

    /// Acknowledged sends of the first; the second is what n1 and n2 have at the end.
    fn kept(sent: &[&str], held: &[&str]) -> History {
        let mut history = History::new();
        sent.iter().for_each(|value| _ = history.sent(value));
        history.mark("drained");
        for node in ["n1", "n2"] {
            for (offset, value) in (0..).zip(held) {
                history.stored(node, 0, offset, value);
            }
        }
        history.mark("end");
        history
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert_eq!((finding.figures["acknowledged"], finding.figures["stored"]), (4.0, 5.0));
        let note = "acknowledged sends: 4, replicas: 3, consumer groups: 1; nothing is lost";
        assert_eq!(finding.note, note);
    }

    #[test]
    fn a_message_that_one_replica_lacks_is_lost() {
        let mut history = History::new();
        history.sent("a").sent("b").mark("drained");
        history.stored("n1", 0, 0, "a").stored("n1", 0, 1, "b").stored("n2", 0, 0, "a").mark("end");
        let finding = judged(&history);
        let text = "b of topic t, acknowledged at 3 ms: not stored at n2".to_owned();
        assert_eq!(finding.violations, [Violation { text, events: vec![2, 3] }]);
        assert_eq!(finding.verdict, Verdict::Fail);
    }

    #[test]
    fn losses_are_split_by_where_they_lie() {
        let finding = judged(&kept(&["a", "b", "c", "d", "e", "f", "g"], &["c", "e"]));
        assert!(
            finding.note.ends_with("lost 5: 2 prefix, 1 middle, 2 postfix"),
            "{}",
            finding.note
        );
        let finding = judged(&kept(&["a", "b"], &["x"]));
        assert!(
            finding.note.ends_with("lost 2: 2 prefix, 0 middle, 0 postfix"),
            "{}",
            finding.note
        );
    }

    #[test]
    fn sends_that_failed_or_have_no_known_outcome_may_be_gone() {
        let mut history = History::new();
        history.sent("a").send_begins(2, "b").send_fails(2, "b").send_begins(2, "c");
        history.send_unknown(2, "c").send_begins(2, "d");
        history.mark("drained").stored("n1", 0, 0, "a").mark("end");
        assert_eq!(judged(&history).verdict, Verdict::Pass);
    }

    #[test]
    fn a_group_that_missed_a_message_lost_it() {
        let mut history = History::new();
        history.sent("a").sent("b").received("g", &[("a", 1)], 10).acked("g", "a", 1);
        history.received("h", &[("a", 1), ("b", 1)], 10).acked("h", "a", 1);
        history.ack_begins(4, "h", "b", 1).ack_ends(4, Phase::Fail, "h", "b", 1);
        history.mark("drained").stored("n1", 0, 0, "a").stored("n1", 0, 1, "b").mark("end");
        let finding = judged(&history);
        let ways = "never received by group g, received and never acknowledged by group h";
        let text = format!("b of topic t, acknowledged at 3 ms: {ways}");
        assert_eq!(finding.violations, [Violation { text, events: vec![2, 3] }]);
        assert_eq!(finding.figures["lost_consumed"], 1.0);
    }

    #[test]
    fn an_ack_without_known_outcome_or_a_dead_letter_ends_consumption() {
        let mut history = History::new();
        history.sent("a").sent("b").received("g", &[("a", 1), ("b", 17)], 10);
        history.ack_begins(4, "g", "a", 1).ack_ends(4, Phase::Unknown, "g", "a", 1);
        history.mark("drained").stored("n1", 0, 0, "a").stored("n1", 0, 1, "b");
        history.stored_in("%DLQ%g", "n1", 0, 0, "b").mark("end");
        let finding = judged(&history);
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
    }

    #[test]
    fn only_what_lies_below_the_min_offset_may_be_trimmed() {
        let mut history = History::new();
        history.sent_at("a", 0).sent_at("b", 1).sent_at("c", 2).progress("n1", [2, 2, 2, 3]);
        history.mark("drained").stored("n1", 0, 9, "x").mark("end");
        let finding = judged(&history);
        assert_eq!((finding.violation_count, finding.figures["trimmed"]), (1, 2.0));
        assert!(finding.violations[0].text.starts_with("c of topic t"));
        // The queue is known: "b" lay in one that was not trimmed.
        let mut history = History::new();
        history.sent_at("b", 1).progress("n1", [2, 2, 2, 3]).stored("n1", 5, 1, "b");
        history.mark("drained").stored("n1", 0, 2, "x").mark("end");
        assert_eq!(judged(&history).violation_count, 1);
    }

    #[test]
    fn retention_may_not_take_what_a_group_has_received_and_not_acknowledged() {
        let mut history = History::new();
        history.sent_at("a", 0).sent_at("b", 1).sent_at("c", 2).progress("n1", [3, 3, 3, 3]);
        history.received("g", &[("a", 1), ("b", 1)], 10).acked("g", "a", 1);
        history.mark("drained").stored("n1", 0, 9, "x").mark("end");
        let finding = judged(&history);
        assert_eq!((finding.violation_count, finding.figures["trimmed"]), (1, 3.0));
        let text = &finding.violations[0].text;
        assert!(text.ends_with("received and never acknowledged by group g"), "{text}");
    }

    #[test]
    fn without_a_complete_final_reading_it_is_unknown() {
        let mut history = kept(&["a"], &["a"]);
        history.events.pop();
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
        let mut history = History::new();
        history.sent("a").status("n2", "follower", 1, 1, 1).mark("drained");
        history.stored("n1", 0, 0, "a").mark("end");
        let finding = judged(&history);
        assert_eq!(finding.verdict, Verdict::Unknown);
        assert!(finding.note.contains("the final reading has nothing of n2"), "{}", finding.note);
        // What was stored before the end of the drain proves nothing about the end.
        let mut history = History::new();
        history.sent("a").stored("n1", 0, 0, "a").mark("drained").mark("end");
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }

    #[test]
    fn messages_of_a_deleted_topic_may_be_gone() {
        let mut history = History::new();
        history.sent("a").admin(2, "topic", "t", "delete", Some(true)).mark("drained");
        history.status("n1", "leader", 1, 1, 1).mark("end");
        assert_eq!(judged(&history).violation_count, 0);
    }
}
