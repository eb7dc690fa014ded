//! What this machine allows.

use serde::Serialize;

use crate::disk::shim::Shim;
use crate::disk::volume;
use crate::drill::Need;
use crate::net;

/// One thing that drills can need.
#[derive(Clone, Debug, Serialize)]
pub struct Probed {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Absent: it is there. Otherwise what is missing.
    pub missing: Option<String>,
}

/// Tries everything that drills can need.
pub fn probe() -> Vec<Probed> {
    let probed = |need: Need, about, result: Result<(), String>| Probed {
        name: need.name(),
        about,
        missing: result.err(),
    };
    vec![
        probed(
            Need::Network,
            "namespaces and a packet switch: partitions, bad links",
            net::supported(),
        ),
        probed(Need::Volumes, "a file system for each broker: power cuts", volume::supported()),
        probed(
            Need::Shim,
            "a library before the C library: sick disks, wrong clocks",
            Shim::create().map(drop).map_err(|error| format!("{error:#}")),
        ),
    ]
}

/// What is missing for these needs, in one sentence.
pub fn missing(needs: &[Need]) -> Option<String> {
    let probed = probe();
    let lacks = |need: &Need| {
        let found = probed.iter().find(|probed| probed.name == need.name());
        let missing = found.and_then(|probed| probed.missing.clone())?;
        Some(format!("{}: {missing}", need.name()))
    };
    let lacking: Vec<String> = needs.iter().filter_map(lacks).collect();
    (!lacking.is_empty()).then(|| lacking.join("; "))
}
