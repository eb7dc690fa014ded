//! A history sorted by what happened.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::operation::{Operation, Outcome, pair};
use super::window::{Window, windows};
use crate::history::{Action, Delivery, Event, Kind, Origin};

/// Topics in which messages lie that a group gave up on; the rest of the name is the group.
const DEAD_LETTERS: &str = "%DLQ%";

/// What the checkers look at, borrowed from a history. Built once for all of them.
pub struct View<'a> {
    pub(super) events: &'a [Event],
    /// In the order of their begins.
    pub(super) operations: Vec<Operation<'a>>,
    /// Lines that end what never began.
    pub(super) stray: Vec<u64>,
    pub(super) sends: Vec<Send<'a>>,
    pub(super) receives: Vec<Receive<'a>>,
    pub(super) acks: Vec<Ack<'a>>,
    pub(super) changes: Vec<Change<'a>>,
    pub(super) admins: Vec<Admin<'a>>,
    pub(super) stored: Vec<Stored<'a>>,
    pub(super) statuses: Vec<Status<'a>>,
    pub(super) windows: Vec<Window<'a>>,
    pub(super) has_progress: bool,
    pub(super) has_entries: bool,
    /// Nodes that showed anything they hold.
    replicas: BTreeSet<&'a str>,
    deleted_topics: HashSet<&'a str>,
    deleted_groups: HashSet<&'a str>,
}

pub(super) struct Send<'a> {
    pub topic: &'a str,
    pub value: &'a str,
    pub message_id: Option<&'a str>,
    pub offset: Option<u64>,
    pub kind: &'a Kind,
    pub operation: Operation<'a>,
}

pub(super) struct Receive<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub deliveries: &'a [Delivery],
    pub invisible_ms: u64,
    pub attempt_id: Option<&'a str>,
    pub operation: Operation<'a>,
}

pub(super) struct Ack<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub value: &'a str,
    pub attempt: u32,
    pub operation: Operation<'a>,
}

/// Of how long a delivery is invisible.
pub(super) struct Change<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub value: &'a str,
    pub attempt: u32,
    pub invisible_ms: u64,
    pub operation: Operation<'a>,
}

pub(super) struct Admin<'a> {
    pub kind: &'a str,
    pub name: &'a str,
    pub verb: &'a str,
    pub existed: Option<bool>,
    pub operation: Operation<'a>,
}

pub(super) struct Stored<'a> {
    pub node: &'a str,
    pub place: Place<'a>,
    pub value: &'a str,
    pub message_id: &'a str,
    pub origin: Option<&'a Origin>,
    pub event: &'a Event,
}

pub(super) struct Status<'a> {
    pub node: &'a str,
    pub term: u64,
    pub role: &'a str,
    pub leader_id: u64,
    pub commit_index: u64,
    pub applied_index: u64,
    pub state_hash: u64,
    pub event: &'a Event,
}

/// Where a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place<'a> {
    pub topic: &'a str,
    pub queue_id: u32,
    pub offset: u64,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { topic, queue_id, offset } = self;
        write!(formatter, "topic {topic} queue {queue_id} offset {offset}")
    }
}

/// A value seen at a place: in a replica, or in a delivery that tells it.
pub(super) struct Sighting<'a> {
    pub place: Place<'a>,
    pub value: &'a str,
    pub message_id: &'a str,
    /// The replica, or none for a delivery.
    pub node: Option<&'a str>,
    pub line: u64,
}

impl<'a> View<'a> {
    /// Looks through the whole history once.
    pub fn new(events: &'a [Event]) -> Self {
        let (operations, mut stray) = pair(events);
        let (windows, stray_faults) = windows(events);
        stray.extend(stray_faults);
        stray.sort_unstable();
        let mut view = Self {
            events,
            operations: Vec::new(),
            stray,
            sends: Vec::new(),
            receives: Vec::new(),
            acks: Vec::new(),
            changes: Vec::new(),
            admins: Vec::new(),
            stored: Vec::new(),
            statuses: Vec::new(),
            windows,
            has_progress: false,
            has_entries: false,
            replicas: BTreeSet::new(),
            deleted_topics: HashSet::new(),
            deleted_groups: HashSet::new(),
        };
        operations.iter().for_each(|operation| view.add_operation(*operation));
        events.iter().for_each(|event| view.add_observation(event));
        view.note_deleted();
        view.operations = operations;
        view
    }

    fn add_operation(&mut self, operation: Operation<'a>) {
        match operation.action() {
            Action::Send { topic, value, message_id, offset, kind } => self.sends.push(Send {
                topic,
                value,
                message_id: message_id.as_deref(),
                offset: *offset,
                kind,
                operation,
            }),
            Action::Receive { group, topic, deliveries, invisible_ms, attempt_id } => {
                let (invisible_ms, attempt_id) = (*invisible_ms, attempt_id.as_deref());
                self.receives.push(Receive {
                    group,
                    topic,
                    deliveries,
                    invisible_ms,
                    attempt_id,
                    operation,
                });
            }
            Action::Ack { group, topic, value, attempt } => {
                self.acks.push(Ack { group, topic, value, attempt: *attempt, operation });
            }
            Action::ChangeInvisible { group, topic, value, attempt, invisible_ms } => {
                let (attempt, invisible_ms) = (*attempt, *invisible_ms);
                let change = Change { group, topic, value, attempt, invisible_ms, operation };
                self.changes.push(change);
            }
            Action::Admin { kind, name, verb, existed } => {
                self.admins.push(Admin { kind, name, verb, existed: *existed, operation });
            }
            _ => (),
        }
    }

    fn add_observation(&mut self, event: &'a Event) {
        let node = event.node.as_deref().unwrap_or_default();
        match &event.action {
            Action::Stored { topic, queue_id, offset, value, message_id, origin } => {
                let place = Place { topic, queue_id: *queue_id, offset: *offset };
                let origin = origin.as_ref();
                self.stored.push(Stored { node, place, value, message_id, origin, event });
            }
            Action::Status { term, role, leader_id, commit_index, applied_index, state_hash } => {
                self.statuses.push(Status {
                    node,
                    term: *term,
                    role,
                    leader_id: *leader_id,
                    commit_index: *commit_index,
                    applied_index: *applied_index,
                    state_hash: *state_hash,
                    event,
                })
            }
            Action::Progress { .. } => self.has_progress = true,
            Action::Entry { .. } => self.has_entries = true,
            _ => return,
        }
        if !node.is_empty() {
            self.replicas.insert(node);
        }
    }

    fn note_deleted(&mut self) {
        for admin in &self.admins {
            let may_have =
                admin.operation.outcome() != Outcome::Fail && admin.existed != Some(false);
            match (admin.verb, admin.kind) {
                ("delete", "topic") if may_have => self.deleted_topics.insert(admin.name),
                ("delete", "group") if may_have => self.deleted_groups.insert(admin.name),
                _ => continue,
            };
        }
    }

    /// Nodes whose copies count, sorted: `expected`, or when that is empty all that were seen.
    pub(super) fn replicas<'b>(&'b self, expected: &'b BTreeSet<String>) -> Vec<&'b str> {
        if expected.is_empty() {
            self.replicas.iter().copied().collect()
        } else {
            expected.iter().map(String::as_str).collect()
        }
    }

    /// Whether the topic may have been deleted at any time: then its messages may rightly be gone,
    /// and another topic of that name begins at offset 0.
    pub(super) fn is_topic_deleted(&self, topic: &str) -> bool {
        self.deleted_topics.contains(topic)
    }

    /// See [`View::is_topic_deleted`]: the group's progress may rightly begin anew.
    pub(super) fn is_group_deleted(&self, group: &str) -> bool {
        self.deleted_groups.contains(group)
    }

    /// The last line that marks this part of the run.
    pub(super) fn mark(&self, wanted: &str) -> Option<&'a Event> {
        let is = |event: &&Event| matches!(&event.action, Action::Mark { what } if what == wanted);
        self.events.iter().rev().find(is)
    }

    /// The line from which on everything was received and the final reading is, if the run came to
    /// its end after it.
    pub(super) fn drained(&self) -> Option<&'a Event> {
        let (drained, end) = (self.mark("drained")?, self.mark("end")?);
        (drained.time_ns <= end.time_ns && drained.index < end.index).then_some(drained)
    }

    /// Every value seen at a known place, in the order of lines for each kind. Deleted topics are
    /// left out: their offsets begin anew.
    pub(super) fn sightings(&self) -> impl Iterator<Item = Sighting<'a>> + '_ {
        let stored = self.stored.iter().map(|one| Sighting {
            place: one.place,
            value: one.value,
            message_id: one.message_id,
            node: Some(one.node),
            line: one.event.index,
        });
        let delivered = self.receives.iter().flat_map(|receive| {
            let line = receive.operation.end.map_or(0, |end| end.index);
            receive.deliveries.iter().filter_map(move |delivery| {
                let (queue_id, offset) = (delivery.queue_id?, delivery.offset?);
                let place = Place { topic: receive.topic, queue_id, offset };
                let (value, message_id) = (&*delivery.value, &*delivery.message_id);
                Some(Sighting { place, value, message_id, node: None, line })
            })
        });
        let pulled = self.operations.iter().flat_map(|operation| {
            let line = operation.end.map_or(0, |end| end.index);
            let (topic, queue_id, deliveries) = match operation.action() {
                Action::Pull { topic, queue_id, deliveries, .. } => {
                    (topic.as_str(), *queue_id, deliveries.as_slice())
                }
                _ => ("", 0, &[][..]),
            };
            deliveries.iter().filter_map(move |delivery| {
                let place = Place { topic, queue_id, offset: delivery.offset? };
                let (value, message_id) = (&*delivery.value, &*delivery.message_id);
                Some(Sighting { place, value, message_id, node: None, line })
            })
        });
        stored
            .chain(delivered)
            .chain(pulled)
            .filter(|seen| !self.is_topic_deleted(seen.place.topic))
    }

    /// Where each value of each topic lies, and the line that first shows it.
    pub(super) fn places(&self) -> HashMap<(&'a str, &'a str), (Place<'a>, u64)> {
        let mut places = HashMap::new();
        for seen in self.sightings() {
            places.entry((seen.place.topic, seen.value)).or_insert((seen.place, seen.line));
        }
        places
    }
}

/// The group that gave up on what lies in this topic, if it is one for that.
pub(super) fn dead_letters_of(topic: &str) -> Option<&str> {
    topic.strip_prefix(DEAD_LETTERS)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::History;
    use super::*;

    #[test]
    fn a_reading_is_final_only_between_drained_and_end() {
        let mut history = History::new();
        history.mark("drained");
        assert!(View::new(&history.events).drained().is_none());
        history.mark("end");
        assert_eq!(View::new(&history.events).drained().map(|event| event.index), Some(0));
        history.mark("drained");
        assert!(View::new(&history.events).drained().is_none());
    }

    #[test]
    fn only_what_may_have_been_deleted_counts_as_deleted() {
        let mut history = History::new();
        history.admin(1, "topic", "gone", "delete", Some(true));
        history.admin(1, "topic", "never", "delete", Some(false));
        history.admin(1, "group", "gone", "delete", None);
        let view = View::new(&history.events);
        assert!(view.is_topic_deleted("gone") && view.is_group_deleted("gone"));
        assert!(!view.is_topic_deleted("never") && !view.is_group_deleted("never"));
    }

    #[test]
    fn places_come_from_replicas_and_from_deliveries() {
        let mut history = History::new();
        history.stored("n1", 3, 8, "a");
        history.received_at("g", "b", 4, 9);
        let view = View::new(&history.events);
        let places = view.places();
        assert_eq!(places[&("t", "a")].0, Place { topic: "t", queue_id: 3, offset: 8 });
        assert_eq!(places[&("t", "b")].0, Place { topic: "t", queue_id: 4, offset: 9 });
    }
}
