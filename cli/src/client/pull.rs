//! Reads a queue from an offset that the caller holds: nothing is handed out, nothing acknowledged.

use std::time::Duration;

use raftmq_proto::v2::MessageQueue;
use raftmq_proto::v2::PullMessageRequest;

use super::CallError;
use super::Consumer;
use super::Delivery;
use super::link::Link;
use super::links::first_answer;
use super::message::resource;

/// What one pull asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullOptions {
    /// The queue, counted from 0.
    pub queue_id: u32,
    /// Where to begin.
    pub offset: u64,
    /// 1 to 32 messages.
    pub count_max: u32,
    /// How long the server waits for a first message.
    pub wait: Duration,
}

/// The answer to one pull.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// None when no message came in time. They have no receipt handle and no attempt.
    pub deliveries: Vec<Delivery>,
    /// Where to go on.
    pub next_offset: u64,
}

impl Consumer {
    /// Reads messages of one queue. Any number of consumers may read the same ones; where the group
    /// is does not matter and does not change.
    ///
    /// # Errors
    /// [`CallError`] when no broker of the route answers; or of the server, when the offset does not
    /// lie in the queue.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn pull(&self, pull: PullOptions) -> Result<Pulled, CallError> {
        let route = self.route.current();
        let topic = resource(&self.options.topic);
        let request = PullMessageRequest {
            group: Some(resource(&self.options.group)),
            message_queue: Some(MessageQueue {
                topic: Some(topic),
                id: i32::try_from(pull.queue_id).unwrap_or(i32::MAX),
                ..MessageQueue::default()
            }),
            offset: i64::try_from(pull.offset).unwrap_or(i64::MAX),
            batch_size: i32::try_from(pull.count_max).unwrap_or(i32::MAX),
            filter_expression: Some(super::consumer::filter(&self.options)),
            long_polling_timeout: prost_types::Duration::try_from(pull.wait).ok(),
        };
        let links = route.brokers.iter().map(|broker| self.links.to(&broker.address));
        let links: Vec<Link> = links.collect::<Result<_, _>>()?;
        let ask = |link: Link| {
            let request = request.clone();
            async move {
                link.greet(&self.settings).await?;
                let (messages, next_offset) = link.pull(request, pull.wait).await?;
                Ok((messages, next_offset, link.address().to_owned()))
            }
        };
        let (messages, next_offset, address) = first_answer(links, ask).await?;
        let broker = route.brokers.iter().find(|broker| broker.address == address);
        let broker_name = broker.map_or("", |broker| &broker.name);
        let deliveries =
            messages.into_iter().map(|message| Delivery::from_wire(message, broker_name)).collect();
        // A server that found nothing may not say where to go on: at the same place.
        let next_offset = next_offset.and_then(|next| u64::try_from(next).ok());
        Ok(Pulled { deliveries, next_offset: next_offset.unwrap_or(pull.offset) })
    }
}
