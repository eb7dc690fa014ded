//! The shape of a route: how a broker group looks to a client.
//!
//! Official clients treat several addresses in one `Endpoints` differently (some try them in order,
//! some pick one for ever, some can not parse them), but all of them retry a failed send on another
//! *broker name*. So each node of a group is listed as a broker of its own with a single address.
//! Every node accepts every call, and the leader alone decides the real queue; so the queues listed
//! here only steer traffic: all of them at the leader, one at each follower.
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
use crate::v2::Permission;
use crate::v2::Resource;

/// The queue id that stands for "any queue of that broker" in an assignment.
pub const ANY_QUEUE: i32 = -1;

/// The queues of `topic` as a producer or simple consumer sees them, the leader's first.
///
/// `resource` is echoed in each queue, as clients compare it with what they asked for.
pub fn message_queues(
    route: &GroupRoute,
    topic: &RouteTopic,
    resource: &Resource,
) -> Vec<MessageQueue> {
    let mut queues = Vec::new();
    for member in leader_first(route) {
        let queue_count = if member.node_id == route.leader_id { topic.queue_count } else { 1 };
        for id in 0..queue_count {
            queues.push(message_queue(member, topic, resource, id as i32));
        }
    }
    queues
}

/// One assignment for each node, with [`ANY_QUEUE`]: every member of a consumer group may receive
/// from every queue through any node.
///
/// The order does not depend on who leads: clients restart their receive loops when an assignment
/// changes, and a failover must not make them do so.
pub fn assignments(route: &GroupRoute, topic: &RouteTopic, resource: &Resource) -> Vec<Assignment> {
    let mut members: Vec<&RouteMember> = route.members.iter().collect();
    members.sort_by_key(|member| member.node_id);
    members
        .into_iter()
        .map(|member| Assignment {
            message_queue: Some(message_queue(member, topic, resource, ANY_QUEUE)),
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

fn message_queue(
    member: &RouteMember,
    topic: &RouteTopic,
    resource: &Resource,
    id: i32,
) -> MessageQueue {
    MessageQueue {
        topic: Some(resource.clone()),
        id,
        permission: Permission::ReadWrite.into(),
        broker: Some(Broker {
            name: member.broker_name.clone(),
            // 0 marks a broker that takes writes; clients ignore all others.
            id: 0,
            endpoints: endpoints(&member.client_address),
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
        let queues = message_queues(&route(2), &topic(), &Resource::default());
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
    fn assignments_do_not_change_with_the_leader() {
        let resource = Resource::default();
        assert_eq!(
            assignments(&route(1), &topic(), &resource),
            assignments(&route(3), &topic(), &resource)
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
