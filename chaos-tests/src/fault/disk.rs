//! Faults of disks: power cut, slow, hanging, failing, full, damaged, emptied.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::seq::SliceRandom;
use serde_json::json;

use super::process::{Target, caught_up, names};
use super::{Bite, Fault, Field, Step};
use crate::disk::damage;
use crate::disk::shim::{Counters, Settings, Trigger, WriteError};
use crate::disk::volume::{self, Frozen};
use crate::mesh::object::{Chaos, Pods};
use crate::mesh::{Counterpart, Reason, Setting};
use crate::{Unmet, must};

/// How long a process may take to end by itself after its disk failed.
const FENCE_LIMIT: Duration = Duration::from_secs(10);

/// What was not flushed is gone, then the process is; at the end it starts again on what is left.
pub struct PowerCut {
    target: Target,
    settles: bool,
    cut: Vec<usize>,
}

impl PowerCut {
    /// Of `target`.
    pub fn new(target: Target) -> Self {
        Self { target, settles: false, cut: Vec::new() }
    }

    /// Ends only when those that were cut have caught up, as [`super::Kill::settled`].
    pub fn settled(target: Target) -> Self {
        Self { settles: true, ..Self::new(target) }
    }
}

impl Fault for PowerCut {
    fn name(&self) -> &'static str {
        match self.target {
            Target::Leader => "power-cut-leader",
            Target::Follower => "power-cut-follower",
            Target::Majority => "power-cut-majority",
            Target::All => "power-cut-all",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "target": self.target.name() })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.cut = self.target.choose(field).await?;
            Ok(names(field, &self.cut))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let volumes: Vec<_> = self.cut.iter().map(|broker| &field.volumes[*broker]).collect();
            let pids: Vec<u32> =
                self.cut.iter().filter_map(|broker| field.cluster.pid(*broker)).collect();
            volume::power_cut(&volumes, &pids)?;
            field.cluster.kill_several(&self.cut).map(drop)
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            self.cut.shuffle(&mut field.random);
            for broker in &self.cut {
                field.volumes[*broker].remount()?;
                field.cluster.restart(*broker)?;
            }
            if self.settles {
                caught_up(field, &self.cut).await?;
            }
            Ok(Bite::Bit(format!("{} file systems lost what was not flushed", self.cut.len())))
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh ends processes, and the kernel keeps what they wrote and did not flush")
    }
}

/// What a disk does wrong while its process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sickness {
    /// Each flush takes 200 ms longer.
    Slow,
    /// Flushes do not return.
    Hung,
    /// Flushes fail: the process must end, since nobody knows what is on the disk.
    FlushError,
    /// Writes fail with "no space left".
    Full,
}

/// The leader's disk is sick.
pub struct SickDisk {
    sickness: Sickness,
    broker: usize,
    before: Counters,
    frozen: Option<Frozen>,
}

impl SickDisk {
    /// In this way.
    pub fn new(sickness: Sickness) -> Self {
        Self { sickness, broker: 0, before: Counters::default(), frozen: None }
    }
}

impl Fault for SickDisk {
    fn name(&self) -> &'static str {
        match self.sickness {
            Sickness::Slow => "slow-disk",
            Sickness::Hung => "hung-disk",
            Sickness::FlushError => "flush-error",
            Sickness::Full => "full-disk",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "target": "leader" })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.broker = field.cluster.leader().await?;
            Ok(names(field, &[self.broker]))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let path = field.cluster.data_directory(self.broker).to_owned();
            let shim = field.shims.get_mut(self.broker).context("the drill has no shim")?;
            self.before = shim.counters()?;
            ensure!(self.before.attached > 0, "the broker runs without the shim");
            let healthy = Settings { path, ..Settings::default() };
            shim.set(&match self.sickness {
                Sickness::Slow => Settings { sync_delay_ms: 200, ..healthy },
                Sickness::Hung => Settings { sync_hang: true, ..healthy },
                Sickness::FlushError => Settings { sync_error: Trigger::FromCall(1), ..healthy },
                Sickness::Full => Settings {
                    write_error: Trigger::FromCall(1),
                    write_error_kind: WriteError::NoSpace,
                    ..healthy
                },
            })
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            drop(self.frozen.take());
            let name = field.cluster.name(self.broker).to_owned();
            let fences = matches!(self.sickness, Sickness::FlushError | Sickness::Full);
            let begin = Instant::now();
            let mut ended = field.cluster.ended(self.broker)?;
            while fences && ended.is_none() && begin.elapsed() < FENCE_LIMIT {
                tokio::time::sleep(Duration::from_millis(50)).await;
                ended = field.cluster.ended(self.broker)?;
            }
            field.shims[self.broker].reset()?;
            let after = field.shims[self.broker].counters()?;
            if ended.is_some() {
                field.cluster.restart(self.broker)?;
            }
            let (what, count) = match self.sickness {
                Sickness::Slow => {
                    ("flushes were slow", after.syncs_delayed - self.before.syncs_delayed)
                }
                Sickness::Hung => ("flushes hung", after.syncs_hung - self.before.syncs_hung),
                Sickness::FlushError => {
                    ("flushes failed", after.syncs_failed - self.before.syncs_failed)
                }
                Sickness::Full => {
                    ("writes failed", after.writes_failed - self.before.writes_failed)
                }
            };
            if fences {
                // A node that goes on after its disk failed may acknowledge what it does not have.
                must!(count == 0 || ended.is_some(), "{name} went on although {count} {what}");
            }
            let end =
                ended.map_or(String::new(), |status| format!("; the process ended: {status}"));
            Ok(match count {
                0 => Bite::Missed(format!("no {what}")),
                count => Bite::Bit(format!("{count} {what}{end}")),
            })
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        // Numbers of Linux.
        const EIO: u32 = 5;
        const ENOSPC: u32 = 28;
        let slow = |delay| Chaos::slow_disk(Pods::Leader, &["fsync"], delay);
        let failing = |methods, errno| Chaos::failing_disk(Pods::Leader, methods, errno);
        Ok(match self.sickness {
            Sickness::Slow => Counterpart::of(setting, [slow(Duration::from_millis(200))]),
            Sickness::Hung => Counterpart::of(setting, [slow(setting.hold)])
                .but("A flush hangs for as long as the drill's fault lasts, not until its end."),
            Sickness::FlushError => Counterpart::ending(setting, [failing(&["fsync"], EIO)]),
            Sickness::Full => Counterpart::ending(setting, [failing(&["write", "create"], ENOSPC)]),
        })
    }
}

/// What happens to the files of a follower while it is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Garbage behind the last frame, as a write that was under way leaves it: it starts.
    TornWrite,
    /// The disk is new.
    Emptied,
    /// A bit of an older part of the log flipped: it must not start, or get it back.
    FlippedBit,
    /// The end of the log, which it had promised, is gone: the same.
    CutTail,
}

/// Empties a data directory; what was in it is kept beside it.
pub(super) fn empty(data: &Path) -> anyhow::Result<damage::Damage> {
    let keep = (1..).map(|round| data.with_extension(format!("before-{round}")));
    let keep = keep.into_iter().find(|keep| !keep.exists()).context("no name is free")?;
    damage::empty(data, &keep)
}

/// A follower is killed, its files are damaged, and it is started again.
pub struct Damaged {
    loss: Loss,
    broker: usize,
    name: String,
    damage: Option<damage::Damage>,
}

impl Damaged {
    /// In this way.
    pub fn new(loss: Loss) -> Self {
        Self { loss, broker: 0, name: String::new(), damage: None }
    }
}

impl Fault for Damaged {
    fn name(&self) -> &'static str {
        match self.loss {
            Loss::TornWrite => "torn-tail",
            Loss::Emptied => "emptied-disk",
            Loss::FlippedBit => "bit-flip",
            Loss::CutTail => "truncation",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        let damage = self.damage.as_ref().map(|damage| json!(damage)).unwrap_or_default();
        let emptied = Some(&self.name).filter(|_| self.loss == Loss::Emptied);
        let emptied: Vec<&String> = emptied.into_iter().collect();
        json!({ "target": "follower", "damage": damage, "emptied": emptied })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.broker = Target::Follower.choose(field).await?[0];
            self.name = field.cluster.name(self.broker).to_owned();
            Ok(vec![self.name.clone()])
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            field.cluster.kill(self.broker)?;
            let data = field.cluster.data_directory(self.broker).to_owned();
            let random = &mut field.random;
            self.damage = Some(match self.loss {
                Loss::TornWrite => damage::torn_write(&data, random)?,
                Loss::Emptied => empty(&data)?,
                Loss::FlippedBit => damage::flip_bit(&data, damage::Kind::NewestSegment, random)?,
                Loss::CutTail => damage::torn_tail(&data, random)?,
            });
            field.cluster.restart(self.broker)
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            let damage = self.damage.take().context("nothing was damaged")?;
            let what = damage.to_string();
            let name = &self.name;
            let starts = matches!(self.loss, Loss::TornWrite | Loss::Emptied);
            if starts {
                field.cluster.caught_up(self.broker).await?;
                return Ok(Bite::Bit(format!("{what}; {name} is a voter again")));
            }
            // It must have ended by itself, and said which file. An operator then brings it back;
            // here with the bytes it had.
            let begin = Instant::now();
            let mut ended = field.cluster.ended(self.broker)?;
            while ended.is_none() && begin.elapsed() < FENCE_LIMIT {
                tokio::time::sleep(Duration::from_millis(50)).await;
                ended = field.cluster.ended(self.broker)?;
            }
            let runs_on = || Unmet(format!("{name} runs on damaged files: {what}"));
            let status = ended.ok_or_else(runs_on)?;
            must!(!status.success(), "{name} ended as if nothing had been: {what}");
            let log = field.cluster.log_of(self.broker)?;
            let changed =
                damage.changes.first().map(|change| change.file()).unwrap_or(Path::new(""));
            let file = changed.file_name().unwrap_or_default().to_string_lossy().into_owned();
            must!(log.contains(&file), "{name} did not say that {file} is damaged");
            damage.undo()?;
            field.cluster.restart(self.broker)?;
            Ok(Bite::Bit(format!("{what}; {name} refused to start ({status})")))
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err(match self.loss {
            Loss::Emptied => "Chaos Mesh deletes no volumes: delete a claim and its pod by hand",
            Loss::TornWrite | Loss::FlippedBit | Loss::CutTail => {
                "Chaos Mesh changes what is read, not what is stored"
            }
        })
    }
}
