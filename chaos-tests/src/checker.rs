//! Judges histories. Pure functions: each takes what was seen and returns what is wrong with it.
//!
//! An acknowledged send must be stored exactly once and reach the consumer. A failed send says
//! nothing about storage: its message may be there or not, but never twice.
//!
//! Not here: what a test demands. Gaps are only measured, failed sends only listed.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::driver_log::{Delivery, Send, Stored};

/// Beginning of an error that tells one kind of failure from another.
const REASON_CHARS_MAX: usize = 200;

/// Values of acknowledged sends that no queue holds.
pub fn acknowledged_lost(sends: &[Send], stored: &[Stored]) -> Vec<String> {
    let held: HashSet<&str> = stored.iter().map(|stored| stored.value.as_str()).collect();
    missing(sends, &held)
}

/// Values that lie in the queues more than once, with where.
pub fn stored_twice(stored: &[Stored]) -> Vec<String> {
    let mut places: HashMap<&str, Vec<String>> = HashMap::new();
    for Stored { queue_id, offset, id, value } in stored {
        places.entry(value).or_default().push(format!("queue {queue_id} offset {offset} id {id}"));
    }
    let twice = places.into_iter().filter(|(_, places)| places.len() > 1);
    sorted(twice.map(|(value, places)| format!("{value}: {}", places.join(", "))))
}

/// Values in the queues that nobody sent.
pub fn phantoms(sends: &[Send], stored: &[Stored]) -> Vec<String> {
    let sent: HashSet<&str> = sends.iter().map(|send| send.value.as_str()).collect();
    let unknown = stored.iter().filter(|stored| !sent.contains(stored.value.as_str()));
    sorted(unknown.map(|stored| stored.value.clone()))
}

/// Values whose id in the queue is not the one that the producer was told.
pub fn stored_under_another_id(sends: &[Send], stored: &[Stored]) -> Vec<String> {
    let ids: HashMap<&str, &str> =
        stored.iter().map(|stored| (stored.value.as_str(), stored.id.as_str())).collect();
    let changed = sends.iter().filter_map(|send| {
        let (told, held) = (send.id.as_deref()?, *ids.get(send.value.as_str())?);
        (told != held).then(|| format!("{}: told {told}, stored as {held}", send.value))
    });
    sorted(changed)
}

/// Values of acknowledged sends that no consumer received and acknowledged.
pub fn not_consumed(sends: &[Send], deliveries: &[Delivery]) -> Vec<String> {
    let acked = deliveries.iter().filter(|delivery| delivery.acked);
    missing(sends, &acked.map(|delivery| delivery.value.as_str()).collect())
}

/// How many deliveries were of a message that had been delivered before.
pub fn delivered_again(deliveries: &[Delivery]) -> usize {
    let distinct: HashSet<&str> = deliveries.iter().map(|d| d.value.as_str()).collect();
    deliveries.len() - distinct.len()
}

/// One way in which sends failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// What the application was told, with `#` for every number.
    pub reason: String,
    /// How many were told so.
    pub count: usize,
    /// Shortest and longest time from call to failure.
    pub took_ms: (u64, u64),
    /// When the first one failed, milliseconds since 1970.
    pub first_ms: u64,
}

/// Sends that the application saw fail, by what it was told.
pub fn failed(sends: &[Send]) -> Vec<Failures> {
    let mut kinds: BTreeMap<String, Failures> = BTreeMap::new();
    for send in sends.iter().filter(|send| !send.ok) {
        let reason = without_numbers(send.error.as_deref().unwrap_or("no reason given"));
        let took_ms = send.end_ms.saturating_sub(send.begin_ms);
        let (count, times, first_ms) = (0, (took_ms, took_ms), send.end_ms);
        let kind = kinds.entry(reason.clone());
        let kind = kind.or_insert(Failures { reason, count, took_ms: times, first_ms });
        kind.count += 1;
        kind.took_ms = (kind.took_ms.0.min(took_ms), kind.took_ms.1.max(took_ms));
        kind.first_ms = kind.first_ms.min(send.end_ms);
    }
    kinds.into_values().collect()
}

/// The text in one line, a `#` in place of every run of digits.
fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '0'..='9' if plain.ends_with('#') => (),
            '0'..='9' => plain.push('#'),
            space if space.is_whitespace() => plain.push(' '),
            other => plain.push(other),
        }
    }
    plain.truncate(plain.char_indices().nth(REASON_CHARS_MAX).map_or(plain.len(), |(at, _)| at));
    plain
}

/// Times between the answers of successive successful sends, in milliseconds, ascending.
pub fn gaps_ms<'a>(sends: impl IntoIterator<Item = &'a Send>) -> Vec<u64> {
    let ends = successes_ms(sends);
    let mut gaps: Vec<u64> = ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    gaps
}

/// Longest time within `from_ms..until_ms` without the answer of a successful send.
pub fn longest_gap_ms<'a>(
    sends: impl IntoIterator<Item = &'a Send>,
    from_ms: u64,
    until_ms: u64,
) -> u64 {
    let within = successes_ms(sends).into_iter().filter(|end| (from_ms..until_ms).contains(end));
    let (mut last, mut longest) = (from_ms, 0);
    for end in within.chain([until_ms]) {
        longest = longest.max(end.saturating_sub(last));
        last = end;
    }
    longest
}

/// The value that `percent` of all are not above; `sorted` ascends. 0 for none.
pub fn percentile(sorted: &[u64], percent: f64) -> u64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

fn successes_ms<'a>(sends: impl IntoIterator<Item = &'a Send>) -> Vec<u64> {
    let mut ends: Vec<u64> =
        sends.into_iter().filter(|send| send.ok).map(|send| send.end_ms).collect();
    ends.sort_unstable();
    ends
}

fn missing(sends: &[Send], present: &HashSet<&str>) -> Vec<String> {
    let acknowledged = sends.iter().filter(|send| send.ok);
    let absent = acknowledged.filter(|send| !present.contains(send.value.as_str()));
    sorted(absent.map(|send| format!("{} acknowledged at {} ms", send.value, send.end_ms)))
}

fn sorted(found: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = found.collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(value: &str, end_ms: u64, ok: bool) -> Send {
        Send {
            begin_ms: end_ms - 5,
            end_ms,
            begin_ns: None,
            end_ns: None,
            value: value.into(),
            ok,
            id: ok.then(|| format!("id-{value}")),
            error: (!ok).then(|| "timed out".into()),
        }
    }

    fn stored(value: &str, offset: u64) -> Stored {
        Stored { queue_id: 3, offset, id: format!("id-{value}"), value: value.into() }
    }

    fn delivery(value: &str, acked: bool) -> Delivery {
        Delivery {
            at_ms: 0,
            value: value.into(),
            id: String::new(),
            attempt: 1,
            acked,
            begin_ns: None,
            end_ns: None,
            invisible_ms: None,
            ack_begin_ns: None,
            ack_end_ns: None,
            error: None,
        }
    }

    #[test]
    fn a_good_history_has_no_violation() {
        let sends = [send("a", 10, true), send("b", 20, false), send("c", 30, true)];
        // "b" failed for the application and is there nevertheless: legitimate.
        let held = [stored("a", 0), stored("b", 1), stored("c", 2)];
        let got = [delivery("a", true), delivery("b", true), delivery("c", true)];
        assert!(acknowledged_lost(&sends, &held).is_empty());
        assert!(stored_twice(&held).is_empty());
        assert!(phantoms(&sends, &held).is_empty());
        assert!(stored_under_another_id(&sends, &held).is_empty());
        assert!(not_consumed(&sends, &got).is_empty());
        assert_eq!(delivered_again(&got), 0);
    }

    #[test]
    fn an_acknowledged_message_that_is_not_stored_is_lost() {
        let sends = [send("a", 10, true), send("b", 20, true), send("c", 30, false)];
        assert_eq!(acknowledged_lost(&sends, &[stored("a", 0)]), ["b acknowledged at 20 ms"]);
    }

    #[test]
    fn a_message_stored_twice_is_found_even_if_its_send_failed() {
        let held = [stored("a", 0), stored("b", 1), stored("b", 7)];
        assert_eq!(stored_twice(&held), ["b: queue 3 offset 1 id id-b, queue 3 offset 7 id id-b"]);
    }

    #[test]
    fn a_stored_message_that_nobody_sent_is_a_phantom() {
        assert_eq!(phantoms(&[send("a", 10, true)], &[stored("a", 0), stored("x", 1)]), ["x"]);
    }

    #[test]
    fn a_message_under_another_id_is_found() {
        let mut held = stored("a", 0);
        held.id = "other".into();
        let found = stored_under_another_id(&[send("a", 10, true)], &[held]);
        assert_eq!(found, ["a: told id-a, stored as other"]);
    }

    #[test]
    fn a_delivery_without_ack_is_no_consumption() {
        let sends = [send("a", 10, true), send("b", 20, true), send("c", 30, true)];
        let got = [delivery("a", false), delivery("a", true), delivery("b", false)];
        let lacking = not_consumed(&sends, &got);
        assert_eq!(lacking, ["b acknowledged at 20 ms", "c acknowledged at 30 ms"]);
        assert_eq!(delivered_again(&got), 1);
    }

    #[test]
    fn failed_sends_are_counted_by_reason() {
        let mut sends = [send("a", 10, true), send("b", 20, false), send("c", 60, false)];
        sends[1].error = Some("no answer\nfrom 127.0.0.1:24005".into());
        sends[2].error = Some("no answer\nfrom 127.0.0.1:24008".into());
        sends[2].begin_ms = 30;
        let reason = "no answer from #.#.#.#:#".to_owned();
        let expected = Failures { reason, count: 2, took_ms: (5, 30), first_ms: 20 };
        assert_eq!(failed(&sends), [expected]);
    }

    #[test]
    fn gaps_lie_between_successes_whatever_the_order_of_the_log() {
        let sends = [
            send("d", 1200, true),
            send("a", 100, true),
            send("c", 700, false),
            send("b", 200, true),
        ];
        assert_eq!(gaps_ms(&sends), [100, 1000]);
        assert_eq!(longest_gap_ms(&sends, 90, 200), 100);
        assert_eq!(longest_gap_ms(&sends, 200, 1100), 900);
        assert_eq!(longest_gap_ms(&sends, 300, 1500), 900);
        assert_eq!(longest_gap_ms(&sends, 1300, 9000), 7700);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&values, 99.0), 198);
        assert_eq!(percentile(&values, 100.0), 200);
        assert_eq!(percentile(&[7], 50.0), 7);
        assert_eq!(percentile(&[], 99.0), 0);
    }
}
