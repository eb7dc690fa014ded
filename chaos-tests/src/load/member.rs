//! One member of a consumer group, on the wire, whose every call is a line of the history.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use raftmq_proto::v2::{ClientType, LiteSubscriptionAction};

use super::Context;
use super::native::{Client, Delivery, Receive, Role};
use crate::history::Action;

/// How long a received message is invisible: the shortest that brokers take.
pub(super) const INVISIBLE: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(5);
/// After a call that failed.
const PAUSE: Duration = Duration::from_millis(50);

/// A member. It does one thing at a time.
pub(super) struct Member {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) context: Context,
    client: Arc<Client>,
    /// Of what kind it is, if it consumes lite topics.
    lite: Option<ClientType>,
    process: u32,
    /// Of the receive that is under way, or was lost.
    attempt: u64,
}

impl Member {
    /// None: there are no brokers.
    pub(super) fn join(context: &Context, group: &str, topic: &str) -> Option<Self> {
        Self::join_as(context, group, topic, None)
    }

    /// A member that consumes lite topics of `topic`, once it subscribes to some.
    pub(super) fn join_lite(
        context: &Context,
        group: &str,
        topic: &str,
        client_type: ClientType,
    ) -> Option<Self> {
        Self::join_as(context, group, topic, Some(client_type))
    }

    fn join_as(
        context: &Context,
        group: &str,
        topic: &str,
        lite: Option<ClientType>,
    ) -> Option<Self> {
        let role = match lite {
            Some(client_type) => Role::Lite(group, topic, client_type),
            None => Role::Consumer(group),
        };
        let (client, _) = Client::start(&context.brokers, role).ok()?;
        Some(Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            client,
            lite,
            process: context.recorder.process(),
            attempt: 0,
            context: context.clone(),
        })
    }

    /// Gone without a word, with what it has in its hands; another one takes its place.
    pub(super) fn die(self) -> Option<Self> {
        Self::join_as(&self.context, &self.group, &self.topic, self.lite)
    }

    /// Changes to which lite topics it subscribes; `all` is everything it has then. Whether that counts.
    pub(super) async fn subscribe(
        &self,
        action: LiteSubscriptionAction,
        names: Vec<String>,
        all: &BTreeSet<String>,
    ) -> bool {
        let subscribe = Action::Subscribe {
            group: self.group.clone(),
            topic: self.topic.clone(),
            lite_topics: all.iter().cloned().collect(),
        };
        let operation = self.context.recorder.invoke(self.process, subscribe.clone(), None);
        match self.client.subscribe((&self.group, &self.topic), action, names).await {
            Ok(()) => operation.ok(subscribe, None),
            Err(failed) => {
                failed.end(operation, subscribe);
                tokio::time::sleep(PAUSE).await;
                return false;
            }
        }
        true
    }

    /// One receive. It repeats the last one, if that brought nothing; nothing when it is not answered.
    pub(super) async fn receive(&mut self, count_max: i32) -> Vec<Delivery> {
        let deliveries = self.receive_again(count_max).await;
        if !deliveries.is_empty() {
            self.attempt += 1;
        }
        deliveries
    }

    /// The same receive over again, as if its answer had been lost.
    pub(super) async fn repeat(&mut self, count_max: i32) -> Vec<Delivery> {
        self.attempt -= 1;
        let deliveries = self.receive_again(count_max).await;
        self.attempt += 1;
        deliveries
    }

    async fn receive_again(&mut self, count_max: i32) -> Vec<Delivery> {
        let attempt_id = format!("{}-{}-{}", self.group, self.process, self.attempt);
        let action = |deliveries| Action::Receive {
            group: self.group.clone(),
            topic: self.topic.clone(),
            deliveries,
            invisible_ms: INVISIBLE.as_millis() as u64,
            attempt_id: Some(attempt_id.clone()),
        };
        let operation = self.context.recorder.invoke(self.process, action(Vec::new()), None);
        let receive =
            Receive { count_max, wait: WAIT, invisible: INVISIBLE, attempt_id: &attempt_id };
        match self.client.receive((&self.group, &self.topic), &receive).await {
            Ok(messages) => {
                let deliveries: Vec<Delivery> = messages.into_iter().map(Delivery::of).collect();
                operation.ok(action(deliveries.iter().map(|one| one.seen.clone()).collect()), None);
                deliveries
            }
            Err(failed) => {
                failed.end(operation, action(Vec::new()));
                tokio::time::sleep(PAUSE).await;
                Vec::new()
            }
        }
    }

    /// Whether it certainly counts.
    pub(super) async fn ack(&self, delivery: &Delivery) -> bool {
        let action = Action::Ack {
            group: self.group.clone(),
            topic: self.topic.clone(),
            value: delivery.seen.value.clone(),
            attempt: delivery.seen.attempt,
        };
        let operation = self.context.recorder.invoke(self.process, action.clone(), None);
        match self.client.ack((&self.group, &self.topic), delivery).await {
            Ok(()) => {
                operation.ok(action, None);
                true
            }
            Err(failed) => {
                failed.end(operation, action);
                false
            }
        }
    }

    /// The message comes again after this time. Nothing depends on its success.
    pub(super) async fn postpone(&self, delivery: &mut Delivery, invisible: Duration) {
        let action = Action::ChangeInvisible {
            group: self.group.clone(),
            topic: self.topic.clone(),
            value: delivery.seen.value.clone(),
            attempt: delivery.seen.attempt,
            invisible_ms: invisible.as_millis() as u64,
        };
        let operation = self.context.recorder.invoke(self.process, action.clone(), None);
        let names = (&*self.group, &*self.topic);
        match self.client.change_invisible(names, delivery, invisible).await {
            Ok(()) => operation.ok(action, None),
            Err(failed) => failed.of_replaced_handle().end(operation, action),
        }
    }

    /// The message is to be a dead letter. Whether it certainly is.
    pub(super) async fn give_up(&self, delivery: &Delivery) -> bool {
        let action = Action::DeadLetter {
            group: self.group.clone(),
            topic: self.topic.clone(),
            value: delivery.seen.value.clone(),
            attempt: delivery.seen.attempt,
        };
        let operation = self.context.recorder.invoke(self.process, action.clone(), None);
        match self.client.give_up((&self.group, &self.topic), delivery).await {
            Ok(()) => {
                operation.ok(action, None);
                true
            }
            Err(failed) => {
                failed.of_replaced_handle().end(operation, action);
                false
            }
        }
    }
}
