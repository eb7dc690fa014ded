//! How a command ends: what went wrong, what to do about it, and the exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use raftmq::client::AdminError;
use raftmq::client::CallError;
use raftmq::client::SendError;
use raftmq_proto::v2::Code;

/// The meaning of every exit code, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage or configuration
  3  not found: a topic, a consumer group, or no message within the waiting time
  4  not available: no server could be reached, or it could not serve now; try again
  5  exists already
 70  a broker can not trust its log or its state and must not go on (servers only)";

/// An exit code other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Anything that has no code of its own.
    Failed = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// Nobody could serve the request at the moment.
    Unavailable = 4,
    /// What was to be made is there already.
    AlreadyExists = 5,
}

/// Why a command failed, in words for whoever typed it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    /// What to do next.
    hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), hint: None }
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it on standard error.
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {self}");
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::failed(error)
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let (exit, hint) = match &error {
            AdminError::Unreachable(_) => (
                Exit::Unavailable,
                Some(
                    "is a broker running there? Start one with `raftmq dev`, or name the admin \
                     ports of yours with --admin or RAFTMQ_ADMIN",
                ),
            ),
            AdminError::Unknown { .. } => (
                Exit::Unavailable,
                Some("it may have been done; look at `raftmq cluster status` and try again"),
            ),
            AdminError::Refused { code, .. } => (refusal_exit(*code), None),
            AdminError::Address(_) => (Exit::Usage, None),
        };
        let failure = Failure::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn refusal_exit(code: tonic::Code) -> Exit {
    match code {
        tonic::Code::NotFound => Exit::NotFound,
        tonic::Code::AlreadyExists => Exit::AlreadyExists,
        tonic::Code::Unavailable | tonic::Code::ResourceExhausted => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let (exit, hint) = match &error {
            CallError::NoAddress | CallError::Address { .. } => (Exit::Usage, None),
            CallError::Connect { .. } => (
                Exit::Unavailable,
                Some(
                    "is a name server or broker running there? Start both with `raftmq dev`, or \
                     name yours with --endpoint or RAFTMQ_ENDPOINT",
                ),
            ),
            CallError::Timeout { .. } | CallError::Broken { .. } => {
                (Exit::Unavailable, Some("look at `raftmq cluster status`"))
            }
            CallError::Refused { code, .. } => advice(*code),
            CallError::Malformed { .. } => {
                (Exit::Failed, Some("is that the client port of a RaftMQ or RocketMQ 5 server?"))
            }
        };
        let failure = Failure::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn advice(code: Code) -> (Exit, Option<&'static str>) {
    match code {
        Code::TopicNotFound => {
            (Exit::NotFound, Some("list topics with `raftmq topic list`, or create this one"))
        }
        Code::ConsumerGroupNotFound => (
            Exit::NotFound,
            Some("list groups with `raftmq group list`, or create it: `raftmq group create NAME`"),
        ),
        Code::NotFound | Code::MessageNotFound | Code::OffsetNotFound => (Exit::NotFound, None),
        Code::HaNotAvailable => (
            Exit::Unavailable,
            Some("no leader can be reached right now; look at `raftmq cluster status`"),
        ),
        Code::TooManyRequests | Code::RequestTimeout | Code::ProxyTimeout => {
            (Exit::Unavailable, Some("the server is busy; try again"))
        }
        Code::NotImplemented => {
            (Exit::Failed, Some("is --endpoint a broker or name server of this version?"))
        }
        _ => (Exit::Failed, None),
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let attempts = error.attempts.len();
        let mut failure = Failure::from(error.last);
        failure.message = match attempts {
            1 => format!("message {} was not sent: {}", error.message_id, failure.message),
            _ => format!(
                "message {} was not sent in {attempts} attempts: {}",
                error.message_id, failure.message
            ),
        };
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented() {
        use Exit::*;
        for exit in [Failed, Usage, NotFound, Unavailable, AlreadyExists] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }

    #[test]
    fn a_missing_topic_is_told_with_what_to_do() {
        let failure = Failure::from(CallError::Refused {
            address: "a:1".to_owned(),
            rpc: "QueryRoute",
            code: Code::TopicNotFound,
            message: "topic x does not exist".to_owned(),
        });
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.to_string().contains("\n  hint: "), "{failure}");
    }
}
