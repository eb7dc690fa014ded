//! Topics and groups are made, deleted and looked at through any node: each must behave as one
//! register does, whoever leads.

use std::time::Duration;

use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::admin_client::AdminClient;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::{Context, Workload};
use crate::history::Action;

const TIMEOUT: Duration = Duration::from_secs(4);
const NAMES: usize = 4;
/// The checker's work grows with what is concurrent at one name.
const PAUSE: Duration = Duration::from_millis(40);

/// The workload.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Operators at work at the same time.
    pub operators: usize,
}

impl Workload for Admin {
    fn name(&self) -> &'static str {
        "admin"
    }

    fn topics(&self) -> Vec<String> {
        Vec::new()
    }

    fn groups(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in 0..self.operators as u64 {
            let random = ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 3);
            tasks.spawn(operate(context.clone(), random));
        }
        tasks
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Topic,
    Group,
}

#[derive(Clone, Copy)]
enum Verb {
    Create,
    Delete,
    Read,
}

async fn operate(context: Context, mut random: ChaCha8Rng) {
    let mut process = context.recorder.process();
    while !context.stop.is_cancelled() {
        let kind = if random.random_bool(0.5) { Kind::Topic } else { Kind::Group };
        let verb = *[Verb::Create, Verb::Delete, Verb::Read, Verb::Read]
            .choose(&mut random)
            .unwrap_or(&Verb::Read);
        let name = format!("register-{}", random.random_range(0..NAMES));
        let Some(address) = context.admin.choose(&mut random).cloned() else { return };
        let action = |existed| Action::Admin {
            kind: match kind {
                Kind::Topic => "topic".to_owned(),
                Kind::Group => "group".to_owned(),
            },
            name: name.clone(),
            verb: match verb {
                Verb::Create => "create".to_owned(),
                Verb::Delete => "delete".to_owned(),
                Verb::Read => "read".to_owned(),
            },
            existed,
        };
        let operation = context.recorder.invoke(process, action(None), Some(address.clone()));
        let called = tokio::time::timeout(TIMEOUT, call(&address, kind, verb, &name)).await;
        match called.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
            Ok(()) => operation.ok(action(Some(!matches!(verb, Verb::Create))), Some(address)),
            Err(status) => match (status.code(), verb) {
                (Code::AlreadyExists, Verb::Create) => {
                    operation.ok(action(Some(true)), Some(address));
                }
                (Code::NotFound, Verb::Delete | Verb::Read) => {
                    operation.ok(action(Some(false)), Some(address));
                }
                (_, Verb::Read) => operation.fail(action(None), status.to_string()),
                (_, Verb::Create | Verb::Delete) => {
                    operation.unknown(action(None), status.to_string());
                    // Another process number, since this operation may still be under way.
                    // It may still be under way, and a process does one thing at a time.
                    process = context.recorder.process();
                }
            },
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn call(address: &str, kind: Kind, verb: Verb, name: &str) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Status::internal(error.to_string()))?
        .connect_timeout(TIMEOUT / 2)
        .timeout(TIMEOUT);
    let mut node = AdminClient::new(endpoint.connect_lazy());
    let name = name.to_owned();
    match (kind, verb) {
        (Kind::Topic, Verb::Create) => {
            let request = wire::CreateTopicRequest { name, queue_count: 1, ..Default::default() };
            node.create_topic(request).await.map(drop)
        }
        (Kind::Topic, Verb::Delete) => {
            node.delete_topic(wire::DeleteTopicRequest { name }).await.map(drop)
        }
        (Kind::Topic, Verb::Read) => {
            let request = wire::DescribeTopicRequest { name, this_node: false };
            node.describe_topic(request).await.map(drop)
        }
        (Kind::Group, Verb::Create) => {
            let request = wire::CreateGroupRequest { name, ..Default::default() };
            node.create_group(request).await.map(drop)
        }
        (Kind::Group, Verb::Delete) => {
            node.delete_group(wire::DeleteGroupRequest { name }).await.map(drop)
        }
        (Kind::Group, Verb::Read) => {
            let request = wire::DescribeGroupRequest { name, this_node: false };
            node.describe_group(request).await.map(drop)
        }
    }
}
