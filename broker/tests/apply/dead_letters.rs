//! Dead letters are kept until somebody redrives or discards them, and what is taken out of a queue
//! leaves a hole: its offset is never used again.

use raftmq_broker::command::Command;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::Rejection;
use raftmq_proto::raftmq as wire;

use crate::replica::Replica;
use crate::replica::commands;
use crate::setup;

/// The dead-letter topic of the group.
const DEAD: u32 = 2;

/// With these messages dead.
fn replica(ids: &[&str]) -> Replica {
    let mut replica = setup::with(commands::group("g", 1));
    setup::send(&mut replica, 2, ids);
    let all: Vec<u64> = (0..ids.len() as u64).collect();
    let part = commands::fresh(0, ids.len() as u64, &all);
    for granted in setup::check_out(&mut replica, 3, part) {
        setup::one(&mut replica, 4, commands::dead_letter(&granted, true));
    }
    replica
}

fn moved(reply: CommandReply) -> u64 {
    match reply {
        CommandReply::Moved { count } => count,
        other => panic!("{other:?}"),
    }
}

fn records(replica: &Replica, topic_id: u32) -> Vec<String> {
    setup::readable(replica, topic_id).into_iter().map(|(_, record)| record).collect()
}

#[test]
fn a_dead_letter_keeps_its_record_and_is_marked() {
    let replica = replica(&["a", "b"]);
    assert_eq!(records(&replica, DEAD), ["a", "b"]);
    let state = replica.state.read();
    let view = state.view(&replica.store);
    assert_eq!(view.topics()[1].dead_letters_of, "g");
    assert!(view.queues(DEAD)[0].messages.iter().all(|(_, unit)| unit.dead_letter));
    assert!(view.queues(1)[0].messages.iter().all(|(_, unit)| !unit.dead_letter));
}

#[test]
fn a_consumer_gives_up_with_a_present_receipt_only_and_once() {
    let mut replica = setup::with(commands::group("g", 3));
    setup::send(&mut replica, 2, &["a"]);
    let first = setup::check_out(&mut replica, 3, commands::fresh(0, 1, &[0]));
    let again = setup::check_out(&mut replica, 2_000, commands::again(&[0]));
    let old = setup::one(&mut replica, 2_001, commands::dead_letter(&first[0], false));
    assert_eq!(old, CommandReply::Rejected(Rejection::ReceiptExpired));
    let late = setup::one(&mut replica, 9_000, commands::dead_letter(&again[0], false));
    assert_eq!(late, CommandReply::Rejected(Rejection::ReceiptExpired), "its time is over");
    // The leader may, when the attempts are used up; and a repetition changes nothing.
    for _ in 0..2 {
        let given_up = setup::one(&mut replica, 9_001, commands::dead_letter(&again[0], true));
        assert_eq!(given_up, CommandReply::Done);
        assert_eq!(records(&replica, DEAD), ["a"]);
    }
}

#[test]
fn redrive_moves_each_message_once() {
    let mut replica = replica(&["a", "b"]);
    assert_eq!(moved(setup::one(&mut replica, 10, commands::redrive(DEAD, &[0, 1]))), 2);
    assert_eq!(moved(setup::one(&mut replica, 11, commands::redrive(DEAD, &[0, 1]))), 0);
    assert!(records(&replica, DEAD).is_empty());
    assert_eq!(setup::readable(&replica, 1)[2..], [(2, "a".to_owned()), (3, "b".to_owned())]);
    let state = replica.state.read();
    let queue = state.view(&replica.store).queues(1).remove(0);
    assert!(queue.messages.iter().all(|(_, unit)| !unit.dead_letter));
}

#[test]
fn redrive_and_discard_in_one_entry_agree() {
    let mut replica = replica(&["a", "b"]);
    let entry = [
        commands::redrive(DEAD, &[0]),
        commands::discard(DEAD, &[0, 1]),
        commands::redrive(DEAD, &[0, 1]),
    ];
    let counts: Vec<u64> = replica.apply(10, &entry).into_iter().map(moved).collect();
    assert_eq!(counts, [1, 1, 0]);
    assert_eq!(records(&replica, 1), ["a", "b", "a"]);
}

#[test]
fn no_offset_is_used_again_after_the_last_message_was_taken_out() {
    for restarts in [false, true] {
        let mut replica = replica(&["a", "b"]);
        setup::one(&mut replica, 10, commands::redrive(DEAD, &[1]));
        setup::one(&mut replica, 11, commands::discard(1, &[2]));
        if restarts {
            replica.reload();
        }
        assert_eq!(setup::bounds(&replica, DEAD), (0, 2));
        assert_eq!(setup::send(&mut replica, 12, &["c"])[0].offset, 3);
        let granted = setup::check_out(&mut replica, 13, commands::fresh(2, 4, &[3]));
        setup::one(&mut replica, 14, commands::dead_letter(&granted[0], true));
        assert_eq!(setup::readable(&replica, DEAD), [(0, "a".to_owned()), (2, "c".to_owned())]);
    }
}

#[test]
fn holes_survive_a_trim_and_a_restart() {
    let mut replica = replica(&["a", "b", "c"]);
    setup::one(&mut replica, 10, commands::discard(1, &[1, 2]));
    setup::one(&mut replica, 10, commands::discard(DEAD, &[0, 1, 2]));
    replica.reload();
    let next = replica.next_index();
    setup::one(&mut replica, 11, commands::trim(next));
    // Behind the last one that went: what is left is empty, wherever it begins.
    assert_eq!(setup::bounds(&replica, 1), (1, 3));
    replica.reload();
    assert_eq!(setup::bounds(&replica, 1), (1, 3));
    assert_eq!(setup::bounds(&replica, DEAD), (0, 3));
    assert_eq!(setup::send(&mut replica, 12, &["d"])[0].offset, 3);
}

/// A leader chooses, an operator takes out, and the checkout comes after that.
#[test]
fn what_was_taken_out_after_it_was_chosen_is_not_handed_out() {
    for restarts in [false, true] {
        let mut replica = setup::with(commands::group("g", 3));
        setup::send(&mut replica, 2, &["a", "b", "c"]);
        setup::one(&mut replica, 3, commands::discard(1, &[1]));
        if restarts {
            replica.reload();
        }
        let checkout = commands::checkout(1_000, vec![commands::fresh(0, 3, &[0, 1, 2])]);
        let entry = [commands::discard(1, &[2]), Command::Checkout(checkout)];
        let reply = replica.apply(4, &entry).remove(1);
        assert_eq!(setup::offsets(&setup::granted(reply)), [0]);
        let progress = setup::progress(&replica);
        assert_eq!((progress.inflight.len(), progress.next_offset), (1, 3));
    }
}

#[test]
fn what_is_taken_out_is_taken_away_from_its_consumer() {
    let mut replica = setup::with(commands::group("g", 3));
    setup::send(&mut replica, 2, &["a"]);
    let granted = setup::check_out(&mut replica, 3, commands::fresh(0, 1, &[0]));
    setup::one(&mut replica, 4, commands::discard(1, &[0]));
    assert_eq!(setup::progress(&replica).commit_offset, 1);
    assert_eq!(setup::one(&mut replica, 5, commands::ack(&granted[0])), CommandReply::Done);
    assert!(setup::check_out(&mut replica, 5_000, commands::again(&[0])).is_empty());
}

#[test]
fn what_a_trim_lets_go_of_in_the_same_entry_is_not_redriven() {
    let mut replica = replica(&["a"]);
    let next = replica.next_index();
    let replies = replica.apply(10, &[commands::trim(next), commands::redrive(DEAD, &[0])]);
    assert_eq!(moved(replies[1].clone()), 0);
    assert!(setup::readable(&replica, 1).is_empty());
}

#[test]
fn a_redrive_to_nowhere_leaves_the_message_where_it_is() {
    let mut replica = replica(&["a"]);
    let redriven = wire::Redriven { queue_id: 0, offset: 0, to_topic_id: 77, to_queue_id: 0 };
    let redrive = wire::Redrive { topic_id: DEAD, messages: vec![redriven] };
    assert_eq!(moved(setup::one(&mut replica, 10, Command::Redrive(redrive))), 0);
    assert_eq!(records(&replica, DEAD), ["a"]);
}
