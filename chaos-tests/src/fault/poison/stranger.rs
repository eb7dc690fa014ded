//! Requests that are well-formed and absurd: wrong names, numbers at the ends of their ranges,
//! members of other groups.

use prost::Message as _;
use prost_types::Duration;
use raftmq_proto::checksum::Checksummed as _;
use raftmq_proto::{raftmq as wire, v2};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::Door;

/// A node id that nobody has.
const STRANGER: u64 = 99;

/// Path and message of one.
pub(super) fn request(door: Door, random: &mut ChaCha8Rng) -> (&'static str, Vec<u8>) {
    match door {
        Door::Client => of_a_client(random),
        Door::Peer => of_a_peer(random),
        Door::Admin | Door::Http => of_an_operator(random),
        Door::NameServer => of_a_broker(random),
    }
}

fn number(random: &mut ChaCha8Rng) -> u64 {
    let ends = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, u64::from(u32::MAX), 1 << 40];
    ends.choose(random).copied().unwrap_or(u64::MAX)
}

/// Never one that a topic or group may have.
fn name(random: &mut ChaCha8Rng) -> String {
    let names =
        ["", "../../etc/passwd", "nul\0l", "a topic", "%", "\u{202e}kcab", "DROP TABLE topics;--"];
    match random.random_range(0..4) {
        0 => "x".repeat(random.random_range(256..200_000)),
        _ => format!("{}?", names.choose(random).unwrap_or(&"")),
    }
}

fn resource(random: &mut ChaCha8Rng) -> Option<v2::Resource> {
    let none = random.random_bool(0.1);
    (!none).then(|| v2::Resource { name: name(random), resource_namespace: name(random) })
}

fn duration(random: &mut ChaCha8Rng) -> Option<Duration> {
    let seconds = [i64::MIN, -1, 0, i64::MAX].choose(random).copied().unwrap_or(-1);
    Some(Duration { seconds, nanos: random.random() })
}

fn of_a_client(random: &mut ChaCha8Rng) -> (&'static str, Vec<u8>) {
    match random.random_range(0..6) {
        0 => {
            let message = v2::Message {
                topic: resource(random),
                body: vec![b'x'; random.random_range(0..100_000)].into(),
                system_properties: Some(v2::SystemProperties {
                    message_id: name(random),
                    message_type: random.random(),
                    queue_id: random.random(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let messages = vec![message; random.random_range(0..3)];
            let request = v2::SendMessageRequest { messages };
            ("/apache.rocketmq.v2.MessagingService/SendMessage", request.encode_to_vec())
        }
        1 => {
            let request = v2::ReceiveMessageRequest {
                group: resource(random),
                message_queue: Some(v2::MessageQueue {
                    topic: resource(random),
                    id: random.random(),
                    ..Default::default()
                }),
                batch_size: random.random(),
                invisible_duration: duration(random),
                long_polling_timeout: duration(random),
                ..Default::default()
            };
            ("/apache.rocketmq.v2.MessagingService/ReceiveMessage", request.encode_to_vec())
        }
        2 => {
            let entry = v2::AckMessageEntry {
                message_id: name(random),
                receipt_handle: name(random),
                ..Default::default()
            };
            let request = v2::AckMessageRequest {
                group: resource(random),
                topic: resource(random),
                entries: vec![entry; random.random_range(0..20)],
            };
            ("/apache.rocketmq.v2.MessagingService/AckMessage", request.encode_to_vec())
        }
        3 => {
            let request = v2::ChangeInvisibleDurationRequest {
                group: resource(random),
                topic: resource(random),
                receipt_handle: name(random),
                invisible_duration: duration(random),
                ..Default::default()
            };
            let path = "/apache.rocketmq.v2.MessagingService/ChangeInvisibleDuration";
            (path, request.encode_to_vec())
        }
        4 => {
            let request =
                v2::HeartbeatRequest { group: resource(random), client_type: random.random() };
            ("/apache.rocketmq.v2.MessagingService/Heartbeat", request.encode_to_vec())
        }
        _ => {
            let request = v2::QueryRouteRequest { topic: resource(random), ..Default::default() };
            ("/apache.rocketmq.v2.MessagingService/QueryRoute", request.encode_to_vec())
        }
    }
}

/// As a member of another group would speak that was led here by an old address, and as a bit flip
/// in a term looks.
fn of_a_peer(random: &mut ChaCha8Rng) -> (&'static str, Vec<u8>) {
    let vote = Some(wire::Vote {
        term: number(random),
        node_id: [1, 2, 3, STRANGER].choose(random).copied().unwrap_or(STRANGER),
        committed: random.random_bool(0.7),
    });
    let log_id = |random: &mut ChaCha8Rng| {
        let absent = random.random_bool(0.2);
        (!absent).then(|| wire::LogId { term: number(random), index: number(random) })
    };
    match random.random_range(0..6) {
        0 | 1 => {
            let request = wire::AppendRequest {
                vote,
                prev_log_id: log_id(random),
                leader_commit: log_id(random),
                ..Default::default()
            };
            let path = ["/raftmq.v1.Peer/AppendOne", "/raftmq.v1.Peer/Append"];
            (path.choose(random).copied().unwrap_or(path[0]), request.sealed().encode_to_vec())
        }
        2 => {
            let request = wire::VoteRequest {
                vote,
                last_log_id: log_id(random),
                leadership_transfer: random.random(),
                pre_vote: random.random(),
                ..Default::default()
            };
            ("/raftmq.v1.Peer/Vote", request.sealed().encode_to_vec())
        }
        3 => {
            let request = wire::TransferLeaderRequest {
                from_leader: vote,
                to_node_id: random.random_range(1..4),
                last_log_id: log_id(random),
                ..Default::default()
            };
            ("/raftmq.v1.Peer/TransferLeader", request.sealed().encode_to_vec())
        }
        4 => {
            let file = wire::SnapshotFile {
                name: name(random),
                size_bytes: number(random),
                crc32c: random.random(),
            };
            let request = wire::SnapshotOffer {
                vote,
                snapshot_id: name(random),
                last_log_id: log_id(random),
                files: vec![file; random.random_range(0..5)],
                ..Default::default()
            };
            ("/raftmq.v1.Peer/OfferSnapshot", request.sealed().encode_to_vec())
        }
        _ => {
            let request = wire::JoinRequest {
                cluster: name(random),
                group: name(random),
                node_id: random.random_range(1..4),
                volume_id: "0000000000000000".to_owned(),
                peer_address: "localhost:1".to_owned(),
                client_address: "localhost:1".to_owned(),
            };
            ("/raftmq.v1.Peer/Join", request.encode_to_vec())
        }
    }
}

fn of_an_operator(random: &mut ChaCha8Rng) -> (&'static str, Vec<u8>) {
    match random.random_range(0..5) {
        0 => {
            let request = wire::CreateTopicRequest {
                name: name(random),
                queue_count: random.random(),
                message_types: vec![random.random()],
                retention_ms: number(random),
                send_rate_max: random.random(),
                lite_topics_max: random.random(),
                lite_expiration_ms: number(random),
            };
            ("/raftmq.v1.Admin/CreateTopic", request.encode_to_vec())
        }
        1 => {
            let request = wire::CreateTopicRequest {
                name: "too-many-queues".to_owned(),
                queue_count: random.random_range(1025..u32::MAX),
                ..Default::default()
            };
            ("/raftmq.v1.Admin/CreateTopic", request.encode_to_vec())
        }
        2 => {
            let request = wire::CreateGroupRequest {
                name: name(random),
                max_attempts: random.random(),
                fifo: random.random(),
                backoff: Some(wire::Backoff {
                    delays_ms: vec![number(random); random.random_range(0..3)],
                    initial_ms: number(random),
                    max_ms: number(random),
                    multiplier: random.random(),
                }),
                ..Default::default()
            };
            ("/raftmq.v1.Admin/CreateGroup", request.encode_to_vec())
        }
        3 => {
            let request = wire::PeekMessagesRequest {
                topic: name(random),
                queue_id: Some(random.random()),
                offset: Some(number(random)),
                count: random.random(),
                this_node: random.random(),
                ..Default::default()
            };
            ("/raftmq.v1.Admin/PeekMessages", request.encode_to_vec())
        }
        _ => {
            let request = wire::TransferLeaderCommand {
                to_node_id: STRANGER + u64::from(random.random::<u32>()),
                ..Default::default()
            };
            ("/raftmq.v1.Admin/TransferLeader", request.encode_to_vec())
        }
    }
}

fn of_a_broker(random: &mut ChaCha8Rng) -> (&'static str, Vec<u8>) {
    let member = wire::RouteMember {
        node_id: number(random),
        broker_name: name(random),
        client_address: name(random),
    };
    let topic = wire::RouteTopic {
        name: name(random),
        queue_count: random.random(),
        message_types: vec![random.random(); 3],
    };
    let route = wire::GroupRoute {
        cluster: name(random),
        group: name(random),
        term: number(random),
        leader_id: number(random),
        members: vec![member; random.random_range(0..20)],
        topics: vec![topic; random.random_range(0..5)],
        revision: number(random),
        auto_create_topics: random.random(),
    };
    let request = wire::RegisterRequest { route: Some(route), ttl_ms: number(random) };
    ("/raftmq.v1.NameServer/Register", request.encode_to_vec())
}
