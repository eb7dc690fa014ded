//! What happened, as one hash and, if asked for, as lines of a file; and what must not have.

use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write as _;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

static TRACE: Mutex<Trace> =
    Mutex::new(Trace { hash: 0, events: 0, line: String::new(), file: None, violation: None });

struct Trace {
    hash: u64,
    events: u64,
    line: String,
    file: Option<BufWriter<File>>,
    violation: Option<String>,
}

/// Writes every event to `file` as well.
pub fn to_file(file: File) {
    TRACE.lock().file = Some(BufWriter::new(file));
}

/// Notes an event.
pub fn note(event: fmt::Arguments<'_>) {
    let mut trace = TRACE.lock();
    let trace = &mut *trace;
    trace.line.clear();
    let now_us = super::time::elapsed().as_micros();
    // Writing to a string does not fail.
    let _ = write!(trace.line, "{now_us} {event}");
    trace.hash = xxh3_64_with_seed(trace.line.as_bytes(), trace.hash);
    trace.events += 1;
    if let Some(file) = &mut trace.file {
        let _ = writeln!(file, "{}", trace.line);
    }
}

/// Notes that something happened that must not. The first one ends the run.
pub fn violation(what: fmt::Arguments<'_>) {
    note(format_args!("VIOLATION {what}"));
    let mut trace = TRACE.lock();
    if trace.violation.is_none() {
        trace.violation = Some(what.to_string());
    }
}

/// What must not have happened, if something did.
pub fn violated() -> Option<String> {
    TRACE.lock().violation.clone()
}

/// Hash and number of all events so far; completes the file.
pub fn finish() -> (u64, u64) {
    let mut trace = TRACE.lock();
    if let Some(file) = &mut trace.file {
        let _ = file.flush();
    }
    (trace.hash, trace.events)
}
