//! Runs the checks in order and prints one JSON line for each.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use crate::checks::{self, Verdict};
use crate::clients::survive;

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    pub endpoint: String,
    #[arg(long)]
    pub topic: String,
    #[arg(long)]
    pub topic2: String,
    #[arg(long)]
    pub group: String,
    #[arg(long)]
    pub group2: String,
    /// Messages of the check `bulk`.
    #[arg(long, default_value_t = 10_000)]
    pub count: usize,
    /// The checks to run, by default all.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(checks::NAMES))]
    only: Vec<String>,
}

pub async fn run(options: Options) -> anyhow::Result<i32> {
    let mut all_ok = true;
    for name in checks::NAMES {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            all_ok &= run_check(name, &options).await;
        }
    }
    Ok(if all_ok { 0 } else { 1 })
}

/// Prints the outcome of one check and returns whether it is ok.
async fn run_check(name: &str, options: &Options) -> bool {
    print_outcome(name, survive(checks::run(name, options)).await)
}

/// Prints the line of a check and returns whether it is ok.
pub fn print_outcome(name: &str, outcome: anyhow::Result<Verdict>) -> bool {
    let line = match &outcome {
        Ok(Verdict::Passed(detail)) => json!({"check": name, "ok": true, "detail": detail}),
        Ok(Verdict::Skipped(reason)) => {
            json!({"check": name, "ok": true, "skipped": true, "detail": reason})
        }
        Err(error) => json!({"check": name, "ok": false, "detail": format!("{error:#}")}),
    };
    println!("{line}");
    outcome.is_ok()
}
