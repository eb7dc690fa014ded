//! Queues keep the order of time.
//!
//! The server chooses a queue for each message, so only messages that happen to lie in the same queue
//! can be compared: one that was acknowledged before the send of another began lies before it.

use std::collections::{BTreeMap, HashMap};

use super::judge::{Judge, ms};
use super::view::{Place, Send, View};
use super::{Checker, Finding};
use crate::history::Kind;

/// In each queue: if send A was acknowledged before send B began, A's offset is below B's. B's outcome
/// does not matter once it is stored. Deleted topics are left out.
pub fn check(view: &View<'_>) -> Finding {
    let mut judge = Judge::new(Checker::Order);
    let queues = queues(view);
    let messages: usize = queues.values().map(Vec::len).sum();
    queues.values().for_each(|queue| judge_queue(queue, &mut judge));
    judge.count("queues", queues.len());
    judge.count("messages", messages);
    if messages == 0 {
        judge.unknown("no sent message has a known place");
    }
    judge.finish(format!("{messages} messages in {} queues", queues.len()))
}

struct Placed<'v> {
    send: &'v Send<'v>,
    place: Place<'v>,
    line: u64,
}

/// By topic and queue, each in the order of offsets.
fn queues<'v>(view: &'v View<'_>) -> BTreeMap<(&'v str, u32), Vec<Placed<'v>>> {
    let places: HashMap<_, _> = view.places();
    let mut queues: BTreeMap<(&str, u32), Vec<Placed<'_>>> = BTreeMap::new();
    // A send that repeats another one, with its message id, is stored where that was.
    let mut firsts: HashMap<(&str, &str), &Send<'_>> = HashMap::new();
    // A delayed or half message comes into its queue later than its send, whenever that is.
    let at_once = |send: &&Send<'_>| {
        matches!(send.kind, Kind::Normal | Kind::Fifo { .. } | Kind::Lite { .. })
    };
    for send in view.sends.iter().filter(at_once) {
        let first = firsts.entry((send.topic, send.value)).or_insert(send);
        if send.operation.invoke.index < first.operation.invoke.index {
            *first = send;
        }
    }
    for send in firsts.into_values() {
        if let Some((place, line)) = places.get(&(send.topic, send.value)) {
            let queue = queues.entry((place.topic, place.queue_id)).or_default();
            queue.push(Placed { send, place: *place, line: *line });
        }
    }
    for queue in queues.values_mut() {
        queue.sort_by_key(|one| (one.place.offset, one.send.operation.invoke.index));
    }
    queues
}

fn judge_queue(queue: &[Placed<'_>], judge: &mut Judge) {
    // Of all that lies behind: what was acknowledged first.
    let mut first: Option<(u64, &Placed<'_>)> = None;
    for late in queue.iter().rev() {
        let began_ns = late.send.operation.invoke_ns();
        if let Some((ok_ns, early)) = first.filter(|(ok_ns, _)| *ok_ns < began_ns)
            && early.place.offset > late.place.offset
        {
            judge.violation(sentence(early, ok_ns, late), lines(early, late));
        }
        if let Some(ok_ns) = late.send.operation.ok_ns()
            && first.is_none_or(|(first_ns, _)| ok_ns < first_ns)
        {
            first = Some((ok_ns, late));
        }
    }
}

fn sentence(early: &Placed<'_>, ok_ns: u64, late: &Placed<'_>) -> String {
    let (ok_ms, began_ms) = (ms(ok_ns), ms(late.send.operation.invoke_ns()));
    let (early_place, late_offset) = (early.place, late.place.offset);
    let (early, late) = (early.send.value, late.send.value);
    format!(
        "{early} at {early_place}, acknowledged at {ok_ms} ms, lies behind {late} at offset \
         {late_offset}, whose send began at {began_ms} ms"
    )
}

fn lines(early: &Placed<'_>, late: &Placed<'_>) -> Vec<u64> {
    let sends = early.send.operation.lines().chain(late.send.operation.lines());
    sends.chain([early.line, late.line]).collect()
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
        assert_eq!((finding.figures["messages"], finding.figures["queues"]), (5.0, 1.0));
    }

    #[test]
    fn a_later_send_must_not_lie_before_an_earlier_one() {
        let mut history = History::new();
        history.sent("a").sent("b").stored("n1", 0, 0, "b").stored("n1", 0, 1, "a");
        let finding = judged(&history);
        assert_eq!(finding.verdict, Verdict::Fail);
        assert_eq!(
            finding.violations[0].text,
            "a at topic t queue 0 offset 1, acknowledged at 1 ms, lies behind b at offset 0, whose \
             send began at 2 ms"
        );
        assert_eq!(finding.violations[0].events, [0, 1, 2, 3, 5, 4]);
    }

    #[test]
    fn a_later_send_without_known_outcome_must_not_lie_before_either() {
        let mut history = History::new();
        history.sent("a").send_begins(2, "b").send_unknown(2, "b");
        history.stored("n1", 0, 0, "b").stored("n1", 0, 1, "a");
        assert_eq!(judged(&history).violation_count, 1);
    }

    #[test]
    fn a_repeated_send_lies_where_the_first_one_does() {
        let mut history = History::new();
        history.sent("a").sent("b").sent("a");
        history.stored("n1", 0, 0, "a").stored("n1", 0, 1, "b");
        assert_eq!(judged(&history).verdict, Verdict::Pass);
    }

    #[test]
    fn concurrent_sends_and_other_queues_have_no_order() {
        let mut history = History::new();
        history.send_begins(1, "a").send_begins(2, "b").send_ok(1, "a", 1).send_ok(2, "b", 0);
        history.sent("c").send_begins(1, "d").send_unknown(1, "d").sent("e");
        history.stored("n1", 0, 0, "b").stored("n1", 0, 1, "a").stored("n1", 1, 0, "c");
        // "d" took effect after its producer had given up on it.
        history.stored("n1", 1, 1, "e").stored("n1", 1, 2, "d");
        assert_eq!(judged(&history).verdict, Verdict::Pass);
    }

    #[test]
    fn an_early_send_far_behind_is_found() {
        let mut history = History::new();
        for value in 0..100 {
            history.sent(&value.to_string());
        }
        history.stored("n1", 0, 100, "0");
        for value in 1..100 {
            history.stored("n1", 0, value, &value.to_string());
        }
        assert_eq!(judged(&history).violation_count, 99);
    }

    #[test]
    fn without_places_it_is_unknown() {
        let mut history = History::new();
        history.sent_at("a", 0);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
