//! Words to a tree, by recursive descent with one word of lookahead.
//!
//! From the loosest to the tightest: OR; AND; `=`, `<>`, IS NULL; orderings, BETWEEN, IN, searches;
//! signs and NOT; parentheses. What can never be true for the kinds of its operands is an error
//! here, so that the evaluator needs no rule for it and nobody waits for messages in vain.

use std::collections::BTreeSet;

use super::DEPTH_MAX;
use super::ast::Comparison;
use super::ast::Kind;
use super::ast::Literal;
use super::ast::Node;
use super::ast::Search;
use super::evaluate::order_numbers;
use super::lexer::Expected;
use super::lexer::Keyword;
use super::lexer::Lexeme;
use super::lexer::Lexer;
use super::lexer::Token;

/// The tree of a condition.
pub(super) fn parse(text: &str) -> Result<Node, Box<Expected>> {
    let mut lexer = Lexer::new(text);
    let next = lexer.next()?;
    let mut parser = Parser { text, lexer, next, taken: "", depth: 0 };
    let operand = parser.disjunction()?;
    let root = condition(operand)?;
    match parser.next.token {
        Token::End => Ok(*root.node),
        _ => Err(parser.expected_operator("the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    next: Lexeme<'a>,
    /// The word before `next`.
    taken: &'a str,
    /// Parentheses, signs and NOT that are open.
    depth: usize,
}

/// A tree under construction.
struct Operand {
    /// Boxed, to keep the stack of nested parentheses small.
    node: Box<Node>,
    /// Where it begins.
    at: usize,
    /// How many operators lie above its lowest leaf.
    height: usize,
}

impl Parser<'_> {
    fn disjunction(&mut self) -> Result<Operand, Box<Expected>> {
        let first = self.conjunction()?;
        if self.next.token != Token::Keyword(Keyword::Or) {
            return Ok(first);
        }
        let mut list = List::new(first)?;
        while self.accept(&Token::Keyword(Keyword::Or))? {
            list.push(self.conjunction()?)?;
        }
        list.finish(Node::Or)
    }

    fn conjunction(&mut self) -> Result<Operand, Box<Expected>> {
        let first = self.equality()?;
        if self.next.token != Token::Keyword(Keyword::And) {
            return Ok(first);
        }
        let mut list = List::new(first)?;
        while self.accept(&Token::Keyword(Keyword::And))? {
            list.push(self.equality()?)?;
        }
        list.finish(Node::And)
    }

    fn equality(&mut self) -> Result<Operand, Box<Expected>> {
        let mut left = self.comparison()?;
        loop {
            let comparison = match self.next.token {
                Token::Equal => Comparison::Equal,
                Token::NotEqual => Comparison::NotEqual,
                Token::Keyword(Keyword::Is) => {
                    left = self.null_test(left)?;
                    continue;
                }
                _ => return Ok(left),
            };
            self.advance()?;
            let right = self.comparison()?;
            check_equality(&left, &right)?;
            left = Operand::compared(comparison, left, right)?;
        }
    }

    fn null_test(&mut self, value: Operand) -> Result<Operand, Box<Expected>> {
        self.advance()?;
        let negated = self.accept(&Token::Keyword(Keyword::Not))?;
        self.demand(&Token::Keyword(Keyword::Null), "NULL")?;
        let node = Node::IsNull { value: value.node, negated };
        Operand::new(node, value.at, value.height)
    }

    fn comparison(&mut self) -> Result<Operand, Box<Expected>> {
        let mut left = self.unary()?;
        loop {
            let comparison = match self.next.token {
                Token::Less => Comparison::Less,
                Token::LessOrEqual => Comparison::LessOrEqual,
                Token::Greater => Comparison::Greater,
                Token::GreaterOrEqual => Comparison::GreaterOrEqual,
                Token::Keyword(
                    Keyword::Not
                    | Keyword::Between
                    | Keyword::In
                    | Keyword::Contains
                    | Keyword::StartsWith
                    | Keyword::EndsWith,
                ) => {
                    left = self.predicate(left)?;
                    continue;
                }
                _ => return Ok(left),
            };
            check_ordered(&left)?;
            self.advance()?;
            let right = self.unary()?;
            check_ordered(&right)?;
            left = Operand::compared(comparison, left, right)?;
        }
    }

    /// What begins with a keyword behind its left operand.
    fn predicate(&mut self, left: Operand) -> Result<Operand, Box<Expected>> {
        let negated = self.accept(&Token::Keyword(Keyword::Not))?;
        let search = match self.next.token {
            Token::Keyword(Keyword::Between) => return self.between(left, negated),
            Token::Keyword(Keyword::In) => return self.list_of_texts(left, negated),
            Token::Keyword(Keyword::Contains) => Search::Contains,
            Token::Keyword(Keyword::StartsWith) => Search::StartsWith,
            Token::Keyword(Keyword::EndsWith) => Search::EndsWith,
            _ => return Err(self.expected_next("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH")),
        };
        if !matches!(left.node.kind(), Kind::Property | Kind::Text) {
            return Err(left.expected("a property or a text"));
        }
        self.advance()?;
        let at = self.next.start;
        let text = self.text()?;
        if text.is_empty() {
            return Err(Expected::new(at, "a text that is not empty"));
        }
        let node = Node::Search { search, value: left.node, text, negated };
        Operand::new(node, left.at, left.height)
    }

    fn between(&mut self, value: Operand, negated: bool) -> Result<Operand, Box<Expected>> {
        check_ordered(&value)?;
        self.advance()?;
        let low = self.unary()?;
        check_ordered(&low)?;
        self.demand(&Token::Keyword(Keyword::And), "AND")?;
        let high = self.unary()?;
        check_ordered(&high)?;
        if let (Node::Literal(lower), Node::Literal(upper)) = (&*low.node, &*high.node)
            && order_numbers(lower, upper).is_some_and(|order| order.is_gt())
        {
            return Err(Expected::new(low.at, "the lower bound first"));
        }
        let height = value.height.max(low.height).max(high.height);
        let node = Node::Between { value: value.node, low: low.node, high: high.node, negated };
        Operand::new(node, value.at, height)
    }

    fn list_of_texts(&mut self, left: Operand, negated: bool) -> Result<Operand, Box<Expected>> {
        let Node::Property(property) = &*left.node else {
            return Err(left.expected("a property"));
        };
        let property = property.clone();
        self.advance()?;
        self.demand(&Token::Open, "(")?;
        let mut texts = BTreeSet::from([self.text()?]);
        while self.accept(&Token::Comma)? {
            texts.insert(self.text()?);
        }
        self.demand(&Token::Close, ", or )")?;
        Operand::new(Node::In { property, texts, negated }, left.at, left.height)
    }

    /// Signs and NOT, taken in a loop: what is not nested needs no stack.
    fn unary(&mut self) -> Result<Operand, Box<Expected>> {
        let depth = self.depth;
        let mut prefixes = Vec::new();
        let mut operand = loop {
            let at = self.next.start;
            let Some(prefix) = Prefix::of(&self.next.token) else { break self.primary()? };
            self.deeper()?;
            self.advance()?;
            // The least integer has no positive counterpart: its sign belongs to it.
            if let (Prefix::Minus, Token::Integer(magnitude)) = (prefix, &self.next.token) {
                let value = 0_i64.wrapping_sub_unsigned(*magnitude);
                self.advance()?;
                break Operand::leaf(Node::Literal(Literal::Integer(value)), at);
            }
            prefixes.push((prefix, at));
        };
        self.depth = depth;
        while let Some((prefix, at)) = prefixes.pop() {
            operand = prefix.before(operand, at)?;
        }
        Ok(operand)
    }

    fn primary(&mut self) -> Result<Operand, Box<Expected>> {
        let at = self.next.start;
        let node = match &self.next.token {
            Token::Identifier(name) => Node::Property((*name).into()),
            Token::Text(text) => Node::Literal(Literal::Text(text.as_str().into())),
            Token::Float(value) => Node::Literal(Literal::Float(*value)),
            Token::Integer(magnitude) => match i64::try_from(*magnitude) {
                Ok(value) => Node::Literal(Literal::Integer(value)),
                Err(_) => return Err(self.expected_next("an integer of 64 bits")),
            },
            Token::Keyword(Keyword::True) => Node::Literal(Literal::Boolean(true)),
            Token::Keyword(Keyword::False) => Node::Literal(Literal::Boolean(false)),
            Token::Keyword(Keyword::Null) => Node::Literal(Literal::Null),
            Token::Open => return self.parenthesized(),
            _ if self.taken.is_empty() => return Err(self.expected_next("a condition")),
            _ => {
                let expected = format!("a property or a literal after {}", self.taken);
                return Err(self.expected_next(expected));
            }
        };
        self.advance()?;
        Ok(Operand::leaf(node, at))
    }

    /// A text in quotes.
    fn text(&mut self) -> Result<Box<str>, Box<Expected>> {
        let Token::Text(text) = &self.next.token else {
            return Err(self.expected_next(format!("a text in quotes after {}", self.taken)));
        };
        let text = text.as_str().into();
        self.advance()?;
        Ok(text)
    }

    fn parenthesized(&mut self) -> Result<Operand, Box<Expected>> {
        let (at, depth) = (self.next.start, self.depth);
        self.deeper()?;
        self.advance()?;
        let operand = self.disjunction()?;
        self.depth = depth;
        if !self.accept(&Token::Close)? {
            return Err(self.expected_operator(")"));
        }
        Ok(Operand { at, ..operand })
    }

    fn deeper(&mut self) -> Result<(), Box<Expected>> {
        if self.depth == DEPTH_MAX {
            return Err(too_deep(self.next.start));
        }
        self.depth += 1;
        Ok(())
    }

    fn advance(&mut self) -> Result<(), Box<Expected>> {
        self.taken = self.text.get(self.next.start..self.next.end).unwrap_or_default();
        self.next = self.lexer.next()?;
        Ok(())
    }

    fn accept(&mut self, token: &Token<'_>) -> Result<bool, Box<Expected>> {
        let found = self.next.token == *token;
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn demand(&mut self, token: &Token<'_>, name: &str) -> Result<(), Box<Expected>> {
        if self.accept(token)? { Ok(()) } else { Err(self.expected_next(name)) }
    }

    fn expected_next(&self, expected: impl Into<String>) -> Box<Expected> {
        Expected::new(self.next.start, expected)
    }

    /// Behind a whole operand; `or` is what else would have been right.
    fn expected_operator(&self, or: &str) -> Box<Expected> {
        if let Token::Identifier(name) = self.next.token
            && name.eq_ignore_ascii_case("LIKE")
        {
            return self.expected_next("CONTAINS, STARTSWITH or ENDSWITH; there is no LIKE");
        }
        self.expected_next(format!("an operator, AND, OR or {or}"))
    }
}

impl Operand {
    fn leaf(node: Node, at: usize) -> Self {
        Self { node: Box::new(node), at, height: 0 }
    }

    /// An operator over operands that are at most `height` high.
    fn new(node: Node, at: usize, height: usize) -> Result<Self, Box<Expected>> {
        if height == DEPTH_MAX {
            Err(too_deep(at))
        } else {
            Ok(Self { node: Box::new(node), at, height: height + 1 })
        }
    }

    fn compared(comparison: Comparison, left: Self, right: Self) -> Result<Self, Box<Expected>> {
        let height = left.height.max(right.height);
        let at = left.at;
        Self::new(Node::Compare { comparison, left: left.node, right: right.node }, at, height)
    }

    fn expected(&self, expected: &str) -> Box<Expected> {
        Expected::new(self.at, format!("{expected}, not {}", self.node.kind().name()))
    }
}

/// Operands of AND or OR under construction.
struct List {
    nodes: Vec<Node>,
    at: usize,
    height: usize,
}

impl List {
    fn new(first: Operand) -> Result<Self, Box<Expected>> {
        let mut list = Self { nodes: Vec::new(), at: first.at, height: 0 };
        list.push(first)?;
        Ok(list)
    }

    fn push(&mut self, operand: Operand) -> Result<(), Box<Expected>> {
        let operand = condition(operand)?;
        self.height = self.height.max(operand.height);
        self.nodes.push(*operand.node);
        Ok(())
    }

    fn finish(self, node: fn(Vec<Node>) -> Node) -> Result<Operand, Box<Expected>> {
        Operand::new(node(self.nodes), self.at, self.height)
    }
}

/// What may stand before an operand, any number of times.
#[derive(Clone, Copy)]
enum Prefix {
    Plus,
    Minus,
    Not,
}

impl Prefix {
    fn of(token: &Token<'_>) -> Option<Self> {
        match token {
            Token::Plus => Some(Self::Plus),
            Token::Minus => Some(Self::Minus),
            Token::Keyword(Keyword::Not) => Some(Self::Not),
            _ => None,
        }
    }

    /// The operand with this before it, at `at`.
    fn before(self, operand: Operand, at: usize) -> Result<Operand, Box<Expected>> {
        match (self, &*operand.node) {
            (Self::Plus, _) => Ok(Operand { at, ..operand }),
            (Self::Not, _) => {
                let operand = condition(operand)?;
                Operand::new(Node::Not(operand.node), at, operand.height)
            }
            (Self::Minus, Node::Literal(Literal::Integer(value))) => {
                let error = || Expected::new(operand.at, "an integer of 64 bits");
                let value = value.checked_neg().ok_or_else(error)?;
                Ok(Operand::leaf(Node::Literal(Literal::Integer(value)), at))
            }
            (Self::Minus, Node::Literal(Literal::Float(value))) => {
                Ok(Operand::leaf(Node::Literal(Literal::Float(-value)), at))
            }
            (Self::Minus, _) => Err(Expected::new(operand.at, "a number after -")),
        }
    }
}

fn too_deep(at: usize) -> Box<Expected> {
    Expected::new(at, format!("nesting at most {DEPTH_MAX} deep"))
}

/// An operand that is true, false or unknown. A property is, by its text.
fn condition(operand: Operand) -> Result<Operand, Box<Expected>> {
    match operand.node.kind() {
        Kind::Boolean | Kind::Property | Kind::Null => Ok(operand),
        Kind::Number | Kind::Text => Err(operand.expected("a condition")),
    }
}

/// Only numbers have an order; a property may be one.
fn check_ordered(operand: &Operand) -> Result<(), Box<Expected>> {
    match operand.node.kind() {
        Kind::Number | Kind::Property => Ok(()),
        Kind::Boolean | Kind::Text | Kind::Null => {
            Err(operand.expected("a number or a property to be ordered"))
        }
    }
}

/// NULL equals nothing, and what is true or false equals no number and no text.
fn check_equality(left: &Operand, right: &Operand) -> Result<(), Box<Expected>> {
    if let Some(null) = [left, right].into_iter().find(|side| side.node.kind() == Kind::Null) {
        return Err(Expected::new(null.at, "IS NULL or IS NOT NULL, since nothing equals NULL"));
    }
    let fixed = [Kind::Number, Kind::Text];
    match (left.node.kind(), right.node.kind()) {
        (Kind::Boolean, kind) if fixed.contains(&kind) => Err(right.expected("a condition")),
        (kind, Kind::Boolean) if fixed.contains(&kind) => Err(right.expected(kind.name())),
        _ => Ok(()),
    }
}
