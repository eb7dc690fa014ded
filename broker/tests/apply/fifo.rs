//! Messages of one message group go to consumers one after the other, whatever happens to them.

use raftmq_broker::command::Command;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::Granted;
use raftmq_proto::raftmq as wire;

use crate::replica::Replica;
use crate::replica::commands;
use crate::setup;

/// A FIFO group, and these messages: the first letter is the message group.
fn with(ids: &[&str]) -> Replica {
    let mut replica = setup::with(commands::fifo_group("g", 3));
    setup::send_fifo(&mut replica, 2, ids);
    replica
}

/// New messages up to `to`; all others are held back.
fn fresh(ids: &[&str], from: u64, to: u64, taken: &[u64]) -> wire::QueueCheckout {
    let group = |offset: &u64| setup::group_of(ids[*offset as usize]);
    let held: Vec<u64> = (from..to).filter(|offset| !taken.contains(offset)).collect();
    wire::QueueCheckout {
        taken_groups: taken.iter().map(group).collect(),
        held_groups: held.iter().map(group).collect(),
        held,
        ..commands::fresh(from, to, taken)
    }
}

/// Checked out by the attempt with this hash.
fn check_out_as(
    replica: &mut Replica,
    time_ms: u64,
    attempt_hash: u64,
    part: wire::QueueCheckout,
) -> Vec<Granted> {
    let checkout = commands::checkout(time_ms + 1000, vec![part]);
    let checkout = Command::Checkout(wire::Checkout { attempt_hash, ..checkout });
    setup::granted(setup::one(replica, time_ms, checkout))
}

fn reread(offsets: &[u64]) -> wire::QueueCheckout {
    wire::QueueCheckout { reread: offsets.to_vec(), ..Default::default() }
}

#[test]
fn a_poisoned_group_holds_back_only_itself() {
    let ids = ["a1", "b1", "a2", "b2"];
    let mut replica = with(&ids);
    let first = setup::check_out(&mut replica, 10, fresh(&ids, 0, 4, &[0, 1]));
    assert_eq!(setup::offsets(&first), [0, 1]);
    assert!(setup::ready(&replica).is_empty());
    setup::one(&mut replica, 11, commands::ack(&first[1]));
    assert_eq!(setup::ready(&replica), [3], "b2 is next, a2 waits for a1");
    // a1 fails over and over.
    for time_ms in [2_000, 4_000] {
        let again = setup::check_out(&mut replica, time_ms, commands::again(&[0, 2, 3]));
        assert!(setup::offsets(&again).starts_with(&[0]));
        assert_eq!(again.iter().filter(|it| it.nonce != again[0].nonce).count(), 0);
        for granted in again.iter().filter(|it| it.offset != 0) {
            setup::one(&mut replica, time_ms + 1, commands::ack(granted));
        }
    }
    let left: Vec<u64> = setup::progress(&replica).inflight.iter().map(|it| it.0).collect();
    assert_eq!(left, [0], "whatever went with a1 in one answer is done");
}

#[test]
fn what_comes_next_waits_until_the_one_before_it_is_consumed() {
    let ids = ["a1", "a2"];
    let mut replica = with(&ids);
    let first = setup::check_out(&mut replica, 10, fresh(&ids, 0, 2, &[0]));
    assert!(setup::check_out(&mut replica, 20, commands::again(&[1])).is_empty(), "a1 is out");
    // Its time is over; it is not consumed for that.
    assert!(setup::check_out(&mut replica, 5_000, commands::again(&[1])).is_empty());
    let again = setup::check_out(&mut replica, 5_001, commands::again(&[0]));
    assert_eq!(again[0].attempt, 2);
    assert_eq!(
        setup::one(&mut replica, 5_002, commands::ack(&first[0])),
        CommandReply::Rejected(raftmq_broker::state::Rejection::ReceiptExpired)
    );
    assert!(setup::ready(&replica).is_empty(), "an old receipt frees nobody");
    setup::one(&mut replica, 5_003, commands::ack(&again[0]));
    assert_eq!(setup::ready(&replica), [1]);
    let next = setup::check_out(&mut replica, 5_004, commands::again(&[1]));
    assert_eq!((next[0].offset, next[0].attempt), (1, 1));
}

#[test]
fn a_run_of_one_group_goes_in_one_answer() {
    let ids = ["a1", "a2", "b1", "a3"];
    let mut replica = with(&ids);
    let run = setup::check_out(&mut replica, 10, fresh(&ids, 0, 4, &[0, 1, 2, 3]));
    assert_eq!(setup::offsets(&run), [0, 1, 2, 3]);
    // And again, after its time, in one answer; but never its end without its beginning.
    assert!(setup::check_out(&mut replica, 2_000, commands::again(&[1, 3])).is_empty());
    let run = setup::check_out(&mut replica, 2_001, commands::again(&[0, 1, 3]));
    assert_eq!(setup::offsets(&run), [0, 1, 3]);
}

/// The leader chose both, while a command on its way kept the first one away.
#[test]
fn a_message_does_not_go_when_the_one_before_it_is_kept_away_after_the_choice() {
    let ids = ["a1", "a2", "a3"];
    let mut replica = with(&ids);
    let first = setup::check_out(&mut replica, 10, fresh(&ids, 0, 2, &[0]));
    let change = commands::change(&first[0], 9_000);
    assert!(matches!(setup::one(&mut replica, 1_009, change), CommandReply::Changed { .. }));
    let both = wire::QueueCheckout { again: vec![0, 1], ..fresh(&ids, 2, 3, &[2]) };
    assert!(setup::check_out(&mut replica, 1_010, both).is_empty());
    assert!(setup::ready(&replica).is_empty());
    let all = setup::check_out(&mut replica, 9_000, commands::again(&[0, 1, 2]));
    assert_eq!(setup::offsets(&all), [0, 1, 2], "nothing was lost: it was held back");
}

#[test]
fn the_same_in_one_entry() {
    let ids = ["a1", "a2"];
    let mut replica = with(&ids);
    let first = setup::check_out(&mut replica, 10, fresh(&ids, 0, 2, &[0]));
    let next = || Command::Checkout(commands::checkout(2_000, vec![commands::again(&[1])]));
    let replies = replica.apply(20, &[next(), commands::ack(&first[0]), next(), next()]);
    let granted: Vec<Vec<u64>> = [&replies[0], &replies[2], &replies[3]]
        .map(|reply| setup::offsets(&setup::granted(reply.clone())))
        .to_vec();
    assert_eq!(granted, [vec![], vec![1], vec![]]);
}

#[test]
fn a_dead_letter_frees_the_next_one() {
    for exhausted in [true, false] {
        let ids = ["a1", "a2"];
        let mut replica = with(&ids);
        let first = setup::check_out(&mut replica, 10, fresh(&ids, 0, 2, &[0]));
        setup::one(&mut replica, 11, commands::dead_letter(&first[0], exhausted));
        assert_eq!(setup::ready(&replica), [1]);
        let next = setup::check_out(&mut replica, 12, commands::again(&[1]));
        assert_eq!(setup::offsets(&next), [1]);
        assert_eq!(setup::readable(&replica, 2), [(0, "a1".to_owned())]);
    }
}

#[test]
fn what_is_taken_out_frees_the_next_one() {
    let ids = ["a1", "a2"];
    let mut replica = with(&ids);
    setup::check_out(&mut replica, 10, fresh(&ids, 0, 2, &[0]));
    setup::one(&mut replica, 11, commands::discard(1, &[0]));
    assert_eq!(setup::ready(&replica), [1]);
}

#[test]
fn messages_without_a_group_wait_for_nobody() {
    let mut replica = setup::with(commands::fifo_group("g", 3));
    setup::send(&mut replica, 2, &["x", "y"]);
    let part = wire::QueueCheckout { taken_groups: vec![0], ..commands::fresh(0, 1, &[0]) };
    assert_eq!(setup::check_out(&mut replica, 10, part).len(), 1);
    let part = wire::QueueCheckout { taken_groups: vec![0], ..commands::fresh(1, 2, &[1]) };
    assert_eq!(setup::check_out(&mut replica, 11, part).len(), 1);
}

#[test]
fn a_group_that_is_not_fifo_takes_a_message_group_concurrently() {
    let mut replica = setup::with(commands::group("g", 3));
    setup::send_fifo(&mut replica, 2, &["a1", "a2"]);
    assert_eq!(setup::check_out(&mut replica, 10, commands::fresh(0, 1, &[0])).len(), 1);
    assert_eq!(setup::check_out(&mut replica, 11, commands::fresh(1, 2, &[1])).len(), 1);
}

#[test]
fn the_same_attempt_reads_its_run_again_and_it_counts_once() {
    let ids = ["a1", "a2"];
    let mut replica = with(&ids);
    let first = check_out_as(&mut replica, 10, 7, fresh(&ids, 0, 2, &[0, 1]));
    assert!(check_out_as(&mut replica, 11, 8, reread(&[0, 1])).is_empty(), "another attempt");
    let again = check_out_as(&mut replica, 12, 7, reread(&[0, 1]));
    assert_eq!(setup::offsets(&again), [0, 1]);
    assert!(again.iter().all(|granted| granted.attempt == 1));
    assert_ne!(
        again[0].nonce, first[0].nonce,
        "the first answer got lost, and its receipts with it"
    );
    // Whoever says something about a delivery got the answer.
    setup::one(&mut replica, 13, commands::ack(&again[0]));
    let rest = check_out_as(&mut replica, 14, 7, reread(&[0, 1]));
    assert_eq!(setup::offsets(&rest), [1]);
}

/// The first one of the run went to somebody else meanwhile: its end must not go without it.
#[test]
fn reading_again_does_not_overtake() {
    let ids = ["a1", "a2"];
    let mut replica = with(&ids);
    check_out_as(&mut replica, 10, 7, fresh(&ids, 0, 2, &[0, 1]));
    let elsewhere = check_out_as(&mut replica, 2_000, 8, commands::again(&[0]));
    assert_eq!(setup::offsets(&elsewhere), [0]);
    assert!(check_out_as(&mut replica, 2_001, 7, reread(&[0, 1])).is_empty());
}

/// In one checkout the later one was held back for another member, and the first one went.
#[test]
fn what_was_held_back_first_is_not_ready_before_its_predecessor() {
    let ids = ["a1", "a2"];
    let mut replica = with(&ids);
    let first = setup::check_out(&mut replica, 10, fresh(&ids, 0, 2, &[0]));
    assert!(setup::ready(&replica).is_empty());
    replica.reload();
    assert!(setup::ready(&replica).is_empty(), "and a restart sees the same");
    setup::one(&mut replica, 11, commands::ack(&first[0]));
    assert_eq!(setup::ready(&replica), [1]);
    replica.reload();
    assert_eq!(setup::ready(&replica), [1]);
}
