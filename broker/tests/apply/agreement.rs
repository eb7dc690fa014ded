//! The state machine against random commands: replicas agree whatever happens between entries.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use raftmq_broker::command;
use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::command::Release;
use raftmq_broker::command::Send;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::LITE_QUEUES_FROM;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2::TransactionResolution;

use crate::replica::Replica;
use crate::replica::commands as simple;

/// Few cases: each opens two databases.
fn config() -> ProptestConfig {
    let regressions = FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        cases: 10,
        failure_persistence: Some(Box::new(regressions)),
        ..ProptestConfig::default()
    }
}

fn receipt() -> impl Strategy<Value = wire::Receipt> {
    // Small numbers, so that most of them mean something.
    (1..3u32, 1..4u32, queue_id(), 0..12u64, 0..40u64).prop_map(
        |(group_id, topic_id, queue_id, offset, entry)| wire::Receipt {
            group_id,
            topic_id,
            queue_id,
            offset,
            nonce: entry * command::COMMANDS_MAX as u64,
        },
    )
}

/// Of an ordinary queue, or of a lite topic.
fn queue_id() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0..2u32, 2 => LITE_QUEUES_FROM..LITE_QUEUES_FROM + 3]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec((0..4).prop_map(|number| format!("lite-{number}")), 0..3)
}

fn name() -> impl Strategy<Value = String> {
    (0..3).prop_map(|number| format!("name-{number}"))
}

fn commands() -> impl Strategy<Value = Command> {
    let message = (queue_id(), 0..30u32).prop_map(|(queue_id, id)| NewMessage {
        queue_id,
        tag_hash: u64::from(id % 3),
        group_hash: u64::from(id % 5),
        key_hashes: (0..u64::from(id % 3)).collect(),
        release: match id % 7 {
            0 => Release::At(1_000_000 + u64::from(id) * 10),
            1 => Release::OnCommit(1_000_000 + u64::from(id) * 10),
            _ => Release::AtOnce,
        },
        message_id: format!("id-{id}").into(),
        record: format!("record {id}").into(),
        record_offset: 0,
    });
    let send = (1..4u32, prop::collection::vec(message, 1..4))
        .prop_map(|(topic_id, messages)| Command::Send(Send { topic_id, messages }));
    let checkout = (1..3u32, 1..4u32, queue_id(), 0..8u64, 0..6u64, 0..50u64).prop_map(
        |(group_id, topic_id, queue_id, from, count, time)| {
            Command::Checkout(wire::Checkout {
                group_id,
                topic_id,
                queues: vec![wire::QueueCheckout {
                    queue_id,
                    from_offset: from,
                    next_offset: from + count,
                    taken: (from..from + count).collect(),
                    again: (0..from).collect(),
                    taken_groups: (from..from + count).map(|offset| offset % 4).collect(),
                    ..Default::default()
                }],
                visible_at_ms: 1_000_000 + time * 10,
                renew_client_id: if count % 2 == 0 { String::new() } else { "c".to_owned() },
                attempt_hash: time % 3,
                client_id: String::new(),
            })
        },
    );
    prop_oneof![
        8 => send,
        6 => checkout,
        2 => (name(), any::<bool>()).prop_map(|(name, lite)| match lite {
            true => simple::lite_parent(&name, 3),
            false => simple::topic(&name, 2),
        }),
        3 => (1..4u32, names()).prop_map(|(topic_id, names)| {
            Command::CreateLiteTopics(wire::CreateLiteTopics { topic_id, names })
        }),
        4 => (1..3u32, 1..4u32, 0..2u32, any::<bool>(), names(), names()).prop_map(
            |(group_id, topic_id, client, complete, added, removed)| {
                let client_id = if client == 0 { "c" } else { "d" }.to_owned();
                let start = complete.then_some(wire::LiteStart {
                    from: Some(wire::lite_start::From::LastCount(1)),
                });
                Command::SubscribeLite(wire::SubscribeLite {
                    group_id, topic_id, client_id, complete, added, removed, start,
                })
            },
        ),
        1 => (1..4u32, prop::collection::vec(queue_id(), 1..3)).prop_map(|(topic_id, queue_ids)| {
            Command::ExpireLiteTopics(wire::ExpireLiteTopics { topic_id, queue_ids })
        }),
        1 => name().prop_map(|name| Command::DeleteTopic(wire::DeleteTopic { name })),
        2 => (name(), any::<bool>()).prop_map(|(name, fifo)| match fifo {
            true => simple::fifo_group(&name, 2),
            false => simple::group(&name, 2),
        }),
        1 => name().prop_map(|name| Command::DeleteGroup(wire::DeleteGroup { name })),
        4 => receipt().prop_map(|r| Command::Ack(wire::Ack { receipt: Some(r) })),
        2 => (receipt(), 0..50u64).prop_map(|(r, time)| {
            Command::ChangeInvisible(wire::ChangeInvisible {
                receipt: Some(r), visible_at_ms: 1_000_000 + time * 10, suspended: time % 2 == 0,
            })
        }),
        2 => (receipt(), any::<bool>()).prop_map(|(r, exhausted)| {
            Command::DeadLetter(wire::DeadLetter { receipt: Some(r), exhausted })
        }),
        1 => receipt().prop_map(|r| Command::Renew(wire::Renew {
            receipts: vec![r], visible_at_ms: 1_000_600,
        })),
        1 => Just(Command::ReleaseClient(wire::ReleaseClient {
            client_id: "c".to_owned(), visible_at_ms: 1_000_100,
        })),
        1 => (0..30u64).prop_map(|before_log_index| Command::Trim(wire::Trim {
            before_log_index, stored_before_ms: 0,
        })),
        3 => (0..60u64).prop_map(|time| simple::fire(1_000_000 + time * 10)),
        2 => (0..30u32, any::<bool>()).prop_map(|(id, commit)| {
            let resolution = if commit {
                TransactionResolution::Commit
            } else {
                TransactionResolution::Rollback
            };
            simple::end(&format!("id-{id}"), resolution)
        }),
        1 => (1..4u32, 0..8u64).prop_map(|(topic_id, at)| simple::redrive(topic_id, &[at])),
        1 => (1..4u32, 0..8u64).prop_map(|(topic_id, at)| simple::discard(topic_id, &[at])),
        1 => (0..8u64).prop_map(simple::reset),
    ]
}

/// What is in memory and was loaded from the tables.
fn seen(replica: &Replica) -> impl PartialEq + std::fmt::Debug + use<> {
    let state = replica.state.read();
    let view = state.view(&replica.store);
    let queues: Vec<_> = view.topics().iter().map(|topic| view.queues(topic.id)).collect();
    let lite: Vec<_> = view.topics().iter().map(|topic| view.lite_topics(topic.id)).collect();
    (view.time_ms(), view.topics(), view.groups(), view.consumptions(), queues, lite)
}

proptest! {
    #![proptest_config(config())]

    /// A replica that restarts between entries gives the same replies and the same state hash.
    #[test]
    fn replicas_agree_whether_they_restart_or_not(
        entries in prop::collection::vec(
            (prop::collection::vec(commands(), 1..8), any::<bool>(), 0..30u64), 1..25),
    ) {
        let (mut steady, mut restarting) = (Replica::new(), Replica::new());
        let mut time_ms = 1_000_000;
        for (commands, restart, passed_ms) in entries {
            time_ms += passed_ms;
            let one = steady.apply(time_ms, &commands);
            let other = restarting.apply(time_ms, &commands);
            prop_assert_eq!(one, other);
            prop_assert_eq!(steady.applied, restarting.applied);
            if restart {
                restarting.reload();
            }
        }
        // What is in memory is what the tables say.
        let before = seen(&steady);
        steady.reload();
        prop_assert_eq!(before, seen(&steady));
    }

    /// Against a model of one queue: each message id is stored once, at its own offset, in order.
    #[test]
    fn each_message_id_has_one_place(ids in prop::collection::vec(0..40u32, 1..80)) {
        let mut replica = Replica::new();
        replica.apply(1, &[simple::topic("t", 1)]);
        let mut places: BTreeMap<u32, u64> = BTreeMap::new();
        for (step, chunk) in ids.chunks(3).enumerate() {
            let messages = chunk.iter().map(|id| simple::message(&format!("id-{id}"))).collect();
            let replies = replica.apply(2 + step as u64, &[simple::send(messages)]);
            let CommandReply::Sent(sent) = &replies[0] else { panic!("{replies:?}") };
            for (id, sent) in chunk.iter().zip(sent) {
                let known = places.get(id).copied();
                prop_assert_eq!(sent.repeated, known.is_some());
                prop_assert_eq!(sent.offset, known.unwrap_or(places.len() as u64));
                places.insert(*id, sent.offset);
            }
        }
        let distinct: BTreeSet<_> = places.values().collect();
        prop_assert_eq!(distinct.len(), places.len());
    }
}

#[test]
fn a_message_id_is_forgotten_after_the_window() {
    let mut replica = Replica::new();
    replica.apply(0, &[simple::topic("t", 1)]);
    let mut send = |time_ms: u64| match &replica
        .apply(time_ms, &[simple::send(vec![simple::message("same")])])[0]
    {
        CommandReply::Sent(sent) => sent[0].offset,
        other => panic!("{other:?}"),
    };
    let window = raftmq_broker::state::DEDUP_WINDOW_MS;
    // Over the border between two hours, where the ids lie in two buckets.
    let start = 3_600_000 - window / 2;
    assert_eq!(send(start), 0);
    assert_eq!(send(start + window), 0, "still within the window");
    assert_eq!(send(start + window + 1), 1, "stored anew");
}

/// The beginning of a new group was only in memory, so that a replica that restarted before a trim
/// wrote something else than one that did not.
#[test]
fn the_beginning_of_a_group_survives_a_restart_before_a_trim() {
    let (mut steady, mut restarting) = (Replica::new(), Replica::new());
    let checkout = wire::QueueCheckout { queue_id: 1, ..Default::default() };
    let entries = [
        vec![simple::topic("t", 2)],
        vec![simple::group("g", 1)],
        vec![simple::send(vec![simple::message("id")])],
        vec![Command::Checkout(wire::Checkout {
            group_id: 1,
            topic_id: 1,
            queues: vec![checkout],
            ..Default::default()
        })],
        vec![simple::trim(9)],
    ];
    for commands in entries {
        steady.apply(1, &commands);
        restarting.reload();
        restarting.apply(1, &commands);
        assert_eq!(steady.applied, restarting.applied);
    }
}
