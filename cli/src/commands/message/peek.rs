//! `raftmq message peek`.

use clap::Args;
use raftmq_proto::raftmq::PeekMessagesRequest;
use raftmq_proto::v2::Message;
use serde::Serialize;

use crate::commands::AdminArgs;
use crate::commands::ReadArgs;
use crate::commands::body::BodyView;
use crate::exit::Failure;
use crate::output::OutputArgs;

#[derive(Args)]
pub struct PeekArgs {
    /// The topic
    topic: String,

    /// Only this queue [default: all queues]
    #[arg(long, value_name = "ID")]
    queue: Option<u32>,

    /// The lite topic, if the topic is one of such
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    lite_topic: String,

    /// Begin at this offset of each queue [default: the last messages]
    #[arg(long)]
    offset: Option<u64>,

    /// Messages from each queue, 1 to 100
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,

    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    admin: AdminArgs,
}

pub async fn run(args: PeekArgs, output: OutputArgs) -> Result<(), Failure> {
    let request = PeekMessagesRequest {
        topic: args.topic,
        queue_id: args.queue,
        offset: args.offset,
        count: args.count,
        this_node: args.read.this_node,
        lite_topic: args.lite_topic,
    };
    let peeked =
        args.admin.admin().call(request, async |mut node, r| node.peek_messages(r).await).await?;
    let messages: Vec<_> = peeked.messages.into_iter().map(MessageView::from).collect();
    output.print(&messages, |messages| match messages.is_empty() {
        true => "no messages there".to_owned(),
        false => messages.iter().map(text).collect(),
    })
}

#[derive(Serialize)]
pub struct MessageView {
    message_id: String,
    queue_id: i32,
    queue_offset: i64,
    #[serde(flatten)]
    body: BodyView,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    keys: Vec<String>,
    properties: std::collections::BTreeMap<String, String>,
    stored: Option<String>,
}

impl From<Message> for MessageView {
    fn from(message: Message) -> Self {
        let system = message.system_properties.unwrap_or_default();
        Self {
            message_id: system.message_id,
            queue_id: system.queue_id,
            queue_offset: system.queue_offset.unwrap_or_default(),
            body: BodyView::new(&message.body),
            tag: system.tag,
            keys: system.keys,
            properties: message.user_properties.into_iter().collect(),
            stored: system.store_timestamp.map(|stored| stored.to_string()),
        }
    }
}

pub fn text(message: &MessageView) -> String {
    let tag = message.tag.as_ref().map(|tag| format!("  tag {tag}")).unwrap_or_default();
    let keys: String = message.keys.iter().map(|key| format!("  key {key}")).collect();
    let properties: String =
        message.properties.iter().map(|(key, value)| format!("  {key}={value}")).collect();
    format!(
        "{}  queue {}  offset {}  stored {}{tag}{keys}{properties}\n  {}\n",
        message.message_id,
        message.queue_id,
        message.queue_offset,
        message.stored.as_deref().unwrap_or("at an unknown time"),
        message.body.excerpt().replace('\n', "\n  "),
    )
}

#[cfg(test)]
mod tests {
    use raftmq::client::OutgoingMessage;

    use super::*;

    #[test]
    fn a_message_is_shown_with_its_place() {
        let message = Message { body: OutgoingMessage::new("hello").body, ..Message::default() };
        let shown = text(&MessageView::from(message));
        assert_eq!(shown, "  queue 0  offset 0  stored at an unknown time\n  hello\n");
    }
}
