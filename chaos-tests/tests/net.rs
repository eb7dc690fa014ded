//! Real packets through the networks of the harness: what is set is what happens, and nothing stays.
//!
//! Tests of namespaces need root and say so when they are skipped.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use raftmq_chaos_tests::net::{
    CLIENTS, Counts, Link, MTU_BYTES, Matrix, Network, OnCut, Proxy, Quality, Residents, preset,
    remove_stale, supported,
};

const MS: Duration = Duration::from_millis(1);
const PORT: u16 = 7000;
/// For anything that should come.
const PATIENCE: Duration = Duration::from_secs(10);
/// No bound on what the network adds, but on what a machine with much other work adds.
const TOO_SLOW: Duration = Duration::from_millis(1000);
/// How long a throughput is measured.
const SPEED_TIME: Duration = Duration::from_millis(300);
/// For what should not come.
const SILENCE: Duration = Duration::from_millis(150);

/// One at a time: they measure.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` where networks can not be made, which is said.
fn network(hosts: &[&str], seed: u64) -> Option<Network> {
    static SUPPORTED: OnceLock<Result<(), String>> = OnceLock::new();
    if let Err(reason) = SUPPORTED.get_or_init(supported) {
        eprintln!("SKIPPED, NOT TESTED: {reason}");
        return None;
    }
    Some(Network::start(hosts, seed).unwrap())
}

fn link(from: &str, to: &str) -> Link {
    Link::new(from, to)
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited for {what}");
        thread::sleep(MS);
    }
}

fn udp(network: &Network, host: &str) -> UdpSocket {
    let address = network.address(host).unwrap();
    let socket = network.inside(host, || UdpSocket::bind((address, PORT))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A TCP connection from one host to another, both ends.
fn tcp(network: &Network, from: &str, to: &str) -> (TcpStream, TcpStream) {
    let address = (network.address(to).unwrap(), PORT);
    let listener = network.inside(to, || TcpListener::bind(address)).unwrap().unwrap();
    let near = network.inside(from, || TcpStream::connect(address)).unwrap().unwrap();
    let (far, _) = listener.accept().unwrap();
    prepare(near, far)
}

fn prepare(near: TcpStream, far: TcpStream) -> (TcpStream, TcpStream) {
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (near, far)
}

/// Time until a byte came back.
fn round_trip(near: &mut TcpStream, far: &mut TcpStream) -> Duration {
    let begin = Instant::now();
    let mut byte = [0];
    near.write_all(b"x").unwrap();
    far.read_exact(&mut byte).unwrap();
    far.write_all(b"y").unwrap();
    near.read_exact(&mut byte).unwrap();
    begin.elapsed()
}

/// The quickest and the median of some.
fn round_trips(count: usize, near: &mut TcpStream, far: &mut TcpStream) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..count).map(|_| round_trip(near, far)).collect();
    times.sort();
    (times[0], times[count / 2])
}

/// Sends this many bytes and returns how long until all were read; they must be what was sent.
fn transfer(size_bytes: usize, from: &mut TcpStream, to: &mut TcpStream) -> Duration {
    let pattern: Vec<u8> = (0..64 * 1024_u32).map(|place| (place % 251) as u8).collect();
    let begin = Instant::now();
    thread::scope(|scope| {
        let sent = &pattern;
        scope.spawn(move || {
            let mut left = size_bytes;
            while left > 0 {
                let length = left.min(sent.len());
                from.write_all(&sent[..length]).unwrap();
                left -= length;
            }
        });
        let mut buffer = vec![0; pattern.len()];
        let mut left = size_bytes;
        while left > 0 {
            let length = left.min(buffer.len());
            to.read_exact(&mut buffer[..length]).unwrap();
            assert!(buffer[..length] == pattern[..length], "bytes changed on their way");
            left -= length;
        }
    });
    begin.elapsed()
}

/// Sends for a while; returns megabytes per second, until the last was read.
fn speed(mut from: TcpStream, mut to: TcpStream) -> f64 {
    let begin = Instant::now();
    let sender = thread::spawn(move || {
        let bytes = vec![7; 256 * 1024];
        loop {
            from.write_all(&bytes).unwrap();
            if begin.elapsed() > SPEED_TIME {
                break;
            }
        }
    });
    let mut buffer = vec![0; 256 * 1024];
    let mut received_bytes = 0;
    loop {
        match to.read(&mut buffer).unwrap() {
            0 => break,
            length => received_bytes += length,
        }
    }
    sender.join().unwrap();
    received_bytes as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

/// TCP segments that a host has sent more than once.
fn sent_again(network: &Network, host: &str) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let table = network.inside(host, read).unwrap();
    let mut rows = table.lines().filter(|line| line.starts_with("Tcp:"));
    let names = rows.next().unwrap().split_whitespace();
    let mut fields = names.zip(rows.next().unwrap().split_whitespace());
    fields.find(|(name, _)| *name == "RetransSegs").unwrap().1.parse().unwrap()
}

/// Sends numbered datagrams and returns the numbers that came, in the order they came.
fn numbered(network: &Network, from: &str, to: &str, count: u32) -> Vec<u32> {
    let (near, far) = (udp(network, from), udp(network, to));
    let way = link(from, to);
    let before = network.links().counts(&way).unwrap();
    let mut came = Vec::new();
    let mut expected = 0;
    // So few at once that no buffer of the kernel overflows.
    for begin in (0..count).step_by(50) {
        let end = count.min(begin + 50);
        for number in begin..end {
            near.send_to(&number.to_be_bytes(), far.local_addr().unwrap()).unwrap();
        }
        let mut counts = Counts::default();
        eventually("the packets to be judged", || {
            counts = network.links().counts(&way).unwrap().since(&before);
            counts.offered_packets == u64::from(end) && counts.waiting() == 0
        });
        while expected < counts.forwarded_packets {
            let mut number = [0; 4];
            assert_eq!(far.recv(&mut number).unwrap(), 4);
            came.push(u32::from_be_bytes(number));
            expected += 1;
        }
    }
    came
}

fn received(socket: &UdpSocket, limit: Duration) -> bool {
    socket.set_read_timeout(Some(limit)).unwrap();
    let received = socket.recv(&mut [0; 64]);
    match received {
        Ok(_) => true,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn delay_is_added_in_its_direction_only() {
    let _alone = alone();
    let Some(network) = network(&["a", "b"], 1) else { return };
    let (mut near, mut far) = tcp(&network, "a", "b");
    let (best, median) = round_trips(500, &mut near, &mut far);
    println!("round trip, perfect: best {best:?}, median {median:?}");
    assert!(best < TOO_SLOW);

    let slow = Quality { delay: 20 * MS, ..Quality::PERFECT };
    network.links().set(&link("a", "b"), slow).unwrap();
    let (best, median) = round_trips(10, &mut near, &mut far);
    println!("round trip, 20 ms there: best {best:?}, median {median:?}");
    assert!(best >= 20 * MS && best < TOO_SLOW);

    network.links().set_default(slow).unwrap();
    let (best, median) = round_trips(10, &mut near, &mut far);
    println!("round trip, 20 ms each way: best {best:?}, median {median:?}");
    assert!(best >= 40 * MS && best < TOO_SLOW);

    let jittery = Quality { jitter: 10 * MS, ..slow };
    network.links().set(&link("a", "b"), jittery).unwrap();
    let (best, median) = round_trips(10, &mut near, &mut far);
    println!("round trip, 0 to 10 ms more there: best {best:?}, median {median:?}");
    assert!(median > 41 * MS && best < TOO_SLOW);
    let counts = network.links().counts(&link("a", "b")).unwrap();
    assert!(counts.delayed >= 30 && counts.reordered == 0, "{counts:?}");
}

#[test]
fn one_way_drop_is_one_way() {
    let _alone = alone();
    let Some(network) = network(&["a", "b"], 2) else { return };
    let (a, b) = (udp(&network, "a"), udp(&network, "b"));
    let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    network.links().cut(&preset::one_way(&["a"], &["b"])).unwrap();
    a.send_to(b"lost", to_b).unwrap();
    b.send_to(b"comes", to_a).unwrap();
    assert!(received(&a, PATIENCE));
    assert!(!received(&b, SILENCE));
    let there = network.links().counts(&link("a", "b")).unwrap();
    let back = network.links().counts(&link("b", "a")).unwrap();
    assert_eq!((there.offered_packets, there.dropped_cut, there.forwarded_packets), (1, 1, 0));
    assert_eq!((back.offered_packets, back.dropped_cut, back.forwarded_packets), (1, 0, 1));
    network.links().heal();
    a.send_to(b"comes", to_b).unwrap();
    assert!(received(&b, PATIENCE));
}

#[test]
fn cut_loses_what_is_on_its_way() {
    let _alone = alone();
    let Some(network) = network(&["a", "b"], 3) else { return };
    let (a, b) = (udp(&network, "a"), udp(&network, "b"));
    let way = link("a", "b");
    let slow = Quality { delay: 50 * MS, ..Quality::PERFECT };
    network.links().set(&way, slow).unwrap();
    a.send_to(b"lost", b.local_addr().unwrap()).unwrap();
    eventually("the packet", || network.links().counts(&way).unwrap().delayed == 1);
    network.links().cut(std::slice::from_ref(&way)).unwrap();
    assert!(!received(&b, SILENCE));
    assert_eq!(network.links().counts(&way).unwrap().dropped_cut, 1);
}

#[test]
fn loss_is_as_set_and_a_matter_of_the_seed() {
    let _alone = alone();
    let hosts = ["a", "b"];
    let lossy = Quality { loss: 0.3, ..Quality::PERFECT };
    let mut runs = Vec::new();
    for seed in [40, 40, 41] {
        let Some(network) = network(&hosts, seed) else { return };
        network.links().set_default(lossy).unwrap();
        let came = numbered(&network, "a", "b", 2000);
        let counts = network.links().counts(&link("a", "b")).unwrap();
        assert_eq!(counts.dropped_loss, 2000 - came.len() as u64);
        let share = counts.dropped_loss as f64 / 2000.0;
        println!("loss of 0.3, seed {seed}: measured {share}");
        // Four standard deviations.
        assert!((share - 0.3).abs() < 0.041, "{share}");
        assert!(came.is_sorted());
        runs.push(came);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[test]
fn copies_and_overtaking() {
    let _alone = alone();
    let Some(network) = network(&["a", "b"], 5) else { return };
    let way = link("a", "b");
    network.links().set(&way, Quality { duplicate: 0.5, ..Quality::PERFECT }).unwrap();
    let came = numbered(&network, "a", "b", 400);
    let counts = network.links().counts(&way).unwrap();
    let different: BTreeSet<u32> = came.iter().copied().collect();
    assert_eq!(different.len(), 400);
    assert_eq!(came.len() as u64, 400 + counts.duplicated);
    assert!((150..250).contains(&counts.duplicated), "{counts:?}");
    assert!(came.is_sorted());

    network.links().set(&way, Quality { reorder: 0.1, ..Quality::PERFECT }).unwrap();
    let came = numbered(&network, "a", "b", 400);
    let reordered = network.links().counts(&way).unwrap().reordered;
    println!("reorder of 0.1: {reordered} of 400 overtaken");
    assert_eq!(came.len(), 400);
    assert!(!came.is_sorted());
    // Those at the end of a burst have nobody behind them.
    assert!((10..80).contains(&reordered), "{reordered}");
}

#[test]
fn short_partition_keeps_connections() {
    let _alone = alone();
    let Some(network) = network(&["a", "b", "c"], 6) else { return };
    let (mut near, mut far) = tcp(&network, "a", "b");
    let (mut other, mut other_far) = tcp(&network, CLIENTS, "c");
    round_trip(&mut near, &mut far);
    let cut = preset::isolate("b", &["a", "b", "c"]);
    network.links().cut(&cut).unwrap();
    near.write_all(b"during").unwrap();
    far.set_read_timeout(Some(300 * MS)).unwrap();
    let mut bytes = [0; 6];
    assert_eq!(far.read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Others do not notice.
    round_trip(&mut other, &mut other_far);
    network.links().mend(&cut).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let begin = Instant::now();
    far.read_exact(&mut bytes).unwrap();
    println!("after a partition of 300 ms data came {:?} later", begin.elapsed());
    assert_eq!(&bytes, b"during");
    round_trip(&mut near, &mut far);
    assert!(network.links().counts_of(&cut).unwrap().dropped_cut > 0);
}

#[test]
fn wire_corruption_is_repaired_and_checked_corruption_is_not() {
    let _alone = alone();
    let Some(network) = network(&["a", "b"], 7) else { return };
    let way = link("a", "b");
    let (mut near, mut far) = tcp(&network, "a", "b");
    network.links().set(&way, Quality { corrupt: 0.02, ..Quality::PERFECT }).unwrap();
    transfer(2_000_000, &mut near, &mut far);
    let counts = network.links().counts(&way).unwrap();
    println!("{} of {} packets corrupted on the wire", counts.corrupted, counts.offered_packets);
    assert!(counts.corrupted > 5);

    let (a, b) = (udp(&network, "a"), udp(&network, "b"));
    let sent = [0b0101_0101; 40];
    let mut came = [0; 40];
    network.links().set(&way, Quality { corrupt_checked: 1.0, ..Quality::PERFECT }).unwrap();
    a.send_to(&sent, b.local_addr().unwrap()).unwrap();
    b.recv(&mut came).unwrap();
    let flipped: u32 = sent.iter().zip(came).map(|(sent, came)| (sent ^ came).count_ones()).sum();
    assert_eq!(flipped, 1);

    let before = network.links().counts(&way).unwrap().corrupted_checked;
    network.links().heal();
    network.links().set(&way, Quality { corrupt_checked: 1.0, ..Quality::PERFECT }).unwrap();
    near.write_all(&[0; 100]).unwrap();
    let mut bytes = [0; 100];
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert!(network.links().counts(&way).unwrap().corrupted_checked > before);
}

#[test]
fn rate_limits_throughput() {
    let _alone = alone();
    let Some(network) = network(&["a", "b"], 8) else { return };
    let (mut near, mut far) = tcp(&network, "a", "b");
    let narrow = Quality { rate_bytes_per_s: Some(2_000_000), ..Quality::PERFECT };
    network.links().set(&link("a", "b"), narrow).unwrap();
    let time = transfer(1_000_000, &mut near, &mut far);
    println!("1 MB at 2 MB/s: {time:?}");
    assert!(time > 480 * MS && time < PATIENCE, "{time:?}");
}

#[test]
fn counters_add_up() {
    let _alone = alone();
    let Some(network) = network(&["a", "b", "c"], 9) else { return };
    let bad = Quality {
        delay: MS,
        jitter: MS,
        loss: 0.01,
        duplicate: 0.01,
        reorder: 0.01,
        corrupt: 0.01,
        ..Quality::PERFECT
    };
    network.links().set_default(bad).unwrap();
    let (mut near, mut far) = tcp(&network, "a", "b");
    transfer(1_000_000, &mut near, &mut far);
    drop((near, far));
    eventually("quiet", || {
        let before = network.counters();
        thread::sleep(50 * MS);
        network.counters() == before
    });
    let counters = network.counters();
    // Between four: a, b, c and the clients.
    assert_eq!(counters.len(), 12);
    for (link, counts) in counters {
        assert_eq!(counts.waiting(), 0, "{link}: {counts:?}");
        let used = !link.from.contains(['c']) && !link.to.contains(['c']);
        assert_eq!(counts.offered_packets > 0, used, "{link}: {counts:?}");
        if link == Link::new("a", "b") {
            println!("{link}: {}", serde_json::to_string(&counts).unwrap());
            let effects = [counts.dropped_loss, counts.duplicated, counts.corrupted];
            assert!(effects.iter().all(|count| *count > 0), "{counts:?}");
            assert!(counts.forwarded_bytes > 1_000_000);
        }
    }
}

#[test]
fn commands_run_on_their_host_and_clients_reach_it() {
    let _alone = alone();
    let Some(network) = network(&["broker-1", "broker-2"], 10) else { return };
    let run = |host: &str, command: &[&str]| {
        let mut words = network.command_prefix(host).unwrap();
        words.extend(command.iter().map(|word| (*word).to_owned()));
        let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for host in ["broker-1", "broker-2"] {
        let shown = run(host, &["ip", "-4", "-oneline", "address"]);
        assert!(shown.contains(&format!("{}/24", network.address(host).unwrap())), "{shown}");
    }
    assert_eq!(network.command_prefix(CLIENTS).unwrap(), Vec::<String>::new());
    // The process that is started is the command itself, so that its owner can kill it.
    let words = network.command_prefix("broker-1").unwrap();
    let mut child =
        Command::new(&words[0]).args(&words[1..]).args(["sleep", "20"]).spawn().unwrap();
    let command_line = format!("/proc/{}/cmdline", child.id());
    eventually("sleep", || std::fs::read(&command_line).unwrap().starts_with(b"sleep"));
    child.kill().unwrap();
    child.wait().unwrap();

    let (mut near, mut far) = tcp(&network, CLIENTS, "broker-2");
    let clients = network.address(CLIENTS).unwrap();
    assert_eq!(far.peer_addr().unwrap().ip(), clients);
    round_trip(&mut near, &mut far);
    assert!(network.links().counts(&link(CLIENTS, "broker-2")).unwrap().forwarded_packets > 1);
    assert!(network.address("broker-3").is_err());
}

#[test]
fn nothing_is_left() {
    let _alone = alone();
    let Some(network) = network(&["a", "b"], 11) else { return };
    let name = network.namespace("a").unwrap().unwrap().to_owned();
    let prefix = name.strip_suffix("-a").unwrap().to_owned();
    let device = format!("/sys/class/net/{}", network.device());
    let left = || {
        let names = std::fs::read_dir("/var/run/netns").unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&prefix)).count()
    };
    assert_eq!(left(), 2);
    assert!(std::fs::exists(&device).unwrap());
    // A second one at the same time has other addresses.
    let second = Network::start(&["a"], 11).unwrap();
    assert_ne!(second.address("a").unwrap(), network.address("a").unwrap());
    drop(second);
    drop(network);
    assert_eq!(left(), 0);
    assert!(!std::fs::exists(&device).unwrap());

    // One that died without cleaning up.
    let mut child = Command::new("true").spawn().unwrap();
    let stale = format!("raftmq-{}-1-0-a", child.id());
    child.wait().unwrap();
    assert!(Command::new("ip").args(["netns", "add", &stale]).status().unwrap().success());
    let removed = remove_stale();
    assert!(removed.contains(&stale), "{removed:?}");
    assert!(!std::fs::exists(format!("/var/run/netns/{stale}")).unwrap());
}

#[test]
fn throughput() {
    let _alone = alone();
    if network(&["a"], 12).is_none() {
        return;
    }
    for mtu_bytes in [MTU_BYTES, 9000, 65_535] {
        let network = Network::start_with_mtu(&["a", "b"], 12, mtu_bytes).unwrap();
        let (near, far) = tcp(&network, "a", "b");
        let perfect = speed(near, far);
        let delayed = Quality { delay: MS, ..Quality::PERFECT };
        network.links().set_default(delayed).unwrap();
        let (near, far) = tcp(&network, "a", "b");
        let slower = speed(near, far);
        let again = sent_again(&network, "a");
        println!(
            "MTU {mtu_bytes}: {perfect:.0} MB/s; 1 ms each way: {slower:.0} MB/s; {again} sent again"
        );
        // The switch lost nothing, so it may only be what was taken for lost while nobody ran.
        let counts = network.links().counts_of(&network.links().links()).unwrap();
        assert_eq!((counts.dropped(), counts.reordered), (0, 0));
        assert!(perfect > 0.0 && slower > 0.0);
    }
}

/// A proxy between `a` and `b`, and both ends of a connection through it.
fn proxied(on_cut: OnCut, seed: u64) -> (Proxy, SocketAddr, TcpListener, TcpStream, TcpStream) {
    let proxy = Proxy::start(&["a", "b"], seed, on_cut).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.route("a", "b", listener.local_addr().unwrap()).unwrap();
    let near = TcpStream::connect(address).unwrap();
    let (far, _) = listener.accept().unwrap();
    let (near, far) = prepare(near, far);
    (proxy, address, listener, near, far)
}

fn counts(links: &Matrix, from: &str, to: &str) -> Counts {
    links.counts(&link(from, to)).unwrap()
}

#[test]
fn proxy_throughput() {
    let _alone = alone();
    let (_proxy, _, _listener, near, far) = proxied(OnCut::Hold, 24);
    let perfect = speed(near, far);
    println!("proxy: {perfect:.0} MB/s");
    assert!(perfect > 0.0);
}

#[test]
fn proxy_carries_and_delays() {
    let _alone = alone();
    let (proxy, _, _listener, mut near, mut far) = proxied(OnCut::Hold, 20);
    let (best, median) = round_trips(200, &mut near, &mut far);
    println!("proxy, round trip: best {best:?}, median {median:?}");
    assert!(best < TOO_SLOW);

    proxy.links().set(&link("b", "a"), Quality { delay: 20 * MS, ..Quality::PERFECT }).unwrap();
    let (best, _) = round_trips(5, &mut near, &mut far);
    assert!(best >= 20 * MS && best < TOO_SLOW, "{best:?}");
    proxy.links().heal();

    let narrow = Quality { rate_bytes_per_s: Some(2_000_000), ..Quality::PERFECT };
    proxy.links().set(&link("a", "b"), narrow).unwrap();
    let time = transfer(1_000_000, &mut near, &mut far);
    assert!(time > 450 * MS && time < PATIENCE, "{time:?}");

    // The end of a stream is carried too, each way by itself.
    proxy.links().heal();
    near.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
    far.write_all(b"last words").unwrap();
    drop(far);
    let mut words = String::new();
    near.read_to_string(&mut words).unwrap();
    assert_eq!(words, "last words");
    for (link, counts) in proxy.counters() {
        assert_eq!(counts.waiting(), 0, "{link}: {counts:?}");
        assert_eq!(counts.offered_bytes, counts.forwarded_bytes, "{link}: {counts:?}");
    }
}

#[test]
fn proxy_holds_what_a_partition_would() {
    let _alone = alone();
    let (proxy, address, listener, mut near, mut far) = proxied(OnCut::Hold, 21);
    let cut = preset::one_way(&["a"], &["b"]);
    proxy.links().cut(&cut).unwrap();
    near.write_all(b"held").unwrap();
    far.write_all(b"back").unwrap();
    let mut bytes = [0; 4];
    near.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"back");
    far.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(far.read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    // New connections hang; who gives up does not appear later.
    let impatient = TcpStream::connect(address).unwrap();
    let mut patient = TcpStream::connect(address).unwrap();
    patient.write_all(b"wait").unwrap();
    drop(impatient);
    // One chunk and two connections.
    eventually("all to be held", || counts(proxy.links(), "a", "b").held_cut == 3);
    listener.set_nonblocking(true).unwrap();
    thread::sleep(SILENCE);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    proxy.links().heal();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"held");
    listener.set_nonblocking(false).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"wait");
    listener.set_nonblocking(true).unwrap();
    thread::sleep(SILENCE);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    // What comes after is not held.
    let (mut near, mut far) = prepare(near, far);
    round_trips(10, &mut near, &mut far);
    assert_eq!(counts(proxy.links(), "a", "b").held_cut, 3);
    assert_eq!(counts(proxy.links(), "b", "a").held_cut, 0);
}

#[test]
fn proxy_front_has_a_link_for_each_who_connects() {
    let _alone = alone();
    let proxy = Proxy::start(&["a", "b", CLIENTS], 25, OnCut::Hold).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let residents = Residents::default();
    let target = listener.local_addr().unwrap();
    let address = proxy.front("b", target, residents.clone()).unwrap();
    let connect = || {
        let near = TcpStream::connect(address).unwrap();
        let (far, _) = listener.accept().unwrap();
        prepare(near, far)
    };
    // As long as this process is no host, it is a client.
    let (mut client, mut client_far) = connect();
    residents.note("a", std::process::id());
    let (mut near, mut far) = connect();
    round_trip(&mut near, &mut far);
    proxy.links().cut(&preset::isolate("a", &["b"])).unwrap();
    near.write_all(b"held").unwrap();
    far.set_read_timeout(Some(SILENCE)).unwrap();
    let mut bytes = [0; 4];
    assert_eq!(far.read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    round_trips(10, &mut client, &mut client_far);
    eventually("it to be held", || counts(proxy.links(), "a", "b").held_cut == 1);
    assert_eq!(counts(proxy.links(), CLIENTS, "b").held_cut, 0);
    proxy.links().heal();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"held");

    // Whom a host asks itself is on no link.
    residents.note("a", u32::MAX);
    residents.note("b", std::process::id());
    proxy.links().cut(&preset::isolate("b", &["a", CLIENTS])).unwrap();
    let (mut own, mut own_far) = connect();
    round_trips(10, &mut own, &mut own_far);
}

#[test]
fn proxy_closes_if_it_is_to() {
    let _alone = alone();
    let (proxy, address, listener, mut near, mut far) = proxied(OnCut::Close, 22);
    round_trip(&mut near, &mut far);
    proxy.links().cut(&preset::isolate("b", &["a"])).unwrap();
    let ended = |stream: &mut TcpStream| match stream.read(&mut [0; 8]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(ended(&mut near) && ended(&mut far));
    let mut refused = TcpStream::connect(address).unwrap();
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(ended(&mut refused));
    assert_eq!(counts(proxy.links(), "a", "b").dropped_cut, 2);
    proxy.links().heal();
    let near = TcpStream::connect(address).unwrap();
    let (far, _) = listener.accept().unwrap();
    let (mut near, mut far) = prepare(near, far);
    round_trip(&mut near, &mut far);
}

#[test]
fn proxy_makes_lost_data_late_and_flips_bits() {
    let _alone = alone();
    let (proxy, _, _listener, mut near, mut far) = proxied(OnCut::Hold, 23);
    proxy.links().set(&link("a", "b"), Quality { loss: 0.3, ..Quality::PERFECT }).unwrap();
    let slow = (0..10).filter(|_| round_trip(&mut near, &mut far) >= 200 * MS).count() as u64;
    let counted = counts(proxy.links(), "a", "b");
    println!("proxy, loss of 0.3: {slow} of 10 late");
    assert!((1..10).contains(&counted.held_loss) && counted.held_loss <= slow, "{counted:?}");

    let flip = Quality { corrupt_checked: 1.0, ..Quality::PERFECT };
    proxy.links().set(&link("a", "b"), flip).unwrap();
    near.write_all(&[0; 10]).unwrap();
    let mut bytes = [0; 10];
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}
