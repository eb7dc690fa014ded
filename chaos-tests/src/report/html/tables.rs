//! What the templates show, as text.

use serde::Serialize;

use crate::check::{Finding, Verdict, Violation};
use crate::history::{Action, Event};
use crate::report::Run;
use crate::report::dots::{at, line};
use crate::report::json::Report;
use crate::report::losses::{self, Losses};
use crate::report::markdown::{cluster, mark, to_90_percent, word, write_gap};
use crate::report::recovery::Recovery;
use crate::report::text::{count, counted, figure, micros, millis, seconds, utc};

/// Lines of the history that a page shows in full, over all violations.
const LINES_MAX: usize = 1500;

/// Of these, for one violation.
const LINES_OF_VIOLATION_MAX: usize = 12;

/// Bytes of one such line.
const LINE_BYTES_MAX: usize = 1500;

#[derive(Serialize)]
pub(super) struct Header {
    drill: String,
    subject: String,
    seed: u64,
    verdict: &'static str,
    mark: &'static str,
    summary: String,
    command: String,
    facts: Vec<(String, String)>,
}

/// What is said of a run at the top.
pub(super) fn header(report: &Report, losses: &Losses) -> Header {
    let run = &report.run;
    let mut facts = vec![
        ("Subject".to_owned(), run.subject.clone()),
        ("Seed".to_owned(), run.seed.to_string()),
        ("Began".to_owned(), utc(run.started_ms)),
        ("Took".to_owned(), millis(run.duration_ms)),
        ("Cluster".to_owned(), cluster(run)),
        ("Flush".to_owned(), run.flush.clone()),
    ];
    facts.extend(run.facts.iter().map(|(name, value)| (name.clone(), value.clone())));
    Header {
        drill: run.drill.clone(),
        subject: run.subject.clone(),
        seed: run.seed,
        verdict: word(run.verdict),
        mark: mark(run.verdict),
        summary: summary(report, losses),
        command: run.command_line(),
        facts,
    }
}

fn summary(report: &Report, losses: &Losses) -> String {
    let run = &report.run;
    let of = |verdict| run.findings.iter().filter(move |finding| finding.verdict == verdict);
    let missed = run.faults.iter().filter(|fault| !fault.bit).count();
    let violations: u64 = run.findings.iter().map(|finding| finding.violation_count).sum();
    let mut parts = Vec::new();
    if let Some(lost) = losses.count.filter(|lost| *lost > 0) {
        let the_first = if lost == 1 { "" } else { "the first " };
        let first = losses.first_ns.map(|sent_ns| format!(", {the_first}{}", place(run, sent_ns)));
        let messages = counted(lost, "acknowledged message");
        parts.push(format!("{messages} lost{}", first.unwrap_or_default()));
    }
    let (failed, unknown) = (of(Verdict::Fail).count(), of(Verdict::Unknown).count());
    if failed > 0 {
        let checkers: Vec<&str> =
            of(Verdict::Fail).map(|finding| finding.checker.as_str()).collect();
        let violations = counted(violations, "violation");
        parts.push(format!("{violations} found by {}", checkers.join(", ")));
    }
    if unknown > 0 {
        parts.push(format!("{} could not tell", counted(unknown as u64, "checker")));
    }
    if missed > 0 {
        parts.push(format!("{} had no effect", counted(missed as u64, "fault")));
    }
    if run.findings.is_empty() {
        parts.push("no checker looked at this run".to_owned());
    }
    if parts.is_empty() {
        let passed = counted(of(Verdict::Pass).count() as u64, "checker");
        parts.push(format!(
            "{passed} found nothing wrong under {}",
            counted(run.faults.len() as u64, "fault")
        ));
    }
    parts.join("; ")
}

/// When something was sent, and the fault that it is laid to.
fn place(run: &Run, sent_ns: u64) -> String {
    let at = seconds(sent_ns);
    match losses::fault(run, sent_ns) {
        Some(place) => format!("sent at {at}, fault {} {}", place + 1, run.faults[place].name),
        None => format!("sent at {at}, after all faults"),
    }
}

/// The fault under which the longest write gap was.
fn longest_gap(report: &Report) -> String {
    let longest = report.recoveries.iter().enumerate().max_by_key(|(_, it)| it.write_gap_ms);
    match longest {
        Some((place, recovery)) if recovery.write_gap_ms >= report.figures.write_gap_ms_max => {
            format!("fault {} {}, at {}", place + 1, recovery.fault, seconds(recovery.begin_ns))
        }
        Some(_) => "not under a fault".to_owned(),
        None => "between two acknowledged sends".to_owned(),
    }
}

#[derive(Serialize)]
pub(super) struct Tile {
    name: &'static str,
    value: String,
    note: String,
    /// Whether it is bad news.
    bad: bool,
}

/// The figures at the top.
pub(super) fn tiles(report: &Report, losses: &Losses) -> Vec<Tile> {
    let figures = &report.figures;
    let sends = figures.sends;
    let share = if sends.begun == 0 { 0.0 } else { sends.ok as f64 * 100.0 / sends.begun as f64 };
    let tile = |name, value, note, bad| Tile { name, value, note, bad };
    let lost = match (losses.count, losses.first_ns) {
        (None, _) => "run not read to its end".to_owned(),
        (Some(0), _) | (_, None) => "acknowledged, not there afterwards".to_owned(),
        (_, Some(first_ns)) => format!("first {}", place(&report.run, first_ns)),
    };
    vec![
        tile(
            "Lost",
            losses.count.map_or("?".into(), count),
            lost,
            losses.count.is_some_and(|lost| lost > 0),
        ),
        tile(
            "Longest write gap",
            millis(figures.write_gap_ms_max),
            longest_gap(report),
            report.recoveries.iter().any(|recovery| !recovery.recovered),
        ),
        tile(
            "Sends acknowledged",
            count(sends.ok),
            format!("{share:.2} % of {}", count(sends.begun)),
            false,
        ),
        tile("Sends failed", count(sends.failed), "certainly not stored".into(), false),
        tile("Sends unknown", count(sends.unknown), "stored or not".into(), false),
        tile(
            "Delivered",
            count(figures.delivered),
            format!("{} of them again", count(figures.redelivered)),
            false,
        ),
        tile(
            "Send latency p99",
            latency(figures.send_latency.p99_us),
            format!(
                "p50 {}, max {}",
                latency(figures.send_latency.p50_us),
                latency(figures.send_latency.max_us)
            ),
            false,
        ),
        tile("Terms led", count(figures.terms_led), "with a leader that was seen".into(), false),
    ]
}

/// A latency; nothing takes no time at all, so 0 says that there was none.
fn latency(latency_us: u64) -> String {
    if latency_us == 0 { "none".to_owned() } else { micros(latency_us) }
}

#[derive(Serialize)]
pub(super) struct RecoveryRow {
    number: usize,
    name: String,
    targets: String,
    from_us: u64,
    to_us: u64,
    at: String,
    baseline: String,
    write_gap: String,
    /// Share of the longest gap of the run, percent.
    gap_share: u64,
    over: bool,
    gap_end: String,
    lost: String,
    failed: String,
    unknown: String,
    to_90_percent: String,
}

/// What each fault did to sends.
pub(super) fn recoveries(report: &Report, losses: &Losses) -> Vec<RecoveryRow> {
    let longest_ms =
        report.recoveries.iter().map(|recovery| recovery.write_gap_ms).max().unwrap_or(0);
    let faults = report.run.faults.iter().zip(&report.recoveries).enumerate();
    faults
        .map(|(place, (fault, recovery))| RecoveryRow {
            number: place + 1,
            name: fault.name.clone(),
            targets: fault.targets.join(", "),
            from_us: fault.begin_ns / 1000,
            to_us: fault.end_ns / 1000,
            at: seconds(fault.begin_ns),
            baseline: recovery
                .baseline_per_second
                .map_or("none".to_owned(), |baseline| format!("{baseline:.0} /s")),
            write_gap: write_gap(recovery),
            gap_share: recovery.write_gap_ms * 100 / longest_ms.max(1),
            over: !recovery.recovered,
            gap_end: if recovery.recovered { millis(recovery.gap_end_ms) } else { "never".into() },
            lost: lost_of(losses, place),
            failed: count(recovery.failed),
            unknown: count(recovery.unknown),
            to_90_percent: to_90_percent(recovery),
        })
        .collect()
}

/// How many messages were lost under a fault.
fn lost_of(losses: &Losses, fault: usize) -> String {
    match (losses.count, losses.by_fault[fault]) {
        (None, 0) => "?".to_owned(),
        (_, lost) if losses.unlisted > 0 => format!("{} or more", count(lost)),
        (_, lost) => count(lost),
    }
}

#[derive(Serialize)]
pub(super) struct FaultRow {
    number: usize,
    name: String,
    targets: String,
    from_us: u64,
    to_us: u64,
    begin: String,
    length: String,
    bit: bool,
    evidence: String,
    parameters: String,
    openchaos: String,
}

/// Every fault, with what shows that it had an effect.
pub(super) fn faults(report: &Report) -> Vec<FaultRow> {
    let row = |(place, fault): (usize, &crate::report::FaultWindow)| FaultRow {
        number: place + 1,
        name: fault.name.clone(),
        targets: fault.targets.join(", "),
        from_us: fault.begin_ns / 1000,
        to_us: fault.end_ns / 1000,
        begin: seconds(fault.begin_ns),
        length: seconds(fault.end_ns.saturating_sub(fault.begin_ns)),
        bit: fault.bit,
        evidence: fault.evidence.clone(),
        parameters: parameters(&fault.parameters),
        openchaos: crate::report::openchaos::alias(
            &fault.name,
            fault.targets.len(),
            report.run.brokers,
        )
        .unwrap_or("none")
        .to_owned(),
    };
    report.run.faults.iter().enumerate().map(row).collect()
}

fn parameters(parameters: &serde_json::Value) -> String {
    match parameters {
        serde_json::Value::Null => String::new(),
        serde_json::Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| match value {
                serde_json::Value::String(value) => format!("{name} {value}"),
                value => format!("{name} {value}"),
            });
            fields.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[derive(Serialize)]
pub(super) struct FindingRow {
    checker: String,
    verdict: &'static str,
    mark: &'static str,
    note: String,
    violation_count: String,
    figures: Vec<(String, String)>,
    violations: Vec<ViolationRow>,
    /// Violations that are counted and not listed.
    more: u64,
}

#[derive(Serialize)]
struct ViolationRow {
    text: String,
    /// Part of the run that its lines cover, a little wider.
    from_us: u64,
    to_us: u64,
    lines: Vec<LineRow>,
    /// Numbers of lines that are not shown.
    more: Vec<u64>,
}

#[derive(Serialize)]
struct LineRow {
    /// Of the file, from 1.
    number: u64,
    json: String,
}

/// Every finding, the worst first, with the lines of the history that its violations cite.
pub(super) fn findings(report: &Report, events: &[Event]) -> Vec<FindingRow> {
    let mut findings: Vec<&Finding> = report.run.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    let mut lines_left = LINES_MAX;
    let row = |finding: &Finding| FindingRow {
        checker: finding.checker.clone(),
        verdict: word(finding.verdict),
        mark: mark(finding.verdict),
        note: finding.note.clone(),
        violation_count: count(finding.violation_count),
        figures: finding
            .figures
            .iter()
            .map(|(name, value)| (name.replace('_', " "), figure(*value)))
            .collect(),
        violations: finding
            .violations
            .iter()
            .map(|violation| violation_row(violation, events, &mut lines_left))
            .collect(),
        more: finding.violation_count.saturating_sub(finding.violations.len() as u64),
    };
    findings.into_iter().map(row).collect()
}

fn violation_row(violation: &Violation, events: &[Event], lines_left: &mut usize) -> ViolationRow {
    let cited: Vec<&Event> =
        violation.events.iter().filter_map(|index| at(events, *index)).collect();
    let shown = cited.len().min(LINES_OF_VIOLATION_MAX).min(*lines_left);
    *lines_left -= shown;
    let times_us = || cited.iter().map(|event| event.time_ns / 1000);
    let (first_us, last_us) = (times_us().min().unwrap_or(0), times_us().max().unwrap_or(0));
    let margin_us = ((last_us - first_us) / 4).max(500_000);
    ViolationRow {
        text: violation.text.clone(),
        from_us: first_us.saturating_sub(margin_us),
        to_us: last_us + margin_us,
        lines: cited[..shown]
            .iter()
            .map(|event| LineRow { number: event.index + 1, json: line(event, LINE_BYTES_MAX) })
            .collect(),
        more: cited[shown..].iter().take(100).map(|event| event.index + 1).collect(),
    }
}

#[derive(Serialize)]
pub(super) struct MarkRow {
    at_us: u64,
    what: String,
}

/// Where the parts of the run begin.
pub(super) fn marks(events: &[Event]) -> Vec<MarkRow> {
    let mark = |event: &Event| match &event.action {
        Action::Mark { what } => {
            Some(MarkRow { at_us: event.time_ns / 1000, what: what.replace('_', " ") })
        }
        _ => None,
    };
    events.iter().filter_map(mark).collect()
}

/// The figures of several runs, row by row: name, and a cell for each run.
pub(super) fn comparison(reports: &[&Report]) -> Vec<(String, Vec<String>)> {
    type Cell = (&'static str, fn(&Report) -> String);
    const CELLS: [Cell; 13] = [
        ("Verdict", |report| format!("{} {}", mark(report.run.verdict), word(report.run.verdict))),
        ("Sends begun", |report| count(report.figures.sends.begun)),
        ("Acknowledged", |report| count(report.figures.sends.ok)),
        ("Failed", |report| count(report.figures.sends.failed)),
        ("Unknown", |report| count(report.figures.sends.unknown)),
        ("Lost", |report| losses::count(report).map_or("not known".to_owned(), count)),
        ("Delivered", |report| count(report.figures.delivered)),
        ("Delivered again", |report| count(report.figures.redelivered)),
        ("Send latency p50", |report| latency(report.figures.send_latency.p50_us)),
        ("Send latency p99", |report| latency(report.figures.send_latency.p99_us)),
        ("Send latency max", |report| latency(report.figures.send_latency.max_us)),
        ("Longest write gap", |report| millis(report.figures.write_gap_ms_max)),
        ("Faults", |report| report.run.faults.len().to_string()),
    ];
    let cells = |cell: fn(&Report) -> String| reports.iter().map(|report| cell(report)).collect();
    let mut rows: Vec<_> =
        CELLS.iter().map(|(name, cell)| ((*name).to_owned(), cells(*cell))).collect();
    // Faults of runs with one plan are the same ones in the same order.
    let faults = reports.iter().map(|report| report.recoveries.len()).max().unwrap_or(0);
    for place in 0..faults {
        let all: Vec<Option<&Recovery>> =
            reports.iter().map(|report| report.recoveries.get(place)).collect();
        let mut names: Vec<&str> =
            all.iter().map(|one| one.map_or("none", |one| one.fault.as_str())).collect();
        names.dedup();
        let name = format!("Fault {}: {}", place + 1, names.join(" | "));
        let cells = |cell: fn(&Recovery) -> String| {
            all.iter().map(|one| one.map(cell).unwrap_or_default()).collect()
        };
        rows.push((format!("{name}: write gap"), cells(write_gap)));
        rows.push((format!("{name}: to 90 %"), cells(to_90_percent)));
    }
    rows
}
