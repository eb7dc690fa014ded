//! A disk that loses what was not flushed.
//!
//! Each file has the bytes that readers see and the bytes on the platter; `fdatasync` makes them
//! equal. Changes of directories stand in a journal until a directory is flushed; the journal is kept
//! in order, as ext4 and XFS do. At a crash chance decides how much of the journal and which sectors
//! of the unflushed bytes got there, torn writes included. What a file gained is kept from its front
//! (those file systems move the size on as data arrives), unless the disk was told otherwise.
//!
//! Each change is counted, and a crash can be asked for at the n-th: between any two system calls.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::Component;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::Process;
use super::draw;
use super::trace;
use crate::commit_log::VoteRecord;
use crate::commit_log::format;
use crate::commit_log::segment;

/// What a failed flush says.
pub const FAILED_FLUSH: &str = "simulated failure of a flush";
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A disk. It outlives the processes that use it.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    root: Directory,
    journal: Vec<Vec<Change>>,
    faults: Faults,
    promise: Option<VoteRecord>,
    changes: u64,
}

/// What goes wrong next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The process dies instead of making this change, counted from the next one, which is 1.
    pub crash_at_change: Option<u64>,
    /// This flush fails, counted from the next one.
    pub fail_flush: Option<u64>,
    /// Time of a flush in microseconds: shortest, longest.
    pub flush_us: (u64, u64),
    /// No flush ends.
    pub hangs: bool,
    /// Of what a file gained, any sector may be missing after a crash, not only the last ones.
    pub holes: bool,
}

type Directory = Arc<Mutex<Entries>>;

#[derive(Default)]
pub(super) struct Entries {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

#[derive(Clone)]
pub(super) enum Node {
    File(Arc<Mutex<Content>>),
    Directory(Directory),
}

/// A file.
#[derive(Default)]
pub(super) struct Content {
    pub(super) data: Vec<u8>,
    synced: Vec<u8>,
    dirty: BTreeSet<usize>,
    pub(super) modified: Option<SystemTime>,
}

/// One name that changes.
struct Change {
    directory: Directory,
    name: String,
    to: Option<Node>,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn gone() -> io::Error {
    io::Error::other("the simulated process is dead")
}

impl Disk {
    /// Changes what goes wrong next.
    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.lock().faults);
    }

    /// What it is about to do wrong.
    pub fn faults(&self) -> Faults {
        self.0.lock().faults
    }

    /// Changes made so far.
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// The power goes: what was not flushed is lost or kept, as chance has it. Without `power_lost`
    /// only the process ended, and the system keeps everything.
    pub fn crash(&self, power_lost: bool) {
        let mut state = self.0.lock();
        state.faults.crash_at_change = None;
        state.faults.fail_flush = None;
        state.faults.hangs = false;
        if !power_lost {
            return;
        }
        let holes = state.faults.holes;
        let journal = std::mem::take(&mut state.journal);
        let kept = match draw().between(0, 3) {
            0 => 0,
            1 => journal.len(),
            _ => draw().between(0, journal.len() as u64) as usize,
        };
        let lost = journal.len() - kept;
        journal.into_iter().take(kept).for_each(commit);
        let mut counts = (0, 0);
        settle(&state.root, holes, &mut counts);
        trace::note(format_args!(
            "power cut: {lost} names, {} files with unflushed bytes, {} of them kept in part",
            counts.0, counts.1
        ));
    }

    /// Everything is lost, promises too.
    pub fn wipe(&self) {
        let mut state = self.0.lock();
        let faults = state.faults;
        *state = State { faults, ..State::default() };
    }

    /// Whether the entry `index` of `term` would survive a power cut now.
    pub fn holds(&self, term: u64, index: u64) -> bool {
        let state = self.0.lock();
        let Some(Node::Directory(directory)) = state.root.lock().durable.get("log").cloned() else {
            return false;
        };
        let directory = directory.lock();
        // Segments are called after their first index, with as many digits each.
        let behind = segment::file_name(index + 1);
        let found = directory.durable.range(..behind).rev().find_map(|(name, node)| match node {
            Node::File(file) if name.ends_with(".log") => Some(file),
            _ => None,
        });
        let mut holds = false;
        if let Some(file) = found {
            walk(&file.lock().synced, |_, _, found_term, found| {
                holds |= (found_term, found) == (term, index);
            });
        }
        holds
    }

    /// Terms by index of all entries that would survive a power cut now.
    pub fn durable_log(&self) -> BTreeMap<u64, u64> {
        let state = self.0.lock();
        let mut log = BTreeMap::new();
        let Some(Node::Directory(directory)) = state.root.lock().durable.get("log").cloned() else {
            return log;
        };
        for (name, node) in &directory.lock().durable {
            if let (Node::File(file), true) = (node, name.ends_with(".log")) {
                frames(&file.lock().synced, &mut log);
            }
        }
        log
    }

    /// Flips a bit somewhere in the middle of the durable entries of the newest segment, and tells
    /// the index of the damaged entry.
    pub fn damage_log(&self) -> Option<u64> {
        let state = self.0.lock();
        let Some(Node::Directory(directory)) = state.root.lock().live.get("log").cloned() else {
            return None;
        };
        let (_, file) = directory.lock().live.iter().rev().find_map(|(name, node)| match node {
            Node::File(file) if name.ends_with(".log") => Some((name.clone(), file.clone())),
            _ => None,
        })?;
        let mut file = file.lock();
        let mut places = Vec::new();
        walk(&file.synced, |offset, length, _, index| places.push((offset, length, index)));
        // Not the last ones: something acknowledged must follow.
        let (offset, length, index) = *places.get(places.len().checked_sub(4)?)?;
        let at = offset + length - 1;
        if file.dirty.iter().any(|sector| sector * SECTOR_BYTES <= at) {
            return None;
        }
        file.synced[at] ^= 0x10;
        file.data[at] ^= 0x10;
        trace::note(format_args!("a bit of entry {index} is flipped on a disk"));
        Some(index)
    }

    /// The highest vote that the node made durable, as far as it knew.
    pub fn promised(&self) -> Option<VoteRecord> {
        self.0.lock().promise
    }

    pub(super) fn promise(&self, node_id: u64, vote: &VoteRecord) {
        let mut state = self.0.lock();
        if let Some(before) = state.promise {
            // Whoever stood for election itself follows another one that was elected in that term.
            let twice = before.term == vote.term
                && before.node_id != vote.node_id
                && (before.committed || !vote.committed);
            if twice || before.term > vote.term {
                trace::violation(format_args!(
                    "node {node_id} promised {before:?} and then {vote:?}"
                ));
            }
        }
        state.promise = Some(*vote);
    }

    /// How long the next flush takes.
    pub(super) async fn take_its_time(&self) {
        let (low, high) = self.0.lock().faults.flush_us;
        if high > 0 {
            tokio::time::sleep(draw().micros(low, high)).await;
        }
        while self.0.lock().faults.hangs {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Counts a change of `process`, which may be its last.
    fn change(&self, process: &Process) -> io::Result<()> {
        if process.is_dead() {
            return Err(gone());
        }
        let dies = {
            let mut state = self.0.lock();
            state.changes += 1;
            count_down(&mut state.faults.crash_at_change)
        };
        if dies {
            process.kill("crash at a change of its disk");
            return Err(gone());
        }
        Ok(())
    }

    fn parent(&self, path: &Path) -> io::Result<(Directory, String)> {
        let name = path.file_name().ok_or_else(not_found)?.to_string_lossy().into_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        match self.find(parent)? {
            Node::Directory(directory) => Ok((directory, name)),
            Node::File(_) => Err(not_found()),
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Directory(self.0.lock().root.clone());
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let Node::Directory(directory) = node else { return Err(not_found()) };
            let found = directory.lock().live.get(&*name.to_string_lossy()).cloned();
            node = found.ok_or_else(not_found)?;
        }
        Ok(node)
    }

    fn set(&self, changes: Vec<Change>) {
        for change in &changes {
            let live = &mut change.directory.lock().live;
            match &change.to {
                Some(node) => live.insert(change.name.clone(), node.clone()),
                None => live.remove(&change.name),
            };
        }
        self.0.lock().journal.push(changes);
    }

    pub(super) fn put(&self, process: &Process, path: &Path, node: Node) -> io::Result<()> {
        self.change(process)?;
        trace::note(format_args!("{process:?} makes {}", path.display()));
        let (directory, name) = self.parent(path)?;
        self.set(vec![Change { directory, name, to: Some(node) }]);
        Ok(())
    }

    pub(super) fn remove(&self, process: &Process, path: &Path) -> io::Result<()> {
        self.change(process)?;
        trace::note(format_args!("{process:?} removes {}", path.display()));
        self.find(path)?;
        let (directory, name) = self.parent(path)?;
        self.set(vec![Change { directory, name, to: None }]);
        Ok(())
    }

    pub(super) fn rename(&self, process: &Process, from: &Path, to: &Path) -> io::Result<()> {
        self.change(process)?;
        trace::note(format_args!("{process:?} renames {} to {}", from.display(), to.display()));
        let node = self.find(from)?;
        let (old, old_name) = self.parent(from)?;
        let (new, new_name) = self.parent(to)?;
        self.set(vec![
            Change { directory: old, name: old_name, to: None },
            Change { directory: new, name: new_name, to: Some(node) },
        ]);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        match self.find(path)? {
            Node::Directory(directory) => Ok(directory.lock().live.keys().cloned().collect()),
            Node::File(_) => Err(not_found()),
        }
    }

    pub(super) fn write_at(
        &self,
        process: &Process,
        file: &Mutex<Content>,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        self.change(process)?;
        let mut file = file.lock();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if file.data.len() < end {
            file.data.resize(end, 0);
        }
        file.data[start..end].copy_from_slice(bytes);
        file.touch(start, end);
        Ok(())
    }

    pub(super) fn set_len(
        &self,
        process: &Process,
        file: &Mutex<Content>,
        length: u64,
    ) -> io::Result<()> {
        self.change(process)?;
        let mut file = file.lock();
        let (before, length) = (file.data.len(), length as usize);
        file.data.resize(length, 0);
        file.touch(before.min(length), length);
        Ok(())
    }

    /// `fdatasync` or `fsync` of a file or directory.
    pub(super) fn flush(&self, process: &Process, node: &Node) -> io::Result<()> {
        self.change(process)?;
        match node {
            Node::File(file) => {
                let fails = count_down(&mut self.0.lock().faults.fail_flush);
                let mut file = file.lock();
                if fails {
                    // As the kernel does: the pages count as clean from here on.
                    file.dirty.clear();
                    trace::note(format_args!("{process:?} has a failed flush"));
                    return Err(io::Error::other(FAILED_FLUSH));
                }
                file.flush();
            }
            Node::Directory(directory) => {
                let mut state = self.0.lock();
                let touches = |changes: &Vec<Change>| {
                    changes.iter().any(|change| Arc::ptr_eq(&change.directory, directory))
                };
                let through = state.journal.iter().rposition(touches).map_or(0, |at| at + 1);
                state.journal.drain(..through).for_each(commit);
            }
        }
        Ok(())
    }
}

impl Node {
    pub(super) fn new_file() -> Self {
        Self::File(Arc::default())
    }

    pub(super) fn new_directory() -> Self {
        Self::Directory(Arc::default())
    }
}

impl Content {
    fn touch(&mut self, start: usize, end: usize) {
        self.dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        self.modified = Some(super::time::wall());
    }

    fn flush(&mut self) {
        self.synced.resize(self.data.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(&mut self.synced, &self.data, sector);
        }
    }

    /// What is left after a power cut.
    fn settle(&mut self, holes: bool, counts: &mut (u64, u64)) {
        if self.synced == self.data {
            self.dirty.clear();
            return;
        }
        counts.0 += 1;
        match draw().between(0, 3) {
            0 => (),
            1 => {
                counts.1 += 1;
                self.flush();
            }
            _ => {
                counts.1 += 1;
                self.settle_in_part(holes);
            }
        }
        self.data.clone_from(&self.synced);
        self.dirty.clear();
    }

    fn settle_in_part(&mut self, holes: bool) {
        let (old, new) = (self.synced.len(), self.data.len());
        if new > old {
            let mut end = draw().between(old as u64, new as u64) as usize;
            if draw().once_in(2) {
                end = (end.next_multiple_of(SECTOR_BYTES)).min(new);
            }
            self.synced.extend_from_slice(&self.data[old..end]);
            if holes {
                for sector in old.div_ceil(SECTOR_BYTES)..end / SECTOR_BYTES {
                    if draw().once_in(2) {
                        let start = sector * SECTOR_BYTES;
                        self.synced[start..start + SECTOR_BYTES].fill(0);
                    }
                }
            }
        } else if draw().once_in(2) {
            self.synced.truncate(new);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if sector * SECTOR_BYTES < old && draw().once_in(2) {
                let end = old.min(self.data.len()).min(self.synced.len());
                let (start, end) = (sector * SECTOR_BYTES, end.min((sector + 1) * SECTOR_BYTES));
                if start < end {
                    self.synced[start..end].copy_from_slice(&self.data[start..end]);
                }
            }
        }
    }
}

fn copy_sector(to: &mut [u8], from: &[u8], sector: usize) {
    let (start, end) = (sector * SECTOR_BYTES, ((sector + 1) * SECTOR_BYTES).min(from.len()));
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

fn commit(changes: Vec<Change>) {
    for change in changes {
        let durable = &mut change.directory.lock().durable;
        match change.to {
            Some(node) => durable.insert(change.name, node),
            None => durable.remove(&change.name),
        };
    }
}

fn settle(directory: &Directory, holes: bool, counts: &mut (u64, u64)) {
    let nodes: Vec<Node> = {
        let mut entries = directory.lock();
        entries.live = entries.durable.clone();
        entries.live.values().cloned().collect()
    };
    for node in nodes {
        match node {
            Node::File(file) => file.lock().settle(holes, counts),
            Node::Directory(directory) => settle(&directory, holes, counts),
        }
    }
}

fn count_down(fault: &mut Option<u64>) -> bool {
    match fault {
        Some(0 | 1) => {
            *fault = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

/// Calls `visit` with offset, length, term and index of each whole frame of a segment.
fn walk(segment: &[u8], mut visit: impl FnMut(usize, usize, u64, u64)) {
    let mut offset = format::SEGMENT_HEADER_BYTES as usize;
    while let Some(rest) = segment.get(offset..).filter(|rest| !rest.is_empty()) {
        let Ok(length) = format::frame_length(rest) else { return };
        let Some(frame) = rest.get(..length) else { return };
        let (term, index) = format::frame_position(frame);
        visit(offset, length, term, index);
        offset += length;
    }
}

fn frames(segment: &[u8], log: &mut BTreeMap<u64, u64>) {
    walk(segment, |_, _, term, index| {
        log.insert(index, term);
    });
}
