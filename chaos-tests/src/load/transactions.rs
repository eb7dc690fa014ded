//! Transactions: half messages that are committed, rolled back, left to the broker's question, or never
//! decided. Decisions are repeated, and contradicted; none of that may change what was decided.
//!
//! What is to become of a message stands at the end of its value, so that any producer can answer for
//! it. The checker is `transactions`.

use std::sync::Arc;
use std::time::Duration;

use raftmq::client::MessageId;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2::MessageType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::member::Member;
use super::native::{Check, Client, Role, Transaction, message, value};
use super::observe::undecided;
use super::{Context, Pace, Workload};
use crate::history::{Action, Kind};

/// Sends of one message, and ends of one transaction.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// For everything to be decided, once nothing more is sent: longer than all the broker's questions take.
const DECIDED_LIMIT: Duration = Duration::from_secs(45);
const DECIDED_PAUSE: Duration = Duration::from_millis(500);
/// Of some messages: how long the broker is to wait before it asks.
const RECOVERY_MS: u64 = 3_000;
/// A decision is contradicted or repeated within this time.
const AGAIN_MS_MAX: u64 = 3_000;
/// Producers, each with streams to all brokers.
const PRODUCERS: usize = 3;

/// The workload.
#[derive(Clone, Debug)]
pub struct Transactions {
    /// Its topic; the group is called the same.
    pub topic: String,
    /// Messages a second.
    pub rate_per_s: f64,
    /// Messages that may be under way.
    pub senders: usize,
    /// Members of the group.
    pub members: usize,
}

impl Default for Transactions {
    fn default() -> Self {
        Self { topic: "chaos-transactions".to_owned(), rate_per_s: 25.0, senders: 24, members: 4 }
    }
}

impl Workload for Transactions {
    fn name(&self) -> &'static str {
        "transactions"
    }

    fn topics(&self) -> Vec<String> {
        vec![self.topic.clone()]
    }

    fn groups(&self) -> Vec<(String, String)> {
        vec![(self.topic.clone(), self.topic.clone())]
    }

    fn make_topics(&self) -> Vec<wire::CreateTopicRequest> {
        vec![wire::CreateTopicRequest {
            name: self.topic.clone(),
            message_types: vec![MessageType::Transaction.into()],
            ..Default::default()
        }]
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let sending = send_all(self.clone(), context.clone());
        tasks.spawn(context.sending.track_future(sending));
        for _ in 0..self.members {
            if let Some(member) = Member::join(context, &self.topic, &self.topic) {
                tasks.spawn(consume(member));
            }
        }
        tasks
    }
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Commit,
    RollBack,
    /// When the broker asks.
    CommitWhenAsked,
    RollBackWhenAsked,
    /// Nobody ever says.
    Silence,
}

impl Plan {
    const ALL: [Self; 5] = [
        Self::Commit,
        Self::RollBack,
        Self::CommitWhenAsked,
        Self::RollBackWhenAsked,
        Self::Silence,
    ];

    fn of(number: u64) -> Self {
        match number % 10 {
            0..4 => Self::Commit,
            4 | 5 => Self::RollBack,
            6 => Self::CommitWhenAsked,
            7 => Self::RollBackWhenAsked,
            8 if number.is_multiple_of(4) => Self::Silence,
            _ => Self::Commit,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::RollBack => "rollback",
            Self::CommitWhenAsked => "asked_commit",
            Self::RollBackWhenAsked => "asked_rollback",
            Self::Silence => "silence",
        }
    }

    fn in_value(value: &str) -> Option<Self> {
        let (_, word) = value.rsplit_once('-')?;
        Self::ALL.into_iter().find(|plan| plan.word() == word)
    }

    /// What a producer says without being asked: whether to commit.
    fn at_once(self) -> Option<bool> {
        match self {
            Self::Commit => Some(true),
            Self::RollBack => Some(false),
            _ => None,
        }
    }

    /// What it answers.
    fn when_asked(self) -> Option<bool> {
        match self {
            Self::Commit | Self::CommitWhenAsked => Some(true),
            Self::RollBack | Self::RollBackWhenAsked => Some(false),
            Self::Silence => None,
        }
    }
}

async fn send_all(transactions: Transactions, context: Context) {
    let topic = &transactions.topic;
    let (mut clients, mut answering) = (Vec::new(), JoinSet::new());
    for _ in 0..PRODUCERS {
        let started = Client::start(&context.brokers, Role::Producer(topic));
        let Ok((client, checks)) = started else { return };
        let ender = Ender::new(client.clone(), topic, &context);
        answering.spawn(answer(ender, checks));
        clients.push(client);
    }
    let pace = Arc::new(Pace::new(transactions.rate_per_s));
    let mut senders = JoinSet::new();
    for number in 0..transactions.senders {
        let random = ChaCha8Rng::seed_from_u64(context.seed ^ ((number as u64) << 8) ^ 9);
        let ender = Ender::new(clients[number % PRODUCERS].clone(), topic, &context);
        senders.spawn(send(ender, random, pace.clone()));
    }
    while senders.join_next().await.is_some() {}
    // Nothing is left when consumers are asked whether they have taken everything.
    let since = Instant::now();
    for admin in context.admin.iter().cycle() {
        let left = undecided(&context.recorder, admin, topic).await;
        if matches!(left, Ok(0)) || since.elapsed() > DECIDED_LIMIT {
            break;
        }
        tokio::time::sleep(DECIDED_PAUSE).await;
    }
    answering.shutdown().await;
}

async fn send(ender: Ender, mut random: ChaCha8Rng, pace: Arc<Pace>) {
    let mut again = JoinSet::new();
    while let Some(number) = pace.turn(&ender.context.stop).await {
        let plan = Plan::of(number);
        let value = format!("{}-{number}-{}", ender.topic, plan.word());
        // Whoever decides at once is to be asked only if that did not get through.
        let recovery_ms = if plan.at_once().is_none() && number % 2 == 0 { RECOVERY_MS } else { 0 };
        let Some(transaction) = ender.send(&value, Kind::Half { recovery_ms }).await else {
            continue;
        };
        let Some(commit) = plan.at_once() else { continue };
        ender.end(&value, &transaction, commit, false).await;
        let contradicted = !commit && random.random_bool(0.5);
        if contradicted || random.random_bool(0.1) {
            let after = Duration::from_millis(random.random_range(0..AGAIN_MS_MAX));
            let another = Ender::new(ender.client.clone(), &ender.topic, &ender.context);
            again.spawn(async move {
                tokio::time::sleep(after).await;
                another.end(&value, &transaction, commit || contradicted, false).await;
            });
        }
        while again.try_join_next().is_some() {}
    }
    while again.join_next().await.is_some() {}
}

/// Answers what a producer is asked.
async fn answer(ender: Ender, mut checks: mpsc::Receiver<Check>) {
    while let Some(check) = checks.recv().await {
        let value = value(&check.message);
        let action = Action::Check { topic: ender.topic.clone(), value: value.clone() };
        ender.context.recorder.observe(action, None);
        let system = check.message.system_properties.unwrap_or_default();
        let transaction = Transaction { message_id: system.message_id, id: check.transaction_id };
        if let Some(commit) = Plan::in_value(&value).and_then(Plan::when_asked) {
            ender.end(&value, &transaction, commit, true).await;
        }
    }
}

/// Sends and ends transactions, one call at a time.
struct Ender {
    client: Arc<Client>,
    topic: String,
    context: Context,
    process: u32,
}

impl Ender {
    fn new(client: Arc<Client>, topic: &str, context: &Context) -> Self {
        let process = context.recorder.process();
        Self { client, topic: topic.to_owned(), context: context.clone(), process }
    }

    async fn send(&self, value: &str, kind: Kind) -> Option<Transaction> {
        let id = MessageId::generate().to_string();
        for _ in 0..ATTEMPTS {
            let action = Action::Send {
                topic: self.topic.clone(),
                value: value.to_owned(),
                message_id: Some(id.clone()),
                offset: None,
                kind: kind.clone(),
            };
            let operation = self.context.recorder.invoke(self.process, action.clone(), None);
            match self.client.send(message(&self.topic, &id, value, &kind)).await {
                Ok(entry) => {
                    operation.ok(action, None);
                    return Some(Transaction { message_id: id, id: entry.transaction_id });
                }
                Err(failed) => failed.end(operation, action),
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Tells how it ended, until that is answered.
    async fn end(&self, value: &str, transaction: &Transaction, commit: bool, checked: bool) {
        for _ in 0..ATTEMPTS {
            let action = |refused| Action::EndTransaction {
                topic: self.topic.clone(),
                value: value.to_owned(),
                commit,
                checked,
                refused,
            };
            let operation = self.context.recorder.invoke(self.process, action(false), None);
            let ended = self.client.end_transaction(&self.topic, transaction, commit, checked);
            match ended.await {
                Ok(()) => return operation.ok(action(false), None),
                Err(failed) => {
                    let refused = failed.is_refusal();
                    failed.end(operation, action(refused));
                    if refused {
                        return;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn consume(mut member: Member) {
    while !member.context.end.is_cancelled() {
        for delivery in member.receive(16).await {
            member.ack(&delivery).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_what_is_to_become_of_it() {
        let mut plans = std::collections::HashSet::new();
        for number in 0..40 {
            let plan = Plan::of(number);
            assert_eq!(Plan::in_value(&format!("t-{number}-{}", plan.word())), Some(plan));
            plans.insert(plan.word());
        }
        assert_eq!(plans.len(), Plan::ALL.len());
        assert_eq!(Plan::in_value("t-1-other"), None);
    }
}
