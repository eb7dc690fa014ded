//! Random conditions against an evaluator that is as simple as can be.
//!
//! A condition is made as a tree of this file's own, judged by this file's own rules, printed in one
//! of the many ways it can be written, and then given to the product.

use std::borrow::Cow;
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

impl Properties for HashMap<String, String> {
    fn property(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|text| Cow::Borrowed(text.as_str()))
    }
}

/// A condition or a value.
#[derive(Clone, Debug)]
enum Tree {
    Property(&'static str),
    Null,
    Truth(bool),
    Integer(i64),
    Float(f64),
    Text(&'static str),
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    IsNull(Box<Tree>, bool),
    /// With one of `=`, `<>`, `<`, `<=`, `>`, `>=`.
    Binary(&'static str, Box<Tree>, Box<Tree>),
    Between([Box<Tree>; 3], bool),
    In(&'static str, Vec<&'static str>, bool),
    /// With CONTAINS, STARTSWITH or ENDSWITH.
    Search(&'static str, Box<Tree>, &'static str, bool),
}

/// What a tree comes to; `Null` is "unknown", and an error is no outcome at all.
#[derive(Clone, Debug, PartialEq)]
enum Naive {
    Null,
    Truth(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

struct Failed;

type Outcome = Result<Naive, Failed>;

impl Tree {
    fn judge(&self, properties: &HashMap<String, String>) -> Outcome {
        let property = |name: &str| match properties.get(name) {
            Some(text) => Naive::Text(text.clone()),
            None => Naive::Null,
        };
        match self {
            Self::Property(name) => Ok(property(name)),
            Self::Null => Ok(Naive::Null),
            Self::Truth(truth) => Ok(Naive::Truth(*truth)),
            Self::Integer(value) => Ok(Naive::Integer(*value)),
            Self::Float(value) => Ok(Naive::Float(*value)),
            Self::Text(text) => Ok(Naive::Text((*text).to_owned())),
            Self::All(trees) => all_of(trees.iter().map(|tree| tree.judge(properties))),
            Self::Any(trees) => any_of(trees.iter().map(|tree| tree.judge(properties))),
            Self::Not(tree) => not(tree.judge(properties)),
            Self::IsNull(tree, negated) => {
                let null = Ok(Naive::Truth(tree.judge(properties)? == Naive::Null));
                if *negated { not(null) } else { null }
            }
            Self::Binary(operator, left, right) => {
                binary(operator, left.judge(properties)?, right.judge(properties)?)
            }
            Self::Between([value, low, high], negated) => {
                let [value, low, high] = [value, low, high].map(|tree| tree.judge(properties));
                let (value, low, high) = (value?, low?, high?);
                if *negated {
                    any_of([binary("<", value.clone(), low), binary(">", value, high)].into_iter())
                } else {
                    all_of(
                        [binary(">=", value.clone(), low), binary("<=", value, high)].into_iter(),
                    )
                }
            }
            Self::In(name, texts, negated) => {
                let trees = texts
                    .iter()
                    .map(|text| binary("=", property(name), Naive::Text((*text).to_owned())));
                if *negated { not(any_of(trees)) } else { any_of(trees) }
            }
            Self::Search(how, tree, wanted, negated) => {
                let Naive::Text(text) = tree.judge(properties)? else { return Ok(Naive::Null) };
                let found = match *how {
                    "CONTAINS" => text.match_indices(wanted).count() > 0,
                    "STARTSWITH" => text.strip_prefix(wanted).is_some(),
                    _ => text.strip_suffix(wanted).is_some(),
                };
                Ok(Naive::Truth(found != *negated))
            }
        }
    }

    /// How tightly it holds together when written: 0 is OR, 5 needs no parentheses anywhere.
    fn tightness(&self) -> u8 {
        match self {
            Self::Any(_) => 0,
            Self::All(_) => 1,
            Self::Binary("=" | "<>", ..) | Self::IsNull(..) => 2,
            Self::Binary(..) | Self::Between(..) | Self::In(..) | Self::Search(..) => 3,
            Self::Not(_) => 4,
            Self::Integer(value) if *value < 0 => 4,
            Self::Float(value) if *value < 0.0 => 4,
            _ => 5,
        }
    }
}

/// -1 for false, 0 for unknown, 1 for true.
fn rank(value: Naive) -> i32 {
    match value {
        Naive::Null => 0,
        Naive::Truth(truth) => {
            if truth {
                1
            } else {
                -1
            }
        }
        Naive::Text(text) => {
            if text.to_lowercase() == "true" {
                1
            } else {
                -1
            }
        }
        other => panic!("{other:?} is no condition"),
    }
}

fn from_rank(rank: i32) -> Naive {
    match rank {
        0 => Naive::Null,
        rank => Naive::Truth(rank > 0),
    }
}

fn not(outcome: Outcome) -> Outcome {
    Ok(from_rank(-rank(outcome?)))
}

/// The least of all, unless there is an error before the first false one.
fn all_of(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    let mut least = 1;
    for outcome in outcomes {
        if least > -1 {
            least = least.min(rank(outcome?));
        }
    }
    Ok(from_rank(least))
}

/// What is not the case when all are not.
fn any_of(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    not(all_of(outcomes.map(not)))
}

fn binary(operator: &str, left: Naive, right: Naive) -> Outcome {
    if left == Naive::Null || right == Naive::Null {
        return Ok(Naive::Null);
    }
    let equality = operator == "=" || operator == "<>";
    let (left, right) = match (left, right) {
        (Naive::Text(left), Naive::Text(right)) if !equality => {
            match (as_float(&left), as_float(&right)) {
                (Some(left), Some(right)) => (Some(left), Some(right)),
                _ => return Err(Failed),
            }
        }
        (left, right) => (as_kind_of(&left, &right), as_kind_of(&right, &left)),
    };
    let (Some(left), Some(right)) = (left, right) else { return Ok(Naive::Truth(false)) };
    let less = |left: &Naive, right: &Naive| match (left, right) {
        (Naive::Integer(left), Naive::Integer(right)) => left < right,
        (Naive::Text(left), Naive::Text(right)) => left < right,
        (Naive::Truth(left), Naive::Truth(right)) => left < right,
        (Naive::Float(left), Naive::Float(right)) => left < right,
        (Naive::Float(left), Naive::Integer(right)) => *left < *right as f64,
        (Naive::Integer(left), Naive::Float(right)) => (*left as f64) < *right,
        other => panic!("{other:?}"),
    };
    let (below, above) = (less(&left, &right), less(&right, &left));
    Ok(Naive::Truth(match operator {
        "=" => !below && !above,
        "<>" => below || above,
        "<" => below,
        ">" => above,
        "<=" => !above,
        _ => !below,
    }))
}

/// A text in the kind of what it is compared with; anything else as it is.
fn as_kind_of(value: &Naive, other: &Naive) -> Option<Naive> {
    match (value, other) {
        (Naive::Text(text), Naive::Integer(_)) => {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let decimal = !digits.is_empty() && digits.chars().all(|it| it.is_ascii_digit());
            let value: i128 = if decimal { text.parse().ok()? } else { return None };
            Some(Naive::Integer(value.try_into().ok()?))
        }
        (Naive::Text(text), Naive::Float(_)) => as_float(text),
        (Naive::Text(_), Naive::Truth(_)) => Some(from_rank(rank(value.clone()))),
        _ => Some(value.clone()),
    }
}

fn as_float(text: &str) -> Option<Naive> {
    let digits = |part: &str| part.chars().all(|it| it.is_ascii_digit());
    let unsigned = |part: &'_ str| part.strip_prefix(['+', '-']).unwrap_or(part).to_owned();
    let (mantissa, exponent) = match text.to_lowercase().split_once('e') {
        Some((mantissa, exponent)) => (mantissa.to_owned(), unsigned(exponent)),
        None => (text.to_owned(), "0".to_owned()),
    };
    let mantissa = unsigned(&mantissa);
    let (whole, part) = mantissa.split_once('.').unwrap_or((&mantissa, ""));
    if whole.len() + part.len() == 0 || exponent.is_empty() {
        return None;
    }
    if !digits(whole) || !digits(part) || !digits(&exponent) {
        return None;
    }
    text.parse().ok().map(Naive::Float)
}

/// Writes a tree, with every freedom of the grammar used as `choices` say.
struct Printer<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    words: Vec<String>,
}

impl Printer<'_> {
    /// One of `count` ways.
    fn choose(&mut self, count: u8) -> u8 {
        self.choices.next().copied().unwrap_or_default() % count
    }

    fn word(&mut self, word: impl Into<String>) {
        self.words.push(word.into());
    }

    fn keyword(&mut self, keywords: &str) {
        for keyword in keywords.split(' ') {
            let mut word = String::new();
            for letter in keyword.chars() {
                word.push(if self.choose(2) == 0 { letter } else { letter.to_ascii_lowercase() });
            }
            self.word(word);
        }
    }

    fn negation(&mut self, negated: bool) {
        if negated {
            self.keyword("NOT");
        }
    }

    fn text(&mut self, text: &str) {
        self.word(format!("'{}'", text.replace('\'', "''")));
    }

    /// A tree where something as tight as `least` is needed.
    fn tree(&mut self, tree: &Tree, least: u8) {
        if tree.tightness() < least || self.choose(5) == 0 {
            self.word("(");
            self.bare(tree);
            self.word(")");
        } else {
            self.bare(tree);
        }
    }

    fn list(&mut self, trees: &[Tree], separator: &str, least: u8) {
        for (at, tree) in trees.iter().enumerate() {
            if at > 0 {
                self.keyword(separator);
            }
            self.tree(tree, least);
        }
    }

    fn number(&mut self, negative: bool, digits: String) {
        if self.choose(6) == 0 {
            self.word("+");
        }
        if negative {
            self.word("-");
        }
        self.word(digits);
    }

    fn bare(&mut self, tree: &Tree) {
        match tree {
            Tree::Property(name) => self.word(*name),
            Tree::Null => self.keyword("NULL"),
            Tree::Truth(truth) => self.keyword(if *truth { "TRUE" } else { "FALSE" }),
            Tree::Integer(value) => {
                let mark = ["", "L", "l"][usize::from(self.choose(3))];
                self.number(*value < 0, format!("{}{mark}", value.unsigned_abs()));
            }
            Tree::Float(value) => self.number(*value < 0.0, format!("{:?}", value.abs())),
            Tree::Text(text) => self.text(text),
            Tree::All(trees) => self.list(trees, "AND", 2),
            Tree::Any(trees) => self.list(trees, "OR", 1),
            Tree::Not(tree) => {
                self.keyword("NOT");
                self.tree(tree, 4);
            }
            Tree::IsNull(tree, negated) => {
                self.tree(tree, 2);
                self.keyword(if *negated { "IS NOT NULL" } else { "IS NULL" });
            }
            Tree::Binary(operator, left, right) => {
                let (before, behind) =
                    if operator == &"=" || operator == &"<>" { (2, 3) } else { (4, 4) };
                self.tree(left, before);
                self.word(*operator);
                self.tree(right, behind);
            }
            Tree::Between([value, low, high], negated) => {
                self.tree(value, 4);
                self.negation(*negated);
                self.keyword("BETWEEN");
                self.tree(low, 4);
                self.keyword("AND");
                self.tree(high, 4);
            }
            Tree::In(name, texts, negated) => {
                self.tree(&Tree::Property(name), 4);
                self.negation(*negated);
                self.keyword("IN");
                self.word("(");
                for (at, text) in texts.iter().enumerate() {
                    if at > 0 {
                        self.word(",");
                    }
                    self.text(text);
                }
                self.word(")");
            }
            Tree::Search(how, tree, wanted, negated) => {
                self.tree(tree, 4);
                self.negation(*negated);
                self.keyword(how);
                self.text(wanted);
            }
        }
    }

    fn finish(mut self) -> String {
        let mut text = String::new();
        for word in std::mem::take(&mut self.words) {
            let blank = match self.choose(12) {
                0..6 => " ",
                6 => "\n\t ",
                7 => " /* it's */",
                8 => " -- it's\r\n",
                _ if joined(&text, &word) => " ",
                _ => "",
            };
            text.push_str(blank);
            text.push_str(&word);
        }
        text
    }
}

/// Whether two words would become another one if nothing stood between them.
fn joined(before: &str, word: &str) -> bool {
    let wordy = |it: char| it.is_ascii_alphanumeric() || "_$.".contains(it);
    match (before.chars().last(), word.chars().next()) {
        (Some('-'), Some('-')) => true,
        (Some(before), Some(word)) => wordy(before) && wordy(word),
        _ => false,
    }
}

fn print(tree: &Tree, choices: &[u8]) -> String {
    let mut printer = Printer { choices: choices.iter().cycle(), words: Vec::new() };
    printer.tree(tree, 0);
    printer.finish()
}

const NAMES: [&str; 6] = ["a", "b", "c", "inx", "$_1", "missing"];

const TEXTS: [&str; 22] = [
    "",
    "true",
    "TRUE",
    "false",
    "5",
    "-5",
    "+5",
    "5.0",
    "05",
    "1e3",
    ".5",
    "5.",
    "abc",
    "b",
    "it's",
    "''",
    "NaN",
    "-inf",
    "e",
    "9223372036854775807",
    "9223372036854775808",
    "ü",
];

fn pick<T: Copy + std::fmt::Debug + 'static>(from: &'static [T]) -> BoxedStrategy<T> {
    (0..from.len()).prop_map(|at| from[at]).boxed()
}

fn property() -> BoxedStrategy<Tree> {
    pick(&NAMES).prop_map(Tree::Property).boxed()
}

fn number() -> BoxedStrategy<Tree> {
    prop_oneof![
        4 => pick(&[0, 1, 4, 5, 6, -5, 1000]).prop_map(Tree::Integer),
        1 => pick(&[i64::MIN, i64::MAX, i64::MIN + 1]).prop_map(Tree::Integer),
        4 => pick(&[0.5, 5.0, 4.9, -5.0, 1e3, 9.3e18, 1e-300]).prop_map(Tree::Float),
        1 => any::<i64>().prop_map(Tree::Integer),
        1 => any::<f64>()
            .prop_filter("no literal", |it| it.is_finite() && *it != 0.0)
            .prop_map(Tree::Float),
    ]
    .boxed()
}

/// What may be ordered.
fn ordered() -> BoxedStrategy<Tree> {
    prop_oneof![2 => property(), 1 => number()].boxed()
}

fn text() -> BoxedStrategy<Tree> {
    pick(&TEXTS).prop_map(Tree::Text).boxed()
}

fn between() -> BoxedStrategy<Tree> {
    let order = |bounds: (Tree, Tree)| {
        let value = |tree: &Tree| match tree {
            Tree::Integer(value) => Some(*value as f64),
            Tree::Float(value) => Some(*value),
            _ => None,
        };
        match (&bounds.0, &bounds.1) {
            (Tree::Integer(low), Tree::Integer(high)) if low > high => (bounds.1, bounds.0),
            (low, high) if value(low) > value(high) && value(high).is_some() => {
                (bounds.1, bounds.0)
            }
            _ => bounds,
        }
    };
    let bounds = (ordered(), ordered()).prop_map(order);
    (ordered(), bounds, any::<bool>())
        .prop_map(|(value, (low, high), negated)| {
            Tree::Between([value, low, high].map(Box::new), negated)
        })
        .boxed()
}

fn binary_of(
    operators: &'static [&'static str],
    left: BoxedStrategy<Tree>,
    right: BoxedStrategy<Tree>,
) -> BoxedStrategy<Tree> {
    (pick(operators), left, right, any::<bool>())
        .prop_map(|(operator, left, right, swapped)| {
            let (left, right) = if swapped { (right, left) } else { (left, right) };
            Tree::Binary(operator, Box::new(left), Box::new(right))
        })
        .boxed()
}

fn simple_condition() -> BoxedStrategy<Tree> {
    let in_list = (pick(&NAMES), prop::collection::vec(pick(&TEXTS), 1..4), any::<bool>())
        .prop_map(|(name, texts, negated)| Tree::In(name, texts, negated));
    let search = (
        pick(&["CONTAINS", "STARTSWITH", "ENDSWITH"]),
        prop_oneof![3 => property(), 1 => text()],
        pick(&["5", "t", "b", "'", "ü", "e"]),
        any::<bool>(),
    )
        .prop_map(|(how, tree, wanted, negated)| {
            Tree::Search(how, Box::new(tree), wanted, negated)
        });
    let value = prop_oneof![4 => property(), 1 => number(), 1 => text(), 1 => Just(Tree::Null)];
    let null_test =
        (value, any::<bool>()).prop_map(|(tree, negated)| Tree::IsNull(Box::new(tree), negated));
    prop_oneof![
        2 => property(),
        1 => any::<bool>().prop_map(Tree::Truth),
        1 => Just(Tree::Null),
        3 => binary_of(&["=", "<>"], property(), prop_oneof![ordered(), text()].boxed()),
        1 => binary_of(&["=", "<>"], number(), prop_oneof![number(), text()].boxed()),
        1 => binary_of(&["=", "<>"], any::<bool>().prop_map(Tree::Truth).boxed(), property()),
        3 => binary_of(&["<", "<=", ">", ">="], ordered(), ordered()),
        2 => between(),
        2 => in_list,
        2 => search,
        2 => null_test,
    ]
    .boxed()
}

fn condition() -> BoxedStrategy<Tree> {
    simple_condition()
        .prop_recursive(5, 40, 4, |inner| {
            // What is always true or false, and no property: fit to be compared with the like.
            let truth = inner.clone().prop_filter_map("a property or NULL", |tree| match tree {
                Tree::Property(_) | Tree::Null => None,
                tree => Some(tree),
            });
            prop_oneof![
                3 => prop::collection::vec(inner.clone(), 2..4).prop_map(Tree::All),
                3 => prop::collection::vec(inner.clone(), 2..4).prop_map(Tree::Any),
                2 => inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
                1 => (inner, any::<bool>())
                    .prop_map(|(tree, negated)| Tree::IsNull(Box::new(tree), negated)),
                1 => binary_of(&["=", "<>"], truth.clone().boxed(), prop_oneof![truth, property()].boxed()),
            ]
        })
        .boxed()
}

fn some_properties() -> BoxedStrategy<HashMap<String, String>> {
    let names = pick(&["a", "b", "c", "inx", "$_1", "A"]).prop_map(str::to_owned);
    prop::collection::hash_map(names, pick(&TEXTS).prop_map(str::to_owned), 0..6).boxed()
}

/// Words of the grammar, and others, in no order.
fn soup() -> BoxedStrategy<String> {
    let words = pick(&[
        "a", "b", "5", "0.5", "'x'", "(", ")", "=", "<>", "<", ">=", "AND", "OR", "NOT", "IS",
        "NULL", "TRUE", "BETWEEN", "IN", "('x')", "CONTAINS", "+", "-", ",", "--", "/*", "*/", "'",
        "ü", "\n", "!",
    ]);
    prop::collection::vec(words, 0..30).prop_map(|words| words.join(" ")).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn agrees_with_the_naive_evaluator(
        tree in condition(),
        choices in prop::collection::vec(any::<u8>(), 1..60),
        maps in prop::collection::vec(some_properties(), 4),
    ) {
        let text = print(&tree, &choices);
        let expression = match Expression::parse(&text) {
            Ok(expression) => expression,
            Err(error) => return Err(TestCaseError::fail(format!("{text}: {error}"))),
        };
        let opposite = Expression::parse(&format!("NOT ({text}\n)")).unwrap();
        for properties in &maps {
            let expected = match tree.judge(properties) {
                Ok(value) => rank(value),
                Err(Failed) => 0,
            };
            let told = (expression.matches(properties), opposite.matches(properties));
            prop_assert_eq!(told, (expected == 1, expected == -1), "{} of {:?}", text, properties);
        }
        prop_assert_eq!(Expression::parse(expression.source()).unwrap(), expression);
    }

    #[test]
    fn no_text_is_too_strange(
        text in prop_oneof![".*", soup(), prop::collection::vec(any::<u8>(), 0..100)
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())],
        properties in some_properties(),
    ) {
        match Expression::parse(&text) {
            Ok(expression) => {
                expression.matches(&properties);
                prop_assert_eq!(Expression::parse(expression.source()).unwrap(), expression);
            }
            Err(error) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
            }
        }
    }
}
