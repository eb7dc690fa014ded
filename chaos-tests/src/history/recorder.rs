//! Writes a history while it happens.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::{Action, Event, Phase};

/// Takes events from many tasks; each goes to the file at once and is kept for the checkers.
/// Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

struct Inner {
    begin: Instant,
    file: BufWriter<File>,
    events: Vec<Event>,
    next_process: u32,
    failed: Option<std::io::Error>,
}

/// An operation that began. Dropped without an end, it stays open: unknown.
#[must_use]
pub struct Operation {
    recorder: Recorder,
    process: u32,
}

impl Recorder {
    /// Writes to `path`, which must not exist.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| path.display().to_string())?;
        Ok(Self(Arc::new(Mutex::new(Inner {
            begin: Instant::now(),
            file: BufWriter::new(file),
            events: Vec::new(),
            next_process: 1,
            failed: None,
        }))))
    }

    /// A number for somebody who will do operations, one at a time.
    pub fn process(&self) -> u32 {
        let mut inner = self.lock();
        inner.next_process += 1;
        inner.next_process - 1
    }

    /// An operation of `process` begins.
    pub fn invoke(&self, process: u32, action: Action, node: Option<String>) -> Operation {
        self.write(process, Phase::Invoke, action, node, None);
        Operation { recorder: self.clone(), process }
    }

    /// Something was seen at `node`.
    pub fn observe(&self, action: Action, node: Option<String>) {
        self.write(0, Phase::Info, action, node, None);
    }

    /// A part of the run begins.
    pub fn mark(&self, what: &str) {
        self.observe(Action::Mark { what: what.to_owned() }, None);
    }

    /// Nanoseconds since the run began.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.lock().begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Everything so far. Flushed to the file before.
    ///
    /// # Errors
    /// The file could not be written: the history is not complete.
    pub fn events(&self) -> anyhow::Result<Vec<Event>> {
        let mut inner = self.lock();
        if let Some(error) = inner.failed.take() {
            return Err(error).context("the history could not be written");
        }
        inner.file.flush()?;
        Ok(inner.events.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        process: u32,
        phase: Phase,
        action: Action,
        node: Option<String>,
        error: Option<String>,
    ) {
        // Under the lock, so that the order of lines is that of the clock.
        let mut inner = self.lock();
        let event = Event {
            index: inner.events.len() as u64,
            time_ns: u64::try_from(inner.begin.elapsed().as_nanos()).unwrap_or(u64::MAX),
            wall_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_millis() as u64),
            process,
            phase,
            action,
            node,
            error,
        };
        let written = serde_json::to_writer(&mut inner.file, &event)
            .map_err(std::io::Error::from)
            .and_then(|()| inner.file.write_all(b"\n"));
        // A fault must find what came before it in the file, should it take the harness along.
        let written = match event.action {
            Action::Fault { .. } | Action::Mark { .. } => written.and_then(|()| inner.file.flush()),
            _ => written,
        };
        if let Err(error) = written {
            inner.failed.get_or_insert(error);
        }
        inner.events.push(event);
    }
}

impl Operation {
    /// It took effect; `action` is complete now.
    pub fn ok(self, action: Action, node: Option<String>) {
        self.recorder.write(self.process, Phase::Ok, action, node, None);
    }

    /// It certainly did not.
    pub fn fail(self, action: Action, error: String) {
        self.recorder.write(self.process, Phase::Fail, action, None, Some(error));
    }

    /// Nobody knows.
    pub fn unknown(self, action: Action, error: String) {
        self.recorder.write(self.process, Phase::Unknown, action, None, Some(error));
    }
}
