//! What a condition says about a message.
//!
//! Three truth values: true, false, unknown (here [`Value::Null`]). Operands are asked from left to
//! right, and no more once the outcome is certain. A property is a text, and is read as what it is
//! compared with; the rules are the table in `docs/filters.md`.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::Properties;
use super::ast::Comparison;
use super::ast::Literal;
use super::ast::Node;
use super::ast::Search;

/// What a part of a condition comes to.
#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    /// Also "unknown".
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// Two texts were to be ordered that are not both numbers: the whole condition has no outcome.
#[derive(Debug)]
struct NoOrder;

/// Whether the condition is true.
pub(super) fn is_true(condition: &Node, properties: &impl Properties) -> bool {
    matches!(truth(condition, properties), Ok(Some(true)))
}

/// The order of two literals, if both are numbers.
pub(super) fn order_numbers(left: &Literal, right: &Literal) -> Option<Ordering> {
    number_order(&left.into(), &right.into())
}

/// A part as true, false or unknown.
fn truth(node: &Node, properties: &impl Properties) -> Result<Option<bool>, NoOrder> {
    Ok(match value(node, properties)? {
        Value::Null => None,
        Value::Boolean(truth) => Some(truth),
        Value::Text(text) => Some(says_true(&text)),
        // The parser lets no number stand for a condition.
        Value::Integer(_) | Value::Float(_) => Some(false),
    })
}

fn value<'a>(node: &'a Node, properties: &'a impl Properties) -> Result<Value<'a>, NoOrder> {
    let truth = match node {
        Node::Property(name) => {
            return Ok(properties.property(name).map_or(Value::Null, Value::Text));
        }
        Node::Literal(literal) => return Ok(literal.into()),
        Node::And(operands) => decided_by(false, operands, properties)?,
        Node::Or(operands) => decided_by(true, operands, properties)?,
        Node::Not(operand) => truth(operand, properties)?.map(|truth| !truth),
        Node::IsNull { value: operand, negated } => {
            Some((value(operand, properties)? == Value::Null) != *negated)
        }
        Node::Compare { comparison, left, right } => {
            let left = value(left, properties)?;
            compare(*comparison, &left, &value(right, properties)?)?
        }
        Node::Between { value: operand, low, high, negated } => {
            let operand = value(operand, properties)?;
            let (below, above) = if *negated {
                (Comparison::Less, Comparison::Greater)
            } else {
                (Comparison::GreaterOrEqual, Comparison::LessOrEqual)
            };
            let low = compare(below, &operand, &value(low, properties)?)?;
            // As AND of the two, or OR where negated: one of them may decide alone.
            if low == Some(*negated) {
                low
            } else {
                let high = compare(above, &operand, &value(high, properties)?)?;
                if high == Some(*negated) { high } else { low.and(high) }
            }
        }
        Node::In { property, texts, negated } => {
            properties.property(property).map(|text| texts.contains(&*text) != *negated)
        }
        Node::Search { search, value: operand, text: wanted, negated } => {
            match value(operand, properties)? {
                Value::Text(text) => Some(search.finds(&text, wanted) != *negated),
                _ => None,
            }
        }
    };
    Ok(truth.map_or(Value::Null, Value::Boolean))
}

/// AND and OR: `decisive` if an operand is that, else unknown if one is unknown.
fn decided_by(
    decisive: bool,
    operands: &[Node],
    properties: &impl Properties,
) -> Result<Option<bool>, NoOrder> {
    let mut outcome = Some(!decisive);
    for operand in operands {
        match truth(operand, properties)? {
            Some(truth) if truth == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => outcome = None,
        }
    }
    Ok(outcome)
}

/// Unknown if a side is; false, whatever the comparison, if a text is not what it is compared with.
fn compare(
    comparison: Comparison,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Result<Option<bool>, NoOrder> {
    let order = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(None),
        (Value::Text(left), Value::Text(right)) if comparison.is_order() => {
            let (Some(left), Some(right)) = (float(left), float(right)) else {
                return Err(NoOrder);
            };
            left.partial_cmp(&right)
        }
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Text(left), Value::Boolean(right)) => Some(says_true(left).cmp(right)),
        (Value::Boolean(left), Value::Text(right)) => Some(left.cmp(&says_true(right))),
        (Value::Boolean(left), Value::Boolean(right)) => Some(left.cmp(right)),
        (Value::Text(left), Value::Integer(right)) => integer(left).map(|left| left.cmp(right)),
        (Value::Integer(left), Value::Text(right)) => integer(right).map(|right| left.cmp(&right)),
        (Value::Text(left), Value::Float(right)) => {
            float(left).and_then(|left| left.partial_cmp(right))
        }
        (Value::Float(left), Value::Text(right)) => {
            float(right).and_then(|right| left.partial_cmp(&right))
        }
        // Two numbers: the parser lets nobody compare a number with what is true or false.
        _ => number_order(left, right),
    };
    Ok(Some(order.is_some_and(|order| comparison.holds(order))))
}

fn number_order(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => Some(left.cmp(right)),
        (Value::Integer(left), Value::Float(right)) => (*left as f64).partial_cmp(right),
        (Value::Float(left), Value::Integer(right)) => left.partial_cmp(&(*right as f64)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        _ => None,
    }
}

/// A text as a truth value; any text has one.
fn says_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

/// A text as an integer of 64 bits.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// A text as a decimal number; "inf" and "nan" are none.
fn float(text: &str) -> Option<f64> {
    let decimal = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    if text.bytes().all(decimal) { text.parse().ok() } else { None }
}

impl Comparison {
    fn is_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Search {
    fn finds(self, text: &str, wanted: &str) -> bool {
        match self {
            Self::Contains => text.contains(wanted),
            Self::StartsWith => text.starts_with(wanted),
            Self::EndsWith => text.ends_with(wanted),
        }
    }
}

impl<'a> From<&'a Literal> for Value<'a> {
    fn from(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Boolean(value) => Self::Boolean(*value),
            Literal::Integer(value) => Self::Integer(*value),
            Literal::Float(value) => Self::Float(*value),
            Literal::Text(text) => Self::Text(Cow::Borrowed(text)),
        }
    }
}
