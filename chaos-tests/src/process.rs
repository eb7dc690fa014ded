//! One child process whose output goes to files. It is killed when this is dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::until_seen;

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 30;

/// A child process. Its standard input stays open, empty, until it ends.
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to `<name>.out` and `<name>.err`.
    pub fn start(name: &str, directory: &Path, mut command: Command) -> anyhow::Result<Self> {
        let stdout = directory.join(format!("{name}.out"));
        let stderr = directory.join(format!("{name}.err"));
        let append = |path: &Path| File::options().create(true).append(true).open(path);
        let child = command
            .stdin(Stdio::piped())
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?)
            .spawn()
            .with_context(|| format!("could not start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// Everything it printed so far, and what its predecessors of the same name printed.
    pub fn stdout(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.stdout)?)
    }

    /// `None` while it runs.
    pub fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL. Returns once the process is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGKILL, without waiting for the end: several processes can be hit at once.
    pub fn begin_kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill()?)
    }

    /// SIGTERM.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        if self.exit_status()?.is_none() {
            self.signal("TERM")?;
        }
        Ok(())
    }

    /// A signal by its name, without `SIG`.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        // Not yet waited for, so the id can not belong to another process.
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status()?;
        ensure!(sent.success(), "could not send {name} to {}: {sent}", self.name);
        Ok(())
    }

    /// Its process id. A command that enters a namespace becomes the server itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        until_seen(&what, limit, || self.exit_status()?.context("it still runs")).await
    }

    /// Waits until it has printed this line.
    pub async fn printed(&mut self, line: &str, limit: Duration) -> anyhow::Result<()> {
        let what = format!("{line} from {}", self.name);
        let printed = until_seen(&what, limit, || {
            if self.stdout()?.lines().any(|printed| printed == line) {
                return Ok(Ok(()));
            }
            match self.exit_status()? {
                Some(status) => Ok(Err(status)),
                None => bail!("it did not print it"),
            }
        })
        .await;
        match printed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("{} ended with {status}\n{}", self.name, self.log_tail()),
            Err(error) => bail!("{error:#}\n{}", self.log_tail()),
        }
    }

    /// The end of its log, with where the rest is.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.stderr).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- end of {}\n{}\n", self.stderr.display(), tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell anything else.
        let _killed = self.kill();
    }
}
