//! A client of `apache.rocketmq.v2.MessagingService`, as an official SDK behaves on the wire.
//!
//! ```text
//! QueryRoute(endpoint) -> Route: the queues of a topic, each at a broker
//! Telemetry(broker)    -> Session: settings are exchanged before the first call to a broker
//! SendMessage(broker), ReceiveMessage(broker), AckMessage(broker)
//! ```
//!
//! [`Producer`] and [`Consumer`] hold one connection to each broker. A failed call goes to the next
//! broker name at once, as all official clients do; a message keeps its id, so that a server which
//! remembers ids stores it once. Every error says whether the call may have taken effect
//! ([`CallError::outcome`]), which is what an oracle of lost messages needs to know.
//!
//! Not here: TLS (servers take plaintext on the same port), compression, local caches, push
//! consumers, attempt ids, transactions.

mod admin;
mod consumer;
mod error;
mod identity;
mod link;
mod links;
mod message;
mod message_id;
mod producer;
mod pull;
mod route;
mod session;

pub use admin::Admin;
pub use admin::AdminError;
pub use consumer::Consumer;
pub use consumer::ConsumerOptions;
pub use consumer::ReceiveOptions;
pub use consumer::Received;
pub use error::CallError;
pub use error::Outcome;
pub use message::Delivery;
pub use message::OutgoingMessage;
pub use message_id::MessageId;
pub use message_id::ParseMessageIdError;
pub use producer::Attempt;
pub use producer::Producer;
pub use producer::ProducerOptions;
pub use producer::SendError;
pub use producer::Sent;
pub use pull::PullOptions;
pub use pull::Pulled;
pub use route::Broker;
pub use route::Queue;
pub use route::Route;

use std::time::Duration;

/// How long a client waits for the answer to one call, without counting what it asked the server
/// to wait: what official clients wait.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// `host:port,host:port` as a list, the way endpoints are written in options and variables.
pub fn addresses(list: &str) -> Vec<String> {
    list.split([',', ';'])
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_are_separated_by_commas_or_semicolons() {
        assert_eq!(super::addresses("a:1, b:2;c:3,"), ["a:1", "b:2", "c:3"]);
        assert!(super::addresses(" ").is_empty());
    }
}
