//! The faults of OpenChaos, and what they are here.

/// A fault of OpenChaos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Its name there, as given to `--fault`.
    pub openchaos: &'static str,
    /// What is done.
    pub deed: Deed,
    /// To whom.
    pub scope: Scope,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing.
    Noop,
    /// Ends processes at once.
    Kill,
    /// Stops processes for a while.
    Suspend,
    /// Cuts links.
    Partition,
    /// Drops packets.
    Loss,
    /// Delays packets.
    Delay,
    /// Takes processor time away.
    CpuHigh,
    /// Takes memory away.
    MemHigh,
    /// Makes the disk answer with errors.
    DiskError,
    /// Makes the disk not answer.
    IoHang,
}

/// Whom a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Fewer than half of the nodes.
    Minor,
    /// Half of the nodes or more.
    Major,
    /// Any number of nodes, by chance.
    Random,
    /// Named nodes.
    Fixed,
    /// The leader.
    Leader,
    /// Links in a shape that gives each node another majority.
    MajoritiesRing,
    /// Links in a shape that leaves one node which reaches both halves.
    Bridge,
    /// Nobody.
    Nobody,
}

const fn of(openchaos: &'static str, deed: Deed, scope: Scope) -> Alias {
    Alias { openchaos, deed, scope }
}

/// Every fault that OpenChaos accepts.
pub const ALIASES: [Alias; 40] = [
    of("noop", Deed::Noop, Scope::Nobody),
    of("minor-kill", Deed::Kill, Scope::Minor),
    of("major-kill", Deed::Kill, Scope::Major),
    of("random-kill", Deed::Kill, Scope::Random),
    of("fixed-kill", Deed::Kill, Scope::Fixed),
    of("leader-kill", Deed::Kill, Scope::Leader),
    of("random-partition", Deed::Partition, Scope::Random),
    of("fixed-partition", Deed::Partition, Scope::Fixed),
    of("leader-partition", Deed::Partition, Scope::Leader),
    of("partition-majorities-ring", Deed::Partition, Scope::MajoritiesRing),
    of("bridge", Deed::Partition, Scope::Bridge),
    of("minor-loss", Deed::Loss, Scope::Minor),
    of("major-loss", Deed::Loss, Scope::Major),
    of("fixed-loss", Deed::Loss, Scope::Fixed),
    of("random-loss", Deed::Loss, Scope::Random),
    of("minor-delay", Deed::Delay, Scope::Minor),
    of("major-delay", Deed::Delay, Scope::Major),
    of("random-delay", Deed::Delay, Scope::Random),
    of("fixed-delay", Deed::Delay, Scope::Fixed),
    of("minor-suspend", Deed::Suspend, Scope::Minor),
    of("major-suspend", Deed::Suspend, Scope::Major),
    of("leader-suspend", Deed::Suspend, Scope::Leader),
    of("random-suspend", Deed::Suspend, Scope::Random),
    of("fixed-suspend", Deed::Suspend, Scope::Fixed),
    of("minor-cpu-high", Deed::CpuHigh, Scope::Minor),
    of("major-cpu-high", Deed::CpuHigh, Scope::Major),
    of("random-cpu-high", Deed::CpuHigh, Scope::Random),
    of("fixed-cpu-high", Deed::CpuHigh, Scope::Fixed),
    of("minor-mem-high", Deed::MemHigh, Scope::Minor),
    of("major-mem-high", Deed::MemHigh, Scope::Major),
    of("random-mem-high", Deed::MemHigh, Scope::Random),
    of("fixed-mem-high", Deed::MemHigh, Scope::Fixed),
    of("minor-disk-error", Deed::DiskError, Scope::Minor),
    of("major-disk-error", Deed::DiskError, Scope::Major),
    of("random-disk-error", Deed::DiskError, Scope::Random),
    of("fixed-disk-error", Deed::DiskError, Scope::Fixed),
    of("minor-io-hang", Deed::IoHang, Scope::Minor),
    of("major-io-hang", Deed::IoHang, Scope::Major),
    of("random-io-hang", Deed::IoHang, Scope::Random),
    of("fixed-io-hang", Deed::IoHang, Scope::Fixed),
];

/// Words in names of faults here, and what they do. The first that fits counts.
const DEEDS: [(&[&str], Deed); 10] = [
    (&["noop", "quiet"], Deed::Noop),
    (&["kill", "crash"], Deed::Kill),
    (&["suspend", "pause", "freeze", "sigstop"], Deed::Suspend),
    (&["partition", "isolate", "bridge", "ring"], Deed::Partition),
    (&["loss", "drop"], Deed::Loss),
    (&["hang", "stall"], Deed::IoHang),
    (&["eio", "error"], Deed::DiskError),
    (&["delay", "jitter"], Deed::Delay),
    (&["cpu"], Deed::CpuHigh),
    (&["mem", "memory"], Deed::MemHigh),
];

/// Words in names of faults here, and whom they are about.
const SCOPES: [(&[&str], Scope); 7] = [
    (&["bridge"], Scope::Bridge),
    (&["ring"], Scope::MajoritiesRing),
    (&["leader"], Scope::Leader),
    (&["minor", "minority", "follower"], Scope::Minor),
    (&["major", "majority", "all"], Scope::Major),
    (&["random", "any"], Scope::Random),
    (&["fixed"], Scope::Fixed),
];

/// What OpenChaos calls the fault `name` of this harness, done to `targets` of `brokers` nodes. A
/// name that does not say to whom it is done is judged by the number of its targets. `None` if
/// OpenChaos has no such fault: it has none for clocks, torn writes, full disks and members.
pub fn alias(name: &str, targets: usize, brokers: usize) -> Option<&'static str> {
    let words: Vec<&str> = name.split(['-', '_', ' ']).collect();
    let has = |wanted: &[&str]| wanted.iter().any(|word| words.contains(word));
    let deed = DEEDS.iter().find(|(wanted, _)| has(wanted))?.1;
    let by_count = if targets * 2 < brokers { Scope::Minor } else { Scope::Major };
    let scope = SCOPES.iter().find(|(wanted, _)| has(wanted)).map(|(_, scope)| *scope);
    let fits = |scope| ALIASES.iter().find(|alias| alias.deed == deed && alias.scope == scope);
    // Partitions have no minor or major kind, other deeds none about the leader only.
    let alias = scope.and_then(fits).or_else(|| fits(by_count)).or_else(|| fits(Scope::Random));
    alias.or_else(|| fits(Scope::Nobody)).map(|alias| alias.openchaos)
}
