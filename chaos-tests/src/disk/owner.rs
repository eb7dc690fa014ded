//! Names that say which process made a thing, so that a later run can tell leftovers from its
//! neighbours' things.
//!
//! A mark is `<process id>-<start time of the process, in ticks since boot>`: a process id that was
//! taken again does not make a leftover look alive.

use std::path::Path;

use anyhow::Context;

/// Field 22 of `/proc/<pid>/stat` is the start time; this many follow the name of the program.
const START_AFTER_NAME: usize = 19;

/// The mark of this process.
pub(super) fn mark() -> anyhow::Result<String> {
    let pid = std::process::id().to_string();
    let start = start_ticks(&pid).context("could not read when this process started")?;
    Ok(format!("{pid}-{start}"))
}

/// Whether the process with this mark runs. What is not a mark counts as alive: leave it alone.
pub(super) fn is_alive(mark: &str) -> bool {
    match mark.split_once('-') {
        Some((pid, start)) => start_ticks(pid).as_deref() == Some(start),
        None => true,
    }
}

/// The mark in `<anything>.<mark>.<extension>`.
pub(super) fn mark_in<'a>(file_name: &'a str, extension: &str) -> Option<&'a str> {
    let stem = file_name.strip_suffix(extension)?.strip_suffix('.')?;
    let (_, mark) = stem.rsplit_once('.')?;
    let (pid, start) = mark.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(pid) && is_number(start)).then_some(mark)
}

/// Removes files of a directory that carry the mark of a process that is gone; returns their names.
pub(super) fn remove_orphans(directory: &Path, extension: &str) -> Vec<String> {
    let mut removed = Vec::new();
    for item in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        let is_orphan = mark_in(&name, extension).is_some_and(|mark| !is_alive(mark));
        // Another run may have been faster.
        if is_orphan && std::fs::remove_file(item.path()).is_ok() {
            removed.push(name);
        }
    }
    removed
}

/// `None` when no such process runs.
fn start_ticks(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // A process that has ended and that nobody has asked about yet makes nothing any more.
    let has_ended = fields.trim_start().starts_with(['Z', 'X']);
    if has_ended {
        return None;
    }
    fields.split_whitespace().nth(START_AFTER_NAME).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_in_a_name_and_tells_the_living_from_the_dead() {
        let own = mark().unwrap();
        let name = format!("broker-1.{own}.volume");
        assert_eq!(mark_in(&name, "volume"), Some(own.as_str()));
        assert!(is_alive(&own));
        let (pid, _) = own.split_once('-').unwrap();
        assert!(!is_alive(&format!("{pid}-1")), "another process had this id before");
        for foreign in ["a.volume", "a.1.volume", "a.x-1.volume", "a.1-2.control", "1-2.volume"] {
            assert_eq!(mark_in(foreign, "volume"), None, "{foreign}");
        }
    }
}
