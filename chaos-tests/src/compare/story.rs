//! One history of what the harness saw and what the client drivers logged.
//!
//! Drivers stamp their lines with the wall clock of the same machine, in milliseconds; the harness
//! has both clocks in each of its lines. So a driver's times are true to a millisecond, as long as
//! nobody sets the clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::driver_log::{Delivery, Send};
use crate::history::{self, Action, Event, Kind, Phase};

/// Numbers of processes of the drivers begin here: above those of the harness.
const FIRST_PROCESS: u32 = 1000;

/// Whose topic and group the drivers' lines are about.
pub struct Names<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The consumer group.
    pub group: &'a str,
}

/// All of it, in the order of time. A send without an acknowledgement is unknown: the client can not
/// tell. A delivery is written as received and acknowledged at the moment in which it was logged.
pub fn merge(
    harness: Vec<Event>,
    sends: &[Send],
    deliveries: &[Delivery],
    names: &Names<'_>,
) -> Vec<Event> {
    let zero_ms = harness.first().map_or(0, |first| first.wall_ms - first.time_ns / 1_000_000);
    let mut lines = Lines { zero_ms, events: harness };
    let consumer = FIRST_PROCESS;
    let mut senders = Senders { next: FIRST_PROCESS + 1, busy: BinaryHeap::new() };
    let mut in_order: Vec<&Send> = sends.iter().collect();
    in_order.sort_by_key(|send| send.begin_ms);
    for send in in_order {
        let process = senders.take(send.begin_ms, send.end_ms);
        lines.send(process, send, names);
    }
    let mut in_order: Vec<&Delivery> = deliveries.iter().collect();
    in_order.sort_by_key(|delivery| delivery.at_ms);
    for delivery in in_order {
        lines.delivery(consumer, delivery, names);
    }
    let mut events = lines.events;
    // Stable: of one moment, what came first in the lists above comes first.
    events.sort_by_key(|event| event.time_ns);
    for (index, event) in (0..).zip(&mut events) {
        event.index = index;
    }
    events
}

/// Numbers for those who send: each does one operation at a time.
struct Senders {
    next: u32,
    /// Until when each is busy, the earliest first.
    busy: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Senders {
    fn take(&mut self, begin_ms: u64, end_ms: u64) -> u32 {
        let process = match self.busy.peek() {
            Some(Reverse((until_ms, process))) if *until_ms < begin_ms => {
                let process = *process;
                self.busy.pop();
                process
            }
            _ => {
                self.next += 1;
                self.next - 1
            }
        };
        self.busy.push(Reverse((end_ms, process)));
        process
    }
}

struct Lines {
    /// The wall clock when the run began.
    zero_ms: u64,
    events: Vec<Event>,
}

impl Lines {
    fn push(
        &mut self,
        at_ms: u64,
        process: u32,
        phase: Phase,
        action: Action,
        error: Option<&str>,
    ) {
        self.events.push(Event {
            index: 0,
            time_ns: at_ms.saturating_sub(self.zero_ms) * 1_000_000,
            wall_ms: at_ms,
            process,
            phase,
            action,
            node: None,
            error: error.map(str::to_owned),
        });
    }

    fn send(&mut self, process: u32, send: &Send, names: &Names<'_>) {
        let action = |message_id| Action::Send {
            topic: names.topic.to_owned(),
            value: send.value.clone(),
            message_id,
            offset: None,
            kind: Kind::Normal,
        };
        self.push(send.begin_ms, process, Phase::Invoke, action(None), None);
        let phase = if send.ok { Phase::Ok } else { Phase::Unknown };
        self.push(send.end_ms, process, phase, action(send.id.clone()), send.error.as_deref());
    }

    fn delivery(&mut self, process: u32, delivery: &Delivery, names: &Names<'_>) {
        let receive = |deliveries| Action::Receive {
            group: names.group.to_owned(),
            topic: names.topic.to_owned(),
            deliveries,
            // The driver does not tell.
            invisible_ms: 0,
            attempt_id: None,
        };
        let seen = history::Delivery {
            value: delivery.value.clone(),
            message_id: delivery.id.clone(),
            attempt: delivery.attempt,
            queue_id: None,
            offset: None,
        };
        let at_ms = delivery.at_ms;
        self.push(at_ms, process, Phase::Invoke, receive(Vec::new()), None);
        self.push(at_ms, process, Phase::Ok, receive(vec![seen]), None);
        if delivery.acked {
            let ack = Action::Ack {
                group: names.group.to_owned(),
                topic: names.topic.to_owned(),
                value: delivery.value.clone(),
                attempt: delivery.attempt,
            };
            self.push(at_ms, process, Phase::Invoke, ack.clone(), None);
            self.push(at_ms, process, Phase::Ok, ack, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names { topic: "t", group: "g" };

    fn mark(time_ms: u64, what: &str) -> Event {
        Event {
            index: 0,
            time_ns: time_ms * 1_000_000 + 7,
            wall_ms: 5_000 + time_ms,
            process: 0,
            phase: Phase::Info,
            action: Action::Mark { what: what.to_owned() },
            node: None,
            error: None,
        }
    }

    fn send(begin_ms: u64, end_ms: u64, value: &str, ok: bool) -> Send {
        let error = (!ok).then(|| "no answer".to_owned());
        let (value, id) = (value.into(), ok.then(|| "id".into()));
        Send { begin_ms, end_ms, value, ok, id, error, ..Send::default() }
    }

    fn delivery(at_ms: u64, value: &str) -> Delivery {
        let (value, id) = (value.into(), "id".into());
        Delivery { at_ms, value, id, attempt: 1, acked: true, ..Delivery::default() }
    }

    #[test]
    fn everything_has_its_place_in_time() {
        let harness = vec![mark(2, "warm_up"), mark(50, "drained")];
        let sends = [send(5_010, 5_030, "a", true), send(5_020, 5_060, "b", false)];
        let events = merge(harness, &sends, &[delivery(5_040, "a")], &NAMES);
        let told: Vec<(u64, Phase, bool)> = events
            .iter()
            .map(|event| {
                let is_send = matches!(event.action, Action::Send { .. });
                (event.time_ns / 1_000_000, event.phase, is_send)
            })
            .collect();
        assert_eq!(
            told,
            [
                (2, Phase::Info, false),
                (10, Phase::Invoke, true),
                (20, Phase::Invoke, true),
                (30, Phase::Ok, true),
                (40, Phase::Invoke, false),
                (40, Phase::Ok, false),
                (40, Phase::Invoke, false),
                (40, Phase::Ok, false),
                (50, Phase::Info, false),
                (60, Phase::Unknown, true),
            ]
        );
        let indexes: Vec<u64> = events.iter().map(|event| event.index).collect();
        assert_eq!(indexes, (0..10).collect::<Vec<_>>());
        assert_eq!(events[9].error.as_deref(), Some("no answer"));
    }

    #[test]
    fn a_process_does_one_operation_at_a_time() {
        let sends = [
            send(5_000, 5_010, "a", true),
            send(5_005, 5_006, "b", true),
            send(5_006, 5_020, "c", true),
            send(5_011, 5_012, "d", true),
        ];
        let events = merge(vec![mark(0, "warm_up")], &sends, &[], &NAMES);
        let mut open = std::collections::BTreeSet::new();
        let mut processes = std::collections::BTreeSet::new();
        for event in events.iter().filter(|event| event.process > 0) {
            processes.insert(event.process);
            match event.phase {
                Phase::Invoke => assert!(open.insert(event.process), "{event:?}"),
                _ => assert!(open.remove(&event.process), "{event:?}"),
            }
        }
        // "c" begins in the millisecond in which "b" ends: nobody knows which was first.
        assert_eq!((open.len(), processes.len()), (0, 3));
    }
}
