//! Conditions of SQL92 over the properties of a message, as RocketMQ understands them.
//!
//! A condition is compiled once ([`Expression::parse`]) and then asked about many messages. The
//! grammar and the rules stand in `docs/filters.md`; [`lexer`] knows words, [`parser`] sentences,
//! [`evaluate`] meaning, and [`properties`] what a message shows.
//!
//! Invariants: no text makes parsing or evaluation panic or run out of stack, since neither nests
//! deeper than [`DEPTH_MAX`]; the tree has at most a few nodes for each character; equal sources are
//! equal expressions.

mod ast;
mod evaluate;
mod lexer;
mod parser;
mod properties;

#[cfg(test)]
mod naive_test;
#[cfg(test)]
mod rules_test;

use self::ast::Node;
use self::evaluate::is_true;
pub use self::properties::Properties;

/// How deep parentheses, signs and operators may nest.
const DEPTH_MAX: usize = 128;

/// What separates words.
const BLANKS: [char; 5] = [' ', '\t', '\n', '\r', '\x0c'];

/// A compiled condition.
#[derive(Debug)]
pub struct Expression {
    /// What it was compiled from, without blanks around it.
    source: Box<str>,
    root: Node,
}

/// Why a text is not a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter expression, column {column}: expected {expected}")]
pub struct SyntaxError {
    /// Where, in characters, from 1.
    pub column: usize,
    /// What would have been right there.
    pub expected: String,
}

impl Expression {
    /// Compiles a condition.
    ///
    /// # Errors
    /// The first place, from the left, where the text departs from the grammar.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let root = parser::parse(text).map_err(|error| SyntaxError {
            column: text.get(..error.at).map_or(0, |before| before.chars().count()) + 1,
            expected: error.expected,
        })?;
        Ok(Self { source: text.trim_matches(BLANKS).into(), root })
    }

    /// What it was compiled from; compiling that gives an equal expression.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the condition is true of these properties: neither false nor unknown.
    pub fn matches(&self, properties: &impl Properties) -> bool {
        is_true(&self.root, properties)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Expression {}
