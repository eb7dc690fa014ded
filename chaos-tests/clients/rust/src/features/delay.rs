//! The check of messages with a delivery timestamp, which this client has in whole seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use rocketmq::Producer;
use rocketmq::model::message::MessageBuilder;

use super::Place;
use super::arrivals::Arrivals;
use crate::clients::{Consumer, producer};

const DELAY: Duration = Duration::from_secs(4);
/// The promise is far less; the rest is for a busy machine.
const LATE_MAX: Duration = Duration::from_secs(3);

pub async fn delay(place: &Place) -> anyhow::Result<String> {
    let Place { endpoint, topic, group } = place;
    let consumer = Consumer::start(endpoint, group, topic).await?;
    let producer = producer(endpoint, &[topic]).await?;
    let sent = SystemTime::now();
    let due_s = seconds(sent + DELAY) + 1;
    send_at(&producer, topic, "future", due_s).await?;
    send_at(&producer, topic, "past", seconds(sent) - 60).await?;
    let came = Arrivals::default();
    came.receive(&consumer, 2).await?;
    ensure!(came.bodies() == ["past", "future"], "came as {:?}", came.bodies());
    let due = UNIX_EPOCH + Duration::from_secs(due_s);
    let past = came.all()[0].at.duration_since(sent)?;
    let late = came.all()[1].at.duration_since(due).context("came early")?;
    let seen = format!("came {late:.1?} after its time; from the past after {past:.1?}");
    ensure!(past <= LATE_MAX && late <= LATE_MAX, "{seen}");
    Ok(seen)
}

/// Sends a message that is to be delivered at that second since 1970.
pub async fn send_at(
    producer: &Producer,
    topic: &str,
    body: &str,
    due_s: u64,
) -> anyhow::Result<()> {
    let (body, due_s) = (body.as_bytes().to_vec(), i64::try_from(due_s)?);
    let message = MessageBuilder::delay_message_builder(topic, body, due_s).build()?;
    producer.send(message).await?;
    Ok(())
}

pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).expect("clock is past 1970").as_secs()
}
