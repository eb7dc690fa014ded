//! Lite topics at the leader: made when somebody names them, subscribed to, forgotten when idle.
//!
//! Subscriptions are replicated, so that a new leader knows at once who wants what; clients say all of
//! theirs again every 30 s, which changes nothing and is not written.
//!
//! Not here: who is handed what (`receive`), quotas (`state::apply`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_raft_store::ProposeError;

use crate::clock;
use crate::command::Command;
use crate::node::Node;
use crate::receive;
use crate::rpc::connections;
use crate::rpc::status::Failure;
use crate::rpc::status::Refusal;
use crate::rpc::validate;
use crate::state::CommandReply;
use crate::state::Rejection;

/// Longest name of a lite topic, as clients are told.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Names in one call: more than any quota that clients can be told makes sense for.
pub(crate) const NAMES_MAX: usize = 100_000;
/// Lite topics that one command forgets, and such commands of one look.
const EXPIRED_MAX: usize = 1000;
const EXPIRE_COMMANDS_MAX: usize = 10;
/// Clients whose subscriptions one look takes away.
const GONE_MAX: usize = 256;
/// A new leader has not heard of every client that lives yet.
const LEADING_FOR: Duration = Duration::from_secs(30);
/// How long another node may take to pass something on to a client.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Checks the name of a lite topic.
///
/// # Errors
/// `ILLEGAL_LITE_TOPIC` with the limit.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let what = "the name of a lite topic";
    validate::check_label(what, name, NAME_BYTES_MAX, Code::IllegalLiteTopic)
}

/// Queue ids of lite topics by name; those that are new are made.
///
/// # Errors
/// Refused: the parent has as many as it may. Elsewhere: some may have been made, which does no harm.
pub(crate) async fn queue_ids(
    node: &Node,
    topic_id: u32,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, u32>, Failure> {
    loop {
        let (known, new) = known(node, topic_id, names);
        if new.is_empty() {
            return Ok(known);
        }
        let command = Command::CreateLiteTopics(wire::CreateLiteTopics { topic_id, names: new });
        if let CommandReply::Rejected(rejection) = node.proposer.propose(&command).await? {
            return Err(rejection.into());
        }
    }
}

fn known(
    node: &Node,
    topic_id: u32,
    names: &BTreeSet<String>,
) -> (BTreeMap<String, u32>, Vec<String>) {
    let state = node.state.read();
    let topic = state.topics.get(&topic_id);
    let (mut known, mut new) = (BTreeMap::new(), Vec::new());
    for name in names {
        match topic.and_then(|topic| topic.lite.id(name)) {
            Some(id) => drop(known.insert(name.clone(), id)),
            None => new.push(name.clone()),
        }
    }
    (known, new)
}

/// What a client says of its subscriptions, checked.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) client_id: String,
    pub(crate) group: String,
    pub(crate) topic: String,
    /// `added` is all that it subscribes to.
    pub(crate) complete: bool,
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) start: Option<wire::LiteStart>,
}

/// Makes the subscriptions of a client what it says.
///
/// # Errors
/// Refused: unknown topic or group, a topic that is not one of lite topics, or a quota. Elsewhere: may
/// have been done; a repetition does no harm.
pub(crate) async fn sync(node: &Node, sync: &Sync) -> Result<(), Failure> {
    if node.leading_term().is_none() {
        return Err(Failure::Elsewhere(ProposeError::NotLeader));
    }
    let Some((group_id, topic_id)) = changed(node, sync)? else { return Ok(()) };
    let command = Command::SubscribeLite(wire::SubscribeLite {
        group_id,
        topic_id,
        client_id: sync.client_id.clone(),
        complete: sync.complete,
        added: sync.added.clone(),
        removed: sync.removed.clone(),
        start: sync.start,
    });
    match node.proposer.propose(&command).await? {
        CommandReply::SubscribedLite { displaced } => {
            tokio::spawn(tell_displaced(node.clone(), displaced));
            Ok(())
        }
        CommandReply::Rejected(rejection) => {
            let name = |rejection| match rejection {
                Rejection::TopicNotFound => Refusal::topic_not_found(&sync.topic),
                Rejection::GroupNotFound => Refusal::group_not_found(&sync.group),
                other => other.into(),
            };
            Err(name(rejection).into())
        }
        other => panic!("a subscription to lite topics was answered with {other:?}"),
    }
}

/// Ids of group and topic, unless everything is as the client says already.
fn changed(node: &Node, sync: &Sync) -> Result<Option<(u32, u32)>, Refusal> {
    let state = node.state.read();
    let topic = state.topic(&sync.topic).ok_or_else(|| Refusal::topic_not_found(&sync.topic))?;
    let group = state.group(&sync.group).ok_or_else(|| Refusal::group_not_found(&sync.group))?;
    let ids = (group.id, topic.record.id);
    if !topic.is_lite() {
        return Err(Rejection::NotLite(sync.topic.clone()).into());
    }
    let consumption = state.consumptions.get(&ids);
    let own = consumption.and_then(|it| it.lite.of_client(&sync.client_id));
    let has = |queue_id: u32| own.is_some_and(|own| own.contains(&queue_id));
    let of_another = |queue_id: u32| {
        let mut others = consumption.into_iter().flat_map(|it| it.lite.subscribers(queue_id));
        others.next().is_some()
    };
    let mut wanted = 0;
    for name in &sync.added {
        match topic.lite.id(name) {
            Some(queue_id) if has(queue_id) => wanted += 1,
            // Its client has not heard yet that another one took it.
            Some(queue_id) if group.lite_exclusive && sync.complete && of_another(queue_id) => (),
            _ => return Ok(Some(ids)),
        }
    }
    let count = own.map_or(0, BTreeSet::len);
    let fewer = sync.complete && wanted < count;
    let removed = sync.removed.iter().filter_map(|name| topic.lite.id(name)).any(has);
    Ok((fewer || removed).then_some(ids))
}

/// Tells clients that a lite topic is another one's now, so that they do not ask for it again.
async fn tell_displaced(node: Node, displaced: Vec<(Arc<str>, String)>) {
    for (client_id, lite_topic) in displaced {
        let request =
            wire::TellUnsubscribedRequest { client_id: client_id.to_string(), lite_topic };
        if !unsubscribed_here(&node, &request) {
            unsubscribed_elsewhere(&node, &request).await;
        }
    }
}

/// Tells a client that is connected to this node; whether it is.
pub(crate) fn unsubscribed_here(node: &Node, request: &wire::TellUnsubscribedRequest) -> bool {
    // Some clients can not take this command when they consume something else.
    if !node.clients.client_type(&request.client_id).is_some_and(receive::is_lite) {
        return false;
    }
    let command = v2::NotifyUnsubscribeLiteCommand { lite_topic: request.lite_topic.clone() };
    let command = v2::TelemetryCommand {
        status: None,
        command: Some(v2::telemetry_command::Command::NotifyUnsubscribeLiteCommand(command)),
    };
    node.clients.tell(&request.client_id, command)
}

async fn unsubscribed_elsewhere(node: &Node, request: &wire::TellUnsubscribedRequest) {
    connections::ask_others(node, TELL_TIMEOUT, |mut client| {
        let request = request.clone();
        async move { Ok(client.tell_unsubscribed(request).await?.get_ref().told) }
    })
    .await;
}

/// Takes away subscriptions of clients that are gone, and forgets lite topics that nobody uses.
pub(crate) async fn sweep(node: &Node, leading_for: Duration) {
    if leading_for > LEADING_FOR {
        for (ids, client_id) in gone(node) {
            let command = Command::SubscribeLite(wire::SubscribeLite {
                group_id: ids.0,
                topic_id: ids.1,
                client_id,
                complete: true,
                ..Default::default()
            });
            // Otherwise the next sweep does it.
            let _ = node.proposer.propose(&command).await;
        }
    }
    for (topic_id, queue_ids) in idle(node) {
        let command = Command::ExpireLiteTopics(wire::ExpireLiteTopics { topic_id, queue_ids });
        if let Ok(CommandReply::Moved { count }) = node.proposer.propose(&command).await {
            metrics::counter!("raftmq_lite_topics_expired_total", node.labels(&[]))
                .increment(count);
        }
    }
}

fn gone(node: &Node) -> Vec<((u32, u32), String)> {
    let state = node.state.read();
    let members = state.consumptions.iter().flat_map(|(ids, consumption)| {
        consumption.lite.members().map(|(client_id, _)| (*ids, client_id.to_string()))
    });
    members.filter(|(_, client_id)| !node.clients.is_alive(client_id)).take(GONE_MAX).collect()
}

fn idle(node: &Node) -> Vec<(u32, Vec<u32>)> {
    let state = node.state.read();
    let now_ms = clock::not_before(state.time_ms);
    let mut idle = Vec::new();
    for topic in state.topics.values() {
        let queue_ids = topic.lite.each().map(|(queue_id, _)| queue_id);
        let queue_ids = queue_ids.filter(|id| state.is_idle_lite(topic, *id, now_ms));
        let queue_ids: Vec<u32> = queue_ids.take(EXPIRED_MAX * EXPIRE_COMMANDS_MAX).collect();
        let parts = queue_ids.chunks(EXPIRED_MAX);
        idle.extend(parts.map(|part| (topic.record.id, part.to_vec())));
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_client_api_takes() {
        assert!(check_name("a").is_ok() && check_name("session-42_x").is_ok());
        assert!(check_name(&"x".repeat(NAME_BYTES_MAX)).is_ok());
        for name in ["", "  ", "a\n", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(check_name(name).unwrap_err().code, Code::IllegalLiteTopic);
        }
    }
}
