//! A client on the wire, for what the client library behind the operators' commands does not do: message
//! groups, delays, transactions, pulling, lite topics.
//!
//! It knows all brokers, and goes on to the next one when the one it talks to does not answer. Each call
//! is one attempt at one broker, so that a history has a line for each. A telemetry stream to each broker
//! says who it is, brings the questions about half messages, and is opened anew when it ends.
//!
//! Not here: what is sent and received when, which is the workload's; name servers, which these workloads
//! do not try.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use raftmq::client::MessageId;
use raftmq_proto::v2;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::receive_message_response::Content;
use raftmq_proto::v2::telemetry_command::Command;
use raftmq_proto::v2::{Code, MessageType, Resource, Settings};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::history::{self, Action, Operation};

/// For an answer, without what the server was asked to wait.
const TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEPALIVE: Duration = Duration::from_secs(5);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Before a telemetry stream is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
/// Questions about half messages that nobody has looked at yet.
const CHECKS_MAX: usize = 1024;

/// A call that did not succeed.
#[derive(Debug)]
pub(super) struct Failed {
    /// Whether it certainly had no effect.
    pub(super) is_not_done: bool,
    /// What the server said, if it answered.
    pub(super) code: Option<Code>,
    text: String,
}

impl Failed {
    /// Whether a broker said no.
    pub(super) fn is_refusal(&self) -> bool {
        self.code.is_some() && self.is_not_done
    }

    /// The same for what replaces the handle it names: a broker that lost the leader's answer on the way
    /// asks again, with the handle that is replaced by then. It may have taken effect.
    pub(super) fn of_replaced_handle(mut self) -> Self {
        self.is_not_done &= self.code != Some(Code::InvalidReceiptHandle);
        self
    }

    /// Ends an operation as what it was.
    pub(super) fn end(&self, operation: Operation, action: Action) {
        match self.is_not_done {
            true => operation.fail(action, self.text.clone()),
            false => operation.unknown(action, self.text.clone()),
        }
    }
}

/// A question about a half message.
pub(super) struct Check {
    pub(super) message: v2::Message,
    pub(super) transaction_id: String,
}

/// What a client is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role<'a> {
    /// It sends to this topic.
    Producer(&'a str),
    /// It receives for this group.
    Consumer(&'a str),
    /// It receives for this group from lite topics of this topic.
    Lite(&'a str, &'a str, v2::ClientType),
}

/// A client. Dropped, it is gone without a word.
pub(super) struct Client {
    id: String,
    brokers: Vec<MessagingServiceClient<Channel>>,
    /// The broker that answered last.
    at: AtomicUsize,
    /// Telemetry streams.
    _streams: JoinSet<()>,
}

impl Client {
    /// A client of the brokers at these addresses, `host:port`, and the questions it is asked. Connects
    /// when it is needed.
    pub(super) fn start(
        brokers: &[String],
        role: Role<'_>,
    ) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Check>)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("chaos@{}@{number}@{}", std::process::id(), crate::cluster::now_ms());
        let brokers = brokers.iter().map(|address| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE)
                .keep_alive_while_idle(true);
            anyhow::Ok(MessagingServiceClient::new(endpoint.connect_lazy()))
        });
        let brokers = brokers.collect::<anyhow::Result<Vec<_>>>()?;
        let (checks, asked) = mpsc::channel(CHECKS_MAX);
        let mut streams = JoinSet::new();
        for broker in &brokers {
            let (id, settings) = (id.clone(), settings(role));
            streams.spawn(keep_open(broker.clone(), id, settings, checks.clone()));
        }
        // Clients begin at different brokers.
        let at = AtomicUsize::new(number as usize);
        Ok((Arc::new(Self { id, brokers, at, _streams: streams }), asked))
    }

    /// One attempt of a call at one broker.
    async fn call<T>(
        &self,
        patience: Duration,
        call: impl AsyncFnOnce(MessagingServiceClient<Channel>) -> Result<T, tonic::Status>,
    ) -> Result<T, Failed> {
        let at = self.at.load(Ordering::Relaxed);
        let broker = self.brokers[at % self.brokers.len()].clone();
        let failed = match tokio::time::timeout(patience, call(broker)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => Failed {
                is_not_done: is_not_connected(&status),
                code: None,
                text: format!("{}: {}", status.code(), status.message()),
            },
            Err(_) => {
                let text = format!("no answer within {patience:?}");
                Failed { is_not_done: false, code: None, text }
            }
        };
        // Unless somebody else has gone on already.
        let next = at.wrapping_add(1);
        let _ours = self.at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        Err(failed)
    }

    /// A refusal that another broker may not give; the next call goes there.
    fn judge(&self, status: Option<v2::Status>) -> Result<(), Failed> {
        let judged = judge(status);
        if judged.as_ref().is_err_and(|failed| !failed.is_not_done) {
            self.at.fetch_add(1, Ordering::Relaxed);
        }
        judged
    }

    fn request<T>(&self, message: T, patience: Duration) -> tonic::Request<T> {
        request(&self.id, message, Some(patience))
    }

    pub(super) async fn send(&self, message: v2::Message) -> Result<v2::SendResultEntry, Failed> {
        let request = self.request(v2::SendMessageRequest { messages: vec![message] }, TIMEOUT);
        let answer = self.call(TIMEOUT, async |mut broker| broker.send_message(request).await);
        let mut answer = answer.await?.into_inner();
        self.judge(answer.status)?;
        let Some(entry) = answer.entries.pop() else { return Err(malformed("no entry")) };
        self.judge(entry.status.clone())?;
        Ok(entry)
    }

    /// Nothing when no message came in time.
    pub(super) async fn receive(
        &self,
        (group, topic): (&str, &str),
        receive: &Receive<'_>,
    ) -> Result<Vec<v2::Message>, Failed> {
        let message = v2::ReceiveMessageRequest {
            group: Some(resource(group)),
            message_queue: Some(queue(topic, 0)),
            filter_expression: Some(everything()),
            batch_size: receive.count_max,
            invisible_duration: prost_types::Duration::try_from(receive.invisible).ok(),
            auto_renew: false,
            long_polling_timeout: prost_types::Duration::try_from(receive.wait).ok(),
            attempt_id: Some(receive.attempt_id.to_owned()),
        };
        let patience = receive.wait + TIMEOUT;
        let request = self.request(message, patience);
        let answer = self.call(patience, async |mut broker| {
            let mut parts = broker.receive_message(request).await?.into_inner();
            let (mut status, mut messages) = (None, Vec::new());
            while let Some(part) = parts.message().await? {
                match part.content {
                    Some(Content::Status(received)) => status = Some(received),
                    Some(Content::Message(message)) => messages.push(message),
                    Some(Content::DeliveryTimestamp(_)) | None => (),
                }
            }
            Ok((status, messages))
        });
        let (status, messages) = answer.await?;
        match self.judge(status) {
            Err(Failed { code: Some(Code::MessageNotFound), .. }) => Ok(Vec::new()),
            judged => judged.map(|()| messages),
        }
    }

    pub(super) async fn ack(
        &self,
        (group, topic): (&str, &str),
        delivery: &Delivery,
    ) -> Result<(), Failed> {
        let entry = v2::AckMessageEntry {
            message_id: delivery.seen.message_id.clone(),
            receipt_handle: delivery.receipt_handle.clone(),
            lite_topic: delivery.lite_topic.clone(),
        };
        let message = v2::AckMessageRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            entries: vec![entry],
        };
        let request = self.request(message, TIMEOUT);
        let answer = self.call(TIMEOUT, async |mut broker| broker.ack_message(request).await);
        let mut answer = answer.await?.into_inner();
        match answer.entries.pop() {
            Some(entry) => self.judge(entry.status),
            None => self.judge(answer.status).and(Err(malformed("no entry"))),
        }
    }

    /// The delivery then has the receipt that counts.
    pub(super) async fn change_invisible(
        &self,
        (group, topic): (&str, &str),
        delivery: &mut Delivery,
        invisible: Duration,
    ) -> Result<(), Failed> {
        let message = v2::ChangeInvisibleDurationRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            receipt_handle: delivery.receipt_handle.clone(),
            invisible_duration: prost_types::Duration::try_from(invisible).ok(),
            message_id: delivery.seen.message_id.clone(),
            ..Default::default()
        };
        let request = self.request(message, TIMEOUT);
        let answer = self
            .call(TIMEOUT, async |mut broker| broker.change_invisible_duration(request).await)
            .await?
            .into_inner();
        self.judge(answer.status)?;
        delivery.receipt_handle = answer.receipt_handle;
        Ok(())
    }

    pub(super) async fn give_up(
        &self,
        (group, topic): (&str, &str),
        delivery: &Delivery,
    ) -> Result<(), Failed> {
        let attempt = i32::try_from(delivery.seen.attempt).unwrap_or(i32::MAX);
        let message = v2::ForwardMessageToDeadLetterQueueRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            receipt_handle: delivery.receipt_handle.clone(),
            message_id: delivery.seen.message_id.clone(),
            delivery_attempt: attempt,
            max_delivery_attempts: attempt,
            lite_topic: delivery.lite_topic.clone(),
        };
        let request = self.request(message, TIMEOUT);
        let answer = self.call(TIMEOUT, async |mut broker| {
            broker.forward_message_to_dead_letter_queue(request).await
        });
        self.judge(answer.await?.into_inner().status)
    }

    /// Changes to which lite topics this client subscribes.
    pub(super) async fn subscribe(
        &self,
        (group, topic): (&str, &str),
        action: v2::LiteSubscriptionAction,
        lite_topics: Vec<String>,
    ) -> Result<(), Failed> {
        let message = v2::SyncLiteSubscriptionRequest {
            action: action.into(),
            topic: Some(resource(topic)),
            group: Some(resource(group)),
            lite_topic_set: lite_topics,
            ..Default::default()
        };
        let request = self.request(message, TIMEOUT);
        let answer =
            self.call(TIMEOUT, async |mut broker| broker.sync_lite_subscription(request).await);
        self.judge(answer.await?.into_inner().status)
    }

    pub(super) async fn recall(&self, topic: &str, handle: &str) -> Result<(), Failed> {
        let message = v2::RecallMessageRequest {
            topic: Some(resource(topic)),
            recall_handle: handle.to_owned(),
        };
        let request = self.request(message, TIMEOUT);
        let answer = self.call(TIMEOUT, async |mut broker| broker.recall_message(request).await);
        self.judge(answer.await?.into_inner().status)
    }

    pub(super) async fn end_transaction(
        &self,
        topic: &str,
        transaction: &Transaction,
        commit: bool,
        checked: bool,
    ) -> Result<(), Failed> {
        let resolution = match commit {
            true => v2::TransactionResolution::Commit,
            false => v2::TransactionResolution::Rollback,
        };
        let source = match checked {
            true => v2::TransactionSource::SourceServerCheck,
            false => v2::TransactionSource::SourceClient,
        };
        let message = v2::EndTransactionRequest {
            topic: Some(resource(topic)),
            message_id: transaction.message_id.clone(),
            transaction_id: transaction.id.clone(),
            resolution: resolution.into(),
            source: source.into(),
            trace_context: String::new(),
        };
        let request = self.request(message, TIMEOUT);
        let answer = self.call(TIMEOUT, async |mut broker| broker.end_transaction(request).await);
        self.judge(answer.await?.into_inner().status)
    }

    /// What lies from an offset on, and where to go on.
    pub(super) async fn pull(
        &self,
        (group, topic): (&str, &str),
        queue_id: u32,
        offset: u64,
        wait: Duration,
    ) -> Result<(Vec<v2::Message>, Option<u64>), Failed> {
        use v2::pull_message_response::Content;
        let message = v2::PullMessageRequest {
            group: Some(resource(group)),
            message_queue: Some(queue(topic, queue_id)),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            batch_size: 16,
            filter_expression: Some(everything()),
            long_polling_timeout: prost_types::Duration::try_from(wait).ok(),
        };
        let patience = wait + TIMEOUT;
        let request = self.request(message, patience);
        let answer = self.call(patience, async |mut broker| {
            let mut parts = broker.pull_message(request).await?.into_inner();
            let (mut status, mut messages, mut next) = (None, Vec::new(), None);
            while let Some(part) = parts.message().await? {
                match part.content {
                    Some(Content::Status(received)) => status = Some(received),
                    Some(Content::Message(message)) => messages.push(message),
                    Some(Content::NextOffset(offset)) => next = u64::try_from(offset).ok(),
                    None => (),
                }
            }
            Ok((status, messages, next))
        });
        let (status, messages, next) = answer.await?;
        match self.judge(status) {
            Err(Failed { code: Some(Code::MessageNotFound), .. }) => {
                Ok((Vec::new(), next.or(Some(offset))))
            }
            judged => judged.map(|()| (messages, next)),
        }
    }

    pub(super) async fn update_offset(
        &self,
        (group, topic): (&str, &str),
        queue_id: u32,
        offset: u64,
    ) -> Result<(), Failed> {
        let message = v2::UpdateOffsetRequest {
            group: Some(resource(group)),
            message_queue: Some(queue(topic, queue_id)),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
        };
        let request = self.request(message, TIMEOUT);
        let answer = self.call(TIMEOUT, async |mut broker| broker.update_offset(request).await);
        self.judge(answer.await?.into_inner().status)
    }

    /// None: the group has never said.
    pub(super) async fn get_offset(
        &self,
        (group, topic): (&str, &str),
        queue_id: u32,
    ) -> Result<Option<u64>, Failed> {
        let message = v2::GetOffsetRequest {
            group: Some(resource(group)),
            message_queue: Some(queue(topic, queue_id)),
        };
        let request = self.request(message, TIMEOUT);
        let answer = self.call(TIMEOUT, async |mut broker| broker.get_offset(request).await);
        let answer = answer.await?.into_inner();
        match self.judge(answer.status) {
            Err(Failed { code: Some(Code::OffsetNotFound), .. }) => Ok(None),
            judged => judged.map(|()| u64::try_from(answer.offset).ok()),
        }
    }

    /// Where the first message since a time is; without one, the end.
    pub(super) async fn query_offset(
        &self,
        topic: &str,
        queue_id: u32,
        since_ms: Option<u64>,
    ) -> Result<u64, Failed> {
        let policy = match since_ms {
            None => v2::QueryOffsetPolicy::End,
            Some(0) => v2::QueryOffsetPolicy::Beginning,
            Some(_) => v2::QueryOffsetPolicy::Timestamp,
        };
        let message = v2::QueryOffsetRequest {
            message_queue: Some(queue(topic, queue_id)),
            query_offset_policy: policy.into(),
            timestamp: since_ms.filter(|since_ms| *since_ms > 0).map(timestamp),
        };
        let request = self.request(message, TIMEOUT);
        let answer = self.call(TIMEOUT, async |mut broker| broker.query_offset(request).await);
        let answer = answer.await?.into_inner();
        self.judge(answer.status)?;
        u64::try_from(answer.offset).map_err(|_| malformed("a negative offset"))
    }
}

/// What one receive asks for.
pub(super) struct Receive<'a> {
    pub(super) count_max: i32,
    pub(super) wait: Duration,
    pub(super) invisible: Duration,
    pub(super) attempt_id: &'a str,
}

/// A message that was received.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// As it stands in the history.
    pub(super) seen: history::Delivery,
    pub(super) receipt_handle: String,
    lite_topic: Option<String>,
}

impl Delivery {
    pub(super) fn of(message: v2::Message) -> Self {
        let value = value(&message);
        let system = message.system_properties.unwrap_or_default();
        let seen = history::Delivery {
            value,
            message_id: system.message_id,
            attempt: system.delivery_attempt.and_then(|it| u32::try_from(it).ok()).unwrap_or(0),
            queue_id: u32::try_from(system.queue_id).ok(),
            offset: system.queue_offset.and_then(|offset| u64::try_from(offset).ok()),
        };
        let receipt_handle = system.receipt_handle.unwrap_or_default();
        Self { seen, receipt_handle, lite_topic: system.lite_topic }
    }
}

/// A half message whose end is to be told.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) message_id: String,
    pub(super) id: String,
}

/// The value in a body.
pub(super) fn value(message: &v2::Message) -> String {
    String::from_utf8_lossy(&message.body).trim_end().to_owned()
}

/// A message with a value of its own as its body.
pub(super) fn message(topic: &str, id: &str, value: &str, kind: &history::Kind) -> v2::Message {
    let mut system = v2::SystemProperties {
        message_id: id.to_owned(),
        body_encoding: v2::Encoding::Identity.into(),
        message_type: MessageType::Normal.into(),
        born_timestamp: Some(std::time::SystemTime::now().into()),
        ..Default::default()
    };
    match kind {
        history::Kind::Normal => (),
        history::Kind::Fifo { message_group } => {
            system.message_type = MessageType::Fifo.into();
            system.message_group = Some(message_group.clone());
        }
        history::Kind::Lite { lite_topic } => {
            system.message_type = MessageType::Lite.into();
            system.lite_topic = Some(lite_topic.clone());
        }
        history::Kind::Delay { due_ms } => {
            system.message_type = MessageType::Delay.into();
            system.delivery_timestamp = Some(timestamp(*due_ms));
        }
        history::Kind::Half { recovery_ms } => {
            system.message_type = MessageType::Transaction.into();
            let recovery = Duration::from_millis(*recovery_ms);
            system.orphaned_transaction_recovery_duration = (*recovery_ms > 0)
                .then(|| prost_types::Duration::try_from(recovery).ok())
                .flatten();
        }
    }
    v2::Message {
        topic: Some(resource(topic)),
        user_properties: Default::default(),
        system_properties: Some(system),
        body: value.to_owned().into_bytes().into(),
    }
}

/// Keeps a telemetry stream open until its client is dropped.
async fn keep_open(
    mut broker: MessagingServiceClient<Channel>,
    id: String,
    settings: Settings,
    checks: mpsc::Sender<Check>,
) {
    let heartbeat = v2::HeartbeatRequest {
        group: match &settings.pub_sub {
            Some(v2::settings::PubSub::Subscription(subscription)) => subscription.group.clone(),
            _ => None,
        },
        client_type: settings.client_type.unwrap_or_default(),
    };
    loop {
        let first = v2::TelemetryCommand {
            status: None,
            command: Some(Command::Settings(settings.clone())),
        };
        // Never ends by itself: the stream is as long as the client.
        let outgoing = futures::StreamExt::chain(
            futures::stream::iter([first]),
            futures::stream::pending::<v2::TelemetryCommand>(),
        );
        if let Ok(opened) = broker.telemetry(request(&id, outgoing, None)).await {
            let mut incoming = opened.into_inner();
            let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
            loop {
                tokio::select! {
                    command = incoming.message() => match command {
                        Ok(Some(command)) => ask(command, &checks),
                        Ok(None) | Err(_) => break,
                    },
                    _ = ticks.tick() => {
                        let request = request(&id, heartbeat.clone(), Some(TIMEOUT));
                        // A broken connection shows in the stream.
                        let _answer = broker.heartbeat(request).await;
                    }
                }
            }
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

fn ask(command: v2::TelemetryCommand, checks: &mpsc::Sender<Check>) {
    if let Some(Command::RecoverOrphanedTransactionCommand(command)) = command.command
        && let Some(message) = command.message
    {
        let check = Check { message, transaction_id: command.transaction_id };
        // Whoever has no time to answer is asked again.
        let _full = checks.try_send(check);
    }
}

fn settings(role: Role<'_>) -> Settings {
    let (client_type, pub_sub) = match role {
        Role::Producer(topic) => {
            let topics = vec![resource(topic)];
            let publishing = v2::Publishing { topics, ..Default::default() };
            (v2::ClientType::Producer, v2::settings::PubSub::Publishing(publishing))
        }
        Role::Consumer(group) => {
            let group = Some(resource(group));
            let subscription = v2::Subscription { group, ..Default::default() };
            (v2::ClientType::SimpleConsumer, v2::settings::PubSub::Subscription(subscription))
        }
        Role::Lite(group, topic, client_type) => {
            let entry = v2::SubscriptionEntry {
                topic: Some(resource(topic)),
                expression: Some(everything()),
            };
            let subscription = v2::Subscription {
                group: Some(resource(group)),
                subscriptions: vec![entry],
                ..Default::default()
            };
            (client_type, v2::settings::PubSub::Subscription(subscription))
        }
    };
    Settings {
        client_type: Some(client_type.into()),
        request_timeout: prost_types::Duration::try_from(TIMEOUT).ok(),
        user_agent: Some(v2::Ua { language: v2::Language::Rust.into(), ..Default::default() }),
        pub_sub: Some(pub_sub),
        ..Default::default()
    }
}

fn request<T>(id: &str, message: T, patience: Option<Duration>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let headers = request.metadata_mut();
    let mut insert = |name, value: &str| {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    };
    insert("x-mq-client-id", id);
    insert("x-mq-language", "RUST");
    insert("x-mq-client-version", env!("CARGO_PKG_VERSION"));
    insert("x-mq-protocol", "v2");
    if let Some(patience) = patience {
        request.set_timeout(patience);
    }
    request
}

fn resource(name: &str) -> Resource {
    Resource { name: name.to_owned(), ..Resource::default() }
}

fn queue(topic: &str, id: u32) -> v2::MessageQueue {
    let id = i32::try_from(id).unwrap_or(i32::MAX);
    v2::MessageQueue { topic: Some(resource(topic)), id, ..Default::default() }
}

fn everything() -> v2::FilterExpression {
    v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: "*".to_owned() }
}

fn timestamp(ms: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
    }
}

fn malformed(problem: &str) -> Failed {
    Failed { is_not_done: false, code: None, text: format!("an odd answer: {problem}") }
}

/// The 4xxxx are about the request, which was judged before anything was done. Behind the others there
/// may be a proposal whose end the server did not see.
fn judge(status: Option<v2::Status>) -> Result<(), Failed> {
    let Some(status) = status else { return Err(malformed("no status")) };
    match status.code() {
        Code::Ok => Ok(()),
        code => Err(Failed {
            is_not_done: (40_000..50_000).contains(&i32::from(code)),
            code: Some(code),
            text: format!("{} ({})", status.message, code.as_str_name()),
        }),
    }
}

/// Whether no connection came about, so that nothing was sent.
/// Sends one message through one broker, outside of every history. The inner error is what the broker said
/// if it did not take it; none if nobody answered.
pub(crate) async fn send_one(
    broker: &str,
    topic: &str,
) -> anyhow::Result<Result<(), Option<Code>>> {
    let (client, _) = Client::start(&[broker.to_owned()], Role::Producer(topic))?;
    let id = MessageId::generate().to_string();
    let sent = client.send(message(topic, &id, "one", &history::Kind::Normal)).await;
    Ok(sent.map(drop).map_err(|failed| failed.code))
}

fn is_not_connected(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_judged_before_is_certainly_not_done() {
        let status = |code: Code| Some(v2::Status { code: code.into(), message: "no".to_owned() });
        assert!(judge(status(Code::Ok)).is_ok());
        let refused = judge(status(Code::InvalidReceiptHandle)).unwrap_err();
        assert!(refused.is_not_done);
        assert_eq!(refused.code, Some(Code::InvalidReceiptHandle));
        assert!(!judge(status(Code::HaNotAvailable)).unwrap_err().is_not_done);
        assert!(!judge(None).unwrap_err().is_not_done);
    }

    #[test]
    fn a_message_says_what_is_to_become_of_it() {
        let system = |kind: &history::Kind| {
            let message = message("t", "id", "a", kind);
            assert_eq!(value(&message), "a");
            message.system_properties.unwrap()
        };
        let delayed = system(&history::Kind::Delay { due_ms: 1_234 });
        let due = delayed.delivery_timestamp.unwrap();
        assert_eq!((due.seconds, due.nanos), (1, 234_000_000));
        let half = system(&history::Kind::Half { recovery_ms: 1_500 });
        let recovery = half.orphaned_transaction_recovery_duration.unwrap();
        assert_eq!((recovery.seconds, recovery.nanos), (1, 500_000_000));
        assert_eq!(half.message_type(), MessageType::Transaction);
        let half = system(&history::Kind::Half { recovery_ms: 0 });
        assert_eq!(half.orphaned_transaction_recovery_duration, None);
    }
}
