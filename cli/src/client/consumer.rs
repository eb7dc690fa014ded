//! Receives and acknowledges messages of one topic for one consumer group, as the simple consumer
//! of official clients does: the caller decides when to receive and when to acknowledge.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftmq_proto::v2::AckMessageEntry;
use raftmq_proto::v2::ChangeInvisibleDurationRequest;
use raftmq_proto::v2::ClientType;
use raftmq_proto::v2::FilterExpression;
use raftmq_proto::v2::FilterType;
use raftmq_proto::v2::LiteSubscriptionAction;
use raftmq_proto::v2::MessageQueue;
use raftmq_proto::v2::ReceiveMessageRequest;
use raftmq_proto::v2::Settings;
use raftmq_proto::v2::Subscription;
use raftmq_proto::v2::SubscriptionEntry;
use raftmq_proto::v2::SyncLiteSubscriptionRequest;
use raftmq_proto::v2::settings::PubSub;

use super::CallError;
use super::Delivery;
use super::REQUEST_TIMEOUT;
use super::Route;
use super::identity::Identity;
use super::link::Link;
use super::links::Links;
use super::links::first_answer;
use super::message::resource;
use super::route::RouteWatch;

/// Messages in one answer; servers give no more.
const BATCH_MAX: i32 = 32;
/// Servers do not wait less for a message, whatever they are asked.
const SERVER_WAIT_MIN: Duration = Duration::from_secs(5);

/// How a [`Consumer`] is to work.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Servers to ask for the route, `host:port`, tried in order.
    pub endpoints: Vec<String>,
    /// The topic to receive from.
    pub topic: String,
    /// The consumer group to receive for.
    pub group: String,
    /// `*` for all messages, or tags: `a || b`.
    pub filter: String,
    /// Only messages for which this SQL expression is true; then `filter` does not count.
    pub sql: Option<String>,
    /// The lite topics to subscribe to, of a topic of such; none for any other.
    pub lite_topics: Vec<String>,
    /// How long a call may take, without what a receive asks the server to wait.
    pub request_timeout: Duration,
}

impl ConsumerOptions {
    /// All messages, as official clients do.
    pub fn new(endpoints: Vec<String>, topic: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            endpoints,
            topic: topic.into(),
            group: group.into(),
            filter: "*".to_owned(),
            sql: None,
            lite_topics: Vec::new(),
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

/// What one receive asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// 1 to 32 messages.
    pub count_max: u32,
    /// How long the server waits for a first message. Servers bring it into 5 s to 20 s.
    pub wait: Duration,
    /// How long what is received stays invisible to others, 10 s to 12 h.
    pub invisible: Duration,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self { count_max: 32, wait: Duration::from_secs(5), invisible: Duration::from_secs(30) }
    }
}

/// The answer to one receive.
#[derive(Clone, Debug)]
pub struct Received {
    /// None when no message came in time.
    pub deliveries: Vec<Delivery>,
    /// The broker that answered.
    pub broker_name: String,
    /// That broker's address.
    pub address: String,
}

/// Receives from one topic for one group. Shared by reference between any number of tasks.
pub struct Consumer {
    pub(crate) options: ConsumerOptions,
    pub(crate) route: RouteWatch,
    pub(crate) links: Links,
    pub(crate) settings: Settings,
    next_queue: AtomicUsize,
}

impl Consumer {
    /// Asks for the route and greets the first broker of it that answers.
    ///
    /// # Errors
    /// [`CallError`] when no endpoint knows the topic, the group does not exist, or no broker
    /// answers.
    pub async fn start(options: ConsumerOptions) -> Result<Self, CallError> {
        let identity = Identity::generate();
        let endpoint =
            |address: &String| Link::new(address, identity.clone(), options.request_timeout);
        let endpoints = options.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
        let route = RouteWatch::start(endpoints, options.topic.clone()).await?;
        let settings = settings(&options, &identity);
        let links = Links::new(identity, options.request_timeout);
        links.greet_any(&route.current(), &settings).await?;
        let consumer = Self { options, route, links, settings, next_queue: AtomicUsize::new(0) };
        if !consumer.options.lite_topics.is_empty() {
            consumer.subscribe_lite().await?;
        }
        Ok(consumer)
    }

    /// Any node of a group takes it for the whole group.
    async fn subscribe_lite(&self) -> Result<(), CallError> {
        let request = SyncLiteSubscriptionRequest {
            action: LiteSubscriptionAction::CompleteAdd.into(),
            topic: Some(resource(&self.options.topic)),
            group: Some(resource(&self.options.group)),
            lite_topic_set: self.options.lite_topics.clone(),
            ..SyncLiteSubscriptionRequest::default()
        };
        let route = self.route.current();
        let links = route.brokers.iter().map(|broker| self.links.to(&broker.address));
        let links = links.collect::<Result<Vec<_>, _>>()?;
        first_answer(links, |link| {
            let request = request.clone();
            async move { link.subscribe_lite(request).await }
        })
        .await
    }

    /// The name brokers know this consumer by.
    pub fn client_id(&self) -> &str {
        self.links.client_id()
    }

    /// The route as it is known now.
    pub fn route(&self) -> Arc<Route> {
        self.route.current()
    }

    /// Asks one broker for messages; queues take turns from call to call.
    ///
    /// # Errors
    /// [`CallError`] of that broker; the next call asks another one.
    ///
    /// # Cancel safety
    /// Dropping the future may leave messages invisible until their time is over.
    pub async fn receive(&self, receive: ReceiveOptions) -> Result<Received, CallError> {
        let route = self.route.current();
        let (queue, link, broker_name) = self.choose(&route)?;
        let received = self.receive_from(&link, queue, receive).await;
        if received.is_err() {
            self.route.refresh_soon();
        }
        let messages = received?.into_iter();
        let deliveries =
            messages.map(|message| Delivery::from_wire(message, &broker_name)).collect();
        Ok(Received { deliveries, broker_name, address: link.address().to_owned() })
    }

    /// Acknowledges what [`Consumer::receive`] returned; one result for each, in their order.
    ///
    /// # Errors
    /// [`CallError`] when no broker of the group that delivered them answers. Acknowledging again
    /// is safe.
    pub async fn ack(
        &self,
        deliveries: &[Delivery],
    ) -> Result<Vec<Result<(), CallError>>, CallError> {
        let Some(first) = deliveries.first() else { return Ok(Vec::new()) };
        let entries: Vec<_> = deliveries.iter().map(ack_entry).collect();
        let links = self.links_to_group_of(&first.broker_name)?;
        let ack = |link: Link| {
            let (entries, settings) = (entries.clone(), &self.settings);
            let group = resource(&self.options.group);
            let topic = resource(&self.options.topic);
            async move {
                link.greet(settings).await?;
                let results = link.ack(group, topic, entries).await?;
                Ok(in_order(deliveries, results, link.address()))
            }
        };
        first_answer(links, ack).await
    }

    /// Sets how long from now `delivery` stays invisible, and returns the receipt handle that
    /// replaces its own.
    ///
    /// # Errors
    /// [`CallError`]; the old handle may be void unless the outcome is `NotDone`.
    pub async fn change_invisible_duration(
        &self,
        delivery: &Delivery,
        invisible: Duration,
    ) -> Result<String, CallError> {
        let request = ChangeInvisibleDurationRequest {
            group: Some(resource(&self.options.group)),
            topic: Some(resource(&self.options.topic)),
            receipt_handle: delivery.receipt_handle.clone(),
            invisible_duration: prost_types::Duration::try_from(invisible).ok(),
            message_id: delivery.message_id.clone(),
            ..ChangeInvisibleDurationRequest::default()
        };
        let links = self.links_to_group_of(&delivery.broker_name)?;
        let change = |link: Link| {
            let (request, settings) = (request.clone(), &self.settings);
            async move {
                link.greet(settings).await?;
                link.change_invisible_duration(request).await
            }
        };
        first_answer(links, change).await
    }

    /// Takes leave of all brokers.
    pub async fn close(self) {
        self.links.leave(Some(resource(&self.options.group))).await;
    }

    async fn receive_from(
        &self,
        link: &Link,
        queue: MessageQueue,
        receive: ReceiveOptions,
    ) -> Result<Vec<raftmq_proto::v2::Message>, CallError> {
        link.greet(&self.settings).await?;
        let count = i32::try_from(receive.count_max).unwrap_or(BATCH_MAX).clamp(1, BATCH_MAX);
        let request = ReceiveMessageRequest {
            group: Some(resource(&self.options.group)),
            message_queue: Some(queue),
            filter_expression: Some(filter(&self.options)),
            batch_size: count,
            invisible_duration: prost_types::Duration::try_from(receive.invisible).ok(),
            auto_renew: false,
            long_polling_timeout: prost_types::Duration::try_from(receive.wait).ok(),
            attempt_id: None,
        };
        link.receive(request, receive.wait.max(SERVER_WAIT_MIN)).await
    }

    /// Queues take turns. The queue sent is one of the broker that is asked.
    fn choose(&self, route: &Route) -> Result<(MessageQueue, Link, String), CallError> {
        let turn = self.next_queue.fetch_add(1, Ordering::Relaxed);
        let queue = &route.queues[turn % route.queues.len()];
        let (position, link) = self.links.pick(route, queue.broker)?;
        let queue = match position == queue.broker {
            true => queue,
            false => route.queues.iter().find(|other| other.broker == position).unwrap_or(queue),
        };
        Ok((queue.wire.clone(), link, route.brokers[position].name.clone()))
    }

    /// The broker of that name and then the other nodes of its group, any of which passes receipts
    /// on to the leader. A broker name is `<group>-<node id>`.
    fn links_to_group_of(&self, broker_name: &str) -> Result<Vec<Link>, CallError> {
        let route = self.route.current();
        let group = |name: &str| name.rsplit_once('-').map(|(group, _)| group.to_owned());
        let mut brokers: Vec<_> = route
            .brokers
            .iter()
            .filter(|broker| group(&broker.name) == group(broker_name))
            .collect();
        brokers.sort_by_key(|broker| broker.name != broker_name);
        let mut links = brokers
            .into_iter()
            .map(|broker| self.links.to(&broker.address))
            .collect::<Result<Vec<_>, _>>()?;
        links.sort_by_key(Link::is_suspect);
        Ok(links)
    }
}

fn settings(options: &ConsumerOptions, identity: &Identity) -> Settings {
    let entry = SubscriptionEntry {
        topic: Some(resource(&options.topic)),
        expression: Some(filter(options)),
    };
    let subscription = Subscription {
        group: Some(resource(&options.group)),
        subscriptions: vec![entry],
        ..Subscription::default()
    };
    let client_type = match options.lite_topics.is_empty() {
        true => ClientType::SimpleConsumer,
        false => ClientType::LiteSimpleConsumer,
    };
    Settings {
        client_type: Some(client_type.into()),
        user_agent: Some(identity.user_agent()),
        request_timeout: prost_types::Duration::try_from(options.request_timeout).ok(),
        pub_sub: Some(PubSub::Subscription(subscription)),
        ..Settings::default()
    }
}

pub(crate) fn filter(options: &ConsumerOptions) -> FilterExpression {
    let (kind, expression) = match &options.sql {
        Some(sql) => (FilterType::Sql, sql),
        None => (FilterType::Tag, &options.filter),
    };
    FilterExpression { r#type: kind.into(), expression: expression.clone() }
}

fn ack_entry(delivery: &Delivery) -> AckMessageEntry {
    AckMessageEntry {
        message_id: delivery.message_id.clone(),
        receipt_handle: delivery.receipt_handle.clone(),
        lite_topic: None,
    }
}

/// Results find their delivery by its receipt handle; a delivery without one was not acknowledged.
fn in_order(
    deliveries: &[Delivery],
    results: Vec<raftmq_proto::v2::AckMessageResultEntry>,
    address: &str,
) -> Vec<Result<(), CallError>> {
    let mut by_handle: std::collections::HashMap<_, _> =
        results.into_iter().map(|result| (result.receipt_handle, result.status)).collect();
    deliveries
        .iter()
        .map(|delivery| {
            let status = by_handle.remove(&delivery.receipt_handle).flatten();
            CallError::check(address, "AckMessage", status)
        })
        .collect()
}
