//! What a comparison needs of a cluster, whoever made it.

use anyhow::ensure;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::history::{Action, Recorder};
use crate::load::{self, Context};
use crate::rocketmq;

/// How often RocketMQ's controllers are asked who is what.
const ROLES_INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

/// A running cluster whose brokers can be broken. Brokers are numbered from 0.
#[allow(async_fn_in_trait, reason = "used by one task, in this crate")]
pub trait Subject {
    /// What clients are given.
    fn endpoint(&self) -> String;

    /// How many brokers there are, running or not.
    fn size(&self) -> usize;

    /// Name of a broker.
    fn name(&self, broker: usize) -> String;

    /// Process id of a broker that is up.
    fn pid(&self, broker: usize) -> Option<u32>;

    /// Makes a topic and a consumer group.
    async fn create(&self, topic: &str, group: &str) -> anyhow::Result<()>;

    /// Waits for a leader, and returns its number.
    async fn leader(&self) -> anyhow::Result<usize>;

    /// Fails unless every broker has, or nearly has, what the leader has.
    async fn whole(&self) -> anyhow::Result<()>;

    /// `kill -9` of some brokers at once.
    fn kill(&mut self, brokers: &[usize]) -> anyhow::Result<()>;

    /// SIGTERM to a broker, and waits for its end.
    async fn stop(&mut self, broker: usize) -> anyhow::Result<()>;

    /// Starts a broker that is down. Does not wait.
    fn restart(&mut self, broker: usize) -> anyhow::Result<()>;

    /// Sends a signal to a broker.
    fn signal(&self, broker: usize, signal: &str) -> anyhow::Result<()>;

    /// Writes down who is what, until the end of the run.
    fn observe(&self, context: &Context) -> JoinSet<()>;

    /// Writes down every message of the topic that is stored.
    async fn read(&self, recorder: &Recorder, topic: &str, group: &str) -> anyhow::Result<()>;

    /// The ends of all logs, for the report of a failure.
    fn log_tails(&self) -> String;
}

impl Subject for Cluster {
    fn endpoint(&self) -> String {
        Self::endpoint(self)
    }

    fn size(&self) -> usize {
        Self::size(self)
    }

    fn name(&self, broker: usize) -> String {
        Self::name(self, broker).to_owned()
    }

    fn pid(&self, broker: usize) -> Option<u32> {
        Self::pid(self, broker)
    }

    async fn create(&self, topic: &str, group: &str) -> anyhow::Result<()> {
        Self::create(self, &[topic.to_owned()], &[group.to_owned()]).await
    }

    async fn leader(&self) -> anyhow::Result<usize> {
        Self::leader(self).await
    }

    async fn whole(&self) -> anyhow::Result<()> {
        for broker in 0..self.size() {
            ensure!(self.is_up(broker), "broker {broker} is down");
            self.caught_up(broker).await?;
        }
        Ok(())
    }

    fn kill(&mut self, brokers: &[usize]) -> anyhow::Result<()> {
        self.kill_several(brokers).map(drop)
    }

    async fn stop(&mut self, broker: usize) -> anyhow::Result<()> {
        Self::stop(self, broker).await
    }

    fn restart(&mut self, broker: usize) -> anyhow::Result<()> {
        Self::restart(self, broker)
    }

    fn signal(&self, broker: usize, signal: &str) -> anyhow::Result<()> {
        Self::signal(self, broker, signal)
    }

    fn observe(&self, context: &Context) -> JoinSet<()> {
        let names = (0..self.size()).map(|broker| Self::name(self, broker).to_owned());
        load::observe(context, names.zip(self.peer_addresses()).collect())
    }

    /// At every broker, each by itself.
    async fn read(&self, recorder: &Recorder, topic: &str, group: &str) -> anyhow::Result<()> {
        self.agree().await?;
        let (topics, groups) = ([topic.to_owned()], [group.to_owned()]);
        let (peers, admins) = (self.peer_addresses(), self.admin_addresses());
        for (broker, (peer, admin)) in peers.iter().zip(&admins).enumerate() {
            let name = Self::name(self, broker);
            recorder.observe(load::status(peer).await?, Some(name.to_owned()));
            load::read_everything(recorder, name, admin, &topics, &groups).await?;
        }
        Ok(())
    }

    fn log_tails(&self) -> String {
        Self::log_tails(self)
    }
}

impl Subject for rocketmq::Cluster {
    fn endpoint(&self) -> String {
        Self::endpoint(self)
    }

    fn size(&self) -> usize {
        Self::size(self)
    }

    fn name(&self, broker: usize) -> String {
        Self::name(self, broker)
    }

    fn pid(&self, broker: usize) -> Option<u32> {
        Self::pid(self, broker)
    }

    async fn create(&self, topic: &str, group: &str) -> anyhow::Result<()> {
        Self::create(self, topic, group).await
    }

    async fn leader(&self) -> anyhow::Result<usize> {
        self.master().await
    }

    async fn whole(&self) -> anyhow::Result<()> {
        Self::whole(self).await
    }

    fn kill(&mut self, brokers: &[usize]) -> anyhow::Result<()> {
        self.kill_several(brokers)
    }

    async fn stop(&mut self, broker: usize) -> anyhow::Result<()> {
        Self::stop(self, broker).await
    }

    fn restart(&mut self, broker: usize) -> anyhow::Result<()> {
        Self::restart(self, broker)
    }

    fn signal(&self, broker: usize, signal: &str) -> anyhow::Result<()> {
        Self::signal(self, broker, signal)
    }

    fn observe(&self, context: &Context) -> JoinSet<()> {
        let names: Vec<String> = (0..self.size()).map(|broker| self.name(broker)).collect();
        let (controllers, context) = (self.controllers(), context.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while !context.end.is_cancelled() {
                for role in controllers.roles().await.unwrap_or_default() {
                    // Of the log they say nothing.
                    let status = Action::Status {
                        term: role.term,
                        role: role.role.to_owned(),
                        leader_id: role.leader_id,
                        commit_index: 0,
                        applied_index: 0,
                        state_hash: 0,
                    };
                    context.recorder.observe(status, Some(names[role.broker].clone()));
                }
                tokio::time::sleep(ROLES_INTERVAL).await;
            }
        });
        tasks
    }

    /// At the master, which is where consumers read.
    async fn read(&self, recorder: &Recorder, topic: &str, group: &str) -> anyhow::Result<()> {
        let master = self.name(self.master().await?);
        for message in self.stored(topic, group).await? {
            let stored = Action::Stored {
                topic: topic.to_owned(),
                queue_id: message.queue_id,
                offset: message.offset,
                value: message.value,
                message_id: message.id,
                origin: None,
            };
            recorder.observe(stored, Some(master.clone()));
        }
        Ok(())
    }

    fn log_tails(&self) -> String {
        Self::log_tails(self)
    }
}
