//! Stops processes, so that they say nothing more.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::tool;

const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(500);

/// SIGSTOP. Returns once no thread of them will do anything more outside of the kernel.
///
/// # Errors
/// When one of them does not exist, or is not stopped within 10 s.
pub(super) fn stop(process_ids: &[u32]) -> anyhow::Result<()> {
    if process_ids.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["-STOP".to_owned()];
    arguments.extend(process_ids.iter().map(u32::to_string));
    tool::run("kill", &arguments, LIMIT)?;
    let begin = Instant::now();
    for process_id in process_ids {
        while !is_stopped(*process_id)? {
            ensure!(begin.elapsed() < LIMIT, "process {process_id} is not stopped by SIGSTOP");
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Whether all threads are stopped, or wait in the kernel and will be when they leave it.
fn is_stopped(process_id: u32) -> anyhow::Result<bool> {
    let mut states = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{process_id}/task"))? {
        // A thread may end meanwhile.
        let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else { continue };
        let (_, fields) = stat.rsplit_once(')').context("a thread without a name")?;
        states.push(fields.trim_start().chars().next().unwrap_or('?'));
    }
    let is_still = states.iter().all(|state| "TtDZX".contains(*state));
    // The signal reaches the other threads through the one that takes it first.
    Ok(is_still && (states.len() == 1 || states.contains(&'T')))
}
