//! What the reductions cost that need every update.
//!
//! `cargo bench -p aggregate --bench reduce` prints seconds per GB of updates (4 bytes per parameter, all updates
//! together) for rounds of 8, 16 and 64 updates that lie in memory, on one thread and on two.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)] // a program for people

use std::time::Instant;

use aggregate::{Budget, InMemory, ReduceSpec, reduce};

/// Of all updates together.
const BYTES: usize = 256 << 20;

/// As a coordinator has it.
const BLOCK: usize = 8 << 20;

fn main() {
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    println!("seconds per GB of updates");
    println!("{:<24}{:>10}{:>12}{:>12}", "rule", "updates", "1 thread", "2 threads");
    for rows in [8usize, 16, 64] {
        let columns = BYTES / 4 / rows;
        let mut rng = params::Rng::new(7, &["reduce"]);
        let noise: Vec<f32> = (0..columns + 64 * 97).map(|_| rng.unit() as f32 - 0.5).collect();
        let all: Vec<&[f32]> = (0..rows).map(|row| &noise[row * 97..row * 97 + columns]).collect();
        for spec in [
            ReduceSpec::Median,
            ReduceSpec::TrimmedMean { f: 1 },
            ReduceSpec::Krum { f: 1 },
            ReduceSpec::MultiKrum { f: 1, m: 4 },
            ReduceSpec::Bulyan { f: 1 },
            ReduceSpec::GeometricMedian { nu: 1e-6, iterations: 3 },
            ReduceSpec::CenteredClipping { tau: 1.0, iterations: 1 },
        ] {
            let time = |threads: usize| {
                let mut rows = InMemory::new(all.clone()).unwrap();
                let start = Instant::now();
                let budget = Budget { bytes: BLOCK, threads };
                reduce(&spec, &mut rows, None, budget, &mut |_, block| {
                    std::hint::black_box(block);
                    Ok(())
                })
                .unwrap();
                start.elapsed().as_secs_f64() / (BYTES as f64 / 1e9)
            };
            println!("{:<24}{rows:>10}{:>12.2}{:>12.2}", spec.name(), time(1), time(2));
        }
    }
}
