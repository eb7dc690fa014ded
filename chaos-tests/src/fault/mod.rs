//! Faults: what is broken, on purpose, while a cluster is under load.
//!
//! A fault is named, has parameters, draws all its chance from the seed of the run, shows whether it
//! had an effect, and is undone by [`Fault::end`] or, at the latest, when its field is dropped.

mod amnesia;
mod clock;
mod counter;
mod disk;
mod field;
mod kernel;
mod kill_flushing;
mod late_leader;
mod name_server;
mod network;
mod overload;
mod peer;
mod poison;
mod process;
mod snapshot;
mod stale;
mod starve;
mod votes;

use std::pin::Pin;

pub use self::amnesia::Amnesia;
pub use self::clock::{Clock, WrongClock};
pub use self::disk::{Damaged, Loss, PowerCut, SickDisk, Sickness};
pub use self::field::Field;
pub use self::kill_flushing::KillWhileFlushing;
pub use self::late_leader::LateLeader;
pub use self::name_server::KillNameServers;
pub use self::network::{Cut, Degrade, Partition, Trouble};
pub use self::overload::Overload;
pub use self::poison::{Door, Poison};
pub use self::process::{Kill, Lag, Pause, RestartStorm, RollingRestart, Target};
pub use self::snapshot::{InterruptedSnapshot, Interruption};
pub use self::stale::StaleNameServers;
pub use self::starve::{StarvedDescriptors, StarvedMemory, StarvedProcessor};
pub use self::votes::FalseCandidates;

use crate::mesh::{self, Counterpart, Reason, Setting};

/// Whether a fault had an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bite {
    /// It had; the sentence says what shows it.
    Bit(String),
    /// It had none that could be seen: the run proves nothing about it.
    Missed(String),
}

/// A boxed future that borrows the fault and its field.
pub type Step<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + 'a>>;

/// One kind of fault, with its parameters.
pub trait Fault {
    /// Its name, as in `chaos list`: lower case with hyphens.
    fn name(&self) -> &'static str;

    /// Its settings, for the report.
    fn parameters(&self) -> serde_json::Value;

    /// Chooses the nodes or links it is about, without touching them.
    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>>;

    /// Makes it.
    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()>;

    /// Undoes it, and says whether it had an effect.
    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite>;

    /// What does the same to a cluster in Kubernetes, or why nothing does.
    ///
    /// # Errors
    /// There is nothing like it.
    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err(mesh::NONE_YET)
    }
}
