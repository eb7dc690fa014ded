//! Processes die between a write and the end of its flush.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use super::{Bite, Fault, Field, Step};
use crate::disk::shim::Settings;
use crate::mesh::{Counterpart, Reason, Setting};

/// What a flush takes longer than usual: most of the time one is under way, and what came since it
/// began waits in the memory of the process.
const FLUSH_DELAY_MS: u64 = 150;
const SLOW_FOR: Duration = Duration::from_millis(1500);

/// All brokers are killed while their flushes take long. What was acknowledged by then is in their
/// files; what waits for its turn must not have been acknowledged.
#[derive(Default)]
pub struct KillWhileFlushing {
    slow_flushes: u64,
    killed: usize,
}

impl KillWhileFlushing {
    fn slow_flushes(field: &Field) -> anyhow::Result<u64> {
        field.shims.iter().map(|shim| Ok(shim.counters()?.syncs_delayed)).sum()
    }
}

impl Fault for KillWhileFlushing {
    fn name(&self) -> &'static str {
        "kill-while-flushing"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "target": "all", "flush_delay_ms": FLUSH_DELAY_MS })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            ensure!(field.shims.len() == field.cluster.size(), "the drill has no shims");
            Ok((0..field.cluster.size()).map(|it| field.cluster.name(it).to_owned()).collect())
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let before = Self::slow_flushes(field)?;
            for broker in 0..field.cluster.size() {
                let path = field.cluster.data_directory(broker).to_owned();
                let shim = field.shims.get_mut(broker).context("the drill has no shim")?;
                shim.set(&Settings { path, sync_delay_ms: FLUSH_DELAY_MS, ..Settings::default() })?;
            }
            tokio::time::sleep(SLOW_FOR).await;
            self.killed = (0..field.cluster.size()).filter(|it| field.cluster.is_up(*it)).count();
            field.cluster.kill_all()?;
            self.slow_flushes = Self::slow_flushes(field)? - before;
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            for shim in &mut field.shims {
                shim.reset()?;
            }
            for broker in 0..field.cluster.size() {
                field.cluster.restart(broker)?;
            }
            let (killed, slow) = (self.killed, self.slow_flushes);
            Ok(match killed == field.cluster.size() && slow > 0 {
                true => Bite::Bit(format!("{killed} processes ended after {slow} slow flushes")),
                false => Bite::Missed(format!("{killed} processes ended, {slow} slow flushes")),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh gives no order to a slow disk and a kill that overlap")
    }
}
