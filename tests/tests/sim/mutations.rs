//! The simulator finds bugs: each mistake of [`Mutation`] is caught by seeds that are named here, and the
//! same seeds pass without it.

use crate::{mutation::Mutation, runner::checked};

/// Mistake, the rule that it breaks, and seeds that show it. After a change of the protocol or of the
/// simulator a seed is another history: `SIM_HUNT=2000 cargo test -p tests --test sim -- hunt --nocapture`
/// finds others.
const CAUGHT: [(Mutation, &str, [u64; 3]); 8] = [
    (Mutation::AcknowledgeBeforePersist, "S1", [5, 21, 35]),
    (Mutation::PublishBeforeDurable, "S3", [41, 169, 226]),
    (Mutation::ForgetRestart, "S1", [0, 4, 8]),
    (Mutation::FoldTwice, "S1", [71, 92, 145]),
    (Mutation::ReuseLeases, "S5", [0, 1, 2]),
    (Mutation::CandidateBeforeDurable, "S3", [3, 4, 5]),
    (Mutation::ForgetSilence, "S4", [6, 7, 22]),
    (Mutation::TellBeforePersist, "S7", [397, 505, 905]),
];

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    is_caught(Mutation::AcknowledgeBeforePersist);
}

#[test]
fn a_version_that_is_shown_before_its_commit_is_durable_is_caught() {
    is_caught(Mutation::PublishBeforeDurable);
}

#[test]
fn a_restart_that_asks_for_nothing_again_is_caught() {
    is_caught(Mutation::ForgetRestart);
}

#[test]
fn an_update_that_is_folded_twice_is_caught() {
    is_caught(Mutation::FoldTwice);
}

#[test]
fn leases_that_are_handed_out_again_are_caught() {
    is_caught(Mutation::ReuseLeases);
}

#[test]
fn a_candidate_that_is_not_durable_is_caught() {
    is_caught(Mutation::CandidateBeforeDurable);
}

#[test]
fn a_journal_with_a_gap_is_caught() {
    is_caught(Mutation::ForgetSilence);
}

#[test]
fn work_that_is_handed_out_before_its_round_is_durable_is_caught() {
    is_caught(Mutation::TellBeforePersist);
}

/// For who changes the protocol: which seeds catch which mistake.
#[test]
fn hunt() {
    let Some(count) = crate::runner::number("SIM_HUNT") else { return };
    for (mutation, oracle, _) in CAUGHT {
        let caught = (0..count).filter(|seed| oracle_of(*seed, mutation) == Some(oracle)).take(3);
        println!("{mutation:?}: {oracle} by {:?}", caught.collect::<Vec<_>>());
    }
}

#[track_caller]
fn is_caught(mutation: Mutation) {
    let (_, oracle, seeds) = CAUGHT.into_iter().find(|(known, ..)| *known == mutation).unwrap();
    for seed in seeds {
        assert_eq!(oracle_of(seed, Mutation::None), None, "seed {seed} without a mistake");
        assert_eq!(oracle_of(seed, mutation), Some(oracle), "seed {seed} with {mutation:?}");
    }
}

/// The rule that the seed breaks.
fn oracle_of(seed: u64, mutation: Mutation) -> Option<&'static str> {
    checked(seed, mutation).err().map(|violation| violation.oracle)
}
