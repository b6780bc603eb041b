use std::collections::BTreeMap;

use job::Job;
use params::{Digest, Params};

use super::*;
use crate::{
    runs::{
        attempt::{Tools, make},
        prepare::prepare,
        weights::Weights,
    },
    store::Blobs,
};

#[test]
fn the_largest_of_each_element_counts_whatever_the_order() {
    let of =
        |floats: [f32; 2], integers: [i64; 3]| Maxed { floats: floats.to_vec(), integers: integers.to_vec() };
    // No float of 64 bits tells these integers apart.
    let (high, higher) = ((1 << 53) + 1, (1 << 53) + 2);
    let one = || of([1.0, -2.0], [3, -4, high]);
    let two = || of([0.5, -1.0], [i64::MIN, -5, higher]);
    for (mut first, second) in [(one(), two()), (two(), one())] {
        first.raise(&second);
        assert_eq!(first.floats, [1.0, -1.0]);
        assert_eq!(first.integers, [3, -4, higher]);
    }
}

/// A synthetic run whose model has buffers, with rules for its tensors.
fn run(blobs: &Blobs, parameters: usize, tensors: &str) -> Context {
    let sample = include_str!("../../../../deploy/jobs/synthetic.toml");
    let text = sample
        .replace("parameters = 1000 ", &format!("parameters = {parameters} "))
        .replace("[synthetic]", "[synthetic]\nbuffers = true")
        + &format!("\n[aggregate]\nreduction = \"median\"\ntensors = [{tensors}]\n");
    let record = prepare(&Job::parse(&text).unwrap(), &text, &BTreeMap::new(), blobs, 1 << 30).unwrap();
    Context::load(&record, "run".parse().unwrap(), blobs).unwrap()
}

/// An update as a worker sends it.
fn sent(context: &Context, values: &[f32], integers: &[i64]) -> Vec<u8> {
    let (mut averaged, mut maxed, mut update) = (Vec::new(), Vec::new(), Vec::new());
    let form = &context.exchange.form;
    form.gather(values, &mut averaged, &mut maxed);
    update.extend(averaged.iter().chain(&maxed).flat_map(|value| value.to_le_bytes()));
    form.write_integers(integers, &mut update);
    assert!(update::check(form, &context.exchange.encoding, &update, None).is_ok());
    update
}

/// The version that a round of `updates` makes of `base`.
fn version(context: &Context, blobs: &Blobs, spill: &Spill, base: &Params, updates: &[Vec<u8>]) -> Params {
    let file = base.to_safetensors().unwrap();
    let base = Weights::new(&context.layout, Digest::of(&file), file.into()).unwrap();
    let mut gathered = Gathered::open(context, 4, updates.len()).unwrap();
    let threads = NonZeroUsize::MIN;
    for (at, update) in updates.iter().enumerate() {
        let averaged = Averaged::Spilled(spilled(context, spill, update).unwrap());
        let update = Update { averaged, maxed: Maxed::read(context, update) };
        gathered.fold(context, &format!("w{at}").parse().unwrap(), update, 1, threads).unwrap();
    }
    let made = make(context, &gathered, &base, None, &Tools { blobs, threads, budget: 1 << 20 }).unwrap();
    let params = Params::from_safetensors(&made.weights.file).unwrap();
    assert_eq!(params.to_safetensors().unwrap(), made.weights.file, "the file is as any other writes it");
    assert_eq!(made.weights.params(&context.layout).unwrap(), params);
    params
}

/// In memory, and as a file of its own.
const SIZES: [usize; 2] = [10, 30_000];

#[test]
fn a_version_has_the_largest_integers_and_the_floats_as_they_were_made() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path().join("blobs")).unwrap();
    let spill = Spill::open(folder.path().join("spill")).unwrap();
    for parameters in SIZES {
        let elements = 16 + parameters;
        let base = |context: &Context, counter: i64| {
            let values = (0..elements).map(|at| at as f32).collect();
            Params::with_integers(context.layout.clone(), values, vec![counter]).unwrap()
        };
        // The n-th holds n everywhere.
        let updates = |context: &Context, counts: [i64; 3]| -> Vec<Vec<u8>> {
            let values = [1.0, 2.0, 3.0].map(|value| vec![value; elements]);
            values.iter().zip(counts).map(|(values, count)| sent(context, values, &[count])).collect()
        };
        let plain = run(&blobs, parameters, "");
        let made = version(&plain, &blobs, &spill, &base(&plain, 40), &updates(&plain, [1, 3, 2]));
        assert_eq!(made.integers(), [40], "skipped");
        assert!(made.values().iter().enumerate().all(|(at, value)| *value == at as f32 + 2.0));

        let rules = r#"
            { match = "*.num_*", policy = "max" },
            { match = "*_var", policy = "max" },
            { match = "*_mean", policy = "keep-local" },
        "#;
        let counted = run(&blobs, parameters, rules);
        for (base_count, counts, expected) in [
            (40, [1, 3, 2], 43),
            (40, [-5, -3, -4], 37),
            // What a hostile worker sends ends at the edge.
            (40, [1, i64::MAX, 2], i64::MAX),
            ((1 << 53) + 1, [0, 1, 1], (1 << 53) + 2),
        ] {
            let base = base(&counted, base_count);
            let made = version(&counted, &blobs, &spill, &base, &updates(&counted, counts));
            assert_eq!(made.integers(), [expected]);
            let moved = |at: usize| [0.0, 3.0, 2.0][(at / 8).min(2)];
            assert!(made.values().iter().enumerate().all(|(at, value)| *value == at as f32 + moved(at)));
        }
    }
}
