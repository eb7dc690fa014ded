//! Single operations that somebody should look at.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::Run;
use super::invocation::Invocation;
use super::messages::Messages;
use crate::history::{Action, Event, Phase};

/// One operation, or one observation that a violation cites.
#[derive(Debug, Serialize)]
pub(super) struct Dot {
    /// Why it is shown.
    pub kind: Kind,
    /// When it began, microseconds since the run began.
    pub from_us: u64,
    /// When it ended; `from_us` if it never did.
    pub to_us: u64,
    /// What it is, for people.
    pub title: String,
    /// Its lines in the history, by index.
    pub lines: Vec<u64>,
}

/// Why a dot is shown. The order is that of weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// An acknowledged send whose message nobody saw again.
    Lost,
    /// A violation cites it.
    Violated,
    /// Nobody knows whether it took effect.
    Unknown,
}

/// The dots of a page.
#[derive(Debug, Default, Serialize)]
pub(super) struct Dots {
    /// Those that are shown, in the order of time.
    pub shown: Vec<Dot>,
    /// How many there are in all, by kind: lost, violated, unknown.
    pub counts: [u64; 3],
    /// Lines of the history that the shown ones cite, by index. Long ones are cut.
    pub lines: BTreeMap<u64, String>,
}

/// Dots that a page shows.
const DOTS_MAX: usize = 1200;

/// Bytes of a cited line that a tooltip shows.
const LINE_BYTES_MAX: usize = 600;

impl Dots {
    /// Lost, violated and unknown ones; the heaviest, if there are too many.
    pub fn new(
        run: &Run,
        events: &[Event],
        invocations: &[Invocation<'_>],
        messages: &Messages<'_>,
    ) -> Self {
        let mut found = found(run, events, invocations, messages);
        found.sort_by_key(|dot| (dot.kind, dot.from_us));
        let count = |kind| found.iter().filter(|dot| dot.kind == kind).count() as u64;
        let counts = [Kind::Lost, Kind::Violated, Kind::Unknown].map(count);
        found.truncate(DOTS_MAX);
        found.sort_by_key(|dot| dot.from_us);
        let cited: HashSet<u64> = found.iter().flat_map(|dot| dot.lines.iter().copied()).collect();
        let cited = events.iter().filter(|event| cited.contains(&event.index));
        let lines = cited.map(|event| (event.index, line(event, LINE_BYTES_MAX))).collect();
        Self { shown: found, counts, lines }
    }
}

fn found(
    run: &Run,
    events: &[Event],
    invocations: &[Invocation<'_>],
    messages: &Messages<'_>,
) -> Vec<Dot> {
    let lost: HashSet<u64> =
        messages.lost().iter().flatten().map(|message| message.send.begin.index).collect();
    let cited: HashSet<u64> = run
        .findings
        .iter()
        .flat_map(|finding| &finding.violations)
        .flat_map(|violation| violation.events.iter().copied())
        .collect();
    let mut of_operation: HashMap<u64, usize> = HashMap::new();
    let mut dots = Vec::new();
    for (place, invocation) in invocations.iter().enumerate() {
        let lines = invocation.lines();
        of_operation.extend(lines.iter().map(|line| (*line, place)));
        let kind = if lost.contains(&invocation.begin.index) {
            Kind::Lost
        } else if lines.iter().any(|line| cited.contains(line)) {
            Kind::Violated
        } else if invocation.outcome() == Phase::Unknown {
            Kind::Unknown
        } else {
            continue;
        };
        dots.push(Dot {
            kind,
            from_us: invocation.begin.time_ns / 1000,
            to_us: invocation.settled_ns() / 1000,
            title: title(invocation),
            lines,
        });
    }
    // A violation may be about what was seen only, say on a replica: its first line is shown.
    for violation in run.findings.iter().flat_map(|finding| &finding.violations) {
        if violation.events.iter().any(|event| of_operation.contains_key(event)) {
            continue;
        }
        let first = violation.events.first().and_then(|index| at(events, *index));
        dots.extend(first.map(|event| Dot {
            kind: Kind::Violated,
            from_us: event.time_ns / 1000,
            to_us: event.time_ns / 1000,
            title: cut(&violation.text, LINE_BYTES_MAX),
            lines: vec![event.index],
        }));
    }
    dots
}

fn title(invocation: &Invocation<'_>) -> String {
    let what = match &invocation.begin.action {
        Action::Send { topic, value, .. } => format!("send of {value} to {topic}"),
        Action::Receive { group, topic, .. } => format!("receive by {group} from {topic}"),
        Action::Subscribe { group, lite_topics, .. } => {
            format!("{} lite topics wanted for {group}", lite_topics.len())
        }
        Action::Ack { group, value, .. } => format!("ack of {value} by {group}"),
        Action::ChangeInvisible { group, value, invisible_ms, .. } => {
            format!("{value} kept from {group} for {invisible_ms} ms")
        }
        Action::Admin { kind, name, verb, .. } => format!("{verb} of {kind} {name}"),
        Action::DeadLetter { group, value, .. } => format!("{value} given up by {group}"),
        Action::Recall { topic, value } => format!("recall of {value} from {topic}"),
        Action::EndTransaction { value, commit: true, .. } => format!("commit of {value}"),
        Action::EndTransaction { value, commit: false, .. } => format!("rollback of {value}"),
        Action::Pull { topic, queue_id, from_offset, .. } => {
            format!("pull from {topic} queue {queue_id} offset {from_offset}")
        }
        Action::UpdateOffset { group, queue_id, offset, .. } => {
            format!("offset {offset} of queue {queue_id} kept for {group}")
        }
        _ => "operation".to_owned(),
    };
    let end = match (invocation.outcome(), invocation.end) {
        (_, None) => "never ended",
        (Phase::Ok, _) => "ok",
        (Phase::Fail, _) => "failed",
        _ => "unknown",
    };
    cut(&format!("{what}: {end}"), LINE_BYTES_MAX)
}

/// The event of an index. Histories are numbered from 0 without holes; a part of one is not.
pub(super) fn at(events: &[Event], index: u64) -> Option<&Event> {
    let guess = usize::try_from(index).ok().and_then(|place| events.get(place));
    guess.filter(|event| event.index == index).or_else(|| {
        let place = events.binary_search_by_key(&index, |event| event.index).ok()?;
        events.get(place)
    })
}

/// The line of an event, at most `bytes_max` of it.
pub(super) fn line(event: &Event, bytes_max: usize) -> String {
    // An event is made of text and numbers; it cannot fail to be written.
    cut(&serde_json::to_string(event).unwrap_or_default(), bytes_max)
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
