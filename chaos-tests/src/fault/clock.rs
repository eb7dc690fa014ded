//! Faults of clocks: they jump, run fast and run slow.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::process::names;
use super::{Bite, Fault, Field, Step};
use crate::disk::shim::{Clocks, Settings};
use crate::mesh::object::{Chaos, Pods};
use crate::mesh::{Counterpart, Reason, Setting};

/// What the leader's clock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It is an hour ahead.
    JumpAhead,
    /// It is an hour behind.
    JumpBack,
    /// It runs at double speed.
    Fast,
    /// It runs at half speed.
    Slow,
    /// It and all timers run at half speed: a lease ends later for the leader than for the others.
    SlowTimers,
}

/// The leader's wall clock is wrong.
pub struct WrongClock {
    clock: Clock,
    broker: usize,
    before: u64,
}

impl WrongClock {
    /// In this way.
    pub fn new(clock: Clock) -> Self {
        Self { clock, broker: 0, before: 0 }
    }
}

impl Fault for WrongClock {
    fn name(&self) -> &'static str {
        match self.clock {
            Clock::JumpAhead => "clock-ahead",
            Clock::JumpBack => "clock-back",
            Clock::Fast => "clock-fast",
            Clock::Slow => "clock-slow",
            Clock::SlowTimers => "timers-slow",
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
            let hour_ns = Duration::from_secs(3600).as_nanos() as i64;
            let shim = field.shims.get_mut(self.broker).context("the drill has no shim")?;
            self.before = shim.counters()?.clock_reads;
            let clocks = match self.clock {
                Clock::JumpAhead => Clocks { realtime_offset_ns: hour_ns, ..Clocks::default() },
                Clock::JumpBack => Clocks { realtime_offset_ns: -hour_ns, ..Clocks::default() },
                Clock::Fast => Clocks { drift_ppm: 1_000_000, ..Clocks::default() },
                Clock::Slow => Clocks { drift_ppm: -500_000, ..Clocks::default() },
                Clock::SlowTimers => {
                    Clocks { drift_ppm: -500_000, drift_monotonic: true, ..Clocks::default() }
                }
            };
            shim.set(&Settings { clocks, ..Settings::default() })
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            let shim = &mut field.shims[self.broker];
            let reads = shim.counters()?.clock_reads - self.before;
            shim.reset()?;
            Ok(match reads {
                0 => Bite::Missed("the clock was not looked at".to_owned()),
                reads => Bite::Bit(format!("a wrong time was read {reads} times")),
            })
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        let offset = match self.clock {
            Clock::JumpAhead => "1h",
            Clock::JumpBack => "-1h",
            Clock::Fast | Clock::Slow | Clock::SlowTimers => {
                return Err("clocks of Chaos Mesh jump, and run at the usual speed");
            }
        };
        Ok(Counterpart::of(setting, [Chaos::clock(Pods::Leader, offset)]))
    }
}
