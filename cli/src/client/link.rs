//! One connection to one server, and the calls a client makes on it.
//!
//! Invariants: every call has a deadline; a server whose answer was awaited in vain is marked, so
//! that callers can prefer another one for a while.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use raftmq_proto::v2::AckMessageEntry;
use raftmq_proto::v2::AckMessageRequest;
use raftmq_proto::v2::AckMessageResultEntry;
use raftmq_proto::v2::ChangeInvisibleDurationRequest;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::Message;
use raftmq_proto::v2::NotifyClientTerminationRequest;
use raftmq_proto::v2::PullMessageRequest;
use raftmq_proto::v2::QueryRouteRequest;
use raftmq_proto::v2::RecallMessageRequest;
use raftmq_proto::v2::ReceiveMessageRequest;
use raftmq_proto::v2::ReceiveMessageResponse;
use raftmq_proto::v2::Resource;
use raftmq_proto::v2::SendMessageRequest;
use raftmq_proto::v2::SendResultEntry;
use raftmq_proto::v2::Settings;
use raftmq_proto::v2::SyncLiteSubscriptionRequest;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::pull_message_response::Content as PullContent;
use raftmq_proto::v2::receive_message_response::Content;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use super::CallError;
use super::Route;
use super::identity::Identity;
use super::message::resource;
use super::session::Peer;
use super::session::Session;

/// A machine that is gone does not answer at all; across the world one takes half a second. A first
/// packet that was lost is sent again after one second by the kernel, and sooner by a new attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How soon a connection whose other end is gone without a word is noticed: the sum of both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What may be under way to us before we have read it; large enough for a full batch.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest answer: one message with a body of 4 MiB, or a long route.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long a server that did not answer is avoided.
const SUSPICION: Duration = Duration::from_secs(2);

/// Cheap to clone: clones share the connection.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    address: String,
    identity: Identity,
    timeout: Duration,
    client: MessagingServiceClient<Channel>,
    session: Mutex<Option<Session>>,
    /// Held while a session is opened, so that two calls do not open one each.
    greeting: tokio::sync::Mutex<()>,
    silent_since: Mutex<Option<Instant>>,
}

/// Opens a channel to `address`; connecting begins with the first call.
pub(crate) fn channel(address: &str) -> Result<Channel, CallError> {
    let invalid = || CallError::Address { address: address.to_owned() };
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port {
        return Err(invalid());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| invalid())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint.connect_lazy())
}

impl Link {
    pub(crate) fn new(
        address: &str,
        identity: Identity,
        timeout: Duration,
    ) -> Result<Self, CallError> {
        let client = MessagingServiceClient::new(channel(address)?)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self(Arc::new(Inner {
            address: address.to_owned(),
            identity,
            timeout,
            client,
            session: Mutex::new(None),
            greeting: tokio::sync::Mutex::new(()),
            silent_since: Mutex::new(None),
        })))
    }

    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// Whether a call has failed for lack of an answer a moment ago.
    pub(crate) fn is_suspect(&self) -> bool {
        self.0.silent_since.lock().is_some_and(|since| since.elapsed() < SUSPICION)
    }

    pub(crate) async fn query_route(&self, topic: &str) -> Result<Route, CallError> {
        const RPC: &str = "QueryRoute";
        let request = QueryRouteRequest {
            topic: Some(resource(topic)),
            endpoints: raftmq_proto::route::endpoints(&self.0.address),
        };
        let request = self.request(request);
        let mut client = self.0.client.clone();
        let response = self.call(RPC, self.0.timeout, client.query_route(request)).await?;
        CallError::check(&self.0.address, RPC, response.status)?;
        let route = Route::from_wire(response.message_queues);
        match route.queues.is_empty() {
            true => Err(self.malformed(RPC, "the route has no usable queue".to_owned())),
            false => Ok(route),
        }
    }

    /// Exchanges settings with this server, unless that has been done.
    pub(crate) async fn greet(&self, settings: &Settings) -> Result<(), CallError> {
        if self.is_greeted() {
            return Ok(());
        }
        let _one_at_a_time = self.0.greeting.lock().await;
        if self.is_greeted() {
            return Ok(());
        }
        let peer = Peer {
            address: &self.0.address,
            identity: &self.0.identity,
            client: self.0.client.clone(),
            timeout: self.0.timeout,
        };
        let session = Session::open(peer, settings.clone()).await;
        self.note(&session);
        *self.0.session.lock() = Some(session?);
        Ok(())
    }

    /// What the server made of the settings, when it was ever greeted.
    pub(crate) fn granted(&self) -> Option<Settings> {
        self.0.session.lock().as_ref().map(|session| session.granted().clone())
    }

    /// Sends messages of one topic; one result for each, in their order.
    pub(crate) async fn send(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<SendResultEntry>, CallError> {
        const RPC: &str = "SendMessage";
        let count = messages.len();
        let request = self.request(SendMessageRequest { messages });
        let mut client = self.0.client.clone();
        let response = self.call(RPC, self.0.timeout, client.send_message(request)).await?;
        for entry in &response.entries {
            CallError::check(&self.0.address, RPC, entry.status.clone())?;
        }
        CallError::check(&self.0.address, RPC, response.status)?;
        if response.entries.len() != count {
            let problem = format!("{} results for {count} messages", response.entries.len());
            return Err(self.malformed(RPC, problem));
        }
        Ok(response.entries)
    }

    /// Waits up to `wait` (in the server) for messages; none is not an error.
    pub(crate) async fn receive(
        &self,
        request: ReceiveMessageRequest,
        wait: Duration,
    ) -> Result<Vec<Message>, CallError> {
        const RPC: &str = "ReceiveMessage";
        let timeout = wait + self.0.timeout;
        let request = self.0.identity.request(request, Some(timeout));
        let mut client = self.0.client.clone();
        let collected = async {
            let frames = client.receive_message(request).await?.into_inner();
            collect(frames).await.map(Response::new)
        };
        let (status, messages) = self.call(RPC, timeout, collected).await?;
        if status.as_ref().is_some_and(|status| status.code() == Code::MessageNotFound) {
            return Ok(Vec::new());
        }
        CallError::check(&self.0.address, RPC, status)?;
        Ok(messages)
    }

    /// Waits up to `wait` (in the server) for messages of a queue; also says where to go on.
    pub(crate) async fn pull(
        &self,
        request: PullMessageRequest,
        wait: Duration,
    ) -> Result<(Vec<Message>, Option<i64>), CallError> {
        const RPC: &str = "PullMessage";
        let timeout = wait + self.0.timeout;
        let request = self.0.identity.request(request, Some(timeout));
        let mut client = self.0.client.clone();
        let collected = async {
            let mut frames = client.pull_message(request).await?.into_inner();
            let (mut status, mut messages, mut next_offset) = (None, Vec::new(), None);
            while let Some(frame) = frames.message().await? {
                match frame.content {
                    Some(PullContent::Status(received)) => status = Some(received),
                    Some(PullContent::Message(message)) => messages.push(message),
                    Some(PullContent::NextOffset(offset)) => next_offset = Some(offset),
                    None => {}
                }
            }
            Ok(Response::new((status, messages, next_offset)))
        };
        let (status, messages, next_offset) = self.call(RPC, timeout, collected).await?;
        if status.as_ref().is_some_and(|status| status.code() == Code::MessageNotFound) {
            return Ok((Vec::new(), next_offset));
        }
        CallError::check(&self.0.address, RPC, status)?;
        Ok((messages, next_offset))
    }

    /// Acknowledges deliveries of one topic; the results are in the server's order.
    pub(crate) async fn ack(
        &self,
        group: Resource,
        topic: Resource,
        entries: Vec<AckMessageEntry>,
    ) -> Result<Vec<AckMessageResultEntry>, CallError> {
        const RPC: &str = "AckMessage";
        let request =
            self.request(AckMessageRequest { group: Some(group), topic: Some(topic), entries });
        let mut client = self.0.client.clone();
        let response = self.call(RPC, self.0.timeout, client.ack_message(request)).await?;
        // With entries, each of them tells; without, the call as a whole was refused.
        if response.entries.is_empty() {
            CallError::check(&self.0.address, RPC, response.status)?;
        }
        Ok(response.entries)
    }

    /// Returns the receipt handle that replaces the one in the request.
    pub(crate) async fn change_invisible_duration(
        &self,
        request: ChangeInvisibleDurationRequest,
    ) -> Result<String, CallError> {
        const RPC: &str = "ChangeInvisibleDuration";
        let request = self.request(request);
        let mut client = self.0.client.clone();
        let changed = client.change_invisible_duration(request);
        let response = self.call(RPC, self.0.timeout, changed).await?;
        CallError::check(&self.0.address, RPC, response.status)?;
        Ok(response.receipt_handle)
    }

    /// Says to which lite topics this client subscribes.
    pub(crate) async fn subscribe_lite(
        &self,
        request: SyncLiteSubscriptionRequest,
    ) -> Result<(), CallError> {
        const RPC: &str = "SyncLiteSubscription";
        let request = self.request(request);
        let mut client = self.0.client.clone();
        let synced = client.sync_lite_subscription(request);
        let response = self.call(RPC, self.0.timeout, synced).await?;
        CallError::check(&self.0.address, RPC, response.status)
    }

    /// Takes a delayed message back and returns its message id.
    pub(crate) async fn recall(
        &self,
        topic: Resource,
        recall_handle: String,
    ) -> Result<String, CallError> {
        const RPC: &str = "RecallMessage";
        let request = self.request(RecallMessageRequest { topic: Some(topic), recall_handle });
        let mut client = self.0.client.clone();
        let response = self.call(RPC, self.0.timeout, client.recall_message(request)).await?;
        CallError::check(&self.0.address, RPC, response.status)?;
        Ok(response.message_id)
    }

    /// Takes leave, when this server was ever greeted. Nothing depends on its success.
    pub(crate) async fn leave(&self, group: Option<Resource>) {
        if !self.is_greeted() {
            return;
        }
        let request = self.request(NotifyClientTerminationRequest { group });
        let mut client = self.0.client.clone();
        let left = client.notify_client_termination(request);
        let _answer = self.call("NotifyClientTermination", self.0.timeout, left).await;
        *self.0.session.lock() = None;
    }

    fn is_greeted(&self) -> bool {
        self.0.session.lock().as_ref().is_some_and(Session::is_alive)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        self.0.identity.request(message, Some(self.0.timeout))
    }

    fn malformed(&self, rpc: &'static str, problem: String) -> CallError {
        CallError::Malformed { address: self.0.address.clone(), rpc, problem }
    }

    async fn call<T>(
        &self,
        rpc: &'static str,
        timeout: Duration,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        let address = || self.0.address.clone();
        let answer = match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::from_grpc(&self.0.address, rpc, timeout, &status)),
            Err(_) => Err(CallError::Timeout { address: address(), rpc, timeout }),
        };
        self.note(&answer);
        answer
    }

    /// Remembers whether the server answers.
    fn note<T>(&self, answer: &Result<T, CallError>) {
        let silent = matches!(answer, Err(error) if error.is_silence());
        *self.0.silent_since.lock() = silent.then(Instant::now);
    }
}

/// Everything up to the end of the stream, as official clients wait for it.
async fn collect(
    mut frames: Streaming<ReceiveMessageResponse>,
) -> Result<(Option<raftmq_proto::v2::Status>, Vec<Message>), Status> {
    let (mut status, mut messages) = (None, Vec::new());
    while let Some(frame) = frames.message().await? {
        match frame.content {
            Some(Content::Status(received)) => status = Some(received),
            Some(Content::Message(message)) => messages.push(message),
            Some(Content::DeliveryTimestamp(_)) | None => {}
        }
    }
    Ok((status, messages))
}
