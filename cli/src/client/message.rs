//! A message on its way out, and one that has arrived.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use md5::Digest as _;
use md5::Md5;
use raftmq_proto::v2::DigestType;
use raftmq_proto::v2::Encoding;
use raftmq_proto::v2::Message;
use raftmq_proto::v2::MessageType;
use raftmq_proto::v2::Resource;
use raftmq_proto::v2::SystemProperties;

use super::MessageId;

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct OutgoingMessage {
    /// Kept when the message is sent again, so that the server can tell.
    pub id: MessageId,
    /// 1 byte to 4 MiB.
    pub body: Bytes,
    /// What consumers filter by.
    pub tag: Option<String>,
    /// What operators search by.
    pub keys: Vec<String>,
    /// Anything else the receiver should know.
    pub properties: BTreeMap<String, String>,
    /// For topics that take FIFO messages: those of one message group are received in the order in
    /// which they were sent.
    pub message_group: Option<String>,
    /// For topics that take DELAY messages: nobody receives it earlier, by the server's clock.
    pub deliver_at: Option<SystemTime>,
    /// For topics that take PRIORITY messages: 0 or more.
    pub priority: Option<u32>,
    /// For topics that take LITE messages: whoever subscribes to it receives them in order.
    pub lite_topic: Option<String>,
}

impl OutgoingMessage {
    /// A message with a new id and nothing but a body.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            id: MessageId::generate(),
            body: body.into(),
            tag: None,
            keys: Vec::new(),
            properties: BTreeMap::new(),
            message_group: None,
            deliver_at: None,
            priority: None,
            lite_topic: None,
        }
    }

    pub(crate) fn to_wire(&self, topic: &str, queue_id: i32) -> Message {
        let system_properties = SystemProperties {
            tag: self.tag.clone(),
            keys: self.keys.clone(),
            message_id: self.id.to_string(),
            body_encoding: Encoding::Identity.into(),
            message_type: self.message_type().into(),
            born_timestamp: Some(SystemTime::now().into()),
            delivery_timestamp: self.deliver_at.map(Into::into),
            message_group: self.message_group.clone(),
            lite_topic: self.lite_topic.clone(),
            priority: self.priority.map(|priority| i32::try_from(priority).unwrap_or(i32::MAX)),
            queue_id,
            ..SystemProperties::default()
        };
        Message {
            topic: Some(resource(topic)),
            user_properties: self.properties.clone().into_iter().collect(),
            system_properties: Some(system_properties),
            body: self.body.clone(),
        }
    }

    /// What official clients say: one thing, also of a message that is more. Servers judge by the
    /// properties.
    fn message_type(&self) -> MessageType {
        if self.message_group.is_some() {
            MessageType::Fifo
        } else if self.deliver_at.is_some() {
            MessageType::Delay
        } else if self.priority.is_some() {
            MessageType::Priority
        } else if self.lite_topic.is_some() {
            MessageType::Lite
        } else {
            MessageType::Normal
        }
    }
}

/// A message that was received, with what is needed to acknowledge it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// As the producer gave it; of version 1 when that was a 5.x client.
    pub message_id: String,
    /// The topic it was sent to.
    pub topic: String,
    /// As the producer gave it.
    pub body: Bytes,
    /// What consumers filter by.
    pub tag: Option<String>,
    /// What operators search by.
    pub keys: Vec<String>,
    /// User properties.
    pub properties: BTreeMap<String, String>,
    /// The queue it lies in.
    pub queue_id: i32,
    /// Its place in that queue, counted from 0.
    pub queue_offset: i64,
    /// 1 for the first delivery.
    pub attempt: i32,
    /// Stands for this delivery in acknowledgements.
    pub receipt_handle: String,
    /// When the producer made it, by the producer's clock.
    pub born: Option<SystemTime>,
    /// When it was stored, by the server's clock.
    pub stored: Option<SystemTime>,
    /// Whether the body is not what its MD5 digest says. False when the server sent none.
    pub is_corrupted: bool,
    /// The broker name it was received from.
    pub broker_name: String,
}

impl Delivery {
    pub(crate) fn from_wire(message: Message, broker_name: &str) -> Self {
        let system = message.system_properties.unwrap_or_default();
        let is_corrupted = is_corrupted(&system, &message.body);
        let time = |timestamp: Option<prost_types::Timestamp>| {
            timestamp.and_then(|timestamp| SystemTime::try_from(timestamp).ok())
        };
        Self {
            topic: message.topic.unwrap_or_default().name,
            properties: message.user_properties.into_iter().collect(),
            born: time(system.born_timestamp),
            stored: time(system.store_timestamp),
            message_id: system.message_id,
            tag: system.tag,
            keys: system.keys,
            queue_id: system.queue_id,
            queue_offset: system.queue_offset.unwrap_or_default(),
            attempt: system.delivery_attempt.unwrap_or_default(),
            receipt_handle: system.receipt_handle.unwrap_or_default(),
            body: message.body,
            is_corrupted,
            broker_name: broker_name.to_owned(),
        }
    }
}

pub(crate) fn resource(name: &str) -> Resource {
    Resource { name: name.to_owned(), ..Resource::default() }
}

/// Official servers send MD5 as upper-case digits; other digests are not checked.
fn is_corrupted(system: &SystemProperties, body: &[u8]) -> bool {
    match &system.body_digest {
        Some(digest) if digest.r#type() == DigestType::Md5 => {
            format!("{:X}", Md5::digest(body)) != digest.checksum
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use raftmq_proto::v2::Digest;

    use super::*;

    fn received(digest: Option<Digest>) -> Delivery {
        let mut wire = OutgoingMessage::new("hello").to_wire("demo", 3);
        if let Some(system) = &mut wire.system_properties {
            system.body_digest = digest;
        }
        Delivery::from_wire(wire, "broker-a-1")
    }

    fn md5(checksum: &str) -> Option<Digest> {
        Some(Digest { r#type: DigestType::Md5.into(), checksum: checksum.to_owned() })
    }

    #[test]
    fn what_is_sent_arrives() {
        let mut message = OutgoingMessage::new("hello");
        message.tag = Some("tag".to_owned());
        message.keys = vec!["key".to_owned()];
        message.properties.insert("name".to_owned(), "value".to_owned());
        let delivery = Delivery::from_wire(message.to_wire("demo", 3), "broker-a-1");
        assert_eq!(delivery.message_id, message.id.to_string());
        assert_eq!(delivery.topic, "demo");
        assert_eq!(delivery.body, message.body);
        assert_eq!(delivery.tag, message.tag);
        assert_eq!(delivery.keys, message.keys);
        assert_eq!(delivery.properties, message.properties);
        assert_eq!(delivery.queue_id, 3);
        assert!(delivery.born.is_some());
    }

    #[test]
    fn the_type_follows_from_the_properties() {
        let kind = |message: OutgoingMessage| {
            message.to_wire("demo", 0).system_properties.unwrap().message_type()
        };
        let plain = || OutgoingMessage::new("x");
        let at = Some(SystemTime::now());
        assert_eq!(kind(plain()), MessageType::Normal);
        let fifo = OutgoingMessage { message_group: Some("g".to_owned()), ..plain() };
        assert_eq!(kind(fifo), MessageType::Fifo);
        assert_eq!(kind(OutgoingMessage { deliver_at: at, ..plain() }), MessageType::Delay);
        assert_eq!(kind(OutgoingMessage { priority: Some(0), ..plain() }), MessageType::Priority);
        let lite = OutgoingMessage { lite_topic: Some("l".to_owned()), ..plain() };
        assert_eq!(kind(lite), MessageType::Lite);
    }

    #[test]
    fn the_digest_tells_a_damaged_body() {
        assert!(!received(md5("5D41402ABC4B2A76B9719D911017C592")).is_corrupted);
        assert!(received(md5("00000000000000000000000000000000")).is_corrupted);
        assert!(!received(None).is_corrupted);
    }
}
