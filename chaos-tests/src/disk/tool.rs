//! Runs a command of the system, for a bounded time.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const PAUSE: Duration = Duration::from_millis(2);

/// Runs a program to its end and returns what it printed, without white space around it. It prints
/// little: a page at most.
///
/// # Errors
/// Names the command, and carries what it wrote to standard error, when it fails or is not done
/// within the limit; it is then killed.
pub(super) fn run<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: &[A],
    limit: Duration,
) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut child = command.spawn().with_context(|| format!("could not run {shown}"))?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > limit {
            child.kill()?;
            // Not waited for: a process that waits for a disk does not end by being killed.
            bail!("{shown} took more than {limit:?}");
        }
        std::thread::sleep(PAUSE);
    };
    let (mut printed, mut complaint) = (String::new(), String::new());
    child.stdout.take().context("no standard output")?.read_to_string(&mut printed)?;
    child.stderr.take().context("no standard error")?.read_to_string(&mut complaint)?;
    ensure!(status.success(), "{shown} ended with {status}: {}", complaint.trim());
    Ok(printed.trim().to_owned())
}
