//! `raftmq group reset-offset`.

use clap::Args;
use raftmq::client::Admin;
use raftmq_proto::raftmq::ResetOffsetRequest;
use raftmq_proto::raftmq::ResetQueue;
use raftmq_proto::raftmq::reset_offset_request::To;
use serde::Serialize;

use crate::exit::Failure;
use crate::output::OutputArgs;
use crate::output::Table;
use crate::quantity;

#[derive(Args)]
pub struct ResetArgs {
    /// The consumer group
    group: String,

    /// The topic
    #[arg(long)]
    topic: String,

    /// Only this queue [default: all queues]
    #[arg(long, value_name = "ID")]
    queue: Option<u32>,

    /// The lite topic, if the topic is one of such
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    lite_topic: String,

    /// Where to: first, last, offset:N, or a time like 2026-01-31T10:00:00Z
    #[arg(long, value_parser = target, value_name = "PLACE")]
    to: To,

    /// Do it, rather than only say what would happen
    #[arg(long)]
    execute: bool,
}

/// An offset, or what a group can start with.
fn target(text: &str) -> Result<To, String> {
    match text.strip_prefix("offset:") {
        Some(offset) => {
            let wrong = |_| format!("{offset:?} is not an offset, write it like offset:100");
            offset.parse().map(To::Offset).map_err(wrong)
        }
        None => quantity::position(text).map(To::Position),
    }
}

pub async fn run(args: ResetArgs, admin: &Admin, output: OutputArgs) -> Result<(), Failure> {
    let request = ResetOffsetRequest {
        group: args.group.clone(),
        topic: args.topic.clone(),
        queue_id: args.queue,
        to: Some(args.to),
        dry_run: !args.execute,
        lite_topic: args.lite_topic,
    };
    let reset = admin.call(request, async |mut node, r| node.reset_offset(r).await).await?;
    let view = ResetView {
        group: args.group,
        topic: args.topic,
        executed: args.execute,
        queues: reset.queues.into_iter().map(QueueView::from).collect(),
    };
    output.print(&view, text)
}

#[derive(Serialize)]
struct ResetView {
    group: String,
    topic: String,
    executed: bool,
    queues: Vec<QueueView>,
}

#[derive(Serialize)]
struct QueueView {
    queue_id: u32,
    from_offset: u64,
    to_offset: u64,
    inflight_count: u64,
}

impl From<ResetQueue> for QueueView {
    fn from(queue: ResetQueue) -> Self {
        Self {
            queue_id: queue.queue_id,
            from_offset: queue.from_offset,
            to_offset: queue.to_offset,
            inflight_count: queue.inflight_count,
        }
    }
}

impl QueueView {
    fn effect(&self) -> String {
        let (from, to) = (self.from_offset, self.to_offset);
        match to.cmp(&from) {
            std::cmp::Ordering::Less => format!("{} again", from - to),
            std::cmp::Ordering::Equal => "-".to_owned(),
            std::cmp::Ordering::Greater => format!("{} passed over", to - from),
        }
    }
}

fn text(reset: &ResetView) -> String {
    let mut table = Table::new([">QUEUE", ">FROM", ">TO", "MESSAGES", ">IN FLIGHT, FORGOTTEN"]);
    for queue in &reset.queues {
        table.row([
            queue.queue_id.to_string(),
            queue.from_offset.to_string(),
            queue.to_offset.to_string(),
            queue.effect(),
            queue.inflight_count.to_string(),
        ]);
    }
    let (group, topic) = (&reset.group, &reset.topic);
    match reset.executed {
        true => format!("{table}\nconsumer group {group} goes on from there in topic {topic}\n"),
        false => format!(
            "{table}\nnothing was changed; run the same command with --execute to let consumer \
             group {group} go on from there in topic {topic}\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_places_or_offsets() {
        assert_eq!(target("offset:7"), Ok(To::Offset(7)));
        assert_eq!(target("last"), quantity::position("last").map(To::Position));
        assert!(target("offset:-1").unwrap_err().contains("offset:100"));
        assert!(target("7").is_err());
    }

    #[test]
    fn a_dry_run_says_how_to_carry_it_out() {
        let queue = |from_offset, to_offset| QueueView {
            queue_id: 0,
            from_offset,
            to_offset,
            inflight_count: 2,
        };
        let mut reset = ResetView {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            executed: false,
            queues: vec![queue(9, 4), queue(4, 9), queue(4, 4)],
        };
        let dry = text(&reset);
        for part in ["5 again", "5 passed over", "nothing was changed", "--execute"] {
            assert!(dry.contains(part), "{part} is not in {dry}");
        }
        reset.executed = true;
        assert!(!text(&reset).contains("--execute"));
    }
}
