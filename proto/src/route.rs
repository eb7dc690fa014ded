//! The shape of a route: how a broker group looks to a client.
//!
//! Official clients treat several addresses in one `Endpoints` differently (some try them in order,
//! some pick one for ever, some can not parse them), but all of them retry a failed send on another
//! *broker name*. So each node of a group is listed as a broker of its own with a single address.
//! Every node accepts every call, and the leader alone decides the real queue; so the queues listed
//! here only steer traffic: all of them at the leader, one at each follower. What the code of some
//! clients needs beyond that is in [`Shape`].
//!
//! Not here: which topics exist, who leads (the caller knows).

use crate::raftmq::GroupRoute;
use crate::raftmq::RouteMember;
use crate::raftmq::RouteTopic;
use crate::v2::Address;
use crate::v2::AddressScheme;
use crate::v2::Assignment;
use crate::v2::Broker;
use crate::v2::Endpoints;
use crate::v2::MessageQueue;
use crate::v2::MessageType;
use crate::v2::Permission;
use crate::v2::Resource;

/// The queue id that stands for "any queue of that broker" in an assignment.
pub const ANY_QUEUE: i32 = -1;

/// Queues of a topic when nobody says how many.
pub const QUEUES_DEFAULT: u32 = 8;

/// A topic as it comes into being when it is first asked for.
pub fn auto_created(name: &str) -> RouteTopic {
    RouteTopic {
        name: name.to_owned(),
        queue_count: QUEUES_DEFAULT,
        message_types: vec![MessageType::Normal.into()],
    }
}

/// What a client's own code needs of a route so that a dead node goes unnoticed. Read in the clients'
/// sources and measured with each of them; all else is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A broker is one address; a failed send is retried at another broker (Java, Go, …).
    OneAddress,
    /// The client retries at the next queue of the list, whosever it is (Python): every node has as
    /// many queues, and neighbours in the list belong to different nodes.
    Interleaved,
    /// The client never forgets that it put a broker aside, and joins the addresses of a broker to a
    /// target without a scheme (Node): a broker is all addresses, its own first, with the scheme
    /// before it. Lists are interleaved too.
    AllAddresses,
}

impl Shape {
    /// The shape for the value of the header `x-mq-language`.
    pub fn of_language(language: &str) -> Self {
        match language {
            "PYTHON" => Self::Interleaved,
            // What the client for Node.js says.
            "HTTP" | "NODE_JS" => Self::AllAddresses,
            _ => Self::OneAddress,
        }
    }
}

/// The queues of `topic` as a producer or simple consumer sees them, the leader's first.
///
/// `resource` is echoed in each queue, as clients compare it with what they asked for.
pub fn message_queues(
    route: &GroupRoute,
    topic: &RouteTopic,
    resource: &Resource,
    shape: Shape,
) -> Vec<MessageQueue> {
    let members = leader_first(route);
    let queue = |member, id| message_queue(route, member, topic, resource, id, shape);
    let mut queues = Vec::new();
    if shape != Shape::OneAddress {
        for id in 0..topic.queue_count {
            queues.extend(members.iter().map(|member| queue(member, id as i32)));
        }
        return queues;
    }
    for member in &members {
        let queue_count = if member.node_id == route.leader_id { topic.queue_count } else { 1 };
        queues.extend((0..queue_count).map(|id| queue(member, id as i32)));
    }
    queues
}

/// One assignment for each node, with [`ANY_QUEUE`]: every member of a consumer group may receive
/// from every queue through any node.
///
/// The order does not depend on who leads: clients restart their receive loops when an assignment
/// changes, and a failover must not make them do so.
pub fn assignments(
    route: &GroupRoute,
    topic: &RouteTopic,
    resource: &Resource,
    shape: Shape,
) -> Vec<Assignment> {
    let mut members: Vec<&RouteMember> = route.members.iter().collect();
    members.sort_by_key(|member| member.node_id);
    members
        .into_iter()
        .map(|member| Assignment {
            message_queue: Some(message_queue(route, member, topic, resource, ANY_QUEUE, shape)),
        })
        .collect()
}

/// `host:port` as the single address of an `Endpoints`, with the scheme its text implies.
///
/// Returns `None` when the text is not `host:port`.
pub fn endpoints(address: &str) -> Option<Endpoints> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let scheme = match host.parse() {
        Ok(std::net::IpAddr::V4(_)) => AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => AddressScheme::IPv6,
        Err(_) => AddressScheme::DomainName,
    };
    Some(Endpoints {
        scheme: scheme.into(),
        addresses: vec![Address { host: host.to_owned(), port: port.into() }],
    })
}

fn leader_first(route: &GroupRoute) -> Vec<&RouteMember> {
    let mut members: Vec<&RouteMember> = route.members.iter().collect();
    members.sort_by_key(|member| (member.node_id != route.leader_id, member.node_id));
    members
}

/// The address of `member`, and those of the others behind it when the client can use them: some
/// clients take several addresses only as IPv4 literals.
fn member_endpoints(route: &GroupRoute, member: &RouteMember, shape: Shape) -> Option<Endpoints> {
    let mut own = endpoints(&member.client_address)?;
    if shape != Shape::AllAddresses {
        return Some(own);
    }
    let mut others: Vec<&RouteMember> =
        route.members.iter().filter(|other| other.node_id != member.node_id).collect();
    others.sort_by_key(|other| other.node_id);
    let mut all = vec![own.clone()];
    all.extend(others.iter().filter_map(|other| endpoints(&other.client_address)));
    if all.iter().any(|one| one.scheme() != AddressScheme::IPv4) {
        return Some(own);
    }
    own.addresses = all.into_iter().flat_map(|one| one.addresses).collect();
    if let Some(first) = own.addresses.first_mut() {
        first.host = format!("ipv4:{}", first.host);
    }
    Some(own)
}

fn message_queue(
    route: &GroupRoute,
    member: &RouteMember,
    topic: &RouteTopic,
    resource: &Resource,
    id: i32,
    shape: Shape,
) -> MessageQueue {
    MessageQueue {
        topic: Some(resource.clone()),
        id,
        permission: Permission::ReadWrite.into(),
        broker: Some(Broker {
            name: member.broker_name.clone(),
            // 0 marks a broker that takes writes; clients ignore all others.
            id: 0,
            endpoints: member_endpoints(route, member, shape),
        }),
        accept_message_types: topic.message_types.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(leader_id: u64) -> GroupRoute {
        let member = |node_id: u64| RouteMember {
            node_id,
            broker_name: format!("broker-a-{node_id}"),
            client_address: format!("127.0.0.1:{}", 8081 + node_id),
        };
        GroupRoute {
            leader_id,
            members: vec![member(1), member(2), member(3)],
            ..Default::default()
        }
    }

    fn topic() -> RouteTopic {
        RouteTopic { name: "t".into(), queue_count: 4, message_types: vec![1] }
    }

    #[test]
    fn leader_has_all_queues_and_each_follower_one() {
        let queues = message_queues(&route(2), &topic(), &Resource::default(), Shape::OneAddress);
        let names: Vec<_> = queues
            .iter()
            .map(|queue| queue.broker.clone().map(|b| b.name).unwrap_or_default())
            .collect();
        assert_eq!(
            names,
            ["broker-a-2", "broker-a-2", "broker-a-2", "broker-a-2", "broker-a-1", "broker-a-3"]
        );
    }

    #[test]
    fn neighbours_differ_where_the_client_needs_it() {
        let shape = Shape::of_language("PYTHON");
        let queues = message_queues(&route(2), &topic(), &Resource::default(), shape);
        let names: Vec<_> =
            queues.into_iter().filter_map(|queue| queue.broker).map(|b| b.name).collect();
        assert_eq!(names.len(), 12);
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn all_addresses_stand_behind_a_scheme_where_the_client_needs_it() {
        let shape = Shape::of_language("HTTP");
        let queues = message_queues(&route(2), &topic(), &Resource::default(), shape);
        let first = queues[0].broker.clone().and_then(|broker| broker.endpoints);
        let addresses = first.map(|endpoints| endpoints.addresses).unwrap_or_default();
        let ports: Vec<i32> = addresses.iter().map(|address| address.port).collect();
        assert_eq!(ports, [8083, 8082, 8084], "its own first");
        assert_eq!(addresses[0].host, "ipv4:127.0.0.1");
        assert_eq!(addresses[1].host, "127.0.0.1");
    }

    #[test]
    fn names_stay_single() {
        let mut named = route(2);
        named.members[0].client_address = "broker-0.broker:8081".into();
        let queues = message_queues(&named, &topic(), &Resource::default(), Shape::AllAddresses);
        let counts = queues.iter().map(|queue| {
            let endpoints = queue.broker.clone().and_then(|broker| broker.endpoints);
            endpoints.map_or(0, |endpoints| endpoints.addresses.len())
        });
        assert!(counts.into_iter().all(|count| count == 1));
    }

    #[test]
    fn assignments_do_not_change_with_the_leader() {
        let resource = Resource::default();
        assert_eq!(
            assignments(&route(1), &topic(), &resource, Shape::OneAddress),
            assignments(&route(3), &topic(), &resource, Shape::OneAddress)
        );
    }

    #[test]
    fn endpoints_have_the_scheme_of_their_text() {
        let scheme = |text| endpoints(text).map(|e| e.scheme());
        assert_eq!(scheme("10.0.0.1:1"), Some(AddressScheme::IPv4));
        assert_eq!(scheme("[::1]:1"), Some(AddressScheme::IPv6));
        assert_eq!(scheme("broker-0.broker:8081"), Some(AddressScheme::DomainName));
        assert_eq!(scheme("no port"), None);
    }
}
