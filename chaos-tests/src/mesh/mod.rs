//! Drills as manifests for Chaos Mesh, which breaks clusters in Kubernetes.
//!
//! A fault says what its [`Counterpart`] is, or why it has none; [`files`] makes the folder
//! `deploy/chaos/` of all drills. A manifest breaks what its drill breaks, in the same order, against
//! the StatefulSet of `deploy/kubernetes/`.
//!
//! Invariant: what is written depends on the catalog alone, so that a test can tell that the folder
//! is up to date.
//!
//! Not here: load and judgement, which a manifest does not have; Chaos Mesh itself.

pub mod object;
mod page;
mod workflow;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use self::object::Chaos;
use crate::cluster::Size;
use crate::drill::Drill;

/// The release whose schemas the manifests are checked against.
pub const VERSION: &str = "2.8.3";

/// Where a fault is made.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Servers.
    pub size: Size,
    /// How long it is to last.
    pub hold: Duration,
}

/// What Chaos Mesh does instead of a fault.
#[derive(Clone, Debug, Default)]
pub struct Counterpart {
    /// One after the other.
    pub stages: Vec<Stage>,
    /// In what it differs, a sentence each.
    pub differences: Vec<&'static str>,
}

/// Faults that begin together.
#[derive(Clone, Debug)]
pub struct Stage {
    /// At least one.
    pub chaos: Vec<Chaos>,
    /// How long they last.
    pub hold: Duration,
    /// Until the next stage.
    pub rest: Duration,
    /// Whether processes end, so that Kubernetes starts them again, each time later.
    pub restarts: bool,
}

impl Counterpart {
    /// These at the same time, for as long as the fault lasts.
    pub fn of(setting: &Setting, chaos: impl IntoIterator<Item = Chaos>) -> Self {
        let chaos = chaos.into_iter().collect();
        let stage = Stage { chaos, hold: setting.hold, rest: Duration::ZERO, restarts: false };
        Self { stages: vec![stage], differences: Vec::new() }
    }

    /// These at the same time, and processes end.
    pub fn ending(setting: &Setting, chaos: impl IntoIterator<Item = Chaos>) -> Self {
        let mut counterpart = Self::of(setting, chaos);
        counterpart.stages.iter_mut().for_each(|stage| stage.restarts = true);
        counterpart
    }

    /// With a sentence on what is not the same.
    pub fn but(mut self, difference: &'static str) -> Self {
        self.differences.push(difference);
        self
    }
}

/// Why a fault has no counterpart, after the words "not exported:".
pub type Reason = &'static str;

/// Of faults for which nobody has looked yet.
pub const NONE_YET: Reason = "no counterpart in Chaos Mesh is known for it";

/// What `chaos export` makes of a drill.
#[derive(Debug)]
pub enum Export {
    /// A file.
    Manifest {
        /// Its text.
        text: String,
        /// Faults that are left out, with the reason.
        left_out: Vec<(String, Reason)>,
    },
    /// Nothing, for these reasons.
    Nothing(Vec<(String, Reason)>),
}

/// The manifest of one drill, or why it has none.
///
/// # Errors
/// It could not be written as YAML.
pub fn export(drill: &Drill) -> anyhow::Result<Export> {
    workflow::export(drill)
}

/// The name of a drill's manifest.
pub fn file_name(drill: &Drill) -> String {
    format!("{}.yaml", drill.name)
}

/// The whole folder: names and contents. A drill that makes the faults of another one has no file of its own,
/// since a manifest loads nothing.
///
/// # Errors
/// A manifest could not be written as YAML.
pub fn files(drills: &[Drill]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut exports = Vec::new();
    for drill in drills.iter().filter(|drill| drill.faults_of.is_none()) {
        let export = export(drill).context(drill.name)?;
        if let Export::Manifest { text, .. } = &export {
            files.insert(file_name(drill), text.clone());
        }
        exports.push((drill, export));
    }
    files.insert("README.md".to_owned(), page::readme(&exports));
    Ok(files)
}

/// Writes files into a directory, which is made if need be.
///
/// # Errors
/// A file could not be written.
pub fn write(directory: &Path, files: &BTreeMap<String, String>) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for (name, text) in files {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill;

    fn manifest(name: &str) -> String {
        match export(drill::find(name).expect("a drill")).expect("YAML") {
            Export::Manifest { text, .. } => text,
            Export::Nothing(reasons) => panic!("{name} is not exported: {reasons:?}"),
        }
    }

    #[test]
    fn the_folder_is_what_export_would_write_now() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chaos");
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).expect("deploy/chaos") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.insert(name, std::fs::read_to_string(&path).expect("a text"));
        }
        let expected = files(drill::all()).expect("YAML");
        let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
        let help = "run `chaos export`, and delete what no drill is for";
        assert_eq!(names(&found), names(&expected), "{help}");
        for (name, text) in expected {
            assert!(found[&name] == text, "deploy/chaos/{name} is old: {help}");
        }
    }

    #[test]
    fn a_fault_that_is_left_out_is_told_with_the_reason() {
        let text = manifest("clock-jump");
        assert!(text.contains("timeOffset: 1h") && text.contains("timeOffset: -1h"), "{text}");
        assert!(text.contains("# - clock-fast is left out: "), "{text}");
        let cut = export(drill::find("power-cut-all").expect("a drill")).expect("YAML");
        let Export::Nothing(reasons) = cut else { panic!("a power cut is no kill") };
        assert_eq!(reasons[0].0, "power-cut-all");
        let readme = &files(drill::all()).expect("YAML")["README.md"];
        assert!(readme.contains("| power-cut-all | not exported: Chaos Mesh"), "{readme}");
    }

    #[test]
    fn each_kill_waits_until_kubernetes_has_started_what_the_last_one_ended() {
        let text = manifest("kill-all");
        let rests: Vec<&str> = text
            .split("templateType: Suspend\n")
            .skip(1)
            .filter_map(|it| it.lines().next())
            .collect();
        assert_eq!(rests.len(), 4, "{text}");
        let rests: Vec<&str> = rests.iter().map(|it| it.trim()).collect();
        assert_eq!(rests, ["deadline: 4s", "deadline: 14s", "deadline: 24s", "deadline: 44s"]);
    }

    #[test]
    fn what_chance_decides_is_the_same_each_time() {
        assert_eq!(manifest("kill-five"), manifest("kill-five"));
        assert!(manifest("kill-five").contains("# - Made for 5 brokers"));
    }
}
