//! `report.html`: a run for people, in one file that asks nothing of any network.
//!
//! Tables are made here, from templates that escape whatever they are given. The time line is drawn
//! by the script of the page from data that is aggregated here, so that the size of a page hardly
//! depends on the length of its run.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, context};

use super::dots::Dots;
use super::invocation::invocations;
use super::json::Report;
use super::losses::Losses;
use super::markdown;
use super::messages::Messages;
use super::roles::roles;
use super::timeline::{BINS_PER_OCTAVE, Timeline};
use crate::history::Event;

mod tables;

/// Name of the file in the directory of a run.
pub const FILE: &str = "report.html";

/// The page of one run.
///
/// # Errors
/// The template does not fit its data, which tests rule out.
pub fn page(report: &Report, events: &[Event]) -> anyhow::Result<String> {
    let losses = Losses::new(report, events);
    let context = context! {
        title => format!(
            "{} {} {}", markdown::mark(report.run.verdict), report.run.drill, report.run.seed
        ),
        run => Serde(tables::header(report, &losses)),
        figures => Serde(tables::tiles(report, &losses)),
        recoveries => Serde(tables::recoveries(report, &losses)),
        faults => Serde(tables::faults(report)),
        findings => Serde(tables::findings(report, events)),
        data => data(&[(report, events)])?,
        style => STYLE,
        script => SCRIPT,
    };
    Ok(environment()?.get_template("page.html")?.render(context)?)
}

/// What a comparison shows besides the time lines and figures of its runs.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Head of a table of faults.
    pub head: Vec<String>,
    /// Its rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
    /// Under what the runs were made.
    pub notes: Vec<String>,
}

/// Several runs on one scale, for example of two brokers under the same faults.
///
/// # Errors
/// The template does not fit its data, which tests rule out.
pub fn comparison(runs: &[(&Report, &[Event])], comparison: &Comparison) -> anyhow::Result<String> {
    let reports: Vec<&Report> = runs.iter().map(|(report, _)| *report).collect();
    let subjects: Vec<&str> = reports.iter().map(|report| &*report.run.subject).collect();
    let header = |(report, events): &(&Report, &[Event])| {
        tables::header(report, &Losses::new(report, events))
    };
    let headers: Vec<_> = runs.iter().map(header).collect();
    let context = context! {
        title => subjects.join(" and "),
        runs => Serde(headers),
        rows => Serde(tables::comparison(&reports)),
        fault_head => Serde(&comparison.head),
        fault_rows => Serde(&comparison.rows),
        notes => Serde(&comparison.notes),
        data => data(runs)?,
        style => STYLE,
        script => SCRIPT,
    };
    Ok(environment()?.get_template("compare.html")?.render(context)?)
}

const STYLE: &str = include_str!("page/style.css");

const SCRIPT: &str = concat!(
    include_str!("page/series.js"),
    include_str!("page/lanes.js"),
    include_str!("page/view.js"),
);

fn environment() -> anyhow::Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("page.html", include_str!("page/page.html"))?;
    environment.add_template("compare.html", include_str!("page/compare.html"))?;
    environment.add_template("base.html", include_str!("page/base.html"))?;
    environment.add_template("timeline.html", include_str!("page/timeline.html"))?;
    Ok(environment)
}

/// What the script draws. The layout is described where it is read, in `series.js`.
fn data(runs: &[(&Report, &[Event])]) -> anyhow::Result<String> {
    let runs: Vec<serde_json::Value> =
        runs.iter().map(|(report, events)| one(report, events)).collect();
    let data = serde_json::json!({ "bins_per_octave": BINS_PER_OCTAVE, "runs": runs });
    // Inside a script element only `<` can end it; as an escape it is the same to JSON.
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}

fn one(report: &Report, events: &[Event]) -> serde_json::Value {
    let run = &report.run;
    let last_us = events.iter().map(|event| event.time_ns / 1000).max().unwrap_or(0);
    let horizon_us = (run.duration_ms * 1000).max(last_us).max(1000);
    let invocations = invocations(events);
    let messages = Messages::new(events, &invocations);
    let faults = run.faults.iter().map(|fault| {
        serde_json::json!({
            "name": fault.name,
            "targets": fault.targets.join(", "),
            "from_us": fault.begin_ns / 1000,
            "to_us": fault.end_ns / 1000,
            "bit": fault.bit,
        })
    });
    serde_json::json!({
        "subject": run.subject,
        "horizon_us": horizon_us,
        "timeline": Timeline::new(horizon_us, &invocations, &messages),
        "subscribed": !messages.subscriptions.is_empty(),
        "nodes": roles(events),
        "faults": faults.collect::<Vec<_>>(),
        "marks": tables::marks(events),
        "dots": Dots::new(run, events, &invocations, &messages),
    })
}
