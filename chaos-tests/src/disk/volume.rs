//! One file system for each node, in a file of its own: it can lose power, be full, and hang.
//!
//! ext4 on a loop device on a sparse file. A power cut is the shutdown ioctl without flush: from
//! then on nothing that is only in memory reaches the file, every write and sync fails, and what is
//! found after a remount is what had been made durable.
//!
//! Order: the processes are stopped, the power is cut, the processes are killed, the volume is
//! mounted again. Not killed before the cut: the kernel would have time to write out what they leave.
//! Not running during the cut: a sync that is under way returns success after it, now and then (one
//! in five on a busy machine), for data that is not there; with real power nobody would hear that.
//!
//! Invariants: a file system is shut down before it is unmounted, so that a copy of the mount in
//! another mount namespace (a node that was started with `ip netns exec`) can not write to the file
//! any more; each mount has a loop device of its own, which the kernel removes with the mount.
//!
//! Blocking: every call takes milliseconds, a power cut with remount a few hundred; bounded by
//! [`TOOL_LIMIT`] for each command that is run.
//!
//! Not here: killing and starting processes, which is the caller's; losing single sectors of what
//! was never synced (ext4 loses whole pages, see [`super::damage`]); a disk that lies about a flush.
//! Not xfs: its tools are missing on common machines, and the cut is the same ioctl.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{compile, owner, stop, tool};

/// For one command of the system. Freezing and unmounting wait for a disk.
pub const TOOL_LIMIT: Duration = Duration::from_secs(30);
/// A killed process lets go of its files a moment after its end was reported.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
/// The same for a volume that is not needed any more: after this the kernel does the rest.
const ABANDON_LIMIT: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(10);
const EXTENSION: &str = "volume";
/// Takes the space of a full volume.
const FILLER: &str = "filler";
const BLOCK_BYTES: u64 = 4096;
/// The smallest that mkfs makes with a journal, and some.
const SIZE_BYTES_MIN: u64 = 8 << 20;
const PROBE_BYTES: u64 = 16 << 20;

/// A mounted file system of its own.
pub struct Volume {
    image: PathBuf,
    mount: PathBuf,
    is_cut: AtomicBool,
    is_frozen: Arc<AtomicBool>,
}

/// Whether volumes can be made, cut and mounted again here, by doing so once.
///
/// # Errors
/// What is missing, as a sentence.
pub fn supported() -> Result<(), String> {
    static PROBED: OnceLock<Result<(), String>> = OnceLock::new();
    let probed = PROBED.get_or_init(|| probe().map_err(|error| format!("{error:#}")));
    probed.clone()
}

fn probe() -> anyhow::Result<()> {
    let uid = std::fs::metadata("/proc/self")?.uid();
    ensure!(uid == 0, "only root can mount, this is user {uid}");
    let mark = owner::mark()?;
    let directory = std::env::temp_dir().join(format!("raftmq-volume-probe.{mark}"));
    std::fs::create_dir_all(&directory)?;
    let probed = (|| {
        let mut volume = Volume::create(&directory, "probe", PROBE_BYTES)?;
        let file = volume.path().join("file");
        std::fs::write(&file, "synced")?;
        File::open(&file)?.sync_all()?;
        File::open(volume.path())?.sync_all()?;
        volume.power_cut(&[])?;
        ensure!(std::fs::write(&file, "late").is_err(), "a shut down file system takes writes");
        volume.remount()?;
        let found = std::fs::read_to_string(&file)?;
        ensure!(found == "synced", "a synced file holds {found:?} after a power cut");
        drop(volume.freeze()?);
        Ok(())
    })();
    // Empty by now, if all went well.
    let _kept = std::fs::remove_dir(&directory);
    probed
}

impl Volume {
    /// Makes a file system of `size_bytes` (8 MiB or more; some of it goes to the journal) and mounts
    /// it, empty, at `<directory>/<name>`. The image is a sparse file beside it.
    ///
    /// Removes first what dead runs left, see [`remove_leftovers`].
    ///
    /// # Errors
    /// The command that failed, with its complaint. Nothing is left behind then.
    pub fn create(directory: &Path, name: &str, size_bytes: u64) -> anyhow::Result<Self> {
        ensure!(size_bytes >= SIZE_BYTES_MIN, "a volume has {SIZE_BYTES_MIN} bytes or more");
        remove_leftovers(directory);
        let mount = directory.join(name);
        std::fs::create_dir_all(&mount)?;
        let mount = mount.canonicalize()?;
        let image = mount.with_file_name(format!("{name}.{}.{EXTENSION}", owner::mark()?));
        File::create_new(&image)
            .with_context(|| format!("{} exists already", image.display()))?
            .set_len(size_bytes)?;
        // From here on dropping it cleans up.
        let volume = Self {
            image,
            mount,
            is_cut: AtomicBool::new(false),
            is_frozen: Arc::new(AtomicBool::new(false)),
        };
        // Nothing is kept for root, so that a full disk is as full as it looks; nothing is left to
        // be initialised in the background, which would disturb measurements.
        let options = ["-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard,lazy_itable_init=0"];
        let mut arguments: Vec<&std::ffi::OsStr> = options.iter().map(AsRef::as_ref).collect();
        arguments.push(volume.image.as_ref());
        tool::run("mkfs.ext4", &arguments, TOOL_LIMIT)?;
        volume.attach()?;
        std::fs::remove_dir(volume.mount.join("lost+found"))?;
        Ok(volume)
    }

    /// Where it is mounted: an absolute path without symbolic links.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// The file that holds it. To be changed while it is not mounted only.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// What unprivileged processes can still allocate.
    pub fn available_bytes(&self) -> anyhow::Result<u64> {
        let stat = rustix::fs::statvfs(&self.mount)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Loses power: see [`power_cut`].
    pub fn power_cut(&self, process_ids: &[u32]) -> anyhow::Result<Duration> {
        power_cut(&[self], process_ids)
    }

    /// Mounts it again, with its journal replayed, after a power cut, or after the processes that
    /// used it have ended. A filler stays if it was synced; a freeze ends.
    ///
    /// # Errors
    /// After 10 s, when a process still uses it. What failed to mount stays unmounted.
    pub fn remount(&mut self) -> anyhow::Result<()> {
        self.detach()?;
        self.attach()
    }

    /// Takes all space but `leave_bytes`, rounded to blocks. Returns what is available then, which
    /// may be some blocks less: the file system needs them to note the rest.
    ///
    /// # Errors
    /// When the volume is cut, or less than `leave_bytes` is available.
    pub fn fill(&self, leave_bytes: u64) -> anyhow::Result<u64> {
        // Else it would be the disk of the machine that fills up.
        ensure!(is_mounted(&self.mount)?, "{} is not mounted", self.mount.display());
        let filler = File::options()
            .create(true)
            .append(true)
            .open(self.mount.join(FILLER))
            .context("could not make the filler")?;
        let mut taken = filler.metadata()?.len();
        let available = self.available_bytes()?;
        ensure!(available >= leave_bytes, "only {available} bytes are available");
        let mut step = available - leave_bytes;
        while step >= BLOCK_BYTES {
            let spare = self.available_bytes()?.saturating_sub(leave_bytes);
            step = step.min(spare) / BLOCK_BYTES * BLOCK_BYTES;
            if step == 0 {
                break;
            }
            match rustix::fs::fallocate(&filler, FallocateFlags::empty(), taken, step) {
                Ok(()) => taken += step,
                Err(Errno::NOSPC) => step /= 2,
                Err(error) => bail!("could not fill {}: {error}", self.mount.display()),
            }
        }
        self.available_bytes()
    }

    /// Gives back what [`Self::fill`] took. Not an error when nothing was taken.
    pub fn release(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(self.mount.join(FILLER)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Hangs: writes and syncs wait until the guard is dropped, reads are served. What was written
    /// before is made durable first.
    ///
    /// A process that waits can not be killed before the guard is dropped.
    ///
    /// # Errors
    /// When it is frozen already, or cut.
    pub fn freeze(&self) -> anyhow::Result<Frozen> {
        let was_frozen = self.is_frozen.swap(true, Ordering::SeqCst);
        ensure!(!was_frozen, "{} is frozen already", self.mount.display());
        // The guard comes first: a freeze that ran out of time may take effect all the same.
        let frozen = Frozen { mount: self.mount.clone(), is_frozen: self.is_frozen.clone() };
        act("freeze", &[&self.mount])?;
        Ok(frozen)
    }

    /// Gives the image a loop device and mounts that.
    fn attach(&self) -> anyhow::Result<()> {
        let image = self.image.as_os_str();
        let device =
            tool::run("losetup", &["--find".as_ref(), "--show".as_ref(), image], TOOL_LIMIT)?;
        let arguments = ["-t", "ext4", "-o", "noatime", &device].map(AsRef::as_ref);
        let mounted =
            tool::run("mount", &[&arguments[..], &[self.mount.as_os_str()]].concat(), TOOL_LIMIT);
        // A device in use is detached with its last user; one that is not, now.
        let detached = tool::run("losetup", &["--detach", &device], TOOL_LIMIT);
        mounted?;
        detached?;
        self.is_cut.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Unmounts it, if it is mounted.
    fn detach(&self) -> anyhow::Result<()> {
        if self.is_frozen.swap(false, Ordering::SeqCst) {
            act("thaw", &[&self.mount])?;
        }
        if !is_mounted(&self.mount)? {
            return Ok(());
        }
        if !self.is_cut.load(Ordering::SeqCst) {
            act("flush-and-cut", &[&self.mount])?;
            self.is_cut.store(true, Ordering::SeqCst);
        }
        unmount(&self.mount, BUSY_LIMIT)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.is_frozen.store(false, Ordering::SeqCst);
        clean_up(&self.mount, &self.image, ABANDON_LIMIT);
    }
}

/// Cuts the power of several volumes at once, from a thread each. Returns the time from the
/// beginning of the first cut to the end of the last one.
///
/// Stops the processes that use them first, all of which have to be named. The caller then kills
/// them, which works on a stopped process, and calls [`Volume::remount`]. What was not synced when
/// they were stopped will hardly be found again.
///
/// # Errors
/// When a process can not be stopped, or a volume refused; others may have been cut.
pub fn power_cut(volumes: &[&Volume], process_ids: &[u32]) -> anyhow::Result<Duration> {
    let mounts: Vec<&Path> = volumes.iter().map(|volume| volume.path()).collect();
    for volume in volumes {
        let is_frozen = volume.is_frozen.load(Ordering::SeqCst);
        ensure!(!is_frozen, "{} is frozen, and would wait", volume.mount.display());
    }
    stop::stop(process_ids)?;
    let took = act("cut", &mounts)?;
    for volume in volumes {
        volume.is_cut.store(true, Ordering::SeqCst);
    }
    Ok(took)
}

/// Ends a freeze when it is dropped. May outlive its [`Volume`], which then has ended it.
pub struct Frozen {
    mount: PathBuf,
    is_frozen: Arc<AtomicBool>,
}

impl Frozen {
    /// Ends the freeze, and says whether that worked. Not an error when it has ended already.
    pub fn thaw(self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&self) -> anyhow::Result<()> {
        if self.is_frozen.swap(false, Ordering::SeqCst) {
            act("thaw", &[&self.mount])?;
        }
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // There is nobody to tell; unmounting tries again.
        let _thawed = self.end();
    }
}

/// Removes what dead runs left: their mounts and loop devices anywhere, their images in `directory`.
/// Returns the names of the images.
///
/// Best effort: what another run removes at the same time is no error.
pub fn remove_leftovers(directory: &Path) -> Vec<String> {
    let mut removed = Vec::new();
    for item in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let device = item.file_name().to_string_lossy().into_owned();
        let Ok(image) = std::fs::read_to_string(item.path().join("loop/backing_file")) else {
            continue;
        };
        let image = PathBuf::from(image.trim().trim_end_matches(" (deleted)"));
        let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mark = owner::mark_in(&name, EXTENSION);
        if mark.is_none_or(owner::is_alive) {
            continue;
        }
        let device = format!("/dev/{device}");
        let arguments = ["--noheadings", "--output", "TARGET", "--source", &device];
        let mounts = tool::run("findmnt", &arguments, TOOL_LIMIT).unwrap_or_default();
        for mount in mounts.lines() {
            clean_up(Path::new(mount), &image, Duration::ZERO);
        }
        // Attached and not mounted: the run died in between.
        let _detached = tool::run("losetup", &["--detach", &device], TOOL_LIMIT);
        let _gone = std::fs::remove_file(&image);
        removed.push(name);
    }
    removed.extend(owner::remove_orphans(directory, EXTENSION));
    removed
}

/// Does one thing to several mounted file systems at once: `cut`, `flush-and-cut`, `freeze` or
/// `thaw`, see `shim/volume.c`. Returns how long it took from the first beginning to the last end.
fn act(action: &str, mounts: &[&Path]) -> anyhow::Result<Duration> {
    let mut arguments = vec![action.as_ref()];
    arguments.extend(mounts.iter().map(|mount| mount.as_os_str()));
    let printed = tool::run(compile::volume()?, &arguments, TOOL_LIMIT)?;
    let times = printed.lines().map(|line| {
        let (begin, rest) = line.split_once(' ')?;
        let (end, _) = rest.split_once(' ')?;
        Some((begin.parse().ok()?, end.parse().ok()?))
    });
    let times: Option<Vec<(u64, u64)>> = times.collect();
    let times = times.with_context(|| format!("{action} printed {printed:?}"))?;
    let begin_ns = times.iter().map(|(begin, _)| *begin).min().unwrap_or_default();
    let end_ns = times.iter().map(|(_, end)| *end).max().unwrap_or_default();
    Ok(Duration::from_nanos(end_ns.saturating_sub(begin_ns)))
}

fn unmount(mount: &Path, limit: Duration) -> anyhow::Result<()> {
    let begin = Instant::now();
    while let Err(error) = tool::run("umount", &[mount], TOOL_LIMIT) {
        if begin.elapsed() > limit {
            return Err(error.context("a process still uses the volume"));
        }
        std::thread::sleep(BUSY_PAUSE);
    }
    Ok(())
}

/// Unmounts and deletes, whatever state things are in.
fn clean_up(mount: &Path, image: &Path, limit: Duration) {
    if is_mounted(mount).unwrap_or(true) {
        // Fails when it was not frozen, which is the rule.
        let _thawed = act("thaw", &[mount]);
        // The data is not needed any more, so it is not worth writing; and a process that still
        // uses it can not go on.
        let _cut = act("cut", &[mount]);
        if unmount(mount, limit).is_err() {
            // Goes when the last process that uses it ends, and the loop device with it.
            let _unmounted =
                tool::run("umount", &["--lazy".as_ref(), mount.as_os_str()], TOOL_LIMIT);
        }
    }
    let _deleted = std::fs::remove_file(image);
    // Stays if it is still mounted, or if something was put below the mount.
    let _removed = std::fs::remove_dir(mount);
}

/// Whether something is mounted exactly here.
fn is_mounted(mount: &Path) -> anyhow::Result<bool> {
    let parent = mount.parent().context("the root is always mounted")?;
    Ok(std::fs::symlink_metadata(mount)?.dev() != std::fs::symlink_metadata(parent)?.dev())
}
