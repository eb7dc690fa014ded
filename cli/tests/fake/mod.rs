//! A server in memory that does what a test tells it.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt;
use parking_lot::Mutex;
use raftmq_listener::Listener;
use raftmq_proto::route::endpoints;
use raftmq_proto::v2::messaging_service_server::MessagingService;
use raftmq_proto::v2::messaging_service_server::MessagingServiceServer;
use raftmq_proto::v2::pull_message_response::Content as PullContent;
use raftmq_proto::v2::receive_message_response::Content;
use raftmq_proto::v2::telemetry_command::Command;
use raftmq_proto::v2::*;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tonic::Request;
use tonic::Response;
use tonic::Streaming;
use tonic::metadata::MetadataMap;

/// A handle on a running server.
pub struct Fake {
    address: SocketAddr,
    service: Service,
    /// Of its own: connections are tasks too, and must end when the server is stopped.
    runtime: Mutex<Option<Runtime>>,
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    /// Changes to end all telemetry streams.
    telemetry_epoch: Arc<watch::Sender<u64>>,
}

struct State {
    /// Broker names and addresses; none: the topic is unknown.
    route: Vec<(String, String)>,
    send_code: Code,
    receive_code: Code,
    ack_code: Code,
    requests: usize,
    sent: Vec<Message>,
    stored: VecDeque<Message>,
    acked: Vec<String>,
    greetings: usize,
    client_ids: BTreeSet<String>,
}

impl Fake {
    pub async fn start() -> Self {
        let state = State {
            route: Vec::new(),
            send_code: Code::Ok,
            receive_code: Code::Ok,
            ack_code: Code::Ok,
            requests: 0,
            sent: Vec::new(),
            stored: VecDeque::new(),
            acked: Vec::new(),
            greetings: 0,
            client_ids: BTreeSet::new(),
        };
        let service = Service {
            state: Arc::new(Mutex::new(state)),
            telemetry_epoch: Arc::new(watch::Sender::new(0)),
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving = service.clone();
        let (tell, told) = oneshot::channel();
        runtime.spawn(async move {
            let listener = Listener::bind("127.0.0.1:0", None).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let server = tonic::transport::Server::builder()
                .add_service(MessagingServiceServer::new(serving));
            server.serve_with_incoming(listener.into_incoming()).await.unwrap();
        });
        let address = told.await.unwrap();
        Self { address, service, runtime: Mutex::new(Some(runtime)) }
    }

    /// Ends the server and its connections.
    pub async fn stop(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn route(&self, brokers: &[(&str, &str)]) {
        let brokers = brokers.iter().map(|(name, address)| (name.to_string(), address.to_string()));
        self.service.state.lock().route = brokers.collect();
    }

    pub fn answer_sends(&self, code: Code) {
        self.service.state.lock().send_code = code;
    }

    pub fn answer_receives(&self, code: Code) {
        self.service.state.lock().receive_code = code;
    }

    pub fn answer_acks(&self, code: Code) {
        self.service.state.lock().ack_code = code;
    }

    pub fn end_telemetry(&self) {
        self.service.telemetry_epoch.send_modify(|epoch| *epoch += 1);
    }

    pub fn greetings(&self) -> usize {
        self.service.state.lock().greetings
    }

    pub fn requests(&self) -> usize {
        self.service.state.lock().requests
    }

    pub fn client_ids(&self) -> Vec<String> {
        self.service.state.lock().client_ids.iter().cloned().collect()
    }

    pub fn acked_handles(&self) -> Vec<String> {
        self.service.state.lock().acked.clone()
    }

    pub fn sent_ids(&self) -> Vec<String> {
        let state = self.service.state.lock();
        state.sent.iter().map(|message| id(message).to_owned()).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // A test runs in a runtime, where another one must not be waited for.
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

fn id(message: &Message) -> &str {
    message.system_properties.as_ref().map_or("", |system| &system.message_id)
}

fn status(code: Code) -> Option<Status> {
    Some(Status { code: code.into(), message: "said by the fake".to_owned() })
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;
type Answer<T> = Result<Response<T>, tonic::Status>;

/// Calls the client never makes, as `async_trait` would write them.
macro_rules! never_called {
    ($($method:ident($request:ty) -> $response:ty;)*) => {
        $(
            fn $method<'a, 'b>(
                &'a self,
                _request: Request<$request>,
            ) -> Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'b>>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(async { Err(tonic::Status::unimplemented("not by the fake")) })
            }
        )*
    };
}

#[tonic::async_trait]
impl MessagingService for Service {
    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Answer<QueryRouteResponse> {
        let topic = request.into_inner().topic;
        let state = self.state.lock();
        let queue = |(name, address): &(String, String)| MessageQueue {
            topic: topic.clone(),
            broker: Some(Broker { name: name.clone(), id: 0, endpoints: endpoints(address) }),
            permission: Permission::ReadWrite.into(),
            ..MessageQueue::default()
        };
        let message_queues: Vec<_> = state.route.iter().map(queue).collect();
        let code = if message_queues.is_empty() { Code::TopicNotFound } else { Code::Ok };
        Ok(Response::new(QueryRouteResponse { status: status(code), message_queues }))
    }

    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Answer<SendMessageResponse> {
        let mut state = self.state.lock();
        state.saw(request.metadata());
        let messages = request.into_inner().messages;
        state.requests += 1;
        state.sent.extend(messages.iter().cloned());
        if state.send_code != Code::Ok {
            let status = status(state.send_code);
            return Ok(Response::new(SendMessageResponse { status, entries: Vec::new() }));
        }
        let entry = |message: &Message| SendResultEntry {
            status: status(Code::Ok),
            message_id: id(message).to_owned(),
            ..SendResultEntry::default()
        };
        let entries = messages.iter().map(entry).collect();
        state.stored.extend(messages);
        Ok(Response::new(SendMessageResponse { status: status(Code::Ok), entries }))
    }

    type ReceiveMessageStream = Frames<ReceiveMessageResponse>;

    async fn receive_message(
        &self,
        request: Request<ReceiveMessageRequest>,
    ) -> Answer<Self::ReceiveMessageStream> {
        let mut state = self.state.lock();
        state.saw(request.metadata());
        let mut message = state.stored.pop_front();
        if let Some(system) = message.as_mut().and_then(|m| m.system_properties.as_mut()) {
            system.delivery_attempt = Some(1);
            system.receipt_handle = Some(format!("handle of {}", system.message_id));
        }
        let code = match (state.receive_code, &message) {
            (Code::Ok, None) => Code::MessageNotFound,
            (code, _) => code,
        };
        let status = status(code).map(Content::Status);
        let time = Some(Content::DeliveryTimestamp(prost_types::Timestamp::default()));
        let frames = [status, message.map(Content::Message), time].into_iter().flatten();
        let frames: Vec<_> =
            frames.map(|content| Ok(ReceiveMessageResponse { content: Some(content) })).collect();
        Ok(Response::new(Box::pin(futures::stream::iter(frames))))
    }

    async fn ack_message(&self, request: Request<AckMessageRequest>) -> Answer<AckMessageResponse> {
        let mut state = self.state.lock();
        let entries = request.into_inner().entries;
        if state.ack_code == Code::InternalServerError {
            let status = status(state.ack_code);
            return Ok(Response::new(AckMessageResponse { status, entries: Vec::new() }));
        }
        let code = state.ack_code;
        let entry = |entry: AckMessageEntry| AckMessageResultEntry {
            message_id: entry.message_id,
            receipt_handle: entry.receipt_handle,
            status: status(code),
        };
        state.acked.extend(entries.iter().map(|entry| entry.receipt_handle.clone()));
        let entries = entries.into_iter().map(entry).collect();
        Ok(Response::new(AckMessageResponse { status: status(code), entries }))
    }

    type TelemetryStream = Frames<TelemetryCommand>;

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Answer<Self::TelemetryStream> {
        let state = Arc::clone(&self.state);
        state.lock().saw(request.metadata());
        let answers = request.into_inner().filter_map(move |command| {
            state.lock().greetings += 1;
            let settings = command.ok().and_then(|command| command.command);
            let command = Some(settings.unwrap_or(Command::Settings(Settings::default())));
            async { Some(Ok(TelemetryCommand { status: status(Code::Ok), command })) }
        });
        let mut epoch = self.telemetry_epoch.subscribe();
        let ended = async move { drop(epoch.changed().await) };
        Ok(Response::new(Box::pin(answers.take_until(Box::pin(ended)))))
    }

    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        Ok(Response::new(HeartbeatResponse { status: status(Code::Ok) }))
    }

    type PullMessageStream = Frames<PullMessageResponse>;

    /// Everything that was ever sent is one queue.
    async fn pull_message(
        &self,
        request: Request<PullMessageRequest>,
    ) -> Answer<Self::PullMessageStream> {
        let mut state = self.state.lock();
        state.saw(request.metadata());
        let request = request.into_inner();
        let from = usize::try_from(request.offset).unwrap();
        let found = state.sent.iter().skip(from).take(request.batch_size as usize);
        let messages: Vec<_> = found.cloned().map(PullContent::Message).collect();
        let code = if messages.is_empty() { Code::MessageNotFound } else { Code::Ok };
        let next_offset = PullContent::NextOffset((from + messages.len()) as i64);
        let status = status(code).map(PullContent::Status);
        let frames = status.into_iter().chain(messages).chain([next_offset]);
        let frames: Vec<_> =
            frames.map(|content| Ok(PullMessageResponse { content: Some(content) })).collect();
        Ok(Response::new(Box::pin(futures::stream::iter(frames))))
    }

    /// The recall handle is a message id.
    async fn recall_message(
        &self,
        request: Request<RecallMessageRequest>,
    ) -> Answer<RecallMessageResponse> {
        let mut state = self.state.lock();
        state.saw(request.metadata());
        let message_id = request.into_inner().recall_handle;
        let known = state.sent.iter().any(|message| id(message) == message_id);
        let code = if known { Code::Ok } else { Code::NotFound };
        Ok(Response::new(RecallMessageResponse { status: status(code), message_id }))
    }

    never_called! {
        query_assignment(QueryAssignmentRequest) -> QueryAssignmentResponse;
        forward_message_to_dead_letter_queue(ForwardMessageToDeadLetterQueueRequest)
            -> ForwardMessageToDeadLetterQueueResponse;
        update_offset(UpdateOffsetRequest) -> UpdateOffsetResponse;
        get_offset(GetOffsetRequest) -> GetOffsetResponse;
        query_offset(QueryOffsetRequest) -> QueryOffsetResponse;
        end_transaction(EndTransactionRequest) -> EndTransactionResponse;
        notify_client_termination(NotifyClientTerminationRequest)
            -> NotifyClientTerminationResponse;
        change_invisible_duration(ChangeInvisibleDurationRequest)
            -> ChangeInvisibleDurationResponse;
        sync_lite_subscription(SyncLiteSubscriptionRequest) -> SyncLiteSubscriptionResponse;
    }
}

impl State {
    fn saw(&mut self, headers: &MetadataMap) {
        let client_id = headers.get("x-mq-client-id").and_then(|id| id.to_str().ok());
        self.client_ids.insert(client_id.unwrap_or("none").to_owned());
    }
}
