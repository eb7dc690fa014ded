//! `raftmq lite`.

use clap::Args;
use clap::Subcommand;
use raftmq_proto::raftmq::ListLiteTopicsRequest;
use raftmq_proto::raftmq::ListLiteTopicsResponse;
use raftmq_proto::raftmq::LiteTopic;
use raftmq_proto::raftmq::LiteTopicGroup;
use serde::Serialize;

use super::AdminArgs;
use super::ReadArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::output::Table;

const AFTER_HELP: &str = "\
Examples:
  raftmq topic create sessions --type lite
  raftmq lite list sessions                    who is behind, and who subscribes
  raftmq lite list sessions --from user-42 --limit 1";

/// Look at lite topics: the queues of a topic of type lite that come into being when they are named.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct LiteArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// List lite topics in the order of their names, and how far each group is in them
    List {
        /// The topic they belong to
        topic: String,
        /// Begin at this name, or the next one there is
        #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
        from: String,
        /// At most this many, 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "COUNT")]
        limit: u32,
        #[command(flatten)]
        read: ReadArgs,
    },
}

pub async fn run(args: LiteArgs) -> Result<(), Failure> {
    let (admin, output) = (args.admin.admin(), args.output);
    let Verb::List { topic, from, limit, read } = args.verb;
    let request = ListLiteTopicsRequest {
        topic: topic.clone(),
        from_name: from,
        count: limit,
        this_node: read.this_node,
    };
    let listed = admin.call(request, async |mut node, r| node.list_lite_topics(r).await).await?;
    output.print(&PageView::new(topic, listed), text)
}

#[derive(Serialize)]
struct PageView {
    topic: String,
    /// Of all lite topics of the topic.
    total_count: u64,
    lite_topics: Vec<LiteTopicView>,
    /// The first one of the next page.
    #[serde(skip_serializing_if = "String::is_empty")]
    next_name: String,
}

#[derive(Serialize)]
struct LiteTopicView {
    name: String,
    min_offset: u64,
    max_offset: u64,
    last_used: String,
    groups: Vec<GroupView>,
}

#[derive(Serialize)]
struct GroupView {
    group: String,
    next_offset: u64,
    commit_offset: u64,
    inflight_count: u64,
    lag_count: u64,
    subscriber_count: u64,
    /// Some of them.
    client_ids: Vec<String>,
}

impl PageView {
    fn new(topic: String, listed: ListLiteTopicsResponse) -> Self {
        Self {
            topic,
            total_count: listed.total_count,
            lite_topics: listed.lite_topics.into_iter().map(LiteTopicView::from).collect(),
            next_name: listed.next_name,
        }
    }
}

impl From<LiteTopic> for LiteTopicView {
    fn from(lite: LiteTopic) -> Self {
        let group = |group: LiteTopicGroup| GroupView {
            group: group.group,
            next_offset: group.next_offset,
            commit_offset: group.commit_offset,
            inflight_count: group.inflight_count,
            lag_count: lite.max_offset.saturating_sub(group.next_offset) + group.inflight_count,
            subscriber_count: group.subscriber_count,
            client_ids: group.client_ids,
        };
        Self {
            name: lite.name,
            min_offset: lite.min_offset,
            max_offset: lite.max_offset,
            last_used: output::time_ms(lite.touched_ms),
            groups: lite.groups.into_iter().map(group).collect(),
        }
    }
}

impl GroupView {
    fn clients(&self) -> String {
        match &*self.client_ids {
            [] => "nobody".to_owned(),
            [one] if self.subscriber_count == 1 => one.clone(),
            [one, ..] => format!("{one} and {} more", self.subscriber_count - 1),
        }
    }
}

fn text(page: &PageView) -> String {
    if page.lite_topics.is_empty() {
        return format!(
            "no lite topics here; topic {} has {} in all",
            page.topic, page.total_count
        );
    }
    let mut table = Table::new([
        "LITE TOPIC",
        ">MESSAGES",
        "LAST USED",
        "GROUP",
        ">IN FLIGHT",
        ">LAG",
        "SUBSCRIBED BY",
    ]);
    for lite in &page.lite_topics {
        let head = [
            lite.name.clone(),
            lite.max_offset.saturating_sub(lite.min_offset).to_string(),
            lite.last_used.clone(),
        ];
        if lite.groups.is_empty() {
            let [name, messages, used] = head.clone();
            let none = || "-".to_owned();
            table.row([name, messages, used, none(), none(), none(), none()]);
        }
        for (at, group) in lite.groups.iter().enumerate() {
            let [name, messages, used] = match at {
                0 => head.clone(),
                _ => Default::default(),
            };
            table.row([
                name,
                messages,
                used,
                group.group.clone(),
                group.inflight_count.to_string(),
                group.lag_count.to_string(),
                group.clients(),
            ]);
        }
    }
    let more = match page.next_name.is_empty() {
        true => String::new(),
        false => format!("\ngo on with --from {}", page.next_name),
    };
    format!(
        "{table}\n{} of {} lite topics of topic {}{more}",
        page.lite_topics.len(),
        page.total_count,
        page.topic
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_a_line_and_the_name_stands_once() {
        let group = |name: &str, next_offset, subscriber_count| LiteTopicGroup {
            group: name.to_owned(),
            next_offset,
            inflight_count: 1,
            subscriber_count,
            client_ids: (0..subscriber_count.min(1)).map(|_| "c1".to_owned()).collect(),
            ..LiteTopicGroup::default()
        };
        let lite = LiteTopic {
            name: "s1".to_owned(),
            max_offset: 5,
            groups: vec![group("g", 3, 2), group("h", 5, 0)],
            ..LiteTopic::default()
        };
        let listed = ListLiteTopicsResponse {
            lite_topics: vec![lite],
            next_name: "s2".to_owned(),
            total_count: 9,
        };
        let text = text(&PageView::new("sessions".to_owned(), listed));
        assert_eq!(text.matches("s1").count(), 1, "{text}");
        assert!(text.contains("c1 and 1 more") && text.contains("nobody"), "{text}");
        assert!(
            text.ends_with("1 of 9 lite topics of topic sessions\ngo on with --from s2"),
            "{text}"
        );
    }
}
