//! What `produce` and `consume` share: the log file, the clock and the signal to stop.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Appends one JSON object per line, written at once, from any task.
pub struct JsonLines(Mutex<File>);

impl JsonLines {
    pub fn append_to(path: &str) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(Mutex::new(file.with_context(|| format!("could not open {path}"))?)))
    }

    /// # Panics
    /// When the file can not be written: without its log a run is worth nothing.
    pub fn write(&self, record: &Value) {
        let mut file = self.0.lock().expect("no writer panics");
        file.write_all(format!("{record}\n").as_bytes()).expect("the log file can be written");
    }
}

pub fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock is past 1970");
    u64::try_from(since_epoch.as_millis()).expect("milliseconds fit")
}

/// A token that SIGTERM and SIGINT cancel.
pub fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}
