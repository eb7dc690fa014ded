//! The checks of SQL92 filters on user properties.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use rocketmq::error::ClientError;
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;

use super::Place;
use super::arrivals::{Arrivals, INVISIBLE};
use crate::clients::{Consumer, code, producer};

const QUIET: Duration = Duration::from_secs(3);
const EXPRESSION: &str = "a > 5 AND b = 'x'";
const MATCHING: [&str; 2] = ["six", "ten"];
/// Bodies with their properties.
const MESSAGES: [(&str, &[(&str, &str)]); 7] = [
    ("six", &[("a", "6"), ("b", "x")]),
    ("ten", &[("a", "10"), ("b", "x")]),
    ("five", &[("a", "5"), ("b", "x")]),
    ("no-number", &[("a", "many"), ("b", "x")]),
    ("other-b", &[("a", "6"), ("b", "y")]),
    ("no-a", &[("b", "x")]),
    ("no-b", &[("a", "6")]),
];

pub async fn sql(place: &Place) -> anyhow::Result<String> {
    let topic = &place.topic;
    let producer = producer(&place.endpoint, &[topic]).await?;
    for (body, properties) in MESSAGES {
        let properties: HashMap<&str, &str> = properties.iter().copied().collect();
        let builder = MessageBuilder::builder().set_topic(topic).set_body(body.into());
        producer.send(builder.set_properties(properties).build()?).await?;
    }
    let consumer = start(place, EXPRESSION).await?;
    let came = Arrivals::default();
    came.receive(&consumer, MATCHING.len()).await?;
    came.receive_for(&consumer, QUIET).await?;
    came.ensure_each_once(&MATCHING)?;
    Ok(format!("{} of {} came", MATCHING.len(), MESSAGES.len()))
}

pub async fn malformed(place: &Place) -> anyhow::Result<String> {
    let consumer = start(place, "a > 5 AND").await?;
    match consumer.receive(1, INVISIBLE).await {
        Ok(_) => bail!("a malformed expression was accepted"),
        Err(error) if code(&error) == Some("ILLEGAL_FILTER_EXPRESSION") => Ok(error.to_string()),
        Err(error) => bail!("not ILLEGAL_FILTER_EXPRESSION but {error}"),
    }
}

async fn start(place: &Place, expression: &str) -> Result<Consumer, ClientError> {
    let filter = FilterExpression::new(FilterType::Sql, expression);
    Consumer::start_with_filter(&place.endpoint, &place.group, &place.topic, filter).await
}
