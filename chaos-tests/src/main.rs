//! `chaos`: failure drills against a cluster of real processes.
//!
//! Exit codes: 0 everything passed, 1 something failed, 2 not known (a fault had no effect, the
//! machine lacks what a drill needs, the harness itself failed).

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = command::Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(command::run(cli)));
    match outcome {
        Ok(verdict) => ExitCode::from(command::exit_code(verdict)),
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}
