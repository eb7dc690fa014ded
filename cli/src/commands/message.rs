//! `raftmq message`: the path of a client, made visible.

mod peek;
mod receive;
mod send;

use bytes::Bytes;
use clap::Args;
use clap::Subcommand;

use crate::exit::Failure;
use crate::output::OutputArgs;

const AFTER_HELP: &str = "\
Examples:
  raftmq message send demo 'hello' --tag greeting --property lang=en
  raftmq message send demo - < file              the body comes from standard input
  raftmq message receive demo --group readers --count 10 --wait 20s
  raftmq message receive demo --group readers --filter 'greeting || farewell' --no-ack
  raftmq message peek demo --count 3             look without consuming";

/// Send, receive and look at messages.
///
/// send and receive go the way of an official client: they ask --endpoint for the route of the
/// topic and then talk to the brokers in it. peek asks an admin port.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct MessageArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Send a message and show where it was stored
    Send(send::SendArgs),
    /// Receive messages for a consumer group and acknowledge them
    Receive(receive::ReceiveArgs),
    /// Show stored messages without consuming them
    Peek(peek::PeekArgs),
}

pub async fn run(args: MessageArgs) -> Result<(), Failure> {
    match args.verb {
        Verb::Send(send) => send::run(send, args.output).await,
        Verb::Receive(receive) => receive::run(receive, args.output).await,
        Verb::Peek(peek) => peek::run(peek, args.output).await,
    }
}

/// A body as text where it is text, else as hexadecimal digits.
#[derive(serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum BodyView {
    Body(String),
    BodyHex(String),
}

impl BodyView {
    fn new(body: &Bytes) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => BodyView::Body(text.to_owned()),
            Err(_) => BodyView::BodyHex(body.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// At most a few lines on a terminal.
    fn excerpt(&self) -> String {
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
    fn excerpts_are_short_and_harmless() {
        assert_eq!(BodyView::Body("a\u{1b}[2Jb\nc".into()).excerpt(), "a\u{fffd}[2Jb\nc");
        assert!(BodyView::Body("x".repeat(1000)).excerpt().ends_with("… (1000 characters)"));
    }
}
