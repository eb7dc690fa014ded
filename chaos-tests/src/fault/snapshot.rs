//! The transfer of a snapshot is interrupted: its receiver dies, its sender dies, its link breaks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::Rng;
use serde_json::json;

use super::network::links_of;
use super::process::{Target, names, outrun, take_away};
use super::{Bite, Fault, Field, Step};
use crate::Unmet;
use crate::mesh::{Counterpart, Reason, Setting};
use crate::net::Link;

/// What breaks while a snapshot arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// `kill -9` of the follower that needs it.
    Receiver,
    /// `kill -9` of the leader that sends it.
    Sender,
    /// The links between the two.
    Link,
}

/// A follower is away for longer than the log reaches back; what then happens to the snapshot it
/// gets is interrupted several times, each at a random point. It must get there all the same.
pub struct InterruptedSnapshot {
    interruption: Interruption,
    broker: usize,
    applied_index: u64,
    hits: Vec<String>,
}

/// How often it is tried.
const TIMES: usize = 3;
/// The transfer takes seconds at this speed, so that the points are different ones.
const BYTES_PER_S: u64 = 768 << 10;
/// After a transfer has begun.
const DELAY_MS_MAX: u64 = 1200;
/// How many of them are interrupted as soon as all has arrived, while it is installed.
const INSTALLED_SHARE: f64 = 0.4;
/// Until one begins, after what interrupted the last one is mended.
const BEGIN_LIMIT: Duration = Duration::from_secs(15);

impl InterruptedSnapshot {
    /// In this way.
    pub fn new(interruption: Interruption) -> Self {
        Self { interruption, broker: 0, applied_index: 0, hits: Vec::new() }
    }

    /// Where the node keeps what has arrived.
    fn incoming(&self, field: &Field) -> PathBuf {
        field.cluster.data_directory(self.broker).join("incoming")
    }

    /// Waits until a transfer has begun. False: none did, since the node needs none any more.
    async fn begun(&self, field: &Field) -> anyhow::Result<bool> {
        let (incoming, begin) = (self.incoming(field), Instant::now());
        while begin.elapsed() < BEGIN_LIMIT {
            if incoming.join("ID").exists() {
                return Ok(true);
            }
            if field.cluster.caught_up_now(self.broker).await.is_ok() {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err(Unmet("no snapshot was sent, and the node has not caught up".to_owned()).into())
    }

    /// Waits until everything is there, or the transfer has come to nothing.
    async fn arrived(&self, field: &Field) {
        let (incoming, begin) = (self.incoming(field), Instant::now());
        let under_way = || incoming.join("ID").exists() && !incoming.join("COMPLETE").exists();
        while under_way() && begin.elapsed() < BEGIN_LIMIT {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How far the transfer is; absent: it is over.
    fn progress(&self, field: &Field) -> Option<String> {
        let incoming = self.incoming(field);
        if incoming.join("COMPLETE").exists() {
            return Some("while it was installed".to_owned());
        }
        if !incoming.join("ID").exists() {
            return None;
        }
        let tables = std::fs::read_dir(incoming.join("tables")).into_iter().flatten().flatten();
        let files = tables.map(|file| file.path()).chain([incoming.join("frames")]);
        let bytes: u64 =
            files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
        Some(format!("after {} KiB", bytes >> 10))
    }

    async fn interrupt(&mut self, field: &mut Field) -> anyhow::Result<()> {
        let down = Duration::from_millis(field.random.random_range(300..1500));
        match self.interruption {
            Interruption::Receiver => {
                field.cluster.kill(self.broker)?;
                // Looked at when nothing can change it any more.
                self.hits.extend(self.progress(field));
                field.cluster.restart(self.broker)
            }
            Interruption::Sender => {
                let leader = field.cluster.leader().await?;
                ensure!(leader != self.broker, "the follower leads");
                self.hits.extend(self.progress(field));
                field.cluster.kill(leader)?;
                tokio::time::sleep(down).await;
                field.cluster.restart(leader)?;
                field.cluster.leader().await.map(drop)
            }
            Interruption::Link => {
                let links = self.links(field);
                self.hits.extend(self.progress(field));
                links_of(field)?.cut(&links)?;
                tokio::time::sleep(down).await;
                links_of(field)?.mend(&links)
            }
        }
    }

    /// All between the node and the other brokers: whoever sends is among them.
    fn links(&self, field: &Field) -> Vec<Link> {
        let own = field.cluster.name(self.broker);
        let others = (0..field.cluster.size()).filter(|other| *other != self.broker);
        let names = others.map(|other| field.cluster.name(other));
        names.flat_map(|other| [Link::new(own, other), Link::new(other, own)]).collect()
    }
}

impl Fault for InterruptedSnapshot {
    fn name(&self) -> &'static str {
        match self.interruption {
            Interruption::Receiver => "snapshot-receiver-killed",
            Interruption::Sender => "snapshot-sender-killed",
            Interruption::Link => "snapshot-link-cut",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "target": "follower", "times": TIMES, "bytes_per_s": BYTES_PER_S })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.broker = Target::Follower.choose(field).await?[0];
            let mut struck = vec![self.broker];
            if self.interruption == Interruption::Sender {
                // Who leads, and so is killed, changes with each time.
                struck.extend((0..field.cluster.size()).filter(|other| *other != self.broker));
            }
            Ok(names(field, &struck))
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
            outrun(field, self.applied_index).await?;
            let links = self.links(field);
            links_of(field)?
                .change(&links, |quality| quality.rate_bytes_per_s = Some(BYTES_PER_S))?;
            field.cluster.restart(self.broker)?;
            for _ in 0..TIMES {
                if !self.begun(field).await? {
                    break;
                }
                let delay = Duration::from_millis(field.random.random_range(0..DELAY_MS_MAX));
                if field.random.random_bool(INSTALLED_SHARE) {
                    self.arrived(field).await;
                } else {
                    tokio::time::sleep(delay).await;
                }
                self.interrupt(field).await?;
            }
            links_of(field)?.reset(&links)?;
            field.cluster.caught_up(self.broker).await?;
            let (name, hits) = (field.cluster.name(self.broker), &self.hits);
            let evidence = format!(
                "{name} had applied {}; its snapshot was interrupted {} times: {}",
                self.applied_index,
                hits.len(),
                hits.join(", ")
            );
            Ok(match hits.is_empty() {
                true => Bite::Missed(evidence),
                false => Bite::Bit(evidence),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh does not know when a snapshot arrives")
    }
}
