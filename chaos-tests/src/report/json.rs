//! `report.json`: a run for machines.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Run;
use super::figures::{Figures, figures};
use super::invocation::invocations;
use super::messages::Messages;
use super::openchaos::OpenChaos;
use super::recovery::{Recovery, recoveries};
use crate::history::Event;

/// A run with everything that its history says about it in numbers. In JSON the fields of [`Run`]
/// stand beside the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Its numbers.
    pub figures: Figures,
    /// What each fault did to sends, in the order of [`Run::faults`].
    pub recoveries: Vec<Recovery>,
    /// The same under the names of OpenChaos.
    pub openchaos: OpenChaos,
}

/// Name of the file in the directory of a run.
pub const FILE: &str = "report.json";

impl Report {
    /// Of a run and its history. Figures of findings that are no numbers are left out.
    pub fn new(run: &Run, events: &[Event]) -> Self {
        let mut run = run.clone();
        for finding in &mut run.findings {
            // JSON has no infinity; it would be written as null and not be read again.
            finding.figures.retain(|_, figure| figure.is_finite());
        }
        let invocations = invocations(events);
        let messages = Messages::new(events, &invocations);
        let figures = figures(events, &invocations, &messages);
        let recoveries = recoveries(&run.faults, &invocations);
        let openchaos = OpenChaos::new(&run, &figures, &invocations, &messages);
        Self { run, figures, recoveries, openchaos }
    }

    /// As JSON, indented, with a line feed at the end.
    pub fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Reads the report in the directory of a run.
    ///
    /// # Errors
    /// There is none, or its layout is not that of [`super::SCHEMA_VERSION`].
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}
