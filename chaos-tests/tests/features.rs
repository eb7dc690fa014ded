//! What the official clients can do beyond ordinary messages, one test for each client and feature.
//!
//! A client does all its checks in one run, which the first of its tests starts; each test judges
//! one of them. All clients share one broker and a name server, on topics and groups of their own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::{Arguments, Trial};
use raftmq_chaos_tests::cluster::{Cluster, Size};
use raftmq_chaos_tests::driver::{Check, Client};
use raftmq_chaos_tests::features::{self, Feature};
use raftmq_chaos_tests::paths;
use raftmq_chaos_tests::place::Place;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// A client alone needs half a minute.
const LIMIT: Duration = Duration::from_secs(150);
/// Check-backs within seconds, where the defaults are for applications.
const BROKER_OPTIONS: [&str; 3] = [
    "--transaction-timeout-ms=1000",
    "--transaction-check-interval-ms=1000",
    "--transaction-check-max=15",
];

/// What the tests share.
struct Bench {
    runtime: Runtime,
    directory: PathBuf,
    /// Started by the first test that runs, ended after the last.
    cluster: OnceCell<Cluster>,
    runs: HashMap<&'static str, OnceCell<Run>>,
}

/// The checks of a client's run, or why there are none.
type Run = Result<Vec<Check>, String>;

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::from_args();
    // Every client's run waits most of the time.
    arguments.test_threads.get_or_insert(Client::ALL.len());
    let bench = Arc::new(Bench {
        runtime: Runtime::new()?,
        directory: paths::scratch("features")?,
        cluster: OnceCell::new(),
        runs: Client::ALL.iter().map(|client| (client.name(), OnceCell::new())).collect(),
    });
    let mut trials = Vec::new();
    for feature in features::ALL {
        for client in Client::ALL.into_iter().filter(|client| feature.lacks(*client).is_none()) {
            let bench = Arc::clone(&bench);
            let test = move || Ok(bench.runtime.block_on(bench.test(client, feature))?);
            trials.push(Trial::test(format!("{}_{}", client.name(), feature.name), test));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The threads of the tests are over, and with them the other owners.
    drop(Arc::into_inner(bench));
    conclusion.exit()
}

impl Bench {
    async fn test(&self, client: Client, feature: Feature) -> anyhow::Result<()> {
        let cluster = self.cluster().await?;
        let run = self.runs[client.name()].get_or_init(async || {
            let run = self.run(client, cluster).await;
            run.map_err(|error| format!("{error:#}\n{}", cluster.log_tails()))
        });
        let checks = run.await.as_ref().map_err(|error| anyhow::Error::msg(error.clone()))?;
        let check = checks.iter().find(|check| check.name == feature.name);
        let check = check.context("the driver did not check it")?;
        println!("{} {}: {}", client.name(), check.name, check.detail);
        ensure!(check.ok, "{}\nlogs: {}", check.detail, self.directory.display());
        feature.judge_dead_letter(cluster, client).await
    }

    async fn cluster(&self) -> anyhow::Result<&Cluster> {
        let size = Size { name_servers: 1, brokers: 1 };
        let options = BROKER_OPTIONS.map(str::to_owned);
        let place = |name: &str| Place::loopback(&self.directory, name);
        let start = async || Cluster::start_at(&self.directory, size, &options, place).await;
        self.cluster.get_or_try_init(start).await
    }

    async fn run(&self, client: Client, cluster: &Cluster) -> anyhow::Result<Vec<Check>> {
        client.build()?;
        features::run(client, cluster, &self.directory, LIMIT).await
    }
}
