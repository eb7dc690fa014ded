//! `raftmq bench disk`: what a group commit can hope for.
//!
//! A broker appends to a file and calls fdatasync; nothing it does is faster than that. The file
//! grows, as a log does, so that the file system's own bookkeeping is part of the number.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::histogram;
use super::load::record;
use super::random_body;
use super::report::Percentiles;
use crate::exit::Failure;
use crate::output::OutputArgs;

const APPEND_BYTES: u32 = 4 << 10;
const BLOCK_BYTES: u32 = 1 << 20;
/// Enough to leave the write cache of a small disk.
const SEQUENTIAL_BLOCKS: u32 = 512;
const FILE: &str = "raftmq-bench-disk.tmp";

#[derive(Args)]
pub struct DiskArgs {
    /// Directory on the disk in question; up to 1 GiB is written there and removed
    #[arg(long, default_value = ".")]
    dir: PathBuf,

    /// How long to append and sync
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    append_bytes: u32,
    /// Appends made durable one by one.
    syncs: u64,
    syncs_per_s: f64,
    /// Of one append with fdatasync.
    #[serde(flatten)]
    latency: Percentiles,
    /// Appends of 1 MiB, one fdatasync at the end.
    sequential_mb_per_s: f64,
}

pub async fn run(args: DiskArgs, output: OutputArgs) -> Result<(), Failure> {
    let duration = Duration::try_from_secs_f64(args.seconds).map_err(Failure::usage)?;
    let measured = tokio::task::spawn_blocking(move || measure(&args.dir, duration)).await;
    let report = measured.map_err(Failure::failed)??;
    output.print(&report, |report| {
        format!(
            "append of 4 KiB and fdatasync: {:.0}/s\n  {}\nsequential: {:.0} MB/s",
            report.syncs_per_s,
            report.latency.text(),
            report.sequential_mb_per_s
        )
    })
}

fn measure(dir: &Path, duration: Duration) -> Result<Report, Failure> {
    let path = dir.join(FILE);
    let unusable =
        |error: io::Error| Failure::failed(format!("could not use {}: {error}", path.display()));
    let appends = appends(&path, duration);
    let sequential = appends.and_then(|appends| Ok((appends, sequential(&path)?)));
    // Removed whether or not the disk held out.
    let removed = std::fs::remove_file(&path);
    let ((latencies, elapsed), sequential_mb_per_s) = sequential.map_err(unusable)?;
    removed.map_err(unusable)?;
    Ok(Report {
        bench: "disk",
        append_bytes: APPEND_BYTES,
        syncs: latencies.len(),
        syncs_per_s: (latencies.len() as f64 / elapsed.as_secs_f64()).round(),
        latency: Percentiles::from(&latencies),
        sequential_mb_per_s: sequential_mb_per_s.round(),
    })
}

fn appends(path: &Path, duration: Duration) -> io::Result<(Histogram<u64>, Duration)> {
    let mut file = File::create(path)?;
    let body = random_body(APPEND_BYTES);
    let mut latencies = histogram();
    let started = Instant::now();
    while started.elapsed() < duration || latencies.is_empty() {
        let append = Instant::now();
        file.write_all(&body)?;
        file.sync_data()?;
        record(&mut latencies, append.elapsed());
    }
    Ok((latencies, started.elapsed()))
}

/// Megabytes (10^6 bytes) per second.
fn sequential(path: &Path) -> io::Result<f64> {
    let mut file = File::create(path)?;
    let block = random_body(BLOCK_BYTES);
    let started = Instant::now();
    for _ in 0..SEQUENTIAL_BLOCKS {
        file.write_all(&block)?;
    }
    file.sync_data()?;
    let bytes = f64::from(SEQUENTIAL_BLOCKS) * f64::from(BLOCK_BYTES);
    Ok(bytes / 1e6 / started.elapsed().as_secs_f64())
}
