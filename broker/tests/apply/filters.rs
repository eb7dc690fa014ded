//! Members with different filters, and where a group begins.

use raftmq_broker::command::Command;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::Rejection;
use raftmq_proto::raftmq as wire;

use crate::replica::Replica;
use crate::replica::commands;
use crate::setup;

fn subscription(tag: &str) -> Option<wire::Subscription> {
    Some(wire::Subscription { filter_type: 1, expression: tag.to_owned() })
}

fn subscribe(tag: &str) -> Command {
    let subscription = subscription(tag);
    Command::Subscribe(wire::Subscribe { group_id: 1, topic_id: 1, subscription })
}

fn subscriptions(replica: &Replica) -> Vec<String> {
    let state = replica.state.read();
    let (_, consumption) = state.view(&replica.store).consumptions().remove(0);
    consumption.subscriptions.into_iter().map(|it| it.expression).collect()
}

/// A group that begins there.
fn starting(kind: wire::start::Kind, timestamp_ms: u64) -> Command {
    Command::CreateGroup(wire::CreateGroup {
        name: "g".to_owned(),
        max_attempts: 3,
        start: Some(wire::Start { kind: kind.into(), timestamp_ms }),
        ..Default::default()
    })
}

#[test]
fn what_another_member_wants_is_held_for_it() {
    let mut replica = setup::with(commands::group("g", 3));
    setup::send(&mut replica, 2, &["red", "blue"]);
    let part = wire::QueueCheckout { held: vec![1], ..commands::fresh(0, 2, &[0]) };
    let granted = setup::check_out(&mut replica, 3, part);
    setup::one(&mut replica, 4, commands::ack(&granted[0]));
    replica.reload();
    let progress = setup::progress(&replica);
    assert_eq!((progress.commit_offset, progress.next_offset), (1, 2), "it is not consumed");
    assert_eq!(setup::ready(&replica), [1]);
    let granted = setup::check_out(&mut replica, 5, commands::again(&[1]));
    assert_eq!((granted[0].offset, granted[0].attempt), (1, 1), "never handed out before");
    assert!(setup::ready(&replica).is_empty());
}

#[test]
fn what_nobody_wants_any_more_is_consumed_unless_it_went_out() {
    let mut replica = setup::with(commands::group("g", 3));
    setup::send(&mut replica, 2, &["a", "b", "c"]);
    let part = wire::QueueCheckout { held: vec![0, 1, 2], ..commands::fresh(0, 3, &[]) };
    setup::check_out(&mut replica, 3, part);
    setup::check_out(&mut replica, 4, commands::again(&[1]));
    let dropped = wire::QueueCheckout { dropped: vec![0, 1], ..Default::default() };
    setup::check_out(&mut replica, 5, dropped);
    let left: Vec<u64> = setup::progress(&replica).inflight.iter().map(|it| it.0).collect();
    assert_eq!(left, [1, 2]);
}

#[test]
fn filters_are_known_once_and_for_good() {
    let mut replica = setup::with(commands::group("g", 3));
    for tag in ["red", "blue", "red"] {
        assert_eq!(setup::one(&mut replica, 2, subscribe(tag)), CommandReply::Done);
    }
    replica.reload();
    assert_eq!(subscriptions(&replica), ["red", "blue"]);
    let unsubscribe =
        wire::Unsubscribe { group_id: 1, topic_id: 1, subscription: subscription("red") };
    setup::one(&mut replica, 3, Command::Unsubscribe(unsubscribe));
    replica.reload();
    assert_eq!(subscriptions(&replica), ["blue"]);
}

#[test]
fn there_are_so_many_filters_and_no_more() {
    let mut replica = setup::with(commands::group("g", 3));
    let all: Vec<Command> = (0..65).map(|number| subscribe(&number.to_string())).collect();
    let replies = replica.apply(2, &all);
    assert!(replies[..64].iter().all(|reply| *reply == CommandReply::Done));
    assert_eq!(replies[64], CommandReply::Rejected(Rejection::TooManyFilters(64)));
    assert_eq!(setup::one(&mut replica, 3, subscribe("7")), CommandReply::Done, "known");
    assert_eq!(subscriptions(&replica).len(), 64);
}

#[test]
fn a_group_begins_where_it_was_made_to_when_its_first_member_comes() {
    use wire::start::Kind;
    for (kind, timestamp_ms, first) in [
        (Kind::First, 0, 0),
        (Kind::Last, 0, 3),
        (Kind::Timestamp, 0, 0),
        (Kind::Timestamp, 15, 1),
        (Kind::Timestamp, 20, 1),
        (Kind::Timestamp, 31, 3),
    ] {
        let mut replica = setup::with(starting(kind, timestamp_ms));
        for (id, time_ms) in [("a", 10), ("b", 20), ("c", 30)] {
            setup::send(&mut replica, time_ms, &[id]);
        }
        setup::one(&mut replica, 40, subscribe("*"));
        setup::send(&mut replica, 50, &["d"]);
        replica.reload();
        assert_eq!(setup::progress(&replica).next_offset, first, "{kind:?} {timestamp_ms}");
    }
}

/// What the same entry stored is not in the tables yet.
#[test]
fn a_group_begins_in_one_entry_where_it_begins_in_several() {
    use wire::start::Kind;
    for (kind, timestamp_ms) in [
        (Kind::First, 0),
        (Kind::Last, 0),
        (Kind::Timestamp, 5),
        (Kind::Timestamp, 20),
        (Kind::Timestamp, 21),
    ] {
        let made = [false, true].map(|together| {
            let mut replica = setup::with(starting(kind, timestamp_ms));
            setup::send(&mut replica, 2, &["x", "a", "b"]);
            let entry = [
                commands::discard(1, &[1]),
                commands::send(vec![commands::message("c"), commands::message("d")]),
                subscribe("*"),
            ];
            if together {
                replica.apply(20, &entry);
            } else {
                entry.into_iter().for_each(|command| {
                    setup::one(&mut replica, 20, command);
                });
            }
            setup::progress(&replica).next_offset
        });
        assert_eq!(made[0], made[1], "{kind:?} {timestamp_ms}");
    }
}
