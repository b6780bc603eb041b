//! Federated equals central: with the gradient of the whole shard as update and Adam on the server,
//! any split of the training rows gives the trajectory of one PyTorch process.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use params::Params;
use serde_json::Value;
use tests::Federation;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/model/tests/golden/iris");
const TOLERANCE: f64 = 1e-5;

fn golden(file: &str) -> Vec<u8> {
    std::fs::read(format!("{GOLDEN}/{file}")).unwrap()
}

fn job(expected: &Value, workers: usize, partition: &str) -> String {
    let test: Vec<u64> = expected["test"].as_array().unwrap().iter().map(|r| r.as_u64().unwrap()).collect();
    let rounds = expected["epochs"].as_array().unwrap().len();
    format!(
        r#"
name = "iris"
task = "classification"

[model]
arch = "mlp"
hidden = [128]
init = "init.safetensors"

[data]
name = "iris"
hosted = "iris.csv"
target = "species"
holdout = {{ rows = {test:?} }}
partition = {partition}

[local]
mode = "gradient"

[rounds]
count = {rounds}
cohort = {{ min = {workers}, max = {workers} }}
deadline = "60s"
seed = 7

[aggregate]
reduction = "mean"
server = {{ kind = "adam", lr = 0.001 }}
"#
    )
}

/// Runs the trajectory with this many workers and compares every epoch and every final weight.
fn reproduces(workers: usize, partition: &str) {
    let expected: Value = serde_json::from_slice(&golden("expected.json")).unwrap();
    let federation = Federation::start();
    let names: Vec<String> = (0..workers).map(|i| format!("site-{i}")).collect();
    let _sites: Vec<_> = names.iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect();
    let (csv, init) = (golden("iris.csv"), golden("init.safetensors"));
    let files: [(&str, &[u8]); 2] = [("iris.csv", &csv), ("init.safetensors", &init)];
    let run = federation.complete(&job(&expected, workers, partition), &files);

    let rounds = run["rounds"].as_array().unwrap();
    let epochs = expected["epochs"].as_array().unwrap();
    assert_eq!(rounds.len(), epochs.len());
    for (round, epoch) in rounds.iter().zip(epochs) {
        let near = |ours: &str, theirs: &str| {
            let (ours, theirs) = (round["metrics"][ours].as_f64().unwrap(), epoch[theirs].as_f64().unwrap());
            assert!(
                (ours - theirs).abs() < TOLERANCE,
                "round {}: {ours} instead of {theirs}",
                round["round"]
            );
        };
        near("train_loss", "train_loss_before_step");
        near("test_loss", "test_loss");
        // Exactly: the same number of the 30 test rows, which the reference holds as f32.
        let accuracy = |value: &Value| (value.as_f64().unwrap() * 30.0).round();
        let theirs = epoch["test_accuracy"].as_f64().unwrap();
        assert_eq!(round["metrics"]["test_accuracy"].as_f64().unwrap() as f32, theirs as f32);
        assert_eq!(accuracy(&round["metrics"]["test_accuracy"]), accuracy(&epoch["test_accuracy"]));
        assert_eq!(round["updates"], workers);
    }

    let to = federation.path("pulled");
    federation.cli(&["model", "pull", "iris", "--to", to.to_str().unwrap()]).ok();
    let ours = Params::from_safetensors(&std::fs::read(to.join("model.safetensors")).unwrap()).unwrap();
    let theirs = Params::from_safetensors(&golden("final.safetensors")).unwrap();
    assert_eq!(ours.layout(), theirs.layout());
    let far = ours.values().iter().zip(theirs.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(f64::from(far) < TOLERANCE, "a weight is off by {far}");
}

#[test]
fn three_workers_reproduce_the_central_trajectory() {
    reproduces(3, r#"{ kind = "iid" }"#);
}

#[test]
fn one_worker_reproduces_the_central_trajectory() {
    reproduces(1, r#"{ kind = "iid" }"#);
}

#[test]
fn five_unequal_shards_reproduce_the_central_trajectory() {
    reproduces(5, r#"{ kind = "dirichlet", alpha = 0.5 }"#);
}
