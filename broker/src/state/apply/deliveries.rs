//! What consumers say about deliveries, and what the leader says about owners.

use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;

use super::CommandReply;
use super::Outcome;
use super::Rejection;
use super::State;
use super::Step;

impl Step<'_> {
    /// Whether the receipt names a delivery under way. `Ok(false)`: that message is consumed already.
    pub(super) fn is_current(
        &self,
        state: &State,
        receipt: &wire::Receipt,
    ) -> Result<bool, Rejection> {
        let Some(record) = state.inflight(receipt) else { return Ok(false) };
        // Without a renewing owner the client was told when its time ends.
        let in_time = !record.renew_client_id.is_empty() || record.visible_at_ms > self.time_ms;
        let same = record.nonce == receipt.nonce || planted(Bug::AckWrongAttempt);
        if same && in_time { Ok(true) } else { Err(Rejection::ReceiptExpired) }
    }

    pub(super) fn ack(&mut self, state: &mut State, receipt: &wire::Receipt) -> Outcome {
        if self.is_current(state, receipt)? {
            let ids = (receipt.group_id, receipt.topic_id);
            self.remove_inflight(state, ids, receipt.queue_id, receipt.offset);
        }
        Ok(CommandReply::Done)
    }

    pub(super) fn change_invisible(
        &mut self,
        state: &mut State,
        command: &wire::ChangeInvisible,
    ) -> Outcome {
        let receipt = command.receipt.unwrap_or_default();
        let Some(record) = state.inflight(&receipt).cloned() else {
            return Err(Rejection::ReceiptExpired);
        };
        // Whoever lost the answer of a change asks again with the receipt that it replaced.
        let again = record.changed_from != 0 && record.changed_from == receipt.nonce;
        let current = match again {
            true => record.visible_at_ms > self.time_ms,
            false => self.is_current(state, &receipt)?,
        };
        if !current {
            return Err(Rejection::ReceiptExpired);
        }
        let nonce = if again { record.nonce } else { self.nonce() };
        let record = wire::InflightRecord {
            visible_at_ms: command.visible_at_ms,
            nonce,
            // Whoever asks for a time gets that time: no more renewal.
            renew_client_id: String::new(),
            // Its answer arrived.
            attempt_hash: 0,
            changed_from: receipt.nonce,
            ..record
        };
        let ids = (receipt.group_id, receipt.topic_id);
        self.put_inflight(state, ids, receipt.queue_id, receipt.offset, record);
        Ok(CommandReply::Changed { nonce })
    }

    pub(super) fn renew(&mut self, state: &mut State, command: &wire::Renew) -> Outcome {
        for receipt in &command.receipts {
            let Some(record) = state.inflight(receipt).cloned() else { continue };
            if record.nonce != receipt.nonce || record.renew_client_id.is_empty() {
                continue;
            }
            let record = wire::InflightRecord { visible_at_ms: command.visible_at_ms, ..record };
            let ids = (receipt.group_id, receipt.topic_id);
            self.put_inflight(state, ids, receipt.queue_id, receipt.offset, record);
        }
        Ok(CommandReply::Done)
    }

    pub(super) fn release_client(
        &mut self,
        state: &mut State,
        command: &wire::ReleaseClient,
    ) -> Outcome {
        let mut released = Vec::new();
        for (ids, consumption) in &state.consumptions {
            for (queue_id, progress) in consumption.queues.iter().enumerate() {
                for (offset, record) in &progress.inflight {
                    if record.attempt > 0 && record.renew_client_id == command.client_id {
                        released.push((*ids, queue_id as u32, *offset, record.clone()));
                    }
                }
            }
        }
        for (ids, queue_id, offset, record) in released {
            let record = wire::InflightRecord {
                visible_at_ms: command.visible_at_ms,
                renew_client_id: String::new(),
                ..record
            };
            self.put_inflight(state, ids, queue_id, offset, record);
        }
        Ok(CommandReply::Done)
    }
}
