//! `raftmq group`.

mod create;
mod describe;
mod reset;

use clap::Args;
use clap::Subcommand;
use raftmq_proto::raftmq::ConsumerGroup;
use raftmq_proto::raftmq::DeleteGroupRequest;
use raftmq_proto::raftmq::ListGroupsRequest;
use raftmq_proto::raftmq::Start;
use raftmq_proto::raftmq::UpdateGroupRequest;
use raftmq_proto::raftmq::start::Kind;
use serde::Serialize;

use self::create::BackoffView;
use super::AdminArgs;
use super::ReadArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::output::Table;

const AFTER_HELP: &str = "\
Examples:
  raftmq group create readers --max-attempts 5 --backoff 1s,5s,30s
  raftmq group create billing --fifo --start last
  raftmq group update readers --receive-rate 500   messages a second; 0 is no limit
  raftmq group describe readers     how far it is in each queue, and who consumes
  raftmq group reset-offset readers --topic orders --to 2026-01-31T10:00:00Z
  raftmq group list --output json";

/// Create, change, list, describe, rewind and delete consumer groups.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct GroupArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a consumer group
    Create(create::CreateArgs),
    /// Change the limit of a consumer group
    Update {
        /// The consumer group
        name: String,
        /// Messages that its members may receive each second, all together; 0 is no limit
        #[arg(long, value_name = "COUNT")]
        receive_rate: u32,
    },
    /// List all consumer groups
    List {
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Show how far a group is in each queue, and its clients
    Describe {
        /// The consumer group
        name: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Let a group consume again, or pass over; says what would happen unless --execute is given
    ResetOffset(reset::ResetArgs),
    /// Delete a consumer group and its progress
    Delete {
        /// The consumer group
        name: String,
    },
}

pub async fn run(args: GroupArgs) -> Result<(), Failure> {
    let (admin, output) = (args.admin.admin(), args.output);
    match args.verb {
        Verb::Create(create) => create::run(create, &admin, output).await,
        Verb::Update { name, receive_rate } => {
            let request = UpdateGroupRequest { name, receive_rate_max: receive_rate };
            let group = admin.call(request, async |mut node, r| node.update_group(r).await).await?;
            output.print(&GroupView::from(group), |group| {
                format!("consumer group {} now receives {}", group.name, group.receive_rate())
            })
        }
        Verb::List { read } => {
            let request = ListGroupsRequest { this_node: read.this_node };
            let listed = admin.call(request, async |mut node, r| node.list_groups(r).await).await?;
            let groups: Vec<_> = listed.groups.into_iter().map(GroupView::from).collect();
            output.print(&groups, |groups| list_text(groups))
        }
        Verb::Describe { name, read } => describe::run(name, read, &admin, output).await,
        Verb::ResetOffset(reset) => reset::run(reset, &admin, output).await,
        Verb::Delete { name } => {
            let request = DeleteGroupRequest { name: name.clone() };
            admin.call(request, async |mut node, r| node.delete_group(r).await).await?;
            output.print(&Deleted { deleted: name }, |group| {
                format!("consumer group {} is deleted", group.deleted)
            })
        }
    }
}

#[derive(Serialize)]
struct GroupView {
    name: String,
    max_attempts: u32,
    fifo: bool,
    /// `first`, `last` or a time.
    start: String,
    /// Absent: what the client API says.
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<BackoffView>,
    /// 0: no limit.
    receive_rate_max: u32,
    lite_subscriptions_max: u32,
    lite_exclusive: bool,
    created: String,
}

#[derive(Serialize)]
struct Deleted {
    deleted: String,
}

impl From<ConsumerGroup> for GroupView {
    fn from(group: ConsumerGroup) -> Self {
        Self {
            name: group.name,
            max_attempts: group.max_attempts,
            fifo: group.fifo,
            start: place(group.start.unwrap_or_default()),
            backoff: group.backoff.map(BackoffView::from),
            receive_rate_max: group.receive_rate_max,
            lite_subscriptions_max: group.lite_subscriptions_max,
            lite_exclusive: group.lite_exclusive,
            created: output::time_ms(group.created_ms),
        }
    }
}

impl GroupView {
    fn order(&self) -> &'static str {
        if self.fifo { "fifo" } else { "concurrent" }
    }

    fn receive_rate(&self) -> String {
        match self.receive_rate_max {
            0 => "any number of messages".to_owned(),
            rate => format!("{rate} messages a second"),
        }
    }
}

/// As it is written in options.
fn place(start: Start) -> String {
    match start.kind() {
        Kind::First => "first".to_owned(),
        Kind::Last => "last".to_owned(),
        Kind::Timestamp => output::time_ms(start.timestamp_ms),
    }
}

fn list_text(groups: &[GroupView]) -> String {
    let mut table = Table::new(["NAME", ">MAX ATTEMPTS", "ORDER", "START", "CREATED"]);
    for group in groups {
        table.row([
            group.name.clone(),
            group.max_attempts.to_string(),
            group.order().to_owned(),
            group.start.clone(),
            group.created.clone(),
        ]);
    }
    match table.is_empty() {
        true => "no consumer groups yet; create one with `raftmq group create NAME`".to_owned(),
        false => table.to_string(),
    }
}
