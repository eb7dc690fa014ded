//! `raftmq group create`.

use std::time::Duration;

use clap::Args;
use raftmq::client::Admin;
use raftmq_proto::names;
use raftmq_proto::raftmq::Backoff;
use raftmq_proto::raftmq::CreateGroupRequest;
use raftmq_proto::raftmq::Start;
use serde::Serialize;

use super::GroupView;
use crate::exit::Failure;
use crate::output;
use crate::output::OutputArgs;
use crate::quantity;

#[derive(Args)]
pub struct CreateArgs {
    /// Up to 120 letters, digits and % | - _
    name: String,

    /// Deliveries before a message goes to the topic %DLQ%<group>, 1 to 1000
    #[arg(long, default_value_t = 17, value_name = "COUNT")]
    max_attempts: u32,

    /// Messages of one message group come one after the other
    #[arg(long)]
    fifo: bool,

    /// How long after a failed attempt the next one comes: each delay, such as 1s,5s,30s (the last
    /// one for all further attempts), or exponential:initial=5s,max=2h,multiplier=2 [default: that
    /// of the client API]
    #[arg(long, value_parser = backoff, value_name = "DELAYS")]
    backoff: Option<Backoff>,

    /// Where it begins in a topic from which it never received: first, last, or a time like
    /// 2026-01-31T10:00:00Z
    #[arg(long, default_value = "first", value_parser = quantity::position, value_name = "PLACE")]
    start: Start,

    /// Messages that its members may receive each second, all together; 0 is no limit
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    receive_rate: u32,

    /// Lite topics of one topic to which each client may subscribe, up to 100000
    #[arg(long, default_value_t = 2000, value_name = "COUNT")]
    lite_subscriptions: u32,

    /// A lite topic belongs to the client that subscribed to it last, rather than to all that did
    #[arg(long)]
    lite_exclusive: bool,
}

pub async fn run(args: CreateArgs, admin: &Admin, output: OutputArgs) -> Result<(), Failure> {
    names::consumer_group(&args.name).map_err(Failure::usage)?;
    let request = CreateGroupRequest {
        name: args.name,
        max_attempts: args.max_attempts,
        fifo: args.fifo,
        start: Some(args.start),
        backoff: args.backoff,
        receive_rate_max: args.receive_rate,
        lite_subscriptions_max: args.lite_subscriptions,
        lite_exclusive: args.lite_exclusive,
    };
    let created = admin.call(request, async |mut node, r| node.create_group(r).await).await?;
    output
        .print(&GroupView::from(created), |group| format!("consumer group {} is ready", group.name))
}

/// What a group waits between attempts.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackoffView {
    DelaysMs(Vec<u64>),
    Exponential { initial_ms: u64, max_ms: u64, multiplier: f32 },
}

impl From<Backoff> for BackoffView {
    fn from(backoff: Backoff) -> Self {
        let Backoff { delays_ms, initial_ms, max_ms, multiplier } = backoff;
        match delays_ms.is_empty() {
            true => BackoffView::Exponential { initial_ms, max_ms, multiplier },
            false => BackoffView::DelaysMs(delays_ms),
        }
    }
}

impl BackoffView {
    pub fn text(&self) -> String {
        let duration = |ms: &u64| output::duration(Duration::from_millis(*ms));
        match self {
            BackoffView::DelaysMs(delays) => {
                delays.iter().map(duration).collect::<Vec<_>>().join(", ")
            }
            BackoffView::Exponential { initial_ms, max_ms, multiplier } => format!(
                "{} to {}, each {multiplier} times the one before",
                duration(initial_ms),
                duration(max_ms)
            ),
        }
    }
}

/// `1s,5s,30s`, or `exponential:` with what is to differ from `initial=1s,max=2h,multiplier=2`.
fn backoff(text: &str) -> Result<Backoff, String> {
    let ms = |text: &str| quantity::duration(text).map(|duration| duration.as_millis() as u64);
    let Some(parts) = text.strip_prefix("exponential") else {
        let delays_ms = text.split(',').map(ms).collect::<Result<_, _>>()?;
        return Ok(Backoff { delays_ms, ..Backoff::default() });
    };
    let mut backoff =
        Backoff { initial_ms: 1_000, max_ms: 2 * 3_600_000, multiplier: 2.0, ..Backoff::default() };
    for part in parts.trim_start_matches(':').split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("initial", value)) => backoff.initial_ms = ms(value)?,
            Some(("max", value)) => backoff.max_ms = ms(value)?,
            Some(("multiplier", value)) => {
                backoff.multiplier =
                    value.parse().map_err(|_| format!("{value:?} is not a number"))?;
            }
            _ => {
                return Err(format!(
                    "{part:?} is not known, write exponential:initial=5s,max=2h,multiplier=2"
                ));
            }
        }
    }
    Ok(backoff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(option: &str) -> String {
        BackoffView::from(backoff(option).unwrap()).text()
    }

    #[test]
    fn a_backoff_is_a_list_or_exponential() {
        assert_eq!(text("1s,5s,10m"), "1.0 s, 5.0 s, 10.0 min");
        assert_eq!(
            text("exponential:initial=5s,max=3h,multiplier=1.5"),
            "5.0 s to 3.0 h, each 1.5 times the one before"
        );
        assert_eq!(text("exponential"), "1.0 s to 2.0 h, each 2 times the one before");
        for wrong in ["", "5", "1s,", "exponential:least=1s", "exponential:multiplier=x"] {
            assert!(backoff(wrong).is_err(), "{wrong}");
        }
    }
}
