//! `raftmq dlq`: messages that consumer groups gave up on.

mod peek;
mod sweep;

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use raftmq::client::Admin;
use raftmq_proto::names;
use raftmq_proto::raftmq::DeadLetterQueueStatus;
use raftmq_proto::raftmq::DeadLettersRequest;
use raftmq_proto::raftmq::ListDeadLettersRequest;
use serde::Serialize;

use super::AdminArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::output::Table;

const AFTER_HELP: &str = "\
Examples:
  raftmq dlq list
  raftmq dlq peek readers --count 3
  raftmq dlq redrive readers                      how many would go back
  raftmq dlq redrive readers --rate 100/s --execute
  raftmq dlq purge readers --topic orders --filter 'stale' --execute

Consumers receive dead letters like other messages, from the topic %DLQ%<group>.";

/// Look at dead letters, send them back, remove them.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct DlqArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// List the groups that have dead letters
    List,
    /// Show dead letters of a group
    Peek(peek::PeekArgs),
    /// Send dead letters back to their topics, as new messages for all groups; says what would
    /// happen unless --execute is given
    Redrive(sweep::SweepArgs),
    /// Remove dead letters for good; says what would happen unless --execute is given
    Purge(sweep::SweepArgs),
}

pub async fn run(args: DlqArgs) -> Result<(), Failure> {
    let (admin, output) = (args.admin.admin(), args.output);
    match args.verb {
        Verb::List => {
            let request = ListDeadLettersRequest {};
            let listed =
                admin.call(request, async |mut node, r| node.list_dead_letters(r).await).await?;
            let queues: Vec<_> = listed.queues.into_iter().map(QueueView::from).collect();
            output.print(&queues, |queues| list_text(queues))
        }
        Verb::Peek(peek) => peek::run(peek, &admin, output).await,
        Verb::Redrive(redrive) => sweep::run(sweep::Verb::Redrive, redrive, &admin, output).await,
        Verb::Purge(purge) => sweep::run(sweep::Verb::Purge, purge, &admin, output).await,
    }
}

/// The topic that holds the dead letters of a group.
fn topic_of(group: &str) -> String {
    format!("{}{group}", names::DEAD_LETTER_PREFIX)
}

/// There is no topic with dead letters: tells a group that never had any from one that does not
/// exist, as the server does.
async fn check_group(admin: &Admin, group: &str) -> Result<(), Failure> {
    let request =
        DeadLettersRequest { group: group.to_owned(), dry_run: true, ..Default::default() };
    admin.call(request, async |mut node, r| node.purge_dead_letters(r).await).await?;
    Ok(())
}

#[derive(Serialize)]
struct QueueView {
    group: String,
    topic: String,
    count: u64,
    oldest: String,
    newest: String,
}

impl From<DeadLetterQueueStatus> for QueueView {
    fn from(queue: DeadLetterQueueStatus) -> Self {
        Self {
            group: queue.group,
            topic: queue.topic,
            count: queue.count,
            oldest: output::time_ms(queue.oldest_stored_ms),
            newest: output::time_ms(queue.newest_stored_ms),
        }
    }
}

fn list_text(queues: &[QueueView]) -> String {
    let mut table = Table::new(["GROUP", ">DEAD LETTERS", "OLDEST", "NEWEST"]);
    for queue in queues {
        table.row([
            queue.group.clone(),
            queue.count.to_string(),
            queue.oldest.clone(),
            queue.newest.clone(),
        ]);
    }
    match table.is_empty() {
        true => "no group has dead letters".to_owned(),
        false => table.to_string(),
    }
}

/// How long ago something was, by the clock of this machine.
fn age(time: std::time::SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}
