//! Clients that pull and keep their own place: one for each queue, which now and then forgets its place
//! and asks the server for the one it had left there.
//!
//! Only one client keeps the place of a queue. One whose `update_offset` was not answered leaves the
//! place alone for a while, since that call may still take effect, and would put back a later one.
//!
//! The checker is `pull`.

use std::sync::Arc;
use std::time::Duration;

use raftmq_proto::raftmq as wire;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::native::{Client, Delivery, Role};
use super::queue::send_all;
use super::{Context, Queue, Workload};
use crate::cluster::now_ms;
use crate::history::{Action, Operation};

const WAIT: Duration = Duration::from_secs(5);
/// After a call that failed.
const PAUSE: Duration = Duration::from_millis(50);
/// A call that was given up takes no effect after this: longer than any broker stands still.
const SETTLED: Duration = Duration::from_secs(12);
/// After a pull, how likely a place is left with the server, and how likely it is asked for. Asking is
/// the likelier one: a leader that did not know of places left before it led would be told new ones too
/// soon to be found out.
const KEEPS: f64 = 0.1;
const FORGETS: f64 = 0.2;
/// The oldest time that is asked for.
const SINCE_MS_MAX: u64 = 10_000;

/// The workload.
#[derive(Clone, Debug)]
pub struct Pull {
    /// What is sent, and where to. Its consumers are not used.
    pub queue: Queue,
    /// Queues of the topic.
    pub queues: u32,
}

impl Default for Pull {
    fn default() -> Self {
        let topic = "chaos-pull".to_owned();
        Self { queue: Queue { topic, rate_per_s: 60.0, ..Queue::default() }, queues: 4 }
    }
}

impl Workload for Pull {
    fn name(&self) -> &'static str {
        "pull"
    }

    fn topics(&self) -> Vec<String> {
        self.queue.topics()
    }

    fn groups(&self) -> Vec<(String, String)> {
        self.queue.groups()
    }

    fn make_topics(&self) -> Vec<wire::CreateTopicRequest> {
        let (name, queue_count) = (self.queue.topic.clone(), self.queues);
        vec![wire::CreateTopicRequest { name, queue_count, ..Default::default() }]
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let (mut tasks, all_sent) = (JoinSet::new(), CancellationToken::new());
        let sending = send_all(self.queue.clone(), context.clone());
        let sent = all_sent.clone().drop_guard();
        tasks.spawn(context.sending.track_future(async move {
            sending.await;
            drop(sent);
        }));
        for queue_id in 0..self.queues {
            let group = &self.queue.topic;
            let Ok((client, _)) = Client::start(&context.brokers, Role::Consumer(group)) else {
                continue;
            };
            let puller = Puller {
                client,
                group: group.clone(),
                topic: self.queue.topic.clone(),
                queue_id,
                process: context.recorder.process(),
                random: ChaCha8Rng::seed_from_u64(context.seed ^ (u64::from(queue_id) << 8) ^ 10),
                unsettled_until: Instant::now(),
                context: context.clone(),
            };
            tasks.spawn(context.sending.track_future(puller.run(all_sent.clone())));
        }
        tasks
    }
}

struct Puller {
    client: Arc<Client>,
    group: String,
    topic: String,
    queue_id: u32,
    process: u32,
    random: ChaCha8Rng,
    /// An `update_offset` that was given up may take effect until then.
    unsettled_until: Instant,
    context: Context,
}

impl Puller {
    /// Until everything that was sent is pulled, and the end of it left with the server.
    async fn run(mut self, all_sent: CancellationToken) {
        let mut place = None;
        while !self.context.end.is_cancelled() {
            let Some(from) = place else {
                place = self.find_place().await;
                continue;
            };
            let was_over = all_sent.is_cancelled();
            let Some((count, next)) = self.pull(from).await else { continue };
            place = Some(next);
            let is_over = was_over && count == 0;
            if is_over || self.random.random_bool(KEEPS) {
                let kept = self.keep(next).await;
                if is_over && kept {
                    return;
                }
            }
            if self.random.random_bool(0.05) {
                let since_ms = self.random.random_range(1..SINCE_MS_MAX);
                let since_ms = now_ms() - since_ms;
                let since_ms = self.random.random_bool(0.5).then_some(since_ms);
                self.ask(since_ms).await;
            }
            if self.random.random_bool(FORGETS) {
                place = None;
            }
        }
    }

    fn invoke(&self, action: Action) -> Operation {
        self.context.recorder.invoke(self.process, action, None)
    }

    /// The place that was left with the server, or the beginning.
    async fn find_place(&mut self) -> Option<u64> {
        let action = |offset| Action::GetOffset {
            group: self.group.clone(),
            topic: self.topic.clone(),
            queue_id: self.queue_id,
            offset,
        };
        let operation = self.invoke(action(None));
        match self.client.get_offset((&self.group, &self.topic), self.queue_id).await {
            Ok(Some(offset)) => {
                operation.ok(action(Some(offset)), None);
                Some(offset)
            }
            Ok(None) => {
                operation.ok(action(None), None);
                self.ask(Some(0)).await
            }
            Err(failed) => {
                failed.end(operation, action(None));
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    /// How many came, and where to go on.
    async fn pull(&mut self, from_offset: u64) -> Option<(usize, u64)> {
        let action = |deliveries, next_offset| Action::Pull {
            group: self.group.clone(),
            topic: self.topic.clone(),
            queue_id: self.queue_id,
            from_offset,
            deliveries,
            next_offset,
        };
        let operation = self.invoke(action(Vec::new(), None));
        let names = (&*self.group, &*self.topic);
        match self.client.pull(names, self.queue_id, from_offset, WAIT).await {
            Ok((messages, next)) => {
                let deliveries = messages.into_iter().map(|one| Delivery::of(one).seen);
                let deliveries: Vec<_> = deliveries.collect();
                let count = deliveries.len();
                operation.ok(action(deliveries, next), None);
                // Without one the answer is of no use, which the checker finds.
                Some((count, next.unwrap_or(from_offset + count as u64)))
            }
            Err(failed) => {
                failed.end(operation, action(Vec::new(), None));
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    /// Leaves a place with the server, unless an earlier one may still arrive there.
    async fn keep(&mut self, offset: u64) -> bool {
        if Instant::now() < self.unsettled_until {
            return false;
        }
        let action = Action::UpdateOffset {
            group: self.group.clone(),
            topic: self.topic.clone(),
            queue_id: self.queue_id,
            offset,
        };
        let operation = self.invoke(action.clone());
        match self.client.update_offset((&self.group, &self.topic), self.queue_id, offset).await {
            Ok(()) => {
                operation.ok(action, None);
                true
            }
            Err(failed) => {
                if !failed.is_not_done {
                    self.unsettled_until = Instant::now() + SETTLED;
                }
                failed.end(operation, action);
                false
            }
        }
    }

    async fn ask(&mut self, since_ms: Option<u64>) -> Option<u64> {
        let action = |offset| Action::QueryOffset {
            topic: self.topic.clone(),
            queue_id: self.queue_id,
            since_ms,
            offset,
        };
        let operation = self.invoke(action(None));
        match self.client.query_offset(&self.topic, self.queue_id, since_ms).await {
            Ok(offset) => {
                operation.ok(action(Some(offset)), None);
                Some(offset)
            }
            Err(failed) => {
                failed.end(operation, action(None));
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }
}
