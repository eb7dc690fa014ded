//! `summary.md`: a run, or a suite of runs, in one screen of Markdown.

use std::fmt::Write;

use super::Run;
use super::json::Report;
use super::losses;
use super::recovery::Recovery;
use super::text::{count, counted, figure, micros, millis, seconds};
use crate::check::{Finding, Verdict};

/// Name of the file in the directory of a run or suite.
pub const FILE: &str = "summary.md";

/// Violations of each finding that the summary of a run shows.
const VIOLATIONS_SHOWN: usize = 3;

/// One run: verdict, figures, faults with what they did to sends, findings.
pub fn run(report: &Report) -> String {
    let Report { run, figures, .. } = report;
    let mut text = format!("# {} {}: seed {}\n\n", mark(run.verdict), cell(&run.drill), run.seed);
    let failed = run.findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    line(
        &mut text,
        format_args!(
            "**{}**: {}, {}, flush {}, {}; {failed} of {} findings fail.",
            word(run.verdict),
            cell(&run.subject),
            cluster(run),
            cell(&run.flush),
            millis(run.duration_ms),
            run.findings.len(),
        ),
    );
    line(
        &mut text,
        format_args!(
            "\n{} sends: {} ok, {} failed, {} unknown; {} lost. Latency p50 {}, p99 {}, max {}. \
         Longest write gap {}.",
            count(figures.sends.begun),
            count(figures.sends.ok),
            count(figures.sends.failed),
            count(figures.sends.unknown),
            losses::count(report).map_or("not known how many".to_owned(), count),
            micros(figures.send_latency.p50_us),
            micros(figures.send_latency.p99_us),
            micros(figures.send_latency.max_us),
            millis(figures.write_gap_ms_max),
        ),
    );
    line(&mut text, format_args!("\n```sh\n{}\n```", run.command_line().replace("```", "")));
    faults(&mut text, report);
    findings(&mut text, &run.findings);
    text
}

/// Several runs: one line each, then what is wrong with those that did not pass.
pub fn suite(name: &str, reports: &[Report]) -> String {
    let verdict = reports.iter().map(|report| report.run.verdict).max().unwrap_or(Verdict::Unknown);
    let passed = reports.iter().filter(|report| report.run.verdict == Verdict::Pass).count();
    let mut text = format!("# {} {}\n\n", mark(verdict), cell(name));
    let all = reports.len();
    line(&mut text, format_args!("**{}**: {passed} of {all} runs pass.\n", word(verdict)));
    if reports.is_empty() {
        return text;
    }
    text.push_str("| Drill | Seed | Verdict | Faults | Sends ok | Failed | Unknown | Lost |");
    text.push_str(" Longest write gap |\n");
    text.push_str("|---|--:|---|--:|--:|--:|--:|--:|--:|\n");
    for report in reports {
        let Report { run, figures, .. } = report;
        line(
            &mut text,
            format_args!(
                "| {} | {} | {} {} | {} | {} | {} | {} | {} | {} |",
                cell(&run.drill),
                run.seed,
                mark(run.verdict),
                word(run.verdict),
                run.faults.len(),
                count(figures.sends.ok),
                count(figures.sends.failed),
                count(figures.sends.unknown),
                losses::count(report).map_or("?".to_owned(), count),
                millis(figures.write_gap_ms_max),
            ),
        );
    }
    for Report { run, .. } in reports.iter().filter(|report| report.run.verdict != Verdict::Pass) {
        line(
            &mut text,
            format_args!(
                "\n## {} {}: seed {}\n\n```sh\n{}\n```\n",
                mark(run.verdict),
                cell(&run.drill),
                run.seed,
                run.command_line().replace("```", ""),
            ),
        );
        for fault in run.faults.iter().filter(|fault| !fault.bit) {
            let (name, evidence) = (cell(&fault.name), cell(&fault.evidence));
            line(&mut text, format_args!("- fault {name} had no effect: {evidence}"));
        }
        for finding in run.findings.iter().filter(|finding| finding.verdict != Verdict::Pass) {
            line(&mut text, format_args!("- {}", wrong(finding)));
        }
    }
    text
}

fn faults(text: &mut String, report: &Report) {
    text.push_str("\n## Faults\n\n");
    if report.run.faults.is_empty() {
        text.push_str("None.\n");
        return;
    }
    text.push_str(
        "| Fault | Targets | From | For | Effect | Write gap | Failed | Unknown | To 90 % |\n",
    );
    text.push_str("|---|---|--:|--:|---|--:|--:|--:|--:|\n");
    for (fault, recovery) in report.run.faults.iter().zip(&report.recoveries) {
        line(
            text,
            format_args!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                cell(&fault.name),
                cell(&fault.targets.join(", ")),
                seconds(fault.begin_ns),
                seconds(fault.end_ns.saturating_sub(fault.begin_ns)),
                if fault.bit { "yes" } else { "none" },
                write_gap(recovery),
                recovery.failed,
                recovery.unknown,
                to_90_percent(recovery),
            ),
        );
    }
}

fn findings(text: &mut String, findings: &[Finding]) {
    text.push_str("\n## Findings\n\n");
    if findings.is_empty() {
        text.push_str("None.\n");
        return;
    }
    text.push_str("| Checker | Verdict | Violations | Note | Figures |\n|---|---|--:|---|---|\n");
    for finding in findings {
        let figures: Vec<String> = finding
            .figures
            .iter()
            .map(|(name, value)| format!("{} {}", cell(name), figure(*value)))
            .collect();
        line(
            text,
            format_args!(
                "| {} | {} {} | {} | {} | {} |",
                cell(&finding.checker),
                mark(finding.verdict),
                word(finding.verdict),
                finding.violation_count,
                cell(&finding.note),
                figures.join(", "),
            ),
        );
    }
    let failed = || findings.iter().filter(|finding| finding.verdict == Verdict::Fail);
    if failed().next().is_some() {
        text.push('\n');
        failed().for_each(|finding| line(text, format_args!("- {}", wrong(finding))));
    }
}

/// What is wrong, with the first violations below.
fn wrong(finding: &Finding) -> String {
    let mut text = format!("**{}** {}", cell(&finding.checker), word(finding.verdict));
    if finding.violations.is_empty() {
        return format!("{text}: {}", cell(&finding.note));
    }
    for violation in finding.violations.iter().take(VIOLATIONS_SHOWN) {
        let events: Vec<String> = violation.events.iter().take(10).map(u64::to_string).collect();
        let _ = write!(text, "\n  - {} (events {})", cell(&violation.text), events.join(", "));
    }
    let more = finding.violation_count.saturating_sub(VIOLATIONS_SHOWN as u64);
    if more > 0 {
        let _ = write!(text, "\n  - and {} more", count(more));
    }
    text
}

/// The gap of a recovery, or for how long sends were impossible up to the end.
pub(super) fn write_gap(recovery: &Recovery) -> String {
    let gap = millis(recovery.write_gap_ms);
    if recovery.recovered { gap } else { format!("over {gap}") }
}

/// The time to 90 % of a recovery, or why there is none.
pub(super) fn to_90_percent(recovery: &Recovery) -> String {
    match (recovery.baseline_per_second, recovery.to_90_percent_ms) {
        (None, _) => "no baseline".to_owned(),
        (Some(_), None) => "never".to_owned(),
        (Some(_), Some(0)) => "no dip".to_owned(),
        (Some(_), Some(back_ms)) => millis(back_ms),
    }
}

/// The nodes of a run.
pub(super) fn cluster(run: &Run) -> String {
    let (brokers, name_servers) = (run.brokers as u64, run.name_servers as u64);
    format!("{}, {}", counted(brokers, "broker"), counted(name_servers, "name server"))
}

/// The word for a verdict.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Unknown => "UNKNOWN",
        Verdict::Fail => "FAIL",
    }
}

/// The sign for a verdict.
pub(super) fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✓",
        Verdict::Unknown => "?",
        Verdict::Fail => "✗",
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{arguments}");
}

/// Foreign text, so that it stays in its cell and means nothing to Markdown or HTML.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
