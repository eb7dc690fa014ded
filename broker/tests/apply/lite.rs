//! Lite topics: what a subscription, an expiry and a trim do, and random commands against a simple model.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use raftmq_broker::command::Command;
use raftmq_broker::command::NewMessage;
use raftmq_broker::state::CommandReply;
use raftmq_broker::state::ConsumptionView;
use raftmq_broker::state::Granted;
use raftmq_broker::state::LITE_EMPTY_KEPT_MS;
use raftmq_broker::state::LITE_QUEUES_FROM;
use raftmq_broker::state::LiteView;
use raftmq_broker::state::Rejection;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::lite_start::Empty;
use raftmq_proto::raftmq::lite_start::From;

use crate::replica::Replica;
use crate::replica::commands;
use crate::setup;

/// Topic 1 with at most three lite topics, and a group (1) whose clients may have two each.
fn replica(exclusive: bool) -> Replica {
    let mut replica = Replica::new();
    let group = Command::CreateGroup(wire::CreateGroup {
        name: "g".to_owned(),
        max_attempts: 2,
        lite_subscriptions_max: 2,
        lite_exclusive: exclusive,
        ..Default::default()
    });
    replica.apply(1, &[commands::lite_parent("t", 3), group]);
    replica
}

fn create(names: &[&str]) -> Command {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Command::CreateLiteTopics(wire::CreateLiteTopics { topic_id: 1, names })
}

fn subscribe(
    client_id: &str,
    complete: bool,
    added: &[&str],
    removed: &[&str],
) -> wire::SubscribeLite {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    wire::SubscribeLite {
        group_id: 1,
        topic_id: 1,
        client_id: client_id.to_owned(),
        complete,
        added: owned(added),
        removed: owned(removed),
        start: None,
    }
}

fn add(client_id: &str, names: &[&str]) -> Command {
    Command::SubscribeLite(subscribe(client_id, false, names, &[]))
}

fn complete(client_id: &str, names: &[&str]) -> Command {
    Command::SubscribeLite(subscribe(client_id, true, names, &[]))
}

fn lite_topics(replica: &Replica) -> Vec<LiteView> {
    replica.state.read().view(&replica.store).lite_topics(1)
}

fn queue_id(replica: &Replica, name: &str) -> u32 {
    lite_topics(replica).into_iter().find(|lite| lite.name == name).unwrap().queue_id
}

fn send(replica: &mut Replica, time_ms: u64, name: &str, ids: &[&str]) {
    let queue_id = queue_id(replica, name);
    let message = |id: &&str| NewMessage { queue_id, group_hash: 7, ..commands::message(id) };
    setup::sent(setup::one(replica, time_ms, commands::send(ids.iter().map(message).collect())));
}

fn consumption(replica: &Replica) -> ConsumptionView {
    let consumptions = replica.state.read().view(&replica.store).consumptions();
    consumptions.into_iter().find(|(ids, _)| *ids == (1, 1)).unwrap().1
}

fn cursor(replica: &Replica, name: &str) -> u64 {
    let queue_id = queue_id(replica, name);
    let (_, progress) = consumption(replica).lite.into_iter().find(|it| it.0 == queue_id).unwrap();
    progress.next_offset
}

fn members(replica: &Replica) -> Vec<(String, Vec<String>)> {
    let lite = lite_topics(replica);
    let name = |id: u32| lite.iter().find(|lite| lite.queue_id == id).unwrap().name.clone();
    let members = consumption(replica).lite_members.into_iter();
    members.map(|(client_id, own)| (client_id, own.into_iter().map(name).collect())).collect()
}

fn check_out(
    replica: &mut Replica,
    time_ms: u64,
    name: &str,
    part: wire::QueueCheckout,
) -> Vec<Granted> {
    let queue_id = queue_id(replica, name);
    let taken_groups = vec![7; part.taken.len()];
    setup::check_out(replica, time_ms, wire::QueueCheckout { queue_id, taken_groups, ..part })
}

fn expire(replica: &mut Replica, time_ms: u64, name: &str) -> u64 {
    let queue_ids = vec![queue_id(replica, name)];
    let command = Command::ExpireLiteTopics(wire::ExpireLiteTopics { topic_id: 1, queue_ids });
    match setup::one(replica, time_ms, command) {
        CommandReply::Moved { count } => count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_begins_where_it_was_made_to_and_goes_on_where_it_was() {
    let mut replica = replica(false);
    setup::one(&mut replica, 2, create(&["a", "b"]));
    send(&mut replica, 3, "a", &["1", "2", "3"]);
    setup::one(&mut replica, 4, add("c", &["a"]));
    assert_eq!(cursor(&replica, "a"), 0, "what was sent before is not lost");
    assert_eq!(check_out(&mut replica, 5, "a", commands::fresh(0, 2, &[0, 1])).len(), 2);
    setup::one(&mut replica, 6, Command::SubscribeLite(subscribe("c", false, &[], &["a"])));
    setup::one(&mut replica, 7, add("d", &["a"]));
    assert_eq!(cursor(&replica, "a"), 2);
    for (from, at) in [
        (From::First(Empty {}), 0),
        (From::End(Empty {}), 3),
        (From::LastCount(1), 2),
        (From::LastCount(9), 0),
        (From::Offset(1), 1),
        (From::TimestampMs(4), 3),
        (From::TimestampMs(3), 0),
    ] {
        setup::one(&mut replica, 8, complete("c", &[]));
        let start = Some(wire::LiteStart { from: Some(from) });
        let command = wire::SubscribeLite { start, ..subscribe("c", false, &["a"], &[]) };
        // Said again: it subscribes already, and nothing moves.
        let again = wire::LiteStart { from: Some(From::Offset(2)) };
        let again = wire::SubscribeLite { start: Some(again), ..command.clone() };
        setup::one(&mut replica, 8, Command::SubscribeLite(command));
        setup::one(&mut replica, 8, Command::SubscribeLite(again));
        assert_eq!(cursor(&replica, "a"), at, "{from:?}");
    }
    replica.reload();
    assert_eq!(cursor(&replica, "a"), 0);
    assert_eq!(members(&replica).len(), 2);
}

#[test]
fn quotas_refuse_the_whole() {
    let mut replica = replica(false);
    let refused = |reply| match reply {
        CommandReply::Rejected(rejection) => rejection,
        other => panic!("{other:?}"),
    };
    let reply = setup::one(&mut replica, 2, add("c", &["a", "b", "x"]));
    assert_eq!(refused(reply), Rejection::TooManyLiteSubscriptions { count: 3, quota: 2 });
    assert!(lite_topics(&replica).is_empty(), "a refused subscription makes nothing");
    setup::one(&mut replica, 3, add("c", &["a", "b"]));
    let reply = setup::one(&mut replica, 4, add("c", &["x"]));
    assert_eq!(refused(reply), Rejection::TooManyLiteSubscriptions { count: 3, quota: 2 });
    // One goes, and another one comes.
    let swap = Command::SubscribeLite(subscribe("c", false, &["x"], &["a"]));
    assert!(matches!(setup::one(&mut replica, 5, swap), CommandReply::SubscribedLite { .. }));
    assert_eq!(members(&replica), [("c".to_owned(), vec!["b".to_owned(), "x".to_owned()])]);
    let reply = setup::one(&mut replica, 6, create(&["a", "y"]));
    assert!(matches!(refused(reply), Rejection::TooManyLiteTopics { quota: 3, .. }));
    let reply = setup::one(&mut replica, 7, add("d", &["y"]));
    assert!(matches!(refused(reply), Rejection::TooManyLiteTopics { quota: 3, .. }));
}

#[test]
fn an_exclusive_lite_topic_is_the_last_ones_that_asked() {
    let mut replica = replica(true);
    setup::one(&mut replica, 2, add("c", &["a", "b"]));
    let reply = setup::one(&mut replica, 3, add("d", &["a"]));
    let displaced = vec![("c".into(), "a".to_owned())];
    assert_eq!(reply, CommandReply::SubscribedLite { displaced });
    let of = |client: &str, names: &[&str]| {
        (client.to_owned(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(members(&replica), [of("c", &["b"]), of("d", &["a"])]);
    // It says all it had, since it has not heard yet.
    setup::one(&mut replica, 4, complete("c", &["a", "b"]));
    assert_eq!(members(&replica), [of("c", &["b"]), of("d", &["a"])]);
    let gone = wire::ReleaseClient { client_id: "d".to_owned(), visible_at_ms: 5 };
    setup::one(&mut replica, 5, Command::ReleaseClient(gone));
    setup::one(&mut replica, 6, complete("c", &["a", "b"]));
    assert_eq!(members(&replica), [of("c", &["a", "b"])]);
}

#[test]
fn idle_ones_go_with_all_that_belongs_to_them() {
    let mut replica = replica(false);
    setup::one(&mut replica, 2, add("c", &["a", "b"]));
    send(&mut replica, 10, "a", &["1"]);
    check_out(&mut replica, 11, "a", commands::fresh(0, 1, &[0]));
    assert_eq!(expire(&mut replica, 1_000, "a"), 0, "somebody subscribes");
    setup::one(&mut replica, 1_001, complete("c", &[]));
    send(&mut replica, 1_050, "a", &["2"]);
    assert_eq!(expire(&mut replica, 1_149, "a"), 0, "a send counts");
    replica.reload();
    assert_eq!(expire(&mut replica, 1_149, "a"), 0, "and is known after a restart");
    assert_eq!(expire(&mut replica, 1_150, "a"), 1);
    setup::one(&mut replica, 1_151, add("c", &["a"]));
    assert_eq!(cursor(&replica, "a"), 0);
    let lite = lite_topics(&replica);
    assert_eq!(lite.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(lite[1].queue.max, 0, "a new one of that name is empty");
    assert!(consumption(&replica).due.is_empty());
}

#[test]
fn an_empty_one_is_remembered_for_a_while() {
    let mut replica = Replica::new();
    let topic = Command::CreateTopic(wire::CreateTopic {
        name: "t".to_owned(),
        message_types: vec![5],
        ..Default::default()
    });
    replica.apply(1, &[topic, create(&["a", "b"])]);
    send(&mut replica, 2, "b", &["1"]);
    assert_eq!(expire(&mut replica, LITE_EMPTY_KEPT_MS, "a"), 0);
    assert_eq!(expire(&mut replica, LITE_EMPTY_KEPT_MS + 1, "a"), 1);
    assert_eq!(expire(&mut replica, u64::MAX / 2, "b"), 0, "it has a message");
}

#[test]
fn a_trim_takes_from_those_that_have_something_old() {
    let mut replica = replica(false);
    setup::one(&mut replica, 2, create(&["a", "b"]));
    send(&mut replica, 3, "a", &["1"]);
    send(&mut replica, 4, "b", &["2"]);
    send(&mut replica, 5, "a", &["3"]);
    let last = replica.applied.position.unwrap().index;
    // A message of the very entry of the trim stays, too.
    let fresh = NewMessage { queue_id: queue_id(&replica, "b"), ..commands::message("4") };
    replica.apply(6, &[commands::send(vec![fresh]), commands::trim(last)]);
    let bounds = |replica: &Replica| {
        let lite = lite_topics(replica).into_iter();
        lite.map(|it| (it.queue.min, it.queue.max, it.queue.messages.len())).collect::<Vec<_>>()
    };
    assert_eq!(bounds(&replica), [(1, 2, 1), (1, 2, 1)]);
    replica.apply(7, &[commands::trim(last + 2)]);
    assert_eq!(bounds(&replica), [(2, 2, 0), (2, 2, 0)]);
    let before = lite_topics(&replica);
    replica.reload();
    assert_eq!(lite_topics(&replica), before, "also when they were last sent to");
}

#[test]
fn what_nobody_subscribes_to_is_never_due() {
    let mut replica = replica(false);
    setup::one(&mut replica, 2, add("c", &["a"]));
    send(&mut replica, 3, "a", &["1"]);
    check_out(&mut replica, 4, "a", commands::fresh(0, 1, &[0]));
    assert_eq!(consumption(&replica).due.len(), 1);
    setup::one(&mut replica, 5, complete("c", &[]));
    assert!(consumption(&replica).due.is_empty());
    replica.reload();
    assert!(consumption(&replica).due.is_empty());
    setup::one(&mut replica, 6, add("d", &["a"]));
    assert_eq!(consumption(&replica).due.len(), 1);
}

#[test]
fn a_suspended_delivery_is_no_attempt() {
    let mut replica = replica(false);
    setup::one(&mut replica, 2, add("c", &["a"]));
    send(&mut replica, 3, "a", &["1"]);
    let mut granted = check_out(&mut replica, 4, "a", commands::fresh(0, 1, &[0]));
    for (time_ms, suspended, attempt) in [(10, true, 1), (20, true, 1), (30, false, 2)] {
        let receipt = Some(commands::receipt(&granted[0]));
        let change = wire::ChangeInvisible { receipt, visible_at_ms: time_ms, suspended };
        setup::one(&mut replica, time_ms, Command::ChangeInvisible(change));
        granted = check_out(&mut replica, time_ms + 1, "a", commands::again(&[0]));
        assert_eq!(granted[0].attempt, attempt);
    }
}

#[test]
fn only_a_topic_of_lite_topics_has_them() {
    let mut replica = setup::with(commands::group("g", 1));
    for command in [create(&["a"]), add("c", &["a"])] {
        let reply = setup::one(&mut replica, 2, command);
        assert_eq!(reply, CommandReply::Rejected(Rejection::NotLite("t".to_owned())));
    }
    let gone = NewMessage { queue_id: LITE_QUEUES_FROM, ..commands::message("1") };
    let reply = setup::one(&mut replica, 3, commands::send(vec![gone]));
    assert_eq!(reply, CommandReply::Rejected(Rejection::LiteTopicGone));
}

/// What a test does next.
#[derive(Clone, Debug)]
enum Act {
    Send(usize),
    Subscribe {
        client: usize,
        names: Vec<usize>,
        complete: bool,
        remove: Vec<usize>,
    },
    /// Everything that a client may have now, in order.
    CheckOut(usize),
    Ack(usize),
    /// Time passes: deliveries run out after 50 ms, idle lite topics after 100.
    Wait(u64),
    Expire(usize),
    Trim,
    Leave(usize),
    Restart,
}

fn acts() -> impl Strategy<Value = Act> {
    let names = || prop::collection::vec(0..4usize, 0..3);
    prop_oneof![
        6 => (0..4usize).prop_map(Act::Send),
        3 => (0..2usize, names(), any::<bool>(), names()).prop_map(
            |(client, names, complete, remove)| Act::Subscribe { client, names, complete, remove }),
        6 => (0..2usize).prop_map(Act::CheckOut),
        5 => (0..6usize).prop_map(Act::Ack),
        2 => (0..80u64).prop_map(Act::Wait),
        1 => (0..4usize).prop_map(Act::Expire),
        1 => Just(Act::Trim),
        1 => (0..2usize).prop_map(Act::Leave),
        2 => Just(Act::Restart),
    ]
}

/// One lite topic as simply as it can be said.
#[derive(Clone, Debug, Default)]
struct Lite {
    /// Messages by offset.
    messages: BTreeMap<u64, String>,
    end: u64,
    next: Option<u64>,
    /// Out: offset, when it comes back, attempt.
    out: BTreeMap<u64, (u64, u32)>,
    touched: u64,
}

const NAMES: [&str; 4] = ["l0", "l1", "l2", "l3"];
const CLIENTS: [&str; 2] = ["c", "d"];
const LITE_MAX: usize = 3;
const OWN_MAX: usize = 2;

#[derive(Debug, Default)]
struct Model {
    lite: BTreeMap<&'static str, Lite>,
    own: BTreeMap<&'static str, BTreeSet<&'static str>>,
    now: u64,
}

impl Model {
    fn subscribe(
        &mut self,
        client: &'static str,
        names: &[&'static str],
        complete: bool,
        remove: &[&'static str],
    ) {
        let own = self.own.get(client).cloned().unwrap_or_default();
        let mut wanted = if complete { BTreeSet::new() } else { own.clone() };
        wanted.retain(|name| !remove.contains(name));
        wanted.extend(names);
        let new = names.iter().copied().collect::<BTreeSet<_>>();
        let new = new.iter().filter(|name| !self.lite.contains_key(*name)).count();
        let too_many = wanted.len() > OWN_MAX && wanted.len() > own.len();
        if too_many || (new > 0 && self.lite.len() + new > LITE_MAX) {
            return;
        }
        for name in &wanted {
            let now = self.now;
            let lite =
                self.lite.entry(name).or_insert_with(|| Lite { touched: now, ..Lite::default() });
            let first = lite.messages.keys().next().copied().unwrap_or(lite.end);
            lite.next.get_or_insert(first);
        }
        self.own.insert(client, wanted);
    }

    fn is_subscribed(&self, name: &str) -> bool {
        self.own.values().any(|own| own.contains(name))
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Order in each lite topic, cursors, quotas, takeover and expiry are those of the simple model, with
    /// restarts at any time.
    #[test]
    fn lite_topics_behave_as_the_simple_model(acts in prop::collection::vec(acts(), 1..60)) {
        let mut replica = replica(false);
        let mut model = Model { now: 10, ..Model::default() };
        let mut out: Vec<(&'static str, Granted)> = Vec::new();
        let mut sent = 0;
        for act in acts {
            model.now += 1;
            let now = model.now;
            match act {
                Act::Wait(ms) => model.now += ms,
                Act::Restart => replica.reload(),
                Act::Send(at) => {
                    let name = NAMES[at];
                    let room = model.lite.contains_key(name) || model.lite.len() < LITE_MAX;
                    setup::one(&mut replica, now, create(&[name]));
                    if !room {
                        continue;
                    }
                    sent += 1;
                    let id = format!("m{sent}");
                    send(&mut replica, now, name, &[&id]);
                    let lite = model.lite.entry(name).or_default();
                    lite.messages.insert(lite.end, id);
                    lite.end += 1;
                    lite.touched = now;
                }
                Act::Subscribe { client, names, complete, remove } => {
                    let names: Vec<_> = names.into_iter().map(|at| NAMES[at]).collect();
                    let remove: Vec<_> = remove.into_iter().map(|at| NAMES[at]).collect();
                    let command = subscribe(CLIENTS[client], complete, &names, &remove);
                    setup::one(&mut replica, now, Command::SubscribeLite(command));
                    model.subscribe(CLIENTS[client], &names, complete, &remove);
                }
                Act::Leave(client) => {
                    let client_id = CLIENTS[client].to_owned();
                    let gone = wire::ReleaseClient { client_id, visible_at_ms: now };
                    setup::one(&mut replica, now, Command::ReleaseClient(gone));
                    model.own.remove(CLIENTS[client]);
                }
                Act::CheckOut(client) => {
                    for name in model.own.get(CLIENTS[client]).cloned().unwrap_or_default() {
                        let lite = model.lite.get_mut(name).unwrap();
                        let back: Vec<u64> =
                            lite.out.iter().take_while(|(_, (at, _))| *at <= now).map(|it| *it.0).collect();
                        let next = lite.next.unwrap();
                        let part = match lite.out.is_empty() {
                            false => commands::again(&back),
                            true => commands::fresh(
                                next, lite.end, &lite.messages.range(next..).map(|it| *it.0).collect::<Vec<_>>()),
                        };
                        let queue_id = queue_id(&replica, name);
                        let taken_groups = vec![7; part.taken.len()];
                        let part = wire::QueueCheckout { queue_id, taken_groups, ..part };
                        let checkout = Command::Checkout(commands::checkout(now + 50, vec![part]));
                        let granted = setup::granted(setup::one(&mut replica, now, checkout));
                        let expected: Vec<(u64, u32)> = match lite.out.is_empty() {
                            false => back.iter().map(|at| (*at, lite.out[at].1 + 1)).collect(),
                            true => lite.messages.range(next..).map(|it| (*it.0, 1)).collect(),
                        };
                        let seen: Vec<_> = granted.iter().map(|it| (it.offset, it.attempt)).collect();
                        prop_assert_eq!(&seen, &expected);
                        lite.next = Some(if lite.out.is_empty() { lite.end } else { next });
                        lite.out.extend(expected.iter().map(|(at, attempt)| (*at, (now + 50, *attempt))));
                        out.extend(granted.into_iter().map(|it| (name, it)));
                    }
                }
                Act::Ack(at) if !out.is_empty() => {
                    let (name, granted) = out.swap_remove(at % out.len());
                    let reply = setup::one(&mut replica, now, commands::ack(&granted));
                    let lite = model.lite.get_mut(name);
                    let held = lite.as_ref().and_then(|it| it.out.get(&granted.offset)).copied();
                    let mine = matches!(held, Some((until, attempt)) if until > now && attempt == granted.attempt);
                    if let (true, Some(lite)) = (mine, lite) {
                        lite.out.remove(&granted.offset);
                    }
                    // Of a lite topic that is gone, or consumed: not an error.
                    prop_assert_eq!(reply == CommandReply::Done, mine || held.is_none());
                }
                Act::Ack(_) => (),
                Act::Expire(at) => {
                    let name = NAMES[at];
                    let Some(lite) = model.lite.get(name) else { continue };
                    let idle = !model.is_subscribed(name) && now - lite.touched >= 100;
                    prop_assert_eq!(expire(&mut replica, now, name), u64::from(idle));
                    if idle {
                        model.lite.remove(name);
                        out.retain(|(of, _)| *of != name);
                    }
                }
                Act::Trim => {
                    let next = replica.next_index();
                    if model.lite.values().any(|lite| !lite.out.is_empty()) {
                        continue;
                    }
                    setup::one(&mut replica, now, commands::trim(next));
                    for lite in model.lite.values_mut() {
                        lite.messages.clear();
                        lite.next = lite.next.map(|_| lite.end);
                    }
                }
            }
            let views = lite_topics(&replica);
            prop_assert_eq!(views.len(), model.lite.len());
            for view in views {
                let lite = &model.lite[&*view.name];
                let messages: Vec<_> = view.queue.messages.iter().map(|(at, unit)| (*at, replica.read(unit))).collect();
                prop_assert_eq!(messages, Vec::from_iter(lite.messages.clone()));
                prop_assert_eq!((view.queue.max, view.touched_ms), (lite.end, lite.touched));
            }
        }
    }
}
