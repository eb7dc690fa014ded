//! The official clients against a real cluster: every feature they have, one test for each client.
//!
//! All share one cluster of three brokers and a name server, on topics and groups of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::{Arguments, Trial};
use raftmq_chaos_tests::cluster::{Cluster, Size};
use raftmq_chaos_tests::driver::{Check, Client, Interop};
use raftmq_chaos_tests::{figures, paths};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

/// Messages that each client sends and receives in bulk.
const BULK_COUNT: u32 = 10_000;
/// A client alone needs about a minute.
const LIMIT: Duration = Duration::from_secs(230);
/// More than there are cores: most checks wait for redeliveries most of the time.
const CLIENTS_AT_ONCE: usize = 5;

/// What the tests share.
struct Bench {
    runtime: Runtime,
    directory: PathBuf,
    /// Started by the first test that runs, ended after the last.
    cluster: Mutex<Option<Arc<Cluster>>>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CLIENTS_AT_ONCE);
    let bench = Arc::new(Bench {
        runtime: Runtime::new()?,
        directory: paths::scratch("interop")?,
        cluster: Mutex::default(),
    });
    let trials = Client::ALL.map(|client| {
        let bench = Arc::clone(&bench);
        let name = format!("everything_that_the_{}_client_can_do_works", client.name());
        let test = move || Ok(bench.runtime.block_on(bench.test(client))?);
        Trial::test(name, test)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    drop(bench.cluster.blocking_lock().take());
    conclusion.exit()
}

impl Bench {
    async fn test(&self, client: Client) -> anyhow::Result<()> {
        client.build()?;
        let cluster = self.cluster().await?;
        let interop = Interop::new(client.name());
        cluster.create(&interop.topics(), &interop.groups()).await?;
        let endpoint = cluster.endpoint();
        let run = interop.run(client, &self.directory, &endpoint, BULK_COUNT, LIMIT).await;
        let checks = run.map_err(|error| error.context(cluster.log_tails()))?;
        print(client, &checks);
        let failed: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
        ensure!(failed.is_empty(), "{failed:#?}\nlogs: {}", self.directory.display());
        let bulk = checks.iter().any(|check| check.name == "bulk" && !check.skipped);
        ensure!(bulk, "the check of {BULK_COUNT} messages is missing");
        Ok(())
    }

    async fn cluster(&self) -> anyhow::Result<Arc<Cluster>> {
        let mut shared = self.cluster.lock().await;
        if let Some(cluster) = &*shared {
            return Ok(Arc::clone(cluster));
        }
        let cluster = Arc::new(Cluster::start(&self.directory, Size::default()).await?);
        *shared = Some(Arc::clone(&cluster));
        Ok(cluster)
    }
}

fn print(client: Client, checks: &[Check]) {
    let mut rows = vec![["check", "result", "what was seen"].map(str::to_owned).to_vec()];
    rows.extend(checks.iter().map(|check| {
        let result = match check {
            Check { skipped: true, .. } => "skipped",
            Check { ok: true, .. } => "ok",
            _ => "FAILED",
        };
        vec![check.name.clone(), result.to_owned(), check.detail.clone()]
    }));
    figures::print_table(&format!("{} client", client.name()), &rows);
}
