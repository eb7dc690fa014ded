//! What the commands of the log did to one message.
//!
//! Commands say what the leader decided and clients asked for; whether that still held is only known
//! to who applies them. So the deliveries of the message are followed here as `state::apply` does it,
//! for this message alone.
//!
//! Not here: reading the log (`rpc::admin::history`). Not known here: that a message of a FIFO group
//! that the leader chose was held back after all, since its message group had been handed out by
//! another leader.

use std::collections::BTreeMap;

use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::history_event::Kind;

use crate::command;
use crate::command::Command;
use crate::state::State;
use crate::state::Unit;

/// One index entry of the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) topic_id: u32,
    pub(crate) queue_id: u32,
    pub(crate) offset: u64,
    pub(crate) unit: Unit,
}

impl Place {
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.topic_id, self.queue_id, self.offset)
            == (other.topic_id, other.queue_id, other.offset)
    }
}

/// The names of topics and groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) topics: BTreeMap<u32, String>,
    pub(crate) groups: BTreeMap<u32, String>,
}

impl Names {
    pub(crate) fn of(state: &State) -> Self {
        let topics = state.topics.iter().map(|(id, topic)| (*id, topic.record.name.clone()));
        let groups = state.groups.iter().map(|(id, group)| (*id, group.name.clone()));
        Self { topics: topics.collect(), groups: groups.collect() }
    }

    fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| format!("(deleted group {id})"))
    }

    pub(crate) fn topic(&self, id: u32) -> String {
        self.topics.get(&id).cloned().unwrap_or_else(|| format!("(deleted topic {id})"))
    }

    pub(crate) fn place(&self, place: &Place) -> wire::MessagePlace {
        wire::MessagePlace {
            topic: self.topic(place.topic_id),
            queue_id: place.queue_id,
            offset: place.offset,
        }
    }
}

/// Most events of one history.
const EVENTS_MAX: usize = 2_000;

/// The history of one message, while entries are read in order.
#[derive(Debug)]
pub(crate) struct History {
    names: Names,
    message_id: Vec<u8>,
    places: Vec<Place>,
    /// By position in `places` and group id.
    tracks: BTreeMap<(usize, u32), Track>,
    events: Vec<wire::HistoryEvent>,
    /// As in the state: it never goes back.
    time_ms: u64,
    /// The entry that is read.
    log_index: u64,
}

/// How far a group is with the message in one place.
#[derive(Debug, Default)]
struct Track {
    /// `None`: not known.
    cursor: Option<u64>,
    delivery: Option<Delivery>,
}

/// See [`wire::InflightRecord`].
#[derive(Clone, Debug, Default)]
struct Delivery {
    attempt: u32,
    visible_at_ms: u64,
    nonce: u64,
    renew_client_id: String,
    attempt_hash: u64,
    changed_from: u64,
}

impl Delivery {
    /// Whether a receipt with this nonce is good at that time.
    fn is_current(&self, nonce: u64, time_ms: u64) -> bool {
        let in_time = !self.renew_client_id.is_empty() || self.visible_at_ms > time_ms;
        self.nonce == nonce && in_time
    }
}

impl History {
    /// `places` are all index entries of the message.
    pub(crate) fn new(names: Names, message_id: &[u8], places: Vec<Place>) -> Self {
        Self {
            names,
            message_id: message_id.to_vec(),
            places,
            tracks: BTreeMap::new(),
            events: Vec::new(),
            time_ms: 0,
            log_index: 0,
        }
    }

    /// Notes what stands before everything else.
    pub(crate) fn begin(&mut self, event: wire::HistoryEvent) {
        self.events.push(event);
    }

    /// Whether no more events are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX
    }

    pub(crate) fn into_events(self) -> Vec<wire::HistoryEvent> {
        self.events
    }

    /// Takes the commands of the next entry, each with its position; sends may be left out.
    pub(crate) fn entry(&mut self, log_index: u64, time_ms: u64, commands: &[(u64, Command)]) {
        self.log_index = log_index;
        self.time_ms = self.time_ms.max(time_ms);
        for (ordinal, command) in commands {
            self.command(log_index * command::COMMANDS_MAX as u64 + ordinal, command);
        }
        self.came_into_queues(commands);
    }

    fn command(&mut self, nonce: u64, command: &Command) {
        match command {
            Command::Checkout(checkout) => self.checkout(nonce, checkout),
            Command::Ack(ack) => self.ack(&ack.receipt.unwrap_or_default()),
            Command::ChangeInvisible(change) => self.change_invisible(nonce, change),
            Command::DeadLetter(dead_letter) => self.dead_letter(dead_letter),
            Command::Renew(renew) => self.renew(renew),
            Command::ReleaseClient(release) => self.release_client(release),
            Command::ResetOffset(reset) => self.reset_offset(reset),
            // Cursors move over what is gone.
            Command::Trim(_) => self.tracks.values_mut().for_each(|track| track.cursor = None),
            _ => (),
        }
    }

    /// The places at which the message arrived with this entry, other than by being sent.
    fn came_into_queues(&mut self, commands: &[(u64, Command)]) {
        let arrived = |place: &&Place| place.unit.moved_at == Some(self.log_index);
        let arrived: Vec<Place> = self.places.iter().filter(arrived).copied().collect();
        for place in arrived {
            let redriven_from = commands.iter().find_map(|(_, command)| match command {
                Command::Redrive(redrive) => {
                    let here = redrive.messages.iter().any(|it| it.to_topic_id == place.topic_id);
                    here.then_some(redrive.topic_id)
                }
                _ => None,
            });
            let committed = commands.iter().any(|(_, command)| {
                matches!(command, Command::EndTransaction(end)
                    if end.topic_id == place.topic_id && end.transaction_id == self.message_id)
            });
            let kind = match redriven_from {
                _ if place.unit.dead_letter => Kind::BecameDeadLetter,
                Some(_) => Kind::Redriven,
                None if committed => Kind::Committed,
                None => Kind::Due,
            };
            let event = self.event(kind, &place);
            self.events.push(event);
        }
    }

    fn checkout(&mut self, nonce: u64, checkout: &wire::Checkout) {
        for (at, place) in self.places.clone().into_iter().enumerate() {
            if place.topic_id != checkout.topic_id {
                continue;
            }
            for part in checkout.queues.iter().filter(|part| part.queue_id == place.queue_id) {
                self.part_of_checkout(nonce, checkout, part, at, &place);
            }
        }
    }

    /// In the order of `apply`: let go, read again, once more, for the first time.
    fn part_of_checkout(
        &mut self,
        nonce: u64,
        checkout: &wire::Checkout,
        part: &wire::QueueCheckout,
        at: usize,
        place: &Place,
    ) {
        let (time_ms, offset) = (self.time_ms, place.offset);
        let track = self.tracks.entry((at, checkout.group_id)).or_default();
        let mut happened = Vec::new();
        let handed_out = |attempt| Delivery {
            attempt,
            visible_at_ms: checkout.visible_at_ms,
            nonce,
            renew_client_id: checkout.renew_client_id.clone(),
            attempt_hash: checkout.attempt_hash,
            changed_from: 0,
        };
        let held = track.delivery.as_ref().is_some_and(|delivery| delivery.attempt == 0);
        if part.dropped.contains(&offset) && held {
            track.delivery = None;
            happened.push((Kind::PassedOver, 0));
        }
        if part.reread.contains(&offset)
            && let Some(delivery) = &mut track.delivery
            && delivery.attempt_hash != 0
            && delivery.attempt_hash == checkout.attempt_hash
        {
            *delivery = handed_out(delivery.attempt);
            happened.push((Kind::Repeated, delivery.attempt));
        }
        if part.again.contains(&offset)
            && let Some(delivery) = &mut track.delivery
            && (delivery.attempt == 0 || delivery.visible_at_ms <= time_ms)
        {
            *delivery = handed_out(delivery.attempt + 1);
            happened.push((Kind::HandedOut, delivery.attempt));
        }
        // Another cursor: it was overtaken by a change of leader.
        let at_cursor = track.cursor.is_none_or(|cursor| cursor == part.from_offset);
        if part.next_offset != part.from_offset && at_cursor {
            track.cursor = Some(part.next_offset);
            if (part.from_offset..part.next_offset).contains(&offset) {
                let (kind, delivery) = if part.held.contains(&offset) {
                    (Kind::HeldBack, Some(Delivery::default()))
                } else if part.taken.contains(&offset) {
                    (Kind::HandedOut, Some(handed_out(1)))
                } else {
                    (Kind::PassedOver, None)
                };
                happened.push((kind, delivery.as_ref().map_or(0, |delivery| delivery.attempt)));
                track.delivery = delivery;
            }
        }
        for (kind, attempt) in happened {
            let out = attempt > 0;
            self.push(at, checkout.group_id, |event| wire::HistoryEvent {
                kind: kind.into(),
                attempt,
                client_id: if out { checkout.client_id.clone() } else { String::new() },
                until_ms: if out { checkout.visible_at_ms } else { 0 },
                ..event
            });
        }
    }

    fn ack(&mut self, receipt: &wire::Receipt) {
        let time_ms = self.time_ms;
        let Some((at, track)) = self.track(receipt) else { return };
        // None: consumed before, and answered like the first time.
        let Some(delivery) = &track.delivery else { return };
        let attempt = delivery.attempt;
        let kind = match delivery.is_current(receipt.nonce, time_ms) {
            true => Kind::Acked,
            false => Kind::TooLate,
        };
        if kind == Kind::Acked {
            track.delivery = None;
        }
        self.push(at, receipt.group_id, |event| wire::HistoryEvent {
            kind: kind.into(),
            attempt,
            ..event
        });
    }

    fn change_invisible(&mut self, nonce: u64, change: &wire::ChangeInvisible) {
        let receipt = change.receipt.unwrap_or_default();
        let time_ms = self.time_ms;
        let Some((at, track)) = self.track(&receipt) else { return };
        let Some(delivery) = &mut track.delivery else { return };
        // The answer of a change got lost, and it is made again.
        let again = delivery.changed_from != 0 && delivery.changed_from == receipt.nonce;
        let current = match again {
            true => delivery.visible_at_ms > time_ms,
            false => delivery.is_current(receipt.nonce, time_ms),
        };
        let (attempt, visible_at_ms) = (delivery.attempt, change.visible_at_ms);
        let (kind, until_ms) = if current {
            let nonce = if again { delivery.nonce } else { nonce };
            let changed_from = receipt.nonce;
            *delivery =
                Delivery { attempt, visible_at_ms, nonce, changed_from, ..Delivery::default() };
            (Kind::InvisibleChanged, visible_at_ms)
        } else {
            (Kind::TooLate, 0)
        };
        self.push(at, receipt.group_id, |event| wire::HistoryEvent {
            kind: kind.into(),
            attempt,
            until_ms,
            ..event
        });
    }

    fn dead_letter(&mut self, command: &wire::DeadLetter) {
        let receipt = command.receipt.unwrap_or_default();
        let time_ms = self.time_ms;
        let Some((at, track)) = self.track(&receipt) else { return };
        let Some(delivery) = &track.delivery else { return };
        let attempt = delivery.attempt;
        let kind = match command.exhausted {
            true if delivery.nonce == receipt.nonce => Kind::DeadLettered,
            // Overtaken by another delivery: the leader changed nothing.
            true => return,
            false if delivery.is_current(receipt.nonce, time_ms) => Kind::DeadLettered,
            false => Kind::TooLate,
        };
        if kind == Kind::DeadLettered {
            track.delivery = None;
        }
        self.push(at, receipt.group_id, |event| wire::HistoryEvent {
            kind: kind.into(),
            attempt,
            ..event
        });
    }

    fn renew(&mut self, renew: &wire::Renew) {
        for receipt in &renew.receipts {
            let Some((at, track)) = self.track(receipt) else { continue };
            let Some(delivery) = &mut track.delivery else { continue };
            if delivery.nonce != receipt.nonce || delivery.renew_client_id.is_empty() {
                continue;
            }
            delivery.visible_at_ms = renew.visible_at_ms;
            let (attempt, client_id) = (delivery.attempt, delivery.renew_client_id.clone());
            self.note_renewal(at, receipt.group_id, attempt, client_id, renew.visible_at_ms);
        }
    }

    /// Renewals come every few seconds for as long as a consumer works: one event for those in a row.
    fn note_renewal(
        &mut self,
        at: usize,
        group_id: u32,
        attempt: u32,
        client_id: String,
        until_ms: u64,
    ) {
        let group = self.names.group(group_id);
        let place = self.places.get(at).map(|place| self.names.place(place));
        let of_this =
            |event: &&mut wire::HistoryEvent| event.group == group && event.place == place;
        if let Some(last) = self.events.iter_mut().rev().find(of_this)
            && last.kind() == Kind::Renewed
        {
            last.count += 1;
            last.until_ms = until_ms;
            return;
        }
        self.push(at, group_id, |event| wire::HistoryEvent {
            kind: Kind::Renewed.into(),
            attempt,
            client_id,
            until_ms,
            count: 1,
            ..event
        });
    }

    fn release_client(&mut self, release: &wire::ReleaseClient) {
        let mut released = Vec::new();
        for ((at, group_id), track) in &mut self.tracks {
            let Some(delivery) = &mut track.delivery else { continue };
            if delivery.attempt > 0 && delivery.renew_client_id == release.client_id {
                delivery.renew_client_id.clear();
                delivery.visible_at_ms = release.visible_at_ms;
                released.push((*at, *group_id, delivery.attempt));
            }
        }
        for (at, group_id, attempt) in released {
            self.push(at, group_id, |event| wire::HistoryEvent {
                kind: Kind::Released.into(),
                attempt,
                client_id: release.client_id.clone(),
                until_ms: release.visible_at_ms,
                ..event
            });
        }
    }

    fn reset_offset(&mut self, reset: &wire::ResetOffset) {
        for (at, place) in self.places.clone().into_iter().enumerate() {
            if place.topic_id != reset.topic_id {
                continue;
            }
            for queue in reset.queues.iter().filter(|queue| queue.queue_id == place.queue_id) {
                let track = self.tracks.entry((at, reset.group_id)).or_default();
                let passed = track.cursor.is_some_and(|cursor| cursor > place.offset);
                let forgotten = track.delivery.take().is_some();
                track.cursor = Some(queue.offset);
                if forgotten || passed != (queue.offset > place.offset) {
                    self.push(at, reset.group_id, |event| wire::HistoryEvent {
                        kind: Kind::OffsetReset.into(),
                        cursor: queue.offset,
                        ..event
                    });
                }
            }
        }
    }

    /// What is known of the delivery that a receipt speaks of, whatever its nonce.
    fn track(&mut self, receipt: &wire::Receipt) -> Option<(usize, &mut Track)> {
        let at = self.places.iter().position(|place| {
            (place.topic_id, place.queue_id, place.offset)
                == (receipt.topic_id, receipt.queue_id, receipt.offset)
        })?;
        Some((at, self.tracks.get_mut(&(at, receipt.group_id))?))
    }

    fn push(
        &mut self,
        at: usize,
        group_id: u32,
        fill: impl FnOnce(wire::HistoryEvent) -> wire::HistoryEvent,
    ) {
        let Some(place) = self.places.get(at) else { return };
        let event = wire::HistoryEvent {
            group: self.names.group(group_id),
            ..self.event(Kind::Stored, place)
        };
        self.events.push(fill(event));
    }

    fn event(&self, kind: Kind, place: &Place) -> wire::HistoryEvent {
        wire::HistoryEvent {
            kind: kind.into(),
            log_index: self.log_index,
            time_ms: self.time_ms,
            place: Some(self.names.place(place)),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: (u32, u32) = (1, 2);

    /// The history of a message at offset 5 of queue 0, which entry 10 stored.
    fn history() -> History {
        let unit = Unit {
            log_index: 10,
            offset: 0,
            length: 1,
            tag_hash: 0,
            group_hash: 0,
            stored_ms: 0,
            dead_letter: false,
            moved_at: None,
        };
        let place = Place { topic_id: IDS.1, queue_id: 0, offset: 5, unit };
        History::new(Names::default(), b"id", vec![place])
    }

    fn checkout(part: wire::QueueCheckout, visible_at_ms: u64, renew: &str) -> Command {
        Command::Checkout(wire::Checkout {
            group_id: IDS.0,
            topic_id: IDS.1,
            queues: vec![part],
            visible_at_ms,
            renew_client_id: renew.to_owned(),
            client_id: "c".to_owned(),
            attempt_hash: 0,
        })
    }

    fn new(from_offset: u64, next_offset: u64) -> wire::QueueCheckout {
        let taken = (from_offset..next_offset).collect();
        wire::QueueCheckout { from_offset, next_offset, taken, ..Default::default() }
    }

    fn again() -> wire::QueueCheckout {
        wire::QueueCheckout { again: vec![5], ..Default::default() }
    }

    /// Of the delivery that the first command of an entry made.
    fn receipt(log_index: u64) -> wire::Receipt {
        let nonce = log_index * command::COMMANDS_MAX as u64;
        wire::Receipt { group_id: IDS.0, topic_id: IDS.1, queue_id: 0, offset: 5, nonce }
    }

    /// Kind and attempt of each event, after one command an entry, each at its time.
    fn told(commands: Vec<(u64, Command)>) -> Vec<(Kind, u32)> {
        let mut history = history();
        for (log_index, (time_ms, command)) in (11..).zip(commands) {
            history.entry(log_index, time_ms, &[(0, command)]);
        }
        history.into_events().iter().map(|event| (event.kind(), event.attempt)).collect()
    }

    #[test]
    fn what_changes_nothing_is_not_told() {
        let ack = |log_index| Command::Ack(wire::Ack { receipt: Some(receipt(log_index)) });
        let commands = vec![
            (100, checkout(new(0, 3), 200, "")),
            // Overtaken by a change of leader: not at the cursor.
            (100, checkout(new(4, 8), 200, "")),
            (100, checkout(new(3, 8), 200, "")),
            // Still invisible.
            (199, checkout(again(), 300, "")),
            (200, checkout(again(), 300, "")),
            (201, ack(13)),
            (202, ack(15)),
            // Repeated: answered like the first.
            (203, ack(15)),
        ];
        let expected =
            [(Kind::HandedOut, 1), (Kind::HandedOut, 2), (Kind::TooLate, 2), (Kind::Acked, 2)];
        assert_eq!(told(commands), expected);
    }

    #[test]
    fn a_repeated_change_is_made_again_under_the_same_receipt() {
        let change = |log_index, visible_at_ms| {
            let receipt = Some(receipt(log_index));
            Command::ChangeInvisible(wire::ChangeInvisible {
                receipt,
                visible_at_ms,
                suspended: false,
            })
        };
        let commands = vec![
            (1, checkout(new(0, 8), 9, "")),
            (2, change(11, 19)),
            (3, change(11, 29)),
            (28, Command::Ack(wire::Ack { receipt: Some(receipt(12)) })),
        ];
        let changed = (Kind::InvisibleChanged, 1);
        assert_eq!(told(commands), [(Kind::HandedOut, 1), changed, changed, (Kind::Acked, 1)]);
        let late = vec![(1, checkout(new(0, 8), 9, "")), (2, change(11, 19)), (19, change(11, 29))];
        assert_eq!(told(late), [(Kind::HandedOut, 1), changed, (Kind::TooLate, 1)]);
    }

    #[test]
    fn what_nobody_wants_is_passed_over_and_held_back_messages_come_later() {
        let unwanted = wire::QueueCheckout { taken: Vec::new(), ..new(0, 8) };
        assert_eq!(told(vec![(1, checkout(unwanted, 9, ""))]), [(Kind::PassedOver, 0)]);
        let held = wire::QueueCheckout { held: vec![5], ..new(0, 8) };
        let commands = vec![(1, checkout(held, 9, "")), (2, checkout(again(), 9, ""))];
        assert_eq!(told(commands), [(Kind::HeldBack, 0), (Kind::HandedOut, 1)]);
    }

    #[test]
    fn renewals_in_a_row_are_one_event() {
        let renew = |visible_at_ms| {
            Command::Renew(wire::Renew { receipts: vec![receipt(11)], visible_at_ms })
        };
        let release = Command::ReleaseClient(wire::ReleaseClient {
            client_id: "c".to_owned(),
            visible_at_ms: 20,
        });
        let dead_letter = wire::DeadLetter { receipt: Some(receipt(11)), exhausted: true };
        let mut history = history();
        let commands = [
            checkout(new(0, 8), 10, "c"),
            renew(12),
            renew(14),
            release,
            renew(16),
            Command::DeadLetter(dead_letter),
        ];
        for (log_index, command) in (11..).zip(commands) {
            history.entry(log_index, log_index, &[(0, command)]);
        }
        let events = history.into_events();
        let kinds: Vec<Kind> = events.iter().map(wire::HistoryEvent::kind).collect();
        assert_eq!(kinds, [Kind::HandedOut, Kind::Renewed, Kind::Released, Kind::DeadLettered]);
        assert_eq!((events[1].count, events[1].until_ms, events[2].until_ms), (2, 14, 20));
    }
}
