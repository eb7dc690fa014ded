//! Sends: each message comes into its queue, waits for its time, or waits for its transaction.

use bytes::Bytes;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;

use super::CommandReply;
use super::NO_OFFSET;
use super::Outcome;
use super::Rejection;
use super::Sent;
use super::State;
use super::Step;
use super::Unit;
use super::keys;
use crate::command::NewMessage;
use crate::command::Release;
use crate::command::Send;
use crate::state;
use crate::state::DEDUP_WINDOW_MS;

impl Step<'_> {
    pub(super) fn send(&mut self, state: &mut State, send: Send) -> Outcome {
        let topic = state.topics.get(&send.topic_id).ok_or(Rejection::TopicNotFound)?;
        let mut queue_ids = send.messages.iter().map(|message| message.queue_id);
        if queue_ids.any(|id| state::is_lite(id) && topic.queue(id).is_none()) {
            return Err(Rejection::LiteTopicGone);
        }
        let mut sent = Vec::with_capacity(send.messages.len());
        for mut message in send.messages {
            if planted(Bug::DedupNotReplicated) {
                let term = self.position.term.to_be_bytes();
                message.message_id = [&term[..], &message.message_id].concat().into();
            }
            sent.push(match self.sent_before(send.topic_id, &message.message_id) {
                Some(first) => first,
                None => self.store_message(state, send.topic_id, message)?,
            });
        }
        Ok(CommandReply::Sent(sent))
    }

    fn store_message(
        &mut self,
        state: &mut State,
        topic_id: u32,
        message: NewMessage,
    ) -> Result<Sent, Rejection> {
        let unit = Unit {
            log_index: self.position.index,
            offset: message.record_offset,
            length: message.record.len() as u32,
            tag_hash: message.tag_hash,
            group_hash: message.group_hash,
            stored_ms: self.time_ms,
            dead_letter: false,
            moved_at: None,
        };
        let waiting =
            |queue_id, timer| Sent { queue_id, offset: NO_OFFSET, repeated: false, timer };
        let queue_id = message.queue_id;
        let sent = match message.release {
            Release::At(due_ms) if due_ms > self.time_ms => {
                let timer = self.delay(state, topic_id, due_ms, unit, &message);
                waiting(queue_id, Some(timer))
            }
            // Its id is forgotten, the transaction is not: the first half message stays.
            Release::OnCommit(_) if self.is_pending(topic_id, &message.message_id) => {
                return Ok(Sent { repeated: true, ..waiting(queue_id, None) });
            }
            Release::OnCommit(check_ms) if !planted(Bug::HalfMessageVisible) => {
                self.begin_transaction(state, topic_id, check_ms, unit, &message);
                waiting(queue_id, None)
            }
            Release::AtOnce | Release::At(_) | Release::OnCommit(_) => {
                let place = self.place(state, topic_id, queue_id, unit);
                let (queue_id, offset) = place.ok_or(Rejection::TopicNotFound)?;
                self.note_keys(topic_id, (queue_id, offset), &message.key_hashes);
                Sent { queue_id, offset, repeated: false, timer: None }
            }
        };
        self.remember(topic_id, &message.message_id, &sent);
        Ok(sent)
    }

    /// Where the message was stored, when its id was seen within the window.
    fn sent_before(&self, topic_id: u32, message_id: &Bytes) -> Option<Sent> {
        let too_short = planted(Bug::MessageIdWindowTooShort);
        let window_ms = if too_short { 2_000 } else { DEDUP_WINDOW_MS };
        let window_start = self.time_ms.saturating_sub(window_ms);
        let buckets = window_start / keys::BUCKET_MS..=self.time_ms / keys::BUCKET_MS;
        for bucket in buckets.rev() {
            let key = keys::message_id_key(bucket * keys::BUCKET_MS, topic_id, message_id);
            if let Some(value) = self.get(&key)
                && keys::u64_at(&value, 12) >= window_start
            {
                let (queue_id, offset) = (keys::u32_at(&value, 0), keys::u64_at(&value, 4));
                let timer = (value.len() > 20).then(|| keys::timer_at(&value, 20));
                return Some(Sent { queue_id, offset, repeated: true, timer });
            }
        }
        None
    }

    pub(super) fn remember(&mut self, topic_id: u32, message_id: &[u8], sent: &Sent) {
        let mut value = Vec::with_capacity(20 + keys::TIMER_BYTES);
        value.extend_from_slice(&sent.queue_id.to_be_bytes());
        value.extend_from_slice(&sent.offset.to_be_bytes());
        value.extend_from_slice(&self.time_ms.to_be_bytes());
        if let Some(timer) = &sent.timer {
            keys::put_timer(&mut value, timer);
        }
        self.set(keys::message_id_key(self.time_ms, topic_id, message_id), value);
    }
}
