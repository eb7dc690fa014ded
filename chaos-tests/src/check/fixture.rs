//! Histories for the tests of the checkers, written by hand.

use crate::history::{Action, Delivery, Event, Phase, Stage};

/// A history under construction. Each line is one millisecond after the one before it. Everything is
/// about topic `t` unless it says otherwise.
pub struct History {
    pub events: Vec<Event>,
    next_ns: u64,
}

const MS: u64 = 1_000_000;

impl History {
    pub fn new() -> Self {
        Self { events: Vec::new(), next_ns: 0 }
    }

    /// Nothing is wrong with it: three replicas, a change of leader under a fault, a send without
    /// known outcome, a redelivery after its time, and a complete drain.
    pub fn good() -> Self {
        let mut history = Self::new();
        history.mark("warm_up").admin(9, "topic", "t", "create", Some(false));
        history.status("n1", "leader", 1, 1, 1).sent_at("a", 0).sent_at("b", 1);
        history.mark("faults").fault_begins("kill", "n1").send_begins(2, "c").send_unknown(2, "c");
        history.status("n2", "leader", 2, 4, 4).sent_at("d", 3).sent_at("e", 4);
        history.fault_ends("kill", "n1", true).mark("healed").mark("drain");
        history.received("g", &[("a", 1), ("b", 1), ("c", 1), ("d", 1)], 30_000);
        for value in ["a", "b", "c", "d"] {
            history.acked("g", value, 1);
        }
        history.received("g", &[("e", 1)], 20).at(5_000).received("g", &[("e", 2)], 20);
        history.acked("g", "e", 2).admin(9, "topic", "t", "read", Some(true)).mark("drained");
        for node in ["n1", "n2", "n3"] {
            history.status(node, if node == "n2" { "leader" } else { "follower" }, 2, 9, 9);
            for (offset, value) in (0..).zip(["a", "b", "c", "d", "e"]) {
                history.stored(node, 0, offset, value);
                history.entry(node, offset + 1, 1 + offset / 3, 0xC0 + offset as u32);
            }
            history.progress(node, [5, 5, 0, 5]);
        }
        history.mark("end");
        history
    }

    /// Like [`History::good`] and long: about twelve lines for each message. Four producers at a time,
    /// four queues, and a fault in the middle.
    pub fn good_and_long(messages: u64) -> Self {
        let mut history = Self::new();
        let value = |number| format!("v{number}");
        history.mark("warm_up");
        for first in (0..messages).step_by(4) {
            if first == messages / 8 * 4 {
                history.mark("faults").fault_begins("kill", "n1");
            }
            (0..4).for_each(|at| _ = history.send_begins(10 + at, &value(first + u64::from(at))));
            (0..4).rev().for_each(|at| {
                history.send_ok(10 + at, &value(first + u64::from(at)), first / 4);
            });
            history.status("n2", "leader", 1, first, first);
            let values: Vec<String> = (0..4).map(|at| value(first + at)).collect();
            let deliveries: Vec<_> = values.iter().map(|value| (value.as_str(), 1)).collect();
            history.received("g", &deliveries, 30_000);
            values.iter().for_each(|value| _ = history.acked("g", value, 1));
        }
        history.fault_ends("kill", "n1", true).mark("drain").mark("drained");
        for node in ["n1", "n2", "n3"] {
            history.status(node, "follower", 1, messages, messages);
            for number in 0..messages {
                history.stored(node, (number % 4) as u32, number / 4, &value(number));
                history.entry(node, number, 1, number as u32);
            }
        }
        history.mark("end");
        history
    }

    /// The next line is at this time.
    pub fn at(&mut self, time_ms: u64) -> &mut Self {
        self.next_ns = time_ms * MS;
        self
    }

    pub fn push(
        &mut self,
        process: u32,
        phase: Phase,
        action: Action,
        node: Option<&str>,
    ) -> &mut Self {
        self.events.push(Event {
            index: self.events.len() as u64,
            time_ns: self.next_ns,
            wall_ms: self.next_ns / MS,
            process,
            phase,
            action,
            node: node.map(str::to_owned),
            error: None,
        });
        self.next_ns += MS;
        self
    }

    // Sends.

    pub fn send_begins(&mut self, process: u32, value: &str) -> &mut Self {
        self.push(process, Phase::Invoke, send(value, None, None), None)
    }

    pub fn send_ok(&mut self, process: u32, value: &str, offset: u64) -> &mut Self {
        let id = format!("id-{value}");
        self.push(process, Phase::Ok, send(value, Some(id), Some(offset)), None)
    }

    pub fn send_fails(&mut self, process: u32, value: &str) -> &mut Self {
        self.push(process, Phase::Fail, send(value, None, None), None)
    }

    pub fn send_unknown(&mut self, process: u32, value: &str) -> &mut Self {
        self.push(process, Phase::Unknown, send(value, None, None), None)
    }

    /// Acknowledged, without its offset.
    pub fn sent(&mut self, value: &str) -> &mut Self {
        self.send_begins(1, value);
        self.push(1, Phase::Ok, send(value, None, None), None)
    }

    pub fn sent_at(&mut self, value: &str, offset: u64) -> &mut Self {
        self.send_begins(1, value).send_ok(1, value, offset)
    }

    // Consumption.

    pub fn receive_begins(&mut self, process: u32, group: &str) -> &mut Self {
        self.push(process, Phase::Invoke, receive(group, Vec::new(), 0), None)
    }

    pub fn receive_ends(
        &mut self,
        process: u32,
        group: &str,
        deliveries: &[(&str, u32)],
        invisible_ms: u64,
    ) -> &mut Self {
        let deliveries = deliveries.iter().map(|(value, attempt)| delivery(value, *attempt, None));
        self.push(process, Phase::Ok, receive(group, deliveries.collect(), invisible_ms), None)
    }

    pub fn received(
        &mut self,
        group: &str,
        deliveries: &[(&str, u32)],
        invisible_ms: u64,
    ) -> &mut Self {
        self.receive_begins(3, group).receive_ends(3, group, deliveries, invisible_ms)
    }

    /// One first delivery of a client that tells the place.
    pub fn received_at(
        &mut self,
        group: &str,
        value: &str,
        queue_id: u32,
        offset: u64,
    ) -> &mut Self {
        let deliveries = vec![delivery(value, 1, Some((queue_id, offset)))];
        self.receive_begins(3, group);
        self.push(3, Phase::Ok, receive(group, deliveries, 0), None)
    }

    pub fn ack_begins(
        &mut self,
        process: u32,
        group: &str,
        value: &str,
        attempt: u32,
    ) -> &mut Self {
        self.push(process, Phase::Invoke, ack(group, value, attempt), None)
    }

    pub fn ack_ends(
        &mut self,
        process: u32,
        phase: Phase,
        group: &str,
        value: &str,
        attempt: u32,
    ) -> &mut Self {
        self.push(process, phase, ack(group, value, attempt), None)
    }

    pub fn acked(&mut self, group: &str, value: &str, attempt: u32) -> &mut Self {
        self.ack_begins(4, group, value, attempt).ack_ends(4, Phase::Ok, group, value, attempt)
    }

    pub fn change_invisible(
        &mut self,
        phase: Phase,
        group: &str,
        value: &str,
        attempt: u32,
        invisible_ms: u64,
    ) -> &mut Self {
        let (group, topic, value) = (group.to_owned(), "t".to_owned(), value.to_owned());
        let action = Action::ChangeInvisible { group, topic, value, attempt, invisible_ms };
        self.push(4, Phase::Invoke, action.clone(), None).push(4, phase, action, None)
    }

    // Administration.

    pub fn admin(
        &mut self,
        process: u32,
        kind: &str,
        name: &str,
        verb: &str,
        existed: Option<bool>,
    ) -> &mut Self {
        let action = |existed| Action::Admin {
            kind: kind.into(),
            name: name.into(),
            verb: verb.into(),
            existed,
        };
        self.push(process, Phase::Invoke, action(None), None);
        self.push(process, Phase::Ok, action(existed), None)
    }

    // Observations.

    pub fn stored(&mut self, node: &str, queue_id: u32, offset: u64, value: &str) -> &mut Self {
        self.stored_in("t", node, queue_id, offset, value)
    }

    pub fn stored_in(
        &mut self,
        topic: &str,
        node: &str,
        queue_id: u32,
        offset: u64,
        value: &str,
    ) -> &mut Self {
        let (topic, value, message_id) = (topic.into(), value.into(), format!("id-{value}"));
        let action = Action::Stored { topic, queue_id, offset, value, message_id };
        self.push(0, Phase::Info, action, Some(node))
    }

    /// Commit, next, min and max offset of group `g` in queue 0.
    pub fn progress(&mut self, node: &str, offsets: [u64; 4]) -> &mut Self {
        let [commit_offset, next_offset, min_offset, max_offset] = offsets;
        let action = Action::Progress {
            group: "g".into(),
            topic: "t".into(),
            queue_id: 0,
            commit_offset,
            next_offset,
            min_offset,
            max_offset,
        };
        self.push(0, Phase::Info, action, Some(node))
    }

    /// The state hash is that of the applied index; the leader is not told.
    pub fn status(
        &mut self,
        node: &str,
        role: &str,
        term: u64,
        commit_index: u64,
        applied_index: u64,
    ) -> &mut Self {
        let state_hash = applied_index * 31;
        let role = role.into();
        let action =
            Action::Status { term, role, leader_id: 0, commit_index, applied_index, state_hash };
        self.push(0, Phase::Info, action, Some(node))
    }

    pub fn entry(&mut self, node: &str, log_index: u64, term: u64, crc32c: u32) -> &mut Self {
        self.push(0, Phase::Info, Action::Entry { log_index, term, crc32c }, Some(node))
    }

    pub fn fault_begins(&mut self, name: &str, target: &str) -> &mut Self {
        self.push(0, Phase::Info, fault(name, target, Stage::Begin, None), None)
    }

    pub fn fault_ends(&mut self, name: &str, target: &str, bit: bool) -> &mut Self {
        self.push(0, Phase::Info, fault(name, target, Stage::End, Some(bit)), None)
    }

    pub fn mark(&mut self, what: &str) -> &mut Self {
        self.push(0, Phase::Info, Action::Mark { what: what.into() }, None)
    }
}

fn send(value: &str, message_id: Option<String>, offset: Option<u64>) -> Action {
    Action::Send { topic: "t".into(), value: value.into(), message_id, offset }
}

fn receive(group: &str, deliveries: Vec<Delivery>, invisible_ms: u64) -> Action {
    Action::Receive { group: group.into(), topic: "t".into(), deliveries, invisible_ms }
}

fn delivery(value: &str, attempt: u32, place: Option<(u32, u64)>) -> Delivery {
    Delivery {
        value: value.into(),
        message_id: format!("id-{value}"),
        attempt,
        queue_id: place.map(|(queue_id, _)| queue_id),
        offset: place.map(|(_, offset)| offset),
    }
}

fn ack(group: &str, value: &str, attempt: u32) -> Action {
    Action::Ack { group: group.into(), topic: "t".into(), value: value.into(), attempt }
}

fn fault(name: &str, target: &str, stage: Stage, bit: Option<bool>) -> Action {
    let parameters = match name {
        "emptied-disk" => serde_json::json!({ "emptied": [target] }),
        _ => serde_json::Value::Null,
    };
    let (name, targets) = (name.into(), vec![target.into()]);
    Action::Fault { name, targets, stage, bit, evidence: None, parameters }
}
