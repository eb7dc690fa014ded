//! Reports of made-up runs: what is computed, and that every form of it can be read.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;

use raftmq_chaos_tests::check::Verdict;
use raftmq_chaos_tests::history::{Action, Event, Phase};
use raftmq_chaos_tests::report::openchaos::{ALIASES, alias};
use raftmq_chaos_tests::report::{self, Report, Run, html, junit, markdown};

#[path = "report/synthetic.rs"]
mod synthetic;

use synthetic::{MS, S, Shape, fault, make};

fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn read(directory: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

/// Writes the history, too, so that the page can be opened.
fn write(name: &str, run: &Run, events: &[Event]) -> (PathBuf, Report) {
    let directory = directory(name);
    let lines = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n");
    std::fs::write(directory.join("history.jsonl"), lines.collect::<String>()).unwrap();
    let report = report::write(&directory, run, events).unwrap();
    (directory, report)
}

/// The data that the script of a page draws.
fn data(page: &str) -> serde_json::Value {
    let begin = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let end = begin + page[begin..].find("</script>").unwrap();
    serde_json::from_str(&page[begin..end]).unwrap()
}

#[test]
fn figures_are_those_of_the_history() {
    let (run, events) = make(&Shape::usual());
    let report = Report::new(&run, &events);
    let ended = |phase| {
        let ends = events.iter().filter(|e| e.phase == phase);
        ends.filter(|e| matches!(e.action, Action::Send { .. })).count() as u64
    };
    let sends = report.figures.sends;
    assert_eq!(sends.begun, ended(Phase::Invoke));
    assert_eq!(sends.ok, ended(Phase::Ok));
    assert_eq!(sends.failed, ended(Phase::Fail));
    assert_eq!(sends.unknown, ended(Phase::Unknown));
    assert_eq!(sends.begun, sends.ok + sends.failed + sends.unknown);
    assert!((11_000..12_000).contains(&sends.begun), "{sends:?}");
    assert_eq!(sends.unknown, 13);
    assert_eq!(report.figures.lost, Some(1));
    assert_eq!(report.figures.phantoms, 0);
    assert_eq!(report.figures.terms_led, 3);
    assert_eq!(report.figures.delivered, sends.ok - 1 + report.figures.redelivered);
    assert_eq!(report.figures.redelivered, sends.ok / 500);
    let latency = report.figures.send_latency;
    assert_eq!(latency.count, sends.ok);
    assert!((2_000..5_000).contains(&latency.p50_us), "{latency:?}");
    assert!(latency.p50_us < latency.p99_us && latency.p99_us < latency.max_us, "{latency:?}");
    assert!(latency.max_us >= 1_190_000, "{latency:?}");
}

#[test]
fn recoveries_are_those_of_the_gaps() {
    let (run, events) = make(&Shape::usual());
    let report = Report::new(&run, &events);
    let [kill, cut, pause] = &report.recoveries[..] else { panic!("{:?}", report.recoveries) };
    assert!((400..420).contains(&kill.write_gap_ms), "{kill:?}");
    assert!((400..410).contains(&kill.gap_end_ms), "{kill:?}");
    assert!((400..500).contains(&kill.to_90_percent_ms.unwrap()), "{kill:?}");
    assert!((190.0..210.0).contains(&kill.baseline_per_second.unwrap()), "{kill:?}");
    assert_eq!(kill.unknown, 0);
    assert!((1_200..1_220).contains(&cut.write_gap_ms), "{cut:?}");
    assert_eq!(cut.unknown, 13);
    assert!(pause.write_gap_ms < 100, "{pause:?}");
    assert_eq!(pause.to_90_percent_ms, Some(0), "{pause:?}");
    assert!(report.recoveries.iter().all(|recovery| recovery.recovered));
    assert_eq!(report.figures.write_gap_ms_max, cut.write_gap_ms);
}

#[test]
fn sends_that_never_come_back_are_told() {
    let mut shape = Shape::usual();
    shape.seconds = 10;
    shape.gaps_ms.clear();
    shape.unanswered_ms = None;
    shape.faults = vec![fault("majority-kill", "n1, n2", (6_000, 10_000), true, "no leader")];
    let (run, mut events) = make(&shape);
    for event in &mut events {
        let sent = matches!(event.action, Action::Send { .. }) && event.phase == Phase::Ok;
        if sent && event.time_ns > 6 * S {
            event.phase = Phase::Unknown;
        }
    }
    let recovery = &Report::new(&run, &events).recoveries[0];
    assert!(!recovery.recovered, "{recovery:?}");
    assert!((3_900..4_100).contains(&recovery.write_gap_ms), "{recovery:?}");
    assert_eq!(recovery.to_90_percent_ms, None);
    assert!(recovery.unknown > 700, "{recovery:?}");
}

#[test]
fn json_is_read_back_and_has_the_names_of_openchaos() {
    let (run, events) = make(&Shape::usual());
    let (directory, written) = write("usual", &run, &events);
    let value: serde_json::Value = serde_json::from_str(&read(&directory, "report.json")).unwrap();
    let back = Report::read(&directory).unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), value);
    assert_eq!(back.openchaos, written.openchaos);
    assert_eq!(back.figures, written.figures);
    assert_eq!(value["schema_version"], 1);
    assert_eq!(value["seed"], 7);

    let openchaos = &value["openchaos"];
    let queue = &openchaos["QueueTestResult"];
    assert_eq!(queue["enqueueInvokeCount"], written.figures.sends.begun);
    assert_eq!(queue["enqueueSuccessCount"], written.figures.sends.ok);
    assert_eq!(queue["dequeueSuccessCount"], written.figures.delivered);
    assert_eq!(queue["lostMessageCount"], 1);
    assert_eq!(queue["lostMessages"].as_object().unwrap().len(), 1);
    assert_eq!(queue["duplicateMessageCount"], written.figures.redelivered);
    assert_eq!(queue["atMostOnce"], false);
    assert_eq!(queue["atLeastOnce"], false);
    assert_eq!(queue["exactlyOnce"], false);
    assert_eq!(queue["isValid"], false);
    assert!(queue["duplicateMessages"].is_object());
    assert_eq!(openchaos["OrderTestResult"]["order"], true);
    let rto = &openchaos["RTOTestResult"];
    assert_eq!(rto["results"].as_array().unwrap().len(), 3);
    let cut = &rto["results"][1];
    assert_eq!(cut["isUnavailableInFaultInterval"], true);
    assert_eq!(cut["isRecoveryInFaultInterval"], true);
    let (start, end) =
        (cut["startTimestamp"].as_u64().unwrap(), cut["endTimestamp"].as_u64().unwrap());
    assert_eq!(cut["rtoTime"], end - start);
    assert!(rto["unexpectedUnavailableInNormalInterval"].is_boolean());
    assert!(openchaos["RecoveryTestResult"]["results"][0]["recoveryTime"].is_u64());
    let classes = openchaos["EndToEndLatencyResult"].as_object().unwrap();
    assert!(classes["e2eIn100msLatency"].as_str().unwrap().ends_with('%'));
    assert_eq!(openchaos["fault"], "leader-kill");
}

#[test]
fn figures_that_json_cannot_hold_are_left_out() {
    let (mut run, events) = make(&Shape::usual());
    run.findings[0].figures.insert("ratio".to_owned(), f64::NAN);
    let text = Report::new(&run, &events).to_json().unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert!(back.run.findings[0].figures.is_empty());
}

#[test]
fn junit_has_a_case_for_each_finding() {
    let (run, events) = make(&Shape::usual());
    let (directory, _) = write("junit", &run, &events);
    let text = read(&directory, "junit.xml");
    let document = roxmltree::Document::parse(&text).unwrap();
    let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
    let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
    // Five findings and the fault that had no effect.
    assert_eq!(cases.len(), 6);
    assert_eq!(suite.attribute("tests"), Some("6"));
    assert_eq!(suite.attribute("failures"), Some("2"));
    assert_eq!(suite.attribute("skipped"), Some("2"));
    assert_eq!(suite.attribute("timestamp"), Some("2026-09-21T14:13:20Z"));
    assert_eq!(suite.attribute("time"), Some("64.000"));
    let loss = cases.iter().find(|case| case.attribute("name") == Some("lost")).unwrap();
    let failure = loss.children().find(|node| node.has_tag_name("failure")).unwrap();
    assert!(failure.attribute("message").unwrap().contains("is in no queue"));
    let seed = document.descendants().find(|node| node.attribute("name") == Some("seed")).unwrap();
    assert_eq!(seed.attribute("value"), Some("7"));
}

#[test]
fn page_is_complete_in_itself() {
    let (run, events) = make(&Shape::usual());
    let (directory, report) = write("page", &run, &events);
    let page = read(&directory, "report.html");
    for foreign in ["http:", "https:", "@import", "url(//", "src=", "<link"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("chaos drill leader-kill-and-partition --seed 7"));
    let data = data(&page);
    let one = &data["runs"][0];
    let sum = |name: &str| -> u64 {
        let counts = one["timeline"][name].as_array().unwrap();
        counts.iter().map(|count| count.as_u64().unwrap()).sum()
    };
    assert_eq!(sum("begun"), report.figures.sends.begun);
    assert_eq!(sum("ok"), report.figures.sends.ok);
    assert_eq!(sum("unknown"), 13);
    assert_eq!(sum("received"), report.figures.delivered);
    assert_eq!(one["dots"]["counts"], serde_json::json!([1, 1, 13]));
    // A lost message stays in the backlog for ever, everything else is gone in the end.
    assert_eq!(one["timeline"]["backlog"].as_array().unwrap().last().unwrap(), 1);
    let leaders = one["nodes"][0]["spans"].as_array().unwrap();
    assert_eq!(leaders[0]["role"], "leader");
    assert_eq!(leaders[0]["term"], 3);
    assert!((14_900_000..15_200_000).contains(&leaders[0]["to_us"].as_u64().unwrap()));
    assert!(page.len() < 700_000, "{} bytes", page.len());
}

#[test]
fn page_says_first_what_was_lost_and_under_which_fault() {
    let (run, events) = make(&Shape::usual());
    let (directory, report) = write("lost", &run, &events);
    let page = read(&directory, "report.html");
    let at = page.find("1 acknowledged message lost, sent at ").unwrap();
    assert!(
        page[at..at + 120]
            .contains(" s, fault 2 isolate-leader; 2 violations found by lost, replicas; "),
        "{}",
        &page[at..at + 120]
    );
    assert!(at < page.find("class=\"tiles\"").unwrap());
    let gap = report.figures.write_gap_ms_max;
    let fault = report.recoveries.iter().position(|it| it.write_gap_ms == gap).unwrap();
    assert!(page.contains(&format!("fault {} {}, at", fault + 1, run.faults[fault].name)));
    // One row of the table of recoveries has it, the others have nothing.
    assert_eq!(page.matches("<td class=\"n bad\">1</td>").count(), 1);
    assert!(read(&directory, "summary.md").contains("13 unknown; 1 lost."));
}

#[test]
fn page_of_a_long_run_stays_small() {
    let mut shape = Shape::usual();
    (shape.seconds, shape.sends_per_second) = (120, 500);
    shape.unanswered_ms = Some((35_000, 55_000));
    let (run, events) = make(&shape);
    let (directory, report) = write("long", &run, &events);
    assert!(report.figures.sends.begun > 50_000);
    let page = read(&directory, "report.html");
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}

#[test]
fn page_of_a_short_run_and_of_none() {
    let mut shape = Shape::usual();
    shape.seconds = 10;
    shape.gaps_ms = vec![(4_000, 300)];
    shape.unanswered_ms = None;
    shape.faults = vec![fault("leader-kill", "n1", (4_000, 6_000), true, "n2 leads")];
    let (mut run, events) = make(&shape);
    run.verdict = Verdict::Pass;
    run.findings.retain(|finding| finding.verdict == Verdict::Pass);
    write("short", &run, &events);
    run.faults.clear();
    run.findings.clear();
    run.verdict = Verdict::Unknown;
    run.duration_ms = 0;
    let (directory, report) = write("empty", &run, &[]);
    assert_eq!(report.figures.lost, None);
    assert!(read(&directory, "summary.md").contains("## Faults\n\nNone."));
    assert_eq!(report.openchaos.fault.as_deref(), Some("noop"));
}

const HOSTILE: &str = "</script><script>alert('x')</script> \"a\" & <b> | `c`\n\u{0}\u{1b}[31m]]>";

#[test]
fn hostile_text_stays_text() {
    let (mut run, mut events) = make(&Shape::usual());
    run.drill = HOSTILE.to_owned();
    run.subject = HOSTILE.to_owned();
    run.command = HOSTILE.to_owned();
    run.facts.insert(HOSTILE.to_owned(), HOSTILE.to_owned());
    run.faults[0].name = HOSTILE.to_owned();
    run.faults[0].evidence = HOSTILE.to_owned();
    run.faults[0].targets = vec![HOSTILE.to_owned()];
    run.faults[2].evidence = HOSTILE.to_owned();
    for finding in &mut run.findings {
        finding.checker = HOSTILE.to_owned();
        finding.note = HOSTILE.to_owned();
        finding.figures.insert(HOSTILE.to_owned(), 1.0);
        finding.violations.iter_mut().for_each(|violation| violation.text = HOSTILE.to_owned());
    }
    for event in events.iter_mut().filter(|event| event.phase == Phase::Unknown) {
        event.error = Some(HOSTILE.to_owned());
    }
    let named = events.iter_mut().filter(|event| event.node.as_deref() == Some("n1"));
    named.for_each(|event| event.node = Some(HOSTILE.to_owned()));
    let (directory, report) = write("hostile", &run, &events);

    let page = read(&directory, "report.html");
    // Two scripts: the data and the code.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<b> |"));
    let data = data(&page);
    assert_eq!(data["runs"][0]["faults"][0]["name"], HOSTILE);
    let lines = data["runs"][0]["dots"]["lines"].as_object().unwrap();
    assert!(lines.values().any(|line| line.as_str().unwrap().contains("</script>")));

    let xml = read(&directory, "junit.xml");
    let document = roxmltree::Document::parse(&xml).unwrap();
    let clean = HOSTILE.replace(['\u{0}', '\u{1b}'], "\u{fffd}");
    let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
    let spaces = |text: &str| text.replace('\n', " ");
    assert_eq!(spaces(suite.attribute("name").unwrap()), spaces(&clean));

    let summary = read(&directory, "summary.md");
    // Between fences, where the command stands, nothing is markup.
    let markup: String = summary.split("```").step_by(2).collect();
    assert!(!markup.contains("<script"));
    assert!(summary.contains("&lt;/script&gt;"));
    assert_eq!(Report::read(&directory).unwrap().run.drill, HOSTILE);
    let suite = markdown::suite(HOSTILE, &[report]);
    assert!(suite.lines().filter(|line| line.starts_with('|')).all(|line| line.ends_with('|')));
}

#[test]
fn two_runs_on_one_scale() {
    let (left, left_events) = make(&Shape::usual());
    let mut shape = Shape::usual();
    shape.seed = 8;
    shape.subject = "Apache RocketMQ 5.3.3";
    shape.latency_us = 6000;
    shape.gaps_ms = vec![(17_000, 11_500), (36_000, 4_000)];
    shape.unanswered_ms = Some((17_000, 20_000));
    shape.faults.iter_mut().for_each(|fault| {
        fault.begin_ns += 2000 * MS;
        fault.end_ns += 2000 * MS;
    });
    let (right, right_events) = make(&shape);
    let (left, right) = (Report::new(&left, &left_events), Report::new(&right, &right_events));
    let comparison = html::Comparison {
        head: vec!["fault".to_owned(), "cluster".to_owned(), "max ms".to_owned()],
        rows: [("kill", "one & only"), ("kill", "other"), ("pause", "other")]
            .map(|(fault, cluster)| vec![fault.to_owned(), cluster.to_owned(), "12345".to_owned()])
            .into(),
        notes: vec!["one machine".to_owned()],
    };
    let runs: [(&Report, &[_]); 2] = [(&left, &left_events), (&right, &right_events)];
    let page = html::comparison(&runs, &comparison).unwrap();
    std::fs::write(directory("compare").join("compare.html"), &page).unwrap();
    assert_eq!(data(&page)["runs"].as_array().unwrap().len(), 2);
    assert!(page.contains("Apache RocketMQ 5.3.3"));
    assert!(page.contains("Fault 1: leader-kill: write gap"));
    assert!(
        page.contains("<td>one &amp; only</td>") && page.contains("<td class=\"n\">12345</td>")
    );
    assert!(page.contains("one machine"));
    // Each fault is set apart from the one before.
    assert_eq!(page.matches("<tr class=\"first\">").count(), 2);
    assert!(!page.contains("http:") && !page.contains("https:"));
}

#[test]
fn a_suite_names_what_did_not_pass() {
    let (bad, events) = make(&Shape::usual());
    let mut good = bad.clone();
    good.drill = "quiet".to_owned();
    good.verdict = Verdict::Pass;
    let reports = [Report::new(&good, &events), Report::new(&bad, &events)];
    let directory = directory("suite");
    report::write_suite(&directory, "smoke", &reports).unwrap();
    let summary = read(&directory, "summary.md");
    assert!(summary.starts_with("# ✗ smoke\n\n**FAIL**: 1 of 2 runs pass.\n"), "{summary}");
    assert!(summary.contains("chaos drill leader-kill-and-partition --seed 7"));
    assert!(!summary.contains("chaos drill quiet"));
    let xml = junit::document("smoke", &[&good, &bad]).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    assert_eq!(document.root_element().attribute("tests"), Some("12"));
    assert_eq!(document.descendants().filter(|node| node.has_tag_name("testsuite")).count(), 2);
}

#[test]
fn faults_have_their_names_in_openchaos() {
    let mut names: Vec<&str> = ALIASES.iter().map(|alias| alias.openchaos).collect();
    for name in &names {
        assert_eq!(alias(name, 1, 3), Some(*name), "{name}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALIASES.len());
    assert_eq!(alias("kill", 1, 3), Some("minor-kill"));
    assert_eq!(alias("kill", 2, 3), Some("major-kill"));
    assert_eq!(alias("leader-pause", 1, 3), Some("leader-suspend"));
    assert_eq!(alias("isolate-leader", 1, 3), Some("leader-partition"));
    assert_eq!(alias("partition", 1, 3), Some("random-partition"));
    assert_eq!(alias("majorities-ring", 5, 5), Some("partition-majorities-ring"));
    assert_eq!(alias("clock-jump", 1, 3), None);
}
