//! The checks of message types, filters and retries, all at once: they wait most of the time.
//!
//! Each has a topic and a group of its own, named after it. Clients are not shut down, as in
//! [`checks`](crate::checks).

mod arrivals;
mod dead_letters;
mod delay;
mod fifo;
mod filter;
mod transaction;
mod types;

use anyhow::bail;
use clap::Args;
use clap::builder::PossibleValuesParser;
use futures::future::join_all;

use crate::checks::Verdict;
use crate::clients::survive;
use crate::interop::print_outcome;

/// Absent, as this client has neither push consumer, recall nor priority: the checks of these.
const NAMES: [&str; 10] = [
    "fifo_order_simple",
    "fifo_blocked",
    "delay",
    "transaction",
    "transaction_check",
    "sql_filter_simple",
    "sql_malformed",
    "dead_letter_simple",
    "wrong_type",
    "mixed",
];

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    group: String,
    /// The checks to run, by default all.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(NAMES))]
    only: Vec<String>,
}

/// Where a check takes place.
struct Place {
    endpoint: String,
    topic: String,
    group: String,
}

pub async fn run(options: Options) -> anyhow::Result<i32> {
    let only = &options.only;
    let selected =
        NAMES.into_iter().filter(|name| only.is_empty() || only.iter().any(|it| it == name));
    let outcomes = join_all(selected.map(async |name| {
        let suffix = name.replace('_', "-");
        let place = Place {
            endpoint: options.endpoint.clone(),
            topic: format!("{}-{suffix}", options.topic),
            group: format!("{}-{suffix}", options.group),
        };
        let outcome = tokio::spawn(async move { survive(check(name, &place)).await }).await;
        print_outcome(name, outcome.unwrap_or_else(|ended| Err(ended.into())).map(Verdict::Passed))
    }));
    Ok(if outcomes.await.into_iter().all(|ok| ok) { 0 } else { 1 })
}

async fn check(name: &str, place: &Place) -> anyhow::Result<String> {
    match name {
        "fifo_order_simple" => fifo::order(place).await,
        "fifo_blocked" => fifo::blocked(place).await,
        "delay" => delay::delay(place).await,
        "transaction" => transaction::ended_at_once(place).await,
        "transaction_check" => transaction::asked(place).await,
        "sql_filter_simple" => filter::sql(place).await,
        "sql_malformed" => filter::malformed(place).await,
        "dead_letter_simple" => dead_letters::unacknowledged(place).await,
        "wrong_type" => types::wrong(place).await,
        "mixed" => types::mixed(place).await,
        _ => bail!("no such check"),
    }
}
