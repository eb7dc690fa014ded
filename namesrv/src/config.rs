//! What a name server can be told.
//!
//! Not here: reading files, flags and the environment (the `raftmq` binary does).

pub use raftmq_listener::Tls;

/// One name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients ask for routes and leaders register, `host:port`.
    pub listen: String,
    /// Where metrics and probes are served, `host:port`.
    pub http_listen: String,
    /// What the client port does about TLS.
    pub tls: Tls,
    /// Names and addresses that go into a self-signed certificate.
    pub tls_names: Vec<String>,
}

impl Default for Config {
    /// The standard ports on loopback.
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".to_owned(),
            http_listen: "127.0.0.1:8080".to_owned(),
            tls: Tls::SelfSigned,
            tls_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        }
    }
}
