//! The client API: each call is checked, brought to the leader, and answered.
//!
//! Almost every error is a gRPC success with a status in its body, as clients expect.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt;
use raftmq_listener::Connection;
use raftmq_proto::names;
use raftmq_proto::route;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::receive_message_response::Content;
use raftmq_raft_store::world::net::Channel;
use tokio::time::Instant;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::metadata::MetadataMap;

use super::leader;
use super::leader::LeaderRouter;
use super::leader::Terms;
use super::pull;
use super::status;
use super::status::Failure;
use super::status::Refusal;
use super::telemetry;
use super::validate;
use crate::ack;
use crate::clock::now_ms;
use crate::command::Command;
use crate::command::group_hash;
use crate::node::Node;
use crate::receive;
use crate::receive::Filter;
use crate::receive::Receive;
use crate::send;

/// Most messages of one receive; a larger wish gets this many.
const RECEIVE_MAX: i32 = 32;
/// Invisibility of messages whose owner is renewed by the broker. A dead consumer's messages are
/// free after this time and the time in which its death is noticed.
const RENEWED_INVISIBLE: Duration = Duration::from_secs(30);
const INVISIBLE_MIN: Duration = Duration::from_secs(10);
const INVISIBLE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Longest wait of a receive.
const POLLING_MAX: Duration = Duration::from_secs(20);
/// A receive that would have to be cut below this is refused rather than cut.
const POLLING_MIN: Duration = Duration::from_secs(5);
/// Left for the answer to travel.
const POLLING_RESERVE: Duration = Duration::from_millis(200);

/// Serves clients.
#[derive(Clone)]
pub(crate) struct MessagingService {
    pub(super) node: Node,
    pub(super) router: LeaderRouter,
}

impl MessagingService {
    pub(crate) fn new(node: Node) -> Self {
        let router = LeaderRouter::new(node.clone());
        Self { node, router }
    }

    fn times(&self) -> validate::Times {
        validate::Times {
            now_ms: crate::clock::not_before(self.node.state.read().time_ms),
            delay_max: self.node.config.delay_max,
            transaction_timeout: self.node.config.transaction_timeout,
        }
    }

    /// Answers a call that is made once: by `local` here, or by `call` at the leader.
    ///
    /// # Errors
    /// As [`LeaderRouter::at_leader`].
    pub(super) async fn here_or_at_leader<Q, A, L, R>(
        &self,
        (terms, metadata, message): (Terms, &MetadataMap, &Q),
        local: impl Fn() -> L,
        call: impl Fn(MessagingServiceClient<Channel>, Request<Q>) -> R,
        status: impl Fn(&A) -> &Option<v2::Status>,
    ) -> Result<A, Refusal>
    where
        Q: Clone,
        L: Future<Output = Result<A, Failure>>,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        self.router
            .at_leader(terms, local, async |client| {
                let request = leader::relay(message.clone(), metadata, terms);
                again_if_not_leading(call(client, request).await?.into_inner(), &status)
            })
            .await
    }

    /// Notes a call of the client; refuses one without an id.
    pub(super) fn client_id(&self, metadata: &MetadataMap) -> Result<String, Refusal> {
        let id = metadata.get("x-mq-client-id").and_then(|id| id.to_str().ok()).unwrap_or("");
        if id.trim().is_empty() {
            let text = "the header x-mq-client-id is required";
            return Err(Refusal::new(Code::ClientIdRequired, text));
        }
        self.node.clients.seen(id);
        Ok(id.to_owned())
    }

    async fn send_message(
        &self,
        request: Request<v2::SendMessageRequest>,
    ) -> Result<v2::SendMessageResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        let client_id = self.client_id(request.metadata())?;
        let born_host = peer(&request);
        let (metadata, _, mut message) = request.into_parts();
        validate::check(&message, &self.times())?;
        if !terms.relayed {
            // Here it may be asked about its transactions.
            self.node.clients.publishes(&client_id, topic_of(&message));
        }
        // Here, since a leader that gets it relayed sees another sender.
        validate::note_born_host(&mut message, &born_host);
        let store_host = &self.node.config.client_advertise;
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                let parsed = validate::parse(message.clone(), store_host, &self.times())?;
                send::send(&self.node, parsed).await
            },
            async |mut client, request| client.send_message(request).await,
            |answer| &answer.status,
        )
        .await
    }

    async fn receive(
        &self,
        request: Request<v2::ReceiveMessageRequest>,
    ) -> Result<Vec<v2::ReceiveMessageResponse>, Refusal> {
        let terms = Terms::of(request.metadata());
        let client_id = self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        let wanted = parse_receive(&message, &client_id)?;
        let until = Instant::now() + polling_time(&message, terms)?;
        self.router
            .poll_at_leader(
                terms,
                async || {
                    let messages = receive::receive(&self.node, &wanted, until).await?;
                    Ok(receive_answer(messages))
                },
                async |mut client| {
                    let mut message = message.clone();
                    let left = until.saturating_duration_since(Instant::now());
                    message.long_polling_timeout = prost_types::Duration::try_from(left).ok();
                    let request = leader::relay(message, &metadata, terms);
                    let mut stream = client.receive_message(request).await?.into_inner();
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

    async fn ack(
        &self,
        request: Request<v2::AckMessageRequest>,
    ) -> Result<v2::AckMessageResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        check_names(message.topic.as_ref(), message.group.as_ref())?;
        self.here_or_at_leader(
            (terms, &metadata, &message),
            || ack::ack(&self.node, &message),
            async |mut client, request| client.ack_message(request).await,
            |answer| &answer.status,
        )
        .await
    }

    async fn change_invisible(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Result<v2::ChangeInvisibleDurationResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        check_names(message.topic.as_ref(), message.group.as_ref())?;
        let invisible = invisible(message.invisible_duration, Duration::ZERO)?;
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                let handle = ack::change_invisible(&self.node, &message, invisible).await?;
                Ok(v2::ChangeInvisibleDurationResponse {
                    status: Some(status::ok()),
                    receipt_handle: handle,
                })
            },
            async |mut client, request| client.change_invisible_duration(request).await,
            |answer| &answer.status,
        )
        .await
    }

    async fn forward_to_dead_letters(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<v2::ForwardMessageToDeadLetterQueueResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        check_names(message.topic.as_ref(), message.group.as_ref())?;
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                ack::forward_to_dead_letters(&self.node, &message).await?;
                let status = Some(status::ok());
                Ok(v2::ForwardMessageToDeadLetterQueueResponse { status })
            },
            async |mut client, request| client.forward_message_to_dead_letter_queue(request).await,
            |answer| &answer.status,
        )
        .await
    }

    /// A client says good-bye: what the broker kept invisible for it becomes visible.
    async fn terminate(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Result<v2::NotifyClientTerminationResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        let client_id = self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        let known = self.node.clients.remove(&client_id);
        if !known && !terms.relayed {
            let text = format!("client {client_id} is not known here");
            return Err(Refusal::new(Code::UnrecognizedClientType, text));
        }
        let command = Command::ReleaseClient(raftmq_proto::raftmq::ReleaseClient {
            client_id,
            visible_at_ms: now_ms(),
        });
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                self.node.proposer.propose(&command).await?;
                Ok(v2::NotifyClientTerminationResponse { status: Some(status::ok()) })
            },
            async |mut client, request| client.notify_client_termination(request).await,
            |answer| &answer.status,
        )
        .await
    }

    async fn query_route(
        &self,
        request: Request<v2::QueryRouteRequest>,
    ) -> Result<Vec<v2::MessageQueue>, Refusal> {
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        let resource = message.topic.unwrap_or_default();
        names::topic(&resource.name).map_err(status::illegal_topic)?;
        self.ensure_topic(&metadata, &resource).await?;
        let (group, topic) = self.route_of(&resource.name)?;
        Ok(route::message_queues(&group, &topic, &resource, shape(&metadata)))
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Result<Vec<v2::Assignment>, Refusal> {
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        check_names(message.topic.as_ref(), message.group.as_ref())?;
        let resource = message.topic.unwrap_or_default();
        self.ensure_topic(&metadata, &resource).await?;
        let (group, topic) = self.route_of(&resource.name)?;
        Ok(route::assignments(&group, &topic, &resource, shape(&metadata)))
    }

    fn route_of(
        &self,
        topic: &str,
    ) -> Result<(raftmq_proto::raftmq::GroupRoute, raftmq_proto::raftmq::RouteTopic), Refusal> {
        let mut group = self.node.route();
        let position = group.topics.iter().position(|known| known.name == topic);
        let position = position.ok_or_else(|| Refusal::topic_not_found(topic))?;
        let topic = group.topics.swap_remove(position);
        Ok((group, topic))
    }

    async fn heartbeat(
        &self,
        request: &Request<v2::HeartbeatRequest>,
    ) -> Result<v2::HeartbeatResponse, Refusal> {
        let client_id = self.client_id(request.metadata())?;
        if let Some(group) = request.get_ref().group.as_ref().filter(|group| !group.name.is_empty())
        {
            names::consumer_group(&group.name).map_err(status::illegal_group)?;
        }
        if !self.node.clients.seen(&client_id) {
            self.know_by_heartbeat(&client_id, request)?;
        }
        let message = request.get_ref();
        if let Some(group) = &message.group
            && message.client_type() != v2::ClientType::Producer
        {
            let terms = Terms::of(request.metadata());
            self.ensure_group(request.metadata(), terms, group, message.client_type()).await?;
        }
        self.tell_leader(request);
        Ok(v2::HeartbeatResponse { status: Some(status::ok()) })
    }
}

impl MessagingService {
    /// Some clients do not send their settings again after a node restarted: what a heartbeat says
    /// is enough to know that they live.
    fn know_by_heartbeat(
        &self,
        client_id: &str,
        request: &Request<v2::HeartbeatRequest>,
    ) -> Result<(), Refusal> {
        let message = request.get_ref();
        let client_type = message.client_type();
        if client_type == v2::ClientType::Unspecified {
            let text = format!("client {client_id} has not sent its settings to this node");
            return Err(Refusal::new(Code::UnrecognizedClientType, text));
        }
        let language = request.metadata().get("x-mq-language").and_then(|l| l.to_str().ok());
        let group = message.group.as_ref().map_or("", |group| &group.name);
        let language = language.unwrap_or("unknown");
        self.node.clients.settings(client_id, client_type, language, group);
        Ok(())
    }
}

impl MessagingService {
    /// The leader decides by who lives; a client may be connected to this node only.
    fn tell_leader(&self, request: &Request<v2::HeartbeatRequest>) {
        let terms = Terms::of(request.metadata());
        if terms.relayed {
            return;
        }
        if let Some(mut client) = self.router.leader_elsewhere() {
            let heartbeat = leader::relay(request.get_ref().clone(), request.metadata(), terms);
            // Lost ones are followed by others.
            tokio::spawn(async move { client.heartbeat(heartbeat).await });
        }
    }
}

/// What the client's language needs of a route.
fn shape(metadata: &MetadataMap) -> route::Shape {
    let language = metadata.get("x-mq-language").and_then(|language| language.to_str().ok());
    route::Shape::of_language(language.unwrap_or(""))
}

/// A receive, checked.
fn parse_receive(message: &v2::ReceiveMessageRequest, client_id: &str) -> Result<Receive, Refusal> {
    let queue = message.message_queue.clone().unwrap_or_default();
    check_names(queue.topic.as_ref(), message.group.as_ref())?;
    let invisible = if message.auto_renew {
        RENEWED_INVISIBLE
    } else {
        invisible(message.invisible_duration, INVISIBLE_MIN)?
    };
    Ok(Receive {
        group: message.group.clone().unwrap_or_default().name,
        topic: queue.topic.unwrap_or_default(),
        filter: Filter::parse(message.filter_expression.as_ref())?,
        count: message.batch_size.clamp(1, RECEIVE_MAX) as usize,
        invisible,
        renew_client_id: if message.auto_renew { client_id.to_owned() } else { String::new() },
        client_id: client_id.to_owned(),
        attempt_hash: group_hash(message.attempt_id.as_deref()),
    })
}

fn invisible(duration: Option<prost_types::Duration>, min: Duration) -> Result<Duration, Refusal> {
    let duration = Duration::try_from(duration.unwrap_or_default()).unwrap_or(Duration::MAX);
    if (min..=INVISIBLE_MAX).contains(&duration) {
        return Ok(duration);
    }
    let text = format!(
        "the invisible duration must be {} s to {} s",
        min.as_secs(),
        INVISIBLE_MAX.as_secs()
    );
    Err(Refusal::new(Code::IllegalInvisibleTime, text))
}

/// How long a receive may wait: as asked, at most 20 s, and within its deadline.
fn polling_time(message: &v2::ReceiveMessageRequest, terms: Terms) -> Result<Duration, Refusal> {
    let available = terms.remaining().saturating_sub(POLLING_RESERVE);
    let asked = message
        .long_polling_timeout
        .and_then(|duration| Duration::try_from(duration).ok())
        .map_or(POLLING_MAX, |asked| asked.min(POLLING_MAX));
    // A wait equal to the deadline (some clients) only loses the time the answer travels.
    let fits = asked <= available + 2 * POLLING_RESERVE;
    let unsaid = message.long_polling_timeout.is_none();
    if fits || unsaid || available >= POLLING_MIN {
        return Ok(asked.min(available));
    }
    let text = format!(
        "the deadline leaves {} ms for a wait of {} ms",
        available.as_millis(),
        asked.as_millis()
    );
    Err(Refusal::new(Code::IllegalPollingTime, text))
}

fn receive_answer(messages: Vec<v2::Message>) -> Vec<v2::ReceiveMessageResponse> {
    let status = if messages.is_empty() {
        let text = "no message arrived in time";
        v2::Status { code: Code::MessageNotFound.into(), message: text.to_owned() }
    } else {
        status::ok()
    };
    let mut parts = vec![part(Content::Status(status))];
    parts.extend(messages.into_iter().map(|message| part(Content::Message(message))));
    parts.push(part(Content::DeliveryTimestamp(now())));
    parts
}

/// The receipt handles in an answer.
fn handles(parts: &[v2::ReceiveMessageResponse]) -> Vec<String> {
    let handle = |part: &v2::ReceiveMessageResponse| match &part.content {
        Some(Content::Message(message)) => {
            message.system_properties.as_ref().and_then(|p| p.receipt_handle.clone())
        }
        _ => None,
    };
    parts.iter().filter_map(handle).collect()
}

fn topic_of(request: &v2::SendMessageRequest) -> Option<String> {
    request.messages.first()?.topic.as_ref().map(|topic| topic.name.clone())
}

fn part(content: Content) -> v2::ReceiveMessageResponse {
    v2::ReceiveMessageResponse { content: Some(content) }
}

fn now() -> prost_types::Timestamp {
    std::time::SystemTime::now().into()
}

pub(super) fn check_names(
    topic: Option<&v2::Resource>,
    group: Option<&v2::Resource>,
) -> Result<(), Refusal> {
    names::topic(topic.map_or("", |topic| &topic.name)).map_err(status::illegal_topic)?;
    names::consumer_group(group.map_or("", |group| &group.name)).map_err(status::illegal_group)
}

/// A relayed answer, unless the asked node did not lead.
pub(super) fn again_if_not_leading<T>(
    answer: T,
    status: impl Fn(&T) -> &Option<v2::Status>,
) -> Result<T, Status> {
    match status(&answer) {
        Some(status) if leader::is_not_leading(status.code) => {
            Err(Status::unavailable(status.message.clone()))
        }
        _ => Ok(answer),
    }
}

/// `host:port` of the other side.
fn peer<T>(request: &Request<T>) -> String {
    let address = request
        .extensions()
        .get::<<Connection as tonic::transport::server::Connected>::ConnectInfo>()
        .and_then(tonic::transport::server::TcpConnectInfo::remote_addr);
    address.map_or_else(String::new, |address| address.to_string())
}

/// Either the answer, or its form with the refusal as its status.
macro_rules! answer {
    ($result:expr, $refused:expr) => {{
        let started = std::time::Instant::now();
        let result = $result;
        record($refused.0, started, result.as_ref().err());
        Ok(Response::new(match result {
            Ok(answer) => answer,
            Err(refusal) => {
                let build = $refused.1;
                build(Some(refusal.status()))
            }
        }))
    }};
}

fn record(call: &'static str, started: std::time::Instant, refused: Option<&Refusal>) {
    let code = refused.map_or("ok", |refusal| refusal.code.as_str_name());
    metrics::histogram!(
        "rocketmq_rpc_latency_milliseconds",
        "protocol_type" => "grpc",
        "request_code" => call,
        "response_code" => code
    )
    .record(started.elapsed().as_secs_f64() * 1e3);
    if let Some(refusal) = refused {
        tracing::debug!(call, code, reason = refusal.message, "refused");
    }
}

#[tonic::async_trait]
impl v2::messaging_service_server::MessagingService for MessagingService {
    async fn query_route(
        &self,
        request: Request<v2::QueryRouteRequest>,
    ) -> Result<Response<v2::QueryRouteResponse>, Status> {
        let queues = self.query_route(request).await.map(|message_queues| v2::QueryRouteResponse {
            status: Some(status::ok()),
            message_queues,
        });
        answer!(
            queues,
            ("query_route", |status| v2::QueryRouteResponse { status, ..Default::default() })
        )
    }

    async fn heartbeat(
        &self,
        request: Request<v2::HeartbeatRequest>,
    ) -> Result<Response<v2::HeartbeatResponse>, Status> {
        answer!(
            self.heartbeat(&request).await,
            ("heartbeat", |status| v2::HeartbeatResponse { status })
        )
    }

    async fn send_message(
        &self,
        request: Request<v2::SendMessageRequest>,
    ) -> Result<Response<v2::SendMessageResponse>, Status> {
        answer!(
            self.send_message(request).await,
            ("send_message", |status| v2::SendMessageResponse { status, entries: Vec::new() })
        )
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Result<Response<v2::QueryAssignmentResponse>, Status> {
        let assignments = self.query_assignment(request).await.map(|assignments| {
            v2::QueryAssignmentResponse { status: Some(status::ok()), assignments }
        });
        answer!(
            assignments,
            ("query_assignment", |status| v2::QueryAssignmentResponse {
                status,
                ..Default::default()
            })
        )
    }

    type ReceiveMessageStream =
        Pin<Box<dyn Stream<Item = Result<v2::ReceiveMessageResponse, Status>> + Send>>;

    async fn receive_message(
        &self,
        request: Request<v2::ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, Status> {
        // The answer comes as a stream that begins at once, since clients await its headers.
        let service = self.clone();
        let parts = async move {
            let started = std::time::Instant::now();
            let result = service.receive(request).await;
            record("receive_message", started, result.as_ref().err());
            let parts = result.unwrap_or_else(|refusal| {
                vec![
                    part(Content::Status(refusal.status())),
                    part(Content::DeliveryTimestamp(now())),
                ]
            });
            let handles = handles(&parts);
            // Polled to the end means that everything went to the client's connection.
            let sent = futures::stream::once(async move {
                receive::confirm(&service.node, &handles);
                None
            });
            futures::stream::iter(parts.into_iter().map(Some)).chain(sent)
        };
        let parts = futures::FutureExt::flatten_stream(parts);
        Ok(Response::new(Box::pin(parts.filter_map(async |part| part.map(Ok)))))
    }

    async fn ack_message(
        &self,
        request: Request<v2::AckMessageRequest>,
    ) -> Result<Response<v2::AckMessageResponse>, Status> {
        answer!(
            self.ack(request).await,
            ("ack_message", |status| v2::AckMessageResponse { status, entries: Vec::new() })
        )
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<v2::ForwardMessageToDeadLetterQueueResponse>, Status> {
        answer!(
            self.forward_to_dead_letters(request).await,
            ("forward_message_to_dead_letter_queue", |status| {
                v2::ForwardMessageToDeadLetterQueueResponse { status }
            })
        )
    }

    type PullMessageStream =
        Pin<Box<dyn Stream<Item = Result<v2::PullMessageResponse, Status>> + Send>>;

    async fn pull_message(
        &self,
        request: Request<v2::PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, Status> {
        let started = std::time::Instant::now();
        let pulled = self.pull(request).await;
        record("pull_message", started, pulled.as_ref().err());
        let parts = pulled.unwrap_or_else(|refusal| pull::refused(&refusal));
        Ok(Response::new(Box::pin(futures::stream::iter(parts.into_iter().map(Ok)))))
    }

    async fn update_offset(
        &self,
        request: Request<v2::UpdateOffsetRequest>,
    ) -> Result<Response<v2::UpdateOffsetResponse>, Status> {
        answer!(
            self.move_offset(request).await,
            ("update_offset", |status| v2::UpdateOffsetResponse { status })
        )
    }

    async fn get_offset(
        &self,
        request: Request<v2::GetOffsetRequest>,
    ) -> Result<Response<v2::GetOffsetResponse>, Status> {
        answer!(
            self.offset(request).await,
            ("get_offset", |status| v2::GetOffsetResponse { status, offset: 0 })
        )
    }

    async fn query_offset(
        &self,
        request: Request<v2::QueryOffsetRequest>,
    ) -> Result<Response<v2::QueryOffsetResponse>, Status> {
        answer!(
            self.offset_by_policy(request).await,
            ("query_offset", |status| v2::QueryOffsetResponse { status, offset: 0 })
        )
    }

    async fn end_transaction(
        &self,
        request: Request<v2::EndTransactionRequest>,
    ) -> Result<Response<v2::EndTransactionResponse>, Status> {
        answer!(
            self.decide(request).await,
            ("end_transaction", |status| v2::EndTransactionResponse { status })
        )
    }

    type TelemetryStream = telemetry::Answers;

    async fn telemetry(
        &self,
        request: Request<Streaming<v2::TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, Status> {
        let client_id = match self.client_id(request.metadata()) {
            Ok(client_id) => client_id,
            Err(refusal) => return Ok(Response::new(telemetry::refused(&refusal))),
        };
        Ok(Response::new(telemetry::serve(self.clone(), client_id, request)))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Result<Response<v2::NotifyClientTerminationResponse>, Status> {
        answer!(
            self.terminate(request).await,
            ("notify_client_termination", |status| v2::NotifyClientTerminationResponse { status })
        )
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Result<Response<v2::ChangeInvisibleDurationResponse>, Status> {
        // Some clients take the handle of the answer even when it is an error.
        let receipt_handle = request.get_ref().receipt_handle.clone();
        answer!(
            self.change_invisible(request).await,
            ("change_invisible_duration", |status| v2::ChangeInvisibleDurationResponse {
                status,
                receipt_handle: receipt_handle.clone()
            })
        )
    }

    async fn recall_message(
        &self,
        request: Request<v2::RecallMessageRequest>,
    ) -> Result<Response<v2::RecallMessageResponse>, Status> {
        answer!(
            self.recall(request).await,
            ("recall_message", |status| v2::RecallMessageResponse {
                status,
                message_id: String::new()
            })
        )
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Result<Response<v2::SyncLiteSubscriptionResponse>, Status> {
        answer!(
            self.subscribe_lite(request).await,
            ("sync_lite_subscription", |status| v2::SyncLiteSubscriptionResponse { status })
        )
    }
}
