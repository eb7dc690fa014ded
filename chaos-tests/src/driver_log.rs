//! What was seen: lines that producers and consumers logged, and what the topic held afterwards.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The outcome of one send, as the application saw it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Send {
    /// When the application called send and when it had the answer; milliseconds since 1970.
    #[serde(rename = "t_ms")]
    pub begin_ms: u64,
    /// See `begin_ms`.
    pub end_ms: u64,
    /// The same by the monotonic clock of the machine, in nanoseconds, if the driver tells.
    pub begin_ns: Option<u64>,
    /// See `begin_ns`.
    pub end_ns: Option<u64>,
    /// The body, different for every send of a run.
    #[serde(rename = "v")]
    pub value: String,
    /// Acknowledged. Otherwise the outcome is not known: the message may have been stored.
    pub ok: bool,
    /// Id of the message, if acknowledged.
    pub id: Option<String>,
    /// What the client said, if not.
    #[serde(rename = "err")]
    pub error: Option<String>,
}

/// One message as a consumer got it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Delivery {
    /// When it was logged, milliseconds since 1970.
    #[serde(rename = "t_ms")]
    pub at_ms: u64,
    /// The body.
    #[serde(rename = "v")]
    pub value: String,
    /// Id of the message.
    pub id: String,
    /// How many times it was handed out, this one included.
    pub attempt: u32,
    /// The application is done with it, and has said so or will as soon as it can.
    pub acked: bool,
    /// When the application asked for messages, by the monotonic clock of the machine, in
    /// nanoseconds, if the driver tells. A push consumer asks by itself, nobody knows when.
    pub begin_ns: Option<u64>,
    /// When the application had the message.
    pub end_ns: Option<u64>,
    /// For how long it asked the message to be invisible to others.
    pub invisible_ms: Option<u64>,
    /// When the application acknowledged it and when it had the answer. A push consumer
    /// acknowledges by itself.
    pub ack_begin_ns: Option<u64>,
    /// See `ack_begin_ns`.
    pub ack_end_ns: Option<u64>,
    /// Why it is not acknowledged.
    #[serde(rename = "err")]
    pub error: Option<String>,
}

/// One message that lies in a queue.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The queue.
    pub queue_id: u32,
    /// Where in the queue.
    pub offset: u64,
    /// Id of the message.
    pub id: String,
    /// The body.
    pub value: String,
}

/// Reads a log of `produce`.
pub fn sends(path: &Path) -> anyhow::Result<Vec<Send>> {
    read_lines(path)
}

/// Reads a log of `consume`.
pub fn deliveries(path: &Path) -> anyhow::Result<Vec<Delivery>> {
    read_lines(path)
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let parse = |(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{} line {}: {line}", path.display(), number + 1))
    };
    // The writer may be in the middle of its last line; whoever needs that line misses it.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().enumerate().map(parse).collect()
}
