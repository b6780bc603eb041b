//! What the job file can choose of aggregation, with real processes: reductions, encodings, server optimizers.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use serde_json::Value;
use tests::{Federation, IRIS, Job, Load, digests};

/// The job with other lines in `[aggregate]`, under a name of its own.
fn with(toml: &str, name: &str, aggregate: &str) -> String {
    let (start, _) = toml.split_once("[aggregate]").unwrap();
    let (_, rest) = start.split_once("name = ").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    format!("name = \"{name}\"\n{rest}\n[aggregate]\n{aggregate}\n")
}

fn accuracy(run: &Value) -> f64 {
    run["rounds"].as_array().unwrap().last().unwrap()["metrics"]["test_accuracy"].as_f64().unwrap()
}

fn bytes_up(run: &Value) -> u64 {
    run["rounds"][0]["bytes_up"].as_u64().unwrap()
}

#[test]
fn every_reduction_learns_and_gives_the_same_bits_twice() {
    let federation = Federation::start();
    let names: Vec<String> = (0..7).map(|i| format!("site-{i}")).collect();
    let _sites: Vec<_> = names.iter().map(|name| federation.worker(name, &[])).collect();
    let local = "optimizer = \"gd\"\nlr = 0.1\nepochs = 20";
    let base = Job { min: 7, max: 7, rounds: 12, local, ..Job::default() }.toml();
    let files = [("iris.csv", IRIS.as_bytes())];
    for (at, reduction) in [
        r#""mean""#,
        r#"{ kind = "clipped-mean", norm = 0.5 }"#,
        r#""median""#,
        r#"{ kind = "trimmed-mean", f = 2 }"#,
        r#"{ kind = "krum", f = 1 }"#,
        r#"{ kind = "multi-krum", f = 1, m = 3 }"#,
        r#"{ kind = "bulyan", f = 1 }"#,
        r#"{ kind = "geometric-median" }"#,
        r#"{ kind = "centered-clipping", tau = 1.0, iterations = 2 }"#,
    ]
    .iter()
    .enumerate()
    {
        let aggregate = format!("reduction = {reduction}");
        let play = |name: &str| federation.complete(&with(&base, name, &aggregate), &files);
        let (one, two) = (play(&format!("one-{at}")), play(&format!("two-{at}")));
        assert_eq!(one["state"], "completed", "{reduction}: {}", one["cause"]);
        assert_eq!(digests(&one), digests(&two), "{reduction}");
        assert!(accuracy(&one) > 0.8, "{reduction}: {}", accuracy(&one));
    }
    assert_eq!(std::fs::read_dir(federation.home().join("data/spill")).unwrap().count(), 0);
}

#[test]
fn every_encoding_learns_with_as_many_bytes_as_it_says() {
    let federation = Federation::start();
    let _sites = [federation.worker("ann", &[]), federation.worker("ben", &[])];
    // Softmax on four features and three classes has 15 weights.
    let job = Job { min: 2, max: 2, rounds: 20, ..Job::default() };
    let (base, files, elements) = (job.toml(), [("iris.csv", IRIS.as_bytes())], 15);
    for (at, (encoding, kind)) in [
        (r#""f32""#, update::Encoding::F32),
        (r#""bf16""#, update::Encoding::Bf16),
        (r#""fp16""#, update::Encoding::Fp16),
        (r#"{ kind = "int8", block = 16 }"#, update::Encoding::Int8 { block: 16 }),
        (r#"{ kind = "int4", block = 16 }"#, update::Encoding::Int4 { block: 16 }),
        (r#"{ kind = "top-k", fraction = 0.2 }"#, update::Encoding::TopK { fraction: 0.2 }),
        (r#""sign""#, update::Encoding::Sign),
    ]
    .iter()
    .enumerate()
    {
        let aggregate = format!("encoding = {encoding}");
        let play = |name: &str| federation.complete(&with(&base, name, &aggregate), &files);
        let (one, two) = (play(&format!("one-{at}")), play(&format!("two-{at}")));
        assert_eq!(digests(&one), digests(&two), "{encoding}");
        assert_eq!(bytes_up(&one), 2 * kind.bytes(elements), "{encoding}");
        assert!(accuracy(&one) > 0.8, "{encoding}: {}", accuracy(&one));
    }
}

/// State that lives on the coordinator (optimizer, last aggregate) and on the workers (error feedback), through kills
/// of both: the same bits as without.
#[test]
fn state_survives_kills_bit_for_bit() {
    let load = Load { workers: 3, rounds: 6, parameters: 500, ..Load::default() };
    let kinds = [
        r#"server = { kind = "momentum", momentum = 0.5 }"#,
        r#"server = { kind = "nesterov" }"#,
        r#"server = { kind = "adagrad", lr = 0.1 }"#,
        "server = { kind = \"adam\", lr = 0.1, bias_correction = false }\nencoding = \"sign\"",
        "server = { kind = \"yogi\", lr = 0.1 }\nencoding = { kind = \"top-k\", fraction = 0.1 }",
        r#"reduction = { kind = "centered-clipping", tau = 0.05, iterations = 2 }"#,
    ];
    let jobs: Vec<String> =
        kinds.iter().enumerate().map(|(at, kind)| with(&load.toml(), &format!("state-{at}"), kind)).collect();
    let names = ["ann", "ben", "cem"];
    let plain = Federation::start();
    let _sites: Vec<_> = names.iter().map(|name| plain.worker(name, &[])).collect();
    let expected: Vec<_> = jobs.iter().map(|job| digests(&plain.complete(job, &[]))).collect();

    let mut killed = Federation::start_slow();
    let mut sites: Vec<_> = names.iter().map(|name| killed.worker(name, &[])).collect();
    for (at, (job, expected)) in jobs.iter().zip(expected).enumerate() {
        let run = killed.start_run(job, &[]);
        killed.wait_for_rounds(&run, 2);
        killed.kill();
        killed.serve();
        killed.wait_for_rounds(&run, 3);
        let site = &mut sites[at % names.len()];
        site.process().kill();
        site.start(&[]);
        assert_eq!(digests(&killed.wait_for_end(&run)), expected, "{}", kinds[at]);
    }
}
