//! The raftmq binary: servers, operator commands and benchmarks.

mod bench;
mod commands;
mod config;
mod exit;
mod logging;
mod output;
mod quantity;
mod recorder;
mod stop;

use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

use crate::exit::EXIT_CODES;
use crate::exit::Failure;
use crate::logging::LogFormat;

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
    /// How log lines on standard error look; RUST_LOG chooses them
    #[arg(long, value_enum, default_value_t, global = true, env = "RAFTMQ_LOG_FORMAT")]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a name server and a broker group in one process, for development
    Dev(commands::dev::DevArgs),
    /// Run a name server
    Namesrv(commands::namesrv::NamesrvArgs),
    /// Run one node of a broker group
    Broker(Box<commands::broker::BrokerArgs>),
    /// Create, list, describe and delete topics
    Topic(commands::topic::TopicArgs),
    /// Create, list, describe and delete consumer groups
    Group(commands::group::GroupArgs),
    /// Send, receive and look at messages
    Message(commands::message::MessageArgs),
    /// Look at and steer the nodes of a broker group
    Cluster(commands::cluster::ClusterArgs),
    /// Measure a server, or the machine it runs on
    Bench(bench::BenchArgs),
}

impl Command {
    /// Servers say what they do; commands only what is odd.
    fn is_server(&self) -> bool {
        matches!(self, Command::Dev(_) | Command::Namesrv(_) | Command::Broker(_))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::init(cli.log_format, if cli.command.is_server() { "info" } else { "warn" });
    if cli.command.is_server() {
        logging::abort_on_panic();
    }
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[tokio::main]
async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(args) => Box::pin(commands::dev::run(args)).await,
        Command::Namesrv(args) => Box::pin(commands::namesrv::run(args)).await,
        Command::Broker(args) => Box::pin(commands::broker::run(*args)).await,
        Command::Topic(args) => Box::pin(commands::topic::run(args)).await,
        Command::Group(args) => Box::pin(commands::group::run(args)).await,
        Command::Message(args) => Box::pin(commands::message::run(args)).await,
        Command::Cluster(args) => Box::pin(commands::cluster::run(args)).await,
        Command::Bench(args) => Box::pin(bench::run(args)).await,
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
