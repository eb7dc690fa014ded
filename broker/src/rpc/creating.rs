//! Brings to the leader that a topic or consumer group was asked for which does not exist, where such
//! are created.
//!
//! A node that does not lead relays what makes the leader create it, then waits until it has applied
//! that itself: what it answers afterwards is what is true.

use std::time::Duration;

use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use tonic::metadata::MetadataMap;

use super::leader;
use super::leader::Terms;
use super::messaging::MessagingService;
use super::messaging::again_if_not_leading;
use super::status;
use super::status::Refusal;
use crate::auto_create;

/// Longest wait until this node has what the leader created.
const APPLIED_TIMEOUT: Duration = Duration::from_secs(2);

impl MessagingService {
    /// The topic exists here when this returns, if it ever will.
    pub(super) async fn ensure_topic(
        &self,
        metadata: &MetadataMap,
        topic: &v2::Resource,
    ) -> Result<(), Refusal> {
        let node = &self.node;
        let known = node.state.read().topic(&topic.name).is_some();
        if known || !auto_create::makes_topic(node, &topic.name) {
            return Ok(());
        }
        let terms = Terms::of(metadata);
        let made = self.router.at_leader(
            terms,
            async || auto_create::topic(node, &topic.name).await.map(|()| status::ok()),
            async |mut client| {
                let message =
                    v2::QueryRouteRequest { topic: Some(topic.clone()), ..Default::default() };
                let request = leader::relay(message, metadata, terms);
                let answer = client.query_route(request).await?.into_inner();
                let answer = again_if_not_leading(answer, |answer| &answer.status)?;
                Ok(answer.status.unwrap_or_default())
            },
        );
        refused(made.await?)?;
        let applied = node.until_applied(|state| state.topic(&topic.name).map(|_| ()));
        tokio::time::timeout(APPLIED_TIMEOUT, applied)
            .await
            .map_err(|_| Refusal::topic_not_found(&topic.name))
    }

    /// The same for a consumer group, of which a member has come.
    pub(super) async fn ensure_group(
        &self,
        metadata: &MetadataMap,
        terms: Terms,
        group: &v2::Resource,
        client_type: v2::ClientType,
    ) -> Result<(), Refusal> {
        let node = &self.node;
        let known = node.state.read().group(&group.name).is_some();
        if known || !auto_create::makes_group(node, &group.name) {
            return Ok(());
        }
        let made = self.router.at_leader(
            terms,
            async || auto_create::group(node, &group.name).await.map(|()| status::ok()),
            async |mut client| {
                let message = v2::HeartbeatRequest {
                    group: Some(group.clone()),
                    client_type: client_type.into(),
                };
                let request = leader::relay(message, metadata, terms);
                let answer = client.heartbeat(request).await?.into_inner();
                let answer = again_if_not_leading(answer, |answer| &answer.status)?;
                Ok(answer.status.unwrap_or_default())
            },
        );
        refused(made.await?)?;
        let applied = node.until_applied(|state| state.group(&group.name).map(|_| ()));
        tokio::time::timeout(APPLIED_TIMEOUT, applied)
            .await
            .map_err(|_| Refusal::group_not_found(&group.name))
    }
}

/// What the leader answered.
fn refused(status: v2::Status) -> Result<(), Refusal> {
    match status.code() {
        Code::Ok => Ok(()),
        code => Err(Refusal::new(code, status.message)),
    }
}
