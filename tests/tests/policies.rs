//! What becomes of each tensor of a model, with real processes: averaged, kept local, largest, skipped; floats and
//! integers.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use params::Params;
use serde_json::Value;
use tests::{Federation, Load, Site};

const ROUNDS: u32 = 6;
const PARAMETERS: usize = 100;
const WORKERS: usize = 3;

/// Eight floats.
const STATISTICS: u64 = 8 * 4;

/// A job whose model has the buffers of a normalisation layer, with rules for its tensors.
fn job(name: &'static str, rules: &[(&str, &str)]) -> String {
    let load = Load { name, parameters: PARAMETERS, workers: WORKERS, rounds: ROUNDS, ..Load::default() };
    let mut toml = load.toml().replace("[synthetic]", "[synthetic]\nbuffers = true");
    for (pattern, policy) in rules {
        toml += &format!("\n[[aggregate.tensors]]\nmatch = \"{pattern}\"\npolicy = \"{policy}\"\n");
    }
    toml
}

fn sites(federation: &Federation) -> Vec<Site> {
    ["ann", "ben", "cem"].iter().map(|name| federation.worker(name, &[])).collect()
}

/// The weights of the latest version.
fn pulled(federation: &Federation, model: &str) -> Params {
    let to = federation.path(&format!("pulled-{model}"));
    federation.cli(&["model", "pull", model, "--to", to.to_str().unwrap()]).ok();
    Params::from_safetensors(&std::fs::read(to.join("model.safetensors")).unwrap()).unwrap()
}

fn batches(params: &Params) -> i64 {
    let tracked = params.integer_tensor("norm.num_batches_tracked").unwrap();
    assert_eq!(tracked.len(), 1);
    tracked[0]
}

/// The bytes of all updates of each round.
fn bytes_up(run: &Value) -> Vec<u64> {
    run["rounds"].as_array().unwrap().iter().map(|round| round["bytes_up"].as_u64().unwrap()).collect()
}

/// Rules (match and policy), and what the refusal must say.
type Refused<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn each_tensor_becomes_what_its_policy_says() {
    let federation = Federation::start();
    let _sites = sites(&federation);
    let workers = WORKERS as u64;

    // Without rules floats are averaged, and the integer stays as it was.
    let run = federation.complete(&job("plain", &[]), &[]);
    let all = workers * (2 * STATISTICS + 4 * PARAMETERS as u64);
    assert_eq!(bytes_up(&run), [all; ROUNDS as usize]);
    let plain = pulled(&federation, "plain");
    assert_eq!(batches(&plain), 0);
    let (mean, var) = (plain.tensor("norm.running_mean").unwrap(), plain.tensor("norm.running_var").unwrap());
    // An update moves a mean by up to 2^-6 either way, and a variance by as much upwards.
    let furthest = ROUNDS as f32 / 64.0;
    assert!(mean.iter().all(|mean| *mean != 0.0 && mean.abs() <= furthest), "{mean:?}");
    assert!(var.iter().all(|var| *var > 1.0 && *var <= 1.0 + furthest), "{var:?}");
    let parameters = plain.tensor("parameters").unwrap();
    assert!(parameters.iter().any(|weight| *weight != 0.0));

    // What is kept local is not sent: the version has the zeros that it began with.
    let run = federation.complete(&job("local", &[("norm.running_mean", "keep-local")]), &[]);
    assert_eq!(bytes_up(&run), [all - workers * STATISTICS; ROUNDS as usize]);
    let local = pulled(&federation, "local");
    assert_eq!(local.tensor("norm.running_mean").unwrap(), [0.0; 8]);
    assert!(local.tensor("norm.running_var").unwrap().iter().all(|var| *var > 1.0));
    assert_eq!(batches(&local), 0);

    // All four at once.
    let rules = [
        ("norm.running_mean", "keep-local"),
        ("norm.running_var", "skip"),
        ("norm.num_batches_tracked", "max"),
    ];
    let run = federation.complete(&job("mixed", &rules), &[]);
    assert_eq!(bytes_up(&run), [all - workers * (2 * STATISTICS - 8); ROUNDS as usize]);
    let mixed = pulled(&federation, "mixed");
    assert_eq!(mixed.tensor("norm.running_mean").unwrap(), [0.0; 8]);
    assert_eq!(mixed.tensor("norm.running_var").unwrap(), [1.0; 8]);
    // The worker with shard i has seen 1 + i batches more; each round has all shards.
    assert_eq!(batches(&mixed), i64::from(ROUNDS) * WORKERS as i64);
    assert!(mixed.tensor("parameters").unwrap().iter().any(|weight| *weight != 0.0));

    // Also of floats the largest counts: no mean moves further.
    let run = federation.complete(&job("largest", &[("norm.*", "max")]), &[]);
    assert_eq!(bytes_up(&run), [all + workers * 8; ROUNDS as usize]);
    let largest = pulled(&federation, "largest");
    assert_eq!(batches(&largest), i64::from(ROUNDS) * WORKERS as i64);
    assert!(largest.tensor("norm.running_var").unwrap().iter().all(|var| *var > 1.0));
}

#[test]
fn rules_that_cannot_hold_are_refused_when_the_run_is_started() {
    let federation = Federation::start();
    let cases: [Refused<'_>; 3] = [
        (
            &[("norm.num_batches_tracked", "average")],
            &[
                "aggregate.tensors",
                "'norm.num_batches_tracked'",
                "'average'",
                "'max', 'keep-local' or 'skip'",
            ],
        ),
        // Also where a pattern for floats matches it.
        (&[("norm.running_*", "skip"), ("norm.*", "average")], &["'norm.num_batches_tracked'", "'norm.*'"]),
        (
            &[("bn.*", "skip")],
            &["aggregate.tensors", "pattern 'bn.*' matches no tensor", "'norm.num_batches_tracked'"],
        ),
    ];
    for (rules, parts) in cases {
        let refused = federation.try_run(&job("refused", rules), &[]);
        let error = refused.fails(1);
        for part in parts {
            assert!(error.contains(part), "{rules:?}: '{part}' is not in: {error}");
        }
        assert!(!error.contains("panicked"), "{error}");
    }
    let runs = federation.cli(&["run", "ls", "--output", "json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 0, "nothing was started: {runs}");
}

/// The same bits when the coordinator and a worker are killed in between.
#[test]
fn integers_survive_kills() {
    let rules = [("norm.num_batches_tracked", "max"), ("norm.running_mean", "max")];
    let toml = job("counted", &rules);
    let plain = Federation::start();
    let _sites = sites(&plain);
    let expected = tests::digests(&plain.complete(&toml, &[]));

    let mut killed = Federation::start_slow();
    let mut sites = sites(&killed);
    let run = killed.start_run(&toml, &[]);
    killed.wait_for_rounds(&run, 1);
    killed.kill();
    killed.serve();
    killed.wait_for_rounds(&run, 2);
    sites[0].process().kill();
    sites[0].start(&[]);
    assert_eq!(tests::digests(&killed.wait_for_end(&run)), expected);
    assert_eq!(batches(&pulled(&killed, "counted")), i64::from(ROUNDS) * WORKERS as i64);
}
