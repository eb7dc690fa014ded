//! What commands print: aligned tables for people, one JSON document a line for programs.
//!
//! Not here: errors and logs, which go to standard error (`exit`, `logging`).

use std::fmt;
use std::io;
use std::io::Write;
use std::time::Duration;
use std::time::SystemTime;

use clap::Args;
use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Failure;

/// The heading in `--help` under which stands what many commands have.
pub const COMMON: &str = "Common options";

/// Who reads the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A person.
    #[default]
    Text,
    /// A program: JSON, one document a line.
    Json,
}

/// The option that every command which prints data has.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputArgs {
    /// What to print: text for people, or json with one document a line
    #[arg(long, value_enum, default_value_t, global = true, value_name = "FORMAT",
          hide_possible_values = true, help_heading = COMMON)]
    pub output: Format,
}

impl OutputArgs {
    /// Prints `value` as JSON, or what `text` makes of it.
    pub fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut line = match self.output {
            Format::Json => serde_json::to_string(value).map_err(Failure::failed)?,
            Format::Text => text(value),
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        print(&line)
    }
}

/// Prints text as it is.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `raftmq ... | head`: the reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Rows under headings, each column as wide as its widest cell. A heading that begins with `>`
/// (which is not printed) stands above numbers: the column is aligned to the right.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(headings: [&'static str; N]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.headings.len(), "a cell for each heading");
        self.rows.push(cells.to_vec());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = self.headings.iter().map(|heading| heading.trim_start_matches('>'));
        let headings: Vec<String> = headings.map(str::to_owned).collect();
        let lines = || std::iter::once(&headings).chain(&self.rows);
        let width = |column: usize| {
            lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> =
            (0..headings.len()).map(|column| width(column).unwrap_or_default()).collect();
        for line in lines() {
            let mut text = String::new();
            for ((cell, heading), &width) in line.iter().zip(&self.headings).zip(&widths) {
                let cell = match heading.starts_with('>') {
                    true => format!("{cell:>width$}  "),
                    false => format!("{cell:<width$}  "),
                };
                text.push_str(&cell);
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// `1.5 ms`, `3.0 s`: three digits or so, as read aloud.
pub fn duration(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    match us {
        _ if us < 1e3 => format!("{us:.0} us"),
        _ if us < 1e6 => format!("{:.1} ms", us / 1e3),
        _ if us < 120e6 => format!("{:.1} s", us / 1e6),
        _ if us < 7_200e6 => format!("{:.1} min", us / 60e6),
        _ if us < 172_800e6 => format!("{:.1} h", us / 3_600e6),
        _ => format!("{:.1} d", us / 86_400e6),
    }
}

/// `512 B`, `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    format!("{size:.1} {unit}")
}

/// A point in time as RFC 3339, in UTC.
pub fn time(time: SystemTime) -> String {
    prost_types::Timestamp::from(time).to_string()
}

/// Milliseconds since 1970 as RFC 3339, in UTC.
pub fn time_ms(ms: u64) -> String {
    time(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", ">QUEUES", "NOTE"]);
        table.row(["demo".to_owned(), "8".to_owned(), String::new()]);
        table.row(["a-longer-name".to_owned(), "1024".to_owned(), "x".to_owned()]);
        let expected =
            ["NAME           QUEUES  NOTE", "demo                8", "a-longer-name    1024  x"];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn quantities_are_short() {
        assert_eq!(duration(Duration::from_micros(999)), "999 us");
        assert_eq!(duration(Duration::from_micros(1_500)), "1.5 ms");
        assert_eq!(duration(Duration::from_secs(75)), "75.0 s");
        assert_eq!(duration(Duration::from_secs(72 * 3600)), "3.0 d");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(time_ms(1_609_459_200_000), "2021-01-01T00:00:00Z");
    }
}
