//! Shows the body of a message.

use bytes::Bytes;
use serde::Serialize;

/// A body as text where it is text, else as hexadecimal digits.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyView {
    Body(String),
    BodyHex(String),
}

impl BodyView {
    pub fn new(body: &Bytes) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => BodyView::Body(text.to_owned()),
            Err(_) => BodyView::BodyHex(body.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// At most a few lines on a terminal.
    pub fn excerpt(&self) -> String {
        const CHARACTERS_MAX: usize = 400;
        let text = match self {
            BodyView::Body(text) => text,
            BodyView::BodyHex(digits) => &format!("(binary) {digits}"),
        };
        // Control characters could make a terminal do anything.
        let shown: String = text
            .chars()
            .take(CHARACTERS_MAX)
            .map(|character| match character {
                '\n' => '\n',
                control if control.is_control() => '\u{fffd}',
                plain => plain,
            })
            .collect();
        match text.chars().count() {
            all if all > CHARACTERS_MAX => format!("{shown}… ({all} characters)"),
            _ => shown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_text_or_digits() {
        let json = |body: &'static [u8]| {
            serde_json::to_string(&BodyView::new(&Bytes::from_static(body))).unwrap()
        };
        assert_eq!(json(b"hello"), r#"{"body":"hello"}"#);
        assert_eq!(json(b"\xff\x00"), r#"{"body_hex":"ff00"}"#);
    }

    #[test]
    pub fn excerpts_are_short_and_harmless() {
        assert_eq!(BodyView::Body("a\u{1b}[2Jb\nc".into()).excerpt(), "a\u{fffd}[2Jb\nc");
        assert!(BodyView::Body("x".repeat(1000)).excerpt().ends_with("… (1000 characters)"));
    }
}
