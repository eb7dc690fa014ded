//! Faults of processes: killed, paused, restarted.

use std::time::{Duration, Instant};

use anyhow::Context;
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::json;

use super::{Bite, Fault, Field, Step};
use crate::mesh::object::{Chaos, Pods};
use crate::mesh::{Counterpart, Reason, Setting, Stage};

/// Whom a fault is about; chosen when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Who leads then.
    Leader,
    /// One that does not lead.
    Follower,
    /// The leader and as many others as make a majority.
    Majority,
    /// Everybody.
    All,
}

impl Target {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Majority => "majority",
            Self::All => "all",
        }
    }

    /// The same pods in Kubernetes.
    fn pods(self, setting: &Setting) -> Vec<Pods> {
        match self {
            Self::Leader => vec![Pods::Leader],
            Self::Follower => vec![Pods::Followers(1)],
            Self::Majority => vec![Pods::Leader, Pods::Followers(setting.size.brokers / 2)],
            Self::All => vec![Pods::Brokers],
        }
    }

    /// Broker numbers.
    pub(super) async fn choose(self, field: &mut Field) -> anyhow::Result<Vec<usize>> {
        let size = field.cluster.size();
        if self == Self::All {
            return Ok((0..size).collect());
        }
        let leader = field.cluster.leader().await?;
        let mut others: Vec<usize> = (0..size).filter(|broker| *broker != leader).collect();
        others.shuffle(&mut field.random);
        Ok(match self {
            Self::Leader => vec![leader],
            Self::Follower => others[..1].to_vec(),
            Self::Majority => {
                others.truncate(size / 2);
                others.push(leader);
                others
            }
            Self::All => Vec::new(),
        })
    }
}

fn everybody(field: &Field) -> Vec<String> {
    let all: Vec<usize> = (0..field.cluster.size()).collect();
    names(field, &all)
}

pub(super) fn names(field: &Field, brokers: &[usize]) -> Vec<String> {
    brokers.iter().map(|broker| field.cluster.name(*broker).to_owned()).collect()
}

/// Waits until all these have applied what is committed, and may vote.
pub(super) async fn caught_up(field: &Field, brokers: &[usize]) -> anyhow::Result<()> {
    for broker in brokers {
        field.cluster.caught_up(*broker).await?;
    }
    Ok(())
}

/// `kill -9`; at the end the processes are started again, in a random order.
pub struct Kill {
    target: Target,
    settles: bool,
    killed: Vec<usize>,
    was_running: usize,
}

impl Kill {
    /// Of `target`.
    pub fn new(target: Target) -> Self {
        Self { target, settles: false, killed: Vec::new(), was_running: 0 }
    }

    /// Ends only when those killed have caught up: for many kills, one as soon as possible after
    /// the other, of which none may meet a group that the one before has left without a spare node.
    pub fn settled(target: Target) -> Self {
        Self { settles: true, ..Self::new(target) }
    }
}

impl Fault for Kill {
    fn name(&self) -> &'static str {
        match self.target {
            Target::Leader => "kill-leader",
            Target::Follower => "kill-follower",
            Target::Majority => "kill-majority",
            Target::All => "kill-all",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "target": self.target.name() })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.killed = self.target.choose(field).await?;
            Ok(names(field, &self.killed))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            self.was_running = self.killed.iter().filter(|it| field.cluster.is_up(**it)).count();
            field.cluster.kill_several(&self.killed).map(drop)
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            self.killed.shuffle(&mut field.random);
            for broker in &self.killed {
                field.cluster.restart(*broker)?;
            }
            if self.settles {
                caught_up(field, &self.killed).await?;
            }
            let (dead, all) = (self.was_running, self.killed.len());
            Ok(match dead == all {
                true => Bite::Bit(format!("{dead} processes ended by SIGKILL")),
                false => Bite::Missed(format!("only {dead} of {all} processes ran before")),
            })
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        let kills = self.target.pods(setting).into_iter().map(Chaos::kill);
        Ok(Counterpart::ending(setting, kills)
            .but("A killed process is away until Kubernetes starts it, not for a set time."))
    }
}

/// SIGSTOP, and SIGCONT at the end.
pub struct Pause {
    target: Target,
    paused: Vec<usize>,
    seen_stopped: usize,
}

impl Pause {
    /// Of `target`.
    pub fn new(target: Target) -> Self {
        Self { target, paused: Vec::new(), seen_stopped: 0 }
    }
}

impl Fault for Pause {
    fn name(&self) -> &'static str {
        match self.target {
            Target::Leader => "pause-leader",
            Target::Follower => "pause-follower",
            Target::Majority => "pause-majority",
            Target::All => "pause-all",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "target": self.target.name() })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.paused = self.target.choose(field).await?;
            Ok(names(field, &self.paused))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            for broker in &self.paused {
                field.cluster.signal(*broker, "STOP")?;
            }
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(1) {
                let stopped =
                    self.paused.iter().filter(|broker| is_stopped(field.cluster.pid(**broker)));
                self.seen_stopped = stopped.count();
                if self.seen_stopped == self.paused.len() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            for broker in &self.paused {
                field.cluster.signal(*broker, "CONT")?;
            }
            let (stopped, all) = (self.seen_stopped, self.paused.len());
            Ok(match stopped == all {
                true => Bite::Bit(format!("{stopped} processes were stopped by the kernel's word")),
                false => Bite::Missed(format!("only {stopped} of {all} were seen stopped")),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh ends processes; it can not stop one and let it go on")
    }
}

/// Whether the kernel says that a process is stopped.
fn is_stopped(pid: Option<u32>) -> bool {
    let status = pid.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")));
    let Some(Ok(status)) = status else { return false };
    status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
}

/// How long a pod of `deploy/kubernetes/` may take to end.
const GRACE_S: u64 = 60;

/// Each broker is stopped as an operator does it (SIGTERM) and started again, one after the other.
pub struct RollingRestart {
    restarted: usize,
}

impl RollingRestart {
    /// Of all brokers.
    pub fn new() -> Self {
        Self { restarted: 0 }
    }
}

impl Default for RollingRestart {
    fn default() -> Self {
        Self::new()
    }
}

impl Fault for RollingRestart {
    fn name(&self) -> &'static str {
        "rolling-restart"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({})
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move { Ok(everybody(field)) })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            for broker in 0..field.cluster.size() {
                let before = field.cluster.pid(broker).context("it is down")?;
                field.cluster.stop(broker).await?;
                field.cluster.restart(broker)?;
                field.cluster.caught_up(broker).await?;
                self.restarted += usize::from(field.cluster.pid(broker) != Some(before));
            }
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            let (restarted, all) = (self.restarted, field.cluster.size());
            Ok(match restarted == all {
                true => Bite::Bit(format!("{restarted} brokers have new processes")),
                false => Bite::Missed(format!("only {restarted} of {all} have new processes")),
            })
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        let stage = |node| Stage {
            chaos: vec![Chaos::delete(Pods::Nodes(vec![node]), GRACE_S)],
            hold: Duration::from_secs(GRACE_S),
            // To come back and catch up.
            rest: Duration::from_secs(GRACE_S),
            restarts: false,
        };
        let stages = (1..=setting.size.brokers).map(stage).collect();
        Ok(Counterpart { stages, differences: Vec::new() }
            .but("The next broker goes after a set time, whether or not the last one caught up."))
    }
}

/// A random broker is killed every half second to three seconds and started again at once.
pub struct RestartStorm {
    kills: usize,
    killed: usize,
}

impl RestartStorm {
    /// Of `kills` kills.
    pub fn new(kills: usize) -> Self {
        Self { kills, killed: 0 }
    }
}

impl Fault for RestartStorm {
    fn name(&self) -> &'static str {
        "restart-storm"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "kills": self.kills })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move { Ok(everybody(field)) })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            for _ in 0..self.kills {
                let broker = field.random.random_range(0..field.cluster.size());
                field.cluster.kill(broker)?;
                self.killed += 1;
                field.cluster.restart(broker)?;
                let pause = field.random.random_range(500..3000);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, _: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move { Ok(Bite::Bit(format!("{} processes were killed", self.killed))) })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        let stage = Stage {
            // A new pod starts at once, where a container that ended often would wait.
            chaos: vec![Chaos::delete(Pods::AnyBroker, 0)],
            hold: setting.hold,
            rest: Duration::ZERO,
            restarts: false,
        };
        Ok(Counterpart { stages: vec![stage; self.kills], differences: Vec::new() }
            .but("Pods are deleted without a grace period, and less often than the drill kills."))
    }
}

/// Kills a broker, and returns how far it had applied.
pub(super) async fn take_away(field: &mut Field, broker: usize) -> anyhow::Result<u64> {
    let statuses = field.cluster.status().await?;
    let own = statuses.iter().find(|status| status.node_id == broker as u64 + 1);
    let applied_index = own.context("it does not answer")?.applied_index;
    field.cluster.kill(broker)?;
    Ok(applied_index)
}

/// For the log to move on, in the slowest drill.
const OUTRUN_LIMIT: Duration = Duration::from_secs(120);

/// Waits until the leader's log does not reach back to `applied_index`, but not for ever. Where it begins.
pub(super) async fn outrun(field: &Field, applied_index: u64) -> anyhow::Result<u64> {
    let begin = Instant::now();
    loop {
        let statuses = field.cluster.status().await?;
        let leader = statuses.iter().find(|status| status.role == "leader");
        let first_index = leader.map_or(0, |status| status.raft_first_index);
        if first_index > applied_index + 1 || begin.elapsed() > OUTRUN_LIMIT {
            return Ok(first_index);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A follower is away until the others' log does not reach back to what it has; then it must lead.
#[derive(Default)]
pub struct Lag {
    broker: usize,
    applied_index: u64,
}

impl Fault for Lag {
    fn name(&self) -> &'static str {
        "lag"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "target": "follower" })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.broker = Target::Follower.choose(field).await?[0];
            Ok(names(field, &[self.broker]))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            self.applied_index = take_away(field, self.broker).await?;
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            let first_index = outrun(field, self.applied_index).await?;
            field.cluster.restart(self.broker)?;
            field.cluster.caught_up(self.broker).await?;
            field.cluster.lead(self.broker).await?;
            let (name, applied) = (field.cluster.name(self.broker), self.applied_index);
            Ok(match first_index > applied + 1 {
                true => Bite::Bit(format!(
                    "{name} had applied {applied}, the log began at {first_index}; then it led"
                )),
                false => Bite::Missed(format!(
                    "the log still reached back to {first_index}, {name} had applied {applied}"
                )),
            })
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        Ok(Counterpart::of(setting, [Chaos::absent(Pods::Followers(1))]).but(
            "Nobody makes the follower lead afterwards: do it with \
             `raftmq cluster transfer-leader --to N`.",
        ))
    }
}
