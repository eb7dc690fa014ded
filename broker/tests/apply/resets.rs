//! A reset is the only way in which a cursor goes back, and it forgets what was out.

use raftmq_broker::command::Command;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::Rejection;
use raftmq_proto::raftmq as wire;

use crate::replica::Replica;
use crate::replica::commands;
use crate::setup;

/// A group of this kind that has four messages of two message groups: two out, two held back.
fn replica(group: Command) -> Replica {
    let mut replica = setup::with(group);
    setup::send_fifo(&mut replica, 2, &["a1", "b1", "a2", "b2"]);
    let part = wire::QueueCheckout {
        taken_groups: vec![setup::group_of("a"), setup::group_of("b")],
        held: vec![2, 3],
        held_groups: vec![setup::group_of("a"), setup::group_of("b")],
        ..commands::fresh(0, 4, &[0, 1])
    };
    let checkout = commands::checkout(1_000, vec![part]);
    let checkout = Command::Checkout(wire::Checkout { attempt_hash: 9, ..checkout });
    assert_eq!(setup::granted(setup::one(&mut replica, 3, checkout)).len(), 2);
    replica
}

#[test]
fn what_was_out_is_forgotten_and_comes_as_if_for_the_first_time() {
    let mut replica = replica(commands::fifo_group("g", 3));
    let before = setup::progress(&replica).inflight[0].1.clone();
    setup::one(&mut replica, 4, commands::reset(0));
    for restarts in [false, true] {
        if restarts {
            replica.reload();
        }
        let progress = setup::progress(&replica);
        assert_eq!((progress.next_offset, progress.commit_offset), (0, 0));
        assert!(progress.inflight.is_empty() && setup::ready(&replica).is_empty());
    }
    // Old receipts change nothing.
    let receipt =
        wire::Receipt { group_id: 1, topic_id: 1, queue_id: 0, offset: 0, nonce: before.nonce };
    let change =
        wire::ChangeInvisible { receipt: Some(receipt), visible_at_ms: 5_000, suspended: false };
    let reply = setup::one(&mut replica, 5, Command::ChangeInvisible(change));
    assert_eq!(reply, CommandReply::Rejected(Rejection::ReceiptExpired));
    let part = wire::QueueCheckout {
        taken_groups: vec![setup::group_of("a")],
        ..commands::fresh(0, 1, &[0])
    };
    let granted = setup::check_out(&mut replica, 6, part);
    assert_eq!((granted[0].offset, granted[0].attempt), (0, 1));
    let ack = Command::Ack(wire::Ack { receipt: Some(receipt) });
    let reply = setup::one(&mut replica, 7, ack);
    assert_eq!(reply, CommandReply::Rejected(Rejection::ReceiptExpired));
}

#[test]
fn message_groups_are_free_after_a_reset() {
    let mut replica = replica(commands::fifo_group("g", 3));
    // Behind a1 and b1, which will never be acknowledged.
    setup::one(&mut replica, 4, commands::reset(2));
    let part = wire::QueueCheckout {
        taken_groups: vec![setup::group_of("a"), setup::group_of("b")],
        ..commands::fresh(2, 4, &[2, 3])
    };
    assert_eq!(setup::offsets(&setup::check_out(&mut replica, 5, part)), [2, 3]);
}

#[test]
fn nothing_can_be_read_again_after_a_reset() {
    let mut replica = replica(commands::fifo_group("g", 3));
    setup::one(&mut replica, 4, commands::reset(4));
    let reread =
        wire::QueueCheckout { reread: vec![0, 1], again: vec![0, 1, 2, 3], ..Default::default() };
    let checkout = commands::checkout(9_000, vec![reread]);
    let checkout = Command::Checkout(wire::Checkout { attempt_hash: 9, ..checkout });
    assert!(setup::granted(setup::one(&mut replica, 5_000, checkout)).is_empty());
}

#[test]
fn a_checkout_chosen_before_a_reset_grants_nothing() {
    let mut replica = replica(commands::group("g", 3));
    setup::send(&mut replica, 4, &["c"]);
    let checkout = commands::checkout(9_000, vec![commands::fresh(4, 5, &[4])]);
    let entry = [commands::reset(1), Command::Checkout(checkout)];
    let reply = replica.apply(5, &entry).remove(1);
    assert!(setup::granted(reply).is_empty());
    assert_eq!(setup::progress(&replica).next_offset, 1);
}

#[test]
fn a_cursor_stays_within_its_queue() {
    let mut replica = replica(commands::group("g", 3));
    setup::one(&mut replica, 4, commands::reset(99));
    assert_eq!(setup::progress(&replica).next_offset, 4);
    let next = replica.next_index();
    setup::send(&mut replica, 5, &["c"]);
    setup::one(&mut replica, 6, commands::trim(next));
    setup::one(&mut replica, 7, commands::reset(0));
    assert_eq!(setup::progress(&replica).next_offset, 4, "nothing before that can be read");
}

#[test]
fn other_groups_and_topics_stay_as_they_are() {
    let mut replica = replica(commands::group("g", 3));
    replica.apply(4, &[commands::group("other", 3), commands::topic("other", 1)]);
    let mut others = Vec::new();
    for (group_id, topic_id) in [(2, 1), (1, 2), (2, 2)] {
        let part = match topic_id {
            1 => commands::fresh(0, 3, &[0, 2]),
            _ => wire::QueueCheckout::default(),
        };
        let checkout = commands::checkout(9_000, vec![part]);
        let checkout = wire::Checkout { group_id, topic_id, ..checkout };
        others.push(setup::one(&mut replica, 5, Command::Checkout(checkout)));
    }
    let seen = |replica: &Replica| {
        let state = replica.state.read();
        let all = state.view(&replica.store).consumptions().into_iter();
        all.filter(|(ids, _)| *ids != (1, 1)).collect::<Vec<_>>()
    };
    let before = seen(&replica);
    assert_eq!(before.len(), 3);
    setup::one(&mut replica, 6, commands::reset(0));
    assert_eq!(seen(&replica), before);
}

#[test]
fn a_group_that_never_consumed_begins_where_it_is_set() {
    let mut replica = setup::with(commands::group("g", 3));
    setup::send(&mut replica, 2, &["a", "b"]);
    setup::one(&mut replica, 3, commands::reset(1));
    replica.reload();
    assert_eq!(setup::progress(&replica).next_offset, 1);
    let granted = setup::check_out(&mut replica, 4, commands::fresh(1, 2, &[1]));
    assert_eq!(setup::offsets(&granted), [1]);
}
