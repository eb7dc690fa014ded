//! Writes a history while it happens.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};

use super::foreign::{self, Foreign};
use super::{Action, Event, Phase};

/// Takes events from many tasks; each goes to the file at once and is kept for the checkers.
/// Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

struct Inner {
    begin: Instant,
    /// The same moment, as other programs see it.
    begin_monotonic_ns: u64,
    begin_wall_ms: u64,
    path: PathBuf,
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
        let (begin, begin_monotonic_ns) = one_moment();
        Ok(Self(Arc::new(Mutex::new(Inner {
            begin,
            begin_monotonic_ns,
            begin_wall_ms: wall_ms(),
            path: path.to_owned(),
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

    /// Adds what another program did and wrote down itself. Each line goes where it belongs in time,
    /// and the file is written anew.
    ///
    /// # Errors
    /// The file could not be written; what it held before is still there.
    pub fn merge(&self, operations: Vec<Foreign>) -> anyhow::Result<()> {
        let mut inner = self.lock();
        let mut lines = foreign::lines(operations, &mut inner.next_process);
        for line in &mut lines {
            line.time_ns = line.time_ns.saturating_sub(inner.begin_monotonic_ns);
            line.wall_ms = inner.begin_wall_ms + line.time_ns / 1_000_000;
        }
        let mut events = inner.events.clone();
        events.extend(lines);
        events.sort_by_key(|event| event.time_ns);
        for (index, event) in (0..).zip(&mut events) {
            event.index = index;
        }
        let path = inner.path.with_extension("tmp");
        let mut file = BufWriter::new(File::create(&path)?);
        for event in &events {
            serde_json::to_writer(&mut file, event)?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
        std::fs::rename(&path, &inner.path)?;
        (inner.events, inner.file) = (events, file);
        Ok(())
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
            wall_ms: wall_ms(),
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

/// Of the machine's monotonic clock: `System.nanoTime()` and `time.monotonic_ns()` of a client in
/// another language give the same.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The same moment by both names of the clock: nobody else ran between the two readings.
fn one_moment() -> (Instant, u64) {
    loop {
        let moment = (Instant::now(), monotonic_ns());
        if moment.0.elapsed() < Duration::from_micros(20) {
            return moment;
        }
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_millis() as u64)
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

#[cfg(test)]
mod tests {
    use super::super::{Kind, read};
    use super::*;

    fn send(value: &str) -> Action {
        Action::Send {
            topic: "t".to_owned(),
            value: value.to_owned(),
            message_id: None,
            offset: None,
            kind: Kind::Normal,
        }
    }

    #[test]
    fn what_others_did_stands_where_it_belongs_in_time() {
        let directory = std::env::temp_dir().join(format!("recorder-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        recorder.mark("warm_up");
        let pause = || std::thread::sleep(Duration::from_millis(1));
        pause();
        let begin_ns = monotonic_ns();
        pause();
        let own = recorder.process();
        let operation = recorder.invoke(own, send("own"), None);
        pause();
        let end_ns = monotonic_ns();
        pause();
        operation.ok(send("own"), None);
        let (begun, ended) = (send("other"), send("other"));
        let phase = Phase::Ok;
        recorder
            .merge(vec![Foreign { begin_ns, end_ns, begun, ended, phase, error: None }])
            .unwrap();
        recorder.mark("end");
        let events = recorder.events().unwrap();
        let order: Vec<(u64, bool, Phase)> =
            events.iter().map(|event| (event.index, event.process > own, event.phase)).collect();
        let expected = [
            (0, false, Phase::Info),
            (1, true, Phase::Invoke),
            (2, false, Phase::Invoke),
            (3, true, Phase::Ok),
            (4, false, Phase::Ok),
            (5, false, Phase::Info),
        ];
        assert_eq!(order, expected);
        assert!(events.is_sorted_by_key(|event| event.time_ns));
        assert!(events[1].wall_ms.abs_diff(events[0].wall_ms) < 1000);
        assert_eq!(read(&path).unwrap(), events);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
