//! Histories for the tests of the checkers, written by hand.

use crate::history::{Action, Delivery, Event, Kind, Origin, Phase, Stage};

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

    /// Nothing is wrong with it: messages that keep an order, lie in a lite topic, come later, are decided about, are pulled
    /// or become dead letters; and one fault, after which all go on.
    pub fn good_features() -> Self {
        let mut history = Self::new();
        history.mark("warm_up").group("g", 2, true).status("n1", "leader", 1, 1, 1);
        // In order: "x1" is with a consumer that never acknowledges, and "y1" has its turn beside it.
        history.sent_in("x", "x1").sent_in("x", "x2").received("g", &[("x1", 1)], 10_000);
        history
            .at(3_000)
            .sent_in("y", "y1")
            .received("g", &[("y1", 1)], 10_000)
            .acked("g", "y1", 1);
        history.at(11_000).received("g", &[("x1", 2)], 10_000);
        history.at(22_000).received("g", &[("x2", 1)], 10_000).acked("g", "x2", 1);
        // Later: one comes, one is taken back.
        history.sent_later("due", 30_000).sent_later("back", 30_000).recall(Phase::Ok, "back");
        history.at(29_000).receive_begins(3, "g").at(30_005);
        history.receive_ends(3, "g", &[("due", 1)], 10_000).acked("g", "due", 1);
        // Decided one way, the other, by being asked, and never.
        history.sent_half("yes").ended("yes", true).ended("yes", true);
        history.sent_half("no").at(32_000).checked("no").ended("no", false);
        history.end_transaction(Phase::Fail, "no", true).sent_half("never");
        history.received("g", &[("yes", 1)], 10_000).acked("g", "yes", 1);
        history.subscribed(Phase::Ok, "g", &["z"]);
        history.mark("faults").fault_begins("kill", "n1").sent_at("last", 5);
        history.status("n2", "leader", 2, 4, 4).fault_ends("kill", "n1", true);
        history.mark("healed").sent_lite("z", "z1").mark("drain");
        history.received("g", &[("last", 1), ("z1", 1)], 10_000).acked("g", "last", 1);
        history.acked("g", "z1", 1);
        // "x1" is a dead letter, and no reader of its queue passes over it.
        let stored = ["x1", "x2", "y1", "due", "yes", "last", "z1"];
        let all: Vec<_> = stored.into_iter().zip(0..).collect();
        history.got_offset(None).pulled(0, &all[..4], 4).kept_offset(Phase::Ok, 4);
        history.got_offset(Some(4)).pulled(4, &all[4..], 7).pulled(7, &[], 7);
        history.asked_offset(None, 7).asked_offset(Some(0), 0).mark("drained");
        for node in ["n1", "n2", "n3"] {
            history.status(node, if node == "n2" { "leader" } else { "follower" }, 2, 9, 9);
            for (value, offset) in &all {
                history.stored(node, 0, *offset, value);
            }
            history.dead_letter(node, 0, "x1", "t", "id-x1").progress(node, [7, 7, 0, 7]);
        }
        history.undecided(0).mark("end");
        history
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

    /// Begins to send one of a message group.
    pub fn send_begins_in(&mut self, process: u32, message_group: &str, value: &str) -> &mut Self {
        let message_group = message_group.to_owned();
        self.push(process, Phase::Invoke, send_of(value, Kind::Fifo { message_group }), None)
    }

    /// Acknowledged, of a message group.
    pub fn sent_in(&mut self, message_group: &str, value: &str) -> &mut Self {
        self.send_begins_in(1, message_group, value);
        let message_group = message_group.to_owned();
        self.push(1, Phase::Ok, send_of(value, Kind::Fifo { message_group }), None)
    }

    /// Acknowledged, of a lite topic.
    pub fn sent_lite(&mut self, lite_topic: &str, value: &str) -> &mut Self {
        let action = send_of(value, Kind::Lite { lite_topic: lite_topic.to_owned() });
        self.push(1, Phase::Invoke, action.clone(), None).push(1, Phase::Ok, action, None)
    }

    /// Acknowledged, and to come at this time.
    pub fn sent_later(&mut self, value: &str, due_ms: u64) -> &mut Self {
        let action = send_of(value, Kind::Delay { due_ms });
        self.push(1, Phase::Invoke, action.clone(), None).push(1, Phase::Ok, action, None)
    }

    /// Acknowledged, to be decided about within a second.
    pub fn sent_half(&mut self, value: &str) -> &mut Self {
        let action = send_of(value, Kind::Half { recovery_ms: 1_000 });
        self.push(1, Phase::Invoke, action.clone(), None).push(1, Phase::Ok, action, None)
    }

    /// A commit or a rollback.
    pub fn end_transaction(&mut self, phase: Phase, value: &str, commit: bool) -> &mut Self {
        let (topic, value) = ("t".into(), value.into());
        let refused = phase == Phase::Fail;
        let action = Action::EndTransaction { topic, value, commit, checked: false, refused };
        self.push(6, Phase::Invoke, action.clone(), None).push(6, phase, action, None)
    }

    pub fn ended(&mut self, value: &str, commit: bool) -> &mut Self {
        self.end_transaction(Phase::Ok, value, commit)
    }

    pub fn checked(&mut self, value: &str) -> &mut Self {
        let action = Action::Check { topic: "t".into(), value: value.into() };
        self.push(0, Phase::Info, action, None)
    }

    pub fn undecided(&mut self, count: u64) -> &mut Self {
        self.push(0, Phase::Info, Action::Undecided { topic: "t".into(), count }, None)
    }

    pub fn recall(&mut self, phase: Phase, value: &str) -> &mut Self {
        let action = Action::Recall { topic: "t".into(), value: value.into() };
        self.push(7, Phase::Invoke, action.clone(), None).push(7, phase, action, None)
    }

    // Consumption.

    /// Whoever receives, unless it says otherwise, says to which lite topics it subscribes.
    pub fn subscribed(&mut self, phase: Phase, group: &str, lite_topics: &[&str]) -> &mut Self {
        let lite_topics = lite_topics.iter().map(|name| (*name).to_owned()).collect();
        let action = Action::Subscribe { group: group.into(), topic: "t".into(), lite_topics };
        self.push(3, Phase::Invoke, action.clone(), None).push(3, phase, action, None)
    }

    pub fn group(&mut self, group: &str, max_attempts: u32, fifo: bool) -> &mut Self {
        let group = group.to_owned();
        self.push(0, Phase::Info, Action::Group { group, max_attempts, fifo }, None)
    }

    /// A consumer gave up on it, and was told that it is a dead letter.
    pub fn gave_up(&mut self, group: &str, value: &str, attempt: u32) -> &mut Self {
        let (group, topic, value) = (group.to_owned(), "t".to_owned(), value.to_owned());
        let action = Action::DeadLetter { group, topic, value, attempt };
        self.push(4, Phase::Invoke, action.clone(), None).push(4, Phase::Ok, action, None)
    }

    // Pulling, by group `g` in queue 0.

    pub fn pulled(&mut self, from: u64, messages: &[(&str, u64)], next: u64) -> &mut Self {
        let deliveries = messages.iter();
        let deliveries = deliveries.map(|(value, offset)| delivery(value, 1, Some((0, *offset))));
        let action = |deliveries: Vec<Delivery>, next_offset| Action::Pull {
            group: "g".into(),
            topic: "t".into(),
            queue_id: 0,
            from_offset: from,
            deliveries,
            next_offset,
        };
        self.push(5, Phase::Invoke, action(Vec::new(), None), None);
        self.push(5, Phase::Ok, action(deliveries.collect(), Some(next)), None)
    }

    pub fn kept_offset(&mut self, phase: Phase, offset: u64) -> &mut Self {
        let (group, topic) = ("g".into(), "t".into());
        let action = Action::UpdateOffset { group, topic, queue_id: 0, offset };
        self.push(5, Phase::Invoke, action.clone(), None).push(5, phase, action, None)
    }

    pub fn got_offset(&mut self, offset: Option<u64>) -> &mut Self {
        let action = |offset| {
            let (group, topic) = ("g".into(), "t".into());
            Action::GetOffset { group, topic, queue_id: 0, offset }
        };
        self.push(5, Phase::Invoke, action(None), None).push(5, Phase::Ok, action(offset), None)
    }

    pub fn asked_offset(&mut self, since_ms: Option<u64>, offset: u64) -> &mut Self {
        let action =
            |offset| Action::QueryOffset { topic: "t".into(), queue_id: 0, since_ms, offset };
        self.push(5, Phase::Invoke, action(None), None);
        self.push(5, Phase::Ok, action(Some(offset)), None)
    }

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
        let action = Action::Stored { topic, queue_id, offset, value, message_id, origin: None };
        self.push(0, Phase::Info, action, Some(node))
    }

    pub fn dead_letter(
        &mut self,
        node: &str,
        offset: u64,
        value: &str,
        topic: &str,
        message_id: &str,
    ) -> &mut Self {
        self.stored_in("%DLQ%g", node, 0, offset, value);
        if let Some(Event { action: Action::Stored { origin, .. }, .. }) = self.events.last_mut() {
            *origin = Some(Origin { topic: topic.into(), message_id: message_id.into() });
        }
        self
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
    Action::Send { topic: "t".into(), value: value.into(), message_id, offset, kind: Kind::Normal }
}

fn send_of(value: &str, kind: Kind) -> Action {
    let (topic, value, message_id) = ("t".into(), value.to_owned(), Some(format!("id-{value}")));
    Action::Send { topic, value, message_id, offset: None, kind }
}

fn receive(group: &str, deliveries: Vec<Delivery>, invisible_ms: u64) -> Action {
    Action::Receive {
        group: group.into(),
        topic: "t".into(),
        deliveries,
        invisible_ms,
        attempt_id: None,
    }
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
