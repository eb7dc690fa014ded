//! Consumers that come and go: some take leave, some just vanish with messages in their hands.

use std::sync::Arc;
use std::time::Duration;

use raftmq::client::{Consumer, ConsumerOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::queue::Receiver;
use super::{Context, Workload, started};

/// The workload: further members of a group that another workload consumes with.
#[derive(Clone, Debug)]
pub struct Churn {
    /// The topic, and the group of the same name.
    pub topic: String,
    /// Members at a time.
    pub members: usize,
}

impl Workload for Churn {
    fn name(&self) -> &'static str {
        "churn"
    }

    fn topics(&self) -> Vec<String> {
        Vec::new()
    }

    fn groups(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in 0..self.members as u64 {
            let random = ChaCha8Rng::seed_from_u64(context.seed ^ (number << 8) ^ 2);
            tasks.spawn(come_and_go(self.topic.clone(), context.clone(), random));
        }
        tasks
    }
}

async fn come_and_go(topic: String, context: Context, mut random: ChaCha8Rng) {
    let options = ConsumerOptions::new(context.endpoints.clone(), &topic, &topic);
    while !context.stop.is_cancelled() {
        let start = || Consumer::start(options.clone());
        let Some(consumer) = started(&context.stop, start).await else { return };
        let consumer = Arc::new(consumer);
        let receiver = Receiver {
            topic: topic.clone(),
            group: topic.clone(),
            abandon: 0.1,
            context: context.clone(),
            // A new one each time: the last receive of the former may never end.
            process: context.recorder.process(),
            random: ChaCha8Rng::seed_from_u64(random.random()),
        };
        let life = Duration::from_millis(random.random_range(500..4000));
        // Cut off in the middle of whatever it does.
        let cut_off = tokio::time::timeout(life, receiver.run(consumer.clone())).await.is_err();
        if let Some(consumer) = Arc::into_inner(consumer)
            && cut_off
            && random.random_bool(0.5)
        {
            consumer.close().await;
        }
    }
}
