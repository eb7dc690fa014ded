//! Draws one thing to send, and how to part.

use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

use super::Door;
use super::http2;
use super::stranger;

/// What is done once it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Wait for what the server does.
    Listen,
    /// Close at once.
    Leave,
    /// Close with a reset.
    Reset,
    /// Stay, silent.
    Hold,
}

/// Bytes of a connection.
pub(super) struct Input {
    pub bytes: Vec<u8>,
    pub manner: Manner,
    /// On as many connections, one after the other.
    pub times: u32,
}

impl Input {
    /// Draws one for a port.
    pub fn draw(door: Door, random: &mut ChaCha8Rng) -> Self {
        let kind = random.random_range(0..13);
        let once = |bytes, manner| Self { bytes, manner, times: 1 };
        match kind {
            0 => once(garbage(random, 4096), Manner::Listen),
            1 => once(garbage(random, 4096), Manner::Reset),
            2 => once(tls_garbage(random), Manner::Listen),
            3 => once(frames(random), Manner::Listen),
            4 => once(flood(door, random), Manner::Listen),
            5 => once(half(door, random), Manner::Hold),
            6 => Self { bytes: Vec::new(), manner: Manner::Leave, times: 100 },
            7 => once(claims(door, random), Manner::Listen),
            8 => once(claims(door, random), Manner::Hold),
            9 if door == Door::Http => once(http1(random), Manner::Hold),
            _ if door == Door::Http => once(http1(random), Manner::Listen),
            9 | 10 => {
                let path = path(door, random);
                once(http2::call(path, &garbage(random, 2000)), Manner::Listen)
            }
            _ => {
                let (path, message) = stranger::request(door, random);
                once(http2::call(path, &message), Manner::Listen)
            }
        }
    }
}

fn garbage(random: &mut ChaCha8Rng, bytes_max: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(1..bytes_max)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// A TLS record of the type that opens a handshake, with nothing sensible in it.
fn tls_garbage(random: &mut ChaCha8Rng) -> Vec<u8> {
    let body = garbage(random, 600);
    let claimed = if random.random_bool(0.5) { body.len() as u16 } else { random.random() };
    let minor = random.random_range(0..5);
    [&[0x16, 3, minor][..], &claimed.to_be_bytes(), &body].concat()
}

/// Random frames behind a right beginning, some with lengths that do not come.
fn frames(random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = http2::opening();
    for _ in 0..random.random_range(1..20) {
        let (kind, flags) = (random.random_range(0..12), random.random());
        let stream = random.random_range(0..5);
        if random.random_bool(0.2) {
            let length = random.random_range(0..1 << 24);
            bytes.extend_from_slice(&http2::frame_head(length, kind, flags, stream));
        } else {
            let payload = garbage(random, 100);
            bytes.extend_from_slice(&http2::frame(kind, flags, stream, &payload));
        }
    }
    bytes
}

/// Many cheap frames that each ask for work: calls that are taken back, pings, settings, headers
/// without an end.
fn flood(door: Door, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = http2::opening();
    let count = random.random_range(500..2000);
    match random.random_range(0..4) {
        0 => {
            let path = path(door, random);
            for number in 0..count {
                let stream = 2 * number + 1;
                bytes.extend_from_slice(&http2::call_head(stream, path, true));
                bytes.extend_from_slice(&http2::frame(http2::RST_STREAM, 0, stream, &[0; 4]));
            }
        }
        1 => (0..count).for_each(|_| bytes.extend(http2::frame(http2::PING, 0, 0, &[0; 8]))),
        2 => {
            let setting = [0, 4, 0, 0, 255, 255];
            (0..count).for_each(|_| bytes.extend(http2::frame(http2::SETTINGS, 0, 0, &setting)));
        }
        _ => {
            bytes.extend_from_slice(&http2::call_head(1, "/", false));
            for number in 0..count {
                let field = http2::field(&format!("x-{number}"), &"y".repeat(200));
                bytes.extend_from_slice(&http2::frame(http2::CONTINUATION, 0, 1, &field));
            }
        }
    }
    bytes
}

/// The beginning of something right, up to any point in it.
fn half(door: Door, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = if door == Door::Http {
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()
    } else {
        http2::call(path(door, random), &garbage(random, 200))
    };
    bytes.truncate(random.random_range(1..bytes.len()));
    bytes
}

/// A call whose message claims to be huge and is not.
fn claims(door: Door, random: &mut ChaCha8Rng) -> Vec<u8> {
    let length = [u32::MAX, 1 << 31, 200 << 20, 120 << 20, 60 << 20].choose(random);
    let message = http2::message(1, length.copied().unwrap_or(u32::MAX), &garbage(random, 30_000));
    [http2::opening(), http2::call_head(1, path(door, random), true), message].concat()
}

fn http1(random: &mut ChaCha8Rng) -> Vec<u8> {
    let long = "a".repeat(random.random_range(1..100_000));
    let requests = [
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n"),
        "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\nx"
            .to_owned(),
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n"
            .to_owned(),
        format!("GET /readyz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(random.random_range(1..5000))),
        "GET /metrics HTTP/1.0\r\n\r\n".repeat(20),
    ];
    requests.choose(random).cloned().unwrap_or_default().into_bytes()
}

fn path(door: Door, random: &mut ChaCha8Rng) -> &'static str {
    let paths: &[&str] = match door {
        Door::Client => &[
            "/apache.rocketmq.v2.MessagingService/SendMessage",
            "/apache.rocketmq.v2.MessagingService/ReceiveMessage",
            "/apache.rocketmq.v2.MessagingService/AckMessage",
            "/apache.rocketmq.v2.MessagingService/Telemetry",
            "/apache.rocketmq.v2.MessagingService/QueryRoute",
            "/apache.rocketmq.v2.MessagingService/EndTransaction",
            "/apache.rocketmq.v2.MessagingService/NoSuchCall",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.health.v1.Health/Check",
        ],
        Door::Peer => &[
            "/raftmq.v1.Peer/Append",
            "/raftmq.v1.Peer/AppendOne",
            "/raftmq.v1.Peer/Vote",
            "/raftmq.v1.Peer/TransferLeader",
            "/raftmq.v1.Peer/OfferSnapshot",
            "/raftmq.v1.Peer/InstallSnapshot",
            "/raftmq.v1.Peer/Join",
            "/raftmq.v1.Peer/NodeStatus",
        ],
        Door::Admin | Door::Http => &[
            "/raftmq.v1.Admin/CreateTopic",
            "/raftmq.v1.Admin/DescribeTopic",
            "/raftmq.v1.Admin/PeekMessages",
            "/raftmq.v1.Admin/DescribeGroup",
            "/raftmq.v1.Admin/ClusterStatus",
            "/raftmq.v1.Admin/NoSuchCall",
        ],
        Door::NameServer => &[
            "/raftmq.v1.NameServer/Register",
            "/raftmq.v1.NameServer/ListRoutes",
            "/apache.rocketmq.v2.MessagingService/QueryRoute",
            "/apache.rocketmq.v2.MessagingService/SendMessage",
        ],
    };
    paths.choose(random).copied().unwrap_or("/")
}
