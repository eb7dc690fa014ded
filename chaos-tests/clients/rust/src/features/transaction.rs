//! The checks of transactional messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::ensure;
use rocketmq::Producer;
use rocketmq::error::ClientError;
use rocketmq::model::message::MessageBuilder;
use rocketmq::model::transaction::{Transaction, TransactionResolution};

use super::Place;
use super::arrivals::Arrivals;
use crate::clients::{Consumer, transaction_producer};

/// Several check-backs would have come by then.
const QUIET: Duration = Duration::from_secs(4);

pub async fn ended_at_once(place: &Place) -> anyhow::Result<String> {
    let Place { endpoint, topic, group } = place;
    let asked = Questions::default();
    let questions = asked.clone();
    let producer = transaction_producer(endpoint, topic, move |body| {
        questions.add(body);
        TransactionResolution::UNKNOWN
    })
    .await?;
    let consumer = Consumer::start(endpoint, group, topic).await?;
    begin(&producer, topic, "committed").await?.commit().await?;
    begin(&producer, topic, "rolled-back").await?.rollback().await?;
    let came = Arrivals::default();
    came.receive(&consumer, 1).await?;
    came.receive_for(&consumer, QUIET).await?;
    came.ensure_each_once(&["committed"])?;
    let asked = asked.times();
    ensure!(asked.is_empty(), "asked about ended transactions: {asked:?}");
    Ok("only the committed one came, and nobody asked".to_owned())
}

/// No transaction is ended here: the server asks. About one it must ask twice.
pub async fn asked(place: &Place) -> anyhow::Result<String> {
    let Place { endpoint, topic, group } = place;
    let asked = Questions::default();
    let questions = asked.clone();
    let producer =
        transaction_producer(endpoint, topic, move |body| match (body, questions.add(body)) {
            ("commit", _) | ("unknown", 2..) => TransactionResolution::COMMIT,
            ("rollback", _) => TransactionResolution::ROLLBACK,
            _ => TransactionResolution::UNKNOWN,
        })
        .await?;
    let consumer = Consumer::start(endpoint, group, topic).await?;
    for body in ["commit", "rollback", "unknown"] {
        begin(&producer, topic, body).await?;
    }
    let came = Arrivals::default();
    came.receive(&consumer, 2).await?;
    came.receive_for(&consumer, QUIET).await?;
    came.ensure_each_once(&["commit", "unknown"])?;
    let asked = asked.times();
    ensure!(asked.len() == 3 && asked["unknown"] >= 2, "asked {asked:?}");
    Ok(format!("asked {asked:?}; committed ones came"))
}

/// Sends a half message.
pub async fn begin(
    producer: &Producer,
    topic: &str,
    body: &str,
) -> Result<impl Transaction + use<>, ClientError> {
    let builder = MessageBuilder::transaction_message_builder(topic, body.into());
    producer.send_transaction_message(builder.build()?).await
}

/// How often the server asked about each body.
#[derive(Clone, Default)]
struct Questions(Arc<Mutex<BTreeMap<String, u32>>>);

impl Questions {
    /// Returns how often it was asked about this one, this time counted.
    fn add(&self, body: &str) -> u32 {
        let mut times = self.0.lock().expect("no holder panics");
        let times = times.entry(body.to_owned()).or_default();
        *times += 1;
        *times
    }

    fn times(&self) -> BTreeMap<String, u32> {
        self.0.lock().expect("no holder panics").clone()
    }
}
