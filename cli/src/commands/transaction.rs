//! `raftmq transaction`.

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use raftmq_proto::raftmq::ListTransactionsRequest;
use raftmq_proto::raftmq::ListTransactionsResponse;
use raftmq_proto::raftmq::Transaction;
use serde::Serialize;

use super::AdminArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::output::Table;

const AFTER_HELP: &str = "\
Examples:
  raftmq transaction list                  the oldest ones first
  raftmq transaction list --topic orders --output json

The broker asks the producers of the topic again and again, and rolls back after the last check.";

/// Look at transactions that no producer has committed or rolled back.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct TransactionArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Show what hangs, and for how long
    List {
        /// Only those of this topic
        #[arg(long)]
        topic: Option<String>,
        /// How many, 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
}

pub async fn run(args: TransactionArgs) -> Result<(), Failure> {
    let (admin, output) = (args.admin.admin(), args.output);
    match args.verb {
        Verb::List { topic, count } => {
            let request = ListTransactionsRequest { topic: topic.unwrap_or_default(), count };
            let listed =
                admin.call(request, async |mut node, r| node.list_transactions(r).await).await?;
            output.print(&ListView::from(listed), text)
        }
    }
}

#[derive(Serialize)]
struct ListView {
    total_count: u64,
    transactions: Vec<TransactionView>,
}

#[derive(Serialize)]
struct TransactionView {
    topic: String,
    transaction_id: String,
    stored: String,
    pending_ms: u64,
    checks: u32,
    next_check: String,
    born_host: String,
}

impl From<ListTransactionsResponse> for ListView {
    fn from(listed: ListTransactionsResponse) -> Self {
        let transactions = listed.transactions.into_iter().map(TransactionView::from).collect();
        Self { total_count: listed.total_count, transactions }
    }
}

impl From<Transaction> for TransactionView {
    fn from(transaction: Transaction) -> Self {
        Self {
            topic: transaction.topic,
            transaction_id: transaction.transaction_id,
            stored: output::time_ms(transaction.stored_ms),
            pending_ms: transaction.pending_ms,
            checks: transaction.checks,
            next_check: output::time_ms(transaction.next_check_ms),
            born_host: transaction.born_host,
        }
    }
}

fn text(list: &ListView) -> String {
    if list.total_count == 0 {
        return "no transaction is pending".to_owned();
    }
    let mut table =
        Table::new(["TOPIC", "TRANSACTION", ">PENDING", ">CHECKS", "NEXT CHECK", "FROM"]);
    for transaction in &list.transactions {
        table.row([
            transaction.topic.clone(),
            transaction.transaction_id.clone(),
            output::duration(Duration::from_millis(transaction.pending_ms)),
            transaction.checks.to_string(),
            transaction.next_check.clone(),
            transaction.born_host.clone(),
        ]);
    }
    let shown = list.transactions.len() as u64;
    let rest = match list.total_count.saturating_sub(shown) {
        0 => String::new(),
        _ => format!(", the oldest {shown} are shown"),
    };
    format!("{table}\n{} transactions are pending{rest}\n", list.total_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_told_with_how_long() {
        let transaction = Transaction { pending_ms: 90_000, checks: 3, ..Transaction::default() };
        let list = |total_count| {
            let transactions = vec![transaction.clone()];
            text(&ListView::from(ListTransactionsResponse { transactions, total_count }))
        };
        assert!(list(1).contains("90.0 s"), "{}", list(1));
        assert!(list(1).ends_with("\n1 transactions are pending\n"));
        assert!(list(7).ends_with("7 transactions are pending, the oldest 1 are shown\n"));
    }
}
