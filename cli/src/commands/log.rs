//! `raftmq log`: look into the commit log of a node that is down.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use raftmq_raft_store::commit_log::format::FrameKind;
use raftmq_raft_store::commit_log::inspect;
use raftmq_raft_store::commit_log::inspect::Inspected;
use serde::Serialize;

use crate::exit::Failure;
use crate::output::OutputArgs;
use crate::output::Table;

const AFTER_HELP: &str = "\
Examples:
  raftmq log inspect --data-dir ./data/node-1
  raftmq log inspect --data-dir ./data/node-1 --output json | tail -3

Exit code 1: a segment ends in bytes that are no entry. At the end of the last segment that is an
unfinished write, which the node cuts off at its start; anywhere else it is damage, and the node
refuses to start.";

/// Look into the commit log of a node that is down.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct LogArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// List every entry with its place and checksum; changes nothing
    Inspect {
        /// The node's data directory
        #[arg(long, value_name = "DIRECTORY")]
        data_dir: PathBuf,
    },
}

#[derive(Serialize)]
struct EntryView {
    index: u64,
    term: u64,
    kind: &'static str,
    body_bytes: u64,
    crc32c: u32,
    file: String,
    offset: u64,
}

#[derive(Serialize)]
struct DamageView {
    file: String,
    offset: u64,
    rest_bytes: u64,
    what: String,
}

#[derive(Serialize)]
struct View {
    entries: Vec<EntryView>,
    damages: Vec<DamageView>,
}

impl From<Inspected> for EntryView {
    fn from(entry: Inspected) -> Self {
        Self {
            index: entry.index,
            term: entry.term,
            kind: match entry.kind {
                FrameKind::Blank => "blank",
                FrameKind::Normal => "commands",
                FrameKind::Membership => "membership",
            },
            body_bytes: entry.body_bytes,
            crc32c: entry.crc32c,
            file: entry.path.display().to_string(),
            offset: entry.offset,
        }
    }
}

pub fn run(args: LogArgs) -> Result<(), Failure> {
    let Verb::Inspect { data_dir } = args.verb;
    let mut entries = Vec::new();
    let damages = inspect::inspect(&data_dir.join("log"), |entry| entries.push(entry.into()))
        .map_err(|error| {
            Failure::failed(format!("could not read the log in {}: {error}", data_dir.display()))
        })?;
    let damages: Vec<_> = damages
        .into_iter()
        .map(|damage| DamageView {
            file: damage.path.display().to_string(),
            offset: damage.offset,
            rest_bytes: damage.rest_bytes,
            what: damage.what,
        })
        .collect();
    let view = View { entries, damages };
    args.output.print(&view, text)?;
    match view.damages.first() {
        None => Ok(()),
        Some(damage) => Err(Failure::failed(format!(
            "{} is no log from offset {} on ({} bytes): {}",
            damage.file, damage.offset, damage.rest_bytes, damage.what
        ))),
    }
}

fn text(view: &View) -> String {
    let mut table = Table::new([">INDEX", ">TERM", "KIND", ">BYTES", "CRC32C", ">OFFSET", "FILE"]);
    for entry in &view.entries {
        table.row([
            entry.index.to_string(),
            entry.term.to_string(),
            entry.kind.to_owned(),
            entry.body_bytes.to_string(),
            format!("{:08x}", entry.crc32c),
            entry.offset.to_string(),
            entry.file.clone(),
        ]);
    }
    match table.is_empty() {
        true => "the log is empty".to_owned(),
        false => table.to_string(),
    }
}
