//! The official client's objects, made the same way everywhere in this driver.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::anyhow;
use futures::FutureExt;
use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::error::ClientError;
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::{Message, MessageBuilder, MessageView};
use rocketmq::model::transaction::TransactionResolution;
use rocketmq::{Producer, SimpleConsumer};

/// Both the long poll and the whole deadline of a receive, since this client adds nothing to it.
/// Shorter than its 40 s, so that a check that waits for "nothing more" ends soon.
const LONG_POLLING: Duration = Duration::from_secs(10);

/// A started producer; `topics` are those whose routes it fetches at start.
pub async fn producer(endpoint: &str, topics: &[&str]) -> Result<Producer, ClientError> {
    let mut option = ProducerOption::default();
    option.set_topics(topics.to_vec());
    let mut producer = Producer::new(option, client_option(endpoint))?;
    producer.start().await?;
    Ok(producer)
}

/// A started producer that can send transactional messages too, about which the server may ask
/// `check`.
pub async fn transaction_producer(
    endpoint: &str,
    topic: &str,
    check: impl Fn(&str) -> TransactionResolution + Send + Sync + 'static,
) -> Result<Producer, ClientError> {
    let mut option = ProducerOption::default();
    option.set_topics(vec![topic]);
    let checker = Box::new(move |_id, message: MessageView| check(&text(&message)));
    let mut producer =
        Producer::new_transaction_producer(option, client_option(endpoint), checker)?;
    producer.start().await?;
    Ok(producer)
}

/// A simple consumer with the one subscription that it uses.
pub struct Consumer {
    client: SimpleConsumer,
    topic: String,
    filter: FilterExpression,
}

impl Consumer {
    pub async fn start(endpoint: &str, group: &str, topic: &str) -> Result<Self, ClientError> {
        Self::start_with_tags(endpoint, group, topic, "*").await
    }

    pub async fn start_with_tags(
        endpoint: &str,
        group: &str,
        topic: &str,
        tags: &str,
    ) -> Result<Self, ClientError> {
        let filter = FilterExpression::new(FilterType::Tag, tags);
        Self::start_with_filter(endpoint, group, topic, filter).await
    }

    pub async fn start_with_filter(
        endpoint: &str,
        group: &str,
        topic: &str,
        filter: FilterExpression,
    ) -> Result<Self, ClientError> {
        let mut option = SimpleConsumerOption::default();
        option.set_consumer_group(group);
        option.set_topics(vec![topic]);
        let mut client = SimpleConsumer::new(option, client_option(endpoint))?;
        client.start().await?;
        Ok(Self { client, topic: topic.to_owned(), filter })
    }

    pub async fn receive(
        &self,
        batch: i32,
        invisible: Duration,
    ) -> Result<Vec<MessageView>, ClientError> {
        self.client.receive_with(&self.topic, &self.filter, batch, invisible).await
    }

    pub async fn ack(&self, message: &MessageView) -> Result<(), ClientError> {
        self.client.ack(message).await
    }
}

pub fn message(topic: &str, body: &[u8]) -> Result<impl Message + use<>, ClientError> {
    MessageBuilder::builder().set_topic(topic).set_body(body.to_vec()).build()
}

pub fn text(message: &MessageView) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

/// The server's code by name, such as `TOPIC_NOT_FOUND`, if the error came from the server.
pub fn code(error: &ClientError) -> Option<&str> {
    error.context().iter().find(|(key, _)| *key == "code").map(|(_, name)| name.as_str())
}

/// The outcome of `work`, with a panic as an error: the client panics where it can not connect.
pub async fn survive<T, E: Into<anyhow::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_reported_on_stderr) => Err(anyhow!("the client panicked")),
    }
}

fn client_option(endpoint: &str) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(endpoint);
    option.set_long_polling_timeout(LONG_POLLING);
    option
}
