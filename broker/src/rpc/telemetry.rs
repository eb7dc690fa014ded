//! The telemetry stream: a client says who it is, the broker answers with the settings it must use.
//!
//! Every client waits for that answer before it starts. The stream stays open as a sign of life.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt;
use raftmq_proto::names;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::ClientType;
use raftmq_proto::v2::settings::PubSub;
use raftmq_proto::v2::telemetry_command::Command;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::Status;
use tonic::Streaming;
use tonic::metadata::MetadataMap;

use super::leader::Terms;
use super::messaging::MessagingService;
use super::status;
use super::status::Refusal;
use super::validate;
use crate::lite;
use crate::receive;
use crate::state;

/// Delays after which a push consumer tries a failed message again, by attempt, in seconds.
const RETRY_DELAYS_S: [i64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
/// Clients wait this long for the answer to their settings.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(3);
/// Commands of the broker that may wait for one client. More are not sent: a check comes again.
const COMMANDS_WAITING_MAX: usize = 64;

/// What goes back to a client.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<v2::TelemetryCommand, Status>> + Send>>;

/// A stream that only says why.
pub(crate) fn refused(refusal: &Refusal) -> Answers {
    let command = v2::TelemetryCommand { status: Some(refusal.status()), command: None };
    Box::pin(futures::stream::iter([Ok(command)]))
}

/// Answers the client until it closes its side.
pub(crate) fn serve(
    service: MessagingService,
    client_id: String,
    request: Request<Streaming<v2::TelemetryCommand>>,
) -> Answers {
    let language = request
        .metadata()
        .get("x-mq-language")
        .and_then(|language| language.to_str().ok())
        .unwrap_or("unknown")
        .to_owned();
    let (tell, told) = mpsc::channel(COMMANDS_WAITING_MAX);
    let (metadata, _, commands) = request.into_parts();
    let session = Session { service, client_id, metadata, language, tell, stream: None };
    let state = (commands, told, session);
    let answers = futures::stream::unfold(Some(state), |state| async move {
        let (mut commands, mut told, mut session) = state?;
        loop {
            // The client's side ending, its connection breaking, this node stopping: the stream ends.
            let command = tokio::select! {
                command = commands.message() => command.ok().flatten()?,
                Some(command) = told.recv() => {
                    return Some((Ok(command), Some((commands, told, session))));
                }
                () = session.service.node.stop.cancelled() => return None,
            };
            match session.answer(command).await {
                Some(Ok(answer)) => return Some((Ok(answer), Some((commands, told, session)))),
                Some(Err(status)) => return Some((Err(status), None)),
                None => (),
            }
        }
    });
    answers.boxed()
}

/// One stream of one client.
struct Session {
    service: MessagingService,
    client_id: String,
    /// Of the call that opened the stream.
    metadata: MetadataMap,
    language: String,
    /// Commands of the broker for the client.
    tell: mpsc::Sender<v2::TelemetryCommand>,
    /// Its number, once the client has said who it is.
    stream: Option<u64>,
}

impl Session {
    async fn answer(
        &mut self,
        command: v2::TelemetryCommand,
    ) -> Option<Result<v2::TelemetryCommand, Status>> {
        // Answers to commands of the broker say nothing it needs to know.
        let Some(Command::Settings(settings)) = command.command else { return None };
        Some(match self.settings(settings).await {
            Ok(settings) => Ok(v2::TelemetryCommand {
                status: Some(status::ok()),
                command: Some(Command::Settings(settings)),
            }),
            Err(refusal) => Err(Status::invalid_argument(refusal.message)),
        })
    }

    /// The client's settings with what the broker decides filled in.
    async fn settings(&mut self, mut settings: v2::Settings) -> Result<v2::Settings, Refusal> {
        let client_type = settings.client_type();
        let mut topics = Vec::new();
        let group = match &mut settings.pub_sub {
            Some(PubSub::Publishing(publishing)) => {
                topics.extend(publishing.topics.iter().map(|topic| topic.name.clone()));
                publishing.max_body_size = validate::BODY_BYTES_MAX as i32;
                publishing.validate_message_type = true;
                settings.backoff_policy = Some(send_policy(send_attempts(&self.language)));
                String::new()
            }
            Some(PubSub::Subscription(subscription)) => {
                let group = subscription.group.clone().unwrap_or_default().name;
                let record = self.group(&group, client_type).await?;
                // What lies in a lite topic is always in order.
                subscription.fifo = Some(record.fifo || receive::is_lite(client_type));
                subscription.receive_batch_size = Some(32);
                subscription.long_polling_timeout =
                    Some(prost_types::Duration { seconds: 20, nanos: 0 });
                let lite_quota = state::lite_subscriptions_max(&record);
                let lite_quota = i32::try_from(lite_quota).unwrap_or(i32::MAX);
                subscription.lite_subscription_quota = Some(lite_quota);
                subscription.max_lite_topic_size = Some(lite::NAME_BYTES_MAX as i32);
                settings.backoff_policy = Some(retry_policy(&record));
                group
            }
            None => {
                let text = "settings must say what is published or subscribed to";
                return Err(Refusal::new(v2::Code::BadRequest, text));
            }
        };
        settings.metric = Some(v2::Metric { on: false, endpoints: None });
        self.note(client_type, &group, topics);
        Ok(settings)
    }

    async fn group(
        &self,
        group: &str,
        client_type: ClientType,
    ) -> Result<wire::GroupRecord, Refusal> {
        names::consumer_group(group).map_err(status::illegal_group)?;
        let resource = v2::Resource { name: group.to_owned(), ..Default::default() };
        // That of the stream may be years away.
        let terms = Terms::within(SETTINGS_TIMEOUT);
        self.service.ensure_group(&self.metadata, terms, &resource, client_type).await?;
        let state = self.service.node.state.read();
        state.group(group).cloned().ok_or_else(|| Refusal::group_not_found(group))
    }

    fn note(&mut self, client_type: ClientType, group: &str, topics: Vec<String>) {
        let clients = &self.service.node.clients;
        clients.settings(&self.client_id, client_type, &self.language, group);
        if self.stream.is_none() {
            self.stream = clients.stream_opened(&self.client_id, self.tell.clone());
        }
        clients.publishes(&self.client_id, topics);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(stream) = self.stream {
            self.service.node.clients.stream_closed(&self.client_id, stream);
        }
    }
}

/// Attempts of a producer to send one message, of which the next follows at once. Three meet three
/// brokers where the client goes from one to the next, and passes over those that failed before.
fn send_attempts(language: &str) -> i32 {
    match language {
        // Attempts fall on any queue: a third of them, on average, on the node that just died.
        "PYTHON" => 16,
        // It never forgets whom it put aside: all attempts of a send may be at one node.
        "HTTP" | "NODE_JS" => 16,
        // A broker that is away costs an attempt up to 5 s in a dial, which other sends wait for.
        "GO" => 6,
        _ => 3,
    }
}

fn send_policy(max_attempts: i32) -> v2::RetryPolicy {
    let strategy = v2::retry_policy::Strategy::ExponentialBackoff(v2::ExponentialBackoff {
        initial: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        max: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        multiplier: 2.0,
    });
    v2::RetryPolicy { max_attempts, strategy: Some(strategy) }
}

/// How long after a failed attempt a push consumer of the group wants the next one.
fn retry_policy(group: &wire::GroupRecord) -> v2::RetryPolicy {
    let strategy = match &group.backoff {
        None => customized(RETRY_DELAYS_S.iter().map(|seconds| seconds * 1000)),
        Some(backoff) if !backoff.delays_ms.is_empty() => {
            customized(backoff.delays_ms.iter().map(|delay_ms| *delay_ms as i64))
        }
        Some(backoff) => v2::retry_policy::Strategy::ExponentialBackoff(v2::ExponentialBackoff {
            initial: Some(duration(backoff.initial_ms as i64)),
            max: Some(duration(backoff.max_ms as i64)),
            multiplier: backoff.multiplier,
        }),
    };
    v2::RetryPolicy { max_attempts: group.max_attempts as i32, strategy: Some(strategy) }
}

fn customized(delays_ms: impl Iterator<Item = i64>) -> v2::retry_policy::Strategy {
    let next = delays_ms.map(duration).collect();
    v2::retry_policy::Strategy::CustomizedBackoff(v2::CustomizedBackoff { next })
}

fn duration(ms: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: ms / 1000, nanos: (ms % 1000 * 1_000_000) as i32 }
}
