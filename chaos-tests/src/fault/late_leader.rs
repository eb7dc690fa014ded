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

use super::network::links_of;
use super::peer::{peer, status};
use super::process::{Target, names};
use super::{Bite, Fault, Field, Step};
use crate::disk::shim::Settings;
use crate::mesh::{Counterpart, Reason, Setting};
use crate::net::Link;
use crate::{Unmet, load, must};

/// What flushes of the heir take longer while the topic is made.
const HEIR_FLUSH_MS: u64 = 600;
/// For as many entries to be under way as may be: the first in a flush, the others in the next. The topic
/// sets out when that first flush is over, and is in the third.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// From then on until the third flush is half done: of answers over a link of which one direction is cut
/// only the first is sure to arrive.
const HALF_FLUSHED: Duration = Duration::from_millis(HEIR_FLUSH_MS * 5 / 2 - 100);
/// What flushes of the other one take longer afterwards: only after one of them the heir knows what is
/// committed. Less than what counts as a disk that hangs.
const OTHER_FLUSH_MS: u64 = 1200;
/// How long they do so once the heir leads.
const LEADS_SLOWLY: Duration = Duration::from_millis(300);
const CALL_LIMIT: Duration = Duration::from_secs(5);
const ELECTION_LIMIT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// One broker is away, the leader makes a new topic, and its word that this is committed does not get to
/// the only one who has it too, the heir. The leader is killed, the broker that was away comes back, and
/// the heir is elected, since it alone has everything; but it does not know yet how much of that counts.
/// Who sends to the topic must not be told that there is none.
#[derive(Default)]
pub struct LateLeader {
    leader: usize,
    heir: usize,
    other: usize,
    /// Whether it knew of the topic when it began to lead.
    knew: bool,
}

impl Fault for LateLeader {
    fn name(&self) -> &'static str {
        "late-leader"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "heir": self.heir + 1 })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            ensure!(field.cluster.size() == 3, "among more brokers there is more than one heir");
            self.leader = field.cluster.leader().await?;
            self.heir = Target::Follower.choose(field).await?[0];
            self.other = 3 - self.leader - self.heir;
            Ok(names(field, &[self.leader, self.heir, self.other]))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let to_heir =
                [Link::new(field.cluster.name(self.leader), field.cluster.name(self.heir))];
            field.cluster.kill(self.other)?;
            slow_down(field, self.heir, HEIR_FLUSH_MS)?;
            tokio::time::sleep(UNDER_WAY).await;
            let topic = format!("late-{}", field.random.random::<u32>());
            let admins = field.cluster.admin_addresses();
            let cut_off = async {
                tokio::time::sleep(HALF_FLUSHED).await;
                links_of(field)?.cut(&to_heir)
            };
            tokio::try_join!(create(&admins[self.leader], &topic), cut_off)?;

            field.cluster.kill(self.leader)?;
            field.shims[self.heir].reset()?;
            slow_down(field, self.other, OTHER_FLUSH_MS)?;
            links_of(field)?.mend(&to_heir)?;
            field.cluster.restart(self.other)?;
            let address = field.cluster.client_addresses()[self.heir].clone();
            let mut heir = peer(field, self.heir)?;
            let other = &mut field.shims[self.other];
            let leading = async {
                until_leading(&mut heir).await?;
                let knew = knows(&admins[self.heir], &topic).await?;
                tokio::time::sleep(LEADS_SLOWLY).await;
                other.reset().map(|()| knew)
            };
            let (knew, told) = tokio::join!(leading, send(&address, &topic));
            self.knew = knew?;
            let name = field.cluster.name(self.heir);
            must!(
                told? != Some(Code::TopicNotFound),
                "topic {topic} was acknowledged, and the next leader, {name}, did not know it"
            );
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            field.shims[self.other].reset()?;
            field.cluster.restart(self.leader)?;
            let name = field.cluster.name(self.heir);
            Ok(match self.knew {
                true => Bite::Missed(format!("{name} knew of the topic when it began to lead")),
                false => Bite::Bit(format!("{name} led before it knew of the topic, and waited")),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh gives no order to a slow disk, a cut and kills that overlap")
    }
}

/// Flushes of a broker's log take longer; those of its vote do not.
fn slow_down(field: &mut Field, broker: usize, sync_delay_ms: u64) -> anyhow::Result<()> {
    let path = newest_segment(field.cluster.data_directory(broker))?;
    let shim = field.shims.get_mut(broker).context("the drill has no shims")?;
    shim.set(&Settings { path, sync_delay_ms, ..Settings::default() })
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

/// Whether a topic is in the state of this very broker.
async fn knows(admin: &str, name: &str) -> anyhow::Result<bool> {
    let endpoint = Endpoint::from_shared(format!("http://{admin}"))?.timeout(CALL_LIMIT);
    let request = wire::DescribeTopicRequest { name: name.to_owned(), this_node: true };
    match AdminClient::new(endpoint.connect().await?).describe_topic(request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
        Err(status) => Err(status.into()),
    }
}

async fn until_leading(heir: &mut PeerClient<Channel>) -> anyhow::Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < ELECTION_LIMIT {
        match status(heir).await {
            Ok(own) if own.role == "leader" => return Ok(()),
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
