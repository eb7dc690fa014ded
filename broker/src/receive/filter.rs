//! Tag filters: `*`, or tags joined by `||`.

use std::collections::BTreeSet;

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
}

impl Filter {
    /// Parses a filter expression; none, an empty one and `*` want everything.
    ///
    /// # Errors
    /// An expression of another kind, or one that is too long.
    pub fn parse(expression: Option<&v2::FilterExpression>) -> Result<Self, Refusal> {
        let Some(expression) = expression else { return Ok(Self::All) };
        if expression.r#type() == FilterType::Sql {
            return Err(Refusal::not_implemented("filtering with SQL"));
        }
        let text = expression.expression.trim();
        if text.len() > EXPRESSION_BYTES_MAX {
            let text = format!(
                "a filter expression of {} bytes; at most {EXPRESSION_BYTES_MAX} are taken",
                text.len()
            );
            return Err(Refusal::new(Code::IllegalFilterExpression, text));
        }
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
            let text = format!("the filter expression {text:?} names no tag");
            return Err(Refusal::new(Code::IllegalFilterExpression, text));
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

    /// Type and expression that parse to an equal filter.
    pub fn text(&self) -> (FilterType, String) {
        match self {
            Self::All => (FilterType::Tag, "*".to_owned()),
            Self::Tags { tags, .. } => {
                (FilterType::Tag, tags.iter().cloned().collect::<Vec<_>>().join("||"))
            }
        }
    }

    /// Whether it looks at more than the tag.
    pub fn needs_properties(&self) -> bool {
        false
    }

    /// Whether this message is wanted.
    pub fn matches_message(&self, message: &v2::Message) -> bool {
        let tag = message.system_properties.as_ref().and_then(|it| it.tag.as_deref());
        self.matches(tag)
    }

    /// Whether a message with this tag hash may be wanted.
    pub fn may_match(&self, hash: u64) -> bool {
        match self {
            Self::All => true,
            Self::Tags { hashes, .. } => hashes.contains(&hash),
        }
    }

    /// Whether a message with this tag is wanted.
    pub fn matches(&self, tag: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Tags { tags, .. } => tag.is_some_and(|tag| tags.contains(tag)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        let expression =
            v2::FilterExpression { r#type: FilterType::Tag.into(), expression: text.into() };
        Filter::parse(Some(&expression)).unwrap()
    }

    #[test]
    fn tags_are_alternatives() {
        let some = filter(" a || b||");
        assert!(some.matches(Some("a")) && some.matches(Some("b")));
        assert!(!some.matches(Some("c")) && !some.matches(None));
        assert!(some.may_match(tag_hash(Some("a"))) && !some.may_match(tag_hash(None)));
        assert_eq!(filter("*"), Filter::All);
        assert_eq!(filter(""), Filter::All);
    }
}
