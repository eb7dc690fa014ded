//! What happened in a run: one line of JSON for each thing that somebody did or saw.
//!
//! An operation is two lines: `invoke` when it began, and `ok`, `fail` or `unknown` when it ended, of
//! the same process. *fail* is said only of what certainly did not happen; a timeout or a broken
//! connection is *unknown*, and such an operation may take effect at any later time. A process does
//! one operation at a time. Observations (the state of a node, what a replica has stored, a fault)
//! are single `info` lines.
//!
//! Order is that of `time_ns`, the monotonic clock of the harness, which is also the order of lines.
//! Clocks of nodes are never used.

mod foreign;
mod recorder;

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

pub use self::foreign::Foreign;
pub use self::recorder::{Operation, Recorder, monotonic_ns};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the history, from 0.
    pub index: u64,
    /// Nanoseconds since the run began.
    pub time_ns: u64,
    /// Milliseconds since 1970, to find the place in a log.
    pub wall_ms: u64,
    /// Who did it: each does one operation at a time. 0 is the harness itself.
    pub process: u32,
    /// Begin, end or observation.
    pub phase: Phase,
    /// What was done or seen. Of an `invoke`, the fields that only an answer can fill are absent.
    #[serde(flatten)]
    pub action: Action,
    /// The node that was asked, or that the observation is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why it failed or is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where in an operation a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It begins.
    Invoke,
    /// It took effect.
    Ok,
    /// It certainly did not, and never will.
    Fail,
    /// Nobody knows; it may yet.
    Unknown,
    /// An observation.
    Info,
}

/// What was done or seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub enum Action {
    /// A message is sent. `value` is the body, different for each send of a run.
    Send {
        /// Its topic.
        topic: String,
        /// Its body.
        value: String,
        /// The id the client gave it; a repetition of the send has the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
        /// Its place in the queue, as acknowledged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        /// What is to become of it.
        #[serde(default, skip_serializing_if = "Kind::is_normal")]
        kind: Kind,
    },
    /// Messages are received; the answer has the deliveries.
    Receive {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// What came.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deliveries: Vec<Delivery>,
        /// For how long the messages are invisible to others, in milliseconds.
        #[serde(default)]
        invisible_ms: u64,
        /// A receive that repeats another one has the same, and may bring the same deliveries.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt_id: Option<String>,
    },
    /// A client says to which lite topics it subscribes.
    Subscribe {
        /// The consumer group.
        group: String,
        /// The topic whose lite topics these are.
        topic: String,
        /// All that it subscribes to from then on.
        lite_topics: Vec<String>,
    },
    /// A delivery is acknowledged: the group is done with the message.
    Ack {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// Body of the message.
        value: String,
        /// Of which attempt the receipt is.
        attempt: u32,
    },
    /// A delivery is to be invisible to others for another time, counted from when that takes effect.
    ChangeInvisible {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// Body of the message.
        value: String,
        /// Of which attempt the receipt is.
        attempt: u32,
        /// For how long, in milliseconds.
        invisible_ms: u64,
    },
    /// A consumer gives up on a delivery: the message is to be a dead letter of its group.
    DeadLetter {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// Body of the message.
        value: String,
        /// Of which attempt the receipt is.
        attempt: u32,
    },
    /// A delayed message is taken back, by the handle that its producer was given.
    Recall {
        /// The topic.
        topic: String,
        /// Body of the message.
        value: String,
    },
    /// A producer decides about a half message.
    EndTransaction {
        /// The topic.
        topic: String,
        /// Body of the message.
        value: String,
        /// Commit, otherwise rollback.
        commit: bool,
        /// Whether the broker had asked.
        checked: bool,
        /// Whether it failed by a broker's word, rather than because none was reached.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
    },
    /// A broker asks a producer about a half message.
    Check {
        /// The topic.
        topic: String,
        /// Body of the message.
        value: String,
    },
    /// How many half messages of a topic wait for a decision, as operators are told.
    Undecided {
        /// The topic.
        topic: String,
        /// How many.
        count: u64,
    },
    /// Messages are read from a place that the client keeps itself; nothing is handed out.
    Pull {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// The queue.
        queue_id: u32,
        /// From where on.
        from_offset: u64,
        /// What came.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deliveries: Vec<Delivery>,
        /// Where to go on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_offset: Option<u64>,
    },
    /// A client that pulls says how far it is.
    UpdateOffset {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// The queue.
        queue_id: u32,
        /// Everything before it is consumed.
        offset: u64,
    },
    /// A client that pulls asks how far its group is.
    GetOffset {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// The queue.
        queue_id: u32,
        /// The answer. Absent: the group has never said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    },
    /// A client asks for a place in a queue.
    QueryOffset {
        /// The topic.
        topic: String,
        /// The queue.
        queue_id: u32,
        /// The first message stored at this time or later, in milliseconds since 1970: 0 is the
        /// first of all. Absent: the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since_ms: Option<u64>,
        /// The answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    },
    /// How a consumer group was made.
    Group {
        /// The consumer group.
        group: String,
        /// Deliveries after which a message is a dead letter.
        max_attempts: u32,
        /// Whether messages of a message group come one after the other.
        fifo: bool,
    },
    /// A topic or group is made, deleted or looked at.
    Admin {
        /// `topic` or `group`.
        kind: String,
        /// Its name.
        name: String,
        /// `create`, `delete` or `read`.
        verb: String,
        /// Whether it existed: before the change, or when it was read. `create` that found it, and
        /// `delete` that did not, changed nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        existed: Option<bool>,
    },
    /// One message that a replica has in a queue, read at `node` itself.
    Stored {
        /// The topic.
        topic: String,
        /// The queue.
        queue_id: u32,
        /// Its place.
        offset: u64,
        /// Its body.
        value: String,
        /// Its id.
        message_id: String,
        /// Of a dead letter: where it comes from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    },
    /// How far a group is in a queue, read at `node`.
    Progress {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// The queue.
        queue_id: u32,
        /// Everything before it is consumed.
        commit_offset: u64,
        /// First offset that was never handed out.
        next_offset: u64,
        /// First offset the queue still has.
        min_offset: u64,
        /// Next offset to be written.
        max_offset: u64,
    },
    /// What `node` says of itself.
    Status {
        /// Its term.
        term: u64,
        /// `leader`, `candidate`, `follower`, `learner` or `stopped`.
        role: String,
        /// Whom it believes to lead; 0: nobody.
        leader_id: u64,
        /// Up to where it knows the log committed.
        commit_index: u64,
        /// Up to where it has applied the log.
        applied_index: u64,
        /// Running hash of everything applied.
        state_hash: u64,
    },
    /// One entry of the log as it lies in the files of `node`.
    Entry {
        /// Its index.
        log_index: u64,
        /// Its term.
        term: u64,
        /// Checksum of its frame.
        crc32c: u32,
    },
    /// A fault begins or ends.
    Fault {
        /// Its name, as in `chaos list`.
        name: String,
        /// Nodes or links it is about.
        targets: Vec<String>,
        /// Begin or end.
        stage: Stage,
        /// At the end: whether it had any effect.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bit: Option<bool>,
        /// What shows that it had (or not).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<String>,
        /// Its settings.
        #[serde(default)]
        parameters: serde_json::Value,
    },
    /// A part of the run begins: `warm_up`, `faults`, `healed`, `stop`, `drain`,
    /// `drained`, `end`.
    Mark {
        /// Which.
        what: String,
    },
}

/// Begin or end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// From here on.
    Begin,
    /// Until here.
    End,
}

/// One message handed to a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its body.
    pub value: String,
    /// Its id.
    pub message_id: String,
    /// How many times it was handed out, this one included.
    pub attempt: u32,
    /// The queue, if the client tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<u32>,
    /// Its place in the queue, if the client tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// What is to become of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is delivered.
    #[default]
    Normal,
    /// It is delivered after those of its message group that were sent before it.
    Fifo {
        /// The message group.
        message_group: String,
    },
    /// It is delivered to those who subscribe to its lite topic, after those that were sent to that before.
    Lite {
        /// The lite topic.
        lite_topic: String,
    },
    /// It is delivered when it is due.
    Delay {
        /// Milliseconds since 1970, by the clock of the harness.
        due_ms: u64,
    },
    /// It is delivered when its producer says so.
    Half {
        /// How long the broker is to wait before it asks, in milliseconds. 0: as the broker does.
        recovery_ms: u64,
    },
}

impl Kind {
    fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}

/// Where a dead letter comes from, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The id it had there.
    pub message_id: String,
}

/// Reads a history. The last line may be incomplete after a crash; any other fault is an error.
pub fn read(path: &Path) -> anyhow::Result<Vec<Event>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{} line {}: {line}", path.display(), number + 1))
    };
    whole.lines().enumerate().map(parse).collect()
}

/// Writes a history into a new file.
pub fn write(path: &Path, events: &[Event]) -> anyhow::Result<()> {
    let file = std::fs::File::create_new(path).with_context(|| path.display().to_string())?;
    let mut file = std::io::BufWriter::new(file);
    for event in events {
        serde_json::to_writer(&mut file, event)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}
