//! How fast updates are added, beside how fast memory is copied, in one run.
//!
//! `cargo bench -p aggregate --bench fold` prints, for models of 10^6, 10^7 and 10^8 parameters and rounds of 2, 8
//! and 64 updates, the bytes of updates that one core adds in a second over the bytes that `memcpy` copies in a
//! second, the same with two threads, and the memory that the round took beside the formula of the documentation.
//! `PARAMETERS=1000000` measures one size alone.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)] // a program for people

use std::{hint::black_box, num::NonZeroUsize, time::Instant};

use aggregate::{Accumulator, Source, Stretch};

const SIZES: [usize; 3] = [1_000_000, 10_000_000, 100_000_000];
const UPDATES: [usize; 3] = [2, 8, 64];

fn main() {
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let only = std::env::var("PARAMETERS").ok().map(|n| n.parse::<usize>().unwrap());
    let header =
        ["parameters", "updates", "memcpy", "fold", "ratio", "2 threads", "scaling", "mean", "memory"];
    println!(
        "GB/s of bytes of updates (copied, added, written); memory: sum in bytes per parameter, 8 by the formula"
    );
    println!("{}", header.map(|title| format!("{title:>11}")).concat());
    for parameters in SIZES.into_iter().filter(|n| only.is_none_or(|only| only == *n)) {
        size(parameters);
    }
}

fn size(parameters: usize) {
    let update: Vec<u8> =
        (0..parameters).flat_map(|i| ((i % 1000) as f32 * 1e-3 - 0.5).to_le_bytes()).collect();
    let mut copy = vec![1u8; update.len()];
    for updates in UPDATES {
        let times = (updates * 100_000_000 / parameters).div_ceil(updates * 8).max(1);
        let before = resident();
        let mut sum =
            Accumulator::new(&[Stretch { elements: parameters, coordinate_max: 256.0 }], 1 << 40).unwrap();
        let mut add = |threads: usize| {
            let threads = NonZeroUsize::new(threads).unwrap();
            (0..updates as u64).for_each(|i| sum.add(&Source::Bytes(&update), 1 + i, threads).unwrap());
        };
        add(1);
        let memory = resident().saturating_sub(before) as f64 / parameters as f64;
        let bytes = (update.len() * updates) as f64;
        // Taken in turns, so that a noisy neighbour meets all alike; the median of each.
        let (mut copied, mut one, mut two) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            copied.push(rate(times, bytes, || {
                for _ in 0..updates {
                    copy.copy_from_slice(black_box(&update));
                    black_box(&mut copy);
                }
            }));
            one.push(rate(times, bytes, || add(1)));
            two.push(rate(times, bytes, || add(2)));
        }
        let [copied, one, two] = [copied, one, two].map(median);
        let mut out = vec![0f32; parameters];
        let mean = rate(1, update.len() as f64, || sum.mean(0, &mut out, NonZeroUsize::MIN).unwrap());
        println!(
            "{parameters:>11}{updates:>11}{copied:>11.2}{one:>11.2}{:>11.2}{two:>11.2}{:>11.2}{mean:>11.2}{memory:>11.2}",
            one / copied,
            two / one,
        );
    }
}

fn rate(times: usize, bytes: f64, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| work());
    bytes * times as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Resident memory of this process in bytes, as Linux counts it.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
