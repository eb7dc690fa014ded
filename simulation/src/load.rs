//! Clients: they send, receive and acknowledge at any node, and repeat what had no outcome.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::receive_message_response::Content;
use raftmq_raft_store::world::draw;
use raftmq_raft_store::world::trace;
use tokio::sync::watch;
use tonic::Request;

use crate::checks::History;
use crate::cluster::Cluster;

/// The topic of a run.
pub const TOPIC: &str = "orders";
/// Its consumer group.
pub const GROUP: &str = "billing";
/// How long a client waits for one answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a producer goes on with one message.
const SEND_ATTEMPTS: u64 = 12;
const RECEIVE_WAIT: Duration = Duration::from_secs(2);

/// What all clients share.
#[derive(Clone)]
pub struct Load {
    pub cluster: Arc<Cluster>,
    pub history: Arc<Mutex<History>>,
}

fn resource(name: &str) -> v2::Resource {
    v2::Resource { name: name.into(), ..Default::default() }
}

fn request<T>(client: &str, message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(id) = client.parse() {
        request.metadata_mut().insert("x-mq-client-id", id);
    }
    request.set_timeout(timeout);
    request
}

impl Load {
    /// Makes the topic and the group, however long it takes.
    pub async fn prepare(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let Some(leader) = self.cluster.leader() else { continue };
            let Some((process, broker)) = self.cluster.node(leader) else { continue };
            let queue_count = self.cluster.plan.queue_count;
            let make = process.run(async move {
                broker.create_topic(TOPIC, queue_count).await?;
                broker.create_group(GROUP, 1000).await
            });
            if let Ok(Ok(_)) = tokio::time::timeout(CALL_TIMEOUT, make).await {
                return;
            }
        }
    }

    /// Sends until `stop`.
    pub async fn produce(self, number: u64, stop: watch::Receiver<bool>) {
        let client = format!("producer@{number}");
        let plan = self.cluster.plan.clone();
        let mut next = 0;
        while !*stop.borrow() {
            tokio::time::sleep(Duration::from_millis(
                draw().between(plan.think_ms.0, plan.think_ms.1),
            ))
            .await;
            let count = draw().between(1, plan.messages_max as u64);
            let messages: Vec<_> = (0..count)
                .map(|_| {
                    next += 1;
                    let bytes = draw().between(0, plan.body_bytes_max as u64) as usize;
                    message(&format!("{number}-{next}"), bytes)
                })
                .collect();
            self.send(&client, messages).await;
        }
    }

    async fn send(&self, client: &str, messages: Vec<v2::Message>) {
        let ids: Vec<String> = messages.iter().map(id_of).collect();
        for attempt in 1..=SEND_ATTEMPTS {
            {
                let mut history = self.history.lock();
                history.calls += 1;
                for id in &ids {
                    history.sent.insert(id.clone(), attempt);
                }
            }
            let sent = v2::SendMessageRequest { messages: messages.clone() };
            let request = request(client, sent, CALL_TIMEOUT);
            let answer = self
                .call(|broker| async move {
                    broker.send_message(request).await.ok().map(|answer| answer.into_inner())
                })
                .await;
            let done = answer.filter(|answer| code(&answer.status) == Some(Code::Ok));
            if let Some(answer) = done {
                let mut history = self.history.lock();
                for (id, entry) in ids.iter().zip(&answer.entries) {
                    trace::note(format_args!("{client}: {id} acknowledged at {}", entry.offset));
                    history.acknowledged.insert(id.clone(), entry.offset);
                }
                return;
            }
            self.history.lock().unknown += 1;
            trace::note(format_args!("{client}: no outcome for {ids:?}"));
            tokio::time::sleep(draw().micros(1_000, 300_000)).await;
        }
    }

    /// Receives until `stop`. Without `reliable` some messages are not acknowledged and come again.
    pub async fn consume(self, number: u64, reliable: watch::Receiver<bool>) {
        let client = format!("consumer@{number}");
        loop {
            let messages = self.receive(&client).await;
            if messages.is_empty() {
                tokio::time::sleep(draw().micros(10_000, 100_000)).await;
                continue;
            }
            for message in messages {
                trace::note(format_args!("{client}: received {}", id_of(&message)));
                if *reliable.borrow() || !draw().once_in(8) {
                    self.acknowledge(&client, &message).await;
                }
            }
        }
    }

    async fn receive(&self, client: &str) -> Vec<v2::Message> {
        self.history.lock().calls += 1;
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let message = v2::ReceiveMessageRequest {
            group: Some(resource(GROUP)),
            message_queue: Some(v2::MessageQueue {
                topic: Some(resource(TOPIC)),
                id: -1,
                ..Default::default()
            }),
            batch_size: draw().between(1, 32) as i32,
            invisible_duration: seconds(10),
            long_polling_timeout: prost_types::Duration::try_from(RECEIVE_WAIT).ok(),
            ..Default::default()
        };
        let request = request(client, message, RECEIVE_WAIT + CALL_TIMEOUT);
        let parts = self
            .call(|broker| async move {
                let answer = broker.receive_message(request).await.ok()?;
                Some(answer.into_inner().collect::<Vec<_>>().await)
            })
            .await;
        let contents = parts.into_iter().flatten().filter_map(|part| part.ok()?.content);
        contents
            .filter_map(|content| match content {
                Content::Message(message) => Some(message),
                Content::Status(_) | Content::DeliveryTimestamp(_) => None,
            })
            .collect()
    }

    async fn acknowledge(&self, client: &str, message: &v2::Message) {
        self.history.lock().calls += 1;
        let properties = message.system_properties.clone().unwrap_or_default();
        let entry = v2::AckMessageEntry {
            message_id: properties.message_id.clone(),
            receipt_handle: properties.receipt_handle.unwrap_or_default(),
            lite_topic: None,
        };
        let acknowledged = v2::AckMessageRequest {
            group: Some(resource(GROUP)),
            topic: Some(resource(TOPIC)),
            entries: vec![entry],
        };
        let request = request(client, acknowledged, CALL_TIMEOUT);
        let answer = self
            .call(|broker| async move {
                broker.ack_message(request).await.ok().map(|answer| answer.into_inner())
            })
            .await;
        let id = properties.message_id;
        match answer.and_then(|answer| code(&answer.status)) {
            Some(Code::Ok) => {
                trace::note(format_args!("{client}: consumed {id}"));
                self.history.lock().consumed.insert(id);
            }
            // Certainly without effect: it comes again.
            Some(Code::InvalidReceiptHandle) => (),
            _ => {
                let mut history = self.history.lock();
                history.unknown += 1;
                history.perhaps_consumed.insert(id);
            }
        }
    }

    /// One call at some node that is up. `None`: it was not answered in time.
    async fn call<C, F, T>(&self, call: C) -> Option<T>
    where
        C: FnOnce(raftmq_broker::simulation::Client) -> F,
        F: Future<Output = Option<T>>,
    {
        let up: Vec<_> = self.cluster.ids().filter_map(|id| self.cluster.node(id)).collect();
        if up.is_empty() {
            return None;
        }
        let (process, broker) = &up[draw().between(0, up.len() as u64 - 1) as usize];
        let call = process.run(call(broker.client()));
        tokio::time::timeout(CALL_TIMEOUT + RECEIVE_WAIT, call).await.ok().flatten()
    }
}

fn message(id: &str, bytes: usize) -> v2::Message {
    let body = format!("{id}:{}", "x".repeat(bytes));
    v2::Message {
        topic: Some(resource(TOPIC)),
        system_properties: Some(v2::SystemProperties {
            message_id: id.into(),
            ..Default::default()
        }),
        body: body.into(),
        ..Default::default()
    }
}

fn id_of(message: &v2::Message) -> String {
    message.system_properties.as_ref().map_or_else(String::new, |p| p.message_id.clone())
}

fn code(status: &Option<v2::Status>) -> Option<Code> {
    status.as_ref().map(v2::Status::code)
}
