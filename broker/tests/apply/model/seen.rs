//! What can be seen of a state: of the model's, and of a replica's in the same terms.

use std::collections::HashMap;

use raftmq_broker::state::ConsumptionView;
use raftmq_broker::state::Unit;
use raftmq_proto::raftmq as wire;

use super::reference::Ids;
use super::reference::Model;
use super::reference::Out;
use super::reference::Progress;
use super::reference::is_its_turn;
use crate::replica::Replica;

#[derive(Debug, PartialEq)]
pub struct Seen {
    pub time_ms: u64,
    pub topics: Vec<(wire::TopicRecord, Vec<SeenQueue>)>,
    pub groups: Vec<wire::GroupRecord>,
    pub consumptions: Vec<(Ids, SeenConsumption)>,
    pub timers: Vec<SeenTimer>,
    pub halves: Vec<SeenHalf>,
}

#[derive(Debug, PartialEq)]
pub struct SeenQueue {
    pub min: u64,
    pub max: u64,
    pub messages: Vec<SeenMessage>,
}

#[derive(Debug, PartialEq)]
pub struct SeenMessage {
    pub offset: u64,
    pub record: String,
    pub tag: u64,
    pub group: u64,
    pub stored_ms: u64,
    pub dead_letter: bool,
}

/// Cursor, commit offset, and what is out or held back by offset.
pub type QueueSeen = (u64, u64, Vec<(u64, Out)>);

#[derive(Debug, PartialEq)]
pub struct SeenConsumption {
    /// Cursor, commit offset, what is out.
    pub queues: Vec<QueueSeen>,
    pub due: Vec<(u64, u32, u64)>,
    pub ready: Vec<(u32, u64)>,
    pub attempts: Vec<(u64, u32, u64)>,
    pub subscriptions: Vec<wire::Subscription>,
}

#[derive(Debug, PartialEq)]
pub struct SeenTimer {
    pub due_ms: u64,
    pub topic_id: u32,
    pub queue_id: u32,
    pub id: String,
    pub record: String,
    pub check: bool,
}

#[derive(Debug, PartialEq)]
pub struct SeenHalf {
    pub topic_id: u32,
    pub queue_id: u32,
    pub id: String,
    pub record: String,
    pub stored_ms: u64,
    pub checks: u32,
}

pub fn of_model(model: &Model) -> Seen {
    let mut timers = model.timers.clone();
    timers.sort_by_key(|timer| (timer.due_ms, timer.order));
    Seen {
        time_ms: model.time_ms,
        topics: model
            .topics
            .values()
            .map(|topic| {
                let queue = |queue: &super::reference::Queue| SeenQueue {
                    min: queue.min,
                    max: queue.max,
                    messages: queue
                        .messages
                        .iter()
                        .map(|(offset, message)| SeenMessage {
                            offset: *offset,
                            record: message.record.clone(),
                            tag: message.tag,
                            group: message.group,
                            stored_ms: message.stored_ms,
                            dead_letter: message.dead_letter,
                        })
                        .collect(),
                };
                (topic.record.clone(), topic.queues.iter().map(queue).collect())
            })
            .collect(),
        groups: model.groups.values().cloned().collect(),
        consumptions: model
            .consumptions
            .iter()
            .map(|(ids, it)| (*ids, consumption(&it.queues, &it.subscriptions)))
            .collect(),
        timers: timers
            .into_iter()
            .map(|timer| SeenTimer {
                due_ms: timer.due_ms,
                topic_id: timer.topic_id,
                queue_id: timer.queue_id,
                id: timer.message.id,
                record: timer.message.record,
                check: timer.check,
            })
            .collect(),
        halves: model
            .halves
            .iter()
            .map(|((topic_id, id), half)| SeenHalf {
                topic_id: *topic_id,
                queue_id: half.queue_id,
                id: id.clone(),
                record: half.message.record.clone(),
                stored_ms: half.stored_ms,
                checks: half.checks,
            })
            .collect(),
    }
}

fn consumption(queues: &[Progress], subscriptions: &[wire::Subscription]) -> SeenConsumption {
    let (mut due, mut ready, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    for (queue_id, progress) in (0..).zip(queues) {
        for (offset, out) in &progress.out {
            if out.attempt > 0 {
                due.push((out.visible_at_ms, queue_id, *offset));
            } else if is_its_turn(progress, out.group, *offset, |_, _| false) {
                ready.push((queue_id, *offset));
            }
            if out.attempt_hash != 0 {
                attempts.push((out.attempt_hash, queue_id, *offset));
            }
        }
    }
    due.sort_unstable();
    attempts.sort_unstable();
    let queue = |progress: &Progress| {
        let commit = progress.out.keys().next().copied().unwrap_or(progress.cursor);
        let out = progress.out.iter().map(|(offset, out)| (*offset, out.clone()));
        (progress.cursor, commit, out.collect())
    };
    SeenConsumption {
        queues: queues.iter().map(queue).collect(),
        due,
        ready,
        attempts,
        subscriptions: subscriptions.to_vec(),
    }
}

/// `deliveries`: the model's numbers by nonce.
pub fn of_replica(replica: &Replica, deliveries: &HashMap<u64, u64>) -> Seen {
    let state = replica.state.read();
    let view = state.view(&replica.store);
    let (needed_from, next_due_ms) = (view.needed_from(), view.next_due_ms());
    let read = |unit: &Unit| {
        assert!(unit.log_index >= needed_from, "{unit:?} is gone with what was trimmed");
        replica.read(unit)
    };
    let queues = |topic_id| {
        let queues = view.queues(topic_id).into_iter();
        let queues = queues.map(|queue| SeenQueue {
            min: queue.min,
            max: queue.max,
            messages: queue
                .messages
                .iter()
                .map(|(offset, unit)| SeenMessage {
                    offset: *offset,
                    record: read(unit),
                    tag: unit.tag_hash,
                    group: unit.group_hash,
                    stored_ms: unit.stored_ms,
                    dead_letter: unit.dead_letter,
                })
                .collect(),
        });
        queues.collect()
    };
    let seen = Seen {
        time_ms: view.time_ms(),
        topics: view.topics().into_iter().map(|it| (it.clone(), queues(it.id))).collect(),
        groups: view.groups(),
        consumptions: view
            .consumptions()
            .into_iter()
            .map(|(ids, it)| (ids, consumption_of_replica(it, deliveries)))
            .collect(),
        timers: view
            .timers()
            .into_iter()
            .map(|(timer, record, unit)| SeenTimer {
                due_ms: timer.due_ms,
                topic_id: record.topic_id,
                queue_id: record.queue_id,
                id: super::reference::text(&record.message_id),
                record: read(&unit),
                check: record.check,
            })
            .collect(),
        halves: view
            .halves()
            .into_iter()
            .map(|(topic_id, id, half, unit)| SeenHalf {
                topic_id,
                queue_id: half.queue_id,
                id: super::reference::text(&id),
                record: read(&unit),
                stored_ms: half.stored_ms,
                checks: half.checks,
            })
            .collect(),
    };
    for (_, _, half, _) in view.halves() {
        let timer = half.timer.unwrap();
        assert!(
            view.timers().iter().any(|it| it.0 == timer && it.1.check),
            "nobody asks: {half:?}"
        );
    }
    let first_due_ms = seen.timers.first().map_or(u64::MAX, |timer| timer.due_ms);
    assert!(next_due_ms <= first_due_ms, "fires too late: {next_due_ms} > {first_due_ms}");
    seen
}

fn consumption_of_replica(
    view: ConsumptionView,
    deliveries: &HashMap<u64, u64>,
) -> SeenConsumption {
    let delivery = |nonce: u64| if nonce == 0 { 0 } else { deliveries[&nonce] };
    let out = |record: wire::InflightRecord| Out {
        attempt: record.attempt,
        visible_at_ms: record.visible_at_ms,
        delivery: delivery(record.nonce),
        first_delivery_ms: record.first_delivery_ms,
        owner: record.renew_client_id,
        group: record.group_hash,
        attempt_hash: record.attempt_hash,
        changed_from: delivery(record.changed_from),
    };
    let queues = view.queues.into_iter().map(|it| {
        let inflight = it.inflight.into_iter().map(|(offset, record)| (offset, out(record)));
        (it.next_offset, it.commit_offset, inflight.collect())
    });
    SeenConsumption {
        queues: queues.collect(),
        due: view.due,
        ready: view.ready,
        attempts: view.attempts,
        subscriptions: view.subscriptions,
    }
}
