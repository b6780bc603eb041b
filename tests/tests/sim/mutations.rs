//! The simulator finds bugs: each mistake of [`Mutation`] is caught by a named seed.

use crate::{mutation::Mutation, runner::checked};

#[test]
fn hunt() {
    let Ok(_) = std::env::var("SIM_HUNT") else { return };
    for mutation in [
        Mutation::AcknowledgeBeforePersist,
        Mutation::PublishBeforeDurable,
        Mutation::ForgetRestart,
        Mutation::FoldTwice,
        Mutation::ReuseLeases,
        Mutation::CandidateBeforeDurable,
        Mutation::ForgetSilence,
        Mutation::AnswerAfterDiscard,
    ] {
        let caught = (0..2000).filter_map(|seed| Some((seed, checked(seed, mutation).err()?.oracle))).take(6);
        println!("{mutation:?}: {:?}", caught.collect::<Vec<_>>());
    }
}
