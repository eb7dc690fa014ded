//! Chance, from one seed.

use parking_lot::Mutex;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

static DRAW: Draw = Draw(Mutex::new(None));

/// The one generator of the run.
pub struct Draw(Mutex<Option<StdRng>>);

/// The one generator of the run.
pub fn draw() -> &'static Draw {
    &DRAW
}

impl Draw {
    /// Begins the run of `seed`.
    pub fn seed(&self, seed: u64) {
        *self.0.lock() = Some(StdRng::seed_from_u64(seed));
    }

    /// A number in `low..=high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.with(|rng| rng.random_range(low..=high.max(low)))
    }

    /// True once in `count`.
    pub fn once_in(&self, count: u64) -> bool {
        self.between(1, count.max(1)) == 1
    }

    /// True with this many chances in a thousand.
    pub fn permille(&self, chances: u64) -> bool {
        chances > 0 && self.between(1, 1000) <= chances
    }

    /// A duration in `low..=high`, both in microseconds.
    pub fn micros(&self, low: u64, high: u64) -> std::time::Duration {
        std::time::Duration::from_micros(self.between(low, high))
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut StdRng) -> R) -> R {
        match self.0.lock().as_mut() {
            Some(rng) => use_it(rng),
            None => panic!("the run has no seed"),
        }
    }
}
