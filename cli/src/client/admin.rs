//! Calls on the admin port of any node of a broker group; what needs the leader is relayed to it.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use raftmq_proto::raftmq::admin_client::AdminClient;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Channel;

use super::CallError;
use super::error::find;
use super::error::root_cause;
use super::link::channel;

/// Longer than an election takes, so that a call in the middle of one succeeds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer lists every topic there is.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Admin ports, tried in order until one answers.
#[derive(Clone, Debug)]
pub struct Admin {
    addresses: Vec<String>,
    timeout: Duration,
}

/// An admin call that failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No address answered. Nothing was done.
    #[error("no broker answers: {}", Causes(.0))]
    Unreachable(
        /// Each address with what went wrong there.
        Vec<(String, String)>,
    ),
    /// A broker was reached and did not answer in time, or failed: the call may have been done.
    #[error("{address} did not complete the call: {message}")]
    Unknown {
        /// Who was asked.
        address: String,
        /// What is known.
        message: String,
    },
    /// A broker answered with a refusal, whose text says what to do.
    #[error("{message}")]
    Refused {
        /// Who was asked.
        address: String,
        /// The kind of refusal.
        code: tonic::Code,
        /// The server's text.
        message: String,
    },
    /// An address is not `host:port`.
    #[error(transparent)]
    Address(CallError),
}

struct Causes<'a>(&'a [(String, String)]);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (address, cause)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{address} ({cause})")?;
        }
        Ok(())
    }
}

impl Admin {
    /// `addresses` are `host:port`, at least one.
    pub fn new(addresses: Vec<String>) -> Self {
        Self { addresses, timeout: TIMEOUT }
    }

    /// Every address, to ask each of them.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Asks the addresses in turn until one answers, be it with a refusal.
    ///
    /// ```no_run
    /// # use raftmq::client::Admin;
    /// # use raftmq_proto::raftmq::ListTopicsRequest;
    /// # async fn example() -> Result<(), raftmq::client::AdminError> {
    /// let admin = Admin::new(vec!["127.0.0.1:8183".to_owned()]);
    /// let topics = admin
    ///     .call(ListTopicsRequest::default(), async |mut node, request| node.list_topics(request).await)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AdminError`]. A call that may have been done is not repeated elsewhere.
    pub async fn call<Req, Res, F, Fut>(&self, request: Req, call: F) -> Result<Res, AdminError>
    where
        Req: Clone,
        F: Fn(AdminClient<Channel>, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Res>, Status>>,
    {
        let mut causes = Vec::new();
        for address in &self.addresses {
            let node = AdminClient::new(channel(address).map_err(AdminError::Address)?)
                .max_decoding_message_size(ANSWER_BYTES_MAX);
            let mut request = Request::new(request.clone());
            request.set_timeout(self.timeout);
            match tokio::time::timeout(self.timeout, call(node, request)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => match judge(address, &status) {
                    Verdict::TryNext(cause) => causes.push((address.clone(), cause)),
                    Verdict::Final(error) => return Err(error),
                },
                Err(_) => {
                    let message = format!("no answer within {:?}", self.timeout);
                    return Err(AdminError::Unknown { address: address.clone(), message });
                }
            }
        }
        Err(AdminError::Unreachable(causes))
    }
}

enum Verdict {
    /// Nothing was done there.
    TryNext(String),
    Final(AdminError),
}

fn judge(address: &str, status: &Status) -> Verdict {
    if let Some(error) = find::<tonic::ConnectError>(status) {
        return Verdict::TryNext(root_cause(error));
    }
    let address = address.to_owned();
    let message = status.message().to_owned();
    match status.code() {
        // Said by a server that has no leader to relay to: another node may know one.
        tonic::Code::Unavailable => Verdict::TryNext(message),
        tonic::Code::Unimplemented => {
            Verdict::TryNext("it answers, but it is not an admin port".to_owned())
        }
        tonic::Code::DeadlineExceeded | tonic::Code::Cancelled | tonic::Code::Unknown => {
            Verdict::Final(AdminError::Unknown { address, message })
        }
        code => Verdict::Final(AdminError::Refused { address, code, message }),
    }
}

#[cfg(test)]
mod tests {
    use raftmq_proto::raftmq::ListTopicsRequest;

    use super::*;

    #[tokio::test]
    async fn every_address_that_was_tried_is_named() {
        // Ports 1 and 2 are nobody's.
        let admin = Admin::new(vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()]);
        let listed = admin.call(ListTopicsRequest::default(), async |mut node, request| {
            node.list_topics(request).await
        });
        let error = listed.await.unwrap_err().to_string();
        assert_eq!(
            error,
            "no broker answers: 127.0.0.1:1 (Connection refused (os error 111)), \
             127.0.0.1:2 (Connection refused (os error 111))"
        );
    }

    #[tokio::test]
    async fn what_is_not_an_address_is_refused() {
        let admin = Admin::new(vec!["nowhere".to_owned()]);
        let listed = admin.call(ListTopicsRequest::default(), async |mut node, request| {
            node.list_topics(request).await
        });
        assert!(matches!(listed.await, Err(AdminError::Address(_))));
    }
}
