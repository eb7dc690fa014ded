//! Delayed messages: never early, never twice, and taken back when a recall says so.

use raftmq_broker::command::Carried;
use raftmq_broker::command::Carry;
use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::command::Release;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::NO_OFFSET;
use raftmq_broker::state::Rejection;
use raftmq_proto::raftmq as wire;

use crate::replica::Replica;
use crate::replica::commands;
use crate::setup;

fn replica() -> Replica {
    setup::with(commands::group("g", 3))
}

fn delay(replica: &mut Replica, time_ms: u64, id: &str, due_ms: u64) -> wire::Timer {
    let sent = setup::sent(setup::one(replica, time_ms, commands::send_at(id, due_ms)));
    assert_eq!(sent[0].offset, NO_OFFSET);
    sent[0].timer.unwrap()
}

fn ids(replica: &Replica) -> Vec<String> {
    setup::readable(replica, 1).into_iter().map(|(_, record)| record).collect()
}

fn next_due_ms(replica: &Replica) -> u64 {
    let state = replica.state.read();
    state.view(&replica.store).next_due_ms()
}

fn fire_up_to(until_ms: u64, count: u32) -> Command {
    let fire = wire::Fire { until_ms, count, check_interval_ms: 100, check_max: 2 };
    Command::Fire(fire)
}

fn recalled(id: &str) -> CommandReply {
    CommandReply::Recalled { message_id: id.to_owned().into() }
}

fn is_late(reply: &CommandReply) -> bool {
    let CommandReply::Rejected(Rejection::NotPending(why)) = reply else { return false };
    why.contains("was delivered")
}

/// Writes the record of `timer` anew.
fn carry(timer: wire::Timer, record: &'static str) -> Command {
    let records = vec![Carried { timer, record: record.into(), record_offset: 0 }];
    Command::Carry(Carry { records })
}

#[test]
fn nothing_fires_before_its_time_in_the_log() {
    let mut replica = replica();
    delay(&mut replica, 10, "a", 1_000);
    assert_eq!(next_due_ms(&replica), 1_000);
    // Whatever the leader asks for.
    let fired = setup::fired(setup::one(&mut replica, 999, commands::fire(5_000)));
    assert_eq!(fired.late_ms.len(), 0);
    let fired = setup::fired(setup::one(&mut replica, 1_500, commands::fire(999)));
    assert_eq!(fired.late_ms.len(), 0);
    assert!(ids(&replica).is_empty());
    assert_eq!(next_due_ms(&replica), 1_000);
    // The next leader's clock is behind; the time in the log is not.
    let fired = setup::fired(setup::one(&mut replica, 200, commands::fire(1_000)));
    assert_eq!(fired.late_ms.len(), 1);
    assert_eq!(ids(&replica), ["a"]);
    assert_eq!(next_due_ms(&replica), u64::MAX);
}

#[test]
fn what_is_due_already_is_not_delayed() {
    let mut replica = replica();
    let sent = setup::sent(setup::one(&mut replica, 1_000, commands::send_at("a", 1_000)));
    assert_eq!((sent[0].offset, sent[0].timer), (0, None));
}

#[test]
fn messages_come_in_the_order_in_which_they_are_due() {
    let mut replica = replica();
    for (id, due_ms) in [("c", 300), ("a", 100), ("b1", 200), ("b2", 200)] {
        delay(&mut replica, 10, id, due_ms);
    }
    let fired = setup::fired(setup::one(&mut replica, 1_000, fire_up_to(1_000, 3)));
    assert_eq!(fired.late_ms.len(), 3);
    assert_eq!(ids(&replica), ["a", "b1", "b2"]);
    assert_eq!(next_due_ms(&replica), 300);
    setup::one(&mut replica, 1_000, fire_up_to(1_000, 3));
    assert_eq!(ids(&replica), ["a", "b1", "b2", "c"]);
}

#[test]
fn two_fires_in_one_entry_deliver_each_message_once() {
    let mut replica = replica();
    for id in ["a", "b", "c"] {
        delay(&mut replica, 10, id, 100);
    }
    let replies =
        replica.apply(200, &[fire_up_to(200, 2), fire_up_to(200, 2), commands::fire(200)]);
    let delivered: Vec<usize> =
        replies.into_iter().map(|reply| setup::fired(reply).late_ms.len()).collect();
    assert_eq!(delivered, [2, 1, 0]);
    assert_eq!(ids(&replica), ["a", "b", "c"]);
}

#[test]
fn a_recall_says_what_became_of_the_message() {
    let mut replica = replica();
    let (pending, delivered) =
        (delay(&mut replica, 10, "a", 1_000), delay(&mut replica, 10, "b", 100));
    setup::one(&mut replica, 100, commands::fire(100));
    assert_eq!(setup::one(&mut replica, 200, commands::recall(&pending)), recalled("a"));
    assert_eq!(
        setup::one(&mut replica, 201, commands::recall(&pending)),
        recalled("a"),
        "repeated"
    );
    replica.reload();
    assert_eq!(setup::one(&mut replica, 202, commands::recall(&pending)), recalled("a"));
    let late = setup::one(&mut replica, 203, commands::recall(&delivered));
    assert!(is_late(&late), "{late:?}");
    let never = wire::Timer { due_ms: 1_000, log_index: 77, offset: 1 };
    let never = setup::one(&mut replica, 204, commands::recall(&never));
    assert!(matches!(never, CommandReply::Rejected(Rejection::NotPending(_))) && !is_late(&never));
    let fired = setup::fired(setup::one(&mut replica, 2_000, commands::fire(2_000)));
    assert_eq!(fired.late_ms.len(), 0);
    assert_eq!(ids(&replica), ["b"], "what was recalled never comes");
}

#[test]
fn a_recall_is_for_one_topic() {
    let mut replica = replica();
    setup::one(&mut replica, 5, commands::topic("other", 1));
    let timer = delay(&mut replica, 10, "a", 1_000);
    let elsewhere = Command::Recall(wire::Recall { topic_id: 2, timer: Some(timer) });
    let reply = setup::one(&mut replica, 11, elsewhere);
    assert!(matches!(reply, CommandReply::Rejected(Rejection::NotPending(_))), "{reply:?}");
    assert_eq!(setup::one(&mut replica, 12, commands::recall(&timer)), recalled("a"));
}

#[test]
fn recall_and_fire_in_one_entry_agree() {
    let mut replica = replica();
    let timer = delay(&mut replica, 10, "a", 100);
    let entry = [commands::recall(&timer), commands::fire(200), commands::recall(&timer)];
    let replies = replica.apply(200, &entry);
    assert_eq!((&replies[0], &replies[2]), (&recalled("a"), &recalled("a")));
    assert!(ids(&replica).is_empty());

    let timer = delay(&mut replica, 210, "b", 300);
    let replies = replica.apply(300, &[commands::fire(300), commands::recall(&timer)]);
    assert!(is_late(&replies[1]), "{replies:?}");
    assert_eq!(ids(&replica), ["b"]);
}

/// The hour in which it is forgotten that something was recalled does not depend on retention.
#[test]
fn a_recall_long_after_the_time_is_answered_the_same_with_a_trim_and_without() {
    let answers = [false, true].map(|trims| {
        let mut replica = replica();
        let timer = delay(&mut replica, 10, "a", 1_000);
        setup::one(&mut replica, 20, commands::recall(&timer));
        if trims {
            setup::one(&mut replica, 8_000_000, commands::trim(1));
        }
        setup::one(&mut replica, 8_000_000, commands::recall(&timer))
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn carrying_keeps_the_timer_and_its_handle() {
    let mut replica = replica();
    let (a, b) = (delay(&mut replica, 10, "a", 1_000), delay(&mut replica, 11, "b", 1_000));
    let at = replica.next_index();
    replica.apply(20, &[carry(a, "a"), carry(b, "b")]);
    // A second time, as years pass.
    let again = replica.next_index();
    replica.apply(30, &[carry(b, "b"), carry(a, "a")]);
    {
        let state = replica.state.read();
        let view = state.view(&replica.store);
        assert_eq!(view.timers().iter().map(|it| it.0).collect::<Vec<_>>(), [a, b]);
        assert!(view.timers_in_log_before(again).is_empty(), "{at} was left behind");
        assert_eq!(view.timers_in_log_before(again + 1), [b, a], "in the order of the log");
    }
    setup::one(&mut replica, 40, commands::trim(again));
    replica.reload();
    assert_eq!(setup::one(&mut replica, 50, commands::recall(&a)), recalled("a"));
    setup::one(&mut replica, 1_000, commands::fire(1_000));
    assert_eq!(ids(&replica), ["b"]);
    let state = replica.state.read();
    let view = state.view(&replica.store);
    let (_, unit) = view.queues(1)[0].messages[0];
    assert_eq!(unit.log_index, again, "what is read is the carried record");
}

#[test]
fn carrying_and_firing_in_one_entry_agree() {
    let mut replica = replica();
    let (a, b) = (delay(&mut replica, 10, "a", 100), delay(&mut replica, 10, "b", 100));
    replica.apply(200, &[carry(a, "a"), commands::fire(200), carry(b, "b"), commands::fire(200)]);
    assert_eq!(ids(&replica), ["a", "b"]);
    let state = replica.state.read();
    let view = state.view(&replica.store);
    assert!(view.timers().is_empty());
    assert!(view.timers_in_log_before(u64::MAX).is_empty());
}

#[test]
fn a_deleted_topic_takes_its_delayed_messages_with_it() {
    let mut replica = replica();
    let timer = delay(&mut replica, 10, "a", 100);
    delay(&mut replica, 10, "b", 200);
    let delete = Command::DeleteTopic(wire::DeleteTopic { name: "t".to_owned() });
    let replies = replica.apply(100, &[delete, commands::topic("t", 1), commands::fire(100)]);
    assert_eq!(setup::fired(replies[2].clone()).late_ms.len(), 0);
    assert!(setup::readable(&replica, 2).is_empty(), "the new one of that name is another");
    let late = setup::one(&mut replica, 101, commands::recall(&timer));
    assert!(matches!(late, CommandReply::Rejected(_)));
    let fired = setup::fired(setup::one(&mut replica, 300, commands::fire(300)));
    assert_eq!(fired.late_ms.len(), 0);
    assert_eq!(next_due_ms(&replica), u64::MAX);
}

#[test]
fn a_repeated_delayed_send_is_one_message() {
    let mut replica = replica();
    let timer = delay(&mut replica, 10, "a", 1_000);
    let again = setup::sent(setup::one(&mut replica, 20, commands::send_at("a", 2_000)));
    assert_eq!((again[0].repeated, again[0].timer), (true, Some(timer)), "and its handle is good");
    setup::one(&mut replica, 1_000, commands::fire(1_000));
    let again = setup::sent(setup::one(&mut replica, 1_001, commands::send_at("a", 2_000)));
    assert_eq!((again[0].repeated, again[0].offset, again[0].timer), (true, 0, None));
    assert_eq!(ids(&replica), ["a"]);
}

#[test]
fn a_restart_knows_when_the_next_one_is_due() {
    let mut replica = replica();
    let first = delay(&mut replica, 10, "a", 1_000);
    delay(&mut replica, 10, "b", 2_000);
    setup::one(&mut replica, 20, commands::recall(&first));
    replica.reload();
    assert_eq!(next_due_ms(&replica), 2_000);
    setup::one(&mut replica, 2_000, commands::fire(2_000));
    assert_eq!(ids(&replica), ["b"]);
}

/// Delivered at its time, not at the time it was sent: retention and filters by time go by that.
#[test]
fn a_delayed_message_is_stored_when_it_is_delivered() {
    let mut replica = replica();
    let delayed = NewMessage { release: Release::At(500), tag_hash: 3, ..commands::message("a") };
    replica.apply(10, &[commands::send(vec![delayed, commands::message("b")])]);
    setup::one(&mut replica, 600, commands::fire(600));
    let state = replica.state.read();
    let queue = state.view(&replica.store).queues(1).remove(0);
    let stored: Vec<_> = queue.messages.iter().map(|(_, unit)| unit.stored_ms).collect();
    assert_eq!(stored, [10, 600]);
    assert_eq!(queue.messages[1].1.tag_hash, 3);
    assert_eq!(queue.messages[1].1.placed_index(), replica.next_index() - 1);
}
