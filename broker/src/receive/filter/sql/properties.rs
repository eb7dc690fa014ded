//! What a condition can see of a message: its user properties, and what RocketMQ keeps as properties
//! beside them, under RocketMQ's names.

use std::borrow::Cow;

use prost_types::Timestamp;
use raftmq_proto::v2;

/// Texts by name.
pub trait Properties {
    /// The property of that name, if it is set.
    fn property(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl Properties for v2::Message {
    fn property(&self, name: &str) -> Option<Cow<'_, str>> {
        let system = self.system_properties.as_ref().and_then(|it| system_property(it, name));
        // Some of those names are free for producers, where the system does not use them.
        system.or_else(|| self.user_properties.get(name).map(|text| Cow::Borrowed(text.as_str())))
    }
}

fn system_property<'a>(properties: &'a v2::SystemProperties, name: &str) -> Option<Cow<'a, str>> {
    let origin = properties.dead_letter_queue.as_ref();
    match name {
        "TAGS" => set(properties.tag.as_deref()?),
        "KEYS" => match properties.keys.as_slice() {
            [] => None,
            [key] => set(key),
            keys => Some(Cow::Owned(keys.join(" "))),
        },
        "UNIQ_KEY" => set(&properties.message_id),
        "__SHARDINGKEY" => set(properties.message_group.as_deref()?),
        "TIMER_DELIVER_MS" => milliseconds(properties.delivery_timestamp.as_ref()?),
        "BORN_TIMESTAMP" => milliseconds(properties.born_timestamp.as_ref()?),
        "__BORNHOST" => set(&properties.born_host),
        "TRACE_CONTEXT" => set(properties.trace_context.as_deref()?),
        "DLQ_ORIGIN_TOPIC" => set(&origin?.topic),
        "DLQ_ORIGIN_MESSAGE_ID" => set(&origin?.message_id),
        _ => None,
    }
}

/// An empty field is one that was not sent.
fn set(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// Milliseconds since 1970.
fn milliseconds(time: &Timestamp) -> Option<Cow<'static, str>> {
    let seconds_ms = time.seconds.checked_mul(1000)?;
    let time_ms = seconds_ms.checked_add(i64::from(time.nanos) / 1_000_000)?;
    Some(Cow::Owned(time_ms.to_string()))
}
