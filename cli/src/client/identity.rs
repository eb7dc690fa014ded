//! Who a client says it is, in the headers of every call.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftmq_proto::v2::Language;
use raftmq_proto::v2::Ua;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Also what a server puts into its metrics.
const LANGUAGE: &str = "RUST";

/// One client instance. All state a server keeps about it hangs on this name.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    client_id: AsciiMetadataValue,
    host: String,
}

impl Identity {
    /// A name of the form official clients use: `host@pid@index@start`.
    pub(crate) fn generate() -> Self {
        static INDEX: AtomicU32 = AtomicU32::new(0);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let pid = std::process::id();
        let index = INDEX.fetch_add(1, Ordering::Relaxed);
        // Tells two processes with one process id apart: containers often all have id 1.
        let start: u32 = rand::random();
        let client_id = format!("{host}@{pid}@{index}@{start:08x}");
        let client_id = AsciiMetadataValue::try_from(client_id)
            .unwrap_or_else(|_| AsciiMetadataValue::from_static("unnameable-host"));
        Self { client_id, host }
    }

    pub(crate) fn client_id(&self) -> &str {
        self.client_id.to_str().unwrap_or_default()
    }

    /// Wraps a request in this client's headers; the server learns `timeout` as the deadline.
    pub(crate) fn request<T>(&self, message: T, timeout: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("x-mq-client-id", self.client_id.clone());
        headers.insert("x-mq-language", AsciiMetadataValue::from_static(LANGUAGE));
        headers.insert("x-mq-client-version", AsciiMetadataValue::from_static(VERSION));
        headers.insert("x-mq-protocol", AsciiMetadataValue::from_static("v2"));
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }

    pub(crate) fn user_agent(&self) -> Ua {
        Ua {
            language: Language::Rust.into(),
            version: VERSION.to_owned(),
            platform: std::env::consts::OS.to_owned(),
            hostname: self.host.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clients_of_a_process_differ() {
        let (one, other) = (Identity::generate(), Identity::generate());
        assert_ne!(one.client_id(), other.client_id());
        assert_eq!(one.client_id().split('@').count(), 4, "{}", one.client_id());
    }
}
