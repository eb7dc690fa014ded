//! The check of dead letters, without a listener that fails: nobody acknowledges the message.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::Place;
use super::arrivals::{ARRIVAL_LIMIT, INVISIBLE};
use crate::clients::{Consumer, message, producer};
use crate::exchange::receive_one;

/// What the group is made with.
const ATTEMPTS_MAX: i32 = 2;

pub async fn unacknowledged(place: &Place) -> anyhow::Result<String> {
    let Place { endpoint, topic, group } = place;
    let producer = producer(endpoint, &[topic]).await?;
    let receipt = producer.send(message(topic, b"poison")?).await?;
    let id = receipt.message_id();
    let consumer = Consumer::start(endpoint, group, topic).await?;
    for attempt in 1..=ATTEMPTS_MAX {
        let received = receive_one(&consumer, id, ARRIVAL_LIMIT, INVISIBLE).await?;
        let came = received.delivery_attempt();
        ensure!(came == attempt, "attempt {came} instead of {attempt}");
    }
    let dead_letters = start_when_it_exists(place).await?;
    let received = receive_one(&dead_letters, id, ARRIVAL_LIMIT, INVISIBLE).await?;
    dead_letters.ack(&received).await?;
    let more = consumer.receive(1, INVISIBLE).await?;
    ensure!(more.is_empty(), "came again: {more:?}");
    Ok(format!("after {ATTEMPTS_MAX} attempts in the dead-letter topic, and not again"))
}

/// The topic is made with its first message.
async fn start_when_it_exists(place: &Place) -> anyhow::Result<Consumer> {
    let (reader, topic) = (format!("{}-reader", place.group), format!("%DLQ%{}", place.group));
    let begin = Instant::now();
    loop {
        match Consumer::start(&place.endpoint, &reader, &topic).await {
            Ok(consumer) => return Ok(consumer),
            Err(error) if begin.elapsed() > ARRIVAL_LIMIT => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}
