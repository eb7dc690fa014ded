//! Domain errors to wire codes: the one place where they meet.

use raftmq_proto::names::NameError;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_raft_store::ProposeError;

use crate::state::Rejection;

/// Why a client's request was refused: a code and one sentence that names the cause and the limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The code of the client API.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal with `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The topic does not exist.
    pub fn topic_not_found(name: &str) -> Self {
        Self::new(
            Code::TopicNotFound,
            format!("topic {name} does not exist; create it with: raftmq topic create {name}"),
        )
    }

    /// The consumer group does not exist.
    pub fn group_not_found(name: &str) -> Self {
        Self::new(
            Code::ConsumerGroupNotFound,
            format!(
                "consumer group {name} does not exist; create it with: raftmq group create {name}"
            ),
        )
    }

    /// A limit is reached: clients back off and try again. `cause` is counted.
    pub(crate) fn too_many(cause: &'static str, message: String) -> Self {
        metrics::counter!("raftmq_requests_refused_total", "cause" => cause).increment(1);
        Self::new(Code::TooManyRequests, message)
    }

    /// The wire form.
    pub fn status(&self) -> v2::Status {
        v2::Status { code: self.code.into(), message: self.message.clone() }
    }
}

/// Success on the wire.
pub fn ok() -> v2::Status {
    v2::Status { code: Code::Ok.into(), message: "OK".to_owned() }
}

/// A topic name that is none.
pub fn illegal_topic(error: NameError) -> Refusal {
    Refusal::new(Code::IllegalTopic, error.to_string())
}

/// A group name that is none.
pub fn illegal_group(error: NameError) -> Refusal {
    Refusal::new(Code::IllegalConsumerGroup, error.to_string())
}

/// Why an operation did not happen here: refused for good, or to be tried where the leader is.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The answer is no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Try again at the leader; every operation recognizes or tolerates a repetition.
    #[error(transparent)]
    Elsewhere(ProposeError),
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader | ProposeError::Unknown | ProposeError::Stopped(_) => {
                Self::Elsewhere(error)
            }
        }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection {
            Rejection::TopicNotFound => Code::TopicNotFound,
            Rejection::GroupNotFound => Code::ConsumerGroupNotFound,
            Rejection::Exists(_) => Code::BadRequest,
            Rejection::ReceiptExpired => Code::InvalidReceiptHandle,
            // Not MESSAGE_NOT_FOUND, which the client for Python takes for success.
            Rejection::NotPending(_) => Code::NotFound,
            Rejection::TransactionNotFound(_) => Code::InvalidTransactionId,
            Rejection::TooManyFilters(_) => Code::IllegalFilterExpression,
            Rejection::NotLite(_) => Code::BadRequest,
            Rejection::LiteTopicGone => Code::IllegalLiteTopic,
            Rejection::TooManyLiteTopics { .. } => Code::LiteTopicQuotaExceeded,
            Rejection::TooManyLiteSubscriptions { .. } => Code::LiteSubscriptionQuotaExceeded,
        };
        Self::new(code, rejection.to_string())
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection.into())
    }
}
