//! A model of 10^8 parameters and eight worker processes on this host.
//!
//! `cargo bench -p tests --bench large` runs two rounds and prints the time of each, the coordinator's peak memory and
//! what the formula of `docs/measurements.md` says; it fails above 2.5 GiB. The workers keep an update of 400 MB each on
//! the disk, and hold it in memory. `WORKERS=2` shows that the coordinator's memory does not depend on them.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a program for people

use tests::{Federation, Load, usage};

const PARAMETERS: usize = 100_000_000;

/// The coordinator must stay below it.
const RESIDENT_MAX: u64 = 5 << 29;

fn main() {
    // Cargo asks every benchmark for its list of tests.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let number = |name: &str, default: usize| {
        std::env::var(name).ok().map_or(default, |number| number.parse().unwrap())
    };
    let (workers, parameters) = (number("WORKERS", 8), number("PARAMETERS", PARAMETERS));
    let mut federation = Federation::start();
    let pid = federation.coordinator().id();
    let _sites: Vec<_> = (0..workers).map(|at| federation.worker(&format!("site-{at}"), &[])).collect();
    let load = Load { parameters, workers, rounds: 2, deadline: "600s", ..Load::default() };
    let run = federation.complete(&load.toml(), &[]);
    let held = usage(pid);
    println!("{parameters} parameters, {workers} workers");
    for round in run["rounds"].as_array().unwrap() {
        println!(
            "round {:<20} {:>10.1} s, digest {}",
            round["round"],
            round["seconds"].as_f64().unwrap(),
            round["digest"]
        );
    }
    // An idle process, the sum, the base version, one update in flight, blocks, connections.
    let formula = 40_000_000 + 16 * parameters as u64 + (8 << 20) + (workers as u64) * (3 << 20);
    println!(
        "coordinator, peak memory   {:>10} MB, {} MB by the formula",
        held.resident_max / 1_000_000,
        formula / 1_000_000
    );
    println!("coordinator, CPU           {:>10.1} s", held.cpu);
    assert!(
        held.resident_max < RESIDENT_MAX,
        "{} bytes, at most {RESIDENT_MAX} are allowed",
        held.resident_max
    );
}
