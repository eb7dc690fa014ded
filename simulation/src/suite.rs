//! Many seeds: a process for each, with nothing in it that the seed does not decide.

use std::collections::VecDeque;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use raftmq_raft_store::planted::VARIABLE;
use xxhash_rust::xxh3::xxh3_64;

use crate::run::Report;

const ENTROPY: &str = include_str!("../entropy.c");
/// Longest time of one seed. A run that hangs is a finding too.
const SEED_LIMIT: Duration = Duration::from_secs(120);

/// How to run seeds.
pub struct Suite {
    /// Processes at a time.
    pub jobs: usize,
    /// Where traces and the entropy library go.
    pub directory: PathBuf,
    /// The planted bug, if the product is to have one.
    pub bug: Option<String>,
    /// Write the trace of each seed.
    pub trace: bool,
    /// End with the first seed that fails.
    pub stop_at_first: bool,
}

struct Running {
    seed: u64,
    child: Child,
    started: Instant,
}

impl Suite {
    /// Runs `seeds`, calling `done` for each that is over.
    ///
    /// # Errors
    /// A process can not be started.
    pub fn run(
        &self,
        seeds: impl IntoIterator<Item = u64>,
        mut done: impl FnMut(&Report),
    ) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let entropy = entropy(&self.directory)?;
        let mut waiting: VecDeque<u64> = seeds.into_iter().collect();
        let mut running: Vec<Running> = Vec::new();
        let mut stop = false;
        loop {
            while running.len() < self.jobs && !stop {
                let Some(seed) = waiting.pop_front() else { break };
                running.push(self.start(seed, &entropy)?);
            }
            if running.is_empty() {
                return Ok(());
            }
            let mut at = 0;
            while at < running.len() {
                let one = &mut running[at];
                let over = one.child.try_wait()?.is_some();
                if !over && one.started.elapsed() < SEED_LIMIT {
                    at += 1;
                    continue;
                }
                let one = running.swap_remove(at);
                let finished = finish(one, over)?;
                stop |= self.stop_at_first && finished.violation.is_some();
                done(&finished);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Where the trace of `seed` is, when it is written.
    pub fn trace_file(&self, seed: u64) -> PathBuf {
        self.directory.join(format!("seed-{seed}.trace"))
    }

    fn start(&self, seed: u64, entropy: &Path) -> anyhow::Result<Running> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("one").arg("--seed").arg(seed.to_string());
        if self.trace {
            command.arg("--trace").arg(self.trace_file(seed));
        }
        // Nothing of the surroundings: the length of a variable moves the stack.
        command.env_clear();
        if let Some(bug) = &self.bug {
            command.env(VARIABLE, bug);
        }
        let child = command
            .env("LD_PRELOAD", entropy)
            .env("RAFTMQ_SIM_SEED", seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start a run")?;
        Ok(Running { seed, child, started: Instant::now() })
    }
}

fn finish(mut one: Running, over: bool) -> anyhow::Result<Report> {
    if !over {
        one.child.kill()?;
    }
    let seed = one.seed;
    let output = one.child.wait_with_output()?;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        let how = if over { format!("it ended with {}", output.status) } else { hung() };
        Report::failed(seed, format!("{how}: {}", tail.join(" | ")))
    });
    Ok(report)
}

fn hung() -> String {
    format!("it did not end within {} s", SEED_LIMIT.as_secs())
}

/// The library that takes entropy away, compiled once for each content.
fn entropy(directory: &Path) -> anyhow::Result<PathBuf> {
    let library = directory.join(format!("entropy-{:016x}.so", xxh3_64(ENTROPY.as_bytes())));
    if !library.exists() {
        let source = directory.join(format!("entropy-{}.c", std::process::id()));
        let built = directory.join(format!("entropy-{}.new", std::process::id()));
        std::fs::write(&source, ENTROPY)?;
        let compiled = Command::new("cc")
            .args(["-O2", "-fPIC", "-shared", "-o"])
            .args([&built, &source])
            .status()
            .context("a C compiler named cc is needed")?;
        std::fs::remove_file(&source)?;
        anyhow::ensure!(compiled.success(), "could not compile entropy.c");
        std::fs::rename(&built, &library)?;
    }
    Ok(library.canonicalize()?)
}
