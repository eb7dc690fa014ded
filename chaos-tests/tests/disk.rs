//! The disks and clocks of the harness fail as they claim to, for real processes and files.
//!
//! The processes are this test binary, started again as [`child`], and `raftmq`. Tests that need
//! root say so loudly where they are skipped, and fail there with `RAFTMQ_STRICT=1`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use raftmq_chaos_tests::cluster::{Cluster, Size};
use raftmq_chaos_tests::disk::damage::{self, Change, Damage, Kind};
use raftmq_chaos_tests::disk::shim::{Clocks, Counters, Settings, Shim, Trigger, WriteError};
use raftmq_chaos_tests::disk::volume::{self, Volume};
use raftmq_chaos_tests::paths;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROLE: &str = "RAFTMQ_DISK_TEST_ROLE";
const RECORD_BYTES: usize = 512;
const VOLUME_BYTES: u64 = 48 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
const DAY_NS: i64 = 86_400_000_000_000;
const SEED: u64 = 7;

// ---- power, space and freezes ----

#[test]
fn a_power_cut_takes_nothing_that_was_synced_and_something_that_was_not() {
    let Some(scratch) = Scratch::with_volumes("disk-power-cut") else { return };
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut volume = Volume::create(&scratch.0, "disk", VOLUME_BYTES).unwrap();
    let (mut acknowledged, mut lost, mut missing_unsynced, mut unsynced) = (0, 0, 0, 0);
    let mut cuts = Vec::new();
    for round in 0..9 {
        let is_synced = round % 3 != 2;
        let file = volume.path().join(format!("records-{round}"));
        let mut appender = Appender::start(&file, is_synced);
        appender.acknowledges(10);
        thread::sleep(Duration::from_millis(random.random_range(0..300)));
        let begin = Instant::now();
        volume.power_cut(&[appender.child.id()]).unwrap();
        let ended = appender.kill();
        volume.remount().unwrap();
        cuts.push(begin.elapsed());
        let kept = intact_records(&file);
        if is_synced {
            acknowledged += ended;
            lost += ended.saturating_sub(kept);
        } else {
            unsynced += ended;
            missing_unsynced += ended.saturating_sub(kept);
        }
    }
    cuts.sort();
    println!(
        "lost {lost} of {acknowledged} synced and {missing_unsynced} of {unsynced} unsynced \
         records; cut, kill and remount: median {:?}, most {:?}",
        cuts[cuts.len() / 2],
        cuts[cuts.len() - 1]
    );
    assert!(acknowledged > 0);
    assert_eq!(lost, 0);
    assert!(missing_unsynced > 0);
    drop(volume);
    scratch.nothing_left();
}

#[test]
fn volumes_lose_power_together() {
    let Some(scratch) = Scratch::with_volumes("disk-cut-together") else { return };
    let mut volumes: Vec<Volume> = (1..=3)
        .map(|node| Volume::create(&scratch.0, &format!("node-{node}"), VOLUME_BYTES).unwrap())
        .collect();
    let appenders: Vec<Appender> =
        volumes.iter().map(|volume| Appender::start(&volume.path().join("r"), true)).collect();
    appenders.iter().for_each(|appender| appender.acknowledges(5));
    let processes: Vec<u32> = appenders.iter().map(|appender| appender.child.id()).collect();
    let took = volume::power_cut(&volumes.iter().collect::<Vec<_>>(), &processes).unwrap();
    println!("three volumes cut within {took:?}");
    assert!(took < Duration::from_secs(5));
    for (volume, mut appender) in volumes.iter_mut().zip(appenders) {
        let late = std::fs::write(volume.path().join("late"), "x").unwrap_err();
        assert_eq!(late.raw_os_error(), Some(5), "EIO, from the file system itself");
        let acknowledged = appender.kill();
        volume.remount().unwrap();
        assert!(intact_records(&volume.path().join("r")) >= acknowledged);
        std::fs::write(volume.path().join("late"), "x").unwrap();
    }
    drop(volumes);
    scratch.nothing_left();
}

#[test]
fn a_clean_remount_keeps_everything() {
    let Some(scratch) = Scratch::with_volumes("disk-remount") else { return };
    let mut volume = Volume::create(&scratch.0, "disk", VOLUME_BYTES).unwrap();
    let file = volume.path().join("unsynced");
    std::fs::write(&file, "kept").unwrap();
    volume.remount().unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    assert!(Volume::create(&scratch.0, "disk", VOLUME_BYTES).is_err(), "the name is taken");
    assert!(volume.path().join("unsynced").exists());
    drop(volume);
    scratch.nothing_left();
}

#[test]
fn a_full_volume_takes_nothing_more_until_space_is_released() {
    let Some(scratch) = Scratch::with_volumes("disk-full") else { return };
    let volume = Volume::create(&scratch.0, "disk", VOLUME_BYTES).unwrap();
    let before = volume.available_bytes().unwrap();
    let left = volume.fill(64 << 10).unwrap();
    assert!((16 << 10..68 << 10).contains(&left), "{left} bytes are left");
    let appender = Appender::start(&volume.path().join("records"), true);
    assert_eq!(appender.error(), Some(28), "ENOSPC");
    let acknowledged = appender.acknowledged();
    assert!(acknowledged * RECORD_BYTES as u64 <= left);
    drop(appender);
    volume.release().unwrap();
    volume.release().unwrap();
    assert!(volume.available_bytes().unwrap() > before / 2);
    let appender = Appender::start(&volume.path().join("more"), true);
    appender.acknowledges(10);
    drop(appender);
    drop(volume);
    scratch.nothing_left();
}

#[test]
fn a_frozen_volume_hangs_until_the_guard_is_dropped() {
    let Some(scratch) = Scratch::with_volumes("disk-frozen") else { return };
    let volume = Volume::create(&scratch.0, "disk", VOLUME_BYTES).unwrap();
    let appender = Appender::start(&volume.path().join("records"), true);
    appender.acknowledges(5);
    let frozen = volume.freeze().unwrap();
    // One write may have passed already whose line is still under way.
    thread::sleep(Duration::from_millis(100));
    let before = appender.acknowledged();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(appender.acknowledged(), before);
    assert!(volume.freeze().is_err() && volume.power_cut(&[]).is_err());
    drop(frozen);
    appender.acknowledges(before + 5);
    volume.freeze().unwrap().thaw().unwrap();

    // The owner goes away first, with a process that hangs.
    let frozen = volume.freeze().unwrap();
    let begin = Instant::now();
    drop(volume);
    drop(appender);
    drop(frozen);
    assert!(begin.elapsed() < PATIENCE);
    scratch.nothing_left();
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next_one() {
    let Some(scratch) = Scratch::with_volumes("disk-leftovers") else { return };
    let mut run = again("abandon", &[scratch.0.as_os_str()]).spawn().unwrap();
    assert!(!run.wait().unwrap().success());
    assert!(scratch.mounts().contains("/orphan"));
    let removed = volume::remove_leftovers(&scratch.0);
    assert!(removed.iter().any(|name| name.starts_with("orphan.")), "{removed:?}");
    scratch.nothing_left();
}

// ---- the shim, in a process of ours ----

#[test]
fn syncs_are_slow_hang_and_fail_below_the_path_only() {
    let scratch = Scratch::new("disk-shim-sync");
    let mut shim = Shim::create().unwrap();
    let mut agent = Agent::start(&shim);
    let inside = scratch.0.join("data/log");
    let outside = scratch.0.join("data-2/log");
    for file in [&inside, &outside] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "x").unwrap();
    }
    let faulty = Settings { path: scratch.0.join("data"), ..Settings::default() };
    let sync = |agent: &mut Agent, file: &Path| agent.ask(&format!("sync {}", file.display()));

    shim.set(&Settings { sync_delay_ms: 400, ..faulty.clone() }).unwrap();
    let begin = Instant::now();
    assert_eq!(sync(&mut agent, &inside), "ok");
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
    assert_eq!(sync(&mut agent, &outside), "ok");
    let counters = shim.counters().unwrap();
    assert_eq!(
        counters,
        Counters { attached: 1, sync_calls: 1, syncs_delayed: 1, ..Counters::default() }
    );

    // A reset ends a delay that has begun.
    shim.set(&Settings { sync_delay_ms: 3_600_000, ..faulty.clone() }).unwrap();
    agent.tell(&format!("sync {}", inside.display()));
    eventually("a delayed sync", || shim.counters().unwrap().syncs_delayed == 2);
    shim.reset().unwrap();
    assert_eq!(agent.answer(), "ok");

    shim.set(&Settings { sync_hang: true, ..faulty.clone() }).unwrap();
    agent.tell(&format!("sync {}", inside.display()));
    eventually("a hanging sync", || shim.counters().unwrap().syncs_hung == 1);
    assert!(agent.answers.recv_timeout(Duration::from_millis(200)).is_err());
    shim.reset().unwrap();
    assert_eq!(agent.answer(), "ok");

    shim.set(&Settings { sync_error: Trigger::FromCall(3), ..faulty.clone() }).unwrap();
    let answers: Vec<String> = (0..4).map(|_| sync(&mut agent, &inside)).collect();
    assert_eq!(answers, ["ok", "ok", "error 5", "error 5"]);
    assert_eq!(sync(&mut agent, &outside), "ok");
    assert_eq!(shim.counters().unwrap().syncs_failed, 2);

    // Chance is a function of the seed.
    let mut draws = Vec::new();
    for seed in [1, 1, 2] {
        let sync_error = Trigger::Chance { per_million: 300_000 };
        shim.set(&Settings { sync_error, seed, ..faulty.clone() }).unwrap();
        draws.push((0..40).map(|_| sync(&mut agent, &inside)).collect::<Vec<_>>());
    }
    assert_eq!(draws[0], draws[1]);
    assert_ne!(draws[0], draws[2]);
    let failed = draws[0].iter().filter(|answer| *answer == "error 5").count();
    assert!((4..=22).contains(&failed), "{failed} of 40 failed, 12 were expected");
}

#[test]
fn writes_and_reads_fail_below_the_path_only() {
    let scratch = Scratch::new("disk-shim-transfer");
    let mut shim = Shim::create().unwrap();
    let mut agent = Agent::start(&shim);
    let (inside, outside) = (scratch.0.join("data"), scratch.0.join("data-2"));
    std::fs::write(&inside, "x").unwrap();
    std::fs::write(&outside, "x").unwrap();
    let mut ask = |verb: &str, file: &Path| agent.ask(&format!("{verb} {}", file.display()));

    for (write_error_kind, code) in [(WriteError::Io, 5), (WriteError::NoSpace, 28)] {
        let path = inside.clone();
        let write_error = Trigger::FromCall(1);
        let settings = Settings { path, write_error, write_error_kind, ..Settings::default() };
        shim.set(&settings).unwrap();
        for verb in ["write", "write-at", "write-vectored"] {
            assert_eq!(ask(verb, &inside), format!("error {code}"), "{verb}");
            assert_eq!(ask(verb, &outside), "ok", "{verb}");
        }
        assert_eq!(ask("read", &inside), "ok");
    }
    let counters = shim.counters().unwrap();
    assert_eq!((counters.write_calls, counters.writes_failed), (6, 6));

    let read_error = Trigger::FromCall(2);
    let path = inside.clone();
    shim.set(&Settings { path, read_error, ..Settings::default() }).unwrap();
    assert_eq!(ask("read-at", &inside), "ok");
    assert_eq!(ask("read", &inside), "error 5");
    assert_eq!(ask("read-at", &inside), "error 5");
    assert_eq!(ask("read-at", &outside), "ok");
    assert_eq!(ask("write", &inside), "ok");
    assert_eq!(shim.counters().unwrap().reads_failed, 2);

    shim.reset().unwrap();
    assert_eq!(ask("read", &inside), "ok");
    // Its own pipes are no files: it could still answer.
    shim.set(&Settings { write_error: Trigger::FromCall(1), ..Settings::default() }).unwrap();
    assert_eq!(ask("write", &outside), "error 5");
}

#[test]
fn a_wall_clock_is_wrong_and_the_monotonic_one_is_not() {
    let mut shim = Shim::create().unwrap();
    let mut agent = Agent::start(&shim);
    assert!(agent.clock_error_ns().abs() < DAY_NS / 86_400);
    for offset_ns in [DAY_NS, -DAY_NS, 0] {
        let before = agent.number("monotonic");
        let clocks = Clocks { realtime_offset_ns: offset_ns, ..Clocks::default() };
        shim.set(&Settings { clocks, ..Settings::default() }).unwrap();
        let error = agent.clock_error_ns() - offset_ns;
        assert!(error.abs() < DAY_NS / 86_400, "off by {error} ns");
        let passed = agent.number("monotonic") - before;
        assert!((0..10_000_000_000).contains(&passed), "{passed} ns passed");
    }
    assert!(shim.counters().unwrap().clock_reads > 0);

    let clocks = Clocks { drift_ppm: 3_000_000, ..Clocks::default() };
    shim.set(&Settings { clocks, ..Settings::default() }).unwrap();
    let begin = Instant::now();
    assert!(agent.wait("tokio", 300).1 >= Duration::from_millis(300));
    let gained = agent.clock_error_ns();
    let most = begin.elapsed().as_nanos() as i64 * 3 + DAY_NS / 86_400;
    assert!((900_000_000..most).contains(&gained), "gained {gained} ns");

    let before = agent.number("monotonic");
    let clocks = Clocks { monotonic_jump_ns: 4_000_000_000, ..Clocks::default() };
    shim.set(&Settings { clocks, ..Settings::default() }).unwrap();
    let passed = agent.number("monotonic") - before;
    assert!((4_000_000_000..14_000_000_000).contains(&passed), "{passed} ns passed");
}

#[test]
fn timers_follow_a_monotonic_clock_that_drifts() {
    let mut shim = Shim::create().unwrap();
    let mut agent = Agent::start(&shim);
    let drift = |shim: &mut Shim, drift_ppm| {
        let clocks = Clocks { drift_ppm, drift_monotonic: true, ..Clocks::default() };
        shim.set(&Settings { clocks, ..Settings::default() }).unwrap();
    };
    for kind in ["tokio", "interval", "sleep", "park", "channel", "condvar"] {
        // Four times as fast: a quarter of the time, and never early by its own clock.
        drift(&mut shim, 3_000_000);
        let (shown, passed) = agent.wait(kind, 2000);
        println!("{kind} of 2 s on a fast clock: showed {shown:?}, took {passed:?}");
        assert!(shown >= Duration::from_secs(2), "{kind}: {shown:?}");
        assert!(passed < Duration::from_millis(1600), "{kind}: {passed:?}");
        // A quarter as fast.
        drift(&mut shim, -750_000);
        let (shown, passed) = agent.wait(kind, 150);
        println!("{kind} of 150 ms on a slow clock: showed {shown:?}, took {passed:?}");
        assert!(shown >= Duration::from_millis(150), "{kind}: {shown:?}");
        assert!(passed >= Duration::from_millis(590), "{kind}: {passed:?}");
    }
    // Through all of this it has never gone back: the process would have said so.
    assert!(shim.counters().unwrap().waits_scaled > 0);
    shim.reset().unwrap();
    let (_, passed) = agent.wait("tokio", 200);
    assert!(passed >= Duration::from_millis(200));
}

#[test]
fn a_process_without_its_control_file_does_not_start() {
    let shim = Shim::create().unwrap();
    let mut command = again("agent", &[]);
    shim.attach(&mut command);
    drop(shim);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(97), "{output:?}");
}

// ---- the shim, in the server's binary ----

#[test]
fn the_binary_feels_slow_and_failing_syncs_and_a_full_disk() {
    // It writes half a gigabyte, of which nothing matters.
    let directory = Scratch::in_memory("disk-shim-binary");
    let mut shim = Shim::create().unwrap();
    let faulty = Settings { path: directory.0.clone(), ..Settings::default() };
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let output = bench_disk(&shim, &directory.0);
    assert!(output.status.success(), "{}", text(&output));
    let before = shim.counters().unwrap();
    assert_eq!(
        before,
        Counters { attached: 1, sync_calls: before.sync_calls, ..Counters::default() }
    );
    let fast_ms = median_ms(&output);

    shim.set(&Settings { sync_delay_ms: 40, ..faulty.clone() }).unwrap();
    let output = bench_disk(&shim, &directory.0);
    assert!(output.status.success(), "{}", text(&output));
    let slow_ms = median_ms(&output);
    println!("median append of raftmq: {fast_ms} ms, {slow_ms} ms with 40 ms for each sync");
    assert!(slow_ms >= 40.0 && slow_ms > fast_ms + 30.0, "{fast_ms} ms and {slow_ms} ms");
    let after = shim.counters().unwrap().since(&before);
    assert!(after.syncs_delayed > 2 && after.syncs_failed == 0, "{after:?}");

    shim.set(&Settings { sync_error: Trigger::FromCall(5), ..faulty.clone() }).unwrap();
    let output = bench_disk(&shim, &directory.0);
    assert!(!output.status.success());
    assert!(text(&output).contains("Input/output error"), "{}", text(&output));
    assert_eq!(shim.counters().unwrap().syncs_failed, 1, "it gave up at the first");

    let (write_error, write_error_kind) = (Trigger::FromCall(3), WriteError::NoSpace);
    shim.set(&Settings { write_error, write_error_kind, ..faulty }).unwrap();
    let output = bench_disk(&shim, &directory.0);
    assert!(!output.status.success());
    assert!(text(&output).contains("No space left"), "{}", text(&output));
    assert_eq!(shim.counters().unwrap().writes_failed, 1);
}

/// Appends and syncs for a moment.
fn bench_disk(shim: &Shim, directory: &Path) -> Output {
    let mut command = Command::new(paths::binary().unwrap());
    command.args(["bench", "disk", "--seconds", "0.3", "--output", "json", "--dir"]).arg(directory);
    shim.attach(&mut command).output().unwrap()
}

fn median_ms(output: &Output) -> f64 {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["p50_us"].as_f64().unwrap_or_else(|| panic!("{report}")) / 1000.0
}

// ---- damage ----

#[test]
fn damage_is_what_it_says_and_can_be_undone() {
    let scratch = Scratch::new("disk-damage");
    let data = scratch.0.join("data");
    made_up_data(&data);
    let before = contents(&data);
    for seed in 0..40 {
        for kind in Kind::ALL {
            undone(&data, &before, seed, |random| damage::flip_bit(&data, kind, random));
            undone(&data, &before, seed, |random| damage::truncate(&data, kind, random));
        }
        undone(&data, &before, seed, |random| damage::torn_tail(&data, random));
        undone(&data, &before, seed, |random| damage::torn_sectors(&data, random));
        undone(&data, &before, seed, |random| damage::torn_write(&data, random));
    }
    let keep = scratch.0.join("kept/data");
    let emptied = damage::empty(&data, &keep).unwrap();
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
    emptied.undo().unwrap();
    assert_eq!(contents(&data), before);
    assert!(!keep.exists());
}

#[test]
fn damage_that_was_repaired_is_not_undone() {
    let scratch = Scratch::new("disk-damage-repaired");
    let data = scratch.0.join("data");
    made_up_data(&data);
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let damage = damage::torn_write(&data, &mut random).unwrap();
    let file = damage.changes[0].file().to_owned();
    File::options().append(true).open(&file).unwrap().write_all(b"new").unwrap();
    let before = contents(&data);
    assert!(damage.undo().is_err());
    assert_eq!(contents(&data), before);
    assert!(damage::flip_bit(&scratch.0.join("nothing"), Kind::Meta, &mut random).is_err());
}

#[test]
fn an_emptied_volume_is_kept_on_another_disk() {
    let Some(scratch) = Scratch::with_volumes("disk-emptied") else { return };
    let volume = Volume::create(&scratch.0, "disk", VOLUME_BYTES).unwrap();
    made_up_data(volume.path());
    let before = contents(volume.path());
    let emptied = damage::empty(volume.path(), &scratch.0.join("kept")).unwrap();
    assert!(contents(volume.path()).is_empty());
    emptied.undo().unwrap();
    assert_eq!(contents(volume.path()), before);
    drop(volume);
    scratch.nothing_left();
}

/// The layout that the damage assumes is the one the server has, and the server makes of a torn
/// write and of a damaged vote what it should.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_survives_a_torn_write_and_refuses_a_damaged_vote() {
    let scratch = Scratch::new("disk-damage-broker");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let size = Size { name_servers: 1, brokers: 1 };
    let mut cluster = Cluster::start(&scratch.0, size).await.unwrap();
    cluster.create(&["topic".to_owned()], &[]).await.unwrap();
    cluster.kill(0).unwrap();
    let data = scratch.0.join("broker-1");
    for kind in [Kind::NewestSegment, Kind::Meta, Kind::Synced, Kind::StateManifest] {
        assert_eq!(kind.files(&data).unwrap().len(), 1, "{kind:?} in {}", data.display());
    }
    println!("{}", damage::torn_write(&data, &mut random).unwrap());
    cluster.restart(0).unwrap();
    cluster.ready(0).await.unwrap();
    cluster.kill(0).unwrap();

    let damage = damage::flip_bit(&data, Kind::Meta, &mut random).unwrap();
    println!("{damage}");
    cluster.restart(0).unwrap();
    let begin = Instant::now();
    let refused = loop {
        match cluster.ensure_alive() {
            Err(error) => break error.to_string(),
            Ok(()) => assert!(begin.elapsed() < PATIENCE, "it runs on a damaged vote"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(refused.contains("meta is corrupt"), "{refused}");
    // Reports that it is down already, as it is.
    let _kept_down = cluster.kill(0);
    damage.undo().unwrap();
    cluster.restart(0).unwrap();
    cluster.ready(0).await.unwrap();
}

/// Files of every kind, of several sectors.
fn made_up_data(data: &Path) {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let names = [
        "volume",
        "log/00000000000000000001.log",
        "log/00000000000000000400.log",
        "log/00000000000000000900.log",
        "log/meta",
        "log/synced",
        "state/000007.sst",
        "state/000008.sst",
        "state/MANIFEST-000005",
        "snapshots/0000000002-00000000000000000300/MANIFEST",
        "snapshots/building-1/MANIFEST",
    ];
    for name in names {
        let file = data.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut bytes = vec![0; random.random_range(3000..20_000)];
        random.fill(&mut bytes[..]);
        std::fs::write(file, bytes).unwrap();
    }
    let tables = data.join("snapshots/0000000002-00000000000000000300/tables");
    std::fs::create_dir_all(&tables).unwrap();
    std::fs::hard_link(data.join("state/000007.sst"), tables.join("000007.sst")).unwrap();
}

/// Does damage, compares it with its report, and undoes it.
fn undone(
    data: &Path,
    before: &[(PathBuf, Vec<u8>)],
    seed: u64,
    mut harm: impl FnMut(&mut ChaCha8Rng) -> anyhow::Result<Damage>,
) {
    let damage = harm(&mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    let after = contents(data);
    let [change] = &damage.changes[..] else { panic!("{damage}") };
    let held = |contents: &[(PathBuf, Vec<u8>)]| {
        contents.iter().find(|(path, _)| path == change.file()).unwrap().1.clone()
    };
    let (was, is) = (held(before), held(&after));
    let mut expected = was.clone();
    let links = match change {
        Change::Bytes { offset, old, new, links, .. } => {
            let range = *offset as usize..*offset as usize + new.len();
            assert_eq!(was[range.clone()], old[..]);
            assert_ne!(old, new);
            if damage.name == "flip_bit" {
                assert_eq!((old.len(), (old[0] ^ new[0]).count_ones()), (1, 1));
            }
            expected[range].copy_from_slice(new);
            *links
        }
        Change::Cut { old_bytes, new_bytes, links, .. } => {
            assert_eq!(was.len() as u64, *old_bytes);
            assert!((1..*old_bytes).contains(new_bytes));
            expected.truncate(*new_bytes as usize);
            *links
        }
        Change::Grown { old_bytes, new, .. } => {
            assert_eq!(was.len() as u64, *old_bytes);
            expected.extend(new);
            1
        }
        Change::Removed { .. } => panic!("{damage}"),
    };
    assert!(expected == is, "{damage}");
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!(changed as u64, links, "{damage}");
    damage.undo().unwrap();
    assert!(contents(data) == before);
    let again = harm(&mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    assert!(contents(data) == after, "the same seed does the same");
    again.undo().unwrap();
}

/// Every file below, sorted.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for item in std::fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

// ---- directories ----

/// A directory that is removed in the end, whatever happened.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(paths::scratch(name).unwrap().canonicalize().unwrap())
    }

    fn in_memory(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        if !memory.is_dir() {
            return Self::new(name);
        }
        let directory = memory.join(format!("raftmq-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    /// `None` where volumes can not be made.
    fn with_volumes(name: &str) -> Option<Self> {
        match volume::supported() {
            Ok(()) => Some(Self::new(name)),
            Err(missing) => {
                let skipped = format!("SKIPPED, proves nothing: {name} needs volumes: {missing}");
                assert!(std::env::var_os("RAFTMQ_STRICT").is_none(), "{skipped}");
                // Past the capture of the test harness.
                let mut stderr = std::io::stderr();
                writeln!(stderr, "{skipped}").unwrap();
                None
            }
        }
    }

    fn mounts(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.0.display().to_string();
        mounts.lines().filter(|line| line.contains(&own)).collect()
    }

    /// No mount, loop device or file of a volume is here any more.
    fn nothing_left(self) {
        assert_eq!(self.mounts(), "");
        // The kernel detaches a device a moment after its last user.
        eventually("the loop devices to go", || {
            let devices = std::fs::read_dir("/sys/block").unwrap();
            let images = devices.filter_map(|device| {
                std::fs::read_to_string(device.unwrap().path().join("loop/backing_file")).ok()
            });
            !images.into_iter().any(|image| Path::new(&image).starts_with(&self.0))
        });
        let left: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|item| item.unwrap()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// ---- processes: this binary again ----

/// A command that runs [`child`] in one of its roles.
fn again(role: &str, arguments: &[&std::ffi::OsStr]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    for (number, argument) in arguments.iter().enumerate() {
        command.env(format!("{ROLE}_{number}"), argument);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Appends records to a file and says after each that it has.
struct Appender {
    child: Child,
    acknowledged: Arc<AtomicU64>,
    /// Set once its output has ended: the error number that ended it, if any.
    ended: Arc<OnceLock<Option<i32>>>,
}

impl Appender {
    fn start(file: &Path, is_synced: bool) -> Self {
        let mode = if is_synced { "synced" } else { "unsynced" };
        let mut child = again("append", &[file.as_os_str(), mode.as_ref()]).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let acknowledged = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(OnceLock::new());
        let (count, end) = (acknowledged.clone(), ended.clone());
        thread::spawn(move || {
            let mut error = None;
            for line in output.lines().map_while(Result::ok) {
                if line == "written" {
                    count.fetch_add(1, Ordering::SeqCst);
                } else if let Some(code) = line.strip_prefix("error ") {
                    error = code.parse().ok();
                }
            }
            end.set(error).unwrap();
        });
        Self { child, acknowledged, ended }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until it has written so many records.
    fn acknowledges(&self, count: u64) {
        eventually(&format!("{count} records"), || self.acknowledged() >= count);
    }

    /// Waits until it ends by itself; the error number that it ended with.
    fn error(&self) -> Option<i32> {
        eventually("an appender to end", || self.ended.get().is_some());
        *self.ended.get().unwrap()
    }

    /// Kills it; how many records it has acknowledged.
    fn kill(&mut self) -> u64 {
        let _killed = self.child.kill();
        self.child.wait().unwrap();
        eventually("the end of its output", || self.ended.get().is_some());
        self.acknowledged()
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// How many records a file begins with. Damaged ones do not count, nor what is behind them.
fn intact_records(file: &Path) -> u64 {
    let bytes = std::fs::read(file).unwrap_or_default();
    let intact = bytes
        .chunks_exact(RECORD_BYTES)
        .zip(0..)
        .take_while(|(record, number)| *record == record_of(*number));
    intact.count() as u64
}

fn record_of(number: u64) -> Vec<u8> {
    (number + 1).to_le_bytes().repeat(RECORD_BYTES / 8)
}

/// Does what it is asked, under a shim.
struct Agent {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Agent {
    fn start(shim: &Shim) -> Self {
        let mut child = shim.attach(&mut again("agent", &[])).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(answer) = line.strip_prefix("> ") {
                    let _asked = sender.send(answer.to_owned());
                }
            }
        });
        let mut agent = Self { child, input, answers };
        assert_eq!(agent.ask("hello"), "ok");
        agent
    }

    fn tell(&mut self, request: &str) {
        writeln!(self.input, "{request}").unwrap();
    }

    fn answer(&mut self) -> String {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }

    fn ask(&mut self, request: &str) -> String {
        self.tell(request);
        self.answer()
    }

    fn number(&mut self, request: &str) -> i64 {
        self.ask(request).parse().unwrap()
    }

    /// By how much its wall clock is ahead.
    fn clock_error_ns(&mut self) -> i64 {
        self.number("realtime") - realtime_ns()
    }

    /// How long a wait was by the clock of the process, and by the real one.
    fn wait(&mut self, kind: &str, ms: u64) -> (Duration, Duration) {
        let begin = Instant::now();
        let shown_ns = self.number(&format!("wait-{kind} {ms}"));
        (Duration::from_nanos(shown_ns as u64), begin.elapsed())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn realtime_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// Not a test: what the processes of these tests do. Nothing, when it is run as a test.
#[test]
fn child() {
    let argument = |number: u32| std::env::var_os(format!("{ROLE}_{number}")).unwrap();
    let role = std::env::var(ROLE);
    if role.is_ok() {
        // Ends the line that the test harness has begun.
        say("");
    }
    match role.as_deref() {
        Ok("append") => append(argument(0).as_ref(), argument(1) == "synced"),
        Ok("agent") => serve(),
        Ok("abandon") => {
            let volume = Volume::create(argument(0).as_ref(), "orphan", VOLUME_BYTES).unwrap();
            std::fs::write(volume.path().join("file"), "x").unwrap();
            // Nothing is dropped, as after a kill.
            std::process::exit(3);
        }
        _ => {}
    }
}

fn append(path: &Path, is_synced: bool) {
    let appended = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if is_synced {
            File::open(path.parent().unwrap())?.sync_all()?;
        }
        for number in 0.. {
            file.write_all(&record_of(number))?;
            if is_synced {
                file.sync_data()?;
            } else {
                // Not faster than the disk, so as not to fill it.
                thread::sleep(Duration::from_millis(1));
            }
            say("written");
        }
        Ok(())
    };
    if let Err(error) = appended() {
        say(&format!("error {}", error.raw_os_error().unwrap()));
    }
}

/// Answers requests from standard input, one a line.
fn serve() {
    // The first reading of the clock: later ones must not be earlier.
    let start = Instant::now();
    let latest = Mutex::new(start);
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let now = Instant::now();
        let mut latest = latest.lock().unwrap();
        assert!(now >= *latest, "the monotonic clock went back");
        *latest = now;
        let done = match verb {
            "hello" => Ok(None),
            "realtime" => Ok(Some(realtime_ns())),
            "monotonic" => Ok(Some(now.duration_since(start).as_nanos() as i64)),
            _ => match verb.strip_prefix("wait-") {
                Some(kind) => Ok(Some(wait(kind, argument.parse().unwrap()))),
                None => touch(verb, argument).map(|()| None),
            },
        };
        say(&match done {
            Ok(None) => "> ok".to_owned(),
            Ok(Some(number)) => format!("> {number}"),
            Err(error) => format!("> error {}", error.raw_os_error().unwrap()),
        });
    }
}

fn touch(verb: &str, path: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    match verb {
        "sync" => file.sync_data(),
        "write" => file.write_all(b"y"),
        "write-at" => file.write_all_at(b"y", 0),
        "write-vectored" => {
            let slices = [std::io::IoSlice::new(b"y"), std::io::IoSlice::new(b"z")];
            file.write_vectored(&slices).map(|_| ())
        }
        "read" => std::io::Read::read_exact(&mut file, &mut byte),
        "read-at" => file.read_exact_at(&mut byte, 0),
        _ => panic!("{verb}?"),
    }
}

/// Waits, and returns for how long by the clock that this process sees, in nanoseconds.
fn wait(kind: &str, ms: u64) -> i64 {
    let limit = Duration::from_millis(ms);
    let begin = Instant::now();
    match kind {
        "tokio" => runtime().block_on(async { tokio::time::sleep(limit).await }),
        "interval" => runtime().block_on(async {
            let mut ticks = tokio::time::interval(limit / 10);
            for _ in 0..=10 {
                ticks.tick().await;
            }
        }),
        "sleep" => thread::sleep(limit),
        "park" => {
            while begin.elapsed() < limit {
                thread::park_timeout(limit - begin.elapsed());
            }
        }
        "channel" => {
            let (_sender, receiver) = mpsc::channel::<()>();
            receiver.recv_timeout(limit).unwrap_err();
        }
        "condvar" => {
            let lock = Mutex::new(());
            let waited =
                std::sync::Condvar::new()
                    .wait_timeout_while(lock.lock().unwrap(), limit, |()| true);
            drop(waited.unwrap());
        }
        _ => panic!("{kind}?"),
    }
    begin.elapsed().as_nanos() as i64
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Writes a line past the capture of the test harness, at once.
fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}
