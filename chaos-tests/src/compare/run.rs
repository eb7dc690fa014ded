//! One run: load with the official Java client, faults, drain, reading. The same for each cluster.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::plan::Fault;
use super::story::{Names, merge};
use super::subject::Subject;
use crate::driver::{Client, Consumer, Producer};
use crate::driver_log::Send;
use crate::history::{Action, Event, Recorder, Stage};
use crate::load::{Context, Failures};
use crate::until;

/// The topic, and the group that consumes it. No topic of RocketMQ may be called as its cluster.
pub const TOPIC: &str = "side-by-side";
/// Load before the first fault: the baseline, and time for Java to get warm.
const WARM_UP: Duration = Duration::from_secs(20);
/// Time between two faults, once a cluster is whole and sends go through.
const REST: Duration = Duration::from_secs(6);
/// For a cluster to be whole again, and for sends to go through.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// Sends go through if this share of those that are due was acknowledged, in this time.
const FLOWING_SHARE: f64 = 0.8;
/// See [`FLOWING_SHARE`].
const FLOWING_OVER: Duration = Duration::from_secs(3);
/// Without a delivery for so long, consumers have all they will get: longer than any invisible time.
const QUIET: Duration = Duration::from_secs(90);
const DRAIN_LIMIT: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(200);
const END_LIMIT: Duration = Duration::from_secs(10);

/// What is done in a run.
pub struct Plan<'a> {
    /// The faults, in order.
    pub faults: &'a [Fault],
    /// Sends a second.
    pub rate: u32,
    /// For logs and histories.
    pub directory: &'a Path,
}

/// What came of it.
pub struct Outcome {
    /// The history.
    pub events: Vec<Event>,
    /// Why it was given up, if it was.
    pub given_up: Option<anyhow::Error>,
}

/// Runs it. An error means that the harness could not do its work.
pub async fn run(subject: &mut impl Subject, plan: &Plan<'_>) -> anyhow::Result<Outcome> {
    let recorder = Recorder::create(&plan.directory.join("harness.jsonl"))?;
    recorder.mark("begin");
    subject.create(TOPIC, TOPIC).await?;
    let endpoint = subject.endpoint();
    let client = Client::Java;
    client.build()?;
    // The group has to be there before the first message.
    let mut consumer = Consumer::start(client, plan.directory, &endpoint, TOPIC, TOPIC)?;
    consumer.ready().await?;
    let mut producer = Producer::start(client, plan.directory, &endpoint, TOPIC, plan.rate)?;
    producer.ready().await?;
    recorder.mark("warm_up");
    let context = Context {
        recorder: recorder.clone(),
        endpoints: vec![endpoint],
        admin: Vec::new(),
        brokers: Vec::new(),
        seed: 0,
        surge: Arc::default(),
        stop: CancellationToken::new(),
        end: CancellationToken::new(),
        starting: TaskTracker::new(),
        sending: TaskTracker::new(),
        failures: Failures::default(),
        directory: plan.directory.to_owned(),
    };
    let mut observers = subject.observe(&context);
    tokio::time::sleep(WARM_UP).await;

    let mut sent = Tail::new(plan.directory.join("java-produce.jsonl"));
    let mut given_up = None;
    recorder.mark("faults");
    for fault in plan.faults {
        if let Err(error) = one(subject, *fault, &recorder, &mut sent, plan.rate).await {
            recorder.mark("given_up");
            eprintln!("{}: {error:#}\n{}", fault.name(), subject.log_tails());
            given_up = Some(error.context(format!("after {}", fault.name())));
            break;
        }
    }
    recorder.mark("drain");
    let sends = producer.finish().await?;
    drain(&sends, &mut consumer).await?;
    context.end.cancel();
    let ended = async { while observers.join_next().await.is_some() {} };
    if tokio::time::timeout(END_LIMIT, ended).await.is_err() {
        observers.shutdown().await;
    }
    let deliveries = consumer.finish().await?;
    recorder.mark("drained");
    match subject.read(&recorder, TOPIC, TOPIC).await {
        Ok(()) => recorder.mark("end"),
        // Without the mark every judgement about storage is unknown.
        Err(error) => {
            eprintln!("{error:#}\n{}", subject.log_tails());
            given_up.get_or_insert(error.context("could not read what is stored"));
        }
    }
    let names = Names { topic: TOPIC, group: TOPIC };
    let events = merge(recorder.events()?, &sends, &deliveries, &names);
    Ok(Outcome { events, given_up })
}

/// One fault, until the cluster is as before.
async fn one(
    subject: &mut impl Subject,
    fault: Fault,
    recorder: &Recorder,
    sent: &mut Tail,
    rate: u32,
) -> anyhow::Result<()> {
    let brokers = match fault {
        Fault::KillAll => (0..subject.size()).collect(),
        _ => vec![subject.leader().await?],
    };
    let targets: Vec<String> = brokers.iter().map(|broker| subject.name(*broker)).collect();
    let before: Vec<Option<u32>> = brokers.iter().map(|broker| subject.pid(*broker)).collect();
    let event = |stage, seen: Option<(bool, String)>| {
        let (bit, evidence) = seen.unzip();
        Action::Fault {
            name: fault.name().to_owned(),
            targets: targets.clone(),
            stage,
            bit,
            evidence,
            parameters: serde_json::json!({ "hold_s": fault.hold().as_secs() }),
        }
    };
    recorder.observe(event(Stage::Begin, None), None);
    match fault {
        Fault::KillLeader | Fault::KillAll => subject.kill(&brokers)?,
        Fault::PauseLeader => subject.signal(brokers[0], "STOP")?,
        Fault::RestartLeader => subject.stop(brokers[0]).await?,
    }
    tokio::time::sleep(fault.hold()).await;
    let seen = match fault {
        Fault::PauseLeader => {
            let stopped = before[0].is_some_and(is_stopped);
            subject.signal(brokers[0], "CONT")?;
            (stopped, format!("the kernel says that it is stopped: {stopped}"))
        }
        _ => {
            for broker in &brokers {
                subject.restart(*broker)?;
            }
            let after = brokers.iter().map(|broker| subject.pid(*broker));
            let fresh = after.zip(&before).filter(|(after, before)| after != *before).count();
            (fresh == brokers.len(), format!("{fresh} brokers have new processes"))
        }
    };
    recorder.observe(event(Stage::End, Some(seen)), None);

    let ended = Instant::now();
    until("the cluster to be whole", SETTLE_LIMIT, async || subject.whole().await).await?;
    loop {
        if sent.flows(rate)? {
            break;
        }
        ensure!(ended.elapsed() < SETTLE_LIMIT, "sends do not go through after {SETTLE_LIMIT:?}");
        tokio::time::sleep(PAUSE).await;
    }
    tokio::time::sleep(REST).await;
    Ok(())
}

/// Waits until everything that was acknowledged was delivered, or nothing more comes.
async fn drain(sends: &[Send], consumer: &mut Consumer) -> anyhow::Result<()> {
    let begin = Instant::now();
    let (mut count, mut latest) = (0, Instant::now());
    loop {
        let deliveries = consumer.deliveries()?;
        let got: HashSet<&str> = deliveries.iter().map(|it| it.value.as_str()).collect();
        let missing = sends.iter().filter(|it| it.ok && !got.contains(it.value.as_str())).count();
        if missing == 0 {
            return Ok(());
        }
        if deliveries.len() > count {
            (count, latest) = (deliveries.len(), Instant::now());
        }
        if latest.elapsed() > QUIET || begin.elapsed() > DRAIN_LIMIT {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Whether the kernel says that a process is stopped.
fn is_stopped(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
}

/// The log of a producer, read as it grows.
struct Tail {
    path: PathBuf,
    position: u64,
    /// When sends were acknowledged, since the last time that was looked at.
    acknowledged_ms: Vec<u64>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, position: 0, acknowledged_ms: Vec::new() }
    }

    /// Whether most of the sends that were due of late are acknowledged.
    fn flows(&mut self, rate: u32) -> anyhow::Result<bool> {
        self.flows_at(rate, crate::cluster::now_ms())
    }

    fn flows_at(&mut self, rate: u32, now_ms: u64) -> anyhow::Result<bool> {
        let mut file = std::fs::File::open(&self.path).context("the producer's log")?;
        file.seek(SeekFrom::Start(self.position))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may still be written.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        self.position += whole.len() as u64;
        for line in whole.lines() {
            let send: Send = serde_json::from_str(line).with_context(|| line.to_owned())?;
            self.acknowledged_ms.extend(send.ok.then_some(send.end_ms));
        }
        let since_ms = now_ms.saturating_sub(FLOWING_OVER.as_millis() as u64);
        self.acknowledged_ms.retain(|at_ms| *at_ms >= since_ms);
        let due = f64::from(rate) * FLOWING_OVER.as_secs_f64();
        Ok(self.acknowledged_ms.len() as f64 >= due * FLOWING_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn sends_flow_when_most_that_are_due_are_acknowledged() {
        let path = std::env::temp_dir().join(format!("compare-tail-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        let mut tail = Tail::new(path.clone());
        let mut log = |at_ms: u64, ok: bool| {
            let line = format!(r#"{{"t_ms":1,"end_ms":{at_ms},"v":"x","ok":{ok}}}"#);
            writeln!(file, "{line}").unwrap();
        };
        // Two a second are due: six in three seconds.
        (0..4).for_each(|number| log(10_000 + number, true));
        (0..9).for_each(|number| log(10_000 + number, false));
        assert!(!tail.flows_at(2, 10_010).unwrap());
        log(10_009, true);
        assert!(tail.flows_at(2, 10_010).unwrap());
        assert!(!tail.flows_at(2, 14_000).unwrap());
        std::fs::remove_file(path).unwrap();
    }
}
