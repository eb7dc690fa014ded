//! Drills: a cluster, workloads, a plan of faults, and what is expected of it.

mod catalog;
mod messages;
mod run;

use std::time::Duration;

use rand_chacha::ChaCha8Rng;

pub use self::catalog::{all, find, suite};
pub use self::run::{Options, directory, prepare, run};
pub(crate) use self::run::{given_up, subject, windows};
use crate::check::{Checker, Expectations};
use crate::cluster::Size;
use crate::fault::Fault;
use crate::load::Workload;

/// One drill, before a seed is chosen.
#[derive(Clone, Copy)]
pub struct Drill {
    /// Its name, as in `chaos list`.
    pub name: &'static str,
    /// One sentence: what is done and what must hold.
    pub about: &'static str,
    /// Servers.
    pub size: Size,
    /// What it needs of the machine.
    pub needs: &'static [Need],
    /// Added to each broker's command line.
    pub broker_options: &'static [&'static str],
    /// What applications do meanwhile.
    pub workloads: fn() -> Vec<Box<dyn Workload>>,
    /// The faults, one after the other. All chance comes from the argument.
    pub plan: fn(&mut ChaCha8Rng) -> Vec<Step>,
    /// How long the load goes on after the last fault, when everything is mended.
    pub load_after: Duration,
    /// Checkers that must have something to look at, beside the usual ones.
    pub requires: &'static [Checker],
    /// What else the checkers are to demand.
    pub expect: fn() -> Expectations,
    /// The drill whose faults it makes, under another load.
    pub faults_of: Option<&'static str>,
}

impl Drill {
    /// What the checkers are to demand of a run of it, at all its brokers.
    pub fn expectations(&self) -> Expectations {
        let replicas = (1..=self.size.brokers).map(|id| format!("broker-{id}")).collect();
        let mut expect = Expectations { replicas, ..(self.expect)() };
        expect.required.extend(self.requires);
        expect
    }
}

/// One fault of a plan.
pub struct Step {
    /// Which.
    pub fault: Box<dyn Fault>,
    /// How long it lasts after it has begun.
    pub hold: Duration,
    /// How long the cluster is left alone afterwards.
    pub rest: Duration,
}

/// What a drill can need of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A network of its own, whose links can be broken.
    Network,
    /// A disk for each broker, whose power can be cut.
    Volumes,
    /// A library between the processes and the system, for slow disks and wrong clocks.
    Shim,
    /// The official client for Java, and what builds a program with it.
    Java,
    /// The same for Python.
    Python,
}

impl Need {
    /// Its name, as in `chaos probe`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Volumes => "volumes",
            Self::Shim => "shim",
            Self::Java => "java",
            Self::Python => "python",
        }
    }
}
