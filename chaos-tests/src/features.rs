//! What official clients can do beyond ordinary messages: message groups, delays, transactions,
//! filters, retries, topic types, priorities.
//!
//! [`ALL`] is the table of it: each check of the drivers' command `features`, what it needs in the
//! cluster, and which clients lack it. A check has topics and groups of its own, named after it, so
//! that all can run at once.
//!
//! Not here: what a check does, which is in the drivers; what no client has (`tests/pull.rs`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use raftmq_proto::v2::DeadLetterQueue;

use crate::cluster::Cluster;
use crate::driver::{Check, Client};
use crate::paths;

/// Topics and groups are made by as many processes at once.
const CREATED_AT_ONCE: usize = 4;

const NO_PUSH: (Client, &str) = (Client::Rust, "has no push consumer");
const NO_RECALL: (Client, &str) = (Client::Rust, "can not recall");
const NO_PRIORITY: (Client, &str) = (Client::Rust, "has no priorities");
const OTHERS_PUSH: [(Client, &str); 4] = [
    (Client::Java, "shown by retry_backoff"),
    (Client::Go, "shown by retry_backoff"),
    (Client::Python, "shown by retry_backoff"),
    (Client::Node, "shown by retry_backoff"),
];

/// Every check, with all that differs between them.
pub const ALL: [Feature; 16] = [
    Feature::new("fifo_order_simple", "fifo").group(&["--fifo"]),
    Feature::new("fifo_order_push", "fifo").group(&["--fifo"]).lacking(&[NO_PUSH]),
    Feature::new("fifo_blocked", "fifo").group(&["--fifo"]),
    Feature::new("fifo_dead_letter", "fifo")
        .group(&["--fifo", "--max-attempts=3", "--backoff=1s"])
        .lacking(&[NO_PUSH])
        .with_dead_letter(),
    Feature::new("delay", "delay"),
    Feature::new("recall", "delay").lacking(&[NO_RECALL]),
    Feature::new("transaction", "transaction"),
    Feature::new("transaction_check", "transaction"),
    Feature::new("sql_filter_simple", "normal"),
    Feature::new("sql_filter_push", "normal").lacking(&[NO_PUSH]),
    Feature::new("sql_malformed", "normal"),
    Feature::new("retry_backoff", "normal")
        .group(&["--max-attempts=3", "--backoff=1s,2s"])
        .lacking(&[NO_PUSH])
        .with_dead_letter(),
    Feature::new("dead_letter_simple", "normal")
        .group(&["--max-attempts=2"])
        .lacking(&OTHERS_PUSH)
        .with_dead_letter(),
    Feature::new("wrong_type", "normal").topic_of_each_type(),
    Feature::new("mixed", "mixed"),
    Feature::new("priority", "priority").lacking(&[NO_PRIORITY]),
];

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    topic_type: &'static str,
    /// More topics, each named after its type.
    topics: &'static [&'static str],
    /// Options of `raftmq group create`.
    group: &'static [&'static str],
    /// One message ends in the group's dead-letter topic, which another group reads.
    dead_letter: bool,
    lacking: &'static [(Client, &'static str)],
}

impl Feature {
    const fn new(name: &'static str, topic_type: &'static str) -> Self {
        Self { name, topic_type, topics: &[], group: &[], dead_letter: false, lacking: &[] }
    }

    const fn group(self, options: &'static [&'static str]) -> Self {
        Self { group: options, ..self }
    }

    const fn lacking(self, clients: &'static [(Client, &'static str)]) -> Self {
        Self { lacking: clients, ..self }
    }

    const fn with_dead_letter(self) -> Self {
        Self { dead_letter: true, ..self }
    }

    const fn topic_of_each_type(self) -> Self {
        Self { topics: &["normal", "fifo", "delay", "transaction"], ..self }
    }

    /// Why a client can not do it. `None`: it can.
    pub fn lacks(&self, client: Client) -> Option<&'static str> {
        self.lacking.iter().find(|(lacking, _)| *lacking == client).map(|(_, reason)| *reason)
    }

    fn topic(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.name.replace('_', "-"))
    }

    fn group_name(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.name.replace('_', "-"))
    }

    /// The command lines that make what it needs.
    fn set_up(&self, prefixes: &Prefixes) -> Vec<Vec<String>> {
        let create = |kind: &str, name: String, options: &[&str]| {
            let words = [kind, "create", &name].into_iter().chain(options.iter().copied());
            words.map(str::to_owned).collect()
        };
        let topic = self.topic(&prefixes.topic);
        let group = self.group_name(&prefixes.group);
        let mut commands = Vec::new();
        for topic_type in self.topics {
            let option = format!("--type={topic_type}");
            commands.push(create("topic", format!("{topic}-{topic_type}"), &[&option]));
        }
        commands.push(create("topic", topic, &[&format!("--type={}", self.topic_type)]));
        if self.dead_letter {
            commands.push(create("group", format!("{group}-reader"), &[]));
        }
        commands.push(create("group", group, self.group));
        commands
    }

    /// Fails unless the one dead letter of a run says where it comes from, if it makes one.
    pub async fn judge_dead_letter(&self, cluster: &Cluster, client: Client) -> anyhow::Result<()> {
        if !self.dead_letter {
            return Ok(());
        }
        let prefixes = Prefixes::of(client);
        let topic = format!("%DLQ%{}", self.group_name(&prefixes.group));
        let messages = cluster.messages(&topic).await?;
        ensure!(messages.len() == 1, "{} messages in {topic}", messages.len());
        let properties = messages[0].system_properties.as_ref().context("no properties")?;
        let expected = DeadLetterQueue {
            topic: self.topic(&prefixes.topic),
            message_id: properties.message_id.clone(),
        };
        let origin = properties.dead_letter_queue.as_ref();
        ensure!(origin == Some(&expected), "the origin is {origin:?} instead of {expected:?}");
        Ok(())
    }
}

/// What the names of a client's topics and groups begin with.
struct Prefixes {
    topic: String,
    group: String,
}

impl Prefixes {
    fn of(client: Client) -> Self {
        let name = client.name();
        Self { topic: format!("{name}-topic"), group: format!("{name}-group") }
    }
}

/// Makes topics and groups for a client, and runs all checks that it does not lack.
pub async fn run(
    client: Client,
    cluster: &Cluster,
    directory: &Path,
    limit: Duration,
) -> anyhow::Result<Vec<Check>> {
    let prefixes = Prefixes::of(client);
    let features = || ALL.iter().filter(|feature| feature.lacks(client).is_none());
    let admin = cluster.admin_addresses().join(",");
    let commands = features().flat_map(|feature| feature.set_up(&prefixes));
    stream::iter(commands.map(|words| raftmq(words, &admin)))
        .buffer_unordered(CREATED_AT_ONCE)
        .try_collect::<()>()
        .await?;
    let topics: Vec<String> = features().map(|feature| feature.topic(&prefixes.topic)).collect();
    cluster.routed(&topics).await?;

    let endpoint = cluster.endpoint();
    let names: Vec<&str> = features().map(|feature| feature.name).collect();
    let args = ["--endpoint", &endpoint, "--topic", &prefixes.topic, "--group", &prefixes.group];
    let only = ["--only", &names.join(",")];
    client.check("features", directory, &[&args[..], &only].concat(), limit).await
}

/// An operator's command.
async fn raftmq(words: Vec<String>, admin: &str) -> anyhow::Result<()> {
    let mut command = Command::new(paths::binary()?);
    command.args(&words).args(["--admin", admin]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "raftmq {}: {said}", words.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_clients_names_the_test_of_every_cell() {
        let page = include_str!("../../docs/clients.md");
        for feature in ALL {
            for client in Client::ALL {
                let test = format!("`{}_{}`", client.name(), feature.name);
                assert_eq!(page.contains(&test), feature.lacks(client).is_none(), "{test}");
            }
        }
    }
}
