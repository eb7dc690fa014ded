//! Sends messages of one topic, and tries another broker when one fails.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use raftmq_proto::v2::ClientType;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::Publishing;
use raftmq_proto::v2::SendResultEntry;
use raftmq_proto::v2::Settings;
use raftmq_proto::v2::settings::PubSub;

use super::CallError;
use super::MessageId;
use super::Outcome;
use super::OutgoingMessage;
use super::REQUEST_TIMEOUT;
use super::Route;
use super::identity::Identity;
use super::link::Link;
use super::links::Links;
use super::links::first_answer;
use super::message::resource;
use super::route::RouteWatch;

/// Attempts when the server's settings name no number.
const ATTEMPTS_DEFAULT: usize = 3;
/// First pause before a broker is tried again that has failed in the same send; doubles each time.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a [`Producer`] is to work.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Servers to ask for the route, `host:port`, tried in order.
    pub endpoints: Vec<String>,
    /// The topic to send to.
    pub topic: String,
    /// How long one attempt may take.
    pub request_timeout: Duration,
    /// Attempts for each send, 1 or more. `None`: as the server's settings say, usually 3.
    pub attempts_max: Option<u32>,
}

impl ProducerOptions {
    /// As official clients do.
    pub fn new(endpoints: Vec<String>, topic: impl Into<String>) -> Self {
        Self {
            endpoints,
            topic: topic.into(),
            request_timeout: REQUEST_TIMEOUT,
            attempts_max: None,
        }
    }
}

/// Sends messages of one topic. Shared by reference between any number of tasks.
pub struct Producer {
    topic: String,
    route: RouteWatch,
    links: Links,
    settings: Settings,
    attempts_max: Option<u32>,
    next_queue: AtomicUsize,
}

/// Where a message was stored, and what it took.
#[derive(Clone, Debug)]
pub struct Sent {
    /// As the server repeats it: the id the message was sent with.
    pub message_id: String,
    /// Its place in its queue, counted from 0. The protocol does not tell which queue.
    pub queue_offset: i64,
    /// What takes a delayed message back; empty for others. See [`Producer::recall`].
    pub recall_handle: String,
    /// The broker that took it in.
    pub broker_name: String,
    /// That broker's address.
    pub address: String,
    /// Attempts that failed before, oldest first.
    pub failed_attempts: Vec<Attempt>,
    /// From the first attempt to the answer.
    pub elapsed: Duration,
}

/// One attempt that failed.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The broker that was tried.
    pub broker_name: String,
    /// How long it took to fail.
    pub elapsed: Duration,
    /// Why it failed.
    pub error: CallError,
}

/// A send of which no attempt succeeded.
#[derive(Debug, thiserror::Error)]
#[error("could not send message {message_id} in {} attempts: {last}", attempts.len())]
pub struct SendError {
    /// The id of the (first) message.
    pub message_id: MessageId,
    /// All attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Why the last one failed.
    pub last: CallError,
}

impl SendError {
    fn new(messages: &[OutgoingMessage], attempts: Vec<Attempt>, last: CallError) -> Self {
        Self { message_id: messages[0].id, attempts, last }
    }

    /// [`Outcome::NotDone`] only when that holds for every attempt.
    pub fn outcome(&self) -> Outcome {
        let unknown =
            self.attempts.iter().any(|attempt| attempt.error.outcome() == Outcome::Unknown);
        if unknown { Outcome::Unknown } else { Outcome::NotDone }
    }
}

impl Producer {
    /// Asks for the route and greets the first broker of it that answers.
    ///
    /// # Errors
    /// [`CallError`] when no endpoint knows the topic, or no broker answers.
    pub async fn start(options: ProducerOptions) -> Result<Self, CallError> {
        let identity = Identity::generate();
        let endpoint =
            |address: &String| Link::new(address, identity.clone(), options.request_timeout);
        let endpoints = options.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
        let route = RouteWatch::start(endpoints, options.topic.clone()).await?;
        let publishing =
            Publishing { topics: vec![resource(&options.topic)], ..Publishing::default() };
        let settings = Settings {
            client_type: Some(ClientType::Producer.into()),
            user_agent: Some(identity.user_agent()),
            request_timeout: prost_types::Duration::try_from(options.request_timeout).ok(),
            pub_sub: Some(PubSub::Publishing(publishing)),
            ..Settings::default()
        };
        let links = Links::new(identity, options.request_timeout);
        let producer = Self {
            topic: options.topic,
            route,
            links,
            settings,
            attempts_max: options.attempts_max,
            next_queue: AtomicUsize::new(0),
        };
        producer.links.greet_any(&producer.route.current(), &producer.settings).await?;
        Ok(producer)
    }

    /// The name brokers know this producer by.
    pub fn client_id(&self) -> &str {
        self.links.client_id()
    }

    /// The route as it is known now.
    pub fn route(&self) -> std::sync::Arc<Route> {
        self.route.current()
    }

    /// Sends one message and returns once the server has acknowledged it.
    ///
    /// # Errors
    /// [`SendError`] after the last attempt, or at once for a request that no server would take.
    ///
    /// # Cancel safety
    /// Dropping the future leaves open whether the message is stored.
    pub async fn send(&self, message: &OutgoingMessage) -> Result<Sent, SendError> {
        let mut sent = self.send_batch(std::slice::from_ref(message)).await?;
        // One result for each message was checked on arrival.
        Ok(sent.swap_remove(0))
    }

    /// Sends messages in one request, which is stored or refused as a whole by RaftMQ; other
    /// servers may store a part before they fail.
    ///
    /// # Errors
    /// As [`Producer::send`]. The results are those of all messages or none.
    ///
    /// # Panics
    /// When there is no message.
    pub async fn send_batch(&self, messages: &[OutgoingMessage]) -> Result<Vec<Sent>, SendError> {
        assert!(!messages.is_empty(), "a request has at least one message");
        let started = Instant::now();
        let turn = self.next_queue.fetch_add(1, Ordering::Relaxed);
        let mut failed = Vec::new();
        loop {
            let attempt_started = Instant::now();
            let route = self.route.current();
            let target = match self.target(&route, turn, failed.len()) {
                Ok(target) => target,
                Err(error) => return Err(SendError::new(messages, failed, error)),
            };
            let error = match self.attempt(&target, messages).await {
                Ok(entries) => return Ok(sent(entries, &target, failed, started.elapsed())),
                Err(error) => error,
            };
            self.route.refresh_soon();
            failed.push(Attempt {
                broker_name: target.broker_name,
                elapsed: attempt_started.elapsed(),
                error: error.clone(),
            });
            if !error.is_worth_retrying() || failed.len() >= self.attempts_max(&target.link) {
                return Err(SendError::new(messages, failed, error));
            }
            if let Some(pause) = pause(failed.len(), route.brokers.len(), &error) {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Takes a delayed message back before it is delivered, and returns its message id.
    ///
    /// # Errors
    /// [`CallError`] of the server, whose text says whether the message was delivered already or is
    /// not known; or when no broker of the route answers. Recalling again is safe.
    pub async fn recall(&self, recall_handle: &str) -> Result<String, CallError> {
        let route = self.route.current();
        let links = route.brokers.iter().map(|broker| self.links.to(&broker.address));
        let links: Vec<Link> = links.collect::<Result<_, _>>()?;
        let recall = |link: Link| async move {
            link.greet(&self.settings).await?;
            link.recall(resource(&self.topic), recall_handle.to_owned()).await
        };
        first_answer(links, recall).await
    }

    /// Takes leave of all brokers.
    pub async fn close(self) {
        self.links.leave(None).await;
    }

    /// Queues take turns; the attempts of one send go over the broker names.
    fn target(&self, route: &Route, turn: usize, failed_count: usize) -> Result<Target, CallError> {
        let queue = &route.queues[turn % route.queues.len()];
        let (position, link) = self.links.pick(route, queue.broker + failed_count)?;
        let queue_id = if position == queue.broker { queue.id } else { 0 };
        Ok(Target { queue_id, link, broker_name: route.brokers[position].name.clone() })
    }

    async fn attempt(
        &self,
        target: &Target,
        messages: &[OutgoingMessage],
    ) -> Result<Vec<SendResultEntry>, CallError> {
        target.link.greet(&self.settings).await?;
        let to_wire = |message: &OutgoingMessage| message.to_wire(&self.topic, target.queue_id);
        target.link.send(messages.iter().map(to_wire).collect()).await
    }

    fn attempts_max(&self, link: &Link) -> usize {
        let granted = link.granted().and_then(|settings| settings.backoff_policy.clone());
        let granted = granted.and_then(|policy| u32::try_from(policy.max_attempts).ok());
        let max = self.attempts_max.or(granted).unwrap_or_default();
        if max == 0 { ATTEMPTS_DEFAULT } else { max as usize }
    }
}

/// Where one attempt goes.
struct Target {
    queue_id: i32,
    link: Link,
    broker_name: String,
}

fn sent(
    entries: Vec<SendResultEntry>,
    target: &Target,
    failed_attempts: Vec<Attempt>,
    elapsed: Duration,
) -> Vec<Sent> {
    let sent = |entry: SendResultEntry| Sent {
        message_id: entry.message_id,
        queue_offset: entry.offset,
        recall_handle: entry.recall_handle,
        broker_name: target.broker_name.clone(),
        address: target.link.address().to_owned(),
        failed_attempts: failed_attempts.clone(),
        elapsed,
    };
    entries.into_iter().map(sent).collect()
}

/// Other brokers are tried at once; the same ones, or a busy one, only after a pause.
fn pause(failed_count: usize, broker_count: usize, error: &CallError) -> Option<Duration> {
    let busy = error.code() == Some(Code::TooManyRequests);
    let rounds = if busy { failed_count } else { failed_count / broker_count.max(1) };
    let doublings = u32::try_from(rounds.checked_sub(1)?).unwrap_or(u32::MAX);
    Some(RETRY_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(RETRY_PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code) -> CallError {
        let (address, message) = ("a:1".to_owned(), String::new());
        CallError::Refused { address, rpc: "SendMessage", code, message }
    }

    #[test]
    fn other_brokers_are_tried_before_any_pause() {
        let error = refused(Code::HaNotAvailable);
        let pauses: Vec<_> = (1..=9).map(|failed| pause(failed, 3, &error)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pauses, [None, None, ms(10), ms(10), ms(10), ms(20), ms(20), ms(20), ms(40)]);
    }

    #[test]
    fn a_busy_broker_gets_a_pause_which_is_bounded() {
        let error = refused(Code::TooManyRequests);
        assert_eq!(pause(1, 3, &error), Some(RETRY_PAUSE));
        assert_eq!(pause(60, 3, &error), Some(RETRY_PAUSE_MAX));
    }
}
