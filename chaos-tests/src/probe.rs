//! What this machine allows.

use serde::Serialize;

use crate::disk::shim::Shim;
use crate::disk::volume;
use crate::drill::Need;
use crate::driver::Client;
use crate::net::{self, Way};

/// One thing that drills can need.
#[derive(Clone, Debug, Serialize)]
pub struct Probed {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Absent: it is there. Otherwise what is missing.
    pub missing: Option<String>,
    /// How it is made, where there are several ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
}

/// What drills can need, in the order of the table.
const NEEDS: [Need; 5] = [Need::Network, Need::Volumes, Need::Shim, Need::Java, Need::Python];

/// Tries everything that drills can need.
pub fn probe() -> Vec<Probed> {
    NEEDS.map(probe_for).into()
}

fn probe_for(need: Need) -> Probed {
    let (about, result) = match need {
        // Forwarders need nothing.
        Need::Network => ("links between hosts: partitions, bad links", Ok(())),
        Need::Volumes => ("a file system for each broker: power cuts", volume::supported()),
        Need::Shim => (
            "a library before the C library: sick disks, wrong clocks",
            Shim::create().map(drop).map_err(|error| format!("{error:#}")),
        ),
        Need::Java => {
            ("java, and mvn to build with: the official client", Client::Java.supported())
        }
        Need::Python => ("python3: the official client", Client::Python.supported()),
    };
    let how = (need == Need::Network).then(network);
    Probed { name: need.name(), about, missing: result.err(), how }
}

/// How hosts are connected here, and why not better.
fn network() -> String {
    match net::supported() {
        Ok(()) => Way::Namespaces.to_string(),
        Err(why) => format!("{}: {why}", Way::Proxy),
    }
}

/// What is missing for these needs, in one sentence.
pub fn missing(needs: &[Need]) -> Option<String> {
    let lacks = |need: &Need| {
        let Probed { name, missing, .. } = probe_for(*need);
        missing.map(|missing| format!("{name}: {missing}"))
    };
    let lacking: Vec<String> = needs.iter().filter_map(lacks).collect();
    (!lacking.is_empty()).then(|| lacking.join("; "))
}
