//! The checks of topic types. This client leaves the check of the type to the server.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use rocketmq::Producer;
use rocketmq::error::ClientError;
use rocketmq::model::message::MessageBuilder;
use rocketmq::model::transaction::{Transaction, TransactionResolution};

use super::Place;
use super::arrivals::Arrivals;
use super::delay::{seconds, send_at};
use super::transaction::begin;
use crate::clients::{Consumer, code, message, transaction_producer};

const TYPES: [&str; 4] = ["normal", "fifo", "delay", "transaction"];

/// Each topic refuses the three types that it does not have.
pub async fn wrong(place: &Place) -> anyhow::Result<String> {
    let mut refused = 0;
    for topic_type in TYPES {
        let topic = format!("{}-{topic_type}", place.topic);
        let producer = producer(&place.endpoint, &topic).await?;
        send_of_type(&producer, &topic, topic_type).await?;
        for kind in TYPES.into_iter().filter(|kind| *kind != topic_type) {
            let Err(error) = send_of_type(&producer, &topic, kind).await else {
                bail!("{topic} took a message of type {kind}");
            };
            let error = error.downcast::<ClientError>().context("not the server's answer")?;
            let conflict = code(&error) == Some("MESSAGE_PROPERTY_CONFLICT_WITH_TYPE");
            ensure!(conflict, "refused for another reason: {error}");
            refused += 1;
        }
    }
    Ok(format!("{refused} of {refused} refused by the server"))
}

pub async fn mixed(place: &Place) -> anyhow::Result<String> {
    let Place { endpoint, topic, group } = place;
    let producer = producer(endpoint, topic).await?;
    let consumer = Consumer::start(endpoint, group, topic).await?;
    for kind in TYPES {
        send_of_type(&producer, topic, kind).await?;
    }
    let came = Arrivals::default();
    came.receive(&consumer, TYPES.len()).await?;
    came.ensure_each_once(&TYPES)?;
    Ok("all four came".to_owned())
}

async fn producer(endpoint: &str, topic: &str) -> Result<Producer, ClientError> {
    transaction_producer(endpoint, topic, |_| TransactionResolution::UNKNOWN).await
}

/// Sends a message of this type; its body is the type.
async fn send_of_type(producer: &Producer, topic: &str, kind: &str) -> anyhow::Result<()> {
    match kind {
        "fifo" => {
            let builder = MessageBuilder::fifo_message_builder(topic, kind.into(), "group");
            producer.send(builder.build()?).await?;
        }
        "delay" => {
            let due_s = seconds(SystemTime::now() + Duration::from_secs(2));
            send_at(producer, topic, kind, due_s).await?;
        }
        "transaction" => begin(producer, topic, kind).await?.commit().await?,
        _ => {
            producer.send(message(topic, kind.as_bytes())?).await?;
        }
    }
    Ok(())
}
