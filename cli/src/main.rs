//! The raftmq binary: servers, operator commands and benchmarks.

mod bench;
mod commands;
mod config;
mod exit;
mod logging;
mod output;
mod progress;
mod quantity;
mod recorder;
mod stop;

use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

use crate::exit::EXIT_CODES;
use crate::exit::Failure;
use crate::logging::LogFormat;
use crate::output::COMMON;

/// RaftMQ: a message broker with one replicated log, for RocketMQ 5 clients.
///
/// Try it:
///   raftmq dev                                  a name server and three brokers on this machine
///   raftmq topic create demo
///   raftmq message send demo 'hello'
///   raftmq group create readers
///   raftmq message receive demo --group readers
///   raftmq cluster status
///
/// Official RocketMQ 5 SDKs connect to 127.0.0.1:8081, with or without TLS.
#[derive(Parser)]
#[command(version, verbatim_doc_comment, after_long_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    /// Log lines on standard error: text or json; RUST_LOG chooses which are written
    #[arg(long, value_enum, default_value_t, global = true, env = "RAFTMQ_LOG_FORMAT",
          value_name = "FORMAT", hide_possible_values = true, help_heading = COMMON)]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

/// What each does is said where its arguments are.
#[derive(Subcommand)]
enum Command {
    Dev(commands::dev::DevArgs),
    Namesrv(commands::namesrv::NamesrvArgs),
    Broker(Box<commands::broker::BrokerArgs>),
    Topic(commands::topic::TopicArgs),
    Group(commands::group::GroupArgs),
    Message(Box<commands::message::MessageArgs>),
    Dlq(commands::dlq::DlqArgs),
    Lite(commands::lite::LiteArgs),
    Transaction(commands::transaction::TransactionArgs),
    Cluster(commands::cluster::ClusterArgs),
    Log(commands::log::LogArgs),
    Chaos(commands::chaos::ChaosArgs),
    Bench(bench::BenchArgs),
    #[cfg(feature = "planted-bugs")]
    PlantedBugs(commands::planted_bugs::PlantedBugsArgs),
}

impl Command {
    fn is_server(&self) -> bool {
        matches!(self, Command::Dev(_) | Command::Namesrv(_) | Command::Broker(_))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.command.is_server() {
        logging::init(cli.log_format, logging::SERVER);
        logging::abort_on_panic();
    } else {
        logging::init(cli.log_format, logging::COMMAND);
    }
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[tokio::main]
async fn run(command: Command) -> Result<(), Failure> {
    #[cfg(feature = "planted-bugs")]
    raftmq_raft_store::planted::active().map_err(Failure::usage)?;
    match command {
        Command::Dev(args) => Box::pin(commands::dev::run(args)).await,
        Command::Namesrv(args) => Box::pin(commands::namesrv::run(args)).await,
        Command::Broker(args) => Box::pin(commands::broker::run(*args)).await,
        Command::Topic(args) => Box::pin(commands::topic::run(args)).await,
        Command::Group(args) => Box::pin(commands::group::run(args)).await,
        Command::Message(args) => Box::pin(commands::message::run(*args)).await,
        Command::Dlq(args) => Box::pin(commands::dlq::run(args)).await,
        Command::Lite(args) => Box::pin(commands::lite::run(args)).await,
        Command::Transaction(args) => Box::pin(commands::transaction::run(args)).await,
        Command::Cluster(args) => Box::pin(commands::cluster::run(args)).await,
        Command::Log(args) => commands::log::run(args),
        Command::Chaos(args) => commands::chaos::run(args),
        Command::Bench(args) => Box::pin(bench::run(args)).await,
        #[cfg(feature = "planted-bugs")]
        Command::PlantedBugs(args) => commands::planted_bugs::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
