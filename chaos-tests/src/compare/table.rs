//! What each fault did to each cluster, in one table.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::check::{View, availability};
use crate::history::{Action, Event, Phase};

/// What belongs to a fault begins so long before it: what is acknowledged then may not yet be where
/// it would survive.
const BEFORE_NS: u64 = 3_000_000_000;

/// The name of the time before the first fault.
pub const NOTHING: &str = "nothing";

/// One fault in all its repetitions, or the time before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub fault: String,
    /// Longest time without an acknowledged send of each repetition, ascending.
    pub write_gap_ms: Vec<u64>,
    /// Sends that were acknowledged.
    pub acknowledged: u64,
    /// Sends that were not, after the client's own retries. Their messages may be stored.
    pub failed: u64,
    /// Acknowledged sends whose message is gone: not stored at the end, or never delivered. Absent
    /// if the run was not read to its end.
    pub lost: Option<u64>,
    /// Messages that are stored more than once. Absent as `lost` is.
    pub stored_twice: Option<u64>,
    /// Deliveries of a message that had been delivered before.
    pub delivered_again: u64,
}

impl Row {
    /// Half of the gaps are not longer.
    pub fn gap_median_ms(&self) -> u64 {
        let middle = self.write_gap_ms.len().saturating_sub(1) / 2;
        self.write_gap_ms.get(middle).copied().unwrap_or(0)
    }

    /// The longest.
    pub fn gap_max_ms(&self) -> u64 {
        self.write_gap_ms.last().copied().unwrap_or(0)
    }
}

/// The rows of a history: [`NOTHING`], then each fault, by name.
pub fn rows(events: &[Event]) -> Vec<Row> {
    let measured = availability::measure(&View::new(events));
    let slices = Slices::of(&measured.faults);
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    rows.entry(NOTHING).or_default().write_gap_ms.push(measured.baseline.gap_max_ms);
    for fault in &measured.faults {
        rows.entry(&fault.name).or_default().write_gap_ms.push(fault.write_gap_ms);
    }
    let messages = Messages::of(events);
    for (value, send) in &messages.sends {
        let row = rows.entry(slices.fault(send.at_ns)).or_default();
        match send.ok {
            true => row.acknowledged += 1,
            false => row.failed += 1,
        }
        if let Some(stored) = &messages.stored {
            let copies = stored.get(value).copied().unwrap_or_default();
            let lost = send.ok && (!copies.everywhere || !messages.delivered.contains(value));
            *row.lost.get_or_insert(0) += u64::from(lost);
            *row.stored_twice.get_or_insert(0) += u64::from(copies.several);
        }
    }
    for at_ns in &messages.again_ns {
        rows.entry(slices.fault(*at_ns)).or_default().delivered_again += 1;
    }
    let nothing = rows.remove(NOTHING).map(|row| (NOTHING, row));
    let named = nothing.into_iter().chain(rows).map(|(name, mut row)| {
        row.fault = name.to_owned();
        row.write_gap_ms.sort_unstable();
        row
    });
    named.collect()
}

/// Which fault a moment belongs to.
struct Slices<'a>(Vec<(u64, &'a str)>);

impl<'a> Slices<'a> {
    fn of(faults: &'a [availability::FaultAvailability]) -> Self {
        let begins = faults.iter().map(|it| (it.begin_ns.saturating_sub(BEFORE_NS), &*it.name));
        Self(begins.collect())
    }

    fn fault(&self, at_ns: u64) -> &'a str {
        let begun = self.0.partition_point(|(begin_ns, _)| *begin_ns <= at_ns);
        begun.checked_sub(1).map_or(NOTHING, |place| self.0[place].1)
    }
}

/// One send.
struct Sent {
    ok: bool,
    /// When it was acknowledged, or given up.
    at_ns: u64,
}

/// What is stored of one message.
#[derive(Clone, Copy, Default)]
struct Copies {
    /// At every node that was read.
    everywhere: bool,
    /// At more than one place of a node.
    several: bool,
}

struct Messages<'a> {
    sends: BTreeMap<&'a str, Sent>,
    delivered: HashSet<&'a str>,
    /// When messages were delivered again.
    again_ns: Vec<u64>,
    /// Absent if the run was not read to its end.
    stored: Option<HashMap<&'a str, Copies>>,
}

impl<'a> Messages<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut all = Self {
            sends: BTreeMap::new(),
            delivered: HashSet::new(),
            again_ns: Vec::new(),
            stored: None,
        };
        let mut places: HashMap<&str, BTreeSet<(&str, u32, u64)>> = HashMap::new();
        let mut nodes = BTreeSet::new();
        let mut read = false;
        for event in events {
            let node = event.node.as_deref().unwrap_or_default();
            match (&event.action, event.phase) {
                (Action::Send { value, .. }, Phase::Ok | Phase::Fail | Phase::Unknown) => {
                    let sent = Sent { ok: event.phase == Phase::Ok, at_ns: event.time_ns };
                    all.sends.insert(value, sent);
                }
                (Action::Receive { deliveries, .. }, Phase::Ok) => {
                    for delivery in deliveries {
                        if !all.delivered.insert(&delivery.value) {
                            all.again_ns.push(event.time_ns);
                        }
                    }
                }
                (Action::Stored { queue_id, offset, value, .. }, _) => {
                    nodes.insert(node);
                    places.entry(value).or_default().insert((node, *queue_id, *offset));
                }
                (Action::Mark { what }, _) => read |= what == "end",
                _ => (),
            }
        }
        let copies = |places: BTreeSet<(&str, u32, u64)>| {
            let at: BTreeSet<&str> = places.iter().map(|(node, ..)| *node).collect();
            Copies { everywhere: at.len() == nodes.len(), several: places.len() > at.len() }
        };
        all.stored = read
            .then(|| places.into_iter().map(|(value, places)| (value, copies(places))).collect());
        all
    }
}

/// The head of [`cells`].
pub const HEAD: [&str; 10] = [
    "fault",
    "cluster",
    "times",
    "no send acknowledged for, median ms",
    "max ms",
    "acknowledged",
    "of these lost",
    "failed",
    "stored twice",
    "delivered again",
];

/// The rows of several clusters, fault by fault, so that they can be held side by side.
pub fn cells(sides: &[(&str, &[Row])]) -> Vec<Vec<String>> {
    let mut faults: Vec<&str> = Vec::new();
    for row in sides.iter().flat_map(|(_, rows)| *rows) {
        if !faults.contains(&row.fault.as_str()) {
            faults.push(&row.fault);
        }
    }
    let of_side = |fault: &str, (name, rows): &(&str, &[Row])| {
        let row = rows.iter().find(|row| row.fault == fault)?;
        let known = |count: Option<u64>| count.map_or("not known".to_owned(), |it| it.to_string());
        Some(vec![
            fault.to_owned(),
            (*name).to_owned(),
            row.write_gap_ms.len().to_string(),
            row.gap_median_ms().to_string(),
            row.gap_max_ms().to_string(),
            row.acknowledged.to_string(),
            known(row.lost),
            row.failed.to_string(),
            known(row.stored_twice),
            row.delivered_again.to_string(),
        ])
    };
    faults.iter().flat_map(|fault| sides.iter().filter_map(|side| of_side(fault, side))).collect()
}

/// [`cells`] in Markdown.
pub fn markdown(sides: &[(&str, &[Row])]) -> String {
    let rule = "|---|---|".to_owned() + &"--:|".repeat(HEAD.len() - 2);
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let head = line(&HEAD.map(str::to_owned));
    let rows = cells(sides).into_iter().map(|cells| line(&cells));
    [head, rule].into_iter().chain(rows).collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Delivery, Kind, Stage};

    const S: u64 = 1_000_000_000;

    #[derive(Default)]
    struct Story(Vec<Event>);

    impl Story {
        fn add(&mut self, time_ns: u64, phase: Phase, action: Action, node: Option<&str>) {
            self.0.push(Event {
                index: self.0.len() as u64,
                time_ns,
                wall_ms: time_ns / 1_000_000,
                process: if phase == Phase::Info { 0 } else { 1 },
                phase,
                action,
                node: node.map(str::to_owned),
                error: None,
            });
        }

        fn send(&mut self, at_ns: u64, value: &str, ok: bool) {
            let action = || Action::Send {
                topic: "t".into(),
                value: value.into(),
                message_id: None,
                offset: None,
                kind: Kind::Normal,
            };
            self.add(at_ns - 1, Phase::Invoke, action(), None);
            self.add(at_ns, if ok { Phase::Ok } else { Phase::Unknown }, action(), None);
        }

        fn deliver(&mut self, at_ns: u64, value: &str) {
            let receive = |deliveries| Action::Receive {
                group: "t".into(),
                topic: "t".into(),
                deliveries,
                invisible_ms: 0,
                attempt_id: None,
            };
            let seen = Delivery {
                value: value.into(),
                message_id: String::new(),
                attempt: 1,
                queue_id: None,
                offset: None,
            };
            self.add(at_ns, Phase::Invoke, receive(vec![]), None);
            self.add(at_ns, Phase::Ok, receive(vec![seen]), None);
        }

        fn fault(&mut self, from_ns: u64, to_ns: u64, name: &str) {
            for (at_ns, stage, bit) in
                [(from_ns, Stage::Begin, None), (to_ns, Stage::End, Some(true))]
            {
                let fault = Action::Fault {
                    name: name.into(),
                    targets: vec!["broker-1".into()],
                    stage,
                    bit,
                    evidence: None,
                    parameters: serde_json::Value::Null,
                };
                self.add(at_ns, Phase::Info, fault, None);
            }
        }

        fn stored(&mut self, node: &str, offset: u64, value: &str) {
            let stored = Action::Stored {
                topic: "t".into(),
                queue_id: 0,
                offset,
                value: value.into(),
                message_id: String::new(),
                origin: None,
            };
            self.add(90 * S, Phase::Info, stored, Some(node));
        }

        fn mark(&mut self, what: &str) {
            self.add(91 * S, Phase::Info, Action::Mark { what: what.into() }, None);
        }
    }

    /// Sends before and after a kill; "b" is acknowledged just before it and then gone.
    fn story(ends: bool) -> Story {
        let mut story = Story::default();
        story.send(S, "a", true);
        story.send(18 * S, "b", true);
        story.fault(20 * S, 21 * S, "kill-leader");
        story.send(28 * S, "c", true);
        story.send(29 * S, "d", false);
        story.fault(40 * S, 41 * S, "kill-leader");
        story.send(43 * S, "e", true);
        for value in ["a", "c", "e"] {
            story.deliver(44 * S, value);
        }
        story.deliver(45 * S, "c");
        for (offset, value) in [(0, "a"), (1, "c"), (2, "d"), (3, "c"), (4, "e")] {
            story.stored("broker-1", offset, value);
        }
        if ends {
            story.mark("end");
        }
        story
    }

    #[test]
    fn each_fault_has_what_happened_around_it() {
        let rows = rows(&story(true).0);
        let nothing = Row {
            fault: "nothing".into(),
            write_gap_ms: vec![17_000],
            acknowledged: 1,
            lost: Some(0),
            stored_twice: Some(0),
            ..Row::default()
        };
        let killed = Row {
            fault: "kill-leader".into(),
            write_gap_ms: vec![12_000, 15_000],
            acknowledged: 3,
            failed: 1,
            lost: Some(1),
            stored_twice: Some(1),
            delivered_again: 1,
        };
        assert_eq!(rows, [nothing, killed]);
        assert_eq!((rows[1].gap_median_ms(), rows[1].gap_max_ms()), (12_000, 15_000));
    }

    #[test]
    fn what_one_replica_lacks_is_lost() {
        let mut story = story(false);
        for value in ["a", "d", "e"] {
            story.stored("broker-2", 7, value);
        }
        story.mark("end");
        // "b" is nowhere, "c" only at one of the two.
        assert_eq!(rows(&story.0)[1].lost, Some(2));
    }

    #[test]
    fn what_was_not_read_to_its_end_is_not_known() {
        let rows = rows(&story(false).0);
        assert_eq!((rows[1].lost, rows[1].stored_twice), (None, None));
        let table = markdown(&[("one", &rows)]);
        assert!(
            table.contains(
                "| kill-leader | one | 2 | 12000 | 15000 | 3 | not known | 1 | not known | 1 |"
            ),
            "{table}"
        );
    }

    #[test]
    fn clusters_stand_below_each_other_fault_by_fault() {
        let rows = rows(&story(true).0);
        let cells = cells(&[("one", &rows), ("two", &rows[..1])]);
        let heads: Vec<String> = cells.iter().map(|row| row[..2].join(" ")).collect();
        assert_eq!(heads, ["nothing one", "nothing two", "kill-leader one"]);
        assert!(cells.iter().all(|row| row.len() == HEAD.len()));
    }
}
