//! Sending sets of messages and collecting them again: the common part of the checks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use rocketmq::Producer;
use rocketmq::error::ClientError;
use rocketmq::model::message::MessageView;

use crate::clients::{Consumer, message, text};

pub const RECEIVE_BATCH: i32 = 16;
pub const INVISIBLE: Duration = Duration::from_secs(30);

/// Sends one after the other; returns the message ids.
pub async fn send_all(
    producer: &Producer,
    topic: &str,
    bodies: &[String],
) -> Result<Vec<String>, ClientError> {
    send_concurrently(producer, topic, bodies, 1).await
}

/// Sends with up to `outstanding_max` sends under way; returns the message ids.
pub async fn send_concurrently(
    producer: &Producer,
    topic: &str,
    bodies: &[String],
    outstanding_max: usize,
) -> Result<Vec<String>, ClientError> {
    stream::iter(bodies)
        .map(|body| async move {
            let receipt = producer.send(message(topic, body.as_bytes())?).await?;
            Ok(receipt.message_id().to_owned())
        })
        .buffer_unordered(outstanding_max)
        .try_collect()
        .await
}

/// One receive; acknowledges and returns what it brought.
pub async fn receive_and_ack(
    consumer: &Consumer,
    batch: i32,
    invisible: Duration,
) -> Result<Vec<MessageView>, ClientError> {
    let messages = consumer.receive(batch, invisible).await?;
    futures::future::try_join_all(messages.iter().map(|message| consumer.ack(message))).await?;
    Ok(messages)
}

/// Receives and acks until every wanted body was seen, or `limit` is over.
pub async fn collect(
    consumer: &Consumer,
    tally: &mut Tally,
    limit: Duration,
    invisible: Duration,
) -> Result<(), ClientError> {
    let begin = Instant::now();
    while !tally.complete() && begin.elapsed() < limit {
        tally.add(&receive_and_ack(consumer, RECEIVE_BATCH, invisible).await?);
    }
    Ok(())
}

/// Receives and acks for the whole time.
pub async fn watch(
    consumer: &Consumer,
    tally: &mut Tally,
    time: Duration,
    invisible: Duration,
) -> Result<(), ClientError> {
    let begin = Instant::now();
    while begin.elapsed() < time {
        tally.add(&receive_and_ack(consumer, RECEIVE_BATCH, invisible).await?);
    }
    Ok(())
}

/// Receives until the message with this id comes and returns it without an ack.
pub async fn receive_one(
    consumer: &Consumer,
    message_id: &str,
    limit: Duration,
    invisible: Duration,
) -> anyhow::Result<MessageView> {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        for message in consumer.receive(RECEIVE_BATCH, invisible).await? {
            if message.message_id() == message_id {
                return Ok(message);
            }
            consumer.ack(&message).await?;
        }
    }
    bail!("message {message_id} not received within {limit:?}")
}

/// Counts how often each wanted body was received.
pub struct Tally {
    times: HashMap<String, u32>,
    distinct: usize,
    /// Messages with other bodies; on a shared topic they belong to other checks.
    pub others: usize,
}

impl Tally {
    pub fn new(wanted: &[String]) -> Self {
        let times = wanted.iter().map(|body| (body.clone(), 0)).collect();
        Self { times, distinct: 0, others: 0 }
    }

    pub fn add(&mut self, messages: &[MessageView]) {
        for message in messages {
            match self.times.get_mut(&text(message)) {
                Some(times) => {
                    self.distinct += usize::from(*times == 0);
                    *times += 1;
                }
                None => self.others += 1,
            }
        }
    }

    pub fn complete(&self) -> bool {
        self.distinct == self.times.len()
    }

    pub fn ensure_each_once(&self) -> anyhow::Result<()> {
        let sample = |selected: fn(u32) -> bool| -> Vec<_> {
            self.times.iter().filter(|(_, times)| selected(**times)).take(3).collect()
        };
        let lost = self.times.len() - self.distinct;
        ensure!(lost == 0, "{lost} not received, such as {:?}", sample(|times| times == 0));
        let repeated = sample(|times| times > 1);
        ensure!(repeated.is_empty(), "received more than once: {repeated:?}");
        Ok(())
    }
}

pub fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}-{i}")).collect()
}
