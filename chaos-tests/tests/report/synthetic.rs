//! Made-up runs that look like real ones: load, a leader that is killed, a partition, a loss.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use raftmq_chaos_tests::check::{Finding, Verdict, Violation};
use raftmq_chaos_tests::history::{Action, Delivery, Event, Kind, Phase, Stage};
use raftmq_chaos_tests::report::{FaultWindow, Run, SCHEMA_VERSION};

pub const MS: u64 = 1_000_000;
pub const S: u64 = 1000 * MS;

/// What a run is made of.
pub struct Shape {
    pub seed: u64,
    pub seconds: u64,
    pub sends_per_second: u64,
    /// Begin and length of times without acknowledgements, in milliseconds.
    pub gaps_ms: Vec<(u64, u64)>,
    /// When some sends are never answered, in milliseconds.
    pub unanswered_ms: Option<(u64, u64)>,
    pub latency_us: u64,
    pub faults: Vec<FaultWindow>,
    pub subject: &'static str,
}

impl Shape {
    /// 60 s, 200 sends/s: the leader is killed at 15 s, and another partitioned away at 35 s.
    pub fn usual() -> Self {
        Self {
            seed: 7,
            seconds: 60,
            sends_per_second: 200,
            gaps_ms: vec![(15_000, 400), (35_000, 1_200)],
            unanswered_ms: Some((35_000, 35_200)),
            latency_us: 2500,
            faults: vec![
                fault(
                    "leader-kill",
                    "n1",
                    (15_000, 20_000),
                    true,
                    "n1 had led term 3; n2 led term 4 after 0.38 s",
                ),
                fault(
                    "isolate-leader",
                    "n2",
                    (35_000, 42_000),
                    true,
                    "4,812 packets of n2 dropped; n3 led term 5",
                ),
                fault(
                    "follower-pause",
                    "n1",
                    (50_000, 51_500),
                    false,
                    "n1 answered while it should have stood still",
                ),
            ],
            subject: "raftmq 0.1.0",
        }
    }
}

pub fn fault(name: &str, target: &str, ms: (u64, u64), bit: bool, evidence: &str) -> FaultWindow {
    FaultWindow {
        name: name.to_owned(),
        targets: vec![target.to_owned()],
        parameters: serde_json::json!({ "signal": "KILL", "for_ms": ms.1 - ms.0 }),
        begin_ns: ms.0 * MS,
        end_ns: ms.1 * MS,
        bit,
        evidence: evidence.to_owned(),
    }
}

struct Build {
    random: ChaCha8Rng,
    events: Vec<Event>,
}

impl Build {
    fn push(
        &mut self,
        time_ns: u64,
        process: u32,
        phase: Phase,
        action: Action,
        node: Option<&str>,
        error: Option<&str>,
    ) {
        self.events.push(Event {
            index: 0,
            time_ns,
            wall_ms: 1_790_000_000_000 + time_ns / MS,
            process,
            phase,
            action,
            node: node.map(str::to_owned),
            error: error.map(str::to_owned),
        });
    }
}

/// The run and its history. One acknowledged message is lost: the one in the middle.
pub fn make(shape: &Shape) -> (Run, Vec<Event>) {
    let mut build = Build { random: ChaCha8Rng::seed_from_u64(shape.seed), events: Vec::new() };
    let sent = sends(&mut build, shape);
    let lost = sent[sent.len() / 2].value.clone();
    consume(&mut build, shape, &sent, &lost);
    statuses(&mut build, shape);
    let end_ns = shape.seconds * S;
    for (at_ns, what) in [
        (0, "warm_up"),
        (5 * S.min(end_ns / 12), "faults"),
        (end_ns, "healed"),
        (end_ns + 200 * MS, "drain"),
        (end_ns + 2 * S, "drained"),
        (end_ns + 4 * S, "end"),
    ] {
        build.push(at_ns, 0, Phase::Info, Action::Mark { what: what.to_owned() }, None, None);
    }
    for fault in &shape.faults {
        for (stage, at_ns) in [(Stage::Begin, fault.begin_ns), (Stage::End, fault.end_ns)] {
            let end = stage == Stage::End;
            let action = Action::Fault {
                name: fault.name.clone(),
                targets: fault.targets.clone(),
                stage,
                bit: end.then_some(fault.bit),
                evidence: end.then(|| fault.evidence.clone()),
                parameters: fault.parameters.clone(),
            };
            build.push(at_ns, 0, Phase::Info, action, None, None);
        }
    }
    for (place, sent) in sent.iter().filter(|sent| sent.value != lost).enumerate() {
        let action = Action::Stored {
            topic: "orders".to_owned(),
            queue_id: (place % 4) as u32,
            offset: (place / 4) as u64,
            value: sent.value.clone(),
            message_id: format!("id-{}", sent.value),
            origin: None,
        };
        build.push(end_ns + 3 * S + place as u64 * 1000, 0, Phase::Info, action, Some("n1"), None);
    }
    let mut events = build.events;
    events.sort_by_key(|event| event.time_ns);
    events.iter_mut().enumerate().for_each(|(place, event)| event.index = place as u64);
    (run(shape, &events, &lost), events)
}

struct Sent {
    value: String,
    ok_ns: u64,
}

fn sends(build: &mut Build, shape: &Shape) -> Vec<Sent> {
    let producers = (shape.sends_per_second / 5) as u32;
    let period_ns = S * u64::from(producers) / shape.sends_per_second;
    let mut sent = Vec::new();
    for producer in 1..=producers {
        let mut at_ns = u64::from(producer) * period_ns / u64::from(producers);
        let mut number = 0;
        while at_ns < shape.seconds * S {
            number += 1;
            let value = format!("{producer}-{number}");
            let topic = "orders".to_owned();
            let begin = Action::Send {
                topic: topic.clone(),
                value: value.clone(),
                message_id: None,
                offset: None,
                kind: Kind::Normal,
            };
            build.push(at_ns, producer, Phase::Invoke, begin.clone(), Some("n2"), None);
            let spread: f64 = build.random.random_range(0.0..1.0);
            let latency_us = shape.latency_us as f64 * (0.6 + spread + 0.05 / (1.002 - spread));
            let mut end_ns = at_ns + latency_us as u64 * 1000;
            let at_ms = at_ns / MS;
            let unanswered =
                shape.unanswered_ms.is_some_and(|(from, to)| (from..to).contains(&at_ms));
            if unanswered && producer % 3 == 0 {
                end_ns = at_ns + 3 * S;
                build.push(
                    end_ns,
                    producer,
                    Phase::Unknown,
                    begin,
                    None,
                    Some("deadline of 3000 ms passed"),
                );
            } else if build.random.random_range(0..4000) == 0 {
                build.push(
                    end_ns,
                    producer,
                    Phase::Fail,
                    begin,
                    None,
                    Some("code 50001: no leader"),
                );
            } else {
                for (gap_ms, length_ms) in &shape.gaps_ms {
                    let back_ns = (gap_ms + length_ms) * MS;
                    if (gap_ms * MS..back_ns).contains(&end_ns) {
                        // Those that waited come one after another.
                        end_ns = back_ns + u64::from(producer) * MS;
                    }
                }
                let message_id = Some(format!("id-{value}"));
                let ok = Action::Send {
                    topic,
                    value: value.clone(),
                    message_id,
                    offset: Some(number),
                    kind: Kind::Normal,
                };
                build.push(end_ns, producer, Phase::Ok, ok, Some("n2"), None);
                sent.push(Sent { value, ok_ns: end_ns });
            }
            // One that waited goes on with its own beat.
            at_ns += period_ns * ((end_ns - at_ns) / period_ns + 1);
        }
    }
    sent.sort_by_key(|sent| sent.ok_ns);
    sent
}

/// Four consumers, each of which receives every 100 ms and acknowledges what came. One delivery in
/// 500 is repeated.
fn consume(build: &mut Build, shape: &Shape, sent: &[Sent], lost: &str) {
    let mut next = 0;
    let mut round = 0;
    while round * 25 * MS < (shape.seconds + 2) * S {
        let begin_ns = round * 25 * MS;
        let end_ns = begin_ns + 20 * MS;
        let process = 1000 + (round % 4) as u32;
        let mut deliveries = Vec::new();
        while next < sent.len() && sent[next].ok_ns + 5 * MS < end_ns && deliveries.len() < 32 {
            let value = &sent[next].value;
            next += 1;
            if value != lost {
                let times = if next.is_multiple_of(500) { 2 } else { 1 };
                deliveries.extend((1..=times).map(|attempt| Delivery {
                    value: value.clone(),
                    message_id: format!("id-{value}"),
                    attempt,
                    queue_id: Some(0),
                    offset: None,
                }));
            }
        }
        let receive = |deliveries| Action::Receive {
            group: "billing".to_owned(),
            topic: "orders".to_owned(),
            deliveries,
            invisible_ms: 10_000,
            attempt_id: None,
        };
        build.push(begin_ns, process, Phase::Invoke, receive(Vec::new()), Some("n3"), None);
        build.push(end_ns, process, Phase::Ok, receive(deliveries.clone()), Some("n3"), None);
        for (place, delivery) in deliveries.into_iter().enumerate() {
            let ack = Action::Ack {
                group: "billing".to_owned(),
                topic: "orders".to_owned(),
                value: delivery.value,
                attempt: delivery.attempt,
            };
            let at_ns = end_ns + MS + place as u64 * 100_000;
            build.push(at_ns, 2000 + process, Phase::Invoke, ack.clone(), None, None);
            build.push(at_ns + 90_000, 2000 + process, Phase::Ok, ack, None, None);
        }
        round += 1;
    }
}

/// `n1` leads term 3 up to 15 s and is away up to 20 s; `n2` leads term 4 up to 36 s; `n3` term 5.
fn statuses(build: &mut Build, shape: &Shape) {
    for tick in 0..(shape.seconds + 4) * 10 {
        let at_ms = tick * 100;
        for node in ["n1", "n2", "n3"] {
            if node == "n1" && (15_000..20_000).contains(&at_ms) && shape.seconds > 20 {
                continue;
            }
            let (leader, term) = match at_ms {
                0..15_000 => ("n1", 3),
                15_000..15_400 => ("nobody", 4),
                15_400..35_900 => ("n2", 4),
                _ => ("n3", 5),
            };
            // The one that is cut off takes itself for the leader a little longer.
            let apart = node == "n2" && (35_900..36_300).contains(&at_ms);
            let (role, term) = match node {
                _ if apart => ("leader", 4),
                _ if node == leader => ("leader", term),
                "n3" if leader == "nobody" => ("candidate", term),
                _ => ("follower", term),
            };
            let action = Action::Status {
                term,
                role: role.to_owned(),
                leader_id: 0,
                commit_index: tick * 20,
                applied_index: tick * 20,
                state_hash: u64::MAX - tick,
            };
            build.push(at_ms * MS + 1000, 0, Phase::Info, action, Some(node), None);
        }
    }
}

fn finding(checker: &str, verdict: Verdict, note: &str, violations: Vec<Violation>) -> Finding {
    Finding {
        checker: checker.to_owned(),
        verdict,
        violation_count: violations.len() as u64,
        violations,
        note: note.to_owned(),
        figures: BTreeMap::new(),
    }
}

fn run(shape: &Shape, events: &[Event], lost: &str) -> Run {
    let of_lost =
        |event: &&Event| matches!(&event.action, Action::Send { value, .. } if value == lost);
    let lines: Vec<u64> = events.iter().filter(of_lost).map(|event| event.index).collect();
    let text = format!("message {lost} was acknowledged and is in no queue of any replica");
    let mut loss = finding(
        "lost",
        Verdict::Fail,
        "Every acknowledged send was looked for.",
        vec![Violation { text, events: lines }],
    );
    loss.figures = BTreeMap::from([
        ("acknowledged".to_owned(), 11_873.0),
        ("read".to_owned(), 11_872.0),
        ("share".to_owned(), 0.99992),
    ]);
    let first_two = events
        .iter()
        .filter(|event| matches!(event.action, Action::Status { .. }))
        .map(|event| event.index)
        .take(2);
    let apart = Violation {
        text: "n1 and n2 have other state hashes at applied index 0".to_owned(),
        events: first_two.collect(),
    };
    Run {
        schema_version: SCHEMA_VERSION,
        drill: "leader-kill-and-partition".to_owned(),
        seed: shape.seed,
        subject: shape.subject.to_owned(),
        started_ms: 1_790_000_000_000,
        duration_ms: (shape.seconds + 4) * 1000,
        brokers: 3,
        name_servers: 1,
        flush: "sync".to_owned(),
        verdict: Verdict::Fail,
        faults: shape.faults.clone(),
        findings: vec![
            finding(
                "duplicates",
                Verdict::Pass,
                "Nothing came twice but what was handed out again.",
                Vec::new(),
            ),
            loss,
            finding(
                "order",
                Verdict::Pass,
                "4 queues were read in the order of their sends.",
                Vec::new(),
            ),
            finding(
                "progress",
                Verdict::Unknown,
                "The progress of group billing was not read at n2.",
                Vec::new(),
            ),
            finding(
                "replicas",
                Verdict::Fail,
                "State hashes were compared at 612 indexes.",
                vec![apart],
            ),
        ],
        command: String::new(),
        facts: BTreeMap::from([("Revision".to_owned(), "ce13217".to_owned())]),
    }
}
