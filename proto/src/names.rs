//! Which names topics and consumer groups may have: RocketMQ's own rules, so that whatever can be
//! created here can be used by every official client, and the other way round.
//!
//! Not here: whether a topic or group exists.
//!
//! Source: RocketMQ `common/topic/TopicValidator.java`, `proxy/grpc/v2/common/GrpcValidator.java`.

/// Characters of an ordinary topic name. All allowed characters are one byte long.
pub const TOPIC_LEN_MAX: usize = 127;

/// Characters of a retry or dead-letter topic's name: the prefix stands before a group's name.
pub const RESERVED_TOPIC_LEN_MAX: usize = 255;

/// Characters of a consumer group's name.
pub const CONSUMER_GROUP_LEN_MAX: usize = 120;

/// Begins the name of the topic that holds the dead letters of a group.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// Begins the name of the topic that holds the retries of a group (classic clients only).
pub const RETRY_PREFIX: &str = "%RETRY%";

/// Begins names of topics that only the broker may create.
const RESERVED_PREFIXES: [&str; 3] = [RETRY_PREFIX, DEAD_LETTER_PREFIX, "%LMQ%"];

const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

const SYSTEM_TOPICS: [&str; 10] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];

/// Which rule a name breaks. The text can be shown to the caller as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Empty, or nothing but white space.
    Blank {
        /// `topic` or `consumer group`.
        noun: &'static str,
    },
    /// More characters than allowed.
    TooLong {
        /// `topic` or `consumer group`.
        noun: &'static str,
        /// How many it has.
        len: usize,
        /// How many it may have.
        len_max: usize,
    },
    /// A character outside `%|a-zA-Z0-9_-`.
    Character {
        /// `topic` or `consumer group`.
        noun: &'static str,
        /// The first such character.
        found: char,
    },
    /// A name the system keeps for itself.
    System {
        /// `topic` or `consumer group`.
        noun: &'static str,
        /// The name.
        name: String,
    },
    /// A name that only the broker gives, such as that of a dead-letter topic.
    Reserved {
        /// What it begins with.
        prefix: &'static str,
    },
}

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NameError::Blank { noun } => write!(f, "the {noun} name is blank"),
            NameError::TooLong { noun, len, len_max } => {
                write!(f, "the {noun} name has {len} characters, at most {len_max} are allowed")
            }
            NameError::Character { noun, found } => write!(
                f,
                "the {noun} name contains {found:?}, \
                 allowed are letters a-z A-Z, digits and % | - _"
            ),
            NameError::System { noun, name } => {
                write!(f, "the {noun} name {name} is kept for the system, choose another one")
            }
            NameError::Reserved { prefix } => write!(
                f,
                "topic names that begin with {prefix} are given by the broker, choose another one"
            ),
        }
    }
}

impl std::error::Error for NameError {}

/// Checks the name of a topic that a client reads, writes or asks the route of. Dead-letter and
/// retry topics are among them.
///
/// # Errors
/// The first rule that `name` breaks.
pub fn topic(name: &str) -> Result<(), NameError> {
    let noun = "topic";
    let reserved = name.starts_with(RETRY_PREFIX) || name.starts_with(DEAD_LETTER_PREFIX);
    let len_max = if reserved { RESERVED_TOPIC_LEN_MAX } else { TOPIC_LEN_MAX };
    check(noun, name, len_max)?;
    if SYSTEM_TOPICS.contains(&name) || name.starts_with(SYSTEM_TOPIC_PREFIX) {
        return Err(NameError::System { noun, name: name.to_owned() });
    }
    Ok(())
}

/// Checks the name of a topic that is to be created by request.
///
/// # Errors
/// As [`topic`], and [`NameError::Reserved`] for names that only the broker gives.
pub fn new_topic(name: &str) -> Result<(), NameError> {
    topic(name)?;
    match RESERVED_PREFIXES.into_iter().find(|prefix| name.starts_with(prefix)) {
        Some(prefix) => Err(NameError::Reserved { prefix }),
        None => Ok(()),
    }
}

/// Checks the name of a consumer group.
///
/// # Errors
/// The first rule that `name` breaks.
pub fn consumer_group(name: &str) -> Result<(), NameError> {
    let noun = "consumer group";
    check(noun, name, CONSUMER_GROUP_LEN_MAX)?;
    if name.starts_with(SYSTEM_GROUP_PREFIX) {
        return Err(NameError::System { noun, name: name.to_owned() });
    }
    Ok(())
}

/// The name of the topic that holds the dead letters of `consumer_group`.
pub fn dead_letter_topic(consumer_group: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}{consumer_group}")
}

fn check(noun: &'static str, name: &str, len_max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank { noun });
    }
    let len = name.chars().count();
    if len > len_max {
        return Err(NameError::TooLong { noun, len, len_max });
    }
    match name.chars().find(|&found| !is_allowed(found)) {
        Some(found) => Err(NameError::Character { noun, found }),
        None => Ok(()),
    }
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '%' | '|' | '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in ["demo", "Orders_2026-q1", "a|b", "namespace%demo", &"t".repeat(127)] {
            assert_eq!(topic(name), Ok(()), "{name}");
            assert_eq!(new_topic(name), Ok(()), "{name}");
        }
        assert_eq!(consumer_group(&"g".repeat(120)), Ok(()));
    }

    #[test]
    fn limits_are_inclusive_and_named() {
        let error = topic(&"t".repeat(128)).unwrap_err();
        assert_eq!(error.to_string(), "the topic name has 128 characters, at most 127 are allowed");
        let error = consumer_group(&"g".repeat(121)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the consumer group name has 121 characters, at most 120 are allowed"
        );
    }

    #[test]
    fn dead_letter_and_retry_topics_can_be_read_but_not_created() {
        let group = "g".repeat(CONSUMER_GROUP_LEN_MAX);
        for name in [dead_letter_topic(&group), format!("%RETRY%{group}_{}", "t".repeat(100))] {
            assert_eq!(topic(&name), Ok(()), "{name}");
            assert!(matches!(new_topic(&name), Err(NameError::Reserved { .. })), "{name}");
        }
        let too_long = format!("%DLQ%{}", "g".repeat(251));
        assert!(matches!(topic(&too_long), Err(NameError::TooLong { len_max: 255, .. })));
    }

    #[test]
    fn blank_names_are_refused() {
        for name in ["", " ", "\t\n"] {
            assert_eq!(topic(name), Err(NameError::Blank { noun: "topic" }));
            assert_eq!(consumer_group(name), Err(NameError::Blank { noun: "consumer group" }));
        }
    }

    #[test]
    fn other_characters_are_named() {
        for (name, found) in [("a b", ' '), ("a.b", '.'), ("ä", 'ä'), ("a\0", '\0'), ("a/b", '/')]
        {
            assert_eq!(topic(name), Err(NameError::Character { noun: "topic", found }));
        }
    }

    #[test]
    fn system_names_are_refused() {
        for name in ["TBW102", "rmq_sys_wheel_timer", "RMQ_SYS_TRANS_HALF_TOPIC"] {
            assert!(matches!(topic(name), Err(NameError::System { .. })), "{name}");
        }
        assert!(matches!(consumer_group("CID_RMQ_SYS_TRANS"), Err(NameError::System { .. })));
    }
}
