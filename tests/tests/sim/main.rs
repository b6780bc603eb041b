//! The seeded simulator of the round protocol: the real coordinator machine and the real worker machines, on
//! a network that delays, drops, duplicates, reorders and partitions, on disks that lose what was not
//! synced, under clocks that jump. One thread and one source of randomness: a seed is a whole history.
//!
//! Safety:
//!
//! 1. `S1` What was acknowledged to a worker is in the published version of its attempt exactly once, or
//!    the journal says that the attempt was given up. Every entry of a published sum is 0 or 1.
//! 2. `S2` Rounds are published once, without a gap, by a quorum, and by members of the cohort alone.
//! 3. `S3` A version that was seen is there, and the same, after every restart; so are the bytes of a candidate
//!    that the journal names.
//! 4. `S4` A replay of the journal, from its beginning or from a snapshot, gives the machine that wrote it; a
//!    step that is not written changes nothing that a replay brings back.
//! 5. `S5` A lease never names two pieces of work.
//! 6. `S6` A refusal leaves no trace.
//! 7. `S7` With crashes of the coordinator alone, no worker trains the same twice, and the digests of all
//!    versions are those of the undisturbed run.
//! 8. `S8` An operator's order that was answered is in force after every restart.
//!
//! Liveness:
//!
//! 9. `L1` Once faults stop, every run ends, or is paused, within `Scenario::bound`.
//! 10. `L2` The same seed gives the same events and effects.
//! 11. `L3` Once the faults have settled (`Scenario::settled`), an attempt succeeds.
//!
//! A panic of the product is reported like a broken rule. `docs/simulator.md` says how to run it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod coordinator;
mod disk;
mod env;
mod mutation;
mod mutations;
mod oracles;
mod runner;
mod scenario;
mod trace;
mod workers;
mod world;

use mutation::Mutation;
use runner::{check, number};
use trace::Trace;

/// How many seeds a plain run takes.
const SEEDS: u64 = 2_000;

#[test]
fn rules_hold() {
    let (first, count) = (number("SIM_FIRST").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS));
    let clock = service::clock::Clock::start();
    let (totals, failed) = runner::run_all(first, count);
    println!("{totals}wall time: {:.1} s", clock.seconds());
    assert!(failed.is_empty(), "rules are broken\n{}", runner::failures(&failed));
}

/// Runs one seed, `SIM_SEED`, and prints all that happens.
#[test]
fn replay() {
    let Some(seed) = number("SIM_SEED") else { return };
    let report = check(seed, Mutation::None, Trace::text);
    if let Trace::Text(lines) = &report.trace {
        lines.iter().for_each(|line| println!("{line}"));
    }
    println!("{}", report.outcome);
    assert!(report.violation.is_none(), "{:?}", report.violation);
}

/// L2: one seed in 40, twice.
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in (0..SEEDS).step_by(40).map(|seed| seed + seed / 40 % 4) {
        let hash = || check(seed, Mutation::None, Trace::hash).trace.finish();
        assert_eq!(hash(), hash(), "L2: seed {seed}");
    }
}
