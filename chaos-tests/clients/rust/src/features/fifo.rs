//! The checks of message groups. A body is `<message group>-<number>`.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rocketmq::Producer;
use rocketmq::model::message::MessageBuilder;

use super::Place;
use super::arrivals::{ARRIVAL_LIMIT, Arrival, Arrivals, INVISIBLE};
use crate::clients::{Consumer, producer};
use crate::exchange::{numbered, receive_one};

const MESSAGE_GROUPS: [&str; 3] = ["red", "green", "blue"];
const EACH: usize = 8;
/// Well before red-0 becomes visible again.
const UNBLOCKED_LIMIT: Duration = Duration::from_secs(8);

/// Two consumers share the group; a message is noted before it is acked.
pub async fn order(place: &Place) -> anyhow::Result<String> {
    let Place { endpoint, topic, group } = place;
    send_in_turn(place).await?;
    let one = Consumer::start(endpoint, group, topic).await?;
    let two = Consumer::start(endpoint, group, topic).await?;
    let (came, count) = (Arrivals::default(), EACH * MESSAGE_GROUPS.len());
    tokio::try_join!(came.receive(&one, count), came.receive(&two, count))?;
    ensure_order(&came.bodies())?;
    Ok(format!("{count} in order in each message group"))
}

/// red-0 is not acked: green and blue go on, and red comes again, in order.
pub async fn blocked(place: &Place) -> anyhow::Result<String> {
    let Place { endpoint, topic, group } = place;
    let producer = producer(endpoint, &[topic]).await?;
    let consumer = Consumer::start(endpoint, group, topic).await?;
    let red_id = send(&producer, topic, "red", 0).await?;
    receive_one(&consumer, &red_id, ARRIVAL_LIMIT, INVISIBLE).await?;
    let out = Instant::now();
    for number in 0..EACH {
        for message_group in MESSAGE_GROUPS {
            if (message_group, number) != ("red", 0) {
                send(&producer, topic, message_group, number).await?;
            }
        }
    }
    let came = Arrivals::default();
    came.receive(&consumer, EACH * (MESSAGE_GROUPS.len() - 1)).await?;
    let unblocked = out.elapsed();
    let is_red = |arrival: &Arrival| arrival.body.starts_with("red-");
    ensure!(!came.all().iter().any(is_red), "came while red-0 was out: {:?}", came.bodies());
    ensure!(unblocked < UNBLOCKED_LIMIT, "the others took {unblocked:?}");
    came.receive(&consumer, EACH * MESSAGE_GROUPS.len()).await?;
    let again = came.all().into_iter().find(is_red).context("red did not come again")?;
    ensure!(again.body == "red-0" && again.attempt == 2, "came again first: {again:?}");
    ensure_order(&came.bodies())?;
    Ok(format!("the others came within {unblocked:.1?}, then red in order, red-0 as attempt 2"))
}

/// Sends to all message groups in turn.
async fn send_in_turn(place: &Place) -> anyhow::Result<()> {
    let producer = producer(&place.endpoint, &[&place.topic]).await?;
    for number in 0..EACH {
        for message_group in MESSAGE_GROUPS {
            send(&producer, &place.topic, message_group, number).await?;
        }
    }
    Ok(())
}

/// Returns the message id.
async fn send(
    producer: &Producer,
    topic: &str,
    message_group: &str,
    number: usize,
) -> anyhow::Result<String> {
    let body = format!("{message_group}-{number}").into_bytes();
    let message = MessageBuilder::fifo_message_builder(topic, body, message_group).build()?;
    Ok(producer.send(message).await?.message_id().to_owned())
}

fn ensure_order(bodies: &[String]) -> anyhow::Result<()> {
    for message_group in MESSAGE_GROUPS {
        let prefix = format!("{message_group}-");
        let own: Vec<_> = bodies.iter().filter(|body| body.starts_with(&prefix)).collect();
        let expected = numbered(message_group, EACH);
        ensure!(own.into_iter().eq(&expected), "came as {bodies:?}");
    }
    Ok(())
}
