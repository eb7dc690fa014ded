//! What a start makes of the files a crash, or a damaged disk, left behind.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use bytes::Bytes;
use proptest::prelude::*;
use raftmq_raft_store::FlushMode;
use raftmq_raft_store::commit_log::CommitLog;
use raftmq_raft_store::commit_log::LogConfig;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::commit_log::OpenError;
use raftmq_raft_store::commit_log::format;
use raftmq_raft_store::commit_log::format::FrameKind;

fn config(directory: &Path) -> LogConfig {
    LogConfig {
        directory: directory.to_owned(),
        node_id: 1,
        group_hash: 7,
        segment_bytes: 16 << 10,
        flush: FlushMode::Sync,
        on_fatal: Arc::new(|error| panic!("{error}")),
    }
}

fn body(index: u64) -> Vec<u8> {
    vec![index as u8; 200 + (index % 7) as usize * 100]
}

fn entry(index: u64) -> (LogPosition, Bytes) {
    let frame = format::encode_frame(1, index, FrameKind::Normal, &body(index));
    (LogPosition { term: 1, index }, frame)
}

/// Appends `range` and waits until it is durable.
async fn append(log: &CommitLog, range: std::ops::Range<u64>) {
    let (sender, flushed) = mpsc::channel();
    let frames = range.map(entry).collect();
    log.append(frames, move |result| sender.send(result).unwrap()).await.unwrap();
    tokio::task::spawn_blocking(move || flushed.recv().unwrap().unwrap()).await.unwrap();
}

fn assert_holds(log: &CommitLog, range: std::ops::Range<u64>) {
    assert_eq!(log.last().map(|last| last.index + 1), Some(range.end));
    for index in range {
        let frame = log.read(index).unwrap();
        assert_eq!(&frame[format::FRAME_HEADER_BYTES..], &body(index)[..], "entry {index}");
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort();
    paths
}

/// Waits until the writer thread of a dropped log is gone, so that the files are no longer its own.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

async fn written(directory: &Path, count: u64) {
    let log = CommitLog::open(config(directory)).unwrap();
    for start in (0..count).step_by(10) {
        append(&log, start..(start + 10).min(count)).await;
    }
    drop(log);
    settle();
}

#[tokio::test]
async fn a_start_finds_everything_again_over_many_segments() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 300).await;
    assert!(segments(directory.path()).len() > 5);
    let log = CommitLog::open(config(directory.path())).unwrap();
    assert_holds(&log, 0..300);
    append(&log, 300..320).await;
    assert_holds(&log, 0..320);
}

#[tokio::test]
async fn a_torn_tail_that_was_not_acknowledged_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 20).await;
    let path = segments(directory.path()).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let torn = entry(20).1;
    bytes.extend_from_slice(&torn[..torn.len() / 2]);
    std::fs::write(&path, bytes).unwrap();
    let log = CommitLog::open(config(directory.path())).unwrap();
    assert_holds(&log, 0..20);
    append(&log, 20..25).await;
    assert_holds(&log, 0..25);
}

#[tokio::test]
async fn truncation_is_durable_and_appends_go_on_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 200).await;
    let log = CommitLog::open(config(directory.path())).unwrap();
    log.truncate_after(Some(49)).await.unwrap();
    drop(log);
    settle();
    let log = CommitLog::open(config(directory.path())).unwrap();
    assert_holds(&log, 0..50);
    append(&log, 50..60).await;
    assert_holds(&log, 0..60);
}

#[tokio::test]
async fn a_file_of_another_node_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 5).await;
    let other = LogConfig { node_id: 2, ..config(directory.path()) };
    assert!(matches!(CommitLog::open(other), Err(OpenError::Foreign { node_id: 1, .. })));
}

#[tokio::test]
async fn lost_acknowledged_frames_at_the_end_are_corruption_not_a_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 5).await;
    let path = segments(directory.path()).pop().unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length - 10).unwrap();
    assert!(matches!(CommitLog::open(config(directory.path())), Err(OpenError::Corrupt { .. })));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length - 10, "nothing was changed");
}

#[tokio::test]
async fn a_failed_flush_acknowledges_nothing_and_tells_the_fatal_handler() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, fatal) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let log = CommitLog::open(LogConfig {
        on_fatal: Arc::new(move |error| sender.lock().unwrap().send(error.to_string()).unwrap()),
        ..config(directory.path())
    })
    .unwrap();
    append(&log, 0..5).await;
    // A directory in the way of the next segment: its creation fails.
    let big = vec![0; 20 << 10];
    let frame = |index| {
        let bytes = format::encode_frame(1, index, FrameKind::Normal, &big);
        vec![(LogPosition { term: 1, index }, bytes)]
    };
    std::fs::create_dir(directory.path().join("00000000000000000006.log")).unwrap();
    log.append(frame(5), |_| ()).await.unwrap();
    let (sender, outcome) = mpsc::channel();
    log.append(frame(6), move |result| sender.send(result.is_err()).unwrap()).await.unwrap();
    let told =
        tokio::task::spawn_blocking(move || (outcome.recv().unwrap(), fatal.recv().unwrap()));
    let (failed, _reason) = told.await.unwrap();
    assert!(failed);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(log.append(vec![entry(7)], |_| ()).await.is_err(), "nothing is taken afterwards");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any flipped bit is either found (at the start or when the entry is read) or lies where nothing
    /// is stored; a wrong body is never served, and no acknowledged entry silently disappears.
    #[test]
    fn a_flipped_bit_is_never_served(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        runtime.block_on(written(directory.path(), 100));
        let paths = segments(directory.path());
        let path = &paths[which.index(paths.len())];
        let mut bytes = std::fs::read(path).unwrap();
        let bit = place.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(path, bytes).unwrap();
        if let Ok(log) = CommitLog::open(config(directory.path())) {
            prop_assert_eq!(log.last().map(|last| last.index), Some(99));
            for index in 0..100 {
                if let Ok(frame) = log.read(index) {
                    prop_assert_eq!(&frame[format::FRAME_HEADER_BYTES..], &body(index)[..]);
                }
            }
        }
    }
}

/// A reader in the same segment must not take the place where a truncation and new appends are at
/// work for damage: it asked for something else, which stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_does_not_disturb_readers_of_what_stays() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 20).await;
    // Opened anew, so that nothing is read from memory.
    let log = CommitLog::open(config(directory.path())).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let read = {
        let (log, stop) = (log.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(log.read_range(5, 10, 1 << 20).unwrap().len(), 5);
                log.read(9).unwrap();
            }
        }
    };
    let readers: Vec<_> = (0..3).map(|_| std::thread::spawn(read.clone())).collect();
    for _ in 0..100 {
        log.truncate_after(Some(10)).await.unwrap();
        append(&log, 11..20).await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
}

/// A power cut or a failed flush while a segment is made leaves a file of the right length with
/// nothing in it; a header that is damaged later stands before frames.
#[tokio::test]
async fn a_segment_that_was_being_made_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let log = CommitLog::open(config(directory.path())).unwrap();
    append(&log, 0..10).await;
    drop(log);
    let last = segments(directory.path()).pop().unwrap();
    let unborn = directory.path().join(format!("{:020}.log", 10));
    std::fs::write(&unborn, [0; 64]).unwrap();
    let log = CommitLog::open(config(directory.path())).unwrap();
    assert_holds(&log, 0..10);
    assert!(!unborn.exists());
    drop(log);

    let mut bytes = std::fs::read(&last).unwrap();
    bytes[..8].fill(0);
    std::fs::write(&last, bytes).unwrap();
    let refused = CommitLog::open(config(directory.path()));
    assert!(matches!(refused, Err(OpenError::Corrupt { offset: 0, .. })));
}
