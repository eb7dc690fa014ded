//! Damage to the files of a node that is down, as disks and crashes do it.
//!
//! What a server has to make of each kind of damage:
//!
//! - [`torn_write`] leaves bytes of a write that nobody was told about: it starts without them.
//! - everything else takes from what was acknowledged: it gets that back from its peers, or refuses
//!   to start and says which file; it never serves it, and never goes on as if it had not been there.
//!
//! Invariants: nothing but the file that is named is changed, in place, so that its other names
//! (snapshots share files with the state tables) show the same damage, as on a disk; a [`Damage`]
//! holds all that is needed to undo it; the same seed on the same files does the same.
//!
//! Not here: sectors that never reached the disk (power cut, [`super::volume`]).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rand::Rng;
use rand::seq::IndexedRandom;
use serde::{Serialize, Serializer};

const SECTOR_BYTES: u64 = 512;
const SECTORS_MAX: u64 = 8;
const TAIL_CUT_BYTES_MAX: u64 = 4096;
const SEGMENT_HEADER_BYTES: u64 = 64;
/// Bytes of a change that are printed.
const SHOWN_BYTES: usize = 16;

/// Kinds of files in the data directory of a broker, as `docs/formats.md` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The segment of the commit log that takes frames.
    NewestSegment,
    /// A closed segment.
    OlderSegment,
    /// Vote and purge mark of the log.
    Meta,
    /// How far the log was flushed. A server may lose it without losing anything.
    Synced,
    /// What makes a snapshot complete.
    SnapshotManifest,
    /// A table of a snapshot; often a table of the state under another name.
    SnapshotTable,
    /// A table of the state.
    StateTable,
    /// Which tables there are.
    StateManifest,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NewestSegment,
        Self::OlderSegment,
        Self::Meta,
        Self::Synced,
        Self::SnapshotManifest,
        Self::SnapshotTable,
        Self::StateTable,
        Self::StateManifest,
    ];

    /// The files of this kind in a data directory, sorted; empty when there are none.
    pub fn files(self, data: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let log = || matching(&data.join("log"), |name| name.ends_with(".log"));
        let files = match self {
            Self::NewestSegment => log()?.pop().into_iter().collect(),
            Self::OlderSegment => {
                let mut segments = log()?;
                segments.pop();
                segments
            }
            Self::Meta => matching(&data.join("log"), |name| name == "meta")?,
            Self::Synced => matching(&data.join("log"), |name| name == "synced")?,
            Self::SnapshotManifest => in_each(&snapshots(data)?, |snapshot| {
                matching(snapshot, |name| name == "MANIFEST")
            })?,
            Self::SnapshotTable => {
                in_each(&snapshots(data)?, |snapshot| matching(&snapshot.join("tables"), is_table))?
            }
            Self::StateTable => matching(&data.join("state"), is_table)?,
            Self::StateManifest => {
                matching(&data.join("state"), |name| name.starts_with("MANIFEST-"))?
            }
        };
        Ok(files)
    }
}

/// What was changed, and how to undo it.
#[derive(Clone, Debug, Serialize)]
pub struct Damage {
    /// The kind of damage: the name of the function that did it.
    pub name: &'static str,
    /// In the order in which it was done.
    pub changes: Vec<Change>,
}

/// One change of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Bytes that were there are others now, as many as before.
    Bytes {
        /// The file.
        file: PathBuf,
        /// Names of the file; above 1 other names show the same damage.
        links: u64,
        /// The first byte, from the beginning of the file.
        offset: u64,
        /// What was there. Hexadecimal in a report.
        #[serde(serialize_with = "as_hex")]
        old: Vec<u8>,
        /// What is there.
        #[serde(serialize_with = "as_hex")]
        new: Vec<u8>,
    },
    /// The file is shorter.
    Cut {
        /// The file.
        file: PathBuf,
        /// Names of the file, as above.
        links: u64,
        /// Its length before.
        old_bytes: u64,
        /// Its length now.
        new_bytes: u64,
        /// What was behind. Not in a report.
        #[serde(skip)]
        cut: Vec<u8>,
    },
    /// The file is longer.
    Grown {
        /// The file.
        file: PathBuf,
        /// Its length before.
        old_bytes: u64,
        /// What was appended.
        #[serde(serialize_with = "as_hex")]
        new: Vec<u8>,
    },
    /// The file, link or empty directory is gone.
    Removed {
        /// Where it was.
        file: PathBuf,
        /// Where it is kept.
        kept: PathBuf,
    },
}

/// Appends 1 to 8 sectors to the newest segment, a seeded subset of them garbage and the rest zero:
/// what a power cut may leave of a write that was not yet acknowledged.
pub fn torn_write(data: &Path, random: &mut impl Rng) -> anyhow::Result<Damage> {
    let file = any(Kind::NewestSegment, data, random)?;
    let old_bytes = std::fs::metadata(&file)?.len();
    let mut new = vec![0; (random.random_range(1..=SECTORS_MAX) * SECTOR_BYTES) as usize];
    garble(&mut new, 0, random);
    open(&file)?.write_all_at(&new, old_bytes)?;
    Ok(Damage::of("torn_write", Change::Grown { file, old_bytes, new }))
}

/// Replaces a seeded subset of the last 1 to 8 sectors of the newest segment with garbage.
///
/// # Errors
/// When the segment has no frame.
pub fn torn_sectors(data: &Path, random: &mut impl Rng) -> anyhow::Result<Damage> {
    let file = any(Kind::NewestSegment, data, random)?;
    let length = length_with_frames(&file)?;
    let last_sector = (length - 1) / SECTOR_BYTES;
    let count = random.random_range(1..=SECTORS_MAX).min(last_sector + 1);
    // The header was durable long before.
    let offset = ((last_sector + 1 - count) * SECTOR_BYTES).max(SEGMENT_HEADER_BYTES);
    let mut new = read(&file, offset, length - offset)?;
    garble(&mut new, offset, random);
    Ok(Damage::of("torn_sectors", overwrite(file, offset, new)?))
}

/// Cuts 1 to 4096 bytes off the newest segment, but nothing of its header.
///
/// # Errors
/// When the segment has no frame.
pub fn torn_tail(data: &Path, random: &mut impl Rng) -> anyhow::Result<Damage> {
    let file = any(Kind::NewestSegment, data, random)?;
    let length = length_with_frames(&file)?;
    let cut_bytes = TAIL_CUT_BYTES_MAX.min(length - SEGMENT_HEADER_BYTES);
    let new_bytes = length - random.random_range(1..=cut_bytes);
    Ok(Damage::of("torn_tail", cut(file, new_bytes)?))
}

/// Truncates a file of this kind to between a quarter and three quarters of its length.
///
/// # Errors
/// When there is none with two bytes or more.
pub fn truncate(data: &Path, kind: Kind, random: &mut impl Rng) -> anyhow::Result<Damage> {
    let file = any(kind, data, random)?;
    let length = std::fs::metadata(&file)?.len();
    ensure!(length >= 2, "{} is too short to be truncated", file.display());
    let new_bytes = random.random_range(length / 4..=length * 3 / 4).clamp(1, length - 1);
    Ok(Damage::of("truncate", cut(file, new_bytes)?))
}

/// Flips one bit of a file of this kind.
///
/// # Errors
/// When there is none that is not empty.
pub fn flip_bit(data: &Path, kind: Kind, random: &mut impl Rng) -> anyhow::Result<Damage> {
    let file = any(kind, data, random)?;
    let length = std::fs::metadata(&file)?.len();
    let offset = random.random_range(0..length);
    let mut new = read(&file, offset, 1)?;
    new[0] ^= 1 << random.random_range(0..8);
    Ok(Damage::of("flip_bit", overwrite(file, offset, new)?))
}

/// Empties a data directory, which itself stays. What was in it is moved to `keep`, which must not
/// exist, and is copied there if that is another disk.
pub fn empty(data: &Path, keep: &Path) -> anyhow::Result<Damage> {
    ensure!(!keep.starts_with(data), "{} would be emptied too", keep.display());
    std::fs::create_dir_all(keep.parent().context("not a directory to keep things in")?)?;
    std::fs::create_dir(keep).with_context(|| format!("could not make {}", keep.display()))?;
    let mut changes = Vec::new();
    for name in names(data)? {
        let (file, kept) = (data.join(&name), keep.join(&name));
        relocate(&file, &kept)?;
        changes.push(Change::Removed { file, kept });
    }
    Ok(Damage { name: "empty", changes })
}

impl Damage {
    fn of(name: &'static str, change: Change) -> Self {
        Self { name, changes: vec![change] }
    }

    /// Puts back what was there; files that the server has made since stay.
    ///
    /// # Errors
    /// When a file is not as the damage left it: the server has repaired or replaced it, and nothing
    /// of that is overwritten.
    pub fn undo(self) -> anyhow::Result<()> {
        for change in self.changes.into_iter().rev() {
            change.undo()?;
        }
        Ok(())
    }
}

impl Change {
    /// The file it is about.
    pub fn file(&self) -> &Path {
        match self {
            Self::Bytes { file, .. }
            | Self::Cut { file, .. }
            | Self::Grown { file, .. }
            | Self::Removed { file, .. } => file,
        }
    }

    fn undo(self) -> anyhow::Result<()> {
        match self {
            Self::Bytes { file, offset, old, new, .. } => {
                let found = read(&file, offset, new.len() as u64)?;
                ensure!(found == new, "{} has changed since", file.display());
                open(&file)?.write_all_at(&old, offset)?;
            }
            Self::Cut { file, new_bytes, cut, .. } => {
                let length = std::fs::metadata(&file)?.len();
                ensure!(length == new_bytes, "{} has changed since", file.display());
                open(&file)?.write_all_at(&cut, new_bytes)?;
            }
            Self::Grown { file, old_bytes, new } => {
                let length = std::fs::metadata(&file)?.len();
                let expected = old_bytes + new.len() as u64;
                ensure!(length == expected, "{} has changed since", file.display());
                open(&file)?.set_len(old_bytes)?;
            }
            Self::Removed { file, kept } => {
                let exists = std::fs::symlink_metadata(&file).is_ok();
                ensure!(!exists, "{} exists again", file.display());
                relocate(&kept, &file)?;
                // Goes with the last thing that was kept in it.
                if let Some(keep) = kept.parent() {
                    let _removed = std::fs::remove_dir(keep);
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        let mut separator = " ";
        for change in &self.changes {
            write!(f, "{separator}{change}")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { file, links, offset, old, new } => {
                let count = new.len();
                write!(f, "{} at {offset}: {count} bytes ", file.display())?;
                write!(f, "{} -> {}{}", hex_start(old), hex_start(new), shared(*links))
            }
            Self::Cut { file, links, old_bytes, new_bytes, .. } => {
                write!(f, "{} cut from {old_bytes} to {new_bytes} bytes", file.display())?;
                write!(f, "{}", shared(*links))
            }
            Self::Grown { file, old_bytes, new } => {
                let count = new.len();
                write!(f, "{} at {old_bytes}: {count} bytes appended ", file.display())?;
                write!(f, "{}", hex_start(new))
            }
            Self::Removed { file, .. } => write!(f, "{} removed", file.display()),
        }
    }
}

fn shared(links: u64) -> String {
    if links > 1 { format!(" (a file of {links} names)") } else { String::new() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_start(bytes: &[u8]) -> String {
    match bytes.split_at_checked(SHOWN_BYTES) {
        Some((start, rest)) if !rest.is_empty() => format!("{}…", hex(start)),
        _ => hex(bytes),
    }
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

/// Makes a seeded subset of the sectors of `bytes` garbage, one at least. `bytes` begin at `offset`
/// of their file.
fn garble(bytes: &mut [u8], offset: u64, random: &mut impl Rng) {
    // A sector that begins before the bytes counts as far as they reach.
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(bytes.len() as u64) as usize;
    let (head, rest) = bytes.split_at_mut(first);
    let mut sectors: Vec<&mut [u8]> = vec![head];
    sectors.extend(rest.chunks_mut(SECTOR_BYTES as usize));
    let certain = random.random_range(0..sectors.len());
    for (number, sector) in sectors.into_iter().enumerate() {
        if number == certain || random.random() {
            let before = sector.to_vec();
            random.fill(&mut *sector);
            // Short ones might by chance be the same.
            if before == *sector {
                sector[0] ^= 1;
            }
        }
    }
}

fn overwrite(file: PathBuf, offset: u64, new: Vec<u8>) -> anyhow::Result<Change> {
    let old = read(&file, offset, new.len() as u64)?;
    open(&file)?.write_all_at(&new, offset)?;
    let links = std::fs::metadata(&file)?.nlink();
    Ok(Change::Bytes { file, links, offset, old, new })
}

fn cut(file: PathBuf, new_bytes: u64) -> anyhow::Result<Change> {
    let metadata = std::fs::metadata(&file)?;
    let (old_bytes, links) = (metadata.len(), metadata.nlink());
    let cut = read(&file, new_bytes, old_bytes - new_bytes)?;
    open(&file)?.set_len(new_bytes)?;
    Ok(Change::Cut { file, links, old_bytes, new_bytes, cut })
}

fn open(file: &Path) -> anyhow::Result<File> {
    let opened = File::options().read(true).write(true).open(file);
    opened.with_context(|| format!("could not open {}", file.display()))
}

fn read(file: &Path, offset: u64, count: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; count.try_into()?];
    open(file)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// One of the files of a kind that are not empty.
fn any(kind: Kind, data: &Path, random: &mut impl Rng) -> anyhow::Result<PathBuf> {
    let mut files = kind.files(data)?;
    files.retain(|file| std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0));
    let chosen = files.choose(random);
    Ok(chosen.with_context(|| format!("no {kind:?} in {}", data.display()))?.clone())
}

fn length_with_frames(segment: &Path) -> anyhow::Result<u64> {
    let length = std::fs::metadata(segment)?.len();
    ensure!(length > SEGMENT_HEADER_BYTES, "{} has no frame", segment.display());
    Ok(length)
}

fn is_table(name: &str) -> bool {
    name.ends_with(".sst")
}

/// Directories of snapshots; not one that is being built.
fn snapshots(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    matching(&data.join("snapshots"), |name| !name.starts_with("building"))
}

fn in_each(
    directories: &[PathBuf],
    files: impl Fn(&Path) -> anyhow::Result<Vec<PathBuf>>,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for directory in directories {
        all.extend(files(directory)?);
    }
    Ok(all)
}

/// What lies in a directory and has such a name, sorted. A directory that does not exist is empty.
fn matching(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let names = names(directory)?.into_iter();
    Ok(names.filter(|name| is_wanted(name)).map(|name| directory.join(name)).collect())
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    let items = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        items => items?,
    };
    for item in items {
        names.push(item?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Moves a file or directory, to another disk if need be.
fn relocate(from: &Path, to: &Path) -> anyhow::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        renamed => return renamed.with_context(|| format!("could not move {}", from.display())),
    }
    if std::fs::symlink_metadata(from)?.is_dir() {
        std::fs::create_dir(to)?;
        for name in names(from)? {
            relocate(&from.join(&name), &to.join(&name))?;
        }
        std::fs::remove_dir(from)?;
    } else {
        std::fs::copy(from, to)?;
        std::fs::remove_file(from)?;
    }
    Ok(())
}
