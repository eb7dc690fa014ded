//! Calls that clients send to the address they were given, although only a broker can do them:
//! RecallMessage (Java, Python, Node), EndTransaction (Rust) and SyncLiteSubscription (all that have it).
//! They are passed on to the groups that have the topic.
//!
//! Invariants: bounded calls under way, each with a time limit; nothing is kept between two calls.
//!
//! Not here: all other calls, which go to the brokers in the route.

use std::future::Future;
use std::time::Duration;

use raftmq_proto::v2::Code;
use raftmq_proto::v2::Status;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use tokio::sync::Semaphore;
use tonic::Request;
use tonic::Response;
use tonic::metadata::KeyRef;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

/// Calls under way at once: each is a connection of its own.
const CALLS_MAX: usize = 256;
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// What clients wait for an answer.
const CALL_LIMIT: Duration = Duration::from_secs(3);

pub(crate) struct Relay {
    places: Semaphore,
}

impl Default for Relay {
    fn default() -> Self {
        Self { places: Semaphore::new(CALLS_MAX) }
    }
}

impl Relay {
    /// Asks one broker after the other until one says yes; else returns what the last one said.
    ///
    /// # Errors
    /// No leader answers, or too many calls are under way; the text says which.
    pub(crate) async fn ask<Req, Res, F, Fut>(
        &self,
        brokers: Vec<String>,
        request: Request<Req>,
        call: F,
        status: fn(&Res) -> &Option<Status>,
    ) -> Result<Res, (Code, String)>
    where
        Req: Clone,
        F: Fn(MessagingServiceClient<Channel>, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Res>, tonic::Status>>,
    {
        let Ok(_place) = self.places.try_acquire() else {
            return Err((
                Code::TooManyRequests,
                format!("{CALLS_MAX} relayed calls are under way"),
            ));
        };
        let (metadata, _, message) = request.into_parts();
        let mut last = Err((Code::HaNotAvailable, "the topic has no leader".to_owned()));
        for leader in brokers {
            let Ok(endpoint) = Endpoint::from_shared(format!("http://{leader}")) else { continue };
            let channel = endpoint.connect_timeout(CONNECT_LIMIT).connect_lazy();
            let mut request = Request::new(message.clone());
            *request.metadata_mut() = identity(&metadata);
            request.set_timeout(CALL_LIMIT);
            last = match call(MessagingServiceClient::new(channel), request).await {
                Ok(answer) => Ok(answer.into_inner()),
                Err(error) => {
                    let text = format!("{leader} does not answer: {}", error.message());
                    Err((Code::HaNotAvailable, text))
                }
            };
            let done = |answer: &Res| status(answer).as_ref().is_some_and(is_ok);
            if last.as_ref().is_ok_and(done) {
                break;
            }
        }
        last
    }
}

fn is_ok(status: &Status) -> bool {
    status.code() == Code::Ok
}

/// The headers that say who asks.
fn identity(metadata: &MetadataMap) -> MetadataMap {
    let mut kept = MetadataMap::new();
    for key in metadata.keys() {
        if let KeyRef::Ascii(key) = key
            && (key.as_str().starts_with("x-mq-") || key.as_str() == "authorization")
            && let Some(value) = metadata.get(key)
        {
            kept.insert(key, value.clone());
        }
    }
    kept
}
