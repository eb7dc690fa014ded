//! Random commands against the state machine and against a simple model of it.
//!
//! What is compared after each entry: replies, readable messages, cursors, what is out, held back, due,
//! pending. In numbers that differ between replicas that got their commands in different entries (log
//! indexes, nonces, timers) the model has its own, and a [`trial::Run`] translates.

mod choose;
mod coverage;
mod dice;
mod reference;
mod seen;
mod trial;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use trial::Trial;

/// Few cases and long ones: each opens five databases. PROPTEST_CASES asks for more.
fn config() -> ProptestConfig {
    let regressions = FileFailurePersistence::WithSource("regressions");
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 30 };
    ProptestConfig {
        cases,
        max_shrink_iters: 2_000,
        failure_persistence: Some(Box::new(regressions)),
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    /// Each list of seeds is what arrives together: chosen from the same state, as a leader does.
    #[test]
    fn apply_does_what_the_model_does(
        batches in prop::collection::vec(
            (any::<u64>(), prop::collection::vec(any::<u64>(), 1..9)), 20..100),
    ) {
        let mut trial = Trial::new();
        for (seed, choices) in &batches {
            trial.batch(*seed, choices);
        }
        trial.end();
    }
}
