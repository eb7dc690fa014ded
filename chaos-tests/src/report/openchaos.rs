//! The result fields of OpenChaos, with its names, so that its readers can read a run of this
//! harness and runs of both can be put side by side.
//!
//! Two fields mean more here than there: `isValid` says that the run passed (there it is true even
//! with losses), and a duplicate is a second delivery to the same group (there a message whose send
//! timed out and landed counts as one too).
//!
//! Source: openmessaging/openchaos at d129a32, `checker/result/*.java` (the names are those that
//! its YAML files have) and `generator/FaultGenerator.java`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Run;
use super::figures::{Figures, end_to_end_us};
use super::invocation::Invocation;
use super::messages::Messages;
use crate::check::Verdict;
use crate::history::{Action, Phase};

mod alias;

pub use self::alias::{ALIASES, Alias, alias};

/// The results of one run. Fields have the names of OpenChaos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenChaos {
    /// The fault that OpenChaos would have been asked for; of several, the first. `noop` for none.
    #[serde(rename = "fault")]
    pub fault: Option<String>,
    /// Losses and duplicates.
    pub queue_test_result: QueueTestResult,
    /// Order.
    pub order_test_result: OrderTestResult,
    /// Time to recover, for each fault.
    #[serde(rename = "RTOTestResult")]
    pub rto_test_result: RtoTestResult,
    /// Every time in which sends were not possible.
    pub recovery_test_result: RecoveryTestResult,
    /// From send to delivery.
    pub end_to_end_latency_result: EndToEndLatencyResult,
}

/// Losses and duplicates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueTestResult {
    /// The name of the type.
    pub name: String,
    /// Sends begun.
    pub enqueue_invoke_count: u64,
    /// Sends acknowledged.
    pub enqueue_success_count: u64,
    /// Messages handed to consumers, repetitions included.
    pub dequeue_success_count: u64,
    /// Acknowledged messages that nobody saw again. 0 if the run was not read to its end.
    pub lost_message_count: u64,
    /// Up to [`MESSAGES_MAX`] of them: body and what is known of the send.
    pub lost_messages: BTreeMap<String, String>,
    /// Deliveries of a message that the same group had got before.
    pub duplicate_message_count: u64,
    /// Up to [`MESSAGES_MAX`] such messages: body, count and group.
    pub duplicate_messages: BTreeMap<String, String>,
    /// There were no duplicates.
    pub at_most_once: bool,
    /// There were no losses.
    pub at_least_once: bool,
    /// Neither.
    pub exactly_once: bool,
    /// The run passed.
    pub is_valid: bool,
}

/// Order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderTestResult {
    /// The name of the type.
    pub name: String,
    /// No checker of order found anything. Absent if none looked.
    pub order: Option<bool>,
    /// Always absent: violations name keys in their text.
    pub wrong_sharding_key: Option<String>,
    /// The first violation.
    pub wrong_start_value: Option<String>,
    /// The run passed.
    pub is_valid: bool,
}

/// Time to recover, for each fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtoTestResult {
    /// The name of the type.
    pub name: String,
    /// One for each fault, in the order of faults.
    pub results: Vec<RtoRecord>,
    /// A send failed outside all faults, and sends had been possible again after the last one.
    pub unexpected_unavailable_in_normal_interval: bool,
    /// The run passed.
    pub is_valid: bool,
}

/// Time to recover from one fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtoRecord {
    /// Some send failed, or its outcome is unknown, while the fault was there.
    pub is_unavailable_in_fault_interval: bool,
    /// And a later one was acknowledged before the fault ended.
    pub is_recovery_in_fault_interval: bool,
    /// From `start_timestamp` to `end_timestamp`, milliseconds; 0 without recovery.
    pub rto_time: u64,
    /// Begin of the first send that did not succeed, milliseconds since 1970; 0 if all did.
    pub start_timestamp: u64,
    /// End of the first send that succeeded after it, milliseconds since 1970; 0 if none did.
    pub end_timestamp: u64,
}

/// Every time in which sends were not possible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryTestResult {
    /// The name of the type.
    pub name: String,
    /// In the order of time.
    pub results: Vec<RecoveryRecord>,
    /// The run passed.
    pub is_valid: bool,
}

/// A time in which sends were not possible.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryRecord {
    /// How long, milliseconds; 0 if it did not end.
    pub recovery_time: u64,
    /// Begin of the first send that did not succeed, milliseconds since 1970.
    pub unavailable_start_timestamp: u64,
    /// End of the next that did, milliseconds since 1970; 0 if none did.
    pub unavailable_end_timestamp: u64,
}

/// From send to first delivery, in classes: how many, and which share of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndToEndLatencyResult {
    /// The name of the type.
    pub name: String,
    /// Up to 1 ms.
    #[serde(rename = "e2eIn1msLatency")]
    pub in_1_ms: String,
    /// Up to 5 ms.
    #[serde(rename = "e2eIn5msLatency")]
    pub in_5_ms: String,
    /// Up to 10 ms.
    #[serde(rename = "e2eIn10msLatency")]
    pub in_10_ms: String,
    /// Up to 100 ms.
    #[serde(rename = "e2eIn100msLatency")]
    pub in_100_ms: String,
    /// Up to 1 s.
    #[serde(rename = "e2eIn1000msLatency")]
    pub in_1000_ms: String,
    /// Up to 3 s.
    #[serde(rename = "e2eIn3000msLatency")]
    pub in_3000_ms: String,
    /// Longer.
    #[serde(rename = "e2eExceed3000msLatency")]
    pub exceed_3000_ms: String,
    /// The run passed.
    #[serde(rename = "isValid")]
    pub is_valid: bool,
}

/// Messages that a result lists.
pub const MESSAGES_MAX: usize = 1000;

/// A failure this soon after a recovery belongs to the same time.
const RELAPSE_MS: u64 = 2000;

impl OpenChaos {
    pub(super) fn new(
        run: &Run,
        figures: &Figures,
        invocations: &[Invocation<'_>],
        messages: &Messages<'_>,
    ) -> Self {
        let is_valid = run.verdict == Verdict::Pass;
        let mut sends: Vec<Invocation<'_>> = invocations
            .iter()
            .filter(|i| i.end.is_some() && matches!(i.begin.action, Action::Send { .. }))
            .copied()
            .collect();
        sends.sort_by_key(Invocation::settled_ns);
        Self {
            fault: match run.faults.first() {
                Some(first) => {
                    alias(&first.name, first.targets.len(), run.brokers).map(str::to_owned)
                }
                None => Some("noop".to_owned()),
            },
            queue_test_result: queue(figures, messages, is_valid),
            order_test_result: order(run, is_valid),
            rto_test_result: rto(run, &sends, is_valid),
            recovery_test_result: recovery(&sends, is_valid),
            end_to_end_latency_result: end_to_end(messages, is_valid),
        }
    }
}

fn queue(figures: &Figures, messages: &Messages<'_>, is_valid: bool) -> QueueTestResult {
    let lost = messages.lost().unwrap_or_default();
    let duplicates = messages.all.iter().flat_map(|message| {
        let again = message.deliveries.iter().filter(|delivered| delivered.count > 1);
        again.map(|d| {
            let info = format!("duplicate count = {}, info = group {}", d.count - 1, d.group);
            (message.value.to_owned(), info)
        })
    });
    let (lost_count, duplicate_count) = (lost.len() as u64, figures.redelivered);
    QueueTestResult {
        name: "QueueTestResult".to_owned(),
        enqueue_invoke_count: figures.sends.begun,
        enqueue_success_count: figures.sends.ok,
        dequeue_success_count: figures.delivered,
        lost_message_count: lost_count,
        lost_messages: lost
            .iter()
            .take(MESSAGES_MAX)
            .map(|message| (message.value.to_owned(), send_info(&message.send)))
            .collect(),
        duplicate_message_count: duplicate_count,
        duplicate_messages: duplicates.take(MESSAGES_MAX).collect(),
        at_most_once: duplicate_count == 0,
        at_least_once: lost_count == 0,
        exactly_once: lost_count == 0 && duplicate_count == 0,
        is_valid,
    }
}

fn send_info(send: &Invocation<'_>) -> String {
    let Action::Send { topic, message_id, offset, .. } = &send.last().action else {
        return String::new();
    };
    let mut info = format!("topic {topic}");
    if let Some(id) = message_id {
        info.push_str(&format!(", id {id}"));
    }
    if let Some(offset) = offset {
        info.push_str(&format!(", offset {offset}"));
    }
    info
}

fn order(run: &Run, is_valid: bool) -> OrderTestResult {
    let looked = run.findings.iter().filter(|finding| {
        finding.checker.split(['-', '_', ' ']).any(|word| word == "order" || word == "fifo")
    });
    let told: Vec<_> = looked.filter(|finding| finding.verdict != Verdict::Unknown).collect();
    let first = told.iter().flat_map(|finding| &finding.violations).next();
    OrderTestResult {
        name: "OrderTestResult".to_owned(),
        order: (!told.is_empty())
            .then(|| told.iter().all(|finding| finding.verdict == Verdict::Pass)),
        wrong_sharding_key: None,
        wrong_start_value: first.map(|violation| violation.text.clone()),
        is_valid,
    }
}

/// `sends` are in the order of their ends.
fn rto(run: &Run, sends: &[Invocation<'_>], is_valid: bool) -> RtoTestResult {
    let mut results = Vec::new();
    for fault in &run.faults {
        let from = sends.partition_point(|send| send.settled_ns() < fault.begin_ns);
        let to = sends.partition_point(|send| send.settled_ns() <= fault.end_ns);
        let mut record = RtoRecord::default();
        let refused = sends[from..to].iter().position(|send| send.outcome() != Phase::Ok);
        if let Some(place) = refused.map(|place| from + place) {
            record.is_unavailable_in_fault_interval = true;
            record.start_timestamp = sends[place].begin.wall_ms;
            let back = sends[place..to].iter().find(|send| send.outcome() == Phase::Ok);
            if let Some(back) = back {
                record.is_recovery_in_fault_interval = true;
                record.end_timestamp = back.last().wall_ms;
                record.rto_time = record.end_timestamp.saturating_sub(record.start_timestamp);
            }
        }
        results.push(record);
    }
    RtoTestResult {
        name: "RTOTestResult".to_owned(),
        results,
        unexpected_unavailable_in_normal_interval: unexpected(run, sends),
        is_valid,
    }
}

/// Whether a send failed outside all faults, while sends were known to be possible.
fn unexpected(run: &Run, sends: &[Invocation<'_>]) -> bool {
    let faulty = |time_ns: u64| {
        run.faults.iter().any(|fault| (fault.begin_ns..=fault.end_ns).contains(&time_ns))
    };
    let mut possible = true;
    sends.iter().any(|send| {
        match send.outcome() {
            Phase::Ok => possible = true,
            // A send that began during a fault may end badly after it.
            _ if faulty(send.settled_ns()) || faulty(send.begin.time_ns) => possible = false,
            Phase::Fail => return possible,
            _ => {}
        }
        false
    })
}

fn recovery(sends: &[Invocation<'_>], is_valid: bool) -> RecoveryTestResult {
    let mut results: Vec<RecoveryRecord> = Vec::new();
    let mut possible = true;
    for send in sends {
        let end_ms = send.last().wall_ms;
        match (send.outcome() == Phase::Ok, possible, results.last_mut()) {
            (false, true, last) => {
                let end = last.map_or(0, |last| last.unavailable_end_timestamp);
                if end > 0 && end_ms.saturating_sub(end) < RELAPSE_MS {
                    continue;
                }
                possible = false;
                results.push(RecoveryRecord {
                    unavailable_start_timestamp: send.begin.wall_ms,
                    ..RecoveryRecord::default()
                });
            }
            (true, false, Some(last)) => {
                possible = true;
                last.unavailable_end_timestamp = end_ms;
                last.recovery_time = end_ms.saturating_sub(last.unavailable_start_timestamp);
            }
            _ => {}
        }
    }
    RecoveryTestResult { name: "RecoveryTestResult".to_owned(), results, is_valid }
}

fn end_to_end(messages: &Messages<'_>, is_valid: bool) -> EndToEndLatencyResult {
    const CLASSES_MS: [u64; 6] = [1, 5, 10, 100, 1000, 3000];
    let mut counts = [0_u64; CLASSES_MS.len() + 1];
    for latency_us in end_to_end_us(messages) {
        let class = CLASSES_MS.iter().position(|class_ms| latency_us <= class_ms * 1000);
        counts[class.unwrap_or(CLASSES_MS.len())] += 1;
    }
    let all: u64 = counts.iter().sum();
    let text = |count: u64| match all {
        0 => "0".to_owned(),
        _ => format!("{count}  {:.2}%", count as f64 * 100.0 / all as f64),
    };
    let [in_1_ms, in_5_ms, in_10_ms, in_100_ms, in_1000_ms, in_3000_ms, exceed_3000_ms] =
        counts.map(text);
    EndToEndLatencyResult {
        name: "EndToEndLatencyResult".to_owned(),
        in_1_ms,
        in_5_ms,
        in_10_ms,
        in_100_ms,
        in_1000_ms,
        in_3000_ms,
        exceed_3000_ms,
        is_valid,
    }
}
