//! Messages that are not delivered as soon as they are sent: delayed ones and halves.

use std::collections::HashSet;

use super::operation::Outcome;
use super::view::{Send, View};
use crate::history::{Action, Event, Kind};

const MS_NS: u64 = 1_000_000;

/// What was decided about them.
pub(super) struct Later<'a> {
    /// Topic and value, also where nobody knows whether the recall took effect.
    recalled: HashSet<(&'a str, &'a str)>,
    committed: HashSet<(&'a str, &'a str)>,
}

impl<'a> Later<'a> {
    pub(super) fn of(view: &View<'a>) -> Self {
        let mut later = Self { recalled: HashSet::new(), committed: HashSet::new() };
        for operation in &view.operations {
            match (operation.action(), operation.outcome()) {
                (Action::Recall { topic, value }, Outcome::Ok | Outcome::Unknown) => {
                    later.recalled.insert((topic, value));
                }
                (Action::EndTransaction { topic, value, commit: true, .. }, Outcome::Ok) => {
                    later.committed.insert((topic, value));
                }
                _ => (),
            }
        }
        later
    }

    /// Whether an acknowledged message must be there by the line `end`.
    pub(super) fn is_owed(&self, send: &Send<'_>, end: &Event) -> bool {
        match send.kind {
            Kind::Normal | Kind::Fifo { .. } | Kind::Lite { .. } => true,
            Kind::Delay { .. } => {
                due_ns(send).is_some_and(|due_ns| due_ns < end.time_ns)
                    && !self.recalled.contains(&(send.topic, send.value))
            }
            Kind::Half { .. } => self.committed.contains(&(send.topic, send.value)),
        }
    }
}

/// When a delayed message is due, on the clock of the history.
pub(super) fn due_ns(send: &Send<'_>) -> Option<u64> {
    let Kind::Delay { due_ms } = send.kind else { return None };
    let begin = send.operation.invoke;
    let begin_ms = begin.time_ns / MS_NS;
    // Both clocks of one line tell how far they are apart.
    let since_begin_ms = due_ms.saturating_sub(begin.wall_ms);
    let back_ms = begin.wall_ms.saturating_sub(*due_ms);
    Some((begin_ms.saturating_add(since_begin_ms)).saturating_sub(back_ms).saturating_mul(MS_NS))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::History;
    use super::*;

    #[test]
    fn a_time_of_day_is_put_on_the_clock_of_the_history() {
        let mut history = History::new();
        history.at(500).sent_later("a", 4_000);
        history.events[0].wall_ms = 1_000_000;
        if let Action::Send { kind: Kind::Delay { due_ms }, .. } = &mut history.events[1].action {
            *due_ms = 1_003_500;
        }
        let view = View::new(&history.events);
        assert_eq!(due_ns(&view.sends[0]), Some(4_000 * MS_NS));
    }

    #[test]
    fn what_may_have_been_recalled_or_was_not_committed_is_not_owed() {
        let mut history = History::new();
        history.sent_later("due", 50).sent_later("late", 9_000).sent_later("recalled", 50);
        history.recall(crate::history::Phase::Unknown, "recalled");
        history.sent_half("open").sent_half("done").ended("done", true);
        history.at(100).mark("drained");
        let view = View::new(&history.events);
        let (later, end) = (Later::of(&view), history.events.last().unwrap());
        let owed = view.sends.iter().filter(|send| later.is_owed(send, end));
        assert_eq!(owed.map(|send| send.value).collect::<Vec<_>>(), ["due", "done"]);
    }
}
