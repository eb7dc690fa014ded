//! A leader that knows less than what was acknowledged before it led.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::admin_client::AdminClient;
use raftmq_proto::raftmq::peer_client::PeerClient;
use raftmq_proto::v2::Code;
use rand::Rng;
use serde_json::json;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::peer::{peer, status};
use super::process::{Target, names};
use super::{Bite, Fault, Field, Step};
use crate::disk::shim::Settings;
use crate::mesh::{Counterpart, Reason, Setting};
use crate::{Unmet, load, must, until};

/// Until the drill has seen it lead, the slow broker flushes nothing of its log. What is not flushed is not
/// applied.
const FLUSH_DELAY_MS: u64 = 60_000;
/// For a flush to be under way: whatever comes now waits for the next one.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// For entries that the slow broker has and the other one has not, so that only the slow one can lead.
const AHEAD: Duration = Duration::from_millis(300);
/// How long it is slow once it leads.
const LEADS_SLOWLY: Duration = Duration::from_millis(100);
const CALL_LIMIT: Duration = Duration::from_secs(5);
const ELECTION_LIMIT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A new topic is acknowledged; a follower has it in its log, and has not applied it, since its disk is
/// slow. The two others are killed, and one comes back: the slow one is elected. Who sends to the topic
/// must not be told that there is none.
#[derive(Default)]
pub struct LateLeader {
    slow: usize,
    leader: usize,
    other: usize,
    /// Entries that it had to apply when it began to lead.
    behind_by: u64,
}

impl Fault for LateLeader {
    fn name(&self) -> &'static str {
        "late-leader"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "slow": self.slow + 1 })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            ensure!(field.cluster.size() == 3, "more brokers would elect without the slow one");
            self.leader = field.cluster.leader().await?;
            self.slow = Target::Follower.choose(field).await?[0];
            self.other = 3 - self.leader - self.slow;
            Ok(names(field, &[self.slow, self.leader, self.other]))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let path = newest_segment(field.cluster.data_directory(self.slow))?;
            let shim = field.shims.get_mut(self.slow).context("the drill has no shims")?;
            shim.set(&Settings { path, sync_delay_ms: FLUSH_DELAY_MS, ..Settings::default() })?;
            tokio::time::sleep(UNDER_WAY).await;

            let topic = format!("late-{}", field.random.random::<u32>());
            create(&field.cluster.admin_addresses()[self.leader], &topic).await?;
            let goal = status(&mut peer(field, self.leader)?).await?.commit_index;
            let mut slow = peer(field, self.slow)?;
            until("the slow broker to have the topic in its log", CALL_LIMIT, async || {
                let has = status(&mut slow).await?.last_log_index;
                ensure!(has >= goal, "it has {has} of {goal}");
                Ok(())
            })
            .await?;
            field.cluster.kill(self.other)?;
            tokio::time::sleep(AHEAD).await;
            field.cluster.kill(self.leader)?;
            field.cluster.restart(self.other)?;

            let address = field.cluster.client_addresses()[self.slow].clone();
            let shim = &mut field.shims[self.slow];
            let leading = async {
                let behind_by = until_leading(&mut slow, goal).await;
                tokio::time::sleep(LEADS_SLOWLY).await;
                shim.reset().and(behind_by)
            };
            let (behind_by, told) = tokio::join!(leading, send(&address, &topic));
            self.behind_by = behind_by?;
            must!(
                told? != Some(Code::TopicNotFound),
                "topic {topic} was acknowledged, and the next leader, broker-{}, did not know it",
                self.slow + 1
            );
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            field.cluster.restart(self.leader)?;
            let name = field.cluster.name(self.slow);
            Ok(match self.behind_by {
                0 => Bite::Missed(format!("{name} had applied everything when it began to lead")),
                behind_by => Bite::Bit(format!(
                    "{name} was elected with {behind_by} entries not applied, and answered late"
                )),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh gives no order to a slow disk and kills that overlap")
    }
}

/// The file that a broker's log is written to.
fn newest_segment(data: &Path) -> anyhow::Result<PathBuf> {
    let files = std::fs::read_dir(data.join("log"))?.collect::<Result<Vec<_>, _>>()?;
    let paths = files.into_iter().map(|file| file.path());
    let segments = paths.filter(|path| path.extension().is_some_and(|it| it == "log"));
    segments.max().context("it has no log")
}

async fn create(admin: &str, name: &str) -> anyhow::Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://{admin}"))?.timeout(CALL_LIMIT);
    let request = wire::CreateTopicRequest { name: name.to_owned(), ..Default::default() };
    AdminClient::new(endpoint.connect().await?).create_topic(request).await?;
    Ok(())
}

/// How many entries up to `goal` it has not applied when it begins to lead. Asks often: a leader whose disk
/// is slow hands over soon.
async fn until_leading(slow: &mut PeerClient<Channel>, goal: u64) -> anyhow::Result<u64> {
    let begin = Instant::now();
    while begin.elapsed() < ELECTION_LIMIT {
        match status(slow).await {
            Ok(own) if own.role == "leader" => return Ok(goal.saturating_sub(own.applied_index)),
            _ => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
    Err(Unmet(format!("waited {ELECTION_LIMIT:?} for the only one that can lead")).into())
}

/// Sends a message through a broker until that takes it, or says that there is no such topic.
async fn send(broker: &str, topic: &str) -> anyhow::Result<Option<Code>> {
    let begin = Instant::now();
    loop {
        match load::send_one(broker, topic).await? {
            Ok(()) => return Ok(None),
            Err(Some(Code::TopicNotFound)) => return Ok(Some(Code::TopicNotFound)),
            Err(_) if begin.elapsed() < ELECTION_LIMIT => tokio::time::sleep(LOOK_INTERVAL).await,
            Err(code) => bail!("nothing could be sent to topic {topic}: {code:?}"),
        }
    }
}
