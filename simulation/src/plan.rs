//! What a seed stands for: sizes, timings and which faults may happen.
//!
//! Swarm testing: each seed leaves out some kinds of faults and stretches some parameters, so that no
//! fixed mixture hides what only shows without a certain fault, or with few of them.

use std::time::Duration;

use raftmq_broker::Timing;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed, its host goes on.
    Kill,
    /// A host loses power, between any two changes of its disk.
    PowerCut,
    /// All hosts lose power at once.
    PowerCutAll,
    /// A process stands still for a while.
    Pause,
    /// A node is cut off from the others, in both directions or one.
    CutOff,
    /// Two groups of nodes can not reach each other.
    Split,
    /// Links lose packets and are slow.
    BadLinks,
    /// Flushes of a disk take long.
    SlowDisk,
    /// A disk does not flush at all for a while.
    HungDisk,
    /// A flush fails.
    FailedFlush,
    /// The leader is asked to hand over.
    Transfer,
    /// A wall clock jumps.
    Clock,
    /// A node is away for long.
    Away,
    /// A bit on the disk of a stopped node flips.
    Damage,
    /// A node comes back with an empty disk.
    EmptyDisk,
}

impl Fault {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Kill,
        Self::PowerCut,
        Self::PowerCutAll,
        Self::Pause,
        Self::CutOff,
        Self::Split,
        Self::BadLinks,
        Self::SlowDisk,
        Self::HungDisk,
        Self::FailedFlush,
        Self::Transfer,
        Self::Clock,
        Self::Away,
        Self::Damage,
        Self::EmptyDisk,
    ];
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes of the group.
    pub node_count: u64,
    /// How long faults go on.
    pub chaos: Duration,
    /// Which happen; some more often than others.
    pub faults: Vec<Fault>,
    /// Pause between two faults, milliseconds: shortest, longest.
    pub between_faults_ms: (u64, u64),
    /// How long a fault lasts, milliseconds: shortest, longest.
    pub fault_ms: (u64, u64),
    /// Raft's timing.
    pub timing: Timing,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// What retention keeps; 0: everything.
    pub retention_bytes: u64,
    /// How often it looks.
    pub retention_interval: Duration,
    /// Time on healthy links, microseconds: shortest, longest.
    pub delay_us: (u64, u64),
    /// Time of a healthy flush, microseconds: shortest, longest.
    pub flush_us: (u64, u64),
    /// Clients that send.
    pub producers: u64,
    /// Clients that receive.
    pub consumers: u64,
    /// Pause of a producer between two sends, milliseconds: shortest, longest.
    pub think_ms: (u64, u64),
    /// Longest body.
    pub body_bytes_max: usize,
    /// Messages of one send, at most.
    pub messages_max: usize,
    /// Queues of the topic.
    pub queue_count: u32,
}

impl Plan {
    /// The run of `seed`.
    pub fn of(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pick = |choices: &[u64]| choices[rng.random_range(0..choices.len())];
        let node_count = pick(&[3, 3, 3, 5]);
        let chaos = Duration::from_secs(pick(&[30, 45, 60]));
        let between = pick(&[300, 1000, 3000]);
        let fault_ms = pick(&[200, 1500, 4000]);
        let election = pick(&[300, 450, 900]);
        let segment_bytes = pick(&[4 << 10, 16 << 10, 128 << 10]);
        let retention_bytes = segment_bytes * pick(&[0, 0, 3, 8]);
        let delay = pick(&[50, 300, 2000]);
        let flush = pick(&[100, 1000, 8000]);
        let producers = pick(&[2, 4, 6]);
        let consumers = pick(&[1, 2, 3]);
        let think = pick(&[150, 500, 1500]);
        let body_bytes_max = pick(&[20, 300, 2500]) as usize;
        let messages_max = pick(&[1, 1, 4]) as usize;
        let queue_count = pick(&[1, 2, 5]) as u32;
        // Each kind is in with one chance in two; a run without any would be for nothing.
        let mut faults: Vec<Fault> =
            Fault::ALL.iter().copied().filter(|_| rng.random_bool(0.5)).collect();
        if faults.is_empty() {
            faults.push(Fault::Kill);
        }
        Self {
            node_count,
            chaos,
            faults,
            between_faults_ms: (between / 10, between),
            fault_ms: (fault_ms / 10, fault_ms),
            timing: Timing {
                heartbeat: Duration::from_millis(election / 3),
                election_min: Duration::from_millis(election),
                election_max: Duration::from_millis(election * 5 / 3),
            },
            segment_bytes,
            retention_bytes,
            retention_interval: Duration::from_secs(2),
            delay_us: (delay / 2, delay),
            flush_us: (flush / 4, flush),
            producers,
            consumers,
            think_ms: (think / 4, think),
            body_bytes_max,
            messages_max,
            queue_count,
        }
    }
}
