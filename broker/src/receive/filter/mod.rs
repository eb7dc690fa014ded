//! Which messages a consumer wants: all, those with certain tags, or those a condition is true of.
//!
//! Invariant: [`Filter::text`] is parsed to an equal filter, so that a filter can be kept and sent
//! as text.

mod sql;

use std::collections::BTreeSet;
use std::sync::Arc;

use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::FilterType;

use crate::command::tag_hash;
use crate::rpc::status::Refusal;

/// Longest filter expression.
const EXPRESSION_BYTES_MAX: usize = 16 << 10;

/// Which messages a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every message.
    All,
    /// Messages with one of these tags.
    Tags {
        /// The tags.
        tags: BTreeSet<String>,
        /// Their hashes, which index entries carry.
        hashes: BTreeSet<u64>,
    },
    /// Messages that a condition over their properties is true of.
    Sql(Arc<sql::Expression>),
}

impl Filter {
    /// Parses a filter expression. One that does not say its type is one of tags; none, an empty one
    /// and `*` want everything.
    ///
    /// # Errors
    /// An expression that is too long, that names no tag, or that is no condition.
    pub fn parse(expression: Option<&v2::FilterExpression>) -> Result<Self, Refusal> {
        let Some(expression) = expression else { return Ok(Self::All) };
        let text = &expression.expression;
        if expression.r#type() == FilterType::Sql {
            // As it was sent, so that a column in an error is one of what its author sees.
            check_length(text)?;
            let compiled = sql::Expression::parse(text).map_err(|e| illegal(e.to_string()))?;
            return Ok(Self::Sql(Arc::new(compiled)));
        }
        let text = text.trim();
        check_length(text)?;
        if text.is_empty() || text == "*" {
            return Ok(Self::All);
        }
        let tags: BTreeSet<String> = text
            .split("||")
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect();
        if tags.is_empty() {
            return Err(illegal(format!("the filter expression {text:?} names no tag")));
        }
        let hashes = tags.iter().map(|tag| tag_hash(Some(tag))).collect();
        Ok(Self::Tags { tags, hashes })
    }

    /// The filter of a subscription, unless it is one that a later version took.
    pub fn of_subscription(subscription: &wire::Subscription) -> Option<Self> {
        let expression = v2::FilterExpression {
            r#type: subscription.filter_type,
            expression: subscription.expression.clone(),
        };
        Self::parse(Some(&expression)).ok()
    }

    /// The subscription of whoever receives with this filter.
    pub fn subscription(&self) -> wire::Subscription {
        let (filter_type, expression) = self.text();
        wire::Subscription { filter_type: filter_type.into(), expression }
    }

    /// Whether a message with this tag hash may be wanted.
    pub fn may_match(&self, tag_hash: u64) -> bool {
        match self {
            Self::All | Self::Sql(_) => true,
            Self::Tags { hashes, .. } => hashes.contains(&tag_hash),
        }
    }

    /// Whether a message must be read to know whether it is wanted. Otherwise its tag hash decides,
    /// but for the rare tags with one hash.
    pub fn needs_properties(&self) -> bool {
        matches!(self, Self::Sql(_))
    }

    /// Whether this message is wanted.
    pub fn matches_message(&self, message: &v2::Message) -> bool {
        match self {
            Self::All => true,
            Self::Tags { tags, .. } => {
                let properties = message.system_properties.as_ref();
                let tag = properties.and_then(|properties| properties.tag.as_deref());
                tag.is_some_and(|tag| tags.contains(tag))
            }
            Self::Sql(condition) => condition.matches(message),
        }
    }

    /// The filter as the type and the text of an expression: for equal tags always the same.
    pub fn text(&self) -> (FilterType, String) {
        match self {
            Self::All => (FilterType::Tag, "*".to_owned()),
            Self::Tags { tags, .. } => (FilterType::Tag, tags_text(tags)),
            Self::Sql(condition) => (FilterType::Sql, condition.source().to_owned()),
        }
    }
}

/// Tags joined by `||`. No message has a tag with a bar, but a filter may name one.
fn tags_text(tags: &BTreeSet<String>) -> String {
    let mut text = String::new();
    for tag in tags {
        if !text.is_empty() {
            let bar = text.ends_with('|') || tag.starts_with('|');
            text.push_str(if bar { " || " } else { "||" });
        }
        text.push_str(tag);
    }
    if text == "*" {
        // The tag of that name, among others that are empty; alone it would mean every message.
        text.push_str("||");
    }
    text
}

fn check_length(text: &str) -> Result<(), Refusal> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(illegal(format!(
            "a filter expression of {} bytes; at most {EXPRESSION_BYTES_MAX} are taken",
            text.len()
        )));
    }
    Ok(())
}

fn illegal(text: String) -> Refusal {
    Refusal::new(Code::IllegalFilterExpression, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(kind: FilterType, text: &str) -> Result<Filter, Refusal> {
        let expression = v2::FilterExpression { r#type: kind.into(), expression: text.into() };
        Filter::parse(Some(&expression))
    }

    fn tags(text: &str) -> Filter {
        parse(FilterType::Tag, text).unwrap()
    }

    fn message(tag: Option<&str>) -> v2::Message {
        let system_properties =
            v2::SystemProperties { tag: tag.map(str::to_owned), ..Default::default() };
        v2::Message { system_properties: Some(system_properties), ..Default::default() }
    }

    #[test]
    fn tags_are_alternatives() {
        let some = tags(" a || b||");
        let wanted = |tag| some.matches_message(&message(tag));
        assert!(wanted(Some("a")) && wanted(Some("b")));
        assert!(!wanted(Some("c")) && !wanted(None));
        assert!(some.may_match(tag_hash(Some("a"))) && !some.may_match(tag_hash(None)));
        assert!(!some.needs_properties());
        assert_eq!(tags("*"), Filter::All);
        assert_eq!(tags(""), Filter::All);
        assert_eq!(Filter::parse(None).unwrap(), Filter::All);
        assert!(Filter::All.matches_message(&message(None)) && Filter::All.may_match(0));
        assert!(!some.matches_message(&v2::Message::default()));
        assert_eq!(parse(FilterType::Unspecified, "b||a").unwrap(), some);
        assert_eq!(parse(FilterType::Tag, "||").unwrap_err().code, Code::IllegalFilterExpression);
    }

    #[test]
    fn a_condition_sees_user_and_system_properties() {
        let system_properties = v2::SystemProperties {
            tag: Some("t".into()),
            keys: vec!["k1".into(), "k2".into()],
            message_id: "01AB".into(),
            message_group: Some("g".into()),
            born_timestamp: Some(prost_types::Timestamp { seconds: 3, nanos: 250_000_000 }),
            dead_letter_queue: Some(v2::DeadLetterQueue {
                topic: "orders".into(),
                message_id: "01CD".into(),
            }),
            ..Default::default()
        };
        let message = v2::Message {
            user_properties: [("price".into(), "42".into())].into(),
            system_properties: Some(system_properties),
            ..Default::default()
        };
        let wanted = |text: &str| parse(FilterType::Sql, text).unwrap().matches_message(&message);
        assert!(wanted("price > 41 AND TAGS = 't'"));
        assert!(wanted("KEYS = 'k1 k2' AND KEYS CONTAINS 'k2'"));
        assert!(wanted("UNIQ_KEY = '01AB' AND __SHARDINGKEY = 'g'"));
        assert!(wanted("BORN_TIMESTAMP = 3250 AND TIMER_DELIVER_MS IS NULL"));
        assert!(wanted("DLQ_ORIGIN_TOPIC = 'orders' AND DLQ_ORIGIN_MESSAGE_ID = '01CD'"));
        assert!(!wanted("price > 42") && !wanted("tags = 't'") && !wanted("Price IS NOT NULL"));

        let bare = v2::Message::default();
        let nothing =
            "TAGS IS NULL AND KEYS IS NULL AND UNIQ_KEY IS NULL AND __SHARDINGKEY IS NULL";
        assert!(parse(FilterType::Sql, nothing).unwrap().matches_message(&bare));
    }

    #[test]
    fn a_condition_can_not_be_decided_by_a_tag_hash() {
        let filter = parse(FilterType::Sql, " TAGS = 'a'\n").unwrap();
        assert!(filter.may_match(0) && filter.needs_properties());
        assert!(filter.matches_message(&message(Some("a"))));
        assert!(!filter.matches_message(&message(Some("b"))));
        assert_eq!(filter.text(), (FilterType::Sql, "TAGS = 'a'".to_owned()));
        assert_eq!(filter, filter.clone());
        assert_ne!(filter, parse(FilterType::Sql, "TAGS = 'b'").unwrap());
    }

    #[test]
    fn what_is_no_condition_is_refused_with_its_column() {
        let refusal = parse(FilterType::Sql, "  a = NULL").unwrap_err();
        assert_eq!(refusal.code, Code::IllegalFilterExpression);
        assert!(refusal.message.starts_with("filter expression, column 7: expected IS NULL"));
        let refusal = parse(FilterType::Sql, "").unwrap_err();
        assert_eq!(refusal.message, "filter expression, column 1: expected a condition");
        let longest = format!("a = '{}'", "x".repeat(EXPRESSION_BYTES_MAX - 6));
        assert!(parse(FilterType::Sql, &longest).is_ok());
        for kind in [FilterType::Sql, FilterType::Tag] {
            let refusal = parse(kind, &format!("{longest}x")).unwrap_err();
            assert!(refusal.message.contains("16385 bytes; at most 16384"), "{refusal}");
        }
    }

    #[test]
    fn equal_tags_have_one_text() {
        for (text, canonical) in [
            ("", "*"),
            ("*", "*"),
            ("b || a||b", "a||b"),
            ("*||", "*||"),
            ("* || a", "*||a"),
            ("a| || b", "a| || b"),
        ] {
            assert_eq!(tags(text).text(), (FilterType::Tag, canonical.to_owned()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_text_of_tags_is_parsed_to_equal_tags(text in "[ab*| ]{0,12}") {
            if let Ok(filter) = parse(FilterType::Tag, &text) {
                let (kind, canonical) = filter.text();
                prop_assert_eq!(parse(kind, &canonical).unwrap(), filter);
            }
        }
    }
}
