//! Transactions at the leader: carry out what producers decide, ask those that do not.
//!
//! Called by `rpc` with checked requests, and by `timers` with half messages that wait for too long.
//!
//! Not here: when to ask and when to give up (`state::apply`, by the timers in the log).

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::ended_record::How;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::TransactionResolution;

use crate::command::Command;
use crate::node::Node;
use crate::receive;
use crate::rpc::connections;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::state::Check;
use crate::state::CommandReply;

/// How long another node may take to find a producer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Ends a transaction as its producer decided.
///
/// # Errors
/// Refused: it is not known, or ended in another way. Elsewhere: may have been ended; repeating it
/// tells.
pub(crate) async fn end(node: &Node, request: &v2::EndTransactionRequest) -> Result<(), Failure> {
    let resolution = request.resolution();
    let topic = request.topic.as_ref().map_or("", |topic| &topic.name);
    let topic_id = node
        .state
        .read()
        .topic(topic)
        .map(|topic| topic.record.id)
        .ok_or_else(|| Refusal::topic_not_found(topic))?;
    if resolution == TransactionResolution::Unspecified {
        // Not decided yet: it stays as it is.
        return Ok(());
    }
    let command = Command::EndTransaction(wire::EndTransaction {
        topic_id,
        transaction_id: Bytes::from(request.transaction_id.clone()),
        resolution: resolution.into(),
    });
    match node.proposer.propose(&command).await? {
        CommandReply::Ended(ended) => answer(node, topic, request, &ended),
        CommandReply::Rejected(rejection) => Err(rejection.into()),
        other => panic!("the end of a transaction was answered with {other:?}"),
    }
}

/// Whether the transaction ended as it was decided.
fn answer(
    node: &Node,
    topic: &str,
    request: &v2::EndTransactionRequest,
    ended: &wire::EndedRecord,
) -> Result<(), Failure> {
    let how = match ended.how() {
        How::Committed => "committed",
        How::RolledBack => "rolled back",
        How::GivenUp => "rolled back, since no producer answered the last check",
        How::Unknown => "ended",
    };
    let as_decided = match request.resolution() {
        TransactionResolution::Commit => ended.how() == How::Committed,
        _ => ended.how() != How::Committed,
    };
    if as_decided {
        let name = match ended.how() {
            How::Committed => "rocketmq_commit_messages_total",
            _ => "rocketmq_rollback_messages_total",
        };
        metrics::counter!(name, node.labels(&[("topic", topic)])).increment(1);
        return Ok(());
    }
    let text = format!(
        "transaction {} was {how} at {} ms since 1970",
        request.transaction_id, ended.ended_ms
    );
    Err(Refusal::new(Code::InvalidTransactionId, text).into())
}

pub(crate) fn count_given_up(node: &Node, topic_id: u32) {
    let state = node.state.read();
    let topic = state.topics.get(&topic_id).map_or("", |topic| &topic.record.name);
    let labels = node.labels(&[("topic", topic)]);
    metrics::counter!("raftmq_transactions_given_up_total", labels).increment(1);
}

/// Asks a producer about each of the half messages, wherever one is connected. Whoever is not reached
/// now is asked at the next check.
pub(crate) async fn check_back(node: Node, checks: Vec<Check>) {
    for check in checks {
        let Some(request) = ask(&node, &check) else { continue };
        let outcome = if ask_here(&node, &request) || ask_others(&node, &request).await {
            "asked"
        } else {
            "no_producer"
        };
        metrics::counter!("raftmq_transaction_checks_total", "outcome" => outcome).increment(1);
    }
}

fn ask(node: &Node, check: &Check) -> Option<wire::AskProducerRequest> {
    let topic = node.state.read().topics.get(&check.topic_id)?.record.name.clone();
    let mut message = match receive::read(node, &check.unit) {
        Ok(message) => message,
        Err(error) => {
            tracing::error!(%error, topic, "could not read a half message");
            return None;
        }
    };
    message.topic = Some(v2::Resource { name: topic.clone(), ..Default::default() });
    let transaction_id = String::from_utf8_lossy(&check.transaction_id).into_owned();
    Some(wire::AskProducerRequest {
        topic,
        transaction_id,
        message: message.encode_to_vec().into(),
    })
}

/// Asks a producer that is connected to this node; whether there was one.
pub(crate) fn ask_here(node: &Node, request: &wire::AskProducerRequest) -> bool {
    let Ok(message) = v2::Message::decode(request.message.clone()) else { return false };
    let command = v2::TelemetryCommand {
        status: None,
        command: Some(v2::telemetry_command::Command::RecoverOrphanedTransactionCommand(
            v2::RecoverOrphanedTransactionCommand {
                message: Some(message),
                transaction_id: request.transaction_id.clone(),
            },
        )),
    };
    node.clients.tell_producer(&request.topic, command)
}

async fn ask_others(node: &Node, request: &wire::AskProducerRequest) -> bool {
    connections::ask_others(node, ASK_TIMEOUT, |mut client| {
        let request = request.clone();
        async move { Ok(client.ask_producer(request).await?.get_ref().asked) }
    })
    .await
}
