//! Any node answers any client: the leader does the work, every other node relays to it.
//!
//! While there is no leader a request is held until one is known or its deadline is near. A request
//! whose outcome got lost on the way is repeated: each operation recognizes a repetition (sends by
//! message id, acks by receipt) or tolerates it (what a lost receive took comes back after its time).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_raft_store::Leadership;
use raftmq_raft_store::world::net;
use raftmq_raft_store::world::net::Channel;
use raftmq_raft_store::world::net::Endpoint;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use super::status::Failure;
use super::status::Refusal;
use crate::node::Node;

/// Set on relayed requests: they are not relayed again.
pub(crate) const RELAYED: &str = "x-raftmq-relayed";
/// For clients that set no deadline.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// How long before its deadline a held request is answered.
const ANSWER_BEFORE: Duration = Duration::from_millis(150);
/// Requests that may be held or relayed at once. Each costs some memory.
const REQUESTS_MAX: usize = 20_000;
/// The same for those that wait for messages, which are counted apart: many idle consumers must not
/// keep producers out.
const POLLS_MAX: usize = 20_000;
/// Wait before a failed relay is tried again without news about the leader.
const RETRY_INTERVAL: Duration = Duration::from_millis(30);
/// Largest relayed message: a request of several bodies.
const MESSAGE_BYTES_MAX: usize = 130 << 20;
/// Connections to each peer: one would make all relayed requests share one TCP stream.
const CHANNELS: usize = 2;

/// Where a request is answered.
pub(crate) enum Target {
    /// Here.
    Local,
    /// At the leader.
    Remote(MessagingServiceClient<Channel>),
}

/// Finds the leader for a request.
#[derive(Clone)]
pub(crate) struct LeaderRouter {
    node: Node,
    /// By client address of the leader.
    channels: Arc<Mutex<HashMap<String, Channels>>>,
    requests: Arc<Semaphore>,
    polls: Arc<Semaphore>,
}

/// Connections to one node, used in turn.
struct Channels {
    made: Vec<Channel>,
    next: usize,
}

/// When a request must be answered, and whether it was relayed already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) deadline: Instant,
    pub(crate) relayed: bool,
}

impl Terms {
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let timeout = metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(parse_timeout)
            .unwrap_or(DEADLINE_DEFAULT)
            // Telemetry deadlines of decades would overflow an Instant on some systems.
            .min(Duration::from_secs(86_400));
        Self { deadline: Instant::now() + timeout, relayed: metadata.contains_key(RELAYED) }
    }

    /// Of a request that begins here.
    pub(crate) fn within(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, relayed: false }
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The value of a `grpc-timeout` header: at most 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value.checked_mul(3600)?),
        "M" => Duration::from_secs(value.checked_mul(60)?),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

impl LeaderRouter {
    pub(crate) fn new(node: Node) -> Self {
        Self {
            node,
            channels: Arc::default(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            polls: Arc::new(Semaphore::new(POLLS_MAX)),
        }
    }

    /// Runs `local` here or `remote` at the leader, as often as it takes until the deadline.
    ///
    /// # Errors
    /// The refusal of the operation, or `HA_NOT_AVAILABLE` when no leader was found in time.
    pub(crate) async fn at_leader<T, L, R>(
        &self,
        terms: Terms,
        local: impl Fn() -> L,
        remote: impl Fn(MessagingServiceClient<Channel>) -> R,
    ) -> Result<T, Refusal>
    where
        L: Future<Output = Result<T, Failure>>,
        R: Future<Output = Result<T, tonic::Status>>,
    {
        let Ok(_place) = self.requests.try_acquire() else {
            let text = format!("{REQUESTS_MAX} requests are under way at this node");
            return Err(Refusal::too_many("requests", text));
        };
        self.until_answered(terms, local, remote).await
    }

    /// The same for a request that may wait for messages.
    ///
    /// # Errors
    /// As [`Self::at_leader`].
    pub(crate) async fn poll_at_leader<T, L, R>(
        &self,
        terms: Terms,
        local: impl Fn() -> L,
        remote: impl Fn(MessagingServiceClient<Channel>) -> R,
    ) -> Result<T, Refusal>
    where
        L: Future<Output = Result<T, Failure>>,
        R: Future<Output = Result<T, tonic::Status>>,
    {
        let Ok(_place) = self.polls.try_acquire() else {
            let text = format!("{POLLS_MAX} receives and pulls are under way at this node");
            return Err(Refusal::too_many("polls", text));
        };
        self.until_answered(terms, local, remote).await
    }

    async fn until_answered<T, L, R>(
        &self,
        terms: Terms,
        local: impl Fn() -> L,
        remote: impl Fn(MessagingServiceClient<Channel>) -> R,
    ) -> Result<T, Refusal>
    where
        L: Future<Output = Result<T, Failure>>,
        R: Future<Output = Result<T, tonic::Status>>,
    {
        let give_up = terms.deadline - ANSWER_BEFORE;
        let mut leadership = self.node.leadership.clone();
        loop {
            let known = leadership.borrow_and_update().clone();
            match self.target(&known, terms) {
                // A leader that lost its majority gets no answer: then it is held like any other.
                Some(Target::Local) => match tokio::time::timeout_at(give_up, local()).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(Failure::Refused(refusal))) => return Err(refusal),
                    Ok(Err(Failure::Elsewhere(error))) => tracing::debug!(%error, "trying again"),
                    Err(_) => tracing::debug!("no outcome in time"),
                },
                // One that stands still or is cut off answers nothing, though others have elected.
                Some(Target::Remote(client)) => tokio::select! {
                    biased;
                    answer = remote(client) => match answer {
                        Ok(answer) => return Ok(answer),
                        Err(status) => tracing::debug!(%status, "a relayed request failed"),
                    },
                    _ = leadership.wait_for(|now| *now != known) => {
                        tracing::debug!("the leader changed while a request was with it");
                        continue;
                    }
                },
                None => (),
            }
            if terms.relayed {
                return Err(not_leading(&self.node));
            }
            // Held until there is news, or for a moment when the failure was only passing.
            let pause =
                if matches!(known, Leadership::None) { ANSWER_BEFORE } else { RETRY_INTERVAL };
            let until = give_up.min(Instant::now() + pause);
            tokio::select! {
                _ = leadership.changed() => (),
                () = tokio::time::sleep_until(until) => (),
            }
            if Instant::now() >= give_up {
                metrics::counter!("raftmq_requests_without_leader_total").increment(1);
                return Err(no_leader(&self.node));
            }
        }
    }

    fn target(&self, known: &Leadership, terms: Terms) -> Option<Target> {
        match known {
            Leadership::Local { .. } => Some(Target::Local),
            Leadership::Remote { client_address, .. } if !terms.relayed => {
                self.client(client_address).map(Target::Remote)
            }
            Leadership::Remote { .. } | Leadership::None => None,
        }
    }

    /// A client for the leader, when that is another node.
    pub(crate) fn leader_elsewhere(&self) -> Option<MessagingServiceClient<Channel>> {
        match &*self.node.leadership.borrow() {
            Leadership::Remote { client_address, .. } => self.client(client_address),
            Leadership::Local { .. } | Leadership::None => None,
        }
    }

    fn client(&self, address: &str) -> Option<MessagingServiceClient<Channel>> {
        let mut channels = self.channels.lock();
        if !channels.contains_key(address) {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .ok()?
                .connect_timeout(Duration::from_millis(500))
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(2))
                .keep_alive_timeout(Duration::from_secs(2))
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(16 << 20);
            let made = (0..CHANNELS)
                .map(|_| net::connect_lazy_by(&endpoint, raftmq_listener::checked::connect))
                .collect();
            channels.insert(address.to_owned(), Channels { made, next: 0 });
        }
        let channels = channels.get_mut(address)?;
        channels.next = (channels.next + 1) % channels.made.len();
        let client = MessagingServiceClient::new(channels.made[channels.next].clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Some(client)
    }
}

/// The request to relay: the same message and identity, the remaining time.
pub(crate) fn relay<T>(message: T, metadata: &MetadataMap, terms: Terms) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    for key in ["x-mq-client-id", "x-mq-language", "x-mq-client-version"] {
        if let Some(value) = metadata.get(key) {
            request.metadata_mut().insert(key, value.clone());
        }
    }
    request.metadata_mut().insert(RELAYED, tonic::metadata::MetadataValue::from_static("1"));
    request.set_timeout(terms.remaining());
    request
}

/// The relay counts a leader that answers so as gone and looks again.
pub(crate) fn is_not_leading(code: i32) -> bool {
    code == i32::from(Code::HaNotAvailable)
}

fn not_leading(node: &Node) -> Refusal {
    let text = format!("node {} does not lead group {}", node.config.node_id, node.config.group);
    Refusal::new(Code::HaNotAvailable, text)
}

fn no_leader(node: &Node) -> Refusal {
    let text = format!(
        "group {} has no leader at the moment (a majority of its nodes must be up); try again",
        node.config.group
    );
    Refusal::new(Code::HaNotAvailable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_units() {
        assert_eq!(parse_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse_timeout("2999999u"), Some(Duration::from_micros(2_999_999)));
        assert_eq!(parse_timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_timeout(""), None);
        assert_eq!(parse_timeout("S"), None);
        assert_eq!(parse_timeout("3x"), None);
    }
}
