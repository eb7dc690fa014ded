//! Pulls and offsets: the calls of consumers that hold their offsets themselves.

use std::time::Duration;

use raftmq_proto::v2;
use raftmq_proto::v2::pull_message_response::Content;
use tokio::time::Instant;
use tonic::Request;
use tonic::Status;

use super::leader;
use super::leader::Terms;
use super::messaging::MessagingService;
use super::messaging::check_names;
use super::status;
use super::status::Refusal;
use crate::pull;
use crate::pull::Pull;
use crate::pull::Pulled;
use crate::receive::Filter;

/// Most messages of one pull; a larger wish gets this many.
const PULL_MAX: i32 = 32;
/// Longest wait of a pull.
const POLLING_MAX: Duration = Duration::from_secs(20);
/// Left for the answer to travel.
const POLLING_RESERVE: Duration = Duration::from_millis(200);

impl MessagingService {
    pub(super) async fn pull(
        &self,
        request: Request<v2::PullMessageRequest>,
    ) -> Result<Vec<v2::PullMessageResponse>, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        let wanted = parse(&message)?;
        let polling = message.long_polling_timeout.and_then(|it| Duration::try_from(it).ok());
        let available = terms.remaining().saturating_sub(POLLING_RESERVE);
        let until = Instant::now() + polling.unwrap_or_default().min(POLLING_MAX).min(available);
        self.router
            .poll_at_leader(
                terms,
                async || Ok(parts(pull::pull(&self.node, &wanted, until).await?)),
                async |mut client| {
                    let mut message = message.clone();
                    let left = until.saturating_duration_since(Instant::now());
                    message.long_polling_timeout = prost_types::Duration::try_from(left).ok();
                    let request = leader::relay(message, &metadata, terms);
                    let mut stream = client.pull_message(request).await?.into_inner();
                    let mut answer = Vec::new();
                    while let Some(part) = stream.message().await? {
                        if let Some(Content::Status(status)) = &part.content
                            && leader::is_not_leading(status.code)
                        {
                            return Err(Status::unavailable(status.message.clone()));
                        }
                        answer.push(part);
                    }
                    Ok(answer)
                },
            )
            .await
    }

    pub(super) async fn move_offset(
        &self,
        request: Request<v2::UpdateOffsetRequest>,
    ) -> Result<v2::UpdateOffsetResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        check_queue(message.message_queue.as_ref(), message.group.as_ref())?;
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                pull::update_offset(&self.node, &message).await?;
                Ok(v2::UpdateOffsetResponse { status: Some(status::ok()) })
            },
            async |mut client, request| client.update_offset(request).await,
            |answer| &answer.status,
        )
        .await
    }

    pub(super) async fn offset(
        &self,
        request: Request<v2::GetOffsetRequest>,
    ) -> Result<v2::GetOffsetResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        check_queue(message.message_queue.as_ref(), message.group.as_ref())?;
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                let offset = pull::offset(&self.node, &message).await? as i64;
                Ok(v2::GetOffsetResponse { status: Some(status::ok()), offset })
            },
            async |mut client, request| client.get_offset(request).await,
            |answer| &answer.status,
        )
        .await
    }

    pub(super) async fn offset_by_policy(
        &self,
        request: Request<v2::QueryOffsetRequest>,
    ) -> Result<v2::QueryOffsetResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                let offset = pull::query_offset(&self.node, &message).await? as i64;
                Ok(v2::QueryOffsetResponse { status: Some(status::ok()), offset })
            },
            async |mut client, request| client.query_offset(request).await,
            |answer| &answer.status,
        )
        .await
    }
}

/// A stream that only says why.
pub(super) fn refused(refusal: &Refusal) -> Vec<v2::PullMessageResponse> {
    vec![part(Content::Status(refusal.status()))]
}

fn parse(message: &v2::PullMessageRequest) -> Result<Pull, Refusal> {
    check_queue(message.message_queue.as_ref(), message.group.as_ref())?;
    let queue = message.message_queue.clone().unwrap_or_default();
    Ok(Pull {
        topic: queue.topic.unwrap_or_default(),
        group: message.group.clone().unwrap_or_default().name,
        queue_id: queue.id,
        offset: message.offset,
        filter: Filter::parse(message.filter_expression.as_ref())?,
        count: message.batch_size.clamp(1, PULL_MAX) as usize,
    })
}

fn check_queue(
    queue: Option<&v2::MessageQueue>,
    group: Option<&v2::Resource>,
) -> Result<(), Refusal> {
    check_names(queue.and_then(|queue| queue.topic.as_ref()), group)
}

/// Status, messages, and where to go on. No message is a success too: the offset may have moved.
fn parts(pulled: Pulled) -> Vec<v2::PullMessageResponse> {
    let mut parts = vec![part(Content::Status(status::ok()))];
    parts.extend(pulled.messages.into_iter().map(|message| part(Content::Message(message))));
    parts.push(part(Content::NextOffset(pulled.next_offset as i64)));
    parts
}

fn part(content: Content) -> v2::PullMessageResponse {
    v2::PullMessageResponse { content: Some(content) }
}
