//! How fast updates are encoded, decoded and checked, and differences between versions made and applied, on one core.
//!
//! `cargo bench -p update` prints GB/s of `f32` (4 bytes per element, whatever the encoding) for a model of
//! 4 Mi elements: the best of ten. `ELEMENTS=100000 cargo bench -p update` for another size.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a program for people

use std::{hint::black_box, time::Instant};

use params::{Layout, Rng, TensorSpec};
use update::{ENCODINGS, Encoding, Form, check, difference};

fn main() {
    let elements = std::env::var("ELEMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(4 << 20);
    let mut rng = Rng::new(7, &["speed"]);
    let values: Vec<f32> = (0..elements).map(|_| (rng.unit() + rng.unit() - 1.0) as f32).collect();
    let layout = Layout::new(vec![TensorSpec::new("w", [elements])]).unwrap();
    let form = Form::new(&layout, &[], 256.0).unwrap();
    let speed = |what: &mut dyn FnMut()| 4.0 * elements as f64 / best(what) / 1e9;
    println!("{elements} elements with a triangular distribution: bits each, relative L2 error, GB/s of f32");
    println!(
        "{:<8}{:>8}{:>10}{:>8}{:>8}{:>8}{:>8}{:>14}",
        "", "bits", "error", "encode", "verify", "decode", "check", "check + norm"
    );
    for name in ENCODINGS {
        let encoding = Encoding::named(name).unwrap();
        let (mut payload, mut out) = (Vec::new(), vec![0f32; elements]);
        let encode = speed(&mut || {
            payload.clear();
            encoding.encode(black_box(&values), 1, &mut payload).unwrap();
        });
        let verify = speed(&mut || encoding.verify(black_box(&payload), elements).unwrap());
        // In parts that stay in the cache, as an accumulator takes them.
        let decode = speed(&mut || {
            for (at, part) in out.chunks_mut(1 << 14).enumerate() {
                encoding.decode(black_box(&payload), elements, at << 14, part);
            }
        });
        let checked = |norm_max| {
            black_box(check(&form, &encoding, black_box(&payload), norm_max).unwrap());
        };
        let plain = speed(&mut || checked(None));
        let norm = speed(&mut || checked(Some(f64::INFINITY)));
        let bits = payload.len() as f64 * 8.0 / elements as f64;
        let error = error(&values, &out);
        println!(
            "{name:<8}{bits:>8.2}{error:>10.1e}{encode:>8.2}{verify:>8.1}{decode:>8.2}{plain:>8.2}{norm:>14.2}"
        );
    }
    differences(elements);
}

/// What the difference between two versions takes, where `moved` of 100 weights move by a size relative to their own.
fn differences(elements: usize) {
    println!("\n{:<24}{:>8}{:>8}{:>8}", "differences: moved, by", "share", "encode", "apply");
    for (moved, relative) in [(100, 1e-2), (100, 1e-3), (100, 1e-4), (1, 1e-3)] {
        let mut rng = Rng::new(7, &["difference"]);
        let mut normal = || (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for i in 0..elements {
            let weight = 0.1 * normal();
            let factor = if i % 100 < moved { 1.0 + relative * normal() } else { 1.0 };
            old.extend((weight as f32).to_le_bytes());
            new.extend(((weight * factor) as f32).to_le_bytes());
        }
        let mut made = Vec::new();
        let gigabytes = old.len() as f64 / 1e9;
        let encode = gigabytes / best(&mut || made = difference::encode(&old, &new, usize::MAX).unwrap());
        let apply =
            gigabytes / best(&mut || drop(black_box(difference::apply(&old, &made, old.len()).unwrap())));
        let share = made.len() as f64 / old.len() as f64;
        println!("{:<24}{share:>8.3}{encode:>8.2}{apply:>8.2}", format!("{moved} %, {relative:e}"));
    }
}

/// The L2 norm of what was lost over that of what was sent.
fn error(sent: &[f32], got: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let lost: f64 = sent.iter().zip(got).map(|(a, b)| square(f64::from(a - b))).sum();
    let all: f64 = sent.iter().map(|x| square(f64::from(*x))).sum();
    (lost / all).sqrt()
}

/// The shortest of ten runs, in seconds.
fn best(what: &mut dyn FnMut()) -> f64 {
    let run = |_| {
        #[allow(clippy::disallowed_methods)] // it measures
        let start = Instant::now();
        what();
        #[allow(clippy::disallowed_methods)]
        let took = start.elapsed();
        took.as_secs_f64()
    };
    (0..10).map(run).fold(f64::INFINITY, f64::min)
}
