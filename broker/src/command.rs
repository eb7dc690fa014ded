//! Commands in the body of a log entry.
//!
//! An entry holds what arrived together. All integers are little-endian; the layouts also stand in
//! `docs/formats.md`.
//!
//! Entry body, 16 bytes and the commands:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version, 2 |
//! | 1 | 3 | zero |
//! | 4 | 4 | number of commands |
//! | 8 | 8 | leader's time, milliseconds since 1970 |
//!
//! Command, 8 bytes and its body: kind (1), zero (3), body length (4). The bodies of a send and of a
//! carry are laid out below; all others are protobuf messages (`raftmq/v1/command.proto`).
//!
//! Send: topic id (4), number of messages (4), then for each message:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | queue id |
//! | 4 | 4 | record length |
//! | 8 | 8 | hash of the tag, 0 without one |
//! | 16 | 8 | hash of the message group, 0 without one |
//! | 24 | 8 | milliseconds since 1970: when it is due, or first checked |
//! | 32 | 2 | length of the message id |
//! | 34 | 1 | release: 0 at once, 1 at that time, 2 when its transaction is committed |
//! | 35 | 1 | number of key hashes |
//! | 36 | … | key hashes (8 each), message id, then the record: an encoded `apache.rocketmq.v2.Message` |
//!
//! Carry: number of timers (4), then for each: due time (8), log index (8), offset (4), record length
//! (4), record.
//!
//! The record is what index entries point to: (log index, offset in the entry body, length).

use bytes::Buf;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use prost::Message;
use raftmq_proto::raftmq as wire;

const VERSION: u8 = 2;
/// The kind of a send; where messages are many, most bytes of the log belong to such.
pub(crate) const SEND: u8 = 1;
const ENTRY_HEADER_BYTES: usize = 16;
const COMMAND_HEADER_BYTES: usize = 8;
const MESSAGE_HEADER_BYTES: usize = 36;
const CARRIED_HEADER_BYTES: usize = 24;

/// Most keys of one message by which it can be found; more are kept, but not found by.
const KEY_HASHES_MAX: usize = u8::MAX as usize;

/// Most commands of one entry; receipt nonces count on it.
pub const COMMANDS_MAX: usize = 1024;

/// What the leader decided.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is described where its message is, in command.proto")]
pub enum Command {
    Send(Send),
    CreateTopic(wire::CreateTopic),
    DeleteTopic(wire::DeleteTopic),
    CreateGroup(wire::CreateGroup),
    DeleteGroup(wire::DeleteGroup),
    Checkout(wire::Checkout),
    Ack(wire::Ack),
    ChangeInvisible(wire::ChangeInvisible),
    DeadLetter(wire::DeadLetter),
    Renew(wire::Renew),
    ReleaseClient(wire::ReleaseClient),
    Trim(wire::Trim),
    ResetOffset(wire::ResetOffset),
    Subscribe(wire::Subscribe),
    Unsubscribe(wire::Unsubscribe),
    Fire(wire::Fire),
    Recall(wire::Recall),
    EndTransaction(wire::EndTransaction),
    Redrive(wire::Redrive),
    Discard(wire::Discard),
    Carry(Carry),
    UpdateTopic(wire::UpdateTopic),
    UpdateGroup(wire::UpdateGroup),
    CreateLiteTopics(wire::CreateLiteTopics),
    SubscribeLite(wire::SubscribeLite),
    ExpireLiteTopics(wire::ExpireLiteTopics),
}

/// Messages of one topic, stored all or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// The topic.
    pub topic_id: u32,
    /// At least one.
    pub messages: Vec<NewMessage>,
}

/// A message to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// The queue the leader chose.
    pub queue_id: u32,
    /// See [`tag_hash`].
    pub tag_hash: u64,
    /// See [`group_hash`].
    pub group_hash: u64,
    /// See [`key_hashes`].
    pub key_hashes: Vec<u64>,
    /// When consumers may see it.
    pub release: Release,
    /// The client's message id, at most 65,535 bytes.
    pub message_id: Bytes,
    /// The encoded message.
    pub record: Bytes,
    /// Where the record lies in the entry body; only known after decoding.
    pub record_offset: u32,
}

/// When consumers may see a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// As soon as it is stored.
    #[default]
    AtOnce,
    /// At this time, milliseconds since 1970.
    At(u64),
    /// When its transaction is committed; its producer is asked first at this time.
    OnCommit(u64),
}

/// Records whose timers outlive the segments they lie in, written anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Carry {
    /// At least one.
    pub records: Vec<Carried>,
}

/// One record that moves to the tail of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// Its timer.
    pub timer: wire::Timer,
    /// The encoded message.
    pub record: Bytes,
    /// Where the record lies in the entry body; only known after decoding.
    pub record_offset: u32,
}

/// Hash of a message group, which decides the queue; 0 stands for none.
pub fn group_hash(group: Option<&str>) -> u64 {
    match group {
        None | Some("") => 0,
        Some(group) => xxhash_rust::xxh3::xxh3_64(group.as_bytes()).max(1),
    }
}

/// Hash of a tag for filtering; 0 stands for no tag.
pub fn tag_hash(tag: Option<&str>) -> u64 {
    match tag {
        None | Some("") => 0,
        Some(tag) => xxhash_rust::xxh3::xxh3_64(tag.as_bytes()).max(1),
    }
}

/// Hash of a message key, for finding.
pub fn key_hash(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes())
}

/// Hashes of the keys of a message, each once: of at most the first 255 that are not empty.
pub fn key_hashes(keys: &[String]) -> Vec<u64> {
    let mut hashes = Vec::new();
    for key in keys.iter().filter(|key| !key.is_empty()).take(KEY_HASHES_MAX) {
        let hash = key_hash(key);
        if !hashes.contains(&hash) {
            hashes.push(hash);
        }
    }
    hashes
}

/// Why bytes are not an entry body. A committed entry that does not decode ends the process.
#[derive(Debug, thiserror::Error)]
#[error("not an entry body: {0}")]
pub struct DecodeError(String);

/// Encodes one command, with its header.
pub fn encode(command: &Command) -> Bytes {
    let (kind, body) = match command {
        Command::Send(send) => (SEND, encode_send(send)),
        Command::CreateTopic(message) => (2, message.encode_to_vec().into()),
        Command::DeleteTopic(message) => (3, message.encode_to_vec().into()),
        Command::CreateGroup(message) => (4, message.encode_to_vec().into()),
        Command::DeleteGroup(message) => (5, message.encode_to_vec().into()),
        Command::Checkout(message) => (6, message.encode_to_vec().into()),
        Command::Ack(message) => (7, message.encode_to_vec().into()),
        Command::ChangeInvisible(message) => (8, message.encode_to_vec().into()),
        Command::DeadLetter(message) => (9, message.encode_to_vec().into()),
        Command::Renew(message) => (10, message.encode_to_vec().into()),
        Command::ReleaseClient(message) => (11, message.encode_to_vec().into()),
        Command::Trim(message) => (12, message.encode_to_vec().into()),
        Command::ResetOffset(message) => (13, message.encode_to_vec().into()),
        Command::Subscribe(message) => (14, message.encode_to_vec().into()),
        Command::Unsubscribe(message) => (15, message.encode_to_vec().into()),
        Command::Fire(message) => (16, message.encode_to_vec().into()),
        Command::Recall(message) => (17, message.encode_to_vec().into()),
        Command::EndTransaction(message) => (18, message.encode_to_vec().into()),
        Command::Redrive(message) => (19, message.encode_to_vec().into()),
        Command::Discard(message) => (20, message.encode_to_vec().into()),
        Command::Carry(carry) => (21, encode_carry(carry)),
        Command::UpdateTopic(message) => (22, message.encode_to_vec().into()),
        Command::UpdateGroup(message) => (23, message.encode_to_vec().into()),
        Command::CreateLiteTopics(message) => (24, message.encode_to_vec().into()),
        Command::SubscribeLite(message) => (25, message.encode_to_vec().into()),
        Command::ExpireLiteTopics(message) => (26, message.encode_to_vec().into()),
    };
    let mut bytes = BytesMut::with_capacity(COMMAND_HEADER_BYTES + body.len());
    bytes.put_u8(kind);
    bytes.put_slice(&[0; 3]);
    bytes.put_u32_le(body.len() as u32);
    bytes.put_slice(&body);
    bytes.freeze()
}

fn encode_send(send: &Send) -> Bytes {
    let length: usize = send
        .messages
        .iter()
        .map(|message| {
            let keys = message.key_hashes.len() * 8;
            MESSAGE_HEADER_BYTES + keys + message.message_id.len() + message.record.len()
        })
        .sum();
    let mut bytes = BytesMut::with_capacity(8 + length);
    bytes.put_u32_le(send.topic_id);
    bytes.put_u32_le(send.messages.len() as u32);
    for message in &send.messages {
        bytes.put_u32_le(message.queue_id);
        bytes.put_u32_le(message.record.len() as u32);
        bytes.put_u64_le(message.tag_hash);
        bytes.put_u64_le(message.group_hash);
        let (release, time_ms) = match message.release {
            Release::AtOnce => (0, 0),
            Release::At(due_ms) => (1, due_ms),
            Release::OnCommit(check_ms) => (2, check_ms),
        };
        bytes.put_u64_le(time_ms);
        bytes.put_u16_le(message.message_id.len() as u16);
        bytes.put_u8(release);
        let key_hashes = &message.key_hashes[..message.key_hashes.len().min(KEY_HASHES_MAX)];
        bytes.put_u8(key_hashes.len() as u8);
        key_hashes.iter().for_each(|hash| bytes.put_u64_le(*hash));
        bytes.put_slice(&message.message_id);
        bytes.put_slice(&message.record);
    }
    bytes.freeze()
}

fn encode_carry(carry: &Carry) -> Bytes {
    let records = carry.records.iter();
    let length: usize = records.map(|it| CARRIED_HEADER_BYTES + it.record.len()).sum();
    let mut bytes = BytesMut::with_capacity(4 + length);
    bytes.put_u32_le(carry.records.len() as u32);
    for carried in &carry.records {
        bytes.put_u64_le(carried.timer.due_ms);
        bytes.put_u64_le(carried.timer.log_index);
        bytes.put_u32_le(carried.timer.offset);
        bytes.put_u32_le(carried.record.len() as u32);
        bytes.put_slice(&carried.record);
    }
    bytes.freeze()
}

/// Puts encoded commands into one entry body.
pub fn encode_entry(time_ms: u64, commands: &[Bytes]) -> Bytes {
    assert!(commands.len() <= COMMANDS_MAX, "{} commands in an entry", commands.len());
    let length: usize = commands.iter().map(Bytes::len).sum();
    let mut bytes = BytesMut::with_capacity(ENTRY_HEADER_BYTES + length);
    bytes.put_u8(VERSION);
    bytes.put_slice(&[0; 3]);
    bytes.put_u32_le(commands.len() as u32);
    bytes.put_u64_le(time_ms);
    for command in commands {
        bytes.put_slice(command);
    }
    bytes.freeze()
}

/// Takes an entry body apart: the leader's time and the commands.
///
/// # Errors
/// The bytes are not what [`encode_entry`] makes.
pub fn decode_entry(body: &Bytes) -> Result<(u64, Vec<Command>), DecodeError> {
    let (time_ms, commands) = decode_entry_of(body, |_| true)?;
    Ok((time_ms, commands.into_iter().map(|(_, command)| command).collect()))
}

/// Like [`decode_entry`], only commands of the kinds that are `wanted`: each with its position.
pub(crate) fn decode_entry_of(
    body: &Bytes,
    wanted: impl Fn(u8) -> bool,
) -> Result<(u64, Vec<(u64, Command)>), DecodeError> {
    let mut rest = body.clone();
    let short = || DecodeError("it ends too early".to_owned());
    if rest.len() < ENTRY_HEADER_BYTES {
        return Err(short());
    }
    let version = rest.get_u8();
    if version != VERSION {
        return Err(DecodeError(format!("version {version} instead of {VERSION}")));
    }
    rest.advance(3);
    let count = rest.get_u32_le() as usize;
    let time_ms = rest.get_u64_le();
    let mut commands = Vec::with_capacity(count.min(COMMANDS_MAX));
    for ordinal in 0..count {
        if rest.len() < COMMAND_HEADER_BYTES {
            return Err(short());
        }
        let kind = rest.get_u8();
        rest.advance(3);
        let length = rest.get_u32_le() as usize;
        if rest.len() < length {
            return Err(short());
        }
        let offset = body.len() - rest.len();
        let body = rest.split_to(length);
        if wanted(kind) {
            commands.push((ordinal as u64, decode(kind, body, offset)?));
        }
    }
    Ok((time_ms, commands))
}

fn decode(kind: u8, body: Bytes, offset: usize) -> Result<Command, DecodeError> {
    fn message<M: Message + Default>(body: Bytes) -> Result<M, DecodeError> {
        M::decode(body).map_err(|error| DecodeError(error.to_string()))
    }
    Ok(match kind {
        SEND => Command::Send(decode_send(body, offset)?),
        2 => Command::CreateTopic(message(body)?),
        3 => Command::DeleteTopic(message(body)?),
        4 => Command::CreateGroup(message(body)?),
        5 => Command::DeleteGroup(message(body)?),
        6 => Command::Checkout(message(body)?),
        7 => Command::Ack(message(body)?),
        8 => Command::ChangeInvisible(message(body)?),
        9 => Command::DeadLetter(message(body)?),
        10 => Command::Renew(message(body)?),
        11 => Command::ReleaseClient(message(body)?),
        12 => Command::Trim(message(body)?),
        13 => Command::ResetOffset(message(body)?),
        14 => Command::Subscribe(message(body)?),
        15 => Command::Unsubscribe(message(body)?),
        16 => Command::Fire(message(body)?),
        17 => Command::Recall(message(body)?),
        18 => Command::EndTransaction(message(body)?),
        19 => Command::Redrive(message(body)?),
        20 => Command::Discard(message(body)?),
        21 => Command::Carry(decode_carry(body, offset)?),
        22 => Command::UpdateTopic(message(body)?),
        23 => Command::UpdateGroup(message(body)?),
        24 => Command::CreateLiteTopics(message(body)?),
        25 => Command::SubscribeLite(message(body)?),
        26 => Command::ExpireLiteTopics(message(body)?),
        other => return Err(DecodeError(format!("command kind {other} is not known"))),
    })
}

fn decode_send(body: Bytes, offset: usize) -> Result<Send, DecodeError> {
    let short = || DecodeError("a send ends too early".to_owned());
    let total = body.len();
    let mut rest = body;
    if rest.len() < 8 {
        return Err(short());
    }
    let topic_id = rest.get_u32_le();
    let count = rest.get_u32_le() as usize;
    let mut messages = Vec::with_capacity(count.min(COMMANDS_MAX));
    for _ in 0..count {
        if rest.len() < MESSAGE_HEADER_BYTES {
            return Err(short());
        }
        let queue_id = rest.get_u32_le();
        let record_length = rest.get_u32_le() as usize;
        let tag_hash = rest.get_u64_le();
        let group_hash = rest.get_u64_le();
        let time_ms = rest.get_u64_le();
        let id_length = rest.get_u16_le() as usize;
        let release = match rest.get_u8() {
            0 => Release::AtOnce,
            1 => Release::At(time_ms),
            2 => Release::OnCommit(time_ms),
            other => return Err(DecodeError(format!("release {other} is not known"))),
        };
        let key_count = rest.get_u8() as usize;
        if rest.len() < key_count * 8 + id_length + record_length {
            return Err(short());
        }
        let key_hashes = (0..key_count).map(|_| rest.get_u64_le()).collect();
        let message_id = rest.split_to(id_length);
        let record_offset = (offset + total - rest.len()) as u32;
        let record = rest.split_to(record_length);
        messages.push(NewMessage {
            queue_id,
            tag_hash,
            group_hash,
            key_hashes,
            release,
            message_id,
            record,
            record_offset,
        });
    }
    Ok(Send { topic_id, messages })
}

fn decode_carry(body: Bytes, offset: usize) -> Result<Carry, DecodeError> {
    let short = || DecodeError("a carry ends too early".to_owned());
    let total = body.len();
    let mut rest = body;
    if rest.len() < 4 {
        return Err(short());
    }
    let count = rest.get_u32_le() as usize;
    let mut records = Vec::with_capacity(count.min(COMMANDS_MAX));
    for _ in 0..count {
        if rest.len() < CARRIED_HEADER_BYTES {
            return Err(short());
        }
        let timer = wire::Timer {
            due_ms: rest.get_u64_le(),
            log_index: rest.get_u64_le(),
            offset: rest.get_u32_le(),
        };
        let length = rest.get_u32_le() as usize;
        if rest.len() < length {
            return Err(short());
        }
        let record_offset = (offset + total - rest.len()) as u32;
        records.push(Carried { timer, record: rest.split_to(length), record_offset });
    }
    Ok(Carry { records })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(queue_id: u32, id: &str, record: &[u8]) -> NewMessage {
        NewMessage {
            queue_id,
            tag_hash: 5,
            group_hash: 6,
            key_hashes: vec![8; queue_id as usize],
            release: Release::At(7),
            message_id: Bytes::copy_from_slice(id.as_bytes()),
            record: Bytes::copy_from_slice(record),
            record_offset: 0,
        }
    }

    #[test]
    fn records_lie_where_the_decoder_says() {
        let send = Send {
            topic_id: 3,
            messages: vec![message(0, "a", b"one"), message(1, "bc", b"two!")],
        };
        let ack = Command::Ack(wire::Ack { receipt: None });
        let entry = encode_entry(77, &[encode(&ack), encode(&Command::Send(send))]);
        let (time_ms, commands) = decode_entry(&entry).unwrap();
        assert_eq!(time_ms, 77);
        assert_eq!(commands[0], ack);
        let Command::Send(send) = &commands[1] else { panic!("not a send") };
        for (message, record) in send.messages.iter().zip([&b"one"[..], b"two!"]) {
            let start = message.record_offset as usize;
            assert_eq!(&entry[start..start + message.record.len()], record);
            assert_eq!(message.key_hashes, vec![8; message.queue_id as usize]);
        }
    }

    #[test]
    fn keys_are_hashed_once_and_not_without_end() {
        let keys = ["a", "", "b", "a"].map(str::to_owned);
        assert_eq!(key_hashes(&keys), [key_hash("a"), key_hash("b")]);
        let many: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        assert_eq!(key_hashes(&many).len(), 255);
    }

    #[test]
    fn only_the_kinds_asked_for_are_decoded() {
        let send = Send { topic_id: 3, messages: vec![message(0, "a", b"one")] };
        let ack = Command::Ack(wire::Ack { receipt: None });
        let entry = encode_entry(77, &[encode(&Command::Send(send)), encode(&ack)]);
        let (_, commands) = decode_entry_of(&entry, |kind| kind != SEND).unwrap();
        assert_eq!(commands, [(1, ack)]);
    }

    #[test]
    fn carried_records_lie_where_the_decoder_says() {
        let timer = wire::Timer { due_ms: 1 << 41, log_index: 9, offset: 8 };
        let carried = |record: &'static [u8]| Carried {
            timer,
            record: Bytes::from_static(record),
            record_offset: 0,
        };
        let carry = Carry { records: vec![carried(b"one"), carried(b"two!")] };
        let entry = encode_entry(77, &[encode(&Command::Carry(carry))]);
        let (_, commands) = decode_entry(&entry).unwrap();
        let Command::Carry(carry) = &commands[0] else { panic!("not a carry") };
        for (carried, record) in carry.records.iter().zip([&b"one"[..], b"two!"]) {
            let start = carried.record_offset as usize;
            assert_eq!(carried.timer, timer);
            assert_eq!(&entry[start..start + carried.record.len()], record);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_entry(&Bytes::from(bytes));
        }
    }
}
