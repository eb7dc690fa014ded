//! Shows that the harness catches bugs: each planted bug of the product must fail its drill.
//!
//! A checker that passes everything fails here. Needs a `raftmq` with the feature `planted-bugs`,
//! which lists the bugs and the drill that should catch each.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::check::Verdict;
use crate::drill::{self, Options};
use crate::{paths, probe};

/// Tells a process of the product which bug it has.
const VARIABLE: &str = "RAFTMQ_PLANTED_BUG";

/// A bug, as `raftmq planted-bugs` lists it.
#[derive(Clone, Debug, Deserialize)]
struct Bug {
    name: String,
    drill: String,
}

/// What came of one bug.
#[derive(Clone, Debug, Serialize)]
pub struct Caught {
    /// Its name.
    pub bug: String,
    /// The drill.
    pub drill: String,
    /// The checkers that failed. `None`: it was not caught.
    pub caught_by: Option<Vec<String>>,
    /// Seeds that were tried.
    pub attempts: u64,
    /// How long that took.
    pub seconds: u64,
    /// What was found, or why not.
    pub note: String,
}

/// Runs the drill of each bug until it fails, with at most `attempts` seeds, `jobs` bugs at a time.
pub async fn run(
    runs: &Path,
    only: &[String],
    attempts: u64,
    seed: u64,
    jobs: usize,
) -> anyhow::Result<Vec<Caught>> {
    let wanted = |bug: &Bug| only.is_empty() || only.contains(&bug.name);
    stream::iter(bugs()?.into_iter().filter(wanted))
        .map(async |bug| {
            let result = catch(runs, &bug, attempts, seed).await?;
            let verdict = if result.caught_by.is_some() { "caught" } else { "NOT CAUGHT" };
            eprintln!(
                "{:<32} {:<20} {verdict} after {} runs, {} s: {}",
                result.bug, result.drill, result.attempts, result.seconds, result.note
            );
            Ok(result)
        })
        .buffered(jobs)
        .try_collect()
        .await
}

/// Rows for a table.
pub fn table(results: &[Caught]) -> Vec<Vec<String>> {
    let mut rows = vec![["bug", "drill", "caught by", "runs", "s"].map(str::to_owned).to_vec()];
    for result in results {
        let caught_by = result.caught_by.as_ref().map_or("NOTHING".to_owned(), |by| by.join(", "));
        let (attempts, seconds) = (result.attempts.to_string(), result.seconds.to_string());
        rows.push(vec![result.bug.clone(), result.drill.clone(), caught_by, attempts, seconds]);
    }
    rows
}

fn bugs() -> anyhow::Result<Vec<Bug>> {
    let listed =
        Command::new(paths::binary()?).args(["planted-bugs", "--output", "json"]).output()?;
    ensure!(
        listed.status.success(),
        "the raftmq binary has no planted bugs; build one with: \
         cargo build --release -p raftmq --features planted-bugs"
    );
    serde_json::from_slice(&listed.stdout).context("an odd list of planted bugs")
}

async fn catch(runs: &Path, bug: &Bug, attempts: u64, seed: u64) -> anyhow::Result<Caught> {
    let drill = drill::find(&bug.drill)
        .with_context(|| format!("bug {} names the drill {}", bug.name, bug.drill))?;
    let begin = Instant::now();
    let mut result = Caught {
        bug: bug.name.clone(),
        drill: bug.drill.clone(),
        caught_by: None,
        attempts: 0,
        seconds: 0,
        note: "everything passed".to_owned(),
    };
    if let Some(missing) = probe::missing(drill.needs) {
        result.note = format!("this machine lacks {missing}");
        return Ok(result);
    }
    for attempt in 0..attempts {
        result.attempts += 1;
        let name = format!("selftest-{}", bug.name);
        let options = Options {
            seed: seed + attempt,
            directory: drill::directory(runs, &name, seed + attempt),
            environment: vec![(VARIABLE.to_owned(), bug.name.clone())],
            network: None,
        };
        match drill::run(drill, &options).await {
            Ok((run, _)) if run.verdict == Verdict::Fail => {
                let failed = run.findings.iter().filter(|it| it.verdict == Verdict::Fail);
                let failed: Vec<_> = failed.collect();
                let first = failed.first().and_then(|finding| finding.violations.first());
                result.note = first.map_or_else(String::new, |violation| violation.text.clone());
                result.caught_by = Some(failed.iter().map(|it| it.checker.clone()).collect());
                break;
            }
            Ok((run, _)) => result.note = format!("the drill's verdict was {:?}", run.verdict),
            // A cluster that does not even start has been caught too, but by nothing that counts.
            Err(error) => result.note = format!("the drill could not be run: {error:#}"),
        }
    }
    result.seconds = begin.elapsed().as_secs();
    Ok(result)
}
