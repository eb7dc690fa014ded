//! Why a call failed, and whether it may have taken effect all the same.

use std::error::Error;
use std::time::Duration;

use raftmq_proto::v2::Code;
use raftmq_proto::v2::Status;

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is nobody to call: the list of addresses is empty.
    #[error("no address was given to connect to")]
    NoAddress,
    /// The text is not `host:port`.
    #[error("{address:?} is not an address, write host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// No connection came about: nothing was sent.
    #[error("could not connect to {address}: {cause}")]
    Connect {
        /// Who was called.
        address: String,
        /// What the system says.
        cause: String,
    },
    /// The request was sent and no answer came in time.
    #[error("{address} did not answer {rpc} within {timeout:?}")]
    Timeout {
        /// Who was called.
        address: String,
        /// The name of the call.
        rpc: &'static str,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The connection ended, or the server failed, while the answer was awaited.
    #[error("{rpc} at {address} was broken off: {cause}")]
    Broken {
        /// Who was called.
        address: String,
        /// The name of the call.
        rpc: &'static str,
        /// The gRPC status as text.
        cause: String,
    },
    /// The server answered with a status other than OK.
    #[error("{rpc} at {address} was refused: {message} ({})", code.as_str_name())]
    Refused {
        /// Who was called.
        address: String,
        /// The name of the call.
        rpc: &'static str,
        /// The server's code.
        code: Code,
        /// The server's text.
        message: String,
    },
    /// The answer contradicts the protocol.
    #[error("{rpc} at {address} was answered with something unusable: {problem}")]
    Malformed {
        /// Who was called.
        address: String,
        /// The name of the call.
        rpc: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// What is known about a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has had no effect and will have none.
    NotDone,
    /// It may have had its effect, or may still have it.
    Unknown,
}

impl CallError {
    /// Whether the call may have taken effect.
    pub fn outcome(&self) -> Outcome {
        match self {
            CallError::NoAddress | CallError::Address { .. } | CallError::Connect { .. } => {
                Outcome::NotDone
            }
            CallError::Timeout { .. } | CallError::Broken { .. } | CallError::Malformed { .. } => {
                Outcome::Unknown
            }
            // The 4xxxx are about the request, which was judged before anything was done. Behind
            // the others there may be a proposal whose end the server did not see.
            CallError::Refused { code, .. } if is_about_request(*code) => Outcome::NotDone,
            CallError::Refused { .. } => Outcome::Unknown,
        }
    }

    /// The server's code, when it answered at all.
    pub fn code(&self) -> Option<Code> {
        match self {
            CallError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same request could succeed, elsewhere or later.
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            CallError::NoAddress | CallError::Address { .. } => false,
            CallError::Refused { code: Code::TooManyRequests, .. } => true,
            CallError::Refused { code, .. } => {
                !is_about_request(*code) && *code != Code::NotImplemented
            }
            CallError::Connect { .. }
            | CallError::Timeout { .. }
            | CallError::Broken { .. }
            | CallError::Malformed { .. } => true,
        }
    }

    /// Whether nothing was heard from the server: it should be avoided for a while.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(
            self,
            CallError::Connect { .. } | CallError::Timeout { .. } | CallError::Broken { .. }
        )
    }

    /// Judges the status that every answer carries.
    pub(crate) fn check(
        address: &str,
        rpc: &'static str,
        status: Option<Status>,
    ) -> Result<(), CallError> {
        let address = address.to_owned();
        let Some(status) = status else {
            let problem = "it carries no status".to_owned();
            return Err(CallError::Malformed { address, rpc, problem });
        };
        match status.code() {
            Code::Ok => Ok(()),
            code => Err(CallError::Refused { address, rpc, code, message: status.message }),
        }
    }

    /// Translates a gRPC error: those are about the connection, never about the request.
    pub(crate) fn from_grpc(
        address: &str,
        rpc: &'static str,
        timeout: Duration,
        status: &tonic::Status,
    ) -> Self {
        let address = address.to_owned();
        if let Some(error) = find::<tonic::ConnectError>(status) {
            return CallError::Connect { address, cause: root_cause(error) };
        }
        if find::<tonic::TimeoutExpired>(status).is_some()
            || status.code() == tonic::Code::DeadlineExceeded
        {
            return CallError::Timeout { address, rpc, timeout };
        }
        let cause = match status.message() {
            "" => status.code().to_string(),
            text => text.to_owned(),
        };
        CallError::Broken { address, rpc, cause }
    }
}

/// The last link of a chain of causes: `Connection refused` rather than `transport error`.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The first error of type `E` among the causes of `error`.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn is_about_request(code: Code) -> bool {
    (40_000..50_000).contains(&i32::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code) -> CallError {
        CallError::Refused {
            address: "a:1".to_owned(),
            rpc: "SendMessage",
            code,
            message: "no".to_owned(),
        }
    }

    #[test]
    fn a_judged_request_was_not_done_and_is_not_repeated() {
        let error = refused(Code::TopicNotFound);
        assert_eq!(error.outcome(), Outcome::NotDone);
        assert!(!error.is_worth_retrying());
        assert_eq!(error.to_string(), "SendMessage at a:1 was refused: no (TOPIC_NOT_FOUND)");
    }

    #[test]
    fn a_busy_server_is_asked_again() {
        let error = refused(Code::TooManyRequests);
        assert_eq!(error.outcome(), Outcome::NotDone);
        assert!(error.is_worth_retrying());
    }

    #[test]
    fn what_failed_inside_the_server_may_have_been_done() {
        let error = refused(Code::HaNotAvailable);
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert!(error.is_worth_retrying());
    }
}
