//! What the port tells about itself. Every limit that is hit shows here.

use metrics::Label;

const CONNECTIONS: &str = "raftmq_connections";
const REFUSED: &str = "raftmq_connections_refused_total";
const ACCEPT_ERRORS: &str = "raftmq_accept_errors_total";

/// Why a connection was closed before anything was served on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `connections_max` are open.
    TooManyConnections,
    /// `handshakes_max` clients have connected and not spoken yet.
    TooManyHandshakes,
    /// Neither TLS nor the HTTP/2 preface, or a failed TLS handshake.
    Malformed,
    /// Nothing complete within `handshake_timeout`.
    Timeout,
}

impl Refusal {
    fn label(self) -> &'static str {
        match self {
            Refusal::TooManyConnections => "too_many_connections",
            Refusal::TooManyHandshakes => "too_many_handshakes",
            Refusal::Malformed => "malformed",
            Refusal::Timeout => "timeout",
        }
    }
}

/// The metrics of one port.
#[derive(Clone)]
pub(crate) struct PortMetrics {
    labels: Vec<Label>,
}

impl PortMetrics {
    pub(crate) fn new(labels: Vec<Label>) -> Self {
        metrics::describe_gauge!(CONNECTIONS, "Connections that are open, by transport.");
        metrics::describe_counter!(
            REFUSED,
            "Connections closed before anything was served on them."
        );
        metrics::describe_counter!(
            ACCEPT_ERRORS,
            "Failures to accept, such as no file descriptor left."
        );
        Self { labels }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        let labels = self.labelled("reason", refusal.label());
        metrics::counter!(REFUSED, labels).increment(1);
    }

    pub(crate) fn accept_failed(&self) {
        metrics::counter!(ACCEPT_ERRORS, self.labels.clone()).increment(1);
    }

    /// Counts a connection until the returned value is dropped.
    pub(crate) fn open(&self, transport: &'static str) -> OpenGuard {
        let gauge = metrics::gauge!(CONNECTIONS, self.labelled("transport", transport));
        gauge.increment(1.0);
        OpenGuard(gauge)
    }

    fn labelled(&self, name: &'static str, value: &'static str) -> Vec<Label> {
        let mut labels = self.labels.clone();
        labels.push(Label::from_static_parts(name, value));
        labels
    }
}

/// One open connection in the gauge.
pub(crate) struct OpenGuard(metrics::Gauge);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
