//! What became of each message: sent, stored, delivered.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::invocation::Invocation;
use crate::history::{Action, Event, Kind, Phase};

/// One message and its fate.
pub(super) struct Message<'a> {
    /// Its send.
    pub send: Invocation<'a>,
    /// Its topic.
    pub topic: &'a str,
    /// Its body.
    pub value: &'a str,
    /// Whether some replica was seen to have it.
    pub stored: bool,
    /// Who got it.
    pub deliveries: Vec<Delivered<'a>>,
}

/// Deliveries of one message to one group.
pub(super) struct Delivered<'a> {
    /// The group.
    pub group: &'a str,
    /// When the first came, nanoseconds since the run began.
    pub first_ns: u64,
    /// How many there were.
    pub count: u64,
}

/// All messages of a run.
pub(super) struct Messages<'a> {
    /// In the order of their sends.
    pub all: Vec<Message<'a>>,
    /// Every (group, topic) from which was received, whether or not something came.
    pub subscriptions: BTreeSet<(&'a str, &'a str)>,
    /// Bodies that came, or were stored, and that nobody sent.
    pub phantoms: BTreeSet<&'a str>,
    /// Whether the run was read to its end, so that what was not seen is not there.
    pub complete: bool,
    deleted: HashSet<&'a str>,
}

impl<'a> Messages<'a> {
    /// From the lines of a history and its operations.
    pub fn new(events: &'a [Event], invocations: &[Invocation<'a>]) -> Self {
        let mut all = Vec::new();
        let mut places = HashMap::new();
        let mut deleted = HashSet::new();
        let mut subscriptions = BTreeSet::new();
        for invocation in invocations {
            match &invocation.begin.action {
                Action::Send { topic, value, .. } => {
                    // A send that repeats another one, with its message id, is no further message.
                    if places.contains_key(value.as_str()) {
                        continue;
                    }
                    places.insert(value.as_str(), all.len());
                    let (deliveries, stored) = (Vec::new(), false);
                    all.push(Message { send: *invocation, topic, value, stored, deliveries });
                }
                Action::Receive { group, topic, .. } => {
                    subscriptions.insert((group.as_str(), topic.as_str()));
                }
                Action::Admin { kind, name, verb, .. } if kind == "topic" && verb == "delete" => {
                    deleted.insert(name.as_str());
                }
                _ => {}
            }
        }
        let (phantoms, complete) = (BTreeSet::new(), false);
        let mut messages = Self { all, subscriptions, phantoms, complete, deleted };
        messages.read(events, &places);
        messages
    }

    /// Acknowledged messages that nobody saw again. `None` if the run was not read to its end.
    pub fn lost(&self) -> Option<Vec<&Message<'a>>> {
        let lost = |message: &&Message<'a>| {
            message.send.outcome() == Phase::Ok
                && !message.stored
                && message.deliveries.is_empty()
                && message.comes_at_once()
                && !self.deleted.contains(message.topic)
        };
        self.complete.then(|| self.all.iter().filter(lost).collect())
    }

    fn read(&mut self, events: &'a [Event], places: &HashMap<&'a str, usize>) {
        for event in events {
            match &event.action {
                Action::Receive { group, deliveries, .. } if event.phase == Phase::Ok => {
                    for delivery in deliveries {
                        match places.get(delivery.value.as_str()) {
                            Some(place) => self.all[*place].deliver(group, event.time_ns),
                            None => drop(self.phantoms.insert(&delivery.value)),
                        }
                    }
                }
                Action::Stored { value, .. } => {
                    self.complete = true;
                    match places.get(value.as_str()) {
                        Some(place) => self.all[*place].stored = true,
                        None => drop(self.phantoms.insert(value)),
                    }
                }
                Action::Mark { what } => self.complete |= what == "drained",
                _ => {}
            }
        }
    }
}

impl<'a> Message<'a> {
    /// Whether nobody has to decide about it first, and no time has to come.
    fn comes_at_once(&self) -> bool {
        let later = |kind: &Kind| matches!(kind, Kind::Delay { .. } | Kind::Half { .. });
        !matches!(&self.send.begin.action, Action::Send { kind, .. } if later(kind))
    }

    fn deliver(&mut self, group: &'a str, time_ns: u64) {
        match self.deliveries.iter_mut().find(|delivered| delivered.group == group) {
            Some(delivered) => delivered.count += 1,
            None => self.deliveries.push(Delivered { group, first_ns: time_ns, count: 1 }),
        }
    }
}
