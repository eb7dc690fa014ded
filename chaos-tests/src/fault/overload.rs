//! Too much work for a while.

use anyhow::Context;
use serde_json::json;
use std::time::Instant;

use super::kernel::MemoryWatch;
use super::{Bite, Fault, Field, Step};
use crate::load::SurgeCounts;
use crate::mesh::{Counterpart, Reason, Setting};
use crate::must;

/// By how much a server may grow.
const GROWTH_BYTES_MAX: u64 = 300 << 20;

/// The workload [`crate::load::Flood`] sends what it can. Servers must slow down or refuse, with
/// bounded memory.
pub struct Overload {
    usual_per_s: f64,
    began: Option<(Instant, SurgeCounts, MemoryWatch)>,
}

impl Overload {
    /// Has had an effect if more than twice `usual_per_s` sends a second were begun.
    pub fn new(usual_per_s: f64) -> Self {
        Self { usual_per_s, began: None }
    }
}

impl Fault for Overload {
    fn name(&self) -> &'static str {
        "overload"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "usual_per_s": self.usual_per_s, "growth_bytes_max": GROWTH_BYTES_MAX })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            Ok((0..field.cluster.size()).map(|it| field.cluster.name(it).to_owned()).collect())
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let memory = MemoryWatch::start(field.cluster.pids());
            self.began = Some((Instant::now(), field.surge.counts(), memory));
            field.surge.set(true);
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            field.surge.set(false);
            let (began, before, memory) = self.began.take().context("it has not begun")?;
            let (seconds, after) = (began.elapsed().as_secs_f64(), field.surge.counts());
            let grown_bytes = memory.growth_bytes().await?;
            let (grown, limit) = (grown_bytes >> 20, GROWTH_BYTES_MAX >> 20);
            must!(grown_bytes < GROWTH_BYTES_MAX, "a server grew by {grown} of {limit} MiB");
            let per_second = |after: u64, before: u64| (after - before) as f64 / seconds;
            let begun = per_second(after.begun, before.begun);
            let evidence = format!(
                "{begun:.0} sends a second were begun beside the usual {:.0}, {:.0} of them \
                 acknowledged and {:.0} refused; the largest server grew by {grown} MiB",
                self.usual_per_s,
                per_second(after.acknowledged, before.acknowledged),
                per_second(after.refused, before.refused),
            );
            Ok(match begun > 2.0 * self.usual_per_s {
                true => Bite::Bit(evidence),
                false => Bite::Missed(evidence),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh breaks a cluster; it does not load it")
    }
}
