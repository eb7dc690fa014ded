//! `raftmq topic`.

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use raftmq::client::Admin;
use raftmq_proto::names;
use raftmq_proto::raftmq::CreateTopicRequest;
use raftmq_proto::raftmq::DeleteTopicRequest;
use raftmq_proto::raftmq::DescribeTopicRequest;
use raftmq_proto::raftmq::DescribeTopicResponse;
use raftmq_proto::raftmq::ListTopicsRequest;
use raftmq_proto::raftmq::Topic;
use raftmq_proto::raftmq::UpdateTopicRequest;
use raftmq_proto::v2::MessageType;
use serde::Serialize;

use super::AdminArgs;
use super::ReadArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::output::Table;
use crate::quantity;

const AFTER_HELP: &str = "\
Examples:
  raftmq topic create orders --queues 16
  raftmq topic create payments --type fifo     in order, by message group
  raftmq topic create sensors --retention 1h   kept for a shorter time than others
  raftmq topic create sessions --type lite     a queue for each name, made when it is used
  raftmq topic update orders --send-rate 500   messages a second; 0 is no limit
  raftmq topic describe orders
  raftmq topic list --output json";

/// Create, change, list, describe and delete topics.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct TopicArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a topic
    Create {
        /// Up to 127 letters, digits and % | - _
        name: String,
        /// Queues of the topic in the broker group, 1 to 1024
        #[arg(long, default_value_t = 8, value_name = "COUNT")]
        queues: u32,
        /// What may be sent to it; mixed is all but priority and lite
        #[arg(long = "type", value_enum, default_value_t, value_name = "TYPE")]
        kind: Kind,
        /// Messages that may be sent to it each second; 0 is no limit
        #[arg(long, default_value_t = 0, value_name = "COUNT")]
        send_rate: u32,
        /// How long its messages are kept, such as 30m [default: as long as the broker does]
        #[arg(long, value_parser = quantity::duration, value_name = "DURATION")]
        retention: Option<Duration>,
        /// Of type lite: lite topics it may have [default: 200000]
        #[arg(long, default_value_t = 0, value_name = "COUNT", hide_default_value = true)]
        lite_topics: u32,
        /// Of type lite: how long after the last send a lite topic goes to which nobody subscribes, such
        /// as 24h [default: when it is empty]
        #[arg(long, value_parser = quantity::duration, value_name = "DURATION")]
        lite_expiration: Option<Duration>,
    },
    /// Change the limit of a topic
    Update {
        /// The topic
        name: String,
        /// Messages that may be sent to it each second; 0 is no limit
        #[arg(long, value_name = "COUNT")]
        send_rate: u32,
    },
    /// List all topics
    List {
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Show the queues of a topic and the groups that consume from it
    Describe {
        /// The topic
        name: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Delete a topic and all messages in it
    Delete {
        /// The topic
        name: String,
    },
}

/// What may be sent to a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Ordinary messages
    #[default]
    Normal,
    /// Messages of one message group are received in order
    Fifo,
    /// Messages that are received at a time, or after a while
    Delay,
    /// Messages that count once their producer's transaction is committed
    Transaction,
    /// Messages with a priority
    Priority,
    /// Messages of lite topics: named when they are sent, received by whoever subscribes to the name
    Lite,
    /// Normal, fifo, delay and transaction
    Mixed,
}

impl Kind {
    const MIXED: [MessageType; 4] =
        [MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction];

    fn message_types(self) -> &'static [MessageType] {
        match self {
            Kind::Normal => &[MessageType::Normal],
            Kind::Fifo => &[MessageType::Fifo],
            Kind::Delay => &[MessageType::Delay],
            Kind::Transaction => &[MessageType::Transaction],
            Kind::Priority => &[MessageType::Priority],
            Kind::Lite => &[MessageType::Lite],
            Kind::Mixed => &Self::MIXED,
        }
    }
}

pub async fn run(args: TopicArgs) -> Result<(), Failure> {
    let (admin, output) = (args.admin.admin(), args.output);
    match args.verb {
        Verb::Create { name, queues, kind, send_rate, retention, lite_topics, lite_expiration } => {
            let request = CreateTopicRequest {
                name,
                queue_count: queues,
                message_types: kind.message_types().iter().copied().map(i32::from).collect(),
                retention_ms: retention.map_or(0, |it| it.as_millis() as u64),
                send_rate_max: send_rate,
                lite_topics_max: lite_topics,
                lite_expiration_ms: lite_expiration.map_or(0, |it| it.as_millis() as u64),
            };
            let created = create(&admin, request).await?;
            output.print(&TopicView::from(created), created_text)
        }
        Verb::Update { name, send_rate } => {
            let request = UpdateTopicRequest { name, send_rate_max: send_rate };
            let topic = admin.call(request, async |mut node, r| node.update_topic(r).await).await?;
            output.print(&TopicView::from(topic), |topic| {
                format!("topic {} now takes {}", topic.name, topic.send_rate())
            })
        }
        Verb::List { read } => {
            let request = ListTopicsRequest { this_node: read.this_node };
            let listed = admin.call(request, async |mut node, r| node.list_topics(r).await).await?;
            let topics: Vec<_> = listed.topics.into_iter().map(TopicView::from).collect();
            output.print(&topics, |topics| list_text(topics))
        }
        Verb::Describe { name, read } => {
            let request = DescribeTopicRequest { name, this_node: read.this_node };
            let described =
                admin.call(request, async |mut node, r| node.describe_topic(r).await).await?;
            output.print(&DescriptionView::from(described), describe_text)
        }
        Verb::Delete { name } => {
            let request = DeleteTopicRequest { name: name.clone() };
            admin.call(request, async |mut node, r| node.delete_topic(r).await).await?;
            output.print(&Deleted { deleted: name }, |topic| {
                format!("topic {} is deleted", topic.deleted)
            })
        }
    }
}

async fn create(admin: &Admin, request: CreateTopicRequest) -> Result<Topic, Failure> {
    names::new_topic(&request.name).map_err(Failure::usage)?;
    Ok(admin.call(request, async |mut node, r| node.create_topic(r).await).await?)
}

#[derive(Serialize)]
struct TopicView {
    name: String,
    queue_count: u32,
    /// MIXED when there are several.
    message_type: String,
    message_types: Vec<&'static str>,
    /// 0: no limit.
    send_rate_max: u32,
    /// `None`: as long as the broker does.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite: Option<LiteView>,
    created: String,
}

#[derive(Serialize)]
struct LiteView {
    topic_count: u64,
    topics_max: u32,
    /// 0: they go when they are empty.
    expiration_ms: u64,
}

#[derive(Serialize)]
struct DescriptionView {
    #[serde(flatten)]
    topic: TopicView,
    queues: Vec<QueueView>,
    groups: Vec<String>,
}

#[derive(Serialize)]
struct QueueView {
    queue_id: u32,
    min_offset: u64,
    max_offset: u64,
}

#[derive(Serialize)]
struct Deleted {
    deleted: String,
}

impl From<Topic> for TopicView {
    fn from(topic: Topic) -> Self {
        let lite = LiteView {
            topic_count: topic.lite_topic_count,
            topics_max: topic.lite_topics_max,
            expiration_ms: topic.lite_expiration_ms,
        };
        let lite = topic.message_types().any(|kind| kind == MessageType::Lite).then_some(lite);
        let message_types: Vec<_> = topic.message_types().map(|kind| kind.as_str_name()).collect();
        Self {
            message_type: match &*message_types {
                [one] => one.to_string(),
                _ => "MIXED".to_owned(),
            },
            message_types,
            name: topic.name,
            queue_count: topic.queue_count,
            send_rate_max: topic.send_rate_max,
            retention_ms: (topic.retention_ms > 0).then_some(topic.retention_ms),
            lite,
            created: output::time_ms(topic.created_ms),
        }
    }
}

impl TopicView {
    fn send_rate(&self) -> String {
        match self.send_rate_max {
            0 => "any number of messages".to_owned(),
            rate => format!("{rate} messages a second"),
        }
    }

    /// As part of a sentence, if it has one of its own.
    fn retention(&self) -> String {
        self.retention_ms.map_or_else(String::new, |retention_ms| {
            format!(", keeps them for {}", output::duration(Duration::from_millis(retention_ms)))
        })
    }
}

impl From<DescribeTopicResponse> for DescriptionView {
    fn from(described: DescribeTopicResponse) -> Self {
        let queue = |queue: raftmq_proto::raftmq::QueueRange| QueueView {
            queue_id: queue.queue_id,
            min_offset: queue.min_offset,
            max_offset: queue.max_offset,
        };
        Self {
            topic: described.topic.unwrap_or_default().into(),
            queues: described.queues.into_iter().map(queue).collect(),
            groups: described.groups,
        }
    }
}

fn created_text(topic: &TopicView) -> String {
    if topic.lite.is_some() {
        return format!(
            "topic {name} is ready for lite topics\n  send to one:       raftmq message send {name} --lite-topic s1 'hello'\n  receive from it:   raftmq group create readers\n                     raftmq message receive {name} --lite-topic s1 --group readers",
            name = topic.name
        );
    }
    format!(
        "topic {name} is ready with {count} queues\n  \
         send to it:       raftmq message send {name} 'hello'\n  \
         receive from it:  raftmq group create readers\n                    \
         raftmq message receive {name} --group readers",
        name = topic.name,
        count = topic.queue_count
    )
}

fn list_text(topics: &[TopicView]) -> String {
    let mut table = Table::new(["NAME", "TYPE", ">QUEUES", "CREATED"]);
    for topic in topics {
        table.row([
            topic.name.clone(),
            topic.message_type.clone(),
            topic.queue_count.to_string(),
            topic.created.clone(),
        ]);
    }
    match table.is_empty() {
        true => "no topics yet; create one with `raftmq topic create NAME`".to_owned(),
        false => table.to_string(),
    }
}

fn groups_text(description: &DescriptionView) -> String {
    match description.groups.is_empty() {
        true => "none".to_owned(),
        false => description.groups.join(", "),
    }
}

fn describe_text(description: &DescriptionView) -> String {
    let topic = &description.topic;
    if let Some(lite) = &topic.lite {
        return lite_text(description, lite);
    }
    let mut table = Table::new([">QUEUE", ">MIN OFFSET", ">MAX OFFSET", ">MESSAGES"]);
    for queue in &description.queues {
        table.row([
            queue.queue_id.to_string(),
            queue.min_offset.to_string(),
            queue.max_offset.to_string(),
            queue.max_offset.saturating_sub(queue.min_offset).to_string(),
        ]);
    }
    let groups = groups_text(description);
    format!(
        "topic {}\n  type {}, takes {}{}, created {}\n  consumer groups: {groups}\n\n{table}",
        topic.name,
        topic.message_type,
        topic.send_rate(),
        topic.retention(),
        topic.created,
    )
}

fn lite_text(description: &DescriptionView, lite: &LiteView) -> String {
    let topic = &description.topic;
    let expiration = match lite.expiration_ms {
        0 => "when it is empty".to_owned(),
        ms => format!("{} after the last send", output::duration(Duration::from_millis(ms))),
    };
    format!(
        "topic {name}\n  type LITE, takes {}, created {}\n  {} lite topics, at most {}; one to which \
         nobody subscribes goes {expiration}\n  consumer groups: {}\n  look at them: raftmq lite list \
         {name}",
        topic.send_rate(),
        topic.created,
        lite.topic_count,
        lite.topics_max,
        groups_text(description),
        name = topic.name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(kind: Kind) -> TopicView {
        let message_types = kind.message_types().iter().copied().map(i32::from).collect();
        TopicView::from(Topic { message_types, ..Topic::default() })
    }

    #[test]
    fn a_topic_of_several_types_is_mixed() {
        assert_eq!(view(Kind::Fifo).message_type, "FIFO");
        let mixed = view(Kind::Mixed);
        assert_eq!(mixed.message_type, "MIXED");
        assert_eq!(mixed.message_types, ["NORMAL", "FIFO", "DELAY", "TRANSACTION"]);
    }
}
