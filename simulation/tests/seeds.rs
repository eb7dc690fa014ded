//! Seeds that once failed, and proof that a seed is a run.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::process::Command;

fn sim(arguments: &[&str]) -> (bool, String) {
    let directory = std::env::temp_dir().join("raftmq-sim-tests");
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(arguments)
        .arg("--directory")
        .arg(directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Without this nothing else here means anything.
#[test]
fn a_seed_run_twice_is_the_same_run() {
    let (same, text) = sim(&["twice", "--seeds", "1..6"]);
    assert!(same, "{text}");
}

#[test]
fn seeds_that_once_failed_pass() {
    let list = include_str!("../seeds.txt");
    let seeds: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split('#').next())
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .collect();
    let (passed, text) = sim(&["run", "--seeds", &seeds.join(",")]);
    assert!(passed, "{text}");
}

#[test]
fn a_planted_bug_is_found() {
    let (found, text) = sim(&["selftest", "--bug", "skip-vote-fsync"]);
    assert!(found, "{text}");
}
