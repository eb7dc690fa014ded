//! Taking delayed messages back, at the leader.

use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;

use crate::command::Command;
use crate::handle;
use crate::node::Node;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::state::CommandReply;

/// Takes the message behind a recall handle back and returns its id; repeating it succeeds.
///
/// # Errors
/// Refused: it was delivered, or never existed. Elsewhere: may have been taken back.
pub(crate) async fn recall(
    node: &Node,
    request: &v2::RecallMessageRequest,
) -> Result<String, Failure> {
    let name = request.topic.as_ref().map_or("", |topic| &topic.name);
    let topic_id = {
        let state = node.state.read();
        let topic = state.topic(name).ok_or_else(|| Refusal::topic_not_found(name))?;
        topic.record.id
    };
    let timer = handle::decode_recall(&request.recall_handle)
        .filter(|(of_topic, _)| *of_topic == topic_id)
        .map(|(_, timer)| timer)
        .ok_or_else(|| {
            let text = format!("the recall handle is not one of a message sent to topic {name}");
            Refusal::new(Code::BadRequest, text)
        })?;
    let command = Command::Recall(wire::Recall { topic_id, timer: Some(timer) });
    match node.proposer.propose(&command).await? {
        CommandReply::Recalled { message_id } => {
            metrics::counter!("raftmq_recalled_total", node.labels(&[("topic", name)]))
                .increment(1);
            Ok(String::from_utf8_lossy(&message_id).into_owned())
        }
        CommandReply::Rejected(rejection) => Err(rejection.into()),
        other => panic!("a recall was answered with {other:?}"),
    }
}
