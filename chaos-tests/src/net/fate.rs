//! Draws what befalls a packet.
//!
//! Invariant: the draws for the n-th packet of a link are a function of the seed, the link and n.
//! They do not depend on time, on other links, or on how many draws earlier packets needed, so a
//! change of quality does not shift the fate of what follows.
//!
//! Not here: cutting, which is no chance, and when a packet leaves (`schedule`).

use std::time::Duration;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::link::Quality;

/// Draws per packet: loss, duplicate, reorder, corrupt, corrupt_checked, jitter, place, one spare.
const WORDS: u64 = 8;

/// How a bit flips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// As on a wire: the checksum no longer fits.
    Wire,
    /// The checksum is made to fit, so that the application gets it.
    Checked,
}

/// What befalls one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// It is dropped; the rest does not matter.
    pub lost: bool,
    /// It comes twice.
    pub duplicated: bool,
    /// It lets later ones pass.
    pub held_back: bool,
    /// One bit flips.
    pub damage: Option<Damage>,
    /// Which, modulo the number of bits that may.
    pub damaged_bit: u32,
    /// Added to the delay.
    pub jitter: Duration,
}

/// The fates of the packets of one link, in their order.
pub(super) struct Fates {
    random: ChaCha8Rng,
    /// Number of the next packet.
    next: u64,
    /// Number of the packet whose draws come next from `random`.
    drawn: u64,
}

impl Fates {
    /// Those of one link under a seed, from the first packet on.
    pub fn new(seed: u64, link_index: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(link_index as u64);
        Self { random, next: 0, drawn: 0 }
    }

    /// The fate of the next packet.
    pub fn draw(&mut self, quality: &Quality) -> Fate {
        let number = self.next;
        self.next += 1;
        if !quality.has_chance() {
            return Fate::default();
        }
        if self.drawn != number {
            self.random.set_word_pos(u128::from(number) * u128::from(WORDS));
        }
        self.drawn = number + 1;
        let [loss, duplicate, reorder, corrupt, checked, jitter, place, _] =
            std::array::from_fn(|_| self.random.next_u32());
        let wire = happens(corrupt, quality.corrupt).then_some(Damage::Wire);
        let checked = happens(checked, quality.corrupt_checked).then_some(Damage::Checked);
        Fate {
            lost: happens(loss, quality.loss),
            duplicated: happens(duplicate, quality.duplicate),
            held_back: happens(reorder, quality.reorder),
            damage: wire.or(checked),
            damaged_bit: place,
            jitter: quality.jitter.mul_f64(f64::from(jitter) / f64::from(u32::MAX)),
        }
    }
}

/// Whether a draw means that something of this probability happens: always for 1, never for 0.
fn happens(draw: u32, probability: f64) -> bool {
    f64::from(draw) < probability * (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Quality = Quality {
        jitter: Duration::from_millis(3),
        loss: 0.1,
        duplicate: 0.2,
        reorder: 0.3,
        corrupt: 0.4,
        corrupt_checked: 0.5,
        ..Quality::PERFECT
    };

    fn fates(seed: u64, link_index: usize, count: usize) -> Vec<Fate> {
        let mut fates = Fates::new(seed, link_index);
        (0..count).map(|_| fates.draw(&BAD)).collect()
    }

    #[test]
    fn same_seed_and_link_same_fates() {
        assert_eq!(fates(7, 3, 500), fates(7, 3, 500));
        assert_ne!(fates(7, 3, 500), fates(8, 3, 500));
        assert_ne!(fates(7, 3, 500), fates(7, 4, 500));
    }

    #[test]
    fn earlier_quality_does_not_shift_later_fates() {
        let expected = fates(7, 3, 500);
        let mut changing = Fates::new(7, 3);
        for (number, fate) in expected.iter().enumerate() {
            let perfect = number % 7 < 3;
            let quality = if perfect { Quality::PERFECT } else { BAD };
            let drawn = changing.draw(&quality);
            assert_eq!(drawn, if perfect { Fate::default() } else { *fate });
        }
    }

    #[test]
    fn frequencies_are_near_the_probabilities() {
        let fates = fates(1, 0, 20_000);
        let share = |test: &dyn Fn(&Fate) -> bool| {
            fates.iter().filter(|fate| test(fate)).count() as f64 / fates.len() as f64
        };
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 0.02, "{found}");
        close(share(&|fate| fate.lost), 0.1);
        close(share(&|fate| fate.duplicated), 0.2);
        close(share(&|fate| fate.held_back), 0.3);
        close(share(&|fate| fate.damage == Some(Damage::Wire)), 0.4);
        close(share(&|fate| fate.damage == Some(Damage::Checked)), 0.6 * 0.5);
        close(share(&|fate| fate.jitter < Duration::from_millis(1)), 1.0 / 3.0);
    }

    #[test]
    fn certain_and_impossible() {
        let mut fates = Fates::new(5, 0);
        let certain = Quality { loss: 1.0, ..Quality::PERFECT };
        let other = Quality { loss: 0.0, duplicate: 1.0, ..Quality::PERFECT };
        assert!((0..1000).all(|_| fates.draw(&certain).lost));
        assert!((0..1000).all(|_| !fates.draw(&other).lost));
    }
}
