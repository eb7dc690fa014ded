//! What a run found, for people (a table on standard output) and for machines (a JSON file).

use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::checker;
use crate::driver_log::Send;
use crate::paths;

/// One client's sends, in figures.
#[derive(Clone, Debug, Serialize)]
pub struct SendFigures {
    /// Language of the client.
    pub client: String,
    /// Sends begun.
    pub sent: usize,
    /// Of these, acknowledged.
    pub ok: usize,
    /// And failed, after the client's own retries.
    pub failed: usize,
    /// Longest time between two acknowledged ones.
    pub gap_ms_max: u64,
    /// 99th percentile of these times.
    pub gap_ms_p99: u64,
    /// For each kill, the longest such time from then to the next kill, or to the last send.
    pub gap_ms_by_kill: Vec<u64>,
}

impl SendFigures {
    /// Figures of `sends` during which something was killed at `kills_ms`.
    pub fn new(client: &str, sends: &[Send], kills_ms: &[u64]) -> Self {
        let gaps = checker::gaps_ms(sends);
        let ok = sends.iter().filter(|send| send.ok).count();
        let last_ms = sends.iter().map(|send| send.end_ms).max().unwrap_or(0);
        let ends = kills_ms.iter().skip(1).copied().chain([last_ms]);
        let by_kill = kills_ms
            .iter()
            .zip(ends)
            .map(|(kill, next)| checker::longest_gap_ms(sends, *kill, next))
            .collect();
        Self {
            client: client.to_owned(),
            sent: sends.len(),
            ok,
            failed: sends.len() - ok,
            gap_ms_max: gaps.last().copied().unwrap_or(0),
            gap_ms_p99: checker::percentile(&gaps, 99.0),
            gap_ms_by_kill: by_kill,
        }
    }
}

/// The distribution of the gaps that kills caused.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GapDistribution {
    /// How many gaps this is about.
    pub count: usize,
    /// Half of them are not longer.
    pub p50_ms: u64,
    /// Nine of ten are not longer.
    pub p90_ms: u64,
    /// 99 of 100 are not longer.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

impl GapDistribution {
    /// Of these gaps, in any order.
    pub fn new(gaps_ms: impl IntoIterator<Item = u64>) -> Self {
        let mut gaps: Vec<u64> = gaps_ms.into_iter().collect();
        gaps.sort_unstable();
        let at = |percent| checker::percentile(&gaps, percent);
        Self {
            count: gaps.len(),
            p50_ms: at(50.0),
            p90_ms: at(90.0),
            p99_ms: at(99.0),
            max_ms: at(100.0),
        }
    }
}

/// Prints a line. That nobody reads it any more, as in `chaos list | head`, is no failure.
pub fn print_line(line: Arguments<'_>) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// Prints rows as a table; the first row is the head.
pub fn print_table(title: &str, rows: &[Vec<String>]) {
    print_line(format_args!("\n{title}"));
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        print_line(format_args!("  {}", cells.join("  ").trim_end()));
    }
}

/// Writes `results` to `chaos/<name>.json` in the target directory and returns where that is.
pub fn write_json(name: &str, results: &impl Serialize) -> anyhow::Result<PathBuf> {
    let path = paths::target()?.join("chaos").join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_string_pretty(results)?)?;
    Ok(path)
}
