//! `raftmq message find`.

use clap::ArgGroup;
use clap::Args;
use raftmq::client::Admin;
use raftmq_proto::raftmq::FindMessagesRequest;
use raftmq_proto::raftmq::FoundMessage;
use raftmq_proto::raftmq::GroupState;
use raftmq_proto::raftmq::MessageHistoryRequest;
use raftmq_proto::raftmq::MessagePlace;
use raftmq_proto::raftmq::TimeRange;
use raftmq_proto::raftmq::find_messages_request::By;
use raftmq_proto::raftmq::found_message::Whereabouts;
use raftmq_proto::raftmq::group_state::State;
use serde::Serialize;

use super::history::HistoryView;
use super::peek;
use super::peek::MessageView;
use crate::commands::AdminArgs;
use crate::commands::ReadArgs;
use crate::exit::Exit;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::progress::Progress;
use crate::quantity;

#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["id", "key", "from"])))]
pub struct FindArgs {
    /// The topic to which it was sent
    topic: String,

    /// By message id
    #[arg(long)]
    id: Option<String>,

    /// By one of its keys; the newest messages first
    #[arg(long)]
    key: Option<String>,

    /// Stored at this time or later, like 2026-01-31T10:00:00Z; the oldest messages first
    #[arg(long, value_parser = time_ms, value_name = "TIME")]
    from: Option<u64>,

    /// Stored before this time [default: now]
    #[arg(long, value_parser = time_ms, value_name = "TIME", requires = "from")]
    to: Option<u64>,

    /// Only in this queue [default: all queues]
    #[arg(long, value_name = "ID")]
    queue: Option<u32>,

    /// Only in this lite topic
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    lite_topic: String,

    /// How many, 1 to 100
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,

    /// Show what happened to each of them, as the log tells; reads the log from there on
    #[arg(long)]
    history: bool,

    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    admin: AdminArgs,
}

fn time_ms(text: &str) -> Result<u64, String> {
    quantity::since_1970_ms(quantity::time(text)?)
}

pub async fn run(args: FindArgs, output: OutputArgs) -> Result<(), Failure> {
    let by = match (args.id, args.key, args.from) {
        (Some(id), _, _) => By::MessageId(id),
        (_, Some(key), _) => By::Key(key),
        (_, _, from) => By::Stored(TimeRange {
            from_ms: from.unwrap_or_default(),
            to_ms: args.to.unwrap_or(u64::MAX),
        }),
    };
    let this_node = args.read.this_node;
    let request = FindMessagesRequest {
        topic: args.topic.clone(),
        by: Some(by),
        count: args.count,
        queue_id: args.queue,
        lite_topic: args.lite_topic,
        this_node,
    };
    let admin = args.admin.admin();
    let found = admin.call(request, async |mut node, r| node.find_messages(r).await).await?;
    if found.messages.is_empty() {
        let text = format!("no such message is in topic {}", args.topic);
        return Err(Failure::new(Exit::NotFound, text));
    }
    if found.cut {
        eprintln!("warning: very many messages have that key; older ones may be missing");
    }
    let mut views: Vec<_> = found.messages.into_iter().map(FoundView::from).collect();
    if args.history {
        // Each of them may take seconds.
        let mut progress = Progress::new(output, views.len() as u64);
        for (done, view) in (0..).zip(&mut views) {
            progress.show(done, "reading the log");
            view.history = history(&admin, &args.topic, view, this_node).await?;
        }
    }
    output.print(&views, |views| views.iter().map(text).collect())
}

/// `None`: it is in no queue, and so nobody got it.
async fn history(
    admin: &Admin,
    topic: &str,
    found: &FoundView,
    this_node: bool,
) -> Result<Option<HistoryView>, Failure> {
    let (Some(queue_id), Some(offset)) = (found.queue_id, found.queue_offset) else {
        return Ok(None);
    };
    if found.whereabouts != "in queue" {
        return Ok(None);
    }
    let request = MessageHistoryRequest { topic: topic.to_owned(), queue_id, offset, this_node };
    let told = admin.call(request, async |mut node, r| node.message_history(r).await).await?;
    Ok(Some(HistoryView::from(told)))
}

#[derive(Serialize)]
struct FoundView {
    whereabouts: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_offset: Option<u64>,
    /// When it came to these whereabouts.
    since: String,
    /// When it is due, or its producer is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<MessageView>,
    groups: Vec<GroupView>,
    copies: Vec<PlaceView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<HistoryView>,
}

/// How far a group is with it.
#[derive(Serialize)]
struct GroupView {
    group: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// A queue and an offset in it; none before a message has come into a queue.
#[derive(Serialize)]
pub struct PlaceView {
    pub topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_offset: Option<u64>,
}

impl From<FoundMessage> for FoundView {
    fn from(found: FoundMessage) -> Self {
        let (whereabouts, waits) = match found.whereabouts() {
            Whereabouts::InQueue => ("in queue", false),
            Whereabouts::Delayed => ("delayed", true),
            Whereabouts::Half => ("in a pending transaction", true),
            Whereabouts::Recalled => ("recalled", false),
            Whereabouts::RolledBack => ("rolled back", false),
            Whereabouts::GivenUp => ("rolled back without an answer", false),
            Whereabouts::Gone => ("gone", false),
        };
        Self {
            whereabouts,
            queue_id: found.queue_id,
            queue_offset: found.offset,
            since: output::time_ms(found.since_ms),
            next: waits.then(|| output::time_ms(found.next_ms)),
            checks: (found.whereabouts() == Whereabouts::Half).then_some(found.checks),
            message: found.message.map(MessageView::from),
            groups: found.groups.into_iter().map(GroupView::from).collect(),
            copies: found.copies.into_iter().map(PlaceView::from).collect(),
            history: None,
        }
    }
}

impl From<GroupState> for GroupView {
    fn from(told: GroupState) -> Self {
        let out = told.state() == State::InFlight;
        Self {
            state: match told.state() {
                State::NotReached => "not reached",
                State::InFlight => "in flight",
                State::HeldBack => "held back",
                State::Consumed => "consumed",
            },
            attempt: out.then_some(told.attempt),
            until: out.then(|| output::time_ms(told.until_ms)),
            group: told.group,
        }
    }
}

impl From<MessagePlace> for PlaceView {
    fn from(place: MessagePlace) -> Self {
        let in_queue = place.offset != u64::MAX;
        Self {
            topic: place.topic,
            queue_id: in_queue.then_some(place.queue_id),
            queue_offset: in_queue.then_some(place.offset),
        }
    }
}

impl PlaceView {
    pub fn text(&self) -> String {
        match (self.queue_id, self.queue_offset) {
            (Some(queue_id), Some(offset)) => {
                format!("{} queue {queue_id} offset {offset}", self.topic)
            }
            _ => self.topic.clone(),
        }
    }
}

fn text(found: &FoundView) -> String {
    let mut text = match &found.message {
        Some(message) => peek::text(message),
        None => String::new(),
    };
    if found.whereabouts != "in queue" {
        let next = found.next.as_ref().map(|next| format!(", next at {next}")).unwrap_or_default();
        let asked = found.checks.map(|it| format!(", asked {it} times")).unwrap_or_default();
        text += &format!("  {} since {}{next}{asked}\n", found.whereabouts, found.since);
    }
    for group in &found.groups {
        let attempt = group.attempt.map(|it| format!(", attempt {it}")).unwrap_or_default();
        let until = group.until.as_ref().map(|it| format!(", until {it}")).unwrap_or_default();
        text += &format!("  group {}: {}{attempt}{until}\n", group.group, group.state);
    }
    for copy in &found.copies {
        text += &format!("  also in {}\n", copy.text());
    }
    if let Some(history) = &found.history {
        text += &history.text();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_waits_is_told_with_its_time() {
        let mut found = FoundMessage { next_ms: 1_609_459_200_000, ..FoundMessage::default() };
        found.set_whereabouts(Whereabouts::Delayed);
        let shown = text(&FoundView::from(found));
        let expected = "  delayed since 1970-01-01T00:00:00Z, next at 2021-01-01T00:00:00Z\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn each_group_is_told() {
        let state = |group: &str, state: State| {
            let mut told = GroupState { group: group.into(), attempt: 2, ..GroupState::default() };
            told.set_state(state);
            told
        };
        let groups = vec![state("one", State::InFlight), state("two", State::Consumed)];
        let shown = text(&FoundView::from(FoundMessage { groups, ..FoundMessage::default() }));
        let expected = "  group one: in flight, attempt 2, until 1970-01-01T00:00:00Z\n  \
                        group two: consumed\n";
        assert_eq!(shown, expected);
    }
}
