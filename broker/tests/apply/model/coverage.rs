//! That random commands come to everything worth comparing.

use std::collections::BTreeMap;

use raftmq_broker::command::Command;
use raftmq_proto::raftmq::ended_record::How;

use super::choose;
use super::dice::Dice;
use super::reference::Answer;
use super::reference::Model;

/// What must have happened in a few thousand commands.
const EVENTS: [&str; 37] = [
    "a batch of several commands",
    "a checkout by an attempt that reads again",
    "a checkout of a fifo group held back what it took",
    "a checkout that came too late",
    "a checkout with several of one message group",
    "a dead letter",
    "a delayed message was carried",
    "a half message was carried",
    "a half message was pending when it was sent again",
    "a message at its second attempt",
    "a message was held back",
    "a repeated change",
    "a run that may not be read again",
    "a repeated send",
    "a reset with something out",
    "a time went back",
    "a trim that did nothing",
    "a trim that let go of something",
    "a dead letter was redriven",
    "answered: changed",
    "answered: checks",
    "answered: committed",
    "answered: delivered",
    "answered: exists",
    "answered: given up",
    "answered: group",
    "answered: given up before",
    "answered: no group",
    "answered: no topic",
    "answered: no transaction",
    "answered: not pending",
    "answered: recalled",
    "answered: receipt",
    "answered: rolled back",
    "answered: topic",
    "fired",
    "something discarded",
];

type Counts = BTreeMap<&'static str, u64>;

#[test]
fn random_commands_come_to_everything() {
    let mut counts = Counts::new();
    let mut dice = Dice(7);
    for _ in 0..60 {
        sequence(&mut dice, &mut counts);
    }
    let missing: Vec<_> = EVENTS.iter().filter(|event| !counts.contains_key(*event)).collect();
    assert!(missing.is_empty(), "never: {missing:#?}, but {counts:#?}");
}

fn sequence(dice: &mut Dice, counts: &mut Counts) {
    let mut model = Model::default();
    let mut time_ms = 1_000_000_000_000;
    model.begin(time_ms);
    choose::first().iter().for_each(|command| {
        model.apply(command);
    });
    for _ in 0..80 {
        time_ms = choose::time_ms(&model, time_ms, dice);
        let choices: Vec<u64> = (0..1 + dice.below(8)).map(|_| dice.next()).collect();
        let batch = choose::batch(&model, time_ms, &choices);
        note(counts, "a time went back", time_ms < model.time_ms);
        note(counts, "a batch of several commands", batch.len() > 1);
        model.begin(time_ms);
        for command in &batch {
            let before = model.clone();
            let answer = model.apply(command);
            look_at_answer(&answer, counts);
            look_at_command(&before, command, &model, &answer, counts);
        }
    }
}

fn note(counts: &mut Counts, event: &'static str, happened: bool) {
    if happened {
        *counts.entry(event).or_default() += 1;
    }
}

fn look_at_answer(answer: &Answer, counts: &mut Counts) {
    let event = match answer {
        Answer::Topic(_) => "answered: topic",
        Answer::Group(_) => "answered: group",
        Answer::Recalled(_) => "answered: recalled",
        Answer::Changed(_) => "answered: changed",
        Answer::Fired { delivered, checks, given_up } => {
            note(counts, "fired", *delivered > 0);
            note(counts, "answered: checks", !checks.is_empty());
            note(counts, "answered: given up", !given_up.is_empty());
            return;
        }
        Answer::Ended(ended) => match ended.how() {
            How::Committed => "answered: committed",
            How::RolledBack => "answered: rolled back",
            _ => "answered: given up before",
        },
        Answer::Refused(why) => {
            let known = EVENTS.iter().find(|event| event.strip_prefix("answered: ") == Some(*why));
            known.unwrap_or_else(|| panic!("{why} is not in the list"))
        }
        Answer::Sent(_) | Answer::CheckedOut(_) | Answer::Moved(_) | Answer::Done => return,
    };
    note(counts, event, true);
}

fn look_at_command(
    before: &Model,
    command: &Command,
    after: &Model,
    answer: &Answer,
    counts: &mut Counts,
) {
    match (command, answer) {
        (Command::Send(send), Answer::Sent(sent)) => {
            note(counts, "a repeated send", sent.iter().any(|it| it.repeated));
            let halves = before.halves.keys().cloned();
            let ids: Vec<(u32, String)> = halves.collect();
            let known = |at: usize| {
                let id = String::from_utf8(send.messages[at].message_id.to_vec()).unwrap();
                sent[at].repeated && ids.contains(&(send.topic_id, id))
            };
            let pending = (0..sent.len()).any(known);
            note(counts, "a half message was pending when it was sent again", pending);
        }
        (Command::Checkout(checkout), Answer::CheckedOut(granted)) => {
            let parts = &checkout.queues;
            let rereads = parts.iter().any(|part| !part.reread.is_empty()) && !granted.is_empty();
            note(counts, "a checkout by an attempt that reads again", rereads);
            note(counts, "a message at its second attempt", granted.iter().any(|it| it.2 == 2));
            let refused = parts.iter().any(|part| {
                part.reread.iter().any(|offset| {
                    let consumption = &before.consumptions[&(checkout.group_id, checkout.topic_id)];
                    let out = consumption.queues[part.queue_id as usize].out.get(offset);
                    let same = out.is_some_and(|it| it.attempt_hash == checkout.attempt_hash);
                    same && !granted.iter().any(|it| (it.0, it.1) == (part.queue_id, *offset))
                })
            });
            note(counts, "a run that may not be read again", refused);
            let fifo = before.groups[&checkout.group_id].fifo;
            let held = parts.iter().any(|part| !part.held.is_empty());
            note(counts, "a message was held back", held);
            let chosen: usize = parts.iter().map(|part| part.taken.len()).sum();
            let again: usize = parts.iter().map(|part| part.again.len() + part.reread.len()).sum();
            note(counts, "a checkout that came too late", chosen > 0 && granted.is_empty());
            let short = fifo && !granted.is_empty() && granted.len() < chosen + again;
            note(counts, "a checkout of a fifo group held back what it took", short);
            let run = parts.iter().any(|part| {
                let mut groups: Vec<_> = part.taken_groups.iter().filter(|it| **it != 0).collect();
                groups.sort_unstable();
                groups.windows(2).any(|two| two[0] == two[1])
            });
            note(counts, "a checkout with several of one message group", run);
        }
        (Command::ChangeInvisible(_), Answer::Changed(delivery)) => {
            note(counts, "a repeated change", *delivery != after.command);
        }
        (Command::DeadLetter(_), Answer::Done) => {
            let count = |model: &Model| {
                let dead = model.topics.values();
                let dead = dead.filter(|topic| !topic.record.dead_letters_of.is_empty());
                dead.map(|topic| topic.queues[0].messages.len()).sum::<usize>()
            };
            note(counts, "a dead letter", count(after) > count(before));
        }
        (Command::ResetOffset(reset), Answer::Done) => {
            let consumption = before.consumptions.get(&(reset.group_id, reset.topic_id));
            let out = consumption.is_some_and(|it| it.queues.iter().any(|it| !it.out.is_empty()));
            note(counts, "a reset with something out", out);
        }
        (Command::Redrive(redrive), Answer::Moved(count)) => {
            let from = before.topics.get(&redrive.topic_id);
            let dead = from.is_some_and(|topic| !topic.record.dead_letters_of.is_empty());
            note(counts, "a dead letter was redriven", *count > 0 && dead);
        }
        (Command::Discard(_), Answer::Moved(count)) => {
            note(counts, "something discarded", *count > 0);
        }
        (Command::Trim(trim), _) => {
            let messages = |model: &Model| {
                let queues = model.topics.values().flat_map(|topic| &topic.queues);
                queues.map(|queue| queue.messages.len()).sum::<usize>()
            };
            note(counts, "a trim that let go of something", messages(after) < messages(before));
            let refused = trim.before_log_index > after.trimmed_before;
            note(counts, "a trim that did nothing", refused);
        }
        (Command::Carry(_), _) => {
            let moved = |check: bool| {
                after.timers.iter().any(|timer| {
                    timer.check == check && timer.message.order > before.records_written()
                })
            };
            note(counts, "a delayed message was carried", moved(false));
            note(counts, "a half message was carried", moved(true));
        }
        _ => (),
    }
}
