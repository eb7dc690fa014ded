//! Half messages: kept apart until their producer decides, asked for when it does not.
//!
//! A transaction ends exactly once. How it ended is remembered for a day, so that a late or repeated
//! decision is answered with what is true.

use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::ended_record::How;
use raftmq_proto::v2::TransactionResolution;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;

use super::Check;
use super::CommandReply;
use super::Fired;
use super::Outcome;
use super::Rejection;
use super::Sent;
use super::State;
use super::Step;
use super::Unit;
use super::keys;
use crate::state;
use crate::state::ENDED_WINDOW_MS;

impl Step<'_> {
    pub(super) fn begin_transaction(
        &mut self,
        state: &mut State,
        topic_id: u32,
        queue_id: u32,
        check_ms: u64,
        unit: Unit,
        transaction_id: &[u8],
    ) {
        let timer = self.set_check(state, topic_id, check_ms, &unit, transaction_id);
        let half = wire::HalfRecord {
            queue_id,
            unit: unit.encode().into(),
            stored_ms: self.time_ms,
            checks: 0,
            timer: Some(timer),
        };
        self.set(keys::half_key(topic_id, transaction_id), half.encode_to_vec());
    }

    fn set_check(
        &mut self,
        state: &mut State,
        topic_id: u32,
        check_ms: u64,
        unit: &Unit,
        transaction_id: &[u8],
    ) -> wire::Timer {
        let record = wire::TimerRecord {
            topic_id,
            queue_id: 0,
            unit: unit.encode().into(),
            message_id: transaction_id.to_vec().into(),
            check: true,
        };
        self.set_timer(state, check_ms, unit, &record)
    }

    /// Whether a transaction with this id waits for its producer.
    pub(super) fn is_pending(&self, topic_id: u32, transaction_id: &[u8]) -> bool {
        self.half(topic_id, transaction_id).is_some()
    }

    fn half(&self, topic_id: u32, transaction_id: &[u8]) -> Option<wire::HalfRecord> {
        self.get(&keys::half_key(topic_id, transaction_id)).map(|value| state::decode(&value))
    }

    pub(super) fn end_transaction(
        &mut self,
        state: &mut State,
        command: &wire::EndTransaction,
    ) -> Outcome {
        let (topic_id, transaction_id) = (command.topic_id, &command.transaction_id);
        if !state.topics.contains_key(&topic_id) {
            return Err(Rejection::TopicNotFound);
        }
        let Some(half) = self.half(topic_id, transaction_id) else {
            return self
                .ended_before(topic_id, transaction_id)
                .map(CommandReply::Ended)
                .ok_or_else(|| {
                    let id = String::from_utf8_lossy(transaction_id);
                    Rejection::TransactionNotFound(id.into_owned())
                });
        };
        let unit = Unit::decode(&half.unit);
        if let Some(timer) = &half.timer {
            self.remove_timer(timer, &unit);
        }
        let mut ended = wire::EndedRecord { ended_ms: self.time_ms, ..Default::default() };
        if command.resolution == i32::from(TransactionResolution::Commit) {
            let unit = self.moved(unit);
            let place = self.place(state, topic_id, half.queue_id, unit);
            let (queue_id, offset) = place.ok_or(Rejection::TopicNotFound)?;
            let sent = Sent { queue_id, offset, repeated: false, timer: None };
            self.remember(topic_id, transaction_id, &sent);
            ended.set_how(How::Committed);
            (ended.queue_id, ended.offset) = (queue_id, offset);
        } else {
            ended.set_how(How::RolledBack);
        }
        self.end(topic_id, transaction_id, &ended);
        Ok(CommandReply::Ended(ended))
    }

    fn end(&mut self, topic_id: u32, transaction_id: &[u8], ended: &wire::EndedRecord) {
        let kept = match ended.how() {
            How::Committed => planted(Bug::TransactionEndsTwice),
            _ => planted(Bug::CommitAfterRollback),
        };
        if !kept {
            self.unset(keys::half_key(topic_id, transaction_id));
        }
        self.set(keys::ended_key(self.time_ms, topic_id, transaction_id), ended.encode_to_vec());
    }

    fn ended_before(&self, topic_id: u32, transaction_id: &[u8]) -> Option<wire::EndedRecord> {
        let window_start = self.time_ms.saturating_sub(ENDED_WINDOW_MS);
        let mut buckets = (window_start / keys::BUCKET_MS..=self.time_ms / keys::BUCKET_MS).rev();
        buckets.find_map(|bucket| {
            let key = keys::ended_key(bucket * keys::BUCKET_MS, topic_id, transaction_id);
            self.get(&key).map(|value| state::decode(&value))
        })
    }

    /// A half message without a decision at its time: its producers are asked, or it is given up.
    pub(super) fn check(
        &mut self,
        state: &mut State,
        command: &wire::Fire,
        record: &wire::TimerRecord,
        unit: Unit,
        fired: &mut Fired,
    ) {
        let (topic_id, transaction_id) = (record.topic_id, &record.message_id);
        if !state.topics.contains_key(&topic_id) {
            // Gone with it, though not in the tables yet if this entry deleted it.
            return;
        }
        let Some(half) = self.half(topic_id, transaction_id) else { return };
        if half.checks >= command.check_max {
            let mut ended = wire::EndedRecord { ended_ms: self.time_ms, ..Default::default() };
            ended.set_how(How::GivenUp);
            self.end(topic_id, transaction_id, &ended);
            fired.given_up.push(topic_id);
            return;
        }
        let next_ms = self.time_ms + command.check_interval_ms.max(1);
        let timer = self.set_check(state, topic_id, next_ms, &unit, transaction_id);
        let half = wire::HalfRecord { checks: half.checks + 1, timer: Some(timer), ..half };
        self.set(keys::half_key(topic_id, transaction_id), half.encode_to_vec());
        fired.checks.push(Check { topic_id, transaction_id: transaction_id.clone(), unit });
    }

    /// The record of a half message lies elsewhere now.
    pub(super) fn carry_half(&mut self, record: &wire::TimerRecord, unit: &[u8]) {
        if let Some(half) = self.half(record.topic_id, &record.message_id) {
            let half = wire::HalfRecord { unit: unit.to_vec().into(), ..half };
            let key = keys::half_key(record.topic_id, &record.message_id);
            self.set(key, half.encode_to_vec());
        }
    }
}
