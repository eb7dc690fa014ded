//! Commands as a leader would choose them, most of them.
//!
//! A leader looks at what is applied (`start`) and knows what it has under way (`now`): it hands out
//! what is in the tables, and reserves cursors. Some choices are old or wrong on purpose.

use std::collections::BTreeSet;

use raftmq_broker::command::Carried;
use raftmq_broker::command::Carry;
use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::command::Release;
use raftmq_broker::command::Send;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2::TransactionResolution;

use super::dice::Dice;
use super::reference::Ids;
use super::reference::Model;
use super::reference::Out;
use super::reference::Progress;
use super::reference::Timer;
use super::reference::is_its_turn;
use super::reference::receipt_of;
use crate::replica::commands;

type Chooser = fn(&Model, &Model, &mut Dice) -> Option<Command>;

/// How often each kind is chosen.
const WEIGHTS: [(u64, Chooser); 21] = [
    (30, send),
    (40, checkout),
    (20, ack),
    (8, change),
    (8, dead_letter),
    (3, renew),
    (2, release),
    (14, fire),
    (6, recall),
    (10, end_transaction),
    (3, subscribe),
    (2, unsubscribe),
    (2, reset),
    (6, redrive),
    (3, discard),
    (6, trim),
    (6, carry),
    (3, create_topic),
    (3, create_group),
    (2, update),
    (1, delete),
];

fn command(start: &Model, now: &Model, dice: &mut Dice) -> Command {
    let total: u64 = WEIGHTS.iter().map(|(weight, _)| weight).sum();
    loop {
        let mut at = dice.below(total);
        let chosen = WEIGHTS.iter().find(|(weight, _)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        if let Some(command) = chosen.and_then(|(_, choose)| choose(start, now, dice)) {
            return command;
        }
    }
}

/// The time of the next entry.
pub fn time_ms(model: &Model, last_ms: u64, dice: &mut Dice) -> u64 {
    match dice.below(100) {
        0 => last_ms + 660_000,
        1 => last_ms + 7_000_000,
        2 => last_ms + 90_000_000,
        // A leader with another clock.
        3..6 => last_ms - dice.below(1000),
        _ => last_ms.max(model.time_ms) + dice.below(20),
    }
}

/// What every sequence begins with.
pub fn first() -> [Command; 4] {
    [
        commands::topic("topic-0", 2),
        commands::topic("topic-1", 1),
        commands::fifo_group("group-0", 3),
        commands::group("group-1", 3),
    ]
}

/// One command for each of `choices`, all chosen from the same state.
pub fn batch(start: &Model, time_ms: u64, choices: &[u64]) -> Vec<Command> {
    let mut now = start.clone();
    now.begin(time_ms);
    let mut batch = Vec::new();
    for seed in choices {
        let command = command(start, &now, &mut Dice(*seed));
        now.apply(&command);
        batch.push(command);
    }
    batch
}

fn topic_id(model: &Model, dice: &mut Dice) -> Option<u32> {
    dice.pick(&model.topics.keys().copied().collect::<Vec<_>>())
}

/// A topic that is no dead-letter topic, nearly always.
fn plain_topic_id(model: &Model, dice: &mut Dice) -> Option<u32> {
    if dice.chance(5) {
        return topic_id(model, dice);
    }
    let plain = model.topics.iter().filter(|(_, it)| it.record.dead_letters_of.is_empty());
    dice.pick(&plain.map(|(id, _)| *id).collect::<Vec<_>>())
}

fn ids(model: &Model, dice: &mut Dice) -> Option<Ids> {
    let group_id = dice.pick(&model.groups.keys().copied().collect::<Vec<_>>())?;
    Some((group_id, topic_id(model, dice)?))
}

fn send(start: &Model, now: &Model, dice: &mut Dice) -> Option<Command> {
    let topic_id = plain_topic_id(start, dice)?;
    let queue_count = u64::from(start.topics[&topic_id].record.queue_count);
    let mut messages = Vec::new();
    for at in 0..1 + dice.below(4) {
        // A name for the record that no other one has; ids repeat.
        let record = format!("record-{}-{at}", now.command);
        let id = match dice.below(10) {
            0 => format!("id-{}", dice.below(12)),
            _ => format!("id-{}-{at}", now.command),
        };
        let release = match dice.below(10) {
            0..2 => Release::At(now.time_ms + dice.below(80)),
            2 => Release::At(now.time_ms + dice.below(200_000_000)),
            3..5 => Release::OnCommit(now.time_ms + 1 + dice.below(50)),
            _ => Release::AtOnce,
        };
        let group_hash = dice.below(3);
        messages.push(NewMessage {
            queue_id: if group_hash == 0 { dice.next() } else { group_hash } as u32
                % queue_count as u32,
            tag_hash: dice.below(3),
            group_hash,
            key_hashes: vec![7; dice.below(2) as usize],
            release,
            message_id: id.into(),
            record: record.into(),
            record_offset: 0,
        });
    }
    Some(Command::Send(Send { topic_id, messages }))
}

fn checkout(start: &Model, now: &Model, dice: &mut Dice) -> Option<Command> {
    let ids = ids(start, dice)?;
    let fifo = start.groups[&ids.0].fifo;
    let attempt_hash = if fifo && dice.chance(60) { 1 + dice.below(2) } else { 0 };
    let wanted_tag = if dice.chance(30) { Some(dice.below(3)) } else { None };
    let others = start.consumptions.get(&ids).map_or(0, |it| it.subscriptions.len()) > 1;
    let rereads = dice.chance(50);
    let mut queues = Vec::new();
    for (queue_id, queue) in (0..).zip(&start.topics[&ids.1].queues) {
        if dice.chance(20) {
            continue;
        }
        let none = Progress { cursor: queue.min, ..Default::default() };
        let progress = |model: &Model| {
            let consumption = model.consumptions.get(&ids);
            consumption.map_or_else(|| none.clone(), |it| it.queues[queue_id as usize].clone())
        };
        let (known, reserved) = (progress(start), progress(now));
        let mut part = wire::QueueCheckout { queue_id, ..Default::default() };
        let same = |out: &Out| attempt_hash != 0 && out.attempt_hash == attempt_hash;
        let rereadable = known.out.iter().filter(|(_, out)| same(out));
        part.reread = rereadable.map(|(offset, _)| *offset).collect();
        if rereads && !part.reread.is_empty() {
            queues.push(part);
            continue;
        }
        part.reread.clear();
        let mut picked = BTreeSet::new();
        let careless = dice.chance(10);
        for (offset, out) in &known.out {
            let held = out.attempt == 0;
            if held && dice.chance(5) {
                part.dropped.push(*offset);
                continue;
            }
            let turn = is_its_turn(&known, out.group, *offset, |at, _| picked.contains(&at));
            let goes = (held || out.visible_at_ms <= now.time_ms) && turn;
            if (goes && dice.chance(70)) || (careless && dice.chance(50)) {
                part.again.push(*offset);
                picked.insert(*offset);
            }
        }
        if dice.chance(75) {
            let from = if dice.chance(80) { reserved.cursor } else { known.cursor };
            let count = 1 + dice.below(6) as usize;
            let mut blocked = BTreeSet::new();
            part.from_offset = from;
            part.next_offset = queue.max.max(from);
            for (looked, (offset, message)) in queue.messages.range(from..).enumerate() {
                if looked == count {
                    part.next_offset = *offset;
                    break;
                }
                let wanted = wanted_tag.is_none_or(|tag| message.tag == tag);
                if !wanted && !others {
                    continue;
                }
                let group = if fifo { message.group } else { 0 };
                let turn = is_its_turn(&known, group, *offset, |at, _| picked.contains(&at));
                let turn = turn && !blocked.contains(&group);
                if wanted && (turn || careless) {
                    part.taken.push(*offset);
                    part.taken_groups.push(group);
                } else {
                    part.held.push(*offset);
                    part.held_groups.push(group);
                    if group != 0 {
                        blocked.insert(group);
                    }
                }
            }
            if !fifo {
                part.taken_groups.clear();
                part.held_groups.clear();
            }
        }
        queues.push(part);
    }
    Some(Command::Checkout(wire::Checkout {
        group_id: ids.0,
        topic_id: ids.1,
        queues,
        visible_at_ms: now.time_ms + 1 + dice.below(60),
        renew_client_id: client(dice),
        attempt_hash,
        client_id: String::new(),
    }))
}

/// None, or one of two.
fn client(dice: &mut Dice) -> String {
    match dice.below(3) {
        0 => String::new(),
        number => format!("client-{number}"),
    }
}

/// A present receipt, or any.
fn receipt(start: &Model, dice: &mut Dice) -> Option<wire::Receipt> {
    if dice.chance(25) {
        return dice.pick(&start.receipts);
    }
    let mut present = Vec::new();
    for (ids, consumption) in &start.consumptions {
        for (queue_id, progress) in (0..).zip(&consumption.queues) {
            let out = progress.out.iter().filter(|(_, out)| out.attempt > 0);
            present.extend(
                out.map(|(offset, out)| {
                    receipt_of((ids.0, ids.1, queue_id, *offset, out.delivery))
                }),
            );
        }
    }
    dice.pick(&present)
}

fn ack(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    Some(Command::Ack(wire::Ack { receipt: Some(receipt(start, dice)?) }))
}

fn change(start: &Model, now: &Model, dice: &mut Dice) -> Option<Command> {
    let visible_at_ms = now.time_ms + dice.below(60);
    let receipt = Some(receipt(start, dice)?);
    Some(Command::ChangeInvisible(wire::ChangeInvisible {
        receipt,
        visible_at_ms,
        suspended: false,
    }))
}

fn dead_letter(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let receipt = Some(receipt(start, dice)?);
    Some(Command::DeadLetter(wire::DeadLetter { receipt, exhausted: dice.chance(50) }))
}

fn renew(start: &Model, now: &Model, dice: &mut Dice) -> Option<Command> {
    let receipts = (0..1 + dice.below(4)).filter_map(|_| receipt(start, dice)).collect();
    let visible_at_ms = now.time_ms + dice.below(60);
    Some(Command::Renew(wire::Renew { receipts, visible_at_ms }))
}

fn release(_: &Model, now: &Model, dice: &mut Dice) -> Option<Command> {
    let visible_at_ms = now.time_ms + dice.below(10);
    Some(Command::ReleaseClient(wire::ReleaseClient { client_id: client(dice), visible_at_ms }))
}

fn fire(_: &Model, now: &Model, dice: &mut Dice) -> Option<Command> {
    Some(Command::Fire(wire::Fire {
        until_ms: now.time_ms + dice.below(20) - 10,
        count: if dice.chance(50) { 1 + dice.below(4) as u32 } else { 1000 },
        check_interval_ms: 10 + dice.below(20),
        check_max: 2,
    }))
}

fn recall(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let pending: BTreeSet<u64> = start.timers.iter().map(|timer| timer.number).collect();
    let handles = start.handles.iter().filter(|(_, number, _)| pending.contains(number));
    let pending: Vec<_> = handles.copied().collect();
    let handles = if dice.chance(50) { &pending } else { &start.handles };
    let (topic_id, log_index, due_ms) = dice.pick(handles)?;
    Some(Command::Recall(wire::Recall {
        topic_id,
        timer: Some(wire::Timer { due_ms, log_index, offset: 0 }),
    }))
}

fn end_transaction(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let (topic_id, id) = match dice.below(10) {
        0 => (topic_id(start, dice)?, "never".to_owned()),
        1..4 => dice.pick(&start.ended.keys().cloned().collect::<Vec<_>>())?,
        _ => dice.pick(&start.halves.keys().cloned().collect::<Vec<_>>())?,
    };
    Some(Command::EndTransaction(wire::EndTransaction {
        topic_id,
        transaction_id: id.into(),
        resolution: match dice.below(2) {
            0 => TransactionResolution::Commit,
            _ => TransactionResolution::Rollback,
        }
        .into(),
    }))
}

fn subscription(dice: &mut Dice) -> Option<wire::Subscription> {
    Some(wire::Subscription { filter_type: 1, expression: format!("tag-{}", dice.below(3)) })
}

fn subscribe(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let (group_id, topic_id) = ids(start, dice)?;
    let subscription = subscription(dice);
    Some(Command::Subscribe(wire::Subscribe { group_id, topic_id, subscription }))
}

fn unsubscribe(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let (group_id, topic_id) = ids(start, dice)?;
    let subscription = subscription(dice);
    Some(Command::Unsubscribe(wire::Unsubscribe { group_id, topic_id, subscription }))
}

fn reset(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let (group_id, topic_id) = ids(start, dice)?;
    let mut queues = Vec::new();
    for (queue_id, queue) in (0..).zip(&start.topics[&topic_id].queues) {
        if dice.chance(70) {
            let offset = dice.below(queue.max + 2);
            queues.push(wire::QueueOffset { queue_id, offset });
        }
    }
    Some(Command::ResetOffset(wire::ResetOffset { group_id, topic_id, queues }))
}

/// A topic of dead letters, or sometimes another, and messages in it.
fn places(start: &Model, dice: &mut Dice) -> Option<(u32, Vec<(u32, u64)>)> {
    let dead = start.topics.iter().filter(|(_, it)| !it.record.dead_letters_of.is_empty());
    let dead: Vec<u32> = dead.map(|(id, _)| *id).collect();
    let topic_id = if dice.chance(25) { topic_id(start, dice)? } else { dice.pick(&dead)? };
    let queues = (0..).zip(&start.topics[&topic_id].queues);
    let there: Vec<(u32, u64)> = queues
        .flat_map(|(queue_id, queue)| queue.messages.keys().map(move |at| (queue_id, *at)))
        .collect();
    let mut places = dice.some(&there, 30);
    places.truncate(3);
    // One more that may be a hole, or gone.
    places.extend(dice.pick(&there).map(|(queue_id, at)| (queue_id, at.saturating_sub(1))));
    Some((topic_id, places))
}

fn redrive(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let (from, places) = places(start, dice)?;
    let mut messages = Vec::new();
    for (queue_id, offset) in places {
        let to_topic_id = plain_topic_id(start, dice)?;
        let to_queue_id = dice.below(3) as u32;
        messages.push(wire::Redriven { queue_id, offset, to_topic_id, to_queue_id });
    }
    Some(Command::Redrive(wire::Redrive { topic_id: from, messages }))
}

fn discard(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let (topic_id, places) = places(start, dice)?;
    let place = |(queue_id, offset)| wire::QueueOffset { queue_id, offset };
    let messages = places.into_iter().map(place).collect();
    Some(Command::Discard(wire::Discard { topic_id, messages }))
}

fn trim(start: &Model, now: &Model, dice: &mut Dice) -> Option<Command> {
    // What waits is carried before anything goes.
    let oldest = start.timers.iter().map(|timer| timer.message.written).min();
    let before = oldest.unwrap_or(now.batch).min(now.batch);
    let before = before.saturating_sub(dice.below(8)).max(start.trimmed_before);
    let stored_before_ms = now.time_ms.saturating_sub(dice.below(200));
    Some(Command::Trim(wire::Trim { before_log_index: before, stored_before_ms }))
}

fn carry(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let mut timers = start.timers.clone();
    timers.sort_by_key(|timer| timer.message.written);
    let some: Vec<_> =
        if dice.chance(50) { timers.into_iter().take(4).collect() } else { dice.some(&timers, 30) };
    let carried = |timer: Timer| Carried {
        timer: wire::Timer { due_ms: timer.due_ms, log_index: timer.order, offset: 0 },
        record: timer.message.record.into(),
        record_offset: 0,
    };
    let records: Vec<_> = some.into_iter().map(carried).collect();
    (!records.is_empty()).then_some(Command::Carry(Carry { records }))
}

fn create_topic(_: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let number = dice.below(3);
    Some(commands::topic(&format!("topic-{number}"), 1 + dice.below(3) as u32))
}

fn create_group(_: &Model, now: &Model, dice: &mut Dice) -> Option<Command> {
    let mut start = wire::Start::default();
    start.set_kind(match dice.below(3) {
        0 => wire::start::Kind::First,
        1 => wire::start::Kind::Last,
        _ => wire::start::Kind::Timestamp,
    });
    start.timestamp_ms = now.time_ms + 10 - dice.below(200);
    Some(Command::CreateGroup(wire::CreateGroup {
        name: format!("group-{}", dice.below(4)),
        max_attempts: 3,
        fifo: dice.chance(50),
        start: Some(start),
        backoff: None,
        receive_rate_max: dice.below(3) as u32,
        ..Default::default()
    }))
}

fn update(_: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    let (number, rate_max) = (dice.below(4), dice.below(3) as u32);
    Some(match dice.chance(50) {
        true => Command::UpdateTopic(wire::UpdateTopic {
            name: format!("topic-{number}"),
            send_rate_max: rate_max,
        }),
        false => Command::UpdateGroup(wire::UpdateGroup {
            name: format!("group-{number}"),
            receive_rate_max: rate_max,
        }),
    })
}

fn delete(start: &Model, _: &Model, dice: &mut Dice) -> Option<Command> {
    if dice.chance(50) {
        let names: Vec<String> = start.groups.values().map(|group| group.name.clone()).collect();
        return Some(Command::DeleteGroup(wire::DeleteGroup { name: dice.pick(&names)? }));
    }
    let names: Vec<String> = start.topics.values().map(|it| it.record.name.clone()).collect();
    Some(Command::DeleteTopic(wire::DeleteTopic { name: dice.pick(&names)? }))
}
