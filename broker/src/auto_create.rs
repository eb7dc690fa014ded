//! Topics and consumer groups that come into being when they are first asked for, where the
//! configuration says so.
//!
//! Decided by the leader, like every creation; of two that meet, the later one finds what it wanted.
//! Names that only the broker gives, such as those of dead-letter topics, are never created here.
//!
//! Not here: routes of topics nobody has, which name servers make up (`namesrv`).

use raftmq_proto::names;
use raftmq_proto::raftmq as wire;
use raftmq_proto::route;

use crate::command::Command;
use crate::node::Node;
use crate::rpc::ATTEMPTS_DEFAULT;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::state::CommandReply;
use crate::state::Rejection;

/// Whether a topic that does not exist would be created.
pub(crate) fn makes_topic(node: &Node, name: &str) -> bool {
    node.config.auto_create_topics && names::new_topic(name).is_ok()
}

/// Whether a consumer group that does not exist would be created.
pub(crate) fn makes_group(node: &Node, name: &str) -> bool {
    node.config.auto_create_groups && names::consumer_group(name).is_ok()
}

/// The topic exists when this returns. For the leader.
///
/// # Errors
/// Refused: it does not exist, and is not to be created. Elsewhere: it may exist now.
pub(crate) async fn topic(node: &Node, name: &str) -> Result<(), Failure> {
    if node.state.read().topic(name).is_some() {
        return Ok(());
    }
    if !makes_topic(node, name) {
        return Err(Refusal::topic_not_found(name).into());
    }
    let topic = route::auto_created(name);
    let command = Command::CreateTopic(wire::CreateTopic {
        name: topic.name,
        queue_count: topic.queue_count,
        message_types: topic.message_types,
        ..Default::default()
    });
    create(node, "topic", name, &command).await
}

/// The consumer group exists when this returns. For the leader.
///
/// # Errors
/// Refused: it does not exist, and is not to be created. Elsewhere: it may exist now.
pub(crate) async fn group(node: &Node, name: &str) -> Result<(), Failure> {
    if node.state.read().group(name).is_some() {
        return Ok(());
    }
    if !makes_group(node, name) {
        return Err(Refusal::group_not_found(name).into());
    }
    let command = Command::CreateGroup(wire::CreateGroup {
        name: name.to_owned(),
        max_attempts: ATTEMPTS_DEFAULT,
        ..Default::default()
    });
    create(node, "consumer group", name, &command).await
}

async fn create(node: &Node, what: &str, name: &str, command: &Command) -> Result<(), Failure> {
    match node.proposer.propose(command).await? {
        // Somebody else was faster.
        CommandReply::Rejected(Rejection::Exists(_)) => (),
        CommandReply::Rejected(rejection) => return Err(rejection.into()),
        _ => tracing::info!(name, "created a {what} that was asked for"),
    }
    Ok(())
}
