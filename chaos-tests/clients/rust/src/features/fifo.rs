//! The checks of message groups. A body is `<message group>-<number>`.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rocketmq::model::message::MessageBuilder;

use super::Place;
use super::arrivals::{Arrivals, INVISIBLE};
use crate::clients::{Consumer, producer, text};
use crate::exchange::{RECEIVE_BATCH, numbered};

const MESSAGE_GROUPS: [&str; 3] = ["red", "green", "blue"];
const EACH: usize = 8;
/// Well before the messages that are held become visible again.
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

/// Red messages are not acked: green and blue go on, and red comes again, in order.
pub async fn blocked(place: &Place) -> anyhow::Result<String> {
    let Place { endpoint, topic, group } = place;
    send_in_turn(place).await?;
    let consumer = Consumer::start(endpoint, group, topic).await?;
    let (held, mut bodies) = hold_red(&consumer).await?;
    let again = Arrivals::default();
    again.receive(&consumer, EACH).await?;
    let first = &again.all()[0];
    ensure!(first.attempt == 2, "came again first: {first:?}");
    bodies.extend(again.bodies());
    ensure_order(&bodies)?;
    Ok(format!("the others came while {held:?} was out; then red came again in order"))
}

/// Acks all but the red messages, until all of the others have come. Returns both.
async fn hold_red(consumer: &Consumer) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut held, mut others) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while others.len() < EACH * (MESSAGE_GROUPS.len() - 1) {
        ensure!(begin.elapsed() < UNBLOCKED_LIMIT, "only {others:?} came while {held:?} was out");
        let red_is_out = !held.is_empty();
        for message in consumer.receive(RECEIVE_BATCH, INVISIBLE).await? {
            let body = text(&message);
            if body.starts_with("red-") {
                ensure!(!red_is_out, "{body} came while {held:?} was out");
                held.push(body);
            } else {
                others.push(body);
                consumer.ack(&message).await?;
            }
        }
    }
    Ok((held, others))
}

/// Sends to all message groups in turn.
async fn send_in_turn(place: &Place) -> anyhow::Result<()> {
    let producer = producer(&place.endpoint, &[&place.topic]).await?;
    for i in 0..EACH {
        for message_group in MESSAGE_GROUPS {
            let body = format!("{message_group}-{i}").into_bytes();
            let builder = MessageBuilder::fifo_message_builder(&place.topic, body, message_group);
            producer.send(builder.build()?).await?;
        }
    }
    Ok(())
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
