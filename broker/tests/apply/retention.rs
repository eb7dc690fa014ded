//! A trim lets go of nothing that is needed, even when the need came after the leader's decision.

use raftmq_broker::command::Command;
use raftmq_proto::raftmq as wire;

use crate::replica::Replica;
use crate::replica::commands;
use crate::setup;

const DEAD: u32 = 2;

/// With one message that is dead, and the log index behind all that.
fn replica() -> (Replica, u64) {
    let mut replica = setup::with(commands::group("g", 1));
    setup::send(&mut replica, 2, &["a"]);
    let granted = setup::check_out(&mut replica, 3, commands::fresh(0, 1, &[0]));
    setup::one(&mut replica, 4, commands::dead_letter(&granted[0], true));
    let next = replica.next_index();
    (replica, next)
}

fn trimmed_before(replica: &Replica) -> u64 {
    let state = replica.state.read();
    state.view(&replica.store).trimmed_before()
}

fn needed_from(replica: &Replica) -> u64 {
    let state = replica.state.read();
    state.view(&replica.store).needed_from()
}

#[test]
fn what_came_into_its_queue_before_goes() {
    let (mut replica, next) = replica();
    setup::send(&mut replica, 5, &["b"]);
    setup::one(&mut replica, 6, commands::trim(next));
    assert_eq!(setup::readable(&replica, 1), [(1, "b".to_owned())]);
    assert!(setup::readable(&replica, DEAD).is_empty());
    assert_eq!((setup::bounds(&replica, 1), setup::bounds(&replica, DEAD)), ((1, 2), (1, 1)));
    assert_eq!(trimmed_before(&replica), next);
    replica.reload();
    assert_eq!((setup::bounds(&replica, 1), setup::bounds(&replica, DEAD)), ((1, 2), (1, 1)));
}

#[test]
fn a_record_that_was_moved_after_the_decision_stays() {
    for in_one_entry in [false, true] {
        let (mut replica, next) = replica();
        let stored_at = next - 3;
        let (redrive, trim) = (commands::redrive(DEAD, &[0]), commands::trim(next));
        if in_one_entry {
            replica.apply(5, &[redrive, trim]);
        } else {
            setup::one(&mut replica, 5, redrive);
            setup::one(&mut replica, 5, trim);
        }
        assert_eq!((trimmed_before(&replica), needed_from(&replica)), (next, stored_at));
        assert_eq!(setup::readable(&replica, 1), [(1, "a".to_owned())]);
        replica.reload();
        assert_eq!(needed_from(&replica), stored_at);
        // Once it is old itself, it goes.
        let next = replica.next_index();
        setup::one(&mut replica, 6, commands::trim(next));
        assert_eq!((trimmed_before(&replica), needed_from(&replica)), (next, next));
        assert!(setup::readable(&replica, 1).is_empty());
    }
}

/// Where messages are delayed all the time, some are moved over every cut.
#[test]
fn a_record_that_was_moved_keeps_nothing_but_itself() {
    let mut replica = setup::with(commands::group("g", 1));
    let mut stored_at = Vec::new();
    for number in 0..10 {
        // Each comes into its queue when the next two are stored already.
        let now_ms = 10 * number;
        stored_at.push(replica.next_index());
        setup::one(&mut replica, now_ms, commands::send_at(&number.to_string(), now_ms + 15));
        setup::one(&mut replica, now_ms, commands::fire(now_ms));
    }
    setup::one(&mut replica, 100, commands::trim(stored_at[8]));
    let seen = || (trimmed_before(&replica), needed_from(&replica));
    assert_eq!(seen(), (stored_at[8], stored_at[6]));
    assert_eq!(setup::readable(&replica, 1), [(6, "6".to_owned()), (7, "7".to_owned())]);
}

#[test]
fn a_message_that_was_handed_out_after_the_decision_stays() {
    let mut replica = setup::with(commands::group("g", 1));
    setup::send(&mut replica, 2, &["a", "b"]);
    let next = replica.next_index();
    let granted = setup::check_out(&mut replica, 3, commands::fresh(0, 1, &[0]));
    setup::one(&mut replica, 4, commands::trim(next));
    assert_eq!(setup::readable(&replica, 1).len(), 2);
    setup::one(&mut replica, 5, commands::ack(&granted[0]));
    setup::one(&mut replica, 6, commands::trim(next));
    assert!(setup::readable(&replica, 1).is_empty());
    assert_eq!(setup::progress(&replica).next_offset, 2, "it goes on behind what is gone");
}

#[test]
fn what_was_in_a_deleted_topic_holds_nothing() {
    let (mut replica, next) = replica();
    setup::one(&mut replica, 5, commands::redrive(DEAD, &[0]));
    let delete = wire::DeleteTopic { name: "t".to_owned() };
    replica.apply(6, &[Command::DeleteTopic(delete), commands::trim(next)]);
    assert_eq!((trimmed_before(&replica), needed_from(&replica)), (next, next));
}

#[test]
fn what_a_group_abandoned_goes_in_the_end() {
    // Out until 1003; held back behind it, since it came at 2.
    let hold = |since_ms: u64| {
        let mut replica = setup::with(commands::fifo_group("g", 3));
        setup::send_fifo(&mut replica, 2, &["a1", "a2"]);
        let group = setup::group_of("a");
        let part = wire::QueueCheckout {
            taken_groups: vec![group],
            held: vec![1],
            held_groups: vec![group],
            ..commands::fresh(0, 2, &[0])
        };
        setup::check_out(&mut replica, 3, part);
        let before_log_index = replica.next_index();
        let trim = wire::Trim { before_log_index, stored_before_ms: since_ms };
        setup::one(&mut replica, 4, Command::Trim(trim));
        replica
    };
    for since_ms in [2, 3, 1003] {
        assert_eq!(trimmed_before(&hold(since_ms)), 0, "{since_ms}");
    }
    let mut replica = hold(1004);
    for restarted in [false, true] {
        if restarted {
            replica.reload();
        }
        let progress = setup::progress(&replica);
        assert_eq!((progress.next_offset, progress.inflight.len()), (2, 0));
        assert!(setup::readable(&replica, 1).is_empty() && setup::ready(&replica).is_empty());
    }
}

/// Like `setup::with`, with a topic that keeps its messages for a second.
fn short_lived() -> Replica {
    let mut replica = Replica::new();
    let Command::CreateTopic(topic) = commands::topic("t", 1) else { panic!("not a topic") };
    let topic = wire::CreateTopic { retention_ms: 1000, ..topic };
    replica.apply(1, &[Command::CreateTopic(topic), commands::group("g", 1)]);
    replica
}

/// A trim that is of no consequence to topics without a retention of their own.
fn trim_outlived(replica: &mut Replica, time_ms: u64) {
    setup::one(replica, time_ms, commands::trim(0));
}

#[test]
fn a_topic_may_keep_its_messages_for_a_shorter_time() {
    let mut replica = short_lived();
    setup::send(&mut replica, 1000, &["a", "b"]);
    setup::send(&mut replica, 1500, &["c"]);
    setup::one(&mut replica, 1500, commands::send_at("d", 2100));
    trim_outlived(&mut replica, 2000);
    assert_eq!(setup::bounds(&replica, 1), (0, 3), "a second old: not older");
    trim_outlived(&mut replica, 2001);
    assert_eq!(setup::readable(&replica, 1), [(2, "c".to_owned())]);
    // The age of what was delayed counts from its delivery.
    setup::one(&mut replica, 2100, commands::fire(2100));
    trim_outlived(&mut replica, 3100);
    assert_eq!(setup::readable(&replica, 1), [(3, "d".to_owned())]);
    trim_outlived(&mut replica, 3101);
    assert_eq!(setup::bounds(&replica, 1), (4, 4));
    replica.reload();
    assert_eq!(setup::bounds(&replica, 1), (4, 4));
    assert_eq!(trimmed_before(&replica), 0, "segments stay");
}

#[test]
fn what_a_consumer_holds_outlives_the_retention_of_its_topic() {
    let mut replica = short_lived();
    setup::send(&mut replica, 1000, &["a", "b", "c"]);
    // Out until 2500, and a second more is left to whoever comes for it.
    let granted = setup::check_out(&mut replica, 1500, commands::fresh(0, 2, &[1]));
    trim_outlived(&mut replica, 3500);
    assert_eq!(setup::bounds(&replica, 1), (1, 3));
    setup::one(&mut replica, 3500, commands::dead_letter(&granted[0], true));
    trim_outlived(&mut replica, 3500);
    assert_eq!(setup::bounds(&replica, 1), (3, 3));
    assert_eq!(setup::readable(&replica, DEAD), [(0, "b".to_owned())]);
    assert_eq!(setup::progress(&replica).next_offset, 3, "it goes on behind what is gone");
}

#[test]
fn what_was_abandoned_does_not_hold_its_topic() {
    let mut replica = short_lived();
    setup::send(&mut replica, 1000, &["a", "b"]);
    setup::check_out(&mut replica, 1500, commands::fresh(0, 1, &[0]));
    trim_outlived(&mut replica, 3501);
    assert_eq!(setup::bounds(&replica, 1), (2, 2));
    assert!(setup::progress(&replica).inflight.is_empty());
}

#[test]
fn other_topics_keep_theirs() {
    let mut replica = setup::with(commands::group("g", 1));
    setup::send(&mut replica, 1000, &["a"]);
    trim_outlived(&mut replica, u64::MAX / 2);
    assert_eq!(setup::bounds(&replica, 1), (0, 1));
}
