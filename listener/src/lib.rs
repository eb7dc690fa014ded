//! One TCP port for gRPC that takes plaintext and TLS alike.
//!
//! Official RocketMQ clients disagree about TLS: Java and Go use it unless told otherwise, Node and
//! Rust do not. So the server looks at the first byte a client sends (22 opens a TLS handshake) and
//! treats the connection accordingly. A node that relays greets as [`checked`] says.
//!
//! ```text
//! bind -> accept loop -> one task a connection: TLS? HTTP/2 preface? -> Incoming -> tonic
//!           |                  at most `handshakes_max`, each at most `handshake_timeout`
//!           at most `connections_max`, the rest is closed at once and counted
//! ```
//!
//! Invariants: what comes out of [`Incoming`] has sent the HTTP/2 preface; a silent, slow or wrong
//! client never delays the accepting of others; every limit that is hit shows in a metric.
//!
//! Not here: HTTP/2 itself and its keep-alive (tonic's), HTTP/1, the PROXY protocol, reloading of
//! certificates (a restart hands leadership over and costs clients one reconnect).

mod accept;
pub mod checked;
mod connection;
mod handshake;
mod metrics;
mod tls;

pub use accept::Incoming;
pub use accept::Limits;
pub use accept::Listener;
pub use connection::Connection;
pub use tls::Tls;
pub use tls::TlsError;
pub use tls::from_pem_files;
pub use tls::self_signed;
