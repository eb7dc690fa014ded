//! `chaos`: failure drills against a cluster of real processes.
//!
//! Exit codes: 0 everything passed, 1 something failed, 2 not known (a fault had no effect, the
//! machine lacks what a drill needs, the harness itself failed).

mod command;

use std::process::ExitCode;

use clap::Parser;
use raftmq_chaos_tests::check::Verdict;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let cli = command::Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(until_stopped(cli)));
    match outcome {
        Ok(verdict) => ExitCode::from(command::exit_code(verdict)),
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Ctrl-C and SIGTERM end the run in an orderly way: dropping it ends every process that it started,
/// and takes away networks and file systems.
async fn until_stopped(cli: command::Cli) -> anyhow::Result<Verdict> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = Box::pin(command::run(cli)) => outcome,
        _ = interrupt.recv() => anyhow::bail!("stopped by Ctrl-C"),
        _ = terminate.recv() => anyhow::bail!("stopped by SIGTERM"),
    }
}
