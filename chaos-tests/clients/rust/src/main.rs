//! Command line of the Rust driver: `interop`, `features`, `produce` and `consume`.

mod checks;
mod clients;
mod consume;
mod exchange;
mod features;
mod interop;
mod produce;
mod records;

use clap::Parser;

#[derive(Parser)]
enum Verb {
    /// Checks the API once, one JSON line per check.
    Interop(interop::Options),
    /// Checks message types, filters and retries likewise.
    Features(features::Options),
    /// Sends at a fixed rate and logs every outcome.
    Produce(produce::Options),
    /// Receives, acknowledges and logs until SIGTERM.
    Consume(consume::Options),
}

#[tokio::main]
async fn main() {
    let outcome = match Verb::parse() {
        Verb::Interop(options) => interop::run(options).await,
        Verb::Features(options) => features::run(options).await,
        Verb::Produce(options) => produce::run(options).await,
        Verb::Consume(options) => consume::run(options).await,
    };
    let exit_code = outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        2
    });
    // Not a return: tasks of the client that wait for a dead broker would hold up the runtime.
    std::process::exit(exit_code);
}
