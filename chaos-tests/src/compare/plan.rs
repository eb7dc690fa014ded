//! The faults of a comparison, the same for each cluster and in the same order.

use std::time::Duration;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What happens to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of the leader; it comes back after [`AWAY`].
    KillLeader,
    /// The leader stands still for [`PAUSE`].
    PauseLeader,
    /// The leader is stopped as an operator does it (SIGTERM), and started again at once.
    RestartLeader,
    /// `kill -9` of all brokers; they come back after [`BREAK`].
    KillAll,
}

/// Longer than any of the clusters needs to find that a broker is gone, so that it is their taking
/// over that is measured, not how soon somebody starts the dead one again.
pub const AWAY: Duration = Duration::from_secs(20);
/// Of a leader that stands still.
pub const PAUSE: Duration = Duration::from_secs(6);
/// Until a supervisor starts processes that ended.
pub const BREAK: Duration = Duration::from_secs(1);

impl Fault {
    /// All.
    pub const ALL: [Self; 4] =
        [Self::KillLeader, Self::PauseLeader, Self::RestartLeader, Self::KillAll];

    /// Its name in histories and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "kill-leader",
            Self::PauseLeader => "pause-leader",
            Self::RestartLeader => "restart-leader",
            Self::KillAll => "kill-all",
        }
    }

    /// How long it lasts by itself.
    pub fn hold(self) -> Duration {
        match self {
            Self::KillLeader => AWAY,
            Self::PauseLeader => PAUSE,
            Self::RestartLeader => Duration::ZERO,
            Self::KillAll => BREAK,
        }
    }
}

/// Each fault once in each round, in an order that the seed decides.
pub fn plan(seed: u64, rounds: u32) -> Vec<Fault> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut plan = Vec::new();
    for _ in 0..rounds {
        let mut round = Fault::ALL;
        round.shuffle(&mut random);
        plan.extend(round);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_with_each_fault_in_each_round() {
        let made = plan(7, 3);
        assert_eq!(made, plan(7, 3));
        for round in made.chunks(4) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, Fault::ALL);
        }
        assert_eq!(made.len(), 12);
        assert!((0..9).any(|seed| plan(seed, 3) != made));
    }
}
