//! Each rule by example.

use std::collections::HashMap;

use super::*;

/// What a condition comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    True,
    False,
    Unknown,
    /// It ended without any.
    None,
}

use Outcome::False;
use Outcome::True;
use Outcome::Unknown;

/// Told apart by what callers can see: a condition, its opposite, and a test for unknown.
fn outcome(condition: &str, properties: &HashMap<String, String>) -> Outcome {
    let holds = |text: String| match Expression::parse(&text) {
        Ok(expression) => expression.matches(properties),
        Err(error) => panic!("{text}: {error}"),
    };
    let whole = holds(condition.to_owned());
    match (holds(format!("NOT ({condition}\n)")), holds(format!("({condition}\n) IS NULL"))) {
        (false, false) if whole => True,
        (true, false) if !whole => False,
        (false, true) if !whole => Unknown,
        (false, false) => Outcome::None,
        other => panic!("{condition}: {whole} {other:?}"),
    }
}

fn properties() -> HashMap<String, String> {
    [
        ("five", "5"),
        ("ten", "10"),
        ("plus", "+5"),
        ("half", "0.5"),
        ("five_point", "5.0"),
        ("big", "1e3"),
        ("least", "-9223372036854775808"),
        ("beyond", "9223372036854775808"),
        ("word", "hello"),
        ("quote", "it's"),
        ("empty", ""),
        ("nan", "NaN"),
        ("inf", "inf"),
        ("yes", "true"),
        ("YES", "True"),
        ("no", "false"),
        ("$_a1", "dollar"),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .collect()
}

#[track_caller]
fn check(table: &[(&str, Outcome)]) {
    let properties = properties();
    for (condition, expected) in table {
        assert_eq!(outcome(condition, &properties), *expected, "{condition}");
    }
}

#[test]
fn equality() {
    check(&[
        ("word = 'hello'", True),
        ("'hello' = word", True),
        ("word = 'Hello'", False),
        ("missing = 'hello'", Unknown),
        ("word <> 'x'", True),
        ("word <> 'hello'", False),
        ("missing <> 'x'", Unknown),
        ("quote = 'it''s'", True),
        ("empty = ''", True),
        ("word = word", True),
        ("word = five", False),
        ("five = five_point", False),
        ("missing = missing", Unknown),
        ("word = missing", Unknown),
        ("$_a1 = 'dollar'", True),
        ("Word = 'hello'", Unknown),
        ("1 = 1.0", True),
        ("1 <> 1", False),
        ("'5' = 5", True),
    ]);
}

#[test]
fn texts_are_read_as_the_number_they_are_compared_with() {
    check(&[
        ("five = 5", True),
        ("5 = five", True),
        ("plus = 5L", True),
        ("five = 5.0", True),
        ("five_point = 5.0", True),
        ("five_point = 5", False),
        ("half > 0", False),
        ("half > .1", True),
        ("big = 1E3", True),
        ("big = 1000", False),
        ("least = -9223372036854775808", True),
        ("least < - 9223372036854775807l", True),
        ("beyond > 1", False),
        ("beyond > 1.", True),
        ("word = 5", False),
        ("word <> 5", False),
        ("word > 5", False),
        ("word <= 5", False),
        ("empty < 5", False),
        ("nan = 5.5", False),
        ("nan <> 5.5", False),
        ("inf > 5.5", False),
        ("missing = 5", Unknown),
        ("missing <> 5", Unknown),
    ]);
}

#[test]
fn ordering() {
    check(&[
        ("five < 10", True),
        ("ten < 10", False),
        ("ten <= 10", True),
        ("ten > 9", True),
        ("ten > 10", False),
        ("ten >= 10", True),
        ("five >= 10", False),
        ("10 > five", True),
        ("five < ten", True),
        ("ten < five", False),
        ("five <= five_point", True),
        ("big > ten", True),
        ("missing > 1", Unknown),
        ("1 < missing", Unknown),
        ("missing < ten", Unknown),
        ("-1 < + five", True),
        ("five > - - 4", True),
        ("five > -(-4.5)", True),
    ]);
}

#[test]
fn an_order_of_texts_that_are_no_numbers_has_no_outcome() {
    check(&[
        ("word > five", Outcome::None),
        ("five > word", Outcome::None),
        ("nan < inf", Outcome::None),
        ("NOT (word > five)", Outcome::None),
        ("word > five OR TRUE", Outcome::None),
        ("TRUE OR word > five", True),
        ("FALSE AND word > five", False),
        ("word BETWEEN five AND ten", Outcome::None),
        ("missing > word", Unknown),
    ]);
}

#[test]
fn truth_values_of_properties() {
    check(&[
        ("yes", True),
        ("YES", True),
        ("no", False),
        ("word", False),
        ("missing", Unknown),
        ("NOT no", True),
        ("NOT missing", Unknown),
        ("yes AND YES", True),
        ("yes = TRUE", True),
        ("TRUE = YES", True),
        ("no = FALSE", True),
        ("word = false", True),
        ("word <> TRUE", True),
        ("missing = TRUE", Unknown),
        ("missing <> TRUE", Unknown),
        ("(five = 5) = yes", True),
        ("(five = 5) <> (word = 'x')", True),
        ("TRUE = TRUE", True),
    ]);
}

#[test]
fn kleene_tables() {
    let value = [("TRUE", True), ("FALSE", False), ("NULL", Unknown)];
    let rank = |outcome| match outcome {
        False => 0,
        Unknown => 1,
        True | Outcome::None => 2,
    };
    let by_rank = [False, Unknown, True];
    for (left, left_outcome) in value {
        check(&[(&format!("NOT {left}"), by_rank[2 - rank(left_outcome)])]);
        for (right, right_outcome) in value {
            let (l, r) = (rank(left_outcome), rank(right_outcome));
            check(&[
                (&format!("{left} AND {right}"), by_rank[l.min(r)]),
                (&format!("{left} OR {right}"), by_rank[l.max(r)]),
            ]);
        }
    }
}

#[test]
fn null_tests() {
    check(&[
        ("missing IS NULL", True),
        ("word IS NULL", False),
        ("empty IS NULL", False),
        ("missing IS NOT NULL", False),
        ("word is not null", True),
        ("NULL IS NULL", True),
        ("5 IS NULL", False),
        ("(missing = 5) IS NULL", True),
        ("missing = 5 IS NULL", True),
        ("word = 5 IS NULL IS NULL", False),
    ]);
}

#[test]
fn between() {
    check(&[
        ("five BETWEEN 5 AND 10", True),
        ("ten BETWEEN 5 AND 10", True),
        ("ten BETWEEN 5 AND 9", False),
        ("five BETWEEN 6 AND 9", False),
        ("missing BETWEEN 5 AND 9", Unknown),
        ("five NOT BETWEEN 6 AND 9", True),
        ("ten NOT BETWEEN 6 AND 9", True),
        ("ten NOT BETWEEN 6 AND 10", False),
        ("missing NOT BETWEEN 5 AND 9", Unknown),
        ("7 BETWEEN five AND ten", True),
        ("five BETWEEN missing AND 4", False),
        ("five BETWEEN missing AND 6", Unknown),
        ("five BETWEEN 4 AND missing", Unknown),
        ("five NOT BETWEEN missing AND 4", True),
        ("five NOT BETWEEN 6 AND missing", True),
        ("five NOT BETWEEN missing AND 6", Unknown),
        ("word BETWEEN 1 AND 9", False),
        ("word NOT BETWEEN 1 AND 9", False),
        ("five BETWEEN -1 AND 5.5", True),
        ("five BETWEEN ten AND 1", False),
        ("five BETWEEN 5 AND 5 AND yes", True),
    ]);
}

#[test]
fn lists() {
    check(&[
        ("word IN ('x', 'hello')", True),
        ("word IN ('x')", False),
        ("missing IN ('x')", Unknown),
        ("word NOT IN ('x')", True),
        ("word NOT IN ('x', 'hello', 'x')", False),
        ("missing NOT IN ('x')", Unknown),
        ("five_point IN ('5')", False),
        ("(word) in('hello')", True),
    ]);
}

#[test]
fn searches() {
    check(&[
        ("word CONTAINS 'ell'", True),
        ("word CONTAINS 'Ell'", False),
        ("missing CONTAINS 'x'", Unknown),
        ("word NOT CONTAINS 'x'", True),
        ("word NOT CONTAINS 'ell'", False),
        ("missing NOT CONTAINS 'x'", Unknown),
        ("word STARTSWITH 'he'", True),
        ("word STARTSWITH 'lo'", False),
        ("missing STARTSWITH 'x'", Unknown),
        ("word NOT STARTSWITH 'lo'", True),
        ("word NOT STARTSWITH 'he'", False),
        ("missing NOT STARTSWITH 'x'", Unknown),
        ("word ENDSWITH 'lo'", True),
        ("word ENDSWITH 'he'", False),
        ("missing ENDSWITH 'x'", Unknown),
        ("word NOT endswith 'he'", True),
        ("word NOT ENDSWITH 'lo'", False),
        ("missing NOT ENDSWITH 'x'", Unknown),
        ("'hello' CONTAINS 'l'", True),
        ("five CONTAINS '5'", True),
    ]);
}

#[test]
fn precedence() {
    check(&[
        ("TRUE OR TRUE AND FALSE", True),
        ("(TRUE OR TRUE) AND FALSE", False),
        ("FALSE AND FALSE OR TRUE", True),
        ("NOT FALSE AND FALSE", False),
        ("NOT (FALSE AND FALSE)", True),
        // NOT is tighter than =: the first says that "not no" equals yes.
        ("NOT no = yes", True),
        ("NOT (no = yes)", True),
        ("NOT yes = no", True),
        ("NOT word = word", False),
        ("five < 6 = yes", True),
        ("word = five = no", True),
        ("word = (five = no)", True),
    ]);
}

#[test]
fn blanks_comments_and_the_case_of_keywords() {
    check(&[
        ("word='hello'aNd\tfive>4", True),
        ("word = 'hello' -- AND FALSE", True),
        ("word = 'hello' -- AND\nAND FALSE", False),
        ("word = 'hello' -- AND\rAND FALSE", False),
        ("five /* > */ /**/ = /* * ** -- ' */ 5", True),
        ("word = '/* -- */'", False),
        ("five=-5", False),
        ("five = 5--5", True),
        ("\x0cword\r\n= 'hello'", True),
        ("truex IS NULL", True),
        ("word<>'a\nb'", True),
    ]);
}

#[test]
fn numbers() {
    let accepted = ["0", "0L", "7l", "9223372036854775807", "5.", "5.5", ".5", "5E3", "5.e-3"];
    for number in accepted.into_iter().chain(["5.5e+1", "00.5", "07e1", "-9223372036854775808"]) {
        assert!(Expression::parse(&format!("a = {number}")).is_ok(), "{number}");
    }
    let refused = ["01", "00", "0.0", "-0.0", "0e7", "1e-400", "1e400", "9223372036854775808"];
    for number in refused.into_iter().chain(["-9223372036854775809", "-(9223372036854775808)"]) {
        assert!(Expression::parse(&format!("a = {number}")).is_err(), "{number}");
    }
    for number in ["0x1F", "5 5", "5e", "5.5L", "1_000", "5LL", ".", "99999999999999999999999"] {
        assert!(Expression::parse(&format!("a = {number}")).is_err(), "{number}");
    }
}

#[test]
fn errors_name_the_column_and_what_was_expected() {
    let value = "a property or a literal after";
    let order = "a number or a property to be ordered, not";
    let null = "IS NULL or IS NOT NULL, since nothing equals NULL";
    let long = "a float of 64 bits";
    let int = "an integer of 64 bits";
    let end = "an operator, AND, OR or the end";
    for (text, column, expected) in [
        ("", 1, "a condition".to_owned()),
        ("  -- nothing", 13, "a condition".to_owned()),
        ("= 5", 1, "a condition".to_owned()),
        ("a >", 4, format!("{value} >")),
        ("a > \n", 6, format!("{value} >")),
        ("a = = 5", 5, format!("{value} =")),
        ("a AND", 6, format!("{value} AND")),
        ("a AND OR b", 7, format!("{value} AND")),
        ("a = b AND (", 12, format!("{value} (")),
        ("(a = 5", 7, "an operator, AND, OR or )".to_owned()),
        ("a = 5)", 6, end.to_owned()),
        ("a b", 3, end.to_owned()),
        ("a = 5x", 6, end.to_owned()),
        ("a = 5 NOT", 10, "BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH".to_owned()),
        ("a = NULL", 5, null.to_owned()),
        ("a <> null", 6, null.to_owned()),
        ("NULL = a", 1, null.to_owned()),
        ("a > 'x'", 5, format!("{order} a text")),
        ("'x' < a", 1, format!("{order} a text")),
        ("a >= TRUE", 6, format!("{order} a condition")),
        ("a <= NULL", 6, format!("{order} NULL")),
        ("a < b < c", 1, format!("{order} a condition")),
        ("NOT a > 5", 1, format!("{order} a condition")),
        ("a BETWEEN 'x' AND 'y'", 11, format!("{order} a text")),
        ("a BETWEEN 1 AND 'y'", 17, format!("{order} a text")),
        ("a BETWEEN NULL AND 1", 11, format!("{order} NULL")),
        ("a BETWEEN 2 AND 1", 11, "the lower bound first".to_owned()),
        ("a NOT BETWEEN 1.5 AND 1", 15, "the lower bound first".to_owned()),
        ("a BETWEEN -1 AND -2", 11, "the lower bound first".to_owned()),
        ("a BETWEEN 1 OR 2", 13, "AND".to_owned()),
        ("a IS 5", 6, "NULL".to_owned()),
        ("a IS NOT 5", 10, "NULL".to_owned()),
        ("a IN 'x'", 6, "(".to_owned()),
        ("a IN ()", 7, "a text in quotes after (".to_owned()),
        ("a IN (5)", 7, "a text in quotes after (".to_owned()),
        ("a IN ('x',)", 11, "a text in quotes after ,".to_owned()),
        ("a IN ('x' 'y')", 11, ", or )".to_owned()),
        ("'x' IN ('x')", 1, "a property, not a text".to_owned()),
        ("5 IN ('5')", 1, "a property, not a number".to_owned()),
        ("NOT a IN ('x')", 1, "a property, not a condition".to_owned()),
        ("a CONTAINS b", 12, "a text in quotes after CONTAINS".to_owned()),
        ("a STARTSWITH 5", 14, "a text in quotes after STARTSWITH".to_owned()),
        ("a ENDSWITH ''", 12, "a text that is not empty".to_owned()),
        ("5 CONTAINS '5'", 1, "a property or a text, not a number".to_owned()),
        ("a LIKE 'x%'", 3, "CONTAINS, STARTSWITH or ENDSWITH; there is no LIKE".to_owned()),
        ("a != 5", 3, "<>, which is how to say \"not equal\"".to_owned()),
        ("a = \"x\"", 5, "a text in single quotes, or a property without quotes".to_owned()),
        ("a * 2 > 5", 3, "no arithmetic".to_owned()),
        ("a + 2 > 5", 3, end.to_owned()),
        ("f(a) = 5", 2, end.to_owned()),
        ("a = 'x", 5, "' at the end of the text".to_owned()),
        ("a = 'x''", 5, "' at the end of the text".to_owned()),
        ("a /* = 5", 3, "*/ at the end of the comment".to_owned()),
        ("a = 0.0", 5, "0, or a float that is not 0".to_owned()),
        ("a = 1e999", 5, long.to_owned()),
        ("a = 007", 5, "an integer without leading zeros".to_owned()),
        ("a = 9223372036854775808", 5, int.to_owned()),
        ("a = - 9223372036854775809", 7, int.to_owned()),
        ("-a > 5", 2, "a number after -".to_owned()),
        ("a = -'x'", 6, "a number after -".to_owned()),
        ("5", 1, "a condition, not a number".to_owned()),
        ("'x'", 1, "a condition, not a text".to_owned()),
        ("a AND 'x'", 7, "a condition, not a text".to_owned()),
        ("5 OR a", 1, "a condition, not a number".to_owned()),
        ("NOT 5", 5, "a condition, not a number".to_owned()),
        ("NOT a = 5", 9, "a condition, not a number".to_owned()),
        ("'x' = TRUE", 7, "a text, not a condition".to_owned()),
        ("word = 'ü€' AND ?", 17, "a property, a literal or an operator".to_owned()),
        ("ü = 5", 1, "a property, a literal or an operator".to_owned()),
        ("a = 5;", 6, "a property, a literal or an operator".to_owned()),
        ("a\u{a0}= 5", 2, "a property, a literal or an operator".to_owned()),
        ("a = 5 \0", 7, "a property, a literal or an operator".to_owned()),
    ] {
        let error = Expression::parse(text).unwrap_err();
        assert_eq!(error, SyntaxError { column, expected }, "{text}");
    }
    let error = Expression::parse("ab > 'x'").unwrap_err();
    assert_eq!(
        error.to_string(),
        "filter expression, column 6: expected a number or a property to be ordered, not a text"
    );
}

#[test]
fn keywords_are_no_properties() {
    for word in ["and", "Between", "contains", "endswith", "in", "is", "or", "startswith"] {
        assert!(Expression::parse(&format!("{word} = 5")).is_err(), "{word}");
        assert!(Expression::parse(&format!("{word}_ = 5")).is_ok(), "{word}_");
    }
}

/// Deep texts are refused, wide ones are not, on a stack that is small beside a worker's.
#[test]
fn depth_is_bounded() {
    let run = || {
        let properties = properties();
        let wrapped = |open: &str, close: &str, count: usize| {
            format!("{}word = 'hello'{}", open.repeat(count), close.repeat(count))
        };
        for (open, close) in [("(", ")"), ("NOT (", ")"), ("+(", ")")] {
            let levels = if open == "(" { 1 } else { 2 };
            let deepest = Expression::parse(&wrapped(open, close, DEPTH_MAX / levels)).unwrap();
            assert!(deepest.matches(&properties));
            assert!(Expression::parse(&wrapped(open, close, DEPTH_MAX / levels + 1)).is_err());
            assert!(Expression::parse(&wrapped(open, close, 5000)).is_err());
        }
        for open in ["(", "NOT ", "+", "- ", "+(", "a AND (b OR ", "a = ("] {
            let error = Expression::parse(&open.repeat(5000)).unwrap_err();
            assert_eq!(error.expected, "nesting at most 128 deep", "{open}");
        }
        for (more, matches) in [(" = word", false), (" IS NULL", false), (" <> yes", false)] {
            let chain = |count| format!("word{}", more.repeat(count));
            let deepest = Expression::parse(&chain(DEPTH_MAX)).unwrap();
            assert_eq!(deepest.matches(&properties), matches, "{more}");
            assert!(Expression::parse(&chain(DEPTH_MAX + 1)).is_err());
            assert!(Expression::parse(&chain(2000)).is_err());
        }
        // Parentheses and chains together are not deeper either.
        let mixed = format!("{}word{}", "(".repeat(100), " = word)".repeat(100));
        assert!(Expression::parse(&mixed).is_ok());
        let mixed = format!("{}word{}", "(".repeat(100), " = word = word)".repeat(100));
        assert!(Expression::parse(&mixed).is_err());

        for separator in [" OR ", " AND "] {
            let wide = vec!["word = 'hello'"; 800].join(separator);
            assert!(Expression::parse(&wide).unwrap().matches(&properties));
        }
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap();
    thread.join().unwrap();
}

/// For people: `cargo test --release -p raftmq-broker evaluations -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn evaluations_per_second() {
    let condition = "region IN ('eu', 'us') AND price BETWEEN 10 AND 500 AND word <> 'x'";
    let expression = Expression::parse(condition).unwrap();
    let mut properties = properties();
    properties.insert("region".to_owned(), "us".to_owned());
    properties.insert("price".to_owned(), "99".to_owned());
    let start = std::time::Instant::now();
    let count = 2_000_000;
    let matched = (0..count).filter(|_| expression.matches(std::hint::black_box(&properties)));
    assert_eq!(matched.count(), count);
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} evaluations per second of: {condition}");
}
