//! `raftmq bench store`: the replicated log without the network of clients and without topics.
//!
//! One node, one process: entries go through Raft, the commit log, fdatasync and an `apply` that
//! only counts. What a broker does beside that is the difference to `raftmq bench send`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use raftmq_raft_store::FlushMode;
use raftmq_raft_store::GroupConfig;
use raftmq_raft_store::Leadership;
use raftmq_raft_store::RaftGroup;
use raftmq_raft_store::Reply;
use raftmq_raft_store::apply::Apply;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::state::Batch;
use raftmq_raft_store::state::StateStore;
use serde::Serialize;

use super::load::Plan;
use super::random_body;
use super::report::Percentiles;
use super::report::Throughput;
use crate::exit::Failure;
use crate::output::OutputArgs;

const LEADER_WAIT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct StoreArgs {
    /// Directory on the disk in question; the log is written into a new folder there and removed
    #[arg(long, default_value = ".")]
    dir: PathBuf,

    /// Size of each message
    #[arg(long, default_value_t = 1024, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..=4 << 20))]
    body_bytes: u32,

    /// Messages in one log entry: a broker gathers what waits
    #[arg(long, default_value_t = 85, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    messages_per_entry: u32,

    /// Entries under way at the same time
    #[arg(long, default_value_t = 3, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    concurrency: u32,

    /// How long to measure
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    body_bytes: u32,
    messages_per_entry: u32,
    concurrency: u32,
    #[serde(flatten)]
    throughput: Throughput,
    /// Of an entry, from its proposal until it was applied.
    #[serde(flatten)]
    latency: Percentiles,
}

/// Keeps nothing of what it applies.
struct Counting;

impl Apply for Counting {
    fn apply(
        &mut self,
        _: LogPosition,
        _: &Bytes,
        _: &StateStore,
        batch: Batch,
        write: &mut dyn FnMut(Batch),
    ) -> Reply {
        write(batch);
        Reply(None)
    }

    fn load(&mut self, _: &StateStore) {}
}

pub async fn run(args: StoreArgs, output: OutputArgs) -> Result<(), Failure> {
    let directory = args.dir.join(format!("raftmq-bench-store-{}", std::process::id()));
    let measured = measure(&args, directory.clone()).await;
    // Removed whether or not the disk held out.
    let removed = std::fs::remove_dir_all(&directory);
    let report = measured?;
    removed?;
    output.print(&report, |report| {
        format!("{}  entry: {}", report.throughput.text(), report.latency.text())
    })
}

async fn measure(args: &StoreArgs, directory: PathBuf) -> Result<Report, Failure> {
    let plan = Plan::new(args.concurrency, 0.0, 1.0, args.seconds)?;
    let config = GroupConfig {
        cluster: "bench".to_owned(),
        group: "store".to_owned(),
        node_id: 1,
        directory,
        members: vec![(1, "nobody-asks:0".to_owned())],
        client_address: String::new(),
        flush: FlushMode::Sync,
        segment_bytes: 1 << 30,
        heartbeat: Duration::from_millis(150),
        election: (Duration::from_millis(450), Duration::from_millis(750)),
        on_fatal: Arc::new(|error| {
            raftmq_broker::end_process(&format!("the commit log could not be written: {error}"));
        }),
    };
    let group = RaftGroup::start(config, |_| Box::new(Counting)).await.map_err(Failure::failed)?;
    let mut leadership = group.leadership();
    let leads = leadership.wait_for(|now| matches!(now, Leadership::Local { .. }));
    let led = matches!(tokio::time::timeout(LEADER_WAIT, leads).await, Ok(Ok(_)));
    if !led {
        return Err(Failure::failed("the only node did not become leader"));
    }

    let entry = random_body(args.body_bytes * args.messages_per_entry);
    let (handle, count) = (group.handle(), u64::from(args.messages_per_entry));
    let measured = plan
        .run(move |_| {
            let (handle, entry) = (handle.clone(), entry.clone());
            async move { handle.propose(entry).await.map(|_| count).map_err(|_| "propose") }
        })
        .await;
    group.shutdown().await;
    Ok(Report {
        bench: "store",
        body_bytes: args.body_bytes,
        messages_per_entry: args.messages_per_entry,
        concurrency: args.concurrency,
        throughput: Throughput::new(&measured, measured.messages * u64::from(args.body_bytes)),
        latency: Percentiles::from(&measured.latencies),
    })
}
