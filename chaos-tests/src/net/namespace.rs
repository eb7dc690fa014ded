//! Network namespaces, made and removed with `ip netns`.
//!
//! A name is `raftmq-<process id>-<its start time>-<run>-<host>`: who made it is known by exactly one
//! process, so what a dead harness left can be told from what another one uses.
//!
//! Invariant: the namespace is removed when this is dropped. Processes that still run in it keep it
//! alive without its name, and without a wire.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps names.
const DIRECTORY: &str = "/var/run/netns";
const PREFIX: &str = "raftmq";

/// One namespace.
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one for a host of a run of this process.
    pub fn create(run: u32, host: &str) -> anyhow::Result<Self> {
        let pid = std::process::id();
        let start_time =
            start_time(pid).context("could not read the start time of this process")?;
        let name = format!("{PREFIX}-{pid}-{start_time}-{run}-{host}");
        ip(&["netns", "add", &name], "")?;
        Ok(Self { name })
    }

    /// Its name, as for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to put before a command so that it runs inside.
    ///
    /// Not `ip netns exec`: that gives the command a mount namespace of its own, in which a disk
    /// stays mounted after it was unmounted outside.
    pub fn command_prefix(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path()), "--".to_owned()]
    }

    /// Runs `ip` inside, with one command per line of `batch`.
    pub fn ip(&self, batch: &str) -> anyhow::Result<()> {
        ip(&["-netns", &self.name, "-batch", "-"], batch)
    }

    /// Does `work` in a thread that lives inside. Sockets that it opens stay inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let file = File::open(self.path())?;
        let enter = move || -> anyhow::Result<T> {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        };
        // Only this thread moves, and it never comes back.
        thread::scope(|scope| scope.spawn(enter).join())
            .map_err(|_| anyhow!("work inside {} panicked", self.name))?
    }

    fn path(&self) -> String {
        format!("{DIRECTORY}/{}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name], "") {
            eprintln!("could not remove the network namespace {}: {error:#}", self.name);
        }
    }
}

/// Removes the namespaces of harnesses that no longer run. Returns their names.
pub fn remove_stale() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // Another harness may remove the same one at the same time: only who succeeds reports it.
    names.filter(|name| is_stale(name) && ip(&["netns", "delete", name], "").is_ok()).collect()
}

/// Runs `ip` in the namespace of this process.
pub(super) fn ip(arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not run ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), text.trim());
    Ok(())
}

fn is_stale(name: &str) -> bool {
    let mut parts = name.split('-');
    let (Some(PREFIX), Some(pid), Some(started)) = (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Ok(pid), Ok(started)) = (pid.parse(), started.parse()) else { return false };
    start_time(pid) != Some(started)
}

/// When a process started, in clock ticks since the machine did; `None` if it does not run.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, in parentheses, may contain anything; start time is field 22, and 3 comes next.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_living_are_not_stale() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        assert!(!is_stale(&format!("raftmq-{pid}-{started}-0-a")));
        assert!(is_stale(&format!("raftmq-{pid}-{}-0-a", started + 1)));
        assert!(!is_stale("raftmq-a-b-c"));
        assert!(!is_stale("other-1-2-3-a"));
    }
}
