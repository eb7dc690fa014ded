//! What official clients can do beyond ordinary messages: message groups, delays, transactions,
//! filters, retries, topic types, priorities, lite topics.
//!
//! [`ALL`] is the table of it: each check of the drivers' command `features`, what it needs in the
//! cluster, and which clients lack it. A check has topics and groups of its own, named after it, so
//! that all can run at once.
//!
//! Not here: what a check does, which is in the drivers; what no client has (`tests/pull.rs`).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use raftmq_proto::raftmq::{Backoff, CreateGroupRequest, CreateTopicRequest};
use raftmq_proto::v2::{DeadLetterQueue, MessageType};

use crate::cluster::Cluster;
use crate::driver::{Check, Client};

const NORMAL: &[MessageType] = &[MessageType::Normal];
const FIFO: &[MessageType] = &[MessageType::Fifo];
const DELAY: &[MessageType] = &[MessageType::Delay];
const TRANSACTION: &[MessageType] = &[MessageType::Transaction];
const PRIORITY: &[MessageType] = &[MessageType::Priority];
const LITE: &[MessageType] = &[MessageType::Lite];
const MIXED: &[MessageType] =
    &[MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction];

const NO_PUSH: (Client, &str) = (Client::Rust, "has no push consumer");
const NO_RECALL: (Client, &str) = (Client::Rust, "can not recall");
const NO_PRIORITY: (Client, &str) = (Client::Rust, "has no priorities");
const NO_LITE: (Client, &str) = (Client::Rust, "has no lite topics");
/// Only one client has a simple consumer for lite topics.
const NO_LITE_SIMPLE: [(Client, &str); 4] = [
    (Client::Java, "has a push consumer only"),
    (Client::Go, "has a push consumer only"),
    (Client::Node, "has a push consumer only"),
    NO_LITE,
];
const NO_SUSPEND: [(Client, &str); 3] =
    [(Client::Java, "can not suspend"), (Client::Python, "can not suspend"), NO_LITE];
const NO_HOLDER: [(Client, &str); 3] =
    [(Client::Python, "shown with Java and Go"), (Client::Node, "shown with Java and Go"), NO_LITE];
const OTHERS_PUSH: [(Client, &str); 4] = [
    (Client::Java, "shown by retry_backoff"),
    (Client::Go, "shown by retry_backoff"),
    (Client::Python, "shown by retry_backoff"),
    (Client::Node, "shown by retry_backoff"),
];

/// Every check, with all that differs between them.
pub const ALL: [Feature; 27] = [
    Feature::new("fifo_order_simple", FIFO).in_order(),
    Feature::new("fifo_order_push", FIFO).in_order().lacking(&[NO_PUSH]),
    Feature::new("fifo_blocked", FIFO).in_order(),
    Feature::new("fifo_dead_letter", FIFO).in_order().dying(3, &[1_000]).lacking(&[NO_PUSH]),
    Feature::new("delay", DELAY),
    Feature::new("recall", DELAY).lacking(&[NO_RECALL]),
    Feature::new("transaction", TRANSACTION),
    Feature::new("transaction_check", TRANSACTION),
    Feature::new("sql_filter_simple", NORMAL),
    Feature::new("sql_filter_push", NORMAL).lacking(&[NO_PUSH]),
    Feature::new("sql_malformed", NORMAL),
    Feature::new("retry_backoff", NORMAL).dying(3, &[1_000, 2_000]).lacking(&[NO_PUSH]),
    Feature::new("dead_letter_simple", NORMAL).dying(2, &[1_000]).lacking(&OTHERS_PUSH),
    Feature::new("wrong_type", NORMAL).and_topics(&[
        ("normal", NORMAL),
        ("fifo", FIFO),
        ("delay", DELAY),
        ("transaction", TRANSACTION),
    ]),
    Feature::new("mixed", MIXED),
    Feature::new("priority", PRIORITY).lacking(&[NO_PRIORITY]),
    Feature::new("lite_push", LITE).in_order().lacking(&[NO_LITE]),
    Feature::new("lite_subscriptions", LITE).in_order().lacking(&[NO_LITE]),
    Feature::new("lite_members", LITE).in_order().lacking(&[NO_LITE]),
    Feature::new("lite_dead_letter", LITE).in_order().dying(3, &[1_000]).lacking(&[NO_LITE]),
    Feature::new("lite_simple", LITE).in_order().lacking(&NO_LITE_SIMPLE),
    Feature::new("lite_suspend", LITE).in_order().lacking(&NO_SUSPEND),
    Feature::new("lite_quota", LITE).in_order().lite(LITE_TWO_SUBSCRIPTIONS).lacking(&[NO_LITE]),
    Feature::new("lite_topic_quota", LITE).in_order().lite(LITE_TWO).lacking(&[NO_LITE]),
    Feature::new("lite_exclusive", LITE).in_order().lite(LITE_EXCLUSIVE).lacking(&[NO_LITE]),
    Feature::new("lite_illegal_name", LITE).in_order().lacking(&[NO_LITE]),
    Feature::new("lite_takeover", LITE).in_order().lacking(&NO_HOLDER),
];

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    types: &'static [MessageType],
    /// More topics, with what follows after the name.
    topics: &'static [(&'static str, &'static [MessageType])],
    fifo: bool,
    dying: Option<Dying>,
    lite: Lite,
    lacking: &'static [(Client, &'static str)],
}

/// One message ends in the group's dead-letter topic, which another group reads.
#[derive(Clone, Copy, Debug)]
struct Dying {
    max_attempts: u32,
    backoff_ms: &'static [u64],
}

/// What a check with lite topics needs, where the defaults are not it.
#[derive(Clone, Copy, Debug)]
struct Lite {
    /// Lite topics of its topic.
    topics_max: u32,
    /// Subscriptions of one client of its group.
    subscriptions_max: u32,
    exclusive: bool,
}

const LITE_AS_EVER: Lite = Lite { topics_max: 0, subscriptions_max: 0, exclusive: false };
const LITE_TWO: Lite = Lite { topics_max: 2, ..LITE_AS_EVER };
const LITE_TWO_SUBSCRIPTIONS: Lite = Lite { subscriptions_max: 2, ..LITE_AS_EVER };
const LITE_EXCLUSIVE: Lite = Lite { exclusive: true, ..LITE_AS_EVER };

impl Feature {
    const fn new(name: &'static str, types: &'static [MessageType]) -> Self {
        let (lite, lacking): (_, &[_]) = (LITE_AS_EVER, &[]);
        Self { name, types, topics: &[], fifo: false, dying: None, lite, lacking }
    }

    const fn and_topics(self, topics: &'static [(&'static str, &'static [MessageType])]) -> Self {
        Self { topics, ..self }
    }

    const fn in_order(self) -> Self {
        Self { fifo: true, ..self }
    }

    const fn dying(self, max_attempts: u32, backoff_ms: &'static [u64]) -> Self {
        Self { dying: Some(Dying { max_attempts, backoff_ms }), ..self }
    }

    const fn lite(self, lite: Lite) -> Self {
        Self { lite, ..self }
    }

    const fn lacking(self, clients: &'static [(Client, &'static str)]) -> Self {
        Self { lacking: clients, ..self }
    }

    /// Why a client does not do it. `None`: it does.
    pub fn lacks(&self, client: Client) -> Option<&'static str> {
        self.lacking.iter().find(|(lacking, _)| *lacking == client).map(|(_, reason)| *reason)
    }

    fn topic(&self, client: Client) -> String {
        format!("{}-{}", topic_prefix(client), self.name.replace('_', "-"))
    }

    fn group(&self, client: Client) -> String {
        format!("{}-{}", group_prefix(client), self.name.replace('_', "-"))
    }

    fn new_topics(&self, client: Client) -> Vec<CreateTopicRequest> {
        let topic = |name: String, types: &[MessageType]| CreateTopicRequest {
            name,
            message_types: types.iter().copied().map(Into::into).collect(),
            lite_topics_max: self.lite.topics_max,
            ..Default::default()
        };
        let own = self.topic(client);
        let more =
            self.topics.iter().map(|(suffix, types)| topic(format!("{own}-{suffix}"), types));
        more.chain([topic(own.clone(), self.types)]).collect()
    }

    fn new_groups(&self, client: Client) -> Vec<CreateGroupRequest> {
        let mut own = CreateGroupRequest {
            name: self.group(client),
            fifo: self.fifo,
            lite_subscriptions_max: self.lite.subscriptions_max,
            lite_exclusive: self.lite.exclusive,
            ..Default::default()
        };
        let Some(dying) = self.dying else { return vec![own] };
        let name = format!("{}-reader", own.name);
        own.max_attempts = dying.max_attempts;
        own.backoff = Some(Backoff { delays_ms: dying.backoff_ms.into(), ..Default::default() });
        vec![own, CreateGroupRequest { name, ..Default::default() }]
    }

    /// Fails unless the one dead letter of a run says where it comes from, if it makes one.
    pub async fn judge_dead_letter(&self, cluster: &Cluster, client: Client) -> anyhow::Result<()> {
        if self.dying.is_none() {
            return Ok(());
        }
        let topic = format!("%DLQ%{}", self.group(client));
        let messages = cluster.messages(&topic).await?;
        ensure!(messages.len() == 1, "{} messages in {topic}", messages.len());
        let properties = messages[0].system_properties.as_ref().context("no properties")?;
        let message_id = properties.message_id.clone();
        let expected = DeadLetterQueue { topic: self.topic(client), message_id };
        let origin = properties.dead_letter_queue.as_ref();
        ensure!(origin == Some(&expected), "the origin is {origin:?} instead of {expected:?}");
        Ok(())
    }
}

fn topic_prefix(client: Client) -> String {
    format!("{}-topic", client.name())
}

fn group_prefix(client: Client) -> String {
    format!("{}-group", client.name())
}

/// Makes topics and groups for a client, and runs all checks that it does not lack.
pub async fn run(
    client: Client,
    cluster: &Cluster,
    directory: &Path,
    limit: Duration,
) -> anyhow::Result<Vec<Check>> {
    let features = || ALL.iter().filter(|feature| feature.lacks(client).is_none());
    let (topic, group) = (topic_prefix(client), group_prefix(client));
    // Some drivers make one producer for all checks, which must be made with some topic.
    let first = CreateTopicRequest { name: topic.clone(), ..Default::default() };
    let topics = features().flat_map(|feature| feature.new_topics(client)).chain([first]);
    let groups = features().flat_map(|feature| feature.new_groups(client));
    cluster.create_as(&topics.collect::<Vec<_>>(), &groups.collect::<Vec<_>>()).await?;

    // The client for Rust drops its connection to a broker that is not its endpoint as soon as a call
    // is over: nobody can ask it about its transactions there.
    let endpoint = match client {
        Client::Rust => cluster.client_addresses().swap_remove(0),
        _ => cluster.endpoint(),
    };
    let names: Vec<&str> = features().map(|feature| feature.name).collect();
    let args = ["--endpoint", &endpoint, "--topic", &topic, "--group", &group];
    let only = ["--only", &names.join(",")];
    client.check("features", directory, &[&args[..], &only].concat(), limit).await
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
