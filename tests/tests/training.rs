//! What training promises: the same bits twice, and models that are as good as plain PyTorch's.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use serde_json::Value;
use tests::{Federation, IRIS, Job, Site};

/// The local training of the document that the product implements.
const ADAM: &str = "optimizer = \"adam\"\nlr = 0.001\nepochs = 5\nbatch = 16";

fn digests(run: &Value) -> Vec<String> {
    run["rounds"].as_array().unwrap().iter().map(|r| r["digest"].as_str().unwrap().to_owned()).collect()
}

/// A run of a fresh federation whose workers start in this order.
fn fresh_run(order: [&str; 3], args: &[&str]) -> Vec<String> {
    let federation = Federation::start();
    let _sites: Vec<Site> = order.iter().map(|name| federation.worker(name, args)).collect();
    let job = Job { arch: "mlp", local: ADAM, rounds: 6, min: 3, max: 3, ..Job::default() };
    digests(&federation.complete(&job.toml(), &[("iris.csv", IRIS.as_bytes())]))
}

#[test]
fn the_same_run_gives_the_same_bits() {
    let calm = fresh_run(["ada", "ben", "cleo"], &["--device", "cpu"]);
    let delayed = ["--device", "cpu", "--delay-uploads-up-to", "150ms"];
    let shuffled = fresh_run(["cleo", "ada", "ben"], &delayed);
    assert_eq!(calm.len(), 6);
    assert_eq!(calm, shuffled);
    let distinct: std::collections::BTreeSet<_> = calm.iter().collect();
    assert_eq!(distinct.len(), 6, "every round changes the model");
}

/// The mean test accuracy after the last round over seeds 1 to 10.
fn mean_accuracy(partition: &'static str, rounds: u32) -> f64 {
    let federation = Federation::start();
    let _sites: Vec<Site> =
        ["ada", "ben", "cleo"].iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect();
    let accuracies: Vec<f64> = (1..=10)
        .map(|seed| {
            let job =
                Job { arch: "mlp", partition, local: ADAM, rounds, seed, min: 3, max: 3, ..Job::default() };
            let run = federation.complete(&job.toml(), &[("iris.csv", IRIS.as_bytes())]);
            let last = run["rounds"].as_array().unwrap().last().unwrap();
            last["metrics"]["test_accuracy"].as_f64().unwrap()
        })
        .collect();
    #[allow(clippy::print_stdout)]
    {
        println!("{partition}, {rounds} rounds, seeds 1 to 10: {accuracies:.3?}");
    }
    accuracies.iter().sum::<f64>() / accuracies.len() as f64
}

#[test]
fn twenty_rounds_on_even_shards_reach_95_per_cent() {
    let mean = mean_accuracy(r#"{ kind = "iid" }"#, 20);
    assert!(mean >= 0.95, "{mean}");
}

#[test]
fn forty_rounds_on_skewed_shards_reach_90_per_cent() {
    let mean = mean_accuracy(r#"{ kind = "dirichlet", alpha = 0.5 }"#, 40);
    assert!(mean >= 0.90, "{mean}");
}
