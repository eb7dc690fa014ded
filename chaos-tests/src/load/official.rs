//! What applications do with an official client, at its default settings: unique values sent at a set
//! rate, and consumed by a push consumer and by a simple one, each in a group of its own.
//!
//! The client is a process (`clients/<language>`), so nothing here can tell what certainly had no
//! effect: a send that was not acknowledged is unknown. It writes down what it did with the times of
//! the machine's monotonic clock, and its lines join the history when it has ended.
//!
//! Of a push consumer nobody knows when it asked, and it acknowledges by itself: its deliveries began
//! at any time since its start, and the outcome of its acknowledgements is unknown.

use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::{Context, Workload};
use crate::driver::{Client, Consumer, Producer};
use crate::driver_log::{self, Delivery, Send};
use crate::history::{self, Action, Foreign, Kind, Phase, monotonic_ns};

/// How often it is seen whether the processes still run.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// The workload.
#[derive(Clone, Copy, Debug)]
pub struct Official {
    /// Whose client.
    pub client: Client,
    /// Sends a second.
    pub rate_per_s: u32,
}

impl Official {
    /// With a rate that leaves a small machine something to do besides.
    pub fn new(client: Client) -> Self {
        Self { client, rate_per_s: 50 }
    }

    fn topic(&self) -> String {
        format!("{}-queue", self.client.name())
    }

    fn group(&self, mode: &str) -> String {
        format!("{}-{mode}", self.client.name())
    }
}

impl Workload for Official {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn topics(&self) -> Vec<String> {
        vec![self.topic()]
    }

    fn groups(&self) -> Vec<(String, String)> {
        let modes = self.client.consume_modes().iter();
        modes.map(|mode| (self.group(mode), self.topic())).collect()
    }

    fn prepare(&self) -> anyhow::Result<()> {
        self.client.build()
    }

    fn start(&self, context: &Context) -> JoinSet<()> {
        let (official, context) = (*self, context.clone());
        let mut tasks = JoinSet::new();
        // Before the task runs, so that nobody believes it was ready, or done with sending, already.
        let (starting, sending) = (context.starting.token(), context.sending.token());
        tasks.spawn(async move {
            let mut programs = Programs::new(official);
            let mut failed = programs.start(&context).await;
            drop(starting);
            if failed.is_ok() {
                failed = programs.watch(&context).await;
            }
            let stopped = programs.stop_sending(&context).await;
            drop(sending);
            context.end.cancelled().await;
            let merged = programs.end(&context);
            for error in [failed, stopped, merged].into_iter().filter_map(Result::err) {
                context.failures.note(format!("{}: {error:#}", official.name()));
            }
        });
        tasks
    }
}

/// The processes of one client, and what they wrote down.
struct Programs {
    official: Official,
    producer: Option<Producer>,
    /// Each with its group, and when it was started.
    consumers: Vec<(Consumer, String, u64)>,
}

impl Programs {
    fn new(official: Official) -> Self {
        Self { official, producer: None, consumers: Vec::new() }
    }

    async fn start(&mut self, context: &Context) -> anyhow::Result<()> {
        let Official { client, rate_per_s } = self.official;
        let topic = self.official.topic();
        let endpoint = match client {
            Client::Java => context.endpoints.join(";"),
            // They take such a list too, but that for Python makes all of it the name of the
            // authority, `a:1,b:2`, which is none, and the servers refuse it.
            _ => context.endpoints.first().context("no endpoint")?.clone(),
        };
        // They run beside the scripts that start them.
        let directory = std::path::absolute(&context.directory)?;
        for mode in client.consume_modes() {
            let (group, begin_ns) = (self.official.group(mode), monotonic_ns());
            let consumer =
                Consumer::start_in_mode(client, mode, &directory, &endpoint, &topic, &group)?;
            self.consumers.push((consumer, group, begin_ns));
        }
        for (consumer, _, _) in &mut self.consumers {
            consumer.ready().await?;
        }
        let producer = Producer::start(client, &directory, &endpoint, &topic, rate_per_s)?;
        self.producer.insert(producer).ready().await
    }

    /// Until nothing more is to be sent.
    async fn watch(&mut self, context: &Context) -> anyhow::Result<()> {
        loop {
            for (consumer, _, _) in &mut self.consumers {
                consumer.ensure_alive()?;
            }
            if let Some(producer) = &mut self.producer {
                producer.ensure_alive()?;
            }
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(WATCH_INTERVAL) => (),
            }
        }
    }

    async fn stop_sending(&mut self, context: &Context) -> anyhow::Result<()> {
        let Some(producer) = self.producer.take() else { return Ok(()) };
        let log = producer.log().to_owned();
        let finished = producer.finish().await;
        // What it did count also if it did not get through.
        let sends = driver_log::sends(&log)?;
        let topic = self.official.topic();
        let operations: anyhow::Result<Vec<Foreign>> =
            sends.into_iter().map(|send| sent(&topic, send)).collect();
        context.recorder.merge(operations?)?;
        finished.map(drop)
    }

    fn end(&mut self, context: &Context) -> anyhow::Result<()> {
        let topic = self.official.topic();
        let mut operations = Vec::new();
        let mut alive = Ok(());
        for (mut consumer, group, begin_ns) in self.consumers.drain(..) {
            alive = alive.and(consumer.ensure_alive());
            for delivery in consumer.cut()? {
                operations.extend(received(&topic, &group, begin_ns, delivery)?);
            }
        }
        context.recorder.merge(operations)?;
        alive
    }
}

/// One send, as the producer saw it.
fn sent(topic: &str, send: Send) -> anyhow::Result<Foreign> {
    let action = |message_id| Action::Send {
        topic: topic.to_owned(),
        value: send.value.clone(),
        message_id,
        offset: None,
        kind: Kind::Normal,
    };
    Ok(Foreign {
        begin_ns: send.begin_ns.context(NO_TIMES)?,
        end_ns: send.end_ns.context(NO_TIMES)?,
        begun: action(None),
        ended: action(send.id.clone()),
        phase: if send.ok { Phase::Ok } else { Phase::Unknown },
        error: send.error.clone(),
    })
}

/// One delivery and its acknowledgement, by a consumer that was started at `started_ns`.
fn received(
    topic: &str,
    group: &str,
    started_ns: u64,
    delivery: Delivery,
) -> anyhow::Result<[Foreign; 2]> {
    let action = |deliveries| Action::Receive {
        group: group.to_owned(),
        topic: topic.to_owned(),
        deliveries,
        invisible_ms: delivery.invisible_ms.unwrap_or(0),
        attempt_id: None,
    };
    let end_ns = delivery.end_ns.context(NO_TIMES)?;
    let seen = history::Delivery {
        value: delivery.value.clone(),
        message_id: delivery.id,
        attempt: delivery.attempt,
        queue_id: None,
        offset: None,
    };
    let receive = Foreign {
        begin_ns: delivery.begin_ns.unwrap_or(started_ns),
        end_ns,
        begun: action(Vec::new()),
        ended: action(vec![seen]),
        phase: Phase::Ok,
        error: None,
    };
    let action = Action::Ack {
        group: group.to_owned(),
        topic: topic.to_owned(),
        value: delivery.value,
        attempt: delivery.attempt,
    };
    let answered = delivery.acked && delivery.ack_end_ns.is_some();
    let by_itself = || "the client acknowledges by itself".to_owned();
    let ack = Foreign {
        begin_ns: delivery.ack_begin_ns.unwrap_or(end_ns),
        end_ns: delivery.ack_end_ns.unwrap_or(end_ns),
        begun: action.clone(),
        ended: action,
        phase: if answered { Phase::Ok } else { Phase::Unknown },
        error: if answered { None } else { delivery.error.or_else(|| Some(by_itself())) },
    };
    Ok([receive, ack])
}

const NO_TIMES: &str = "the driver writes down no monotonic times";

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(line: &str) -> Delivery {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_send_without_an_answer_is_unknown() {
        let line =
            r#"{"t_ms":1,"end_ms":2,"begin_ns":5,"end_ns":9,"v":"P1-1","ok":false,"err":"x"}"#;
        let send = sent("t", serde_json::from_str(line).unwrap()).unwrap();
        assert_eq!((send.phase, send.begin_ns, send.end_ns), (Phase::Unknown, 5, 9));
        assert_eq!(send.error.as_deref(), Some("x"));
    }

    #[test]
    fn a_driver_without_monotonic_times_is_refused() {
        let line = r#"{"t_ms":1,"end_ms":2,"v":"P1-1","ok":true,"id":"A"}"#;
        assert!(sent("t", serde_json::from_str(line).unwrap()).is_err());
    }

    #[test]
    fn a_push_consumer_asked_at_any_time_and_may_have_acknowledged() {
        let line = r#"{"t_ms":1,"v":"a","id":"A","attempt":2,"acked":true,"end_ns":90}"#;
        let [receive, ack] = received("t", "g", 7, delivery(line)).unwrap();
        assert_eq!((receive.begin_ns, receive.end_ns, receive.phase), (7, 90, Phase::Ok));
        assert_eq!((ack.begin_ns, ack.phase), (90, Phase::Unknown));
    }

    #[test]
    fn a_simple_consumer_tells_everything() {
        let line = r#"{"t_ms":1,"v":"a","id":"A","attempt":1,"acked":true,"begin_ns":50,"end_ns":60,
            "invisible_ms":30000,"ack_begin_ns":61,"ack_end_ns":70,"err":""}"#;
        let [receive, ack] = received("t", "g", 7, delivery(line)).unwrap();
        assert_eq!((receive.begin_ns, receive.end_ns), (50, 60));
        let Action::Receive { deliveries, invisible_ms, .. } = receive.ended else { panic!() };
        assert_eq!((deliveries[0].attempt, invisible_ms), (1, 30_000));
        assert_eq!((ack.begin_ns, ack.end_ns, ack.phase, ack.error), (61, 70, Phase::Ok, None));
    }
}
