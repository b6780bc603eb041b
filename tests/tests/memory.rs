//! What a coordinator holds while it takes updates in does not depend on how many there are.

#![allow(clippy::print_stdout)] // it reports

use tests::{Federation, Load, usage};

const PARAMETERS: usize = 4_000_000;

/// Room for one update and a half.
const BUDGET: u64 = 24_000_000;

/// What one upload may have sent before anybody reads it (2 MiB), and what its connection holds beside.
const CONNECTION: u64 = 3 << 20;

/// What a version is made of at a time: four blocks of 2 MiB.
const BLOCKS: u64 = 8 << 20;

/// What a run took at the most, beyond what the coordinator held before, and the formula for it: the sum (8 bytes for
/// each parameter), the base version in the page cache (4), uploads in flight, blocks, connections.
fn peak(workers: usize) -> (u64, u64) {
    let budget = format!("upload_budget = {BUDGET}");
    let mut federation = Federation::start_with(&[("upload_budget", &budget)]);
    let pid = federation.coordinator().id();
    let idle = usage(pid).resident;
    let _sites: Vec<_> = (0..workers).map(|at| federation.worker(&format!("site-{at}"), &[])).collect();
    let load = Load { parameters: PARAMETERS, workers, rounds: 2, deadline: "300s", ..Load::default() };
    assert_eq!(federation.complete(&load.toml(), &[])["state"], "completed");
    let formula = 12 * PARAMETERS as u64 + BUDGET + BLOCKS + workers as u64 * CONNECTION;
    (usage(pid).resident_max - idle, formula)
}

#[test]
fn a_round_takes_the_memory_of_a_few_models_whatever_the_number_of_workers() {
    let ((few, few_formula), (many, many_formula)) = (peak(2), peak(8));
    println!("2 workers {few}, formula {few_formula}; 8 workers {many}, formula {many_formula}");
    assert!(
        few as f64 <= 1.1 * few_formula as f64,
        "{few} bytes for 2 workers, {few_formula} by the formula"
    );
    assert!(
        many as f64 <= 1.1 * many_formula as f64,
        "{many} bytes for 8 workers, {many_formula} by the formula"
    );
    // Six more workers have six more connections, and not six more updates of 16 MB.
    let more = many.saturating_sub(few);
    assert!(more < 6 * CONNECTION + 8_000_000, "{few} bytes for 2 workers, {many} for 8");
}
