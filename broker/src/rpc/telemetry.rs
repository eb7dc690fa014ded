//! The telemetry stream: a client says who it is, the broker answers with the settings it must use.
//!
//! Every client waits for that answer before it starts. The stream stays open as a sign of life.

use std::pin::Pin;

use futures::Stream;
use futures::StreamExt;
use raftmq_proto::names;
use raftmq_proto::v2;
use raftmq_proto::v2::ClientType;
use raftmq_proto::v2::settings::PubSub;
use raftmq_proto::v2::telemetry_command::Command;
use tonic::Request;
use tonic::Status;
use tonic::Streaming;

use super::status;
use super::status::Refusal;
use super::validate;
use crate::node::Node;

/// Delays after which a push consumer tries a failed message again, by attempt, in seconds.
const RETRY_DELAYS_S: [i64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
const LITE_SUBSCRIPTIONS_MAX: i32 = 2000;
const LITE_TOPIC_CHARS_MAX: i32 = 64;

/// What goes back to a client.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<v2::TelemetryCommand, Status>> + Send>>;

/// A stream that only says why.
pub(crate) fn refused(refusal: &Refusal) -> Answers {
    let command = v2::TelemetryCommand { status: Some(refusal.status()), command: None };
    Box::pin(futures::stream::iter([Ok(command)]))
}

/// Answers the client until it closes its side.
pub(crate) fn serve(
    node: Node,
    client_id: String,
    request: Request<Streaming<v2::TelemetryCommand>>,
) -> Answers {
    let language = request
        .metadata()
        .get("x-mq-language")
        .and_then(|language| language.to_str().ok())
        .unwrap_or("unknown")
        .to_owned();
    let session = Session { node, client_id, language, open: false };
    let state = (request.into_inner(), session);
    let answers = futures::stream::unfold(Some(state), |state| async move {
        let (mut commands, mut session) = state?;
        loop {
            // The client's side ending, its connection breaking, this node stopping: the stream ends.
            let command = tokio::select! {
                command = commands.message() => command.ok().flatten()?,
                () = session.node.stop.cancelled() => return None,
            };
            match session.answer(command) {
                Some(Ok(answer)) => return Some((Ok(answer), Some((commands, session)))),
                Some(Err(status)) => return Some((Err(status), None)),
                None => (),
            }
        }
    });
    answers.boxed()
}

/// One stream of one client.
struct Session {
    node: Node,
    client_id: String,
    language: String,
    open: bool,
}

impl Session {
    fn answer(
        &mut self,
        command: v2::TelemetryCommand,
    ) -> Option<Result<v2::TelemetryCommand, Status>> {
        // Answers to commands of the broker; it sends none yet.
        let Some(Command::Settings(settings)) = command.command else { return None };
        Some(match self.settings(settings) {
            Ok(settings) => Ok(v2::TelemetryCommand {
                status: Some(status::ok()),
                command: Some(Command::Settings(settings)),
            }),
            Err(refusal) => Err(Status::invalid_argument(refusal.message)),
        })
    }

    /// The client's settings with what the broker decides filled in.
    fn settings(&mut self, mut settings: v2::Settings) -> Result<v2::Settings, Refusal> {
        let client_type = settings.client_type();
        let group = match &mut settings.pub_sub {
            Some(PubSub::Publishing(publishing)) => {
                publishing.max_body_size = validate::BODY_BYTES_MAX as i32;
                publishing.validate_message_type = true;
                settings.backoff_policy = Some(send_policy(send_attempts(&self.language)));
                String::new()
            }
            Some(PubSub::Subscription(subscription)) => {
                let group = subscription.group.clone().unwrap_or_default().name;
                let attempts = self.max_attempts(&group)?;
                subscription.fifo = Some(false);
                subscription.receive_batch_size = Some(32);
                subscription.long_polling_timeout =
                    Some(prost_types::Duration { seconds: 20, nanos: 0 });
                subscription.lite_subscription_quota = Some(LITE_SUBSCRIPTIONS_MAX);
                subscription.max_lite_topic_size = Some(LITE_TOPIC_CHARS_MAX);
                settings.backoff_policy = Some(retry_policy(attempts));
                group
            }
            None => {
                let text = "settings must say what is published or subscribed to";
                return Err(Refusal::new(v2::Code::BadRequest, text));
            }
        };
        settings.metric = Some(v2::Metric { on: false, endpoints: None });
        self.note(client_type, &group);
        Ok(settings)
    }

    fn max_attempts(&self, group: &str) -> Result<u32, Refusal> {
        names::consumer_group(group).map_err(status::illegal_group)?;
        let state = self.node.state.read();
        let group = state.group(group).ok_or_else(|| Refusal::group_not_found(group))?;
        Ok(group.max_attempts)
    }

    fn note(&mut self, client_type: ClientType, group: &str) {
        let clients = &self.node.clients;
        clients.settings(&self.client_id, client_type, &self.language, group);
        if !self.open {
            self.open = true;
            clients.stream_opened(&self.client_id);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.open {
            self.node.clients.stream_closed(&self.client_id);
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

fn retry_policy(max_attempts: u32) -> v2::RetryPolicy {
    let next = RETRY_DELAYS_S
        .iter()
        .map(|seconds| prost_types::Duration { seconds: *seconds, nanos: 0 })
        .collect();
    let strategy = v2::retry_policy::Strategy::CustomizedBackoff(v2::CustomizedBackoff { next });
    v2::RetryPolicy { max_attempts: max_attempts as i32, strategy: Some(strategy) }
}
