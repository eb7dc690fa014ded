//! `raftmq group`.

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use raftmq_proto::names;
use raftmq_proto::raftmq::ConsumerGroup;
use raftmq_proto::raftmq::CreateGroupRequest;
use raftmq_proto::raftmq::DeleteGroupRequest;
use raftmq_proto::raftmq::DescribeGroupRequest;
use raftmq_proto::raftmq::DescribeGroupResponse;
use raftmq_proto::raftmq::GroupClient;
use raftmq_proto::raftmq::ListGroupsRequest;
use raftmq_proto::raftmq::QueueProgress;
use serde::Serialize;

use super::AdminArgs;
use super::ReadArgs;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::output::Table;

const AFTER_HELP: &str = "\
Examples:
  raftmq group create readers --max-attempts 5
  raftmq group describe readers     how far it is in each queue, and who consumes
  raftmq group list --output json";

/// Create, list, describe and delete consumer groups.
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
    Create {
        /// Up to 120 letters, digits and % | - _
        name: String,
        /// Deliveries before a message goes to the topic %DLQ%<group>, 1 to 1000
        #[arg(long, default_value_t = 17, value_name = "COUNT")]
        max_attempts: u32,
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
    /// Delete a consumer group and its progress
    Delete {
        /// The consumer group
        name: String,
    },
}

pub async fn run(args: GroupArgs) -> Result<(), Failure> {
    let (admin, output) = (args.admin.admin(), args.output);
    match args.verb {
        Verb::Create { name, max_attempts } => {
            names::consumer_group(&name).map_err(Failure::usage)?;
            let request = CreateGroupRequest { name, max_attempts, fifo: false };
            let created = admin.call(request, async |mut node, r| node.create_group(r).await);
            output.print(&GroupView::from(created.await?), |group| {
                format!("consumer group {} is ready", group.name)
            })
        }
        Verb::List { read } => {
            let request = ListGroupsRequest { this_node: read.this_node };
            let listed = admin.call(request, async |mut node, r| node.list_groups(r).await).await?;
            let groups: Vec<_> = listed.groups.into_iter().map(GroupView::from).collect();
            output.print(&groups, |groups| list_text(groups))
        }
        Verb::Describe { name, read } => {
            let request = DescribeGroupRequest { name, this_node: read.this_node };
            let described =
                admin.call(request, async |mut node, r| node.describe_group(r).await).await?;
            output.print(&DescriptionView::from(described), describe_text)
        }
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
    created: String,
}

#[derive(Serialize)]
struct DescriptionView {
    #[serde(flatten)]
    group: GroupView,
    progress: Vec<ProgressView>,
    clients: Vec<ClientView>,
}

#[derive(Serialize)]
struct ProgressView {
    topic: String,
    queue_id: u32,
    min_offset: u64,
    max_offset: u64,
    next_offset: u64,
    commit_offset: u64,
    inflight_count: u64,
    ready_count: u64,
}

#[derive(Serialize)]
struct ClientView {
    client_id: String,
    language: String,
    client_type: String,
    last_seen_ms_ago: u64,
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
            created: output::time_ms(group.created_ms),
        }
    }
}

impl From<DescribeGroupResponse> for DescriptionView {
    fn from(described: DescribeGroupResponse) -> Self {
        let progress = |queue: QueueProgress| ProgressView {
            topic: queue.topic,
            queue_id: queue.queue_id,
            min_offset: queue.min_offset,
            max_offset: queue.max_offset,
            next_offset: queue.next_offset,
            commit_offset: queue.commit_offset,
            inflight_count: queue.inflight_count,
            ready_count: queue.ready_count,
        };
        let client = |client: GroupClient| ClientView {
            client_id: client.client_id,
            language: client.language,
            client_type: client.client_type,
            last_seen_ms_ago: client.last_seen_ms_ago,
        };
        Self {
            group: described.group.unwrap_or_default().into(),
            progress: described.progress.into_iter().map(progress).collect(),
            clients: described.clients.into_iter().map(client).collect(),
        }
    }
}

fn list_text(groups: &[GroupView]) -> String {
    let mut table = Table::new(["NAME", ">MAX ATTEMPTS", "ORDER", "CREATED"]);
    for group in groups {
        let order = if group.fifo { "fifo" } else { "concurrent" };
        table.row([
            group.name.clone(),
            group.max_attempts.to_string(),
            order.to_owned(),
            group.created.clone(),
        ]);
    }
    match table.is_empty() {
        true => "no consumer groups yet; create one with `raftmq group create NAME`".to_owned(),
        false => table.to_string(),
    }
}

fn describe_text(description: &DescriptionView) -> String {
    let group = &description.group;
    let mut text = format!(
        "consumer group {}\n  max attempts {}, created {}\n",
        group.name, group.max_attempts, group.created
    );
    if description.progress.is_empty() {
        text.push_str("\nit has not received anything yet\n");
    } else {
        text.push_str(&format!("\n{}", progress_table(&description.progress)));
    }
    if !description.clients.is_empty() {
        text.push_str(&format!("\n{}", client_table(&description.clients)));
    }
    text
}

fn progress_table(progress: &[ProgressView]) -> Table {
    let mut table = Table::new([
        "TOPIC",
        ">QUEUE",
        ">MIN OFFSET",
        ">COMMITTED",
        ">NEXT",
        ">MAX OFFSET",
        ">IN FLIGHT",
        ">READY",
    ]);
    for queue in progress {
        table.row([
            queue.topic.clone(),
            queue.queue_id.to_string(),
            queue.min_offset.to_string(),
            queue.commit_offset.to_string(),
            queue.next_offset.to_string(),
            queue.max_offset.to_string(),
            queue.inflight_count.to_string(),
            queue.ready_count.to_string(),
        ]);
    }
    table
}

fn client_table(clients: &[ClientView]) -> Table {
    let mut table = Table::new(["CLIENT", "LANGUAGE", "TYPE", ">SEEN"]);
    for client in clients {
        let seen = output::duration(Duration::from_millis(client.last_seen_ms_ago));
        table.row([
            client.client_id.clone(),
            client.language.clone(),
            client.client_type.clone(),
            format!("{seen} ago"),
        ]);
    }
    table
}
