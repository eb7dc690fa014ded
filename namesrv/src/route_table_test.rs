use raftmq_proto::raftmq::RouteMember;

use raftmq_proto::route::Shape;

use super::*;

const TTL: Duration = Duration::from_secs(10);

/// Three nodes with one topic `demo` of four queues.
fn group(name: &str, term: u64, leader_id: u64, revision: u64) -> GroupRoute {
    let member = |node_id: u64| RouteMember {
        node_id,
        broker_name: format!("{name}-{node_id}"),
        client_address: format!("127.0.0.1:{}", 8081 + 100 * node_id),
    };
    GroupRoute {
        cluster: "DefaultCluster".to_owned(),
        group: name.to_owned(),
        term,
        leader_id,
        members: (1..=3).map(member).collect(),
        topics: vec![topic("demo")],
        revision,
        auto_create_topics: false,
    }
}

fn topic(name: &str) -> RouteTopic {
    RouteTopic { name: name.to_owned(), queue_count: 4, message_types: vec![1] }
}

fn demo() -> Resource {
    Resource { name: "demo".to_owned(), ..Resource::default() }
}

fn first_broker(table: &RouteTable, now: Instant) -> Option<String> {
    let queues = table.message_queues(&demo(), Shape::OneAddress, now).ok()?;
    Some(queues.first()?.broker.as_ref()?.name.clone())
}

#[test]
fn the_higher_term_wins_and_a_deposed_leader_is_refused() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    assert_eq!(table.register(group("a", 3, 1, 50), TTL, now), Ok(Accepted::Changed));
    assert_eq!(table.register(group("a", 4, 2, 10), TTL, now), Ok(Accepted::Changed));
    let refusal = table.register(group("a", 3, 1, 99), TTL, now).unwrap_err();
    assert_eq!(refusal.to_string(), "term 3 is older than 4, in which node 2 leads");
    assert_eq!(first_broker(&table, now).as_deref(), Some("a-2"));
}

#[test]
fn one_term_has_one_leader() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    table.register(group("a", 3, 1, 1), TTL, now).unwrap();
    let refusal = table.register(group("a", 3, 2, 9), TTL, now).unwrap_err();
    assert_eq!(refusal, Refusal::OtherLeader { term: 3, leader_id: 1 });
}

#[test]
fn a_heartbeat_that_was_overtaken_changes_nothing() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    let mut newer = group("a", 3, 1, 7);
    newer.topics.push(topic("later"));
    table.register(newer, TTL, now).unwrap();
    let refusal = table.register(group("a", 3, 1, 6), TTL, now + TTL / 2).unwrap_err();
    assert_eq!(refusal, Refusal::OlderRevision { revision: 6, known: 7 });
    assert_eq!(table.size(), (1, 2));
    // It does not prolong the life of the newer one either: a leader whose revision has fallen
    // back is believed again after one time to live.
    assert_eq!(table.register(group("a", 3, 1, 6), TTL, now + TTL), Ok(Accepted::Changed));
}

#[test]
fn renewal_keeps_a_route_alive_and_silence_ends_it() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    table.register(group("a", 1, 1, 1), TTL, now).unwrap();
    let later = now + TTL - Duration::from_millis(1);
    assert_eq!(table.register(group("a", 1, 1, 1), TTL, later), Ok(Accepted::Renewed));
    assert!(first_broker(&table, now + TTL).is_some());
    assert_eq!(
        table.message_queues(&demo(), Shape::OneAddress, later + TTL),
        Err(NoRoute::NoGroup)
    );
    assert_eq!(table.list(later + TTL), []);
    assert_eq!(table.expire(later + TTL), ["a"]);
    assert_eq!(table.size(), (0, 0));
}

#[test]
fn an_expired_term_no_longer_stands_in_the_way() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    table.register(group("a", 9, 1, 1), TTL, now).unwrap();
    assert_eq!(table.register(group("a", 1, 2, 1), TTL, now + TTL), Ok(Accepted::Changed));
}

#[test]
fn time_to_live_is_bounded() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    table.register(group("a", 1, 1, 1), Duration::ZERO, now).unwrap();
    table.register(group("b", 1, 1, 1), Duration::MAX, now).unwrap();
    let left: Vec<_> = table.list(now).iter().map(|listed| listed.expires_in_ms).collect();
    assert_eq!(left, [1_000, 60_000]);
}

#[test]
fn a_topic_is_merged_over_all_groups_that_have_it() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    let mut without = group("c", 1, 1, 1);
    without.topics.clear();
    for route in [group("b", 1, 3, 1), group("a", 1, 2, 1), without] {
        table.register(route, TTL, now).unwrap();
    }
    let queues = table.message_queues(&demo(), Shape::OneAddress, now).unwrap();
    // The leader's four and one of each follower, for both groups.
    assert_eq!(queues.len(), 12);
    assert!(queues.iter().all(|queue| queue.topic == Some(demo())));
    let assignments = table.assignments(&demo(), Shape::OneAddress, now).unwrap();
    let names: Vec<_> = assignments
        .into_iter()
        .filter_map(|assignment| Some(assignment.message_queue?.broker?.name))
        .collect();
    assert_eq!(names, ["a-1", "a-2", "a-3", "b-1", "b-2", "b-3"]);
}

#[test]
fn an_unknown_topic_is_not_the_same_as_knowing_nobody() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    let other = Resource { name: "other".to_owned(), ..Resource::default() };
    assert_eq!(table.message_queues(&other, Shape::OneAddress, now), Err(NoRoute::NoGroup));
    table.register(group("a", 1, 1, 1), TTL, now).unwrap();
    assert_eq!(table.message_queues(&other, Shape::OneAddress, now), Err(NoRoute::UnknownTopic));
    assert_eq!(table.assignments(&other, Shape::OneAddress, now), Err(NoRoute::UnknownTopic));
}

#[test]
fn an_unknown_topic_is_where_it_would_be_created() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    table.register(group("a", 1, 1, 1), TTL, now).unwrap();
    for name in ["b", "c"] {
        let route = GroupRoute { auto_create_topics: true, ..group(name, 1, 2, 1) };
        table.register(route, TTL, now).unwrap();
    }
    let size = table.size();
    let resource = |name: &str| Resource { name: name.to_owned(), ..Resource::default() };
    let queues = table.message_queues(&resource("new"), Shape::OneAddress, now).unwrap();
    let of_leader = queues.iter().filter(|queue| queue.broker.as_ref().unwrap().name == "b-2");
    assert_eq!((queues.len(), of_leader.count()), (10, 8));
    assert!(queues.iter().all(|queue| queue.accept_message_types == [1]));
    assert_eq!(table.assignments(&resource("new"), Shape::OneAddress, now).unwrap().len(), 3);
    assert_eq!(table.size(), size, "nothing is kept");

    // What a group has is not made up, and neither are topics that only the broker creates.
    let demo = table.message_queues(&demo(), Shape::OneAddress, now).unwrap();
    assert_eq!(demo.len(), 3 * 6);
    let dead_letters = table.message_queues(&resource("%DLQ%g"), Shape::OneAddress, now);
    assert_eq!(dead_letters, Err(NoRoute::UnknownTopic));
    let later = now + TTL;
    table.register(group("a", 1, 1, 1), TTL, later).unwrap();
    let gone = table.message_queues(&resource("new"), Shape::OneAddress, later);
    assert_eq!(gone, Err(NoRoute::UnknownTopic));
}

#[test]
fn clusters_do_not_share_group_names() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    table.register(group("a", 1, 1, 1), TTL, now).unwrap();
    let mut other = group("a", 5, 1, 1);
    other.cluster = "Other".to_owned();
    let refusal = table.register(other, TTL, now).unwrap_err();
    assert_eq!(refusal, Refusal::OtherCluster { cluster: "DefaultCluster".to_owned() });
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    let mut refuse = |change: fn(&mut GroupRoute)| {
        let mut route = group("a", 1, 1, 1);
        change(&mut route);
        table.register(route, TTL, now).unwrap_err().to_string()
    };
    assert_eq!(refuse(|route| route.group.clear()), "the group or the cluster has no name");
    assert_eq!(refuse(|route| route.leader_id = 9), "the leader, node 9, is not among the members");
    assert_eq!(
        refuse(|route| route.members[1].client_address = "nowhere".to_owned()),
        "the client address \"nowhere\" of node 2 is not host:port"
    );
    assert_eq!(
        refuse(|route| route.topics[0].name = "a b".to_owned()),
        "the topic name contains ' ', allowed are letters a-z A-Z, digits and % | - _"
    );
    assert_eq!(
        refuse(|route| route.topics[0].queue_count = 1_025),
        "1025 queues of topic demo are more than 1024"
    );
    assert_eq!(
        refuse(|route| route.members = vec![RouteMember::default(); 16]),
        "16 members are more than 15"
    );
    assert_eq!(table.size(), (0, 0));
}

#[test]
fn groups_and_topics_are_bounded() {
    let (mut table, now) = (RouteTable::default(), Instant::now());
    let mut big = group("big", 1, 1, 1);
    big.topics = (0..TOPICS_MAX).map(|number| topic(&format!("t{number}"))).collect();
    table.register(big, TTL, now).unwrap();
    let refusal = table.register(group("a", 1, 1, 1), TTL, now).unwrap_err();
    assert_eq!(refusal.to_string(), "1 topics and 200000 of other groups are more than 200000");

    let mut table = RouteTable::default();
    for number in 0..GROUPS_MAX {
        table.register(group(&format!("g{number}"), 1, 1, 1), TTL, now).unwrap();
    }
    let refusal = table.register(group("one-more", 1, 1, 1), TTL, now).unwrap_err();
    assert_eq!(refusal.to_string(), "1000 groups are registered already");
    assert_eq!(table.register(group("g7", 2, 1, 1), TTL, now), Ok(Accepted::Changed));
}
