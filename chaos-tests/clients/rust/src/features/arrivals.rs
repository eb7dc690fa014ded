//! What arrived, in the order it did: the common part of the checks of features.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use rocketmq::model::message::MessageView;

use crate::clients::{Consumer, text};
use crate::exchange::RECEIVE_BATCH;

/// The shortest invisible duration that brokers have to accept.
pub const INVISIBLE: Duration = Duration::from_secs(10);
/// Of what must come, on a busy machine.
pub const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Arrival {
    pub body: String,
    pub attempt: i32,
    pub at: SystemTime,
}

#[derive(Default)]
pub struct Arrivals(Mutex<Vec<Arrival>>);

impl Arrivals {
    pub fn all(&self) -> Vec<Arrival> {
        self.0.lock().expect("no holder panics").clone()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.all().into_iter().map(|arrival| arrival.body).collect()
    }

    /// Receives, notes and acks until so many have come.
    pub async fn receive(&self, consumer: &Consumer, count: usize) -> anyhow::Result<()> {
        let begin = Instant::now();
        while self.all().len() < count {
            let came = self.bodies();
            ensure!(begin.elapsed() < ARRIVAL_LIMIT, "only {came:?} came in {ARRIVAL_LIMIT:?}");
            self.receive_once(consumer).await?;
        }
        Ok(())
    }

    /// The same for the whole time.
    pub async fn receive_for(&self, consumer: &Consumer, time: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.receive_once(consumer).await?;
        }
        Ok(())
    }

    async fn receive_once(&self, consumer: &Consumer) -> anyhow::Result<()> {
        for message in consumer.receive(RECEIVE_BATCH, INVISIBLE).await? {
            // Before the ack, after which another consumer may get what comes next.
            self.add(&message);
            consumer.ack(&message).await?;
        }
        Ok(())
    }

    fn add(&self, message: &MessageView) {
        let arrival = Arrival {
            body: text(message),
            attempt: message.delivery_attempt(),
            at: SystemTime::now(),
        };
        self.0.lock().expect("no holder panics").push(arrival);
    }

    /// Fails unless these bodies came, in any order, each once.
    pub fn ensure_each_once(&self, expected: &[&str]) -> anyhow::Result<()> {
        let (mut came, mut expected) = (self.bodies(), expected.to_vec());
        came.sort_unstable();
        expected.sort_unstable();
        ensure!(came == expected, "came: {came:?}");
        Ok(())
    }
}
