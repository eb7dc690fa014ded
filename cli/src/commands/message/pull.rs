//! `raftmq message pull`.

use std::time::Duration;

use clap::Args;
use raftmq::client::Consumer;
use raftmq::client::ConsumerOptions;
use raftmq::client::Delivery;
use raftmq::client::PullOptions;
use raftmq::client::Pulled;
use serde::Serialize;

use crate::commands::EndpointArgs;
use crate::commands::body::BodyView;
use crate::exit::Failure;
use crate::output::OutputArgs;
use crate::quantity;

#[derive(Args)]
pub struct PullArgs {
    /// The topic
    topic: String,

    /// The consumer group; how far it is does not change
    #[arg(long, short)]
    group: String,

    /// The queue
    #[arg(long, value_name = "ID")]
    queue: u32,

    /// Where to begin
    #[arg(long)]
    offset: u64,

    /// How many messages, 1 to 32
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=32))]
    count: u32,

    /// How long to wait for a first message
    #[arg(long, default_value = "5s", value_parser = quantity::duration, value_name = "DURATION")]
    wait: Duration,

    /// Only messages with one of these tags, such as 'a || b'
    #[arg(long, default_value = "*", value_name = "TAGS")]
    filter: String,

    /// Only messages for which this is true, such as 'region = "eu" AND size > 3'
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "filter")]
    sql: Option<String>,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub async fn run(args: PullArgs, output: OutputArgs) -> Result<(), Failure> {
    let options = ConsumerOptions {
        filter: args.filter,
        sql: args.sql,
        ..ConsumerOptions::new(args.endpoint.endpoints(), &args.topic, &args.group)
    };
    let consumer = Consumer::start(options).await?;
    let pull = PullOptions {
        queue_id: args.queue,
        offset: args.offset,
        count_max: args.count,
        wait: args.wait,
    };
    let pulled = consumer.pull(pull).await?;
    consumer.close().await;
    output.print(&PulledView::from(pulled), text)
}

#[derive(Serialize)]
struct PulledView {
    messages: Vec<MessageView>,
    next_offset: u64,
}

#[derive(Serialize)]
struct MessageView {
    message_id: String,
    queue_offset: i64,
    #[serde(flatten)]
    body: BodyView,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    keys: Vec<String>,
    properties: std::collections::BTreeMap<String, String>,
}

impl From<Pulled> for PulledView {
    fn from(pulled: Pulled) -> Self {
        let messages = pulled.deliveries.into_iter().map(MessageView::from).collect();
        Self { messages, next_offset: pulled.next_offset }
    }
}

impl From<Delivery> for MessageView {
    fn from(delivery: Delivery) -> Self {
        Self {
            body: BodyView::new(&delivery.body),
            message_id: delivery.message_id,
            queue_offset: delivery.queue_offset,
            tag: delivery.tag,
            keys: delivery.keys,
            properties: delivery.properties,
        }
    }
}

fn text(pulled: &PulledView) -> String {
    let mut text = String::new();
    for message in &pulled.messages {
        let tag = message.tag.as_ref().map(|tag| format!("  tag {tag}")).unwrap_or_default();
        text.push_str(&format!(
            "{}  offset {}{tag}\n  {}\n",
            message.message_id,
            message.queue_offset,
            message.body.excerpt().replace('\n', "\n  ")
        ));
    }
    text.push_str(&format!("go on with --offset {}\n", pulled.next_offset));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_offset_is_told() {
        let pulled = Pulled { deliveries: Vec::new(), next_offset: 7 };
        assert_eq!(text(&PulledView::from(pulled)), "go on with --offset 7\n");
    }
}
