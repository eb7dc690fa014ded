//! `raftmq dlq redrive` and `raftmq dlq purge`: page after page of dead letters.
//!
//! What dies while it runs is left alone: dead letters that were sent back and die again would
//! otherwise go round for ever.

use std::time::Duration;
use std::time::Instant;

use clap::Args;
use raftmq::client::Admin;
use raftmq::client::AdminError;
use raftmq_proto::raftmq::DeadLettersRequest;
use raftmq_proto::raftmq::DeadLettersResponse;
use raftmq_proto::raftmq::DescribeTopicRequest;
use raftmq_proto::v2::FilterExpression;
use raftmq_proto::v2::FilterType;
use serde::Serialize;

use super::check_group;
use super::topic_of;
use crate::exit::Failure;
use crate::output::OutputArgs;
use crate::progress::Progress;
use crate::quantity;

/// Dead letters looked at in one call.
const PAGE_MAX: u32 = 1000;
/// Calls in a second under a rate limit: what goes at once is a small part of the rate.
const PAGES_PER_S: u32 = 10;

#[derive(Args)]
pub struct SweepArgs {
    /// The consumer group
    group: String,

    /// Only what was sent to this topic
    #[arg(long)]
    topic: Option<String>,

    /// Only messages with one of these tags, such as 'a || b'
    #[arg(long, value_name = "TAGS")]
    filter: Option<String>,

    /// Only messages for which this is true, such as 'region = "eu" AND size > 3'
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "filter")]
    sql: Option<String>,

    /// At most so many, such as 100/s [default: no limit]
    #[arg(long, value_parser = quantity::rate, value_name = "RATE")]
    rate: Option<u32>,

    /// Do it, rather than only say what would happen
    #[arg(long)]
    execute: bool,
}

/// What is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Redrive,
    Purge,
}

impl Verb {
    async fn page(
        self,
        admin: &Admin,
        request: DeadLettersRequest,
    ) -> Result<DeadLettersResponse, AdminError> {
        match self {
            Verb::Redrive => {
                admin.call(request, async |mut node, r| node.redrive_dead_letters(r).await).await
            }
            Verb::Purge => {
                admin.call(request, async |mut node, r| node.purge_dead_letters(r).await).await
            }
        }
    }

    fn done(self) -> &'static str {
        match self {
            Verb::Redrive => "sent back",
            Verb::Purge => "removed",
        }
    }
}

pub async fn run(
    verb: Verb,
    args: SweepArgs,
    admin: &Admin,
    output: OutputArgs,
) -> Result<(), Failure> {
    let mut swept = SweptView { group: args.group.clone(), executed: args.execute, ..empty(verb) };
    let Some((first, end)) = range(admin, &args).await? else {
        return output.print(&swept, text);
    };
    let pace = Pace { started: Instant::now(), rate: args.rate.filter(|_| args.execute) };
    let mut progress = Progress::new(output, end - first);
    let mut next = Some(first);
    while let Some(from_offset) = next.filter(|next| *next < end) {
        let count = u64::from(pace.page()).min(end - from_offset) as u32;
        let request = request(&args, from_offset, count);
        let page = verb.page(admin, request).await.map_err(|error| broken_off(error, &swept))?;
        swept.done_count += page.done_count;
        swept.skipped_count += page.skipped_count;
        next = page.next_offset;
        let so_far = format!("{} {}", swept.done_count, verb.done());
        progress.show(next.unwrap_or(end) - first, &so_far);
        if next.is_some() {
            tokio::time::sleep(pace.pause(swept.done_count)).await;
        }
    }
    drop(progress);
    output.print(&swept, text)
}

/// Where the dead letters begin and end now; `None` when there never were any.
async fn range(admin: &Admin, args: &SweepArgs) -> Result<Option<(u64, u64)>, Failure> {
    let request = DescribeTopicRequest { name: topic_of(&args.group), this_node: false };
    let described = admin.call(request, async |mut node, r| node.describe_topic(r).await).await;
    match described {
        Ok(described) => {
            Ok(described.queues.first().map(|queue| (queue.min_offset, queue.max_offset)))
        }
        Err(AdminError::Refused { code: tonic::Code::NotFound, .. }) => {
            check_group(admin, &args.group).await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn request(args: &SweepArgs, from_offset: u64, count: u32) -> DeadLettersRequest {
    let expression = |kind: FilterType, text: &String| FilterExpression {
        r#type: kind.into(),
        expression: text.clone(),
    };
    let tags = args.filter.as_ref().map(|tags| expression(FilterType::Tag, tags));
    let sql = args.sql.as_ref().map(|sql| expression(FilterType::Sql, sql));
    DeadLettersRequest {
        group: args.group.clone(),
        topic: args.topic.clone().unwrap_or_default(),
        filter: tags.or(sql),
        from_offset,
        count,
        dry_run: !args.execute,
    }
}

fn broken_off(error: AdminError, swept: &SweptView) -> Failure {
    let done = swept.done_count;
    match (swept.executed, done) {
        (true, 1..) => Failure::from(error).hint(format!(
            "{done} dead letters were {} before; run the same command again to go on",
            swept.verb.done()
        )),
        _ => error.into(),
    }
}

/// How fast it may go.
struct Pace {
    started: Instant,
    /// Messages in a second.
    rate: Option<u32>,
}

impl Pace {
    fn page(&self) -> u32 {
        self.rate.map_or(PAGE_MAX, |rate| (rate / PAGES_PER_S).clamp(1, PAGE_MAX))
    }

    /// Until `done_count` messages are no more than the rate allows.
    fn pause(&self, done_count: u64) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let due = Duration::from_secs_f64(done_count as f64 / f64::from(rate));
        due.saturating_sub(self.started.elapsed())
    }
}

#[derive(Serialize)]
struct SweptView {
    group: String,
    executed: bool,
    done_count: u64,
    /// By the filter, or since their topic is gone.
    skipped_count: u64,
    #[serde(skip)]
    verb: Verb,
}

fn empty(verb: Verb) -> SweptView {
    SweptView { group: String::new(), executed: false, done_count: 0, skipped_count: 0, verb }
}

fn text(swept: &SweptView) -> String {
    let SweptView { group, executed, done_count, skipped_count, verb } = swept;
    let skipped = match (skipped_count, verb) {
        (0, _) => String::new(),
        (count, Verb::Redrive) => {
            format!(", {count} passed over (the filter, or their topic does not exist)")
        }
        (count, Verb::Purge) => format!(", {count} passed over"),
    };
    let done = verb.done();
    match executed {
        true => format!("{done_count} dead letters of group {group} were {done}{skipped}"),
        false => format!(
            "{done_count} dead letters of group {group} would be {done}{skipped}\n\
             nothing was changed; run the same command with --execute to do it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_makes_small_pages_and_pauses() {
        let pace = |rate| Pace { started: Instant::now(), rate };
        assert_eq!(pace(None).page(), PAGE_MAX);
        assert_eq!(pace(Some(5)).page(), 1);
        assert_eq!(pace(Some(200)).page(), 20);
        assert_eq!(pace(Some(1_000_000)).page(), PAGE_MAX);
        assert_eq!(pace(None).pause(1_000), Duration::ZERO);
        let pause = pace(Some(100)).pause(200);
        assert!(pause > Duration::from_secs(1) && pause <= Duration::from_secs(2), "{pause:?}");
    }

    #[test]
    fn a_dry_run_says_how_to_carry_it_out() {
        let mut swept = SweptView { group: "g".to_owned(), done_count: 3, ..empty(Verb::Redrive) };
        swept.skipped_count = 2;
        let dry = text(&swept);
        for part in ["3 dead letters of group g would be sent back", "2 passed over", "--execute"] {
            assert!(dry.contains(part), "{part} is not in {dry}");
        }
        swept.executed = true;
        swept.verb = Verb::Purge;
        assert_eq!(text(&swept), "3 dead letters of group g were removed, 2 passed over");
    }
}
