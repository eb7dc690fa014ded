//! Checks of what clients send, with the codes and limits of the client API.
//!
//! Step: 1 of the message path. From here on only checked messages travel: a [`Parsed`] is stored as
//! it is.

use std::time::Duration;

use md5::Digest;
use md5::Md5;
use prost::Message;
use raftmq_proto::names;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::MessageType;

use super::status::Refusal;
use super::status::illegal_topic;
use crate::command::NewMessage;
use crate::command::Release;
use crate::command::group_hash;
use crate::command::key_hashes;
use crate::command::tag_hash;
use crate::lite;

/// Largest body, as it arrives (compressed bodies count compressed).
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Largest message with everything in it. Also bounds what has no limit of its own, such as trace
/// contexts and namespaces.
const RECORD_BYTES_MAX: usize = BODY_BYTES_MAX + (64 << 10);
/// Most messages of one request: they become one command of one log entry.
const MESSAGES_MAX: usize = 1024;
/// Most bytes of all messages of one request.
const REQUEST_BYTES_MAX: usize = 16 << 20;
const USER_PROPERTIES_MAX: usize = 128;
const PROPERTY_BYTES_MAX: usize = 16 << 10;
const MESSAGE_GROUP_BYTES_MAX: usize = 63;
const MESSAGE_ID_BYTES_MAX: usize = 1 << 10;
const RECOVERY_MAX_S: i64 = 3600;

/// Names that user properties must not have.
const RESERVED_PROPERTIES: &[&str] = &[
    "TRACE_ON",
    "MSG_REGION",
    "KEYS",
    "TAGS",
    "WAIT",
    "DELAY",
    "RETRY_TOPIC",
    "REAL_TOPIC",
    "REAL_QID",
    "TRAN_MSG",
    "PGROUP",
    "MIN_OFFSET",
    "MAX_OFFSET",
    "BUYER_ID",
    "ORIGIN_MESSAGE_ID",
    "TRANSFER_FLAG",
    "CORRECTION_FLAG",
    "MQ2_FLAG",
    "RECONSUME_TIME",
    "UNIQ_KEY",
    "MAX_RECONSUME_TIMES",
    "CONSUME_START_TIME",
    "POP_CK",
    "POP_CK_OFFSET",
    "1ST_POP_TIME",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INSTANCE_ID",
    "CORRELATION_ID",
    "REPLY_TO_CLIENT",
    "TTL",
    "ARRIVE_TIME",
    "PUSH_REPLY_TIME",
    "CLUSTER",
    "MSG_TYPE",
    "INNER_MULTI_QUEUE_OFFSET",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_DEQUEUE_MS",
    "TIMER_ROLL_TIMES",
    "TIMER_OUT_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DELAY_LEVEL",
    "__BORNHOST",
    "BORN_TIMESTAMP",
    "DLQ_ORIGIN_TOPIC",
    "DLQ_ORIGIN_MESSAGE_ID",
    "__CRC32#",
];

/// Bounds of times in messages.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
    /// Longest delay.
    pub delay_max: Duration,
    /// How long a half message waits for its producer, when it does not say.
    pub transaction_timeout: Duration,
}

/// Messages that passed every check which does not need the state, as they will be stored.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Name of the topic.
    pub topic: String,
    /// What kind each message is, by its properties.
    pub types: Vec<MessageType>,
    /// The priority of each message that has one.
    pub priorities: Vec<Option<u32>>,
    /// The lite topic of each message that has one.
    pub lite_topics: Vec<Option<String>>,
    /// Ready to be stored but for the queue, which the leader chooses.
    pub messages: Vec<NewMessage>,
    /// As the clients gave them, for the answer.
    pub message_ids: Vec<String>,
}

/// Checks a SendMessage request.
///
/// # Errors
/// The code and sentence for the first thing that is wrong.
pub fn check(request: &v2::SendMessageRequest, times: &Times) -> Result<(), Refusal> {
    let count = request.messages.len();
    let Some(first) = request.messages.first() else {
        return Err(Refusal::new(Code::MessageCorrupted, "a send needs at least one message"));
    };
    if count > MESSAGES_MAX {
        let text = format!("{count} messages in one request; at most {MESSAGES_MAX} are taken");
        return Err(Refusal::new(Code::BadRequest, text));
    }
    names::topic(first.topic.as_ref().map_or("", |topic| &topic.name)).map_err(illegal_topic)?;
    let mut bytes = 0;
    for message in &request.messages {
        if message.topic != first.topic {
            let text = "all messages of a request must have the same topic";
            return Err(Refusal::new(Code::MessageCorrupted, text));
        }
        check_message(message, times)?;
        bytes += message.encoded_len();
        if bytes > REQUEST_BYTES_MAX {
            let text =
                format!("the messages of a request add up to more than {REQUEST_BYTES_MAX} bytes");
            return Err(Refusal::new(Code::PayloadTooLarge, text));
        }
    }
    Ok(())
}

/// Adds where the messages come from, unless they say it themselves.
pub fn note_born_host(request: &mut v2::SendMessageRequest, born_host: &str) {
    for properties in request.messages.iter_mut().filter_map(|it| it.system_properties.as_mut()) {
        if properties.born_host.is_empty() {
            born_host.clone_into(&mut properties.born_host);
        }
    }
}

/// Makes what is stored of a request that was checked; `store_host` is this node's client address.
/// `times` are the leader's.
///
/// # Errors
/// A message is too large with what is added to it.
pub fn parse(
    request: v2::SendMessageRequest,
    store_host: &str,
    times: &Times,
) -> Result<Parsed, Refusal> {
    let count = request.messages.len();
    let mut parsed = Parsed {
        topic: String::new(),
        types: Vec::with_capacity(count),
        priorities: Vec::with_capacity(count),
        lite_topics: Vec::with_capacity(count),
        messages: Vec::with_capacity(count),
        message_ids: Vec::with_capacity(count),
    };
    for message in request.messages {
        if parsed.topic.is_empty() {
            parsed.topic = message.topic.as_ref().map_or_else(String::new, |it| it.name.clone());
        }
        let empty = v2::SystemProperties::default();
        let properties = message.system_properties.as_ref().unwrap_or(&empty);
        let message_type = message_type(properties);
        parsed.types.push(message_type);
        parsed.priorities.push(properties.priority.and_then(|it| u32::try_from(it).ok()));
        let tag_hash = tag_hash(properties.tag.as_deref());
        parsed.lite_topics.push(properties.lite_topic.clone());
        // The messages of a lite topic have an order, too.
        let order = properties.message_group.as_deref().or(properties.lite_topic.as_deref());
        let group_hash = group_hash(order);
        let key_hashes = key_hashes(&properties.keys);
        let release = release(properties, times);
        let message_id = properties.message_id.clone();
        let record = record(message, message_type, store_host).encode_to_vec();
        if record.len() > RECORD_BYTES_MAX {
            let text = format!(
                "a message of {} bytes with all its properties; at most {RECORD_BYTES_MAX} are taken",
                record.len()
            );
            return Err(Refusal::new(Code::MessagePropertiesTooLarge, text));
        }
        parsed.messages.push(NewMessage {
            queue_id: 0,
            tag_hash,
            group_hash,
            key_hashes,
            release,
            message_id: message_id.clone().into(),
            record: record.into(),
            record_offset: 0,
        });
        parsed.message_ids.push(message_id);
    }
    Ok(parsed)
}

/// The checks of one message, in the order of the reference server.
fn check_message(message: &v2::Message, times: &Times) -> Result<(), Refusal> {
    let empty = v2::SystemProperties::default();
    let properties = message.system_properties.as_ref().unwrap_or(&empty);
    body(&message.body)?;
    user_properties(message)?;
    if let Some(tag) = properties.tag.as_deref() {
        check_tag(tag)?;
    }
    for key in &properties.keys {
        if is_blank(key) || has_control(key) {
            let text = "a message key must not be blank or hold control characters";
            return Err(Refusal::new(Code::IllegalMessageKey, text));
        }
    }
    property_bytes(message, properties)?;
    if properties.message_id.trim().is_empty() {
        return Err(Refusal::new(Code::IllegalMessageId, "the message id must not be blank"));
    }
    if properties.message_id.len() > MESSAGE_ID_BYTES_MAX {
        let text = format!(
            "a message id of {} bytes; at most {MESSAGE_ID_BYTES_MAX} are taken",
            properties.message_id.len()
        );
        return Err(Refusal::new(Code::IllegalMessageId, text));
    }
    recovery(properties)?;
    delivery(properties, times)?;
    properties.message_group.as_deref().map_or(Ok(()), check_message_group)?;
    properties.lite_topic.as_deref().map_or(Ok(()), lite::check_name)?;
    if properties.priority.is_some_and(|priority| priority < 0) {
        return Err(Refusal::new(Code::BadRequest, "a priority must not be negative"));
    }
    one_kind(properties)
}

/// What makes a message special excludes each other: an order, a time, a decision.
fn one_kind(properties: &v2::SystemProperties) -> Result<(), Refusal> {
    let kinds = [
        (properties.message_type() == MessageType::Transaction, "a transaction"),
        (properties.delivery_timestamp.is_some(), "a delivery time"),
        (properties.message_group.is_some(), "a message group"),
        (properties.lite_topic.is_some(), "a lite topic"),
        (properties.priority.is_some(), "a priority"),
    ];
    let mut kinds = kinds.iter().filter(|(has, _)| *has).map(|(_, kind)| kind);
    if let (Some(one), Some(other)) = (kinds.next(), kinds.next()) {
        let text = format!("a message can not have both {one} and {other}");
        return Err(Refusal::new(Code::MessagePropertyConflictWithType, text));
    }
    Ok(())
}

fn body(body: &[u8]) -> Result<(), Refusal> {
    if body.is_empty() {
        return Err(Refusal::new(Code::MessageBodyEmpty, "the message body must not be empty"));
    }
    if body.len() > BODY_BYTES_MAX {
        let text =
            format!("a message body of {} bytes; at most {BODY_BYTES_MAX} are taken", body.len());
        return Err(Refusal::new(Code::MessageBodyTooLarge, text));
    }
    Ok(())
}

fn user_properties(message: &v2::Message) -> Result<(), Refusal> {
    let count = message.user_properties.len();
    if count > USER_PROPERTIES_MAX {
        let text = format!("{count} user properties; at most {USER_PROPERTIES_MAX} are taken");
        return Err(Refusal::new(Code::MessagePropertiesTooLarge, text));
    }
    for (key, value) in &message.user_properties {
        if RESERVED_PROPERTIES.contains(&key.as_str()) {
            let text = format!("the property name {key} is reserved");
            return Err(Refusal::new(Code::IllegalMessagePropertyKey, text));
        }
        if has_control(key) || has_control(value) {
            let text = "a property must not hold control characters";
            return Err(Refusal::new(Code::IllegalMessagePropertyKey, text));
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), Refusal> {
    let fault = if is_blank(tag) {
        "must not be blank"
    } else if tag.contains('|') {
        "must not hold a |"
    } else if has_control(tag) {
        "must not hold control characters"
    } else {
        return Ok(());
    };
    Err(Refusal::new(Code::IllegalMessageTag, format!("a message tag {fault}")))
}

fn property_bytes(message: &v2::Message, properties: &v2::SystemProperties) -> Result<(), Refusal> {
    let user: usize =
        message.user_properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    let keys: usize = properties.keys.iter().map(String::len).sum();
    let bytes = user + keys + properties.tag.as_ref().map_or(0, String::len);
    if bytes > PROPERTY_BYTES_MAX {
        let text = format!("{bytes} bytes of properties; at most {PROPERTY_BYTES_MAX} are taken");
        return Err(Refusal::new(Code::MessagePropertiesTooLarge, text));
    }
    Ok(())
}

fn recovery(properties: &v2::SystemProperties) -> Result<(), Refusal> {
    let seconds = properties.orphaned_transaction_recovery_duration.map_or(0, |d| d.seconds);
    if seconds > RECOVERY_MAX_S {
        let text =
            format!("a recovery duration of {seconds} s; at most {RECOVERY_MAX_S} are taken");
        return Err(Refusal::new(Code::BadRequest, text));
    }
    Ok(())
}

fn delivery(properties: &v2::SystemProperties, times: &Times) -> Result<(), Refusal> {
    let Some(time) = properties.delivery_timestamp else { return Ok(()) };
    let delay_max_ms = times.delay_max.as_millis() as u64;
    if due_ms(time) > times.now_ms.saturating_add(delay_max_ms) {
        let text = format!("the delivery time lies more than {} s ahead", delay_max_ms / 1000);
        return Err(Refusal::new(Code::IllegalDeliveryTime, text));
    }
    Ok(())
}

/// Milliseconds since 1970, rounded up: never early. What lies before 1970 is due.
fn due_ms(time: prost_types::Timestamp) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let nanos = u64::try_from(time.nanos).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos.div_ceil(1_000_000))
}

/// When consumers may see the message.
fn release(properties: &v2::SystemProperties, times: &Times) -> Release {
    if properties.message_type() == MessageType::Transaction {
        let recovery = properties.orphaned_transaction_recovery_duration;
        let own = recovery.and_then(|it| Duration::try_from(it).ok()).filter(|it| !it.is_zero());
        let timeout = own.unwrap_or(times.transaction_timeout);
        return Release::OnCommit(times.now_ms + timeout.as_millis() as u64);
    }
    properties.delivery_timestamp.map_or(Release::AtOnce, |time| Release::At(due_ms(time)))
}

fn check_message_group(group: &str) -> Result<(), Refusal> {
    check_label("a message group", group, MESSAGE_GROUP_BYTES_MAX, Code::IllegalMessageGroup)
}

/// Checks a text that producers choose to order or place messages by.
///
/// # Errors
/// `code`: it is blank, too long, or holds control characters.
pub(crate) fn check_label(
    what: &str,
    text: &str,
    bytes_max: usize,
    code: Code,
) -> Result<(), Refusal> {
    let fault = if text.trim().is_empty() {
        "must not be blank".to_owned()
    } else if text.len() > bytes_max {
        format!("has {} bytes; at most {bytes_max} are taken", text.len())
    } else if has_control(text) {
        "must not hold control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::new(code, format!("{what} {fault}")))
}

/// What a message is, by its properties: the type the client names may be wrong.
fn message_type(properties: &v2::SystemProperties) -> MessageType {
    if properties.message_type() == MessageType::Transaction {
        MessageType::Transaction
    } else if properties.delivery_timestamp.is_some() {
        MessageType::Delay
    } else if properties.message_group.is_some() {
        MessageType::Fifo
    } else if properties.lite_topic.is_some() {
        MessageType::Lite
    } else if properties.priority.is_some() {
        MessageType::Priority
    } else {
        MessageType::Normal
    }
}

/// What is stored: the message as sent, less what only has a meaning on the way, and with a digest
/// that consumers check.
fn record(message: v2::Message, message_type: MessageType, store_host: &str) -> v2::Message {
    let sent = message.system_properties.unwrap_or_default();
    let encoding = match sent.body_encoding {
        0 => v2::Encoding::Identity.into(),
        encoding => encoding,
    };
    let digest = v2::Digest {
        r#type: v2::DigestType::Md5.into(),
        checksum: format!("{:X}", Md5::digest(&message.body)),
    };
    let system_properties = v2::SystemProperties {
        tag: sent.tag.filter(|tag| !tag.is_empty()),
        keys: sent.keys,
        message_id: sent.message_id,
        body_digest: Some(digest),
        body_encoding: encoding,
        message_type: message_type.into(),
        delivery_timestamp: sent.delivery_timestamp,
        message_group: sent.message_group,
        lite_topic: sent.lite_topic,
        orphaned_transaction_recovery_duration: sent.orphaned_transaction_recovery_duration,
        priority: sent.priority,
        born_timestamp: sent.born_timestamp,
        born_host: sent.born_host,
        store_host: store_host.to_owned(),
        trace_context: sent.trace_context,
        ..Default::default()
    };
    v2::Message { system_properties: Some(system_properties), ..message }
}

/// Not empty, and nothing but white space.
fn is_blank(text: &str) -> bool {
    !text.is_empty() && text.trim().is_empty()
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const TIMES: Times = Times {
        now_ms: 1_000_000,
        delay_max: Duration::from_secs(86_400),
        transaction_timeout: Duration::from_secs(6),
    };

    fn message() -> v2::Message {
        v2::Message {
            topic: Some(v2::Resource { name: "orders".into(), ..Default::default() }),
            user_properties: HashMap::new(),
            system_properties: Some(v2::SystemProperties {
                message_id: "01".into(),
                ..Default::default()
            }),
            body: b"hello".as_slice().into(),
        }
    }

    fn code(change: impl FnOnce(&mut v2::Message, &mut v2::SystemProperties)) -> Code {
        let mut message = message();
        let mut properties = message.system_properties.take().unwrap();
        change(&mut message, &mut properties);
        message.system_properties = Some(properties);
        match check(&v2::SendMessageRequest { messages: vec![message] }, &TIMES) {
            Ok(()) => Code::Ok,
            Err(refusal) => refusal.code,
        }
    }

    #[test]
    fn every_bad_field_gets_its_code() {
        assert_eq!(code(|_, _| ()), Code::Ok);
        assert_eq!(code(|m, _| m.topic = None), Code::IllegalTopic);
        assert_eq!(code(|m, _| m.body = Default::default()), Code::MessageBodyEmpty);
        assert_eq!(
            code(|m, _| m.body = vec![0; BODY_BYTES_MAX + 1].into()),
            Code::MessageBodyTooLarge
        );
        assert_eq!(code(|m, _| m.body = vec![0; BODY_BYTES_MAX].into()), Code::Ok);
        assert_eq!(code(|_, p| p.message_id = " ".into()), Code::IllegalMessageId);
        assert_eq!(code(|_, p| p.tag = Some("a|b".into())), Code::IllegalMessageTag);
        assert_eq!(code(|_, p| p.tag = Some("  ".into())), Code::IllegalMessageTag);
        assert_eq!(code(|_, p| p.tag = Some("".into())), Code::Ok);
        assert_eq!(code(|_, p| p.keys = vec![" ".into()]), Code::IllegalMessageKey);
        assert_eq!(code(|_, p| p.keys = vec!["".into()]), Code::Ok);
        assert_eq!(code(|_, p| p.message_group = Some("g".repeat(64))), Code::IllegalMessageGroup);
        assert_eq!(code(|_, p| p.message_group = Some("g".repeat(63))), Code::Ok);
        let far = prost_types::Timestamp { seconds: 1_000 + 24 * 3600 + 1, nanos: 0 };
        assert_eq!(code(|_, p| p.delivery_timestamp = Some(far)), Code::IllegalDeliveryTime);
        let long = prost_types::Duration { seconds: 3601, nanos: 0 };
        assert_eq!(
            code(|_, p| p.orphaned_transaction_recovery_duration = Some(long)),
            Code::BadRequest
        );
    }

    #[test]
    fn a_message_has_one_kind() {
        let due = prost_types::Timestamp { seconds: 1_001, nanos: 1 };
        assert_eq!(code(|_, p| p.delivery_timestamp = Some(due)), Code::Ok);
        assert_eq!(code(|_, p| p.priority = Some(-1)), Code::BadRequest);
        let conflict = Code::MessagePropertyConflictWithType;
        assert_eq!(
            code(|_, p| {
                p.delivery_timestamp = Some(due);
                p.message_group = Some("g".into());
            }),
            conflict
        );
        assert_eq!(
            code(|_, p| {
                p.set_message_type(MessageType::Transaction);
                p.priority = Some(1);
            }),
            conflict
        );
    }

    #[test]
    fn a_due_time_is_rounded_up() {
        let times = [(1_001, 0, 1_001_000), (1_001, 1, 1_001_001), (-5, 7, 1)];
        for (seconds, nanos, ms) in times {
            assert_eq!(due_ms(prost_types::Timestamp { seconds, nanos }), ms);
        }
    }

    #[test]
    fn properties_have_limits() {
        let put = |key: &str, value: &str| {
            let (key, value) = (key.to_owned(), value.to_owned());
            code(move |m, _| drop(m.user_properties.insert(key, value)))
        };
        assert_eq!(put("k", "v"), Code::Ok);
        assert_eq!(put("KEYS", "v"), Code::IllegalMessagePropertyKey);
        assert_eq!(put("k", "\u{7}"), Code::IllegalMessagePropertyKey);
        assert_eq!(put("k", &"v".repeat(16 << 10)), Code::MessagePropertiesTooLarge);
        let many = |m: &mut v2::Message, _: &mut v2::SystemProperties| {
            m.user_properties = (0..129).map(|i| (format!("k{i}"), String::new())).collect();
        };
        assert_eq!(code(many), Code::MessagePropertiesTooLarge);
    }

    #[test]
    fn messages_of_one_request_share_a_topic() {
        let mut other = message();
        other.topic = Some(v2::Resource { name: "other".into(), ..Default::default() });
        let request = v2::SendMessageRequest { messages: vec![message(), other] };
        assert_eq!(check(&request, &TIMES).unwrap_err().code, Code::MessageCorrupted);
        let request = v2::SendMessageRequest { messages: vec![] };
        assert_eq!(check(&request, &TIMES).unwrap_err().code, Code::MessageCorrupted);
    }
}
