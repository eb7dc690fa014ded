//! The binary as a shell sees it: output, exit codes, signals.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;

#[test]
fn help_teaches() {
    let help = raftmq(&["--help"]);
    assert_eq!(help.code(), 0);
    for part in ["raftmq topic create demo", "Exit codes:", "4  not available", "RAFTMQ_LOG_FORMAT"]
    {
        assert!(help.out().contains(part), "{part} is not in {}", help.out());
    }
    assert!(raftmq(&["message", "--help"]).out().contains("Examples:"));
    assert_eq!(raftmq(&["no-such-verb"]).code(), 2);
}

#[test]
fn nobody_there_is_told_with_what_to_do() {
    let listed = raftmq(&["topic", "list", "--admin", "127.0.0.1:1"]);
    assert_eq!(listed.code(), 4);
    assert!(listed.err().contains("Connection refused"), "{}", listed.err());
    assert!(listed.err().contains("`raftmq dev`"), "{}", listed.err());
    let sent = raftmq(&["message", "send", "demo", "x", "--endpoint", "127.0.0.1:1"]);
    assert_eq!(sent.code(), 4);
    assert!(sent.err().contains("`raftmq dev`"), "{}", sent.err());
    assert_eq!(raftmq(&["topic", "create", "a b"]).code(), 2);
    assert_eq!(raftmq(&["message", "send", "demo", ""]).code(), 2);
}

#[test]
fn a_variable_wins_over_the_file_and_a_flag_over_both() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "group = 'file'\ncluster = 'file'\nsegment_bytes = 1").unwrap();
    let path = file.path().to_str().unwrap();
    let printed = command(&["broker", "--print-config", "--config", path, "--cluster", "flag"])
        .env("RAFTMQ_GROUP", "variable")
        .env("RAFTMQ_CLUSTER", "variable")
        .output()
        .unwrap();
    assert_eq!(printed.code(), 0, "{}", printed.err());
    for line in ["cluster = \"flag\"", "group = \"variable\"", "segment_bytes = 1"] {
        assert!(printed.out().contains(line), "{line} is not in {}", printed.out());
    }
}

#[test]
fn an_unknown_key_is_wrong_usage() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "listem = '127.0.0.1:1'").unwrap();
    let started = raftmq(&["namesrv", "--config", file.path().to_str().unwrap()]);
    assert_eq!(started.code(), 2);
    assert!(started.err().contains("unknown field `listem`"), "{}", started.err());
}

#[test]
fn a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let started = raftmq(&["namesrv", "--http-listen", "127.0.0.1:0", "--listen", &address]);
    assert_eq!(started.code(), 1);
    assert!(started.err().contains("is another raftmq running?"), "{}", started.err());
}

#[test]
fn the_echo_server_can_be_measured() {
    let mut echo = Server::start(command(&["bench", "echo-server", "--listen", "127.0.0.1:0"]));
    let line = echo.wait_for("--endpoint ");
    let endpoint = line.rsplit_once(' ').unwrap().1.to_owned();
    for rate in ["0", "200"] {
        let measured = raftmq(&[
            "bench",
            "send",
            "--endpoint",
            &endpoint,
            "--seconds",
            "0.5",
            "--warmup-seconds",
            "0",
            "--concurrency",
            "4",
            "--connections",
            "2",
            "--rate",
            rate,
            "--output",
            "json",
        ]);
        assert_eq!(measured.code(), 0, "{}", measured.err());
        let report: Value = serde_json::from_str(&measured.out()).unwrap();
        assert!(report["messages_per_s"].as_f64().unwrap() > 1.0, "{report}");
        assert!(report["p999_us"].as_u64().unwrap() > 0, "{report}");
        assert_eq!(report["errors"], 0, "{report}");
    }
    assert_eq!(echo.terminate().code(), Some(0));
}

#[test]
fn the_disk_can_be_measured() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let measured = raftmq(&["bench", "disk", "--dir", path, "--seconds", "0", "--output", "json"]);
    let report: Value = serde_json::from_str(&measured.out()).unwrap();
    assert!(report["sequential_mb_per_s"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_first_minutes_with_dev() {
    let dir = tempfile::tempdir().unwrap();
    let (mut dev, port) =
        start_dev(dir.path(), &["--auto-create-topics=false", "--auto-create-groups=false"]);
    let admin = ["--admin", &format!("127.0.0.1:{}", port + 102)];
    let endpoint = ["--endpoint", &format!("127.0.0.1:{port}")];
    let admin = |args: &[&str]| raftmq(&[args, &admin].concat());
    let client = |args: &[&str]| raftmq(&[args, &endpoint].concat());

    assert_eq!(client(&["message", "send", "demo", "x"]).code(), 3);
    assert_eq!(admin(&["topic", "create", "demo"]).code(), 0);
    assert_eq!(admin(&["topic", "create", "demo"]).code(), 5);
    assert_eq!(admin(&["topic", "describe", "other"]).code(), 3);
    assert_eq!(admin(&["group", "create", "readers"]).code(), 0);

    let sent =
        retry(|| client(&["message", "send", "demo", "hello", "--tag", "t", "--output=json"]));
    let sent: Value = serde_json::from_str(&sent.out()).unwrap();
    let peeked = admin(&["message", "peek", "demo", "--output=json"]);
    assert!(peeked.out().contains(sent["message_id"].as_str().unwrap()), "{}", peeked.out());

    let receive = ["message", "receive", "demo", "--group", "readers", "--output=json"];
    let received = client(&receive);
    let received: Value = serde_json::from_str(&received.out()).unwrap();
    assert_eq!(received["message_id"], sent["message_id"]);
    assert_eq!(received["body"], "hello");
    assert_eq!(received["attempt"], 1);
    let nothing = client(&[&receive[..], &["--wait=1s"]].concat());
    assert_eq!(nothing.code(), 3, "{}", nothing.out());
    let stranger = client(&["message", "receive", "demo", "--group", "nobody"]);
    assert_ne!(stranger.code(), 0);
    assert!(stranger.err().contains("consumer group nobody does not exist"), "{}", stranger.err());

    let status = admin(&["cluster", "status", "--output=json"]);
    let status: Value = serde_json::from_str(&status.out()).unwrap();
    assert_eq!(status[0]["leader_id"], 1, "{status}");

    assert_eq!(dev.terminate().code(), Some(0));
    drop(dev);
    let (mut dev, port) = start_dev(dir.path(), &[]);
    let admin = format!("127.0.0.1:{}", port + 102);
    let listed = raftmq(&["topic", "list", "--output=json", "--admin", &admin]);
    assert!(listed.out().contains("\"name\":\"demo\""), "{}", listed.out());
    assert_eq!(dev.terminate().code(), Some(0));
}

#[test]
fn dev_makes_what_is_asked_for_and_limits_can_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let (mut dev, port) = start_dev(dir.path(), &[]);
    let (admin, client) = commands_of(port);

    let sent = client("message send never-made hello").json();
    let received = client("message receive never-made --group nobody").json();
    assert_eq!(
        (&received["message_id"], &received["body"]),
        (&sent["message_id"], &"hello".into())
    );
    let topic = admin("topic describe never-made").json();
    assert_eq!((&topic["queue_count"], &topic["message_type"]), (&8.into(), &"NORMAL".into()));
    assert_eq!(topic["groups"], serde_json::json!(["nobody"]));
    assert_eq!(admin("group describe nobody").json()["max_attempts"], 17);
    assert_eq!(client("message send %DLQ%nobody x").code(), 3, "only the broker creates these");

    let limited = admin("topic create limited --send-rate 7").json();
    assert_eq!(limited["send_rate_max"], 7);
    assert_eq!(admin("topic update limited --send-rate 9").json()["send_rate_max"], 9);
    assert_eq!(admin("topic describe limited").json()["send_rate_max"], 9);
    assert_eq!(admin("topic update other --send-rate 9").code(), 3);
    let limited = admin("group create limited --receive-rate 7").json();
    assert_eq!(limited["receive_rate_max"], 7);
    assert_eq!(admin("group update limited --receive-rate 0").json()["receive_rate_max"], 0);
    assert_eq!(admin("group update other --receive-rate 9").code(), 3);
    assert_eq!(dev.terminate().code(), Some(0));
}

#[test]
fn a_lite_topic_is_made_by_sending_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut dev, port) = start_dev(dir.path(), &[]);
    let (admin, client) = commands_of(port);

    assert!(admin("topic create plain --lite-topics 5").err().contains("of type LITE"));
    let made = admin("topic create sessions --type lite --lite-topics 2").json();
    assert_eq!((&made["message_type"], &made["lite"]["topics_max"]), (&"LITE".into(), &2.into()));
    admin("group create readers --lite-subscriptions 1").json();
    for name in ["s1", "s2"] {
        retry(|| client(&format!("message send sessions to-{name} --lite-topic {name}")));
    }
    let third = client("message send sessions x --lite-topic s3");
    assert!(third.err().contains("has 2 lite topics"), "{}", third.err());
    let receive = "message receive sessions --group readers --lite-topic s2";
    assert_eq!(client(receive).json()["body"], "to-s2");
    let two = client(&format!("{receive} --lite-topic s1"));
    assert!(two.err().contains("allows 1 to each client"), "{}", two.err());

    let page = admin("lite list sessions --limit 1").json();
    assert_eq!((&page["total_count"], &page["next_name"]), (&2.into(), &"s2".into()));
    let s2 = &admin("lite list sessions --from s2").json()["lite_topics"][0];
    assert_eq!((&s2["name"], &s2["groups"][0]["lag_count"]), (&"s2".into(), &0.into()));
    let peeked = admin("message peek sessions --lite-topic s1").json();
    assert_eq!(peeked[0]["body"], "to-s1");
    let describe = admin("group describe readers").json();
    assert_eq!(describe["progress"][0]["lite_topic_count"], 1, "{describe}");
    assert_eq!(dev.terminate().code(), Some(0));
}

#[test]
fn operators_steer_groups_and_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let (mut dev, port) = start_dev(dir.path(), &[]);
    let (admin, client) = commands_of(port);

    let made = admin("topic create orders --queues 1 --type mixed").json();
    assert_eq!(made["message_type"], "MIXED");
    let made = admin("group create readers --fifo --max-attempts 1 --backoff 1s,5s").json();
    assert_eq!((&made["fifo"], &made["start"]), (&Value::from(true), &Value::from("first")));
    assert_eq!(made["backoff"]["delays_ms"], serde_json::json!([1000, 5000]));
    assert_eq!(admin("topic create other --type round").code(), 2);
    assert_eq!(admin("group create other --backoff soon").code(), 2);
    assert_eq!(admin("transaction list").json()["total_count"], 0);

    // Two messages of one message group: the second waits for the first.
    for body in ["one", "two"] {
        let line = format!("message send orders {body} --message-group g --tag {body}");
        retry(|| client(&line));
    }
    let receive = "message receive orders --group readers";
    let one = client(&format!("{receive} --no-ack --invisible 10s")).json();
    assert_eq!(one["body"], "one");
    let described = admin("group describe readers").json();
    assert_eq!(described["total"]["inflight_count"], 1, "{described}");
    assert_eq!(described["total"]["lag_count"], 2, "{described}");

    // Its only attempt runs out: it becomes a dead letter, and the second one is free.
    assert_eq!(client(&format!("{receive} --wait 20s")).json()["body"], "two");
    let listed = admin("dlq list").json();
    assert_eq!((&listed[0]["group"], &listed[0]["count"]), (&"readers".into(), &1.into()));
    let peeked = admin("dlq peek readers").json();
    assert_eq!(peeked[0]["origin_topic"], "orders", "{peeked}");
    assert_eq!(peeked[0]["body"], "one", "{peeked}");
    assert_eq!(admin("dlq peek nobody").code(), 3);

    let redrive = |rest: &str| admin(&format!("dlq redrive readers {rest}")).json();
    let swept = redrive("--filter two --execute");
    assert_eq!((&swept["done_count"], &swept["skipped_count"]), (&0.into(), &1.into()));
    assert_eq!(redrive("")["done_count"], 1);
    let swept = redrive("--rate 100/s --execute");
    assert_eq!((&swept["done_count"], &swept["executed"]), (&1.into(), &true.into()));
    assert_eq!(redrive("--execute")["done_count"], 0);
    assert_eq!(client(receive).json()["body"], "one");

    let reset = |rest: &str| admin(&format!("group reset-offset readers --topic orders {rest}"));
    let dry = reset("--to first").json();
    assert_eq!((&dry["queues"][0]["to_offset"], &dry["executed"]), (&0.into(), &false.into()));
    assert_eq!(client(&format!("{receive} --wait 1s")).code(), 3, "a dry run changes nothing");
    assert_eq!(reset("--to offset:1 --execute").json()["queues"][0]["from_offset"], 3);
    assert_eq!(client(receive).json()["body"], "two");
    assert_eq!(reset("--to offset:99").code(), 1);
    assert_eq!(reset("--to whenever").code(), 2);

    let pull = "message pull orders --group readers --queue 0";
    let pulled = client(&format!("{pull} --offset 0 --count 2")).json();
    assert_eq!(
        (&pulled["messages"][1]["body"], &pulled["next_offset"]),
        (&"two".into(), &2.into())
    );
    assert_ne!(client(&format!("{pull} --offset 99")).code(), 0);

    let sent = client("message send orders later --delay 1h").json();
    let recall = format!("message recall orders {}", sent["recall_handle"].as_str().unwrap());
    assert_eq!(client(&recall).json()["message_id"], sent["message_id"]);
    assert_ne!(client("message recall orders nonsense").code(), 0);
    assert_eq!(dev.terminate().code(), Some(0));
}

#[test]
fn a_message_is_found_with_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let (mut dev, port) = start_dev(dir.path(), &[]);
    let admin = ["--admin", &format!("127.0.0.1:{}", port + 102)];
    let endpoint = ["--endpoint", &format!("127.0.0.1:{port}")];
    let json = ["--output", "json"];
    let admin_text = |line: &str| raftmq(&[&words(line)[..], &admin].concat());
    let admin = |line: &str| raftmq(&[&words(line)[..], &admin, &json].concat());
    let client = |line: &str| raftmq(&[&words(line)[..], &endpoint, &json].concat());

    assert_eq!(admin("topic create orders").code(), 0);
    assert_eq!(admin("group create readers").code(), 0);
    let sent = retry(|| client("message send orders one --key order-17")).json();
    let received = client("message receive orders --group readers --wait 10s").json();
    assert_eq!(received["body"], "one", "{received}");

    let id = sent["message_id"].as_str().unwrap();
    for by in [
        format!("--id {id}"),
        "--key order-17".to_owned(),
        "--from 2020-01-01T00:00:00Z".to_owned(),
    ] {
        let found = admin(&format!("message find orders {by}")).json();
        assert_eq!(found[0]["message"]["message_id"], id, "{by}: {found}");
        assert_eq!(found[0]["groups"][0]["state"], "consumed", "{by}: {found}");
    }
    let told = admin(&format!("message find orders --id {id} --history")).json();
    let events = told[0]["history"]["events"].as_array().unwrap().clone();
    let names: Vec<&Value> = events.iter().map(|event| &event["event"]).collect();
    assert_eq!(names, ["stored", "handed out", "acknowledged"], "{told}");
    assert_eq!((&events[1]["group"], &events[1]["attempt"]), (&"readers".into(), &1.into()));
    assert_ne!(events[1]["client_id"].as_str().unwrap(), "");
    let text = admin_text(&format!("message find orders --id {id} --history")).out();
    assert!(text.contains("handed out, attempt 1, until"), "{text}");

    assert_eq!(admin("message find orders --key order-18").code(), 3);
    assert_eq!(admin("message find nowhere --key order-17").code(), 3);
    assert_eq!(admin("message find orders").code(), 2);
    assert_eq!(admin("message find orders --id 1 --key 2").code(), 2);
    assert_eq!(dev.terminate().code(), Some(0));
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Commands for the operators' port and for clients of what `start_dev` started, which print JSON.
fn commands_of(port: u16) -> (impl Fn(&str) -> Output, impl Fn(&str) -> Output) {
    let with = |option: &'static str, port: u16| {
        let address = format!("127.0.0.1:{port}");
        move |line: &str| {
            raftmq(&[&words(line)[..], &[option, &address, "--output", "json"]].concat())
        }
    };
    (with("--admin", port + 102), with("--endpoint", port))
}

/// A group of one, on ports that are free.
fn start_dev(data_dir: &Path, more: &[&str]) -> (Server, u16) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_new = !data_dir.exists() || std::fs::read_dir(data_dir).unwrap().next().is_none();
    for _ in 0..20 {
        // Below those that connections are given; tests run in several processes at once.
        let number = std::process::id().wrapping_mul(7).wrapping_add(NEXT.fetch_add(1, Relaxed));
        let port = 10_000 + (number.wrapping_mul(211) % 20_000) as u16;
        if is_new {
            // A group that was founded and did not start has other addresses.
            let _ = std::fs::remove_dir_all(data_dir);
        }
        let data_dir = data_dir.to_str().unwrap();
        let port_text = port.to_string();
        let args = ["dev", "--nodes", "1", "--port", &port_text, "--data-dir", data_dir];
        let mut dev = Server::start(command(&[&args, more].concat()));
        if dev.next_line_with("RaftMQ is ready").is_some() {
            return (dev, port);
        }
    }
    panic!("no free ports were found")
}

/// A new topic is in the route one heartbeat later.
fn retry(mut attempt: impl FnMut() -> Output) -> Output {
    for _ in 0..100 {
        let output = attempt();
        if output.code() == 0 {
            return output;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    attempt()
}

/// The binary, without what the environment may say about another cluster.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftmq"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RAFTMQ_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

fn raftmq(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

trait Outcome {
    fn code(&self) -> i32;
    fn out(&self) -> String;
    fn err(&self) -> String;
    /// What a command that succeeded has printed.
    fn json(&self) -> Value;
}

impl Outcome for Output {
    fn code(&self) -> i32 {
        self.status.code().unwrap()
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    fn json(&self) -> Value {
        assert_eq!(self.code(), 0, "{}", self.err());
        serde_json::from_str(&self.out()).unwrap()
    }
}

/// A process that serves until it is told to stop.
struct Server {
    process: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        Self { process, out }
    }

    /// The next line with `text` in it; `None` when the process ends without one.
    fn next_line_with(&mut self, text: &str) -> Option<String> {
        let lines = self.out.by_ref().lines();
        lines.map_while(Result::ok).find(|line| line.contains(text))
    }

    fn wait_for(&mut self, text: &str) -> String {
        self.next_line_with(text).unwrap()
    }

    /// SIGTERM, as a supervisor sends it.
    fn terminate(&mut self) -> ExitStatus {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.process.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}
