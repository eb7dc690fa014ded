//! The tree of a condition.
//!
//! AND and OR take any number of operands, so that a long list of alternatives is wide, not deep.

use std::collections::BTreeSet;

/// A part of a condition.
#[derive(Debug)]
pub(super) enum Node {
    /// The property of that name.
    Property(Box<str>),
    Literal(Literal),
    /// At least two.
    And(Vec<Node>),
    /// At least two.
    Or(Vec<Node>),
    Not(Box<Node>),
    IsNull {
        value: Box<Node>,
        negated: bool,
    },
    Compare {
        comparison: Comparison,
        left: Box<Node>,
        right: Box<Node>,
    },
    Between {
        value: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
        negated: bool,
    },
    In {
        property: Box<str>,
        texts: BTreeSet<Box<str>>,
        negated: bool,
    },
    Search {
        search: Search,
        value: Box<Node>,
        text: Box<str>,
        negated: bool,
    },
}

/// A value that stands in the condition itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Box<str>),
}

/// An operator between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How a text is looked for in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    Contains,
    StartsWith,
    EndsWith,
}

/// What is known about a value before there is a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Number,
    Text,
    /// TRUE, FALSE, or something that is decided to one of them.
    Boolean,
    /// A text, to be understood as what it is compared with.
    Property,
}

impl Node {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Property(_) => Kind::Property,
            Self::Literal(Literal::Null) => Kind::Null,
            Self::Literal(Literal::Integer(_) | Literal::Float(_)) => Kind::Number,
            Self::Literal(Literal::Text(_)) => Kind::Text,
            _ => Kind::Boolean,
        }
    }
}

impl Kind {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Boolean => "a condition",
            Self::Property => "a property",
        }
    }
}
