//! JUnit XML: runs for those who collect test results.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event as Xml};

use super::Run;
use super::text::{counted, utc};
use crate::check::{Finding, Verdict};

/// Name of the file in the directory of a run or suite.
pub const FILE: &str = "junit.xml";

/// `runs` as one document named `name`: one `testsuite` for each run, in it one `testcase` for each
/// finding, and one for each fault that had no effect. A verdict of *fail* is a `failure`, one of
/// *unknown* is `skipped`.
pub fn document(name: &str, runs: &[&Run]) -> anyhow::Result<String> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Xml::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let sum = |of: fn(&Run) -> usize| runs.iter().map(|run| of(run)).sum::<usize>().to_string();
    let duration_ms: u64 = runs.iter().map(|run| run.duration_ms).sum();
    let suites = writer.create_element("testsuites").with_attributes([
        ("name", clean(name).as_str()),
        ("tests", &sum(tests)),
        ("failures", &sum(failures)),
        ("skipped", &sum(skipped)),
        ("errors", "0"),
        ("time", &seconds(duration_ms)),
    ]);
    suites.write_inner_content(|writer| runs.iter().try_for_each(|run| suite(writer, run)))?;
    Ok(String::from_utf8(writer.into_inner())? + "\n")
}

type Out = Writer<Vec<u8>>;

fn suite(writer: &mut Out, run: &Run) -> std::io::Result<()> {
    let element = writer.create_element("testsuite").with_attributes([
        ("name", clean(&run.drill).as_str()),
        ("tests", &tests(run).to_string()),
        ("failures", &failures(run).to_string()),
        ("skipped", &skipped(run).to_string()),
        ("errors", "0"),
        ("time", &seconds(run.duration_ms)),
        ("timestamp", &utc(run.started_ms)),
    ]);
    element.write_inner_content(|writer| {
        properties(writer, run)?;
        run.findings.iter().try_for_each(|finding| case(writer, run, finding))?;
        missed(run).try_for_each(|(number, fault)| {
            let name = format!("fault {} {}", number + 1, fault.name);
            let element = test_case(writer, run, &name);
            element.write_inner_content(|writer| {
                let message = format!("had no effect: {}", fault.evidence);
                skip(writer, &message)
            })?;
            Ok(())
        })
    })?;
    Ok(())
}

fn properties(writer: &mut Out, run: &Run) -> std::io::Result<()> {
    let own = [
        ("seed", run.seed.to_string()),
        ("subject", run.subject.clone()),
        ("command", run.command_line()),
        ("brokers", run.brokers.to_string()),
        ("name_servers", run.name_servers.to_string()),
        ("flush", run.flush.clone()),
    ];
    let facts = run.facts.iter().map(|(name, value)| (name.as_str(), value.clone()));
    writer.create_element("properties").write_inner_content(|writer| {
        own.into_iter().chain(facts).try_for_each(|(name, value)| {
            let (name, value) = (clean(name), clean(&value));
            let attributes = [("name", name.as_str()), ("value", value.as_str())];
            writer.create_element("property").with_attributes(attributes).write_empty().map(drop)
        })
    })?;
    Ok(())
}

fn case(writer: &mut Out, run: &Run, finding: &Finding) -> std::io::Result<()> {
    let element = test_case(writer, run, &finding.checker);
    match finding.verdict {
        Verdict::Pass => element.write_empty()?,
        Verdict::Unknown => element.write_inner_content(|writer| skip(writer, &finding.note))?,
        Verdict::Fail => element.write_inner_content(|writer| {
            let first = finding.violations.first().map_or(&finding.note, |first| &first.text);
            let message =
                clean(&format!("{}: {first}", counted(finding.violation_count, "violation")));
            let failure = writer.create_element("failure");
            failure
                .with_attributes([("message", message.as_str()), ("type", "violation")])
                .write_text_content(BytesText::new(&clean(&details(finding))))?;
            Ok(())
        })?,
    };
    Ok(())
}

fn test_case<'a>(
    writer: &'a mut Out,
    run: &Run,
    name: &str,
) -> quick_xml::writer::ElementWriter<'a, Vec<u8>> {
    let (class, name) = (clean(&run.drill), clean(name));
    let attributes = [("classname", class.as_str()), ("name", name.as_str()), ("time", "0.000")];
    writer.create_element("testcase").with_attributes(attributes)
}

fn skip(writer: &mut Out, message: &str) -> std::io::Result<()> {
    let message = clean(message);
    writer.create_element("skipped").with_attribute(("message", message.as_str())).write_empty()?;
    Ok(())
}

/// Every listed violation with the lines that show it.
fn details(finding: &Finding) -> String {
    let mut text = finding.note.clone();
    for violation in &finding.violations {
        let lines: Vec<String> = violation.events.iter().map(u64::to_string).collect();
        text.push_str(&format!("\n- {} [events {}]", violation.text, lines.join(", ")));
    }
    text
}

fn missed(run: &Run) -> impl Iterator<Item = (usize, &super::FaultWindow)> {
    run.faults.iter().enumerate().filter(|(_, fault)| !fault.bit)
}

fn tests(run: &Run) -> usize {
    run.findings.len() + missed(run).count()
}

fn failures(run: &Run) -> usize {
    run.findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count()
}

fn skipped(run: &Run) -> usize {
    let unknown = run.findings.iter().filter(|finding| finding.verdict == Verdict::Unknown);
    unknown.count() + missed(run).count()
}

fn seconds(time_ms: u64) -> String {
    format!("{}.{:03}", time_ms / 1000, time_ms % 1000)
}

/// Without the characters that XML cannot hold, not even escaped.
fn clean(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect()
}
