//! `raftmq planted-bugs`, in builds that have some.

use clap::Args;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::VARIABLE;
use serde::Serialize;

use crate::exit::Failure;
use crate::output::OutputArgs;
use crate::output::Table;

/// List the bugs that RAFTMQ_PLANTED_BUG can turn on in this build.
#[derive(Args)]
pub struct PlantedBugsArgs {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct BugView {
    name: &'static str,
    description: &'static str,
    /// The promise it breaks.
    promise: &'static str,
    /// The drill that must catch it.
    drill: &'static str,
}

pub fn run(args: PlantedBugsArgs) -> Result<(), Failure> {
    let view = |bug: &Bug| BugView {
        name: bug.name(),
        description: bug.description(),
        promise: bug.promise(),
        drill: bug.drill(),
    };
    let bugs: Vec<_> = Bug::ALL.iter().map(view).collect();
    args.output.print(&bugs, |bugs| text(bugs))
}

fn text(bugs: &[BugView]) -> String {
    let mut table = Table::new(["BUG", "DRILL", "WHAT IS WRONG"]);
    for bug in bugs {
        table.row([bug.name, bug.drill, bug.description].map(str::to_owned));
    }
    format!("{table}\nTurn one on with {VARIABLE}=BUG.\n")
}
