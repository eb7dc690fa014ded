//! `raftmq message`: the path of a client, made visible.

mod find;
mod history;
mod peek;
mod pull;
mod recall;
mod receive;
mod send;

use clap::Args;
use clap::Subcommand;

use crate::exit::Failure;
use crate::output::OutputArgs;

const AFTER_HELP: &str = "\
Examples:
  raftmq message send demo 'hello' --tag greeting --property lang=en
  raftmq message send demo - < file              the body comes from standard input
  raftmq message send reminders 'now' --delay 90s    prints a recall handle
  raftmq message recall reminders HANDLE
  raftmq message receive demo --group readers --count 10 --wait 20s
  raftmq message receive demo --group readers --filter 'greeting || farewell' --no-ack
  raftmq message pull demo --group readers --queue 0 --offset 100
  raftmq message peek demo --count 3             look without consuming
  raftmq message find demo --id ID --history     where it is, and what happened to it
  raftmq message find demo --key order-17
  raftmq message find demo --from 2026-01-31T10:00:00Z --to 2026-01-31T10:05:00Z";

/// Send, receive and look at messages.
///
/// send, recall, receive and pull go the way of an official client: they ask --endpoint for the route of the
/// topic and then talk to the brokers in it. peek and find ask an admin port.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct MessageArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Send a message and show where it was stored
    Send(send::SendArgs),
    /// Take a delayed message back before it is received
    Recall(recall::RecallArgs),
    /// Receive messages for a consumer group and acknowledge them
    Receive(receive::ReceiveArgs),
    /// Read a queue from an offset, as a consumer does that keeps its offsets itself
    Pull(pull::PullArgs),
    /// Show stored messages without consuming them
    Peek(peek::PeekArgs),
    /// Find messages by id, key or time, and what happened to them
    Find(find::FindArgs),
}

pub async fn run(args: MessageArgs) -> Result<(), Failure> {
    match args.verb {
        Verb::Send(send) => send::run(send, args.output).await,
        Verb::Recall(recall) => recall::run(recall, args.output).await,
        Verb::Receive(receive) => receive::run(receive, args.output).await,
        Verb::Pull(pull) => pull::run(pull, args.output).await,
        Verb::Peek(peek) => peek::run(peek, args.output).await,
        Verb::Find(find) => find::run(find, args.output).await,
    }
}
