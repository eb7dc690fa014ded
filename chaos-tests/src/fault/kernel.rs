//! What the kernel says of a process, and limits that it puts on one.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of a line of `/proc/<pid>/status` that is given in kB, such as `VmRSS`.
pub(super) fn status_bytes(pid: u32, key: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let line = line.with_context(|| format!("process {pid} has no {key}"))?;
    let number = line.split_whitespace().next().context("an empty line")?;
    Ok(number.parse::<u64>()? * 1024)
}

/// Processor time of all threads of a process so far.
pub(super) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a process without a name")?;
    // Fields 14 and 15 of proc(5), in ticks, of which Linux shows a hundred a second.
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Descriptors that a process has open.
pub(super) fn descriptors(pid: u32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// A limit of a process, as `prlimit` names it (`nofile`, `as`). Only its soft part is touched, which
/// may be raised again up to the hard one.
pub(super) struct SoftLimit {
    pid: u32,
    resource: &'static str,
    before: String,
}

impl SoftLimit {
    /// Sets it to `value`; [`Self::lift`] sets it back.
    pub fn set(pid: u32, resource: &'static str, value: u64) -> anyhow::Result<Self> {
        let pid_option = format!("--pid={pid}");
        let show = format!("--{resource}");
        let before = prlimit(&[&pid_option, &show, "--raw", "--noheadings", "--output=SOFT"])?;
        let limit = Self { pid, resource, before: before.trim().to_owned() };
        limit.put(&value.to_string())?;
        Ok(limit)
    }

    /// Sets it to what it was. The process must still be there.
    pub fn lift(&self) -> anyhow::Result<()> {
        self.put(&self.before)
    }

    fn put(&self, value: &str) -> anyhow::Result<()> {
        let Self { pid, resource, .. } = self;
        prlimit(&[&format!("--pid={pid}"), &format!("--{resource}={value}:")]).map(drop)
    }
}

fn prlimit(arguments: &[&str]) -> anyhow::Result<String> {
    let ran =
        Command::new("prlimit").args(arguments).output().context("no prlimit (util-linux)")?;
    let error = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "prlimit {}: {error}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// Looks at the memory of processes until it is asked.
pub(super) struct MemoryWatch {
    begin: BTreeMap<u32, u64>,
    stop: CancellationToken,
    task: JoinHandle<BTreeMap<u32, u64>>,
}

impl MemoryWatch {
    /// Begins to look.
    pub fn start(pids: impl IntoIterator<Item = u32>) -> Self {
        let sample = |pid: u32| status_bytes(pid, "VmRSS").ok().map(|bytes| (pid, bytes));
        let begin: BTreeMap<u32, u64> = pids.into_iter().filter_map(sample).collect();
        let stop = CancellationToken::new();
        let (stopped, mut most) = (stop.clone(), begin.clone());
        let task = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                for (pid, most) in &mut most {
                    *most = (*most).max(status_bytes(*pid, "VmRSS").unwrap_or(0));
                }
                tokio::time::sleep(SAMPLE_INTERVAL).await;
            }
            most
        });
        Self { begin, stop, task }
    }

    /// By how much the memory of the process that grew most exceeded what it was at the begin.
    pub async fn growth_bytes(self) -> anyhow::Result<u64> {
        self.stop.cancel();
        let most = self.task.await?;
        let grew = self.begin.iter().map(|(pid, begin)| most[pid].saturating_sub(*begin));
        Ok(grew.max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_time_and_descriptors() {
        let own = std::process::id();
        let before = descriptors(own).expect("descriptors");
        let file = std::fs::File::open("/dev/null").expect("a file");
        // Other tests open files meanwhile, hence no equality.
        assert!(before > 0 && descriptors(own).expect("descriptors") > 0);
        drop(file);
        assert!(status_bytes(own, "VmRSS").expect("memory") > 1 << 20);
        assert!(status_bytes(own, "NoSuchLine").is_err());
        assert!(processor_time(own).expect("time") < Duration::from_secs(3600));
        assert!(processor_time(u32::MAX).is_err());
    }

    #[test]
    fn a_limit_is_lowered_and_set_back() {
        let mut child = Command::new("sleep").arg("30").spawn().expect("a process");
        let soft = || {
            let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id()));
            let limits = limits.expect("limits");
            let line = limits.lines().find(|line| line.starts_with("Max open files"));
            line.and_then(|line| line.split_whitespace().nth(3)).map(str::to_owned)
        };
        let before = soft();
        let limit = SoftLimit::set(child.id(), "nofile", 7).expect("a limit");
        assert_eq!(soft().as_deref(), Some("7"));
        limit.lift().expect("no limit");
        assert_eq!(soft(), before);
        child.kill().expect("the end");
        child.wait().expect("the end");
    }
}
