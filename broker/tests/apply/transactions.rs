//! A transaction ends exactly once, and whoever asks is told how.

use raftmq_broker::command::Carried;
use raftmq_broker::command::Carry;
use raftmq_broker::command::Command;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::DEDUP_WINDOW_MS;
use raftmq_broker::state::ENDED_WINDOW_MS;
use raftmq_broker::state::Fired;
use raftmq_broker::state::NO_OFFSET;
use raftmq_broker::state::Rejection;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::ended_record::How;
use raftmq_proto::v2::TransactionResolution::Commit;
use raftmq_proto::v2::TransactionResolution::Rollback;

use crate::replica::Replica;
use crate::replica::commands;
use crate::setup;

/// With a half message that is checked at 1000.
fn replica() -> Replica {
    let mut replica = setup::with(commands::group("g", 3));
    let sent = setup::sent(setup::one(&mut replica, 10, commands::send_half("x", 1_000)));
    assert_eq!((sent[0].offset, sent[0].timer), (NO_OFFSET, None));
    replica
}

fn ended(reply: CommandReply) -> wire::EndedRecord {
    match reply {
        CommandReply::Ended(ended) => ended,
        other => panic!("{other:?}"),
    }
}

fn how(reply: CommandReply) -> How {
    ended(reply).how()
}

fn fire(replica: &mut Replica, time_ms: u64) -> Fired {
    setup::fired(setup::one(replica, time_ms, commands::fire(time_ms)))
}

fn pending(replica: &Replica) -> usize {
    let state = replica.state.read();
    let view = state.view(&replica.store);
    assert_eq!(view.halves().len(), view.timers().len(), "each half message has one timer");
    view.halves().len()
}

#[test]
fn a_half_message_is_not_readable_until_it_is_committed() {
    let mut replica = replica();
    assert!(setup::readable(&replica, 1).is_empty());
    let reply = ended(setup::one(&mut replica, 20, commands::end("x", Commit)));
    assert_eq!((reply.how(), reply.queue_id, reply.offset), (How::Committed, 0, 0));
    assert_eq!(setup::readable(&replica, 1), [(0, "x".to_owned())]);
    assert_eq!(pending(&replica), 0);
}

#[test]
fn a_rolled_back_message_is_never_readable() {
    let mut replica = replica();
    let reply = setup::one(&mut replica, 20, commands::end("x", Rollback));
    assert_eq!(how(reply), How::RolledBack);
    let fired = fire(&mut replica, 5_000);
    assert_eq!(fired, Fired::default());
    assert!(setup::readable(&replica, 1).is_empty());
    assert_eq!(pending(&replica), 0);
}

#[test]
fn a_repeated_decision_is_answered_like_the_first() {
    let mut replica = replica();
    let first = setup::one(&mut replica, 20, commands::end("x", Commit));
    replica.reload();
    let again = setup::one(&mut replica, 30, commands::end("x", Commit));
    assert_eq!(again, first);
    assert_eq!(setup::readable(&replica, 1).len(), 1);
}

#[test]
fn the_first_decision_stands() {
    let mut committed = replica();
    setup::one(&mut committed, 20, commands::end("x", Commit));
    let late = setup::one(&mut committed, 30, commands::end("x", Rollback));
    assert_eq!(how(late), How::Committed);
    assert_eq!(setup::readable(&committed, 1).len(), 1);

    let mut rolled_back = replica();
    setup::one(&mut rolled_back, 20, commands::end("x", Rollback));
    let late = setup::one(&mut rolled_back, 30, commands::end("x", Commit));
    assert_eq!(how(late), How::RolledBack);
    assert!(setup::readable(&rolled_back, 1).is_empty());
}

#[test]
fn half_and_decisions_in_one_entry() {
    let mut replica = replica();
    let replies = replica.apply(
        20,
        &[
            commands::send_half("y", 1_000),
            commands::end("y", Commit),
            commands::end("y", Rollback),
            commands::send_half("z", 1_000),
            commands::end("z", Rollback),
            commands::end("z", Commit),
        ],
    );
    let hows: Vec<How> = [1, 2, 4, 5].iter().map(|at: &usize| how(replies[*at].clone())).collect();
    assert_eq!(hows, [How::Committed, How::Committed, How::RolledBack, How::RolledBack]);
    assert_eq!(setup::readable(&replica, 1), [(0, "y".to_owned())]);
    assert_eq!(pending(&replica), 1, "x");
}

#[test]
fn producers_are_asked_so_often_and_then_it_is_given_up() {
    let mut replica = replica();
    assert_eq!(fire(&mut replica, 999), Fired::default());
    for time_ms in [1_000, 1_100] {
        let fired = fire(&mut replica, time_ms);
        assert_eq!(fired.checks.len(), 1, "at {time_ms}");
        assert_eq!(replica.read(&fired.checks[0].unit), "x");
        assert!(fired.given_up.is_empty());
        assert_eq!(fire(&mut replica, time_ms + 99), Fired::default(), "not before the interval");
        replica.reload();
    }
    let fired = fire(&mut replica, 1_200);
    assert_eq!((fired.checks.len(), fired.given_up), (0, vec![1]));
    assert_eq!(pending(&replica), 0);
    let late = setup::one(&mut replica, 1_201, commands::end("x", Commit));
    assert_eq!(how(late), How::GivenUp);
    assert!(setup::readable(&replica, 1).is_empty());
}

#[test]
fn two_fires_in_one_entry_ask_once() {
    let mut replica = replica();
    let replies = replica.apply(5_000, &[commands::fire(5_000), commands::fire(5_000)]);
    let checks: Vec<usize> =
        replies.into_iter().map(|reply| setup::fired(reply).checks.len()).collect();
    assert_eq!(checks, [1, 0]);
    assert_eq!(fire(&mut replica, 5_100).checks.len(), 1, "an interval after it was asked");
}

#[test]
fn decision_and_check_in_one_entry_agree() {
    let mut replica = replica();
    let replies = replica.apply(1_000, &[commands::end("x", Commit), commands::fire(1_000)]);
    assert_eq!(setup::fired(replies[1].clone()), Fired::default());

    replica.apply(2_000, &[commands::send_half("y", 3_000)]);
    let replies = replica.apply(3_000, &[commands::fire(3_000), commands::end("y", Rollback)]);
    assert_eq!(setup::fired(replies[0].clone()).checks.len(), 1);
    assert_eq!(fire(&mut replica, 9_000), Fired::default(), "its next check went with it");
    assert_eq!(pending(&replica), 0);
}

#[test]
fn what_is_not_known_is_refused() {
    let mut replica = replica();
    let never = Command::EndTransaction(wire::EndTransaction {
        topic_id: 1,
        transaction_id: "never".into(),
        resolution: Commit.into(),
    });
    let reply = setup::one(&mut replica, 20, never);
    assert!(matches!(reply, CommandReply::Rejected(Rejection::TransactionNotFound(_))));
    setup::one(&mut replica, 20, commands::end("x", Commit));
    let window = ENDED_WINDOW_MS;
    let reply = setup::one(&mut replica, 20 + window, commands::end("x", Commit));
    assert_eq!(how(reply), How::Committed, "a day later");
    let two_hours = 7_200_000;
    for trims in [false, true] {
        if trims {
            setup::one(&mut replica, 20 + window + two_hours, commands::trim(1));
        }
        let reply = setup::one(&mut replica, 20 + window + two_hours, commands::end("x", Commit));
        assert!(matches!(reply, CommandReply::Rejected(Rejection::TransactionNotFound(_))));
    }
}

#[test]
fn a_carried_half_message_is_checked_and_committed_where_it_is_now() {
    let mut replica = replica();
    let timer = {
        let state = replica.state.read();
        state.view(&replica.store).timers()[0].0
    };
    let at = replica.next_index();
    let records = vec![Carried { timer, record: "x".into(), record_offset: 0 }];
    replica.apply(20, &[Command::Carry(Carry { records }), commands::trim(at)]);
    replica.reload();
    let fired = fire(&mut replica, 1_000);
    assert_eq!(fired.checks[0].unit.log_index, at);
    assert_eq!(how(setup::one(&mut replica, 1_001, commands::end("x", Commit))), How::Committed);
    let state = replica.state.read();
    let view = state.view(&replica.store);
    assert_eq!(view.queues(1)[0].messages[0].1.log_index, at);
    assert!(view.timers().is_empty());
    assert!(view.timers_in_log_before(u64::MAX).is_empty());
}

#[test]
fn a_half_message_of_a_deleted_topic_is_gone() {
    let mut replica = replica();
    let delete = Command::DeleteTopic(wire::DeleteTopic { name: "t".to_owned() });
    let replies = replica.apply(1_000, &[delete, commands::fire(1_000)]);
    assert_eq!(setup::fired(replies[1].clone()), Fired::default());
    assert_eq!(pending(&replica), 0);
    assert_eq!(
        setup::one(&mut replica, 1_001, commands::end("x", Commit)),
        CommandReply::Rejected(Rejection::TopicNotFound)
    );
}

/// The id is forgotten after ten minutes; a half message may wait for longer.
#[test]
fn a_pending_transaction_does_not_begin_again() {
    let mut replica = setup::with(commands::group("g", 3));
    let later = 20 + DEDUP_WINDOW_MS;
    setup::one(&mut replica, 10, commands::send_half("x", later * 2));
    let again = setup::sent(setup::one(&mut replica, later, commands::send_half("x", later * 2)));
    assert!(again[0].repeated);
    assert_eq!(pending(&replica), 1);
    setup::one(&mut replica, later + 1, commands::end("x", Commit));
    assert_eq!(setup::readable(&replica, 1).len(), 1);
    assert_eq!(pending(&replica), 0);
}

#[test]
fn a_repeated_half_send_is_one_transaction() {
    let mut replica = replica();
    let again = setup::sent(setup::one(&mut replica, 20, commands::send_half("x", 1_000)));
    assert_eq!((again[0].repeated, again[0].offset), (true, NO_OFFSET));
    setup::one(&mut replica, 30, commands::end("x", Commit));
    let again = setup::sent(setup::one(&mut replica, 40, commands::send_half("x", 1_000)));
    assert_eq!((again[0].repeated, again[0].offset), (true, 0));
    assert_eq!(pending(&replica), 0);
}
