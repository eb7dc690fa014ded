//! `raftmq dlq peek`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use clap::Args;
use raftmq::client::Admin;
use raftmq::client::AdminError;
use raftmq_proto::raftmq::PeekMessagesRequest;
use raftmq_proto::v2::Message;
use serde::Serialize;

use super::age;
use super::check_group;
use super::topic_of;
use crate::commands::body::BodyView;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;

#[derive(Args)]
pub struct PeekArgs {
    /// The consumer group
    group: String,

    /// How many, 1 to 100
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,

    /// Begin at this offset [default: the last ones]
    #[arg(long)]
    offset: Option<u64>,
}

pub async fn run(args: PeekArgs, admin: &Admin, output: OutputArgs) -> Result<(), Failure> {
    let request = PeekMessagesRequest {
        topic: topic_of(&args.group),
        queue_id: None,
        offset: args.offset,
        count: args.count,
        this_node: false,
        ..PeekMessagesRequest::default()
    };
    let peeked = admin.call(request, async |mut node, r| node.peek_messages(r).await).await;
    let messages = match peeked {
        Ok(peeked) => peeked.messages,
        // The topic is made with the first dead letter.
        Err(AdminError::Refused { code: tonic::Code::NotFound, .. }) => {
            check_group(admin, &args.group).await?;
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let letters: Vec<_> = messages.into_iter().map(LetterView::from).collect();
    output.print(&letters, |letters| match letters.is_empty() {
        true => format!("consumer group {} has no dead letters there", args.group),
        false => letters.iter().map(text).collect(),
    })
}

#[derive(Serialize)]
struct LetterView {
    message_id: String,
    queue_offset: i64,
    /// The topic it was sent to.
    origin_topic: String,
    /// Times it was handed out before the group gave up on it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<i32>,
    /// When the group gave up on it.
    dead_since: Option<String>,
    age_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_group: Option<String>,
    properties: BTreeMap<String, String>,
    #[serde(flatten)]
    body: BodyView,
}

impl From<Message> for LetterView {
    fn from(message: Message) -> Self {
        let system = message.system_properties.unwrap_or_default();
        let dead = system.store_timestamp.and_then(|stored| SystemTime::try_from(stored).ok());
        Self {
            message_id: system.message_id,
            queue_offset: system.queue_offset.unwrap_or_default(),
            origin_topic: system.dead_letter_queue.unwrap_or_default().topic,
            attempts: system.delivery_attempt,
            dead_since: dead.map(output::time),
            age_ms: dead.map(|dead| age(dead).as_millis()),
            tag: system.tag,
            keys: system.keys,
            message_group: system.message_group,
            properties: message.user_properties.into_iter().collect(),
            body: BodyView::new(&message.body),
        }
    }
}

fn text(letter: &LetterView) -> String {
    let age = |ms| output::duration(std::time::Duration::from_millis(ms as u64));
    let mut line = format!(
        "{}  offset {}  from topic {}",
        letter.message_id, letter.queue_offset, letter.origin_topic
    );
    let more = [
        letter.attempts.map(|attempts| format!("after {attempts} attempts")),
        letter.age_ms.map(|ms| format!("{} ago", age(ms))),
        letter.tag.as_ref().map(|tag| format!("tag {tag}")),
        letter.message_group.as_ref().map(|group| format!("message group {group}")),
    ];
    let keys = letter.keys.iter().map(|key| format!("key {key}"));
    let properties = letter.properties.iter().map(|(key, value)| format!("{key}={value}"));
    for part in more.into_iter().flatten().chain(keys).chain(properties) {
        line.push_str("  ");
        line.push_str(&part);
    }
    format!("{line}\n  {}\n", letter.body.excerpt().replace('\n', "\n  "))
}

#[cfg(test)]
mod tests {
    use raftmq_proto::v2::DeadLetterQueue;
    use raftmq_proto::v2::SystemProperties;

    use super::*;

    #[test]
    fn a_dead_letter_is_shown_with_its_origin() {
        let origin = DeadLetterQueue { topic: "orders".to_owned(), message_id: "id".to_owned() };
        let system = SystemProperties {
            message_id: "id".to_owned(),
            queue_offset: Some(4),
            delivery_attempt: Some(17),
            dead_letter_queue: Some(origin),
            tag: Some("new".to_owned()),
            keys: vec!["k".to_owned()],
            ..SystemProperties::default()
        };
        let message =
            Message { system_properties: Some(system), body: "hello".into(), ..Message::default() };
        let shown = text(&LetterView::from(message));
        assert_eq!(
            shown,
            "id  offset 4  from topic orders  after 17 attempts  tag new  key k\n  hello\n"
        );
    }
}
