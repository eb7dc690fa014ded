//! Slow, hanging and failing system calls, and clocks that are wrong, in one process, while it runs.
//!
//! A library (`shim/shim.c`) that the dynamic linker puts in front of the C library of the process,
//! and a control file that both sides see: settings go in, counters come out. One control file for
//! each node; it stays when the process is started again, and so do the settings.
//!
//! ```text
//! offset  bytes  control file, little-endian, numbers of 8 bytes
//!      0      8  magic "RMQSHIM2"
//!      8      8  sequence, odd while settings are being written
//!     16     40  clocks: realtime offset ns, monotonic offset ns, drift ppm, drift of the monotonic
//!                clock (0 or 1), anchor ns (CLOCK_MONOTONIC when they were set)
//!     56     32  sync delay ms, sync hang (0 or 1), error number of failing writes, seed
//!     88     72  triggers of syncs, writes and reads, each: calls before it was set, from the nth
//!                call on (0: never), chance per million
//!    160      8  length of the path
//!    168   1024  path below which syncs, writes and reads are touched
//!   4096     88  counters, in the order of `Counters`
//! ```
//!
//! Invariants: a process that was given the environment and can not attach ends with status 97; a
//! monotonic clock never goes back, whatever is set; the clock of the machine is not touched.
//!
//! Not here: dropping what a failed fsync did not write, which the kernel does to dirty pages (the
//! process can not know, so must not depend on it); statically linked programs; calls that bypass
//! the C library, such as a clock read with `rdtsc`. Waits that have begun keep the end they have.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::ensure;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::{compile, owner};

const MAGIC: u64 = u64::from_le_bytes(*b"RMQSHIM2");
const SEQUENCE_OFFSET: u64 = 8;
const SETTINGS_OFFSET: u64 = 16;
const SETTINGS_WORDS: usize = 19;
const PATH_BYTES: usize = 1024;
const COUNTERS_OFFSET: u64 = 4096;
const CONTROL_BYTES: u64 = 8192;
const EXTENSION: &str = "shim";
/// Where it lies, if it exists: a counter must not wait for the disk that is being tormented.
const MEMORY: &str = "/dev/shm";
/// A tenth of the speed of time to ten times it.
const DRIFT_PPM: std::ops::RangeInclusive<i64> = -900_000..=9_000_000;
const MILLION: i128 = 1_000_000;

const EIO: u64 = 5;
const ENOSPC: u64 = 28;

/// When calls fail. Calls are counted from the moment of the setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// They work.
    #[default]
    Never,
    /// The nth fails, and all after it; 1 is the next call.
    FromCall(u64),
    /// Each fails with this probability, drawn from the seed and the number of the call.
    Chance {
        /// Calls of a million that fail.
        per_million: u32,
    },
}

/// What a failing write reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteError {
    /// EIO.
    #[default]
    Io,
    /// ENOSPC. Nothing of the call is written; a full [`super::volume`] may write a part first.
    NoSpace,
}

/// What the clocks show. The default is the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Clocks {
    /// CLOCK_REALTIME is ahead by this when it is set; negative: behind.
    pub realtime_offset_ns: i64,
    /// CLOCK_MONOTONIC jumps ahead by this when it is set, once, as after a suspend.
    pub monotonic_jump_ns: u32,
    /// From then on CLOCK_REALTIME gains this many microseconds in a second; negative: loses. From
    /// -900 000 (a tenth of the speed) to 9 000 000 (ten times).
    pub drift_ppm: i64,
    /// CLOCK_MONOTONIC drifts likewise, and with it how long waits take.
    pub drift_monotonic: bool,
}

/// What goes wrong in a process. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Syncs, writes and reads are touched for this file, or below this directory, only. Empty: for
    /// every file, but never for sockets and pipes. Made absolute when it is set.
    pub path: PathBuf,
    /// fsync and fdatasync take this much longer.
    pub sync_delay_ms: u64,
    /// fsync and fdatasync wait until this is unset; the process can be killed meanwhile.
    pub sync_hang: bool,
    /// fsync and fdatasync fail with EIO.
    pub sync_error: Trigger,
    /// Writes and allocations fail with [`Self::write_error_kind`].
    pub write_error: Trigger,
    /// How writes fail.
    pub write_error_kind: WriteError,
    /// Reads fail with EIO.
    pub read_error: Trigger,
    /// For [`Trigger::Chance`].
    pub seed: u64,
    /// What the clocks show.
    pub clocks: Clocks,
}

/// What was done so far, over all processes that had this control file.
///
/// Calls are those for files that the path covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Processes that loaded the library, wrappers such as `ip netns exec` included.
    pub attached: u64,
    /// Calls of fsync, fdatasync and sync_file_range.
    pub sync_calls: u64,
    /// Syncs that were delayed.
    pub syncs_delayed: u64,
    /// Syncs that were made to hang.
    pub syncs_hung: u64,
    /// Syncs that were made to fail.
    pub syncs_failed: u64,
    /// Writes and allocations, while a trigger for writes was set.
    pub write_calls: u64,
    /// Writes and allocations that were made to fail.
    pub writes_failed: u64,
    /// Reads, while a trigger for reads was set.
    pub read_calls: u64,
    /// Reads that were made to fail.
    pub reads_failed: u64,
    /// Times at which a clock was asked and did not tell the truth.
    pub clock_reads: u64,
    /// Waits that were made shorter or longer because the monotonic clock drifts.
    pub waits_scaled: u64,
}

/// The faults of one node. They end, for processes that still run, when it is dropped.
pub struct Shim {
    library: &'static Path,
    path: PathBuf,
    control: File,
    sequence: u64,
    monotonic: Monotonic,
}

/// How CLOCK_MONOTONIC is shown: `real + offset + drift × (real - anchor)`.
#[derive(Clone, Copy, Default)]
struct Monotonic {
    offset_ns: i64,
    drift_ppm: i64,
    anchor_ns: i64,
}

impl Shim {
    /// Builds the library at first use, and makes a control file in which nothing goes wrong.
    ///
    /// # Errors
    /// When there is no C compiler, or no directory for the file.
    pub fn create() -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let library = compile::shim()?;
        let memory = PathBuf::from(MEMORY);
        let directory = if memory.is_dir() { memory } else { std::env::temp_dir() };
        owner::remove_orphans(&directory, EXTENSION);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("raftmq-{number}.{}.{EXTENSION}", owner::mark()?));
        let control = File::options().read(true).write(true).create_new(true).open(&path)?;
        let mut shim =
            Self { library, path, control, sequence: 0, monotonic: Monotonic::default() };
        shim.control.set_len(CONTROL_BYTES)?;
        shim.reset()?;
        shim.control.write_all_at(&MAGIC.to_le_bytes(), 0)?;
        Ok(shim)
    }

    /// What a process has to be given at its start.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", self.library.into()), ("RAFTMQ_SHIM_CONTROL", self.path.clone().into())]
    }

    /// Gives it to a command.
    pub fn attach<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.environment())
    }

    /// Replaces all settings, for the processes that run and those to come. Takes effect within a
    /// call; a call that hangs or is delayed goes on when the new settings say so.
    ///
    /// The monotonic clock goes on from what it shows.
    ///
    /// # Errors
    /// When a number is out of its range, or the path too long; nothing is changed then.
    pub fn set(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let clocks = settings.clocks;
        ensure!(DRIFT_PPM.contains(&clocks.drift_ppm), "a drift is within {DRIFT_PPM:?} ppm");
        let path = absolute(&settings.path)?;
        let path = path.as_os_str().as_bytes();
        // "/" is what everything begins with.
        let path = path.strip_suffix(b"/").unwrap_or(path);
        ensure!(path.len() <= PATH_BYTES, "a path has at most {PATH_BYTES} bytes");
        let counters = self.counters()?;
        let now_ns = monotonic_ns();
        let monotonic = Monotonic {
            offset_ns: self.monotonic.at(now_ns) + i64::from(clocks.monotonic_jump_ns),
            drift_ppm: if clocks.drift_monotonic { clocks.drift_ppm } else { 0 },
            anchor_ns: now_ns,
        };
        let write_errno = match settings.write_error_kind {
            WriteError::Io => EIO,
            WriteError::NoSpace => ENOSPC,
        };
        let mut words = vec![
            clocks.realtime_offset_ns as u64,
            monotonic.offset_ns as u64,
            clocks.drift_ppm as u64,
            u64::from(clocks.drift_monotonic),
            now_ns as u64,
            settings.sync_delay_ms,
            u64::from(settings.sync_hang),
            write_errno,
            settings.seed,
        ];
        words.extend(settings.sync_error.words(counters.sync_calls));
        words.extend(settings.write_error.words(counters.write_calls));
        words.extend(settings.read_error.words(counters.read_calls));
        words.push(path.len() as u64);
        debug_assert_eq!(words.len(), SETTINGS_WORDS);
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.extend(path);
        bytes.resize(SETTINGS_WORDS * 8 + PATH_BYTES, 0);
        self.write(&bytes)?;
        self.monotonic = monotonic;
        Ok(())
    }

    /// Nothing goes wrong any more. The monotonic clock keeps what it has gained or lost.
    pub fn reset(&mut self) -> anyhow::Result<()> {
        self.set(&Settings::default())
    }

    /// What was done so far.
    pub fn counters(&self) -> anyhow::Result<Counters> {
        let mut words = [0; 11];
        for (word, offset) in words.iter_mut().zip((COUNTERS_OFFSET..).step_by(8)) {
            let mut bytes = [0; 8];
            self.control.read_exact_at(&mut bytes, offset)?;
            *word = u64::from_le_bytes(bytes);
        }
        let [
            attached,
            sync_calls,
            syncs_delayed,
            syncs_hung,
            syncs_failed,
            write_calls,
            writes_failed,
            read_calls,
            reads_failed,
            clock_reads,
            waits_scaled,
        ] = words;
        Ok(Counters {
            attached,
            sync_calls,
            syncs_delayed,
            syncs_hung,
            syncs_failed,
            write_calls,
            writes_failed,
            read_calls,
            reads_failed,
            clock_reads,
            waits_scaled,
        })
    }

    fn write(&mut self, settings: &[u8]) -> anyhow::Result<()> {
        self.control.write_all_at(&(self.sequence + 1).to_le_bytes(), SEQUENCE_OFFSET)?;
        self.control.write_all_at(settings, SETTINGS_OFFSET)?;
        self.sequence += 2;
        self.control.write_all_at(&self.sequence.to_le_bytes(), SEQUENCE_OFFSET)?;
        Ok(())
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // A process that still has it mapped must not hang for ever.
        let _reset = self.reset();
        let _removed = std::fs::remove_file(&self.path);
    }
}

impl Counters {
    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            attached: self.attached - earlier.attached,
            sync_calls: self.sync_calls - earlier.sync_calls,
            syncs_delayed: self.syncs_delayed - earlier.syncs_delayed,
            syncs_hung: self.syncs_hung - earlier.syncs_hung,
            syncs_failed: self.syncs_failed - earlier.syncs_failed,
            write_calls: self.write_calls - earlier.write_calls,
            writes_failed: self.writes_failed - earlier.writes_failed,
            read_calls: self.read_calls - earlier.read_calls,
            reads_failed: self.reads_failed - earlier.reads_failed,
            clock_reads: self.clock_reads - earlier.clock_reads,
            waits_scaled: self.waits_scaled - earlier.waits_scaled,
        }
    }
}

impl Trigger {
    fn words(self, calls: u64) -> [u64; 3] {
        match self {
            Self::Never => [calls, 0, 0],
            // The first call is number 1.
            Self::FromCall(nth) => [calls, nth.max(1), 0],
            Self::Chance { per_million } => [calls, 0, u64::from(per_million)],
        }
    }
}

impl Monotonic {
    /// The offset from the real clock at a moment of that.
    fn at(self, now_ns: i64) -> i64 {
        let elapsed_ns = i128::from(now_ns - self.anchor_ns);
        self.offset_ns + (elapsed_ns * i128::from(self.drift_ppm) / MILLION) as i64
    }
}

fn monotonic_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// As the kernel names open files: without symbolic links, as far as the path exists already.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Ok(PathBuf::new());
    }
    let path = std::path::absolute(path)?;
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            // Joining an empty rest would add a slash.
            let rest = path.strip_prefix(ancestor)?;
            return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_change_nothing() {
        let mut shim = Shim::create().unwrap();
        let before = std::fs::read(&shim.path).unwrap();
        for drift_ppm in [-1_000_000, 10_000_000] {
            let clocks = Clocks { drift_ppm, ..Clocks::default() };
            assert!(shim.set(&Settings { clocks, ..Settings::default() }).is_err());
        }
        let path = PathBuf::from("/").join("x".repeat(PATH_BYTES));
        assert!(shim.set(&Settings { path, ..Settings::default() }).is_err());
        assert_eq!(std::fs::read(&shim.path).unwrap(), before);
    }

    #[test]
    fn the_monotonic_clock_goes_on_from_what_it_shows() {
        let fast = Monotonic { offset_ns: 5, drift_ppm: 1_000_000, anchor_ns: 100 };
        assert_eq!(fast.at(100), 5);
        assert_eq!(fast.at(400), 305);
        let slow = Monotonic { drift_ppm: -500_000, ..fast };
        assert_eq!(slow.at(400), -145);
    }

    #[test]
    fn a_path_is_resolved_as_far_as_it_exists() {
        assert_eq!(absolute(Path::new("")).unwrap(), Path::new(""));
        assert_eq!(absolute(Path::new("/proc/no/such")).unwrap(), Path::new("/proc/no/such"));
        let own = PathBuf::from(format!("/proc/{}", std::process::id()));
        assert_eq!(absolute(Path::new("/proc/self")).unwrap(), own);
        assert_eq!(absolute(Path::new("/proc/self/x")).unwrap(), own.join("x"));
    }
}
