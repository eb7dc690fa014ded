//! `raftmq chaos`: hands over to the `chaos` binary, which is installed beside this one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::exit::Failure;

/// Run failure drills against a cluster of real processes (`raftmq chaos --help` tells more).
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct ChaosArgs {
    /// What `chaos` is to do
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

pub fn run(args: ChaosArgs) -> Result<(), Failure> {
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("chaos");
    let program = if beside.exists() { beside } else { PathBuf::from("chaos") };
    // Returns only when it could not be started.
    let error = Command::new(&program).args(args.arguments).env("RAFTMQ_BIN", own).exec();
    Err(Failure::failed(format!(
        "could not start {}: {error}; build it with: cargo build --release -p raftmq-chaos-tests",
        program.display()
    )))
}
