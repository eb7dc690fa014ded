//! Logs on standard error, and what a panic does.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document a line.
    Json,
}

/// What servers log: all that an operator wants to know. openraft tells of each message it handles
/// at the same level, which only its developers can read.
pub const SERVER: &str = "info,openraft=warn";
/// What other commands log: only what is odd.
pub const COMMAND: &str = "warn";

/// Starts logging what `filter` lets through, unless RUST_LOG says otherwise.
pub fn init(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that a logger is set already, which only tests can do.
    let _started = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
}

/// Makes a panic end the process, whichever task it happens in: a server of which a part has
/// vanished is worse than one that is restarted.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(%panic, %backtrace, "panicked, the process ends");
        std::process::abort();
    }));
}
