//! What happened to a message, for `raftmq message find --history`.

use raftmq_proto::raftmq::HistoryEvent;
use raftmq_proto::raftmq::MessageHistoryResponse;
use raftmq_proto::raftmq::history_event::Kind;
use serde::Serialize;

use super::find::PlaceView;
use crate::output;

/// A history, in the order of the log.
#[derive(Serialize)]
pub struct HistoryView {
    events: Vec<EventView>,
    /// Set when the log is longer than what is read for one history: how far it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_at: Option<String>,
    read_entries: u64,
    read_bytes: u64,
}

#[derive(Serialize)]
struct EventView {
    /// `None`: the log no longer holds that entry.
    time: Option<String>,
    log_index: u64,
    event: &'static str,
    #[serde(flatten)]
    place: Option<PlaceView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<u64>,
}

impl From<MessageHistoryResponse> for HistoryView {
    fn from(told: MessageHistoryResponse) -> Self {
        Self {
            cut_at: told.cut.then(|| output::time_ms(told.read_until_ms)),
            events: told.events.into_iter().map(EventView::from).collect(),
            read_entries: told.read_entries,
            read_bytes: told.read_bytes,
        }
    }
}

impl From<HistoryEvent> for EventView {
    fn from(event: HistoryEvent) -> Self {
        let kind = event.kind();
        Self {
            time: (event.time_ms > 0).then(|| output::time_ms(event.time_ms)),
            log_index: event.log_index,
            event: match kind {
                Kind::Stored if event.half => "stored in a transaction",
                Kind::Stored if event.until_ms > 0 => "stored, delayed",
                Kind::Stored => "stored",
                Kind::Due => "due",
                Kind::Committed => "committed",
                Kind::HandedOut => "handed out",
                Kind::Repeated => "handed out again to the same attempt",
                Kind::HeldBack => "held back",
                Kind::PassedOver => "passed over",
                Kind::Acked => "acknowledged",
                Kind::InvisibleChanged => "invisible time changed",
                Kind::Renewed => "renewed",
                Kind::Released => "released",
                Kind::TooLate => "receipt came too late",
                Kind::DeadLettered => "dead-lettered",
                Kind::BecameDeadLetter => "stored as a dead letter",
                Kind::Redriven => "redriven",
                Kind::OffsetReset => "offset reset",
            },
            place: event.place.map(PlaceView::from),
            group: event.group,
            attempt: (event.attempt > 0).then_some(event.attempt),
            client_id: event.client_id,
            until: (event.until_ms > 0).then(|| output::time_ms(event.until_ms)),
            count: (event.count > 1).then_some(event.count),
            cursor: (kind == Kind::OffsetReset).then_some(event.cursor),
        }
    }
}

impl HistoryView {
    /// A line for each event: when, what, where.
    pub fn text(&self) -> String {
        let lines = self.events.iter().map(|event| format!("  {}\n", event.text()));
        let mut text: String = lines.collect();
        if let Some(time) = &self.cut_at {
            text += &format!(
                "  the history is cut off at {time}: {} entries and {} were read\n",
                self.read_entries,
                output::bytes(self.read_bytes)
            );
        }
        text
    }
}

impl EventView {
    fn text(&self) -> String {
        let time = self.time.as_deref().unwrap_or("before what the log holds");
        let mut text = format!("{time:<24}  {}", self.event);
        if let Some(attempt) = self.attempt {
            text += &format!(", attempt {attempt}");
        }
        if let Some(count) = self.count {
            text += &format!(", {count} times");
        }
        if let Some(until) = &self.until {
            text += &format!(", until {until}");
        }
        if let Some(cursor) = self.cursor {
            text += &format!(" to {cursor}");
        }
        if !self.group.is_empty() {
            text += &format!("  group {}", self.group);
        }
        if !self.client_id.is_empty() {
            text += &format!("  client {}", self.client_id);
        }
        if let Some(place) = &self.place {
            text += &format!("  ({})", place.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use raftmq_proto::raftmq::MessagePlace;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let place = MessagePlace { topic: "t".into(), queue_id: 3, offset: 7 };
        let mut event = HistoryEvent {
            time_ms: 1_609_459_200_000,
            place: Some(place),
            group: "g".into(),
            attempt: 2,
            client_id: "c@1".into(),
            until_ms: 1_609_459_210_000,
            ..HistoryEvent::default()
        };
        event.set_kind(Kind::HandedOut);
        let told = MessageHistoryResponse { events: vec![event], ..Default::default() };
        assert_eq!(
            HistoryView::from(told.clone()).text(),
            "  2021-01-01T00:00:00Z      handed out, attempt 2, until 2021-01-01T00:00:10Z  \
             group g  client c@1  (t queue 3 offset 7)\n"
        );
        let told = MessageHistoryResponse { cut: true, ..told };
        assert!(HistoryView::from(told).text().contains("is cut off at 1970-01-01T00:00:00Z"));
    }
}
