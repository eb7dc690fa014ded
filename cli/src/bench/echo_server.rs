//! `raftmq bench echo-server`: the network stack of a broker with nothing behind it.
//!
//! It routes every topic to itself, takes settings and heartbeats, and answers each message that
//! is sent with OK and the next offset. Nothing is stored: what a load generator measures against
//! it is the ceiling for a broker on the same machine.

use std::pin::Pin;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use clap::Args;
use futures::Stream;
use futures::StreamExt;
use raftmq_listener::Listener;
use raftmq_proto::raftmq::GroupRoute;
use raftmq_proto::raftmq::RouteMember;
use raftmq_proto::raftmq::RouteTopic;
use raftmq_proto::route;
use raftmq_proto::v2::messaging_service_server::MessagingService;
use raftmq_proto::v2::messaging_service_server::MessagingServiceServer;
use raftmq_proto::v2::settings::PubSub;
use raftmq_proto::v2::telemetry_command::Command;
use raftmq_proto::v2::*;
use tonic::Request;
use tonic::Response;
use tonic::Streaming;

use crate::exit::Failure;
use crate::output;
use crate::stop;

const QUEUE_COUNT: u32 = 8;
/// What official servers allow for the body of a message, and for a request of 32 such messages.
const BODY_BYTES_MAX: i32 = 4 << 20;
const REQUEST_BYTES_MAX: usize = 130 << 20;

#[derive(Args)]
pub struct EchoArgs {
    /// Where to listen; clients are told to come back to the same address
    #[arg(long, default_value = "127.0.0.1:9081", value_name = "HOST:PORT")]
    listen: String,
}

pub async fn run(args: EchoArgs) -> Result<(), Failure> {
    let stop = stop::requested()?;
    let listener = Listener::bind(&args.listen, None).await.map_err(|error| {
        Failure::failed(format!("could not listen on {}: {error}", args.listen))
    })?;
    let address = listener.local_addr()?.to_string();
    output::print(&format!(
        "echo server ready; measure it with\n  raftmq bench send --endpoint {address}\n"
    ))?;
    let service = MessagingServiceServer::new(Echo::new(address))
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(listener.into_incoming(), stop)
        .await
        .map_err(Failure::failed)
}

struct Echo {
    route: GroupRoute,
    next_offset: AtomicI64,
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

impl Echo {
    fn new(client_address: String) -> Self {
        let member = RouteMember { node_id: 1, broker_name: "echo-1".to_owned(), client_address };
        let route = GroupRoute { leader_id: 1, members: vec![member], ..GroupRoute::default() };
        Self { route, next_offset: AtomicI64::new(0) }
    }

    fn stored(&self, message: &Message) -> SendResultEntry {
        let system = message.system_properties.as_ref();
        SendResultEntry {
            status: ok(),
            message_id: system.map(|system| system.message_id.clone()).unwrap_or_default(),
            offset: self.next_offset.fetch_add(1, Ordering::Relaxed),
            ..SendResultEntry::default()
        }
    }
}

fn ok() -> Option<Status> {
    Some(Status { code: Code::Ok.into(), message: "OK".to_owned() })
}

/// The client's settings with the server's part filled in.
fn grant(mut settings: Settings) -> Settings {
    settings.backoff_policy = Some(RetryPolicy { max_attempts: 3, strategy: None });
    if let Some(PubSub::Publishing(publishing)) = &mut settings.pub_sub {
        publishing.max_body_size = BODY_BYTES_MAX;
        publishing.validate_message_type = true;
    }
    settings.metric = Some(Metric::default());
    settings
}

fn nothing_stored<T>() -> Result<T, tonic::Status> {
    Err(tonic::Status::unimplemented("the echo server stores nothing; use a broker"))
}

#[tonic::async_trait]
impl MessagingService for Echo {
    async fn query_route(
        &self,
        request: Request<QueryRouteRequest>,
    ) -> Result<Response<QueryRouteResponse>, tonic::Status> {
        let resource = request.into_inner().topic.unwrap_or_default();
        let topic = RouteTopic {
            name: resource.name.clone(),
            queue_count: QUEUE_COUNT,
            message_types: vec![MessageType::Normal.into()],
        };
        let message_queues =
            route::message_queues(&self.route, &topic, &resource, route::Shape::OneAddress);
        Ok(Response::new(QueryRouteResponse { status: ok(), message_queues }))
    }

    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, tonic::Status> {
        let messages = request.into_inner().messages;
        let entries = messages.iter().map(|message| self.stored(message)).collect();
        Ok(Response::new(SendMessageResponse { status: ok(), entries }))
    }

    async fn heartbeat(
        &self,
        _request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, tonic::Status> {
        Ok(Response::new(HeartbeatResponse { status: ok() }))
    }

    async fn notify_client_termination(
        &self,
        _request: Request<NotifyClientTerminationRequest>,
    ) -> Result<Response<NotifyClientTerminationResponse>, tonic::Status> {
        Ok(Response::new(NotifyClientTerminationResponse { status: ok() }))
    }

    type TelemetryStream = Frames<TelemetryCommand>;

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, tonic::Status> {
        let answers = request.into_inner().filter_map(async |command| match command {
            Ok(TelemetryCommand { command: Some(Command::Settings(settings)), .. }) => {
                let command = Some(Command::Settings(grant(settings)));
                Some(Ok(TelemetryCommand { status: ok(), command }))
            }
            Ok(_) => None,
            Err(status) => Some(Err(status)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type ReceiveMessageStream = Frames<ReceiveMessageResponse>;

    async fn receive_message(
        &self,
        _request: Request<ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, tonic::Status> {
        nothing_stored()
    }

    type PullMessageStream = Frames<PullMessageResponse>;

    async fn pull_message(
        &self,
        _request: Request<PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, tonic::Status> {
        nothing_stored()
    }

    async fn query_assignment(
        &self,
        _request: Request<QueryAssignmentRequest>,
    ) -> Result<Response<QueryAssignmentResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn ack_message(
        &self,
        _request: Request<AckMessageRequest>,
    ) -> Result<Response<AckMessageResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        _request: Request<ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<ForwardMessageToDeadLetterQueueResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn update_offset(
        &self,
        _request: Request<UpdateOffsetRequest>,
    ) -> Result<Response<UpdateOffsetResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn get_offset(
        &self,
        _request: Request<GetOffsetRequest>,
    ) -> Result<Response<GetOffsetResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn query_offset(
        &self,
        _request: Request<QueryOffsetRequest>,
    ) -> Result<Response<QueryOffsetResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn end_transaction(
        &self,
        _request: Request<EndTransactionRequest>,
    ) -> Result<Response<EndTransactionResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn change_invisible_duration(
        &self,
        _request: Request<ChangeInvisibleDurationRequest>,
    ) -> Result<Response<ChangeInvisibleDurationResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn recall_message(
        &self,
        _request: Request<RecallMessageRequest>,
    ) -> Result<Response<RecallMessageResponse>, tonic::Status> {
        nothing_stored()
    }

    async fn sync_lite_subscription(
        &self,
        _request: Request<SyncLiteSubscriptionRequest>,
    ) -> Result<Response<SyncLiteSubscriptionResponse>, tonic::Status> {
        nothing_stored()
    }
}
