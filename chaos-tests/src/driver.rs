//! Builds and runs the client drivers: small programs around the official client of a language.
//!
//! Their interface is the same for all languages; `clients/<language>/run.sh` starts one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::driver_log::{self, Delivery, Send};
use crate::paths;
use crate::process::Process;

/// From the start of a process to its first message: the slowest runtime, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longer than any driver waits for what is under way.
const STOP_LIMIT: Duration = Duration::from_secs(75);

/// An official client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `rocketmq-client-java`.
    Java,
    /// `rocketmq-clients/golang`.
    Go,
    /// `rocketmq-python-client`.
    Python,
    /// `rocketmq-client-nodejs`.
    Node,
    /// The crate `rocketmq`.
    Rust,
}

impl Client {
    /// Every client that has a driver.
    pub const ALL: [Self; 5] = [Self::Java, Self::Go, Self::Python, Self::Node, Self::Rust];

    /// Name of the language, as in `clients/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Go => "go",
            Self::Python => "python",
            Self::Node => "node",
            Self::Rust => "rust",
        }
    }

    /// How an application would consume with it: the crate for Rust has no push consumer.
    pub fn consume_mode(self) -> &'static str {
        if self == Self::Rust { "simple" } else { "push" }
    }

    /// The ways to consume that it has.
    pub fn consume_modes(self) -> &'static [&'static str] {
        if self == Self::Rust { &["simple"] } else { &["push", "simple"] }
    }

    /// Whether its producer tries a failed send again by itself.
    pub fn retries_sends(self) -> bool {
        self != Self::Rust
    }

    /// Builds the driver, into the target directory. Quick when there is nothing to do.
    pub fn build(self) -> anyhow::Result<()> {
        let out = self.out()?;
        std::fs::create_dir_all(&out)?;
        // Tests of several processes may come here at once.
        let lock = File::create(out.with_extension("lock"))?;
        lock.lock()?;
        let built = Command::new(self.script("build.sh")).env("DRIVER_OUT", out).output()?;
        ensure!(
            built.status.success(),
            "could not build the {} driver\n{}{}",
            self.name(),
            String::from_utf8_lossy(&built.stdout),
            String::from_utf8_lossy(&built.stderr),
        );
        Ok(())
    }

    fn out(self) -> anyhow::Result<PathBuf> {
        Ok(paths::target()?.join("clients").join(self.name()))
    }

    fn script(self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(self.name()).join(name)
    }

    /// Starts `command` of its driver; `name` tells it from others.
    fn start(
        self,
        name: &str,
        command: &str,
        directory: &Path,
        args: &[&str],
    ) -> anyhow::Result<Process> {
        let mut run = Command::new(self.script("run.sh"));
        run.arg(command).args(args).env("DRIVER_OUT", self.out()?);
        Process::start(&format!("{}-{name}", self.name()), directory, run)
    }

    /// Runs a `command` of its driver that prints one [`Check`] a line.
    pub(crate) async fn check(
        self,
        command: &str,
        directory: &Path,
        args: &[&str],
        limit: Duration,
    ) -> anyhow::Result<Vec<Check>> {
        let mut process = self.start(command, command, directory, args)?;
        let ended = process.ended(limit).await;
        let stdout = process.stdout()?;
        let status = ended.with_context(|| format!("{stdout}{}", process.log_tail()))?;
        let parse = |line| serde_json::from_str(line).with_context(|| format!("line {line}"));
        let checks: Vec<Check> = stdout.lines().map(parse).collect::<anyhow::Result<_>>()?;
        let all_ok = checks.iter().all(|check| check.ok);
        ensure!(
            status.success() == all_ok,
            "{status} after {} checks, all ok: {all_ok}\n{}",
            checks.len(),
            process.log_tail()
        );
        Ok(checks)
    }

    /// Whether its driver was built before, or what is missing to build it.
    pub fn supported(self) -> Result<(), String> {
        let tools: &[&str] = match self {
            Self::Java => &["java", "mvn"],
            Self::Go => &["go"],
            Self::Python => &["python3"],
            Self::Node => &["node", "npm"],
            Self::Rust => &["cargo"],
        };
        // Only what runs it is needed once it is built.
        let needed = if self.is_built() { &tools[..1] } else { tools };
        match needed.iter().find(|tool| !is_in_path(tool)) {
            Some(tool) => Err(format!("no {tool}")),
            None => Ok(()),
        }
    }

    /// Whether its driver was built before, so that nothing is needed any more but to run it.
    fn is_built(self) -> bool {
        let built = match self {
            Self::Java => "raftmq-java-driver.jar",
            Self::Python => "venv/installed-requirements.txt",
            // Their builds are quick, or find out themselves.
            Self::Go | Self::Node | Self::Rust => return false,
        };
        self.out().is_ok_and(|out| out.join(built).exists())
    }
}

/// A running `produce`.
pub struct Producer {
    /// Whose.
    pub client: Client,
    process: Process,
    log: PathBuf,
}

/// What a producer printed at its end.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Summary {
    /// Sends begun.
    pub sent: u64,
    /// Of these, acknowledged.
    pub ok: u64,
    /// And failed.
    pub failed: u64,
    /// Longest time between two acknowledged ones, as the driver measured it.
    pub max_gap_ms: u64,
}

impl Producer {
    /// Starts it. It sends `rate` messages a second, whatever becomes of them, until stopped.
    pub fn start(
        client: Client,
        directory: &Path,
        endpoint: &str,
        topic: &str,
        rate: u32,
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{}-produce.jsonl", client.name()));
        let rate = rate.to_string();
        let args = ["--endpoint", endpoint, "--topic", topic, "--rate", &rate];
        let until = ["--seconds", "3600", "--log", log.to_str().context("path is not UTF-8")?];
        let process =
            client.start("produce", "produce", directory, &[&args[..], &until].concat())?;
        Ok(Self { client, process, log })
    }

    /// Waits until its first send succeeded.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        self.process.printed("READY", START_LIMIT).await
    }

    /// Where it writes down what became of every send.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Fails when it does not run any more.
    pub fn ensure_alive(&mut self) -> anyhow::Result<()> {
        ensure_alive(&mut self.process, self.client, "producer")
    }

    /// Tells it to send no more.
    pub fn begin_stop(&mut self) -> anyhow::Result<()> {
        self.process.terminate()
    }

    /// Waits for its end and returns what became of every send.
    pub async fn finish(mut self) -> anyhow::Result<Vec<Send>> {
        self.begin_stop()?;
        let name = self.client.name();
        let status = self.process.ended(STOP_LIMIT).await?;
        ensure!(status.success(), "{name} producer: {status}\n{}", self.process.log_tail());
        let stdout = self.process.stdout()?;
        let last = stdout.lines().last().unwrap_or_default();
        let summary: Summary = serde_json::from_str(last).context("no summary")?;
        let sends = driver_log::sends(&self.log)?;
        ensure!(
            summary.sent == sends.len() as u64,
            "{name} producer began {} sends and logged {}: the others never got an answer",
            summary.sent,
            sends.len()
        );
        Ok(sends)
    }
}

/// A running `consume`.
pub struct Consumer {
    /// Whose.
    pub client: Client,
    process: Process,
    log: PathBuf,
}

impl Consumer {
    /// Starts it. It consumes until stopped.
    pub fn start(
        client: Client,
        directory: &Path,
        endpoint: &str,
        topic: &str,
        group: &str,
    ) -> anyhow::Result<Self> {
        Self::start_in_mode(client, client.consume_mode(), directory, endpoint, topic, group)
    }

    /// The same with the kind of consumer that is asked for, one of [`Client::consume_modes`].
    pub fn start_in_mode(
        client: Client,
        mode: &str,
        directory: &Path,
        endpoint: &str,
        topic: &str,
        group: &str,
    ) -> anyhow::Result<Self> {
        let name = format!("consume-{mode}");
        let log = directory.join(format!("{}-{name}.jsonl", client.name()));
        File::create(&log)?;
        let args = ["--endpoint", endpoint, "--topic", topic, "--group", group];
        let log_path = log.to_str().context("path is not UTF-8")?;
        let rest = ["--mode", mode, "--log", log_path];
        let process = client.start(&name, "consume", directory, &[&args[..], &rest].concat())?;
        Ok(Self { client, process, log })
    }

    /// Waits until it is ready to receive.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        self.process.printed("READY", START_LIMIT).await
    }

    /// Fails when it does not run any more.
    pub fn ensure_alive(&mut self) -> anyhow::Result<()> {
        ensure_alive(&mut self.process, self.client, "consumer")
    }

    /// The deliveries so far. Fails when it does not run any more.
    pub fn deliveries(&mut self) -> anyhow::Result<Vec<Delivery>> {
        self.ensure_alive()?;
        driver_log::deliveries(&self.log)
    }

    /// Ends it at once, as far as it came, and returns every delivery: a push consumer would wait
    /// for its long poll first.
    pub fn cut(mut self) -> anyhow::Result<Vec<Delivery>> {
        self.process.kill()?;
        driver_log::deliveries(&self.log)
    }

    /// Tells it to consume no more.
    pub fn begin_stop(&mut self) -> anyhow::Result<()> {
        self.process.terminate()
    }

    /// Stops it and returns every delivery.
    pub async fn finish(mut self) -> anyhow::Result<Vec<Delivery>> {
        self.begin_stop()?;
        let status = self.process.ended(STOP_LIMIT).await?;
        let name = self.client.name();
        ensure!(status.success(), "{name} consumer: {status}\n{}", self.process.log_tail());
        driver_log::deliveries(&self.log)
    }
}

fn is_in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}

fn ensure_alive(process: &mut Process, client: Client, what: &str) -> anyhow::Result<()> {
    let status = process.exit_status()?;
    let name = client.name();
    ensure!(status.is_none(), "the {name} {what} ended by itself\n{}", process.log_tail());
    Ok(())
}

/// One line of `interop` or `features`.
#[derive(Clone, Debug, Deserialize)]
pub struct Check {
    /// Name of the check.
    #[serde(rename = "check")]
    pub name: String,
    /// Passed, or skipped.
    pub ok: bool,
    /// The client lacks what the check needs.
    #[serde(default)]
    pub skipped: bool,
    /// What was seen.
    pub detail: String,
}

/// Names for one run of `interop`, all derived from a prefix.
pub struct Interop {
    topic: String,
    group: String,
}

impl Interop {
    /// The names that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { topic: format!("{prefix}-topic"), group: format!("{prefix}-group") }
    }

    /// Topics that must exist.
    pub fn topics(&self) -> Vec<String> {
        let of_checks = ["", "2", "-tag", "-redeliver", "-invisible", "-bulk", "-shared", "-push"];
        of_checks.map(|suffix| format!("{}{suffix}", self.topic)).into()
    }

    /// Groups that must exist.
    pub fn groups(&self) -> Vec<String> {
        let of_checks = ["", "2", "-tag", "-redeliver", "-invisible", "-bulk", "-shared", "-push"];
        of_checks.map(|suffix| format!("{}{suffix}", self.group)).into()
    }

    /// Runs every check of a client, with `count` messages in the one for bulk.
    pub async fn run(
        &self,
        client: Client,
        directory: &Path,
        endpoint: &str,
        count: u32,
        limit: Duration,
    ) -> anyhow::Result<Vec<Check>> {
        let (topic2, group2) = (format!("{}2", self.topic), format!("{}2", self.group));
        let count = count.to_string();
        let args = ["--endpoint", endpoint, "--topic", &self.topic, "--topic2", &topic2];
        let rest = ["--group", &self.group, "--group2", &group2, "--count", &count];
        client.check("interop", directory, &[&args[..], &rest].concat(), limit).await
    }
}
