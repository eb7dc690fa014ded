//! Faults: what is broken, on purpose, while a cluster is under load.
//!
//! A fault is named, has parameters, draws all its chance from the seed of the run, shows whether it
//! had an effect, and is undone by [`Fault::end`] or, at the latest, when its field is dropped.

use std::pin::Pin;

use rand_chacha::ChaCha8Rng;

use crate::cluster::Cluster;

/// Where faults are made.
pub struct Field {
    /// The processes.
    pub cluster: Cluster,
    /// Chance. The only source of it for faults.
    pub random: ChaCha8Rng,
}

/// Whether a fault had an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bite {
    /// It had; the sentence says what shows it.
    Bit(String),
    /// It had none that could be seen: the run proves nothing about it.
    Missed(String),
}

/// A boxed future that borrows the fault and its field.
pub type Step<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send + 'a>>;

/// One kind of fault, with its parameters.
pub trait Fault: Send {
    /// Its name, as in `chaos list`: lower case with hyphens.
    fn name(&self) -> &'static str;

    /// Its settings, for the report.
    fn parameters(&self) -> serde_json::Value;

    /// Makes it. Returns the nodes or links that were chosen.
    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>>;

    /// Undoes it, and says whether it had an effect.
    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite>;
}
