//! `apache.rocketmq.v2.MessagingService` as far as a name server has it: routes and assignments.
//!
//! Three calls are passed on ([`super::relay`]). Every other call is answered with `NOT_IMPLEMENTED` in the response body, which official clients
//! report to their user with the text, while they take a gRPC error for a broken connection.
//!
//! Not here: `x-mq-client-id` and the other headers; nothing depends on who asks.

use raftmq_proto::names;
use raftmq_proto::names::NameError;
use raftmq_proto::route::Shape;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::messaging_service_server::MessagingService;
use raftmq_proto::v2::*;
use tonic::Request;
use tonic::Response;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::metrics;
use crate::route_table::NoRoute;
use crate::route_table::RouteTable;

use super::SharedTable;
use super::relay::Relay;

const NOT_HERE: &str = "a name server only serves routes; connect to the brokers in the route";

pub(crate) struct Messaging {
    pub(crate) table: SharedTable,
    pub(crate) relay: Relay,
}

/// An answer of a single frame.
type OneFrame<T> = tokio_stream::Once<Result<T, tonic::Status>>;

#[tonic::async_trait]
impl MessagingService for Messaging {
    async fn query_route(
        &self,
        request: Request<QueryRouteRequest>,
    ) -> Result<Response<QueryRouteResponse>, tonic::Status> {
        let shape = shape(&request);
        let topic = request.into_inner().topic.unwrap_or_default();
        let found =
            self.find(&topic, None, |table, topic, now| table.message_queues(topic, shape, now));
        let (status, message_queues) = answer("QueryRoute", found);
        Ok(Response::new(QueryRouteResponse { status, message_queues }))
    }

    async fn query_assignment(
        &self,
        request: Request<QueryAssignmentRequest>,
    ) -> Result<Response<QueryAssignmentResponse>, tonic::Status> {
        let shape = shape(&request);
        let QueryAssignmentRequest { topic, group, .. } = request.into_inner();
        let (topic, group) = (topic.unwrap_or_default(), group.unwrap_or_default());
        let found = self
            .find(&topic, Some(&group), |table, topic, now| table.assignments(topic, shape, now));
        let (status, assignments) = answer("QueryAssignment", found);
        Ok(Response::new(QueryAssignmentResponse { status, assignments }))
    }

    async fn heartbeat(
        &self,
        _request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, tonic::Status> {
        Ok(Response::new(HeartbeatResponse { status: not_here("Heartbeat") }))
    }

    async fn send_message(
        &self,
        _request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, tonic::Status> {
        Ok(Response::new(SendMessageResponse {
            status: not_here("SendMessage"),
            ..Default::default()
        }))
    }

    async fn ack_message(
        &self,
        _request: Request<AckMessageRequest>,
    ) -> Result<Response<AckMessageResponse>, tonic::Status> {
        Ok(Response::new(AckMessageResponse {
            status: not_here("AckMessage"),
            ..Default::default()
        }))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        _request: Request<ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<ForwardMessageToDeadLetterQueueResponse>, tonic::Status> {
        Ok(Response::new(ForwardMessageToDeadLetterQueueResponse {
            status: not_here("ForwardMessageToDeadLetterQueue"),
        }))
    }

    async fn update_offset(
        &self,
        _request: Request<UpdateOffsetRequest>,
    ) -> Result<Response<UpdateOffsetResponse>, tonic::Status> {
        Ok(Response::new(UpdateOffsetResponse { status: not_here("UpdateOffset") }))
    }

    async fn get_offset(
        &self,
        _request: Request<GetOffsetRequest>,
    ) -> Result<Response<GetOffsetResponse>, tonic::Status> {
        Ok(Response::new(GetOffsetResponse { status: not_here("GetOffset"), ..Default::default() }))
    }

    async fn query_offset(
        &self,
        _request: Request<QueryOffsetRequest>,
    ) -> Result<Response<QueryOffsetResponse>, tonic::Status> {
        Ok(Response::new(QueryOffsetResponse {
            status: not_here("QueryOffset"),
            ..Default::default()
        }))
    }

    async fn end_transaction(
        &self,
        request: Request<EndTransactionRequest>,
    ) -> Result<Response<EndTransactionResponse>, tonic::Status> {
        let topic = request.get_ref().topic.clone().unwrap_or_default();
        let answer = match self.leaders(&topic) {
            Ok(leaders) => {
                let call = |mut broker: MessagingServiceClient<Channel>, request| async move {
                    broker.end_transaction(request).await
                };
                self.relay.ask(leaders, request, call, |answer| &answer.status).await
            }
            Err(error) => Err(error),
        };
        let failed = |(code, message)| EndTransactionResponse {
            status: Some(status("EndTransaction", code, message)),
        };
        Ok(Response::new(answer.unwrap_or_else(failed)))
    }

    async fn notify_client_termination(
        &self,
        _request: Request<NotifyClientTerminationRequest>,
    ) -> Result<Response<NotifyClientTerminationResponse>, tonic::Status> {
        Ok(Response::new(NotifyClientTerminationResponse {
            status: not_here("NotifyClientTermination"),
        }))
    }

    async fn change_invisible_duration(
        &self,
        _request: Request<ChangeInvisibleDurationRequest>,
    ) -> Result<Response<ChangeInvisibleDurationResponse>, tonic::Status> {
        Ok(Response::new(ChangeInvisibleDurationResponse {
            status: not_here("ChangeInvisibleDuration"),
            ..Default::default()
        }))
    }

    async fn recall_message(
        &self,
        request: Request<RecallMessageRequest>,
    ) -> Result<Response<RecallMessageResponse>, tonic::Status> {
        let topic = request.get_ref().topic.clone().unwrap_or_default();
        let answer = match self.leaders(&topic) {
            Ok(leaders) => {
                let call = |mut broker: MessagingServiceClient<Channel>, request| async move {
                    broker.recall_message(request).await
                };
                self.relay.ask(leaders, request, call, |answer| &answer.status).await
            }
            Err(error) => Err(error),
        };
        let failed = |(code, message)| RecallMessageResponse {
            status: Some(status("RecallMessage", code, message)),
            ..Default::default()
        };
        Ok(Response::new(answer.unwrap_or_else(failed)))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Result<Response<SyncLiteSubscriptionResponse>, tonic::Status> {
        let topic = request.get_ref().topic.clone().unwrap_or_default();
        let told = match self.find(&topic, None, |table, topic, now| table.members(topic, now)) {
            Ok(groups) => self.sync_lite(groups, request).await,
            Err(error) => Err(error.status()),
        };
        let failed = |(code, message)| status("SyncLiteSubscription", code, message);
        let status = Some(told.unwrap_or_else(failed));
        Ok(Response::new(SyncLiteSubscriptionResponse { status }))
    }

    type ReceiveMessageStream = OneFrame<ReceiveMessageResponse>;

    async fn receive_message(
        &self,
        _request: Request<ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, tonic::Status> {
        let content = not_here("ReceiveMessage").map(receive_message_response::Content::Status);
        Ok(Response::new(tokio_stream::once(Ok(ReceiveMessageResponse { content }))))
    }

    type PullMessageStream = OneFrame<PullMessageResponse>;

    async fn pull_message(
        &self,
        _request: Request<PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, tonic::Status> {
        let content = not_here("PullMessage").map(pull_message_response::Content::Status);
        Ok(Response::new(tokio_stream::once(Ok(PullMessageResponse { content }))))
    }

    type TelemetryStream = OneFrame<TelemetryCommand>;

    /// Says why and ends: clients open this stream to brokers only, so whoever comes here took a
    /// name server for a broker.
    async fn telemetry(
        &self,
        _request: Request<Streaming<TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, tonic::Status> {
        let command = TelemetryCommand { status: not_here("Telemetry"), command: None };
        Ok(Response::new(tokio_stream::once(Ok(command))))
    }
}

impl Messaging {
    /// Each group that has the topic has messages of its own: all must know who subscribes. Any node
    /// takes it, so that a leader that has just died does not matter. Returns the first refusal.
    async fn sync_lite(
        &self,
        groups: Vec<Vec<String>>,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Result<Status, (Code, String)> {
        let (metadata, _, message) = request.into_parts();
        let mut told = Status { code: Code::Ok.into(), message: "OK".to_owned() };
        for members in groups {
            let mut request = Request::new(message.clone());
            *request.metadata_mut() = metadata.clone();
            let call = |mut broker: MessagingServiceClient<Channel>, request| async move {
                broker.sync_lite_subscription(request).await
            };
            let answer = self.relay.ask(members, request, call, |answer| &answer.status).await?;
            let status = answer.status.unwrap_or_default();
            if told.code == i32::from(Code::Ok) {
                told = status;
            }
        }
        Ok(told)
    }

    /// Addresses of the leaders of all groups that have a topic.
    fn leaders(&self, topic: &Resource) -> Result<Vec<String>, (Code, String)> {
        self.find(topic, None, |table, topic, now| table.leaders(topic, now))
            .map_err(QueryError::status)
    }

    fn find<T>(
        &self,
        topic: &Resource,
        group: Option<&Resource>,
        question: impl FnOnce(&RouteTable, &Resource, std::time::Instant) -> Result<T, NoRoute>,
    ) -> Result<T, QueryError> {
        names::topic(&topic.name).map_err(QueryError::Topic)?;
        if let Some(group) = group {
            names::consumer_group(&group.name).map_err(QueryError::Group)?;
        }
        self.table.read(|table, now| question(table, topic, now)).map_err(|reason| match reason {
            NoRoute::UnknownTopic => QueryError::UnknownTopic(topic.name.clone()),
            NoRoute::NoGroup => QueryError::NoGroup,
        })
    }
}

/// What the client's language needs of a route.
fn shape<T>(request: &Request<T>) -> Shape {
    let language = request.metadata().get("x-mq-language");
    Shape::of_language(language.and_then(|language| language.to_str().ok()).unwrap_or(""))
}

/// Why a question can not be answered.
enum QueryError {
    Topic(NameError),
    Group(NameError),
    UnknownTopic(String),
    NoGroup,
}

impl QueryError {
    fn status(self) -> (Code, String) {
        match self {
            QueryError::Topic(error) => (Code::IllegalTopic, error.to_string()),
            QueryError::Group(error) => (Code::IllegalConsumerGroup, error.to_string()),
            QueryError::UnknownTopic(topic) => (
                Code::TopicNotFound,
                format!(
                    "topic {topic} does not exist; create it with `raftmq topic create {topic}`"
                ),
            ),
            QueryError::NoGroup => {
                (Code::HaNotAvailable, "no broker group has registered yet".to_owned())
            }
        }
    }
}

fn answer<T>(rpc: &'static str, found: Result<Vec<T>, QueryError>) -> (Option<Status>, Vec<T>) {
    let (code, message, lines) = match found {
        Ok(lines) => (Code::Ok, "OK".to_owned(), lines),
        Err(error) => {
            let (code, message) = error.status();
            (code, message, Vec::new())
        }
    };
    (Some(status(rpc, code, message)), lines)
}

fn not_here(rpc: &'static str) -> Option<Status> {
    Some(status(rpc, Code::NotImplemented, NOT_HERE.to_owned()))
}

fn status(rpc: &'static str, code: Code, message: String) -> Status {
    metrics::query(rpc, code);
    Status { code: code.into(), message }
}
