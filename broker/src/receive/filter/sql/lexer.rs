//! Characters to words.
//!
//! The longest word wins. Words are made one at a time, so that the first error from the left is the
//! one that is told.

use super::BLANKS;

/// Greatest absolute value of a 64-bit integer: that of the least one, which only a sign makes legal.
const MAGNITUDE_MAX: u64 = 1 << 63;

/// A word of a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// The name of a property, or a word that is none of ours.
    Identifier(&'a str),
    Keyword(Keyword),
    /// Without its sign, at most [`MAGNITUDE_MAX`].
    Integer(u64),
    /// Without its sign: finite, not 0.
    Float(f64),
    /// What stands between the quotes.
    Text(String),
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
    /// After the last word.
    End,
}

/// A reserved word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Between,
    Contains,
    EndsWith,
    False,
    In,
    Is,
    Not,
    Null,
    Or,
    StartsWith,
    True,
}

const KEYWORDS: [(&str, Keyword); 12] = [
    ("AND", Keyword::And),
    ("BETWEEN", Keyword::Between),
    ("CONTAINS", Keyword::Contains),
    ("ENDSWITH", Keyword::EndsWith),
    ("FALSE", Keyword::False),
    ("IN", Keyword::In),
    ("IS", Keyword::Is),
    ("NOT", Keyword::Not),
    ("NULL", Keyword::Null),
    ("OR", Keyword::Or),
    ("STARTSWITH", Keyword::StartsWith),
    ("TRUE", Keyword::True),
];

/// A word and the bytes of the text it stands in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lexeme<'a> {
    pub(super) token: Token<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What should have stood at a byte of the text. Always boxed: a small result makes a small stack.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) at: usize,
    pub(super) expected: String,
}

impl Expected {
    pub(super) fn new(at: usize, expected: impl Into<String>) -> Box<Self> {
        Box::new(Self { at, expected: expected.into() })
    }
}

/// What is left to read of a text.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next word; at the end, again and again, [`Token::End`].
    pub(super) fn next(&mut self) -> Result<Lexeme<'a>, Box<Expected>> {
        self.skip_blanks()?;
        let start = self.at;
        let token = self.token()?;
        Ok(Lexeme { token, start, end: self.at })
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Takes `word` if it comes next.
    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Takes all bytes that `belongs` holds for; it holds for none outside of ASCII.
    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| belongs(*byte)).count();
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn skip_blanks(&mut self) -> Result<(), Box<Expected>> {
        loop {
            self.take_while(|byte| BLANKS.contains(&char::from(byte)));
            let start = self.at;
            if self.take("--") {
                let rest = self.rest();
                self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            } else if self.take("/*") {
                let Some(length) = self.rest().find("*/") else {
                    return Err(Expected::new(start, "*/ at the end of the comment"));
                };
                self.at += length + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token<'a>, Box<Expected>> {
        let start = self.at;
        let mut following = self.rest().bytes();
        let Some(first) = following.next() else { return Ok(Token::End) };
        let second = following.next();
        if is_name_start(first) {
            return Ok(self.word());
        }
        let fraction = first == b'.' && second.is_some_and(|byte| byte.is_ascii_digit());
        if first.is_ascii_digit() || fraction {
            return self.number();
        }
        if self.take("'") {
            return self.quoted(start);
        }
        for (symbol, token) in [
            ("<>", Token::NotEqual),
            ("<=", Token::LessOrEqual),
            (">=", Token::GreaterOrEqual),
            ("<", Token::Less),
            (">", Token::Greater),
            ("=", Token::Equal),
            ("(", Token::Open),
            (")", Token::Close),
            (",", Token::Comma),
            ("+", Token::Plus),
            ("-", Token::Minus),
        ] {
            if self.take(symbol) {
                return Ok(token);
            }
        }
        Err(Expected::new(
            start,
            match first {
                b'!' => "<>, which is how to say \"not equal\"",
                b'"' => "a text in single quotes, or a property without quotes",
                b'*' | b'/' | b'%' => "no arithmetic",
                _ => "a property, a literal or an operator",
            },
        ))
    }

    fn word(&mut self) -> Token<'a> {
        let word = self.take_while(|byte| is_name_start(byte) || byte.is_ascii_digit());
        let keyword = KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        keyword.map_or(Token::Identifier(word), |(_, keyword)| Token::Keyword(*keyword))
    }

    fn number(&mut self) -> Result<Token<'a>, Box<Expected>> {
        let start = self.at;
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        let fraction = self.take(".");
        if fraction {
            self.take_while(|byte| byte.is_ascii_digit());
        }
        if self.exponent() || fraction {
            return match self.text.get(start..self.at).unwrap_or_default().parse() {
                Ok(value) if value > 0.0 && f64::is_finite(value) => Ok(Token::Float(value)),
                Ok(0.0) => Err(Expected::new(start, "0, or a float that is not 0")),
                _ => Err(Expected::new(start, "a float of 64 bits")),
            };
        }
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(Expected::new(start, "an integer without leading zeros"));
        }
        self.take_long_mark();
        match digits.parse() {
            Ok(magnitude) if magnitude <= MAGNITUDE_MAX => Ok(Token::Integer(magnitude)),
            _ => Err(Expected::new(start, "an integer of 64 bits")),
        }
    }

    /// Takes the `L` that an integer may end with.
    fn take_long_mark(&mut self) {
        let _ = self.take("L") || self.take("l");
    }

    /// Takes an exponent if there is a whole one.
    fn exponent(&mut self) -> bool {
        let start = self.at;
        if self.take("E") || self.take("e") {
            let _ = self.take("+") || self.take("-");
            if !self.take_while(|byte| byte.is_ascii_digit()).is_empty() {
                return true;
            }
        }
        self.at = start;
        false
    }

    /// The text that began with a quote at `start`.
    fn quoted(&mut self, start: usize) -> Result<Token<'a>, Box<Expected>> {
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let Some(length) = rest.find('\'') else {
                return Err(Expected::new(start, "' at the end of the text"));
            };
            text.push_str(rest.get(..length).unwrap_or_default());
            self.at += length + 1;
            if !self.take("'") {
                return Ok(Token::Text(text));
            }
            text.push('\'');
        }
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$'
}
