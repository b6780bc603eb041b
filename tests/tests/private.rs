//! Private tables stay with their workers: only updates and metrics leave.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use std::fs;

use params::Params;
use serde_json::Value;
use tests::{Federation, IRIS};

const JOB: &str = r#"
name = "iris"
task = "classification"

[model]
arch = "ARCH"

[data]
name = "flowers"
target = "species"
features = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
classes = ["setosa", "versicolor", "virginica"]
holdout = 0.2

[local]
optimizer = "adam"
lr = 0.02
epochs = 4
batch = 16

[rounds]
count = 8
cohort = { min = 2, max = 3 }
deadline = "60s"
seed = 3

[aggregate]
reduction = "mean"
server = { kind = "sgd", lr = 1.0 }
"#;

/// Every third row of the iris table, from `start` on, with its header.
fn third(start: usize) -> String {
    let mut lines = IRIS.lines();
    let header = lines.next().unwrap();
    let rows: Vec<&str> = lines.skip(start).step_by(3).collect();
    format!("{header}\n{}\n", rows.join("\n"))
}

fn last(run: &Value) -> &Value {
    run["rounds"].as_array().unwrap().last().unwrap()
}

/// Mean cross-entropy and accuracy of a softmax regression on the holdouts of all three sites.
fn measure(weights: &Params) -> (f64, f64) {
    let holdout = |table: &data::Table, labels: &[u32]| {
        data::split(table.rows(), Some(labels), &data::Holdout::Fraction(0.2), 3).unwrap().test
    };
    measure_on(weights, &[third(0), third(1), third(2)], holdout)
}

/// The same on the `picked` rows of some tables, computed here, in f64, from the definition.
fn measure_on(
    weights: &Params,
    tables: &[String],
    picked: impl Fn(&data::Table, &[u32]) -> Vec<usize>,
) -> (f64, f64) {
    let (w, b) = (weights.tensor("fc.weight").unwrap(), weights.tensor("fc.bias").unwrap());
    let (mut loss, mut correct, mut rows) = (0.0, 0.0, 0.0);
    for text in tables {
        let table = data::read_csv("site", text.as_bytes(), &data::Limits::default()).unwrap();
        let labelled = table.examples(&table.schema("species", None, None).unwrap()).unwrap();
        for row in picked(&table, labelled.labels()) {
            let x = labelled.examples().row(row);
            let logits: Vec<f64> = (0..3)
                .map(|class| {
                    (0..4).map(|i| f64::from(w[class * 4 + i] * x[i])).sum::<f64>() + f64::from(b[class])
                })
                .collect();
            let label = labelled.labels()[row] as usize;
            loss += logits.iter().map(|z| z.exp()).sum::<f64>().ln() - logits[label];
            correct += f64::from(u8::from(logits.iter().all(|z| *z <= logits[label])));
            rows += 1.0;
        }
    }
    (loss / rows, correct / rows)
}

fn offer(federation: &Federation, name: &str, table: &str) -> tests::Site {
    let file = federation.path(&format!("{name}.csv"));
    fs::write(&file, table).unwrap();
    federation.worker(name, &["--device", "cpu", "--data", &format!("flowers={}", file.display())])
}

#[test]
fn private_tables_train_and_evaluate_together() {
    let mut federation = Federation::start();
    let _sites: Vec<_> = ["ada", "ben", "cleo"]
        .iter()
        .enumerate()
        .map(|(i, name)| offer(&federation, name, &third(i)))
        .collect();
    let run = federation.complete(&JOB.replace("ARCH\"", "mlp\"\nhidden = [16]"), &[]);
    assert!(last(&run)["metrics"]["test_loss"].as_f64().unwrap() < 0.5, "{:#}", last(&run));
    let run = federation.complete(&JOB.replace("ARCH", "softmax"), &[]);
    assert_eq!((&last(&run)["round"], &last(&run)["updates"]), (&Value::from(8), &Value::from(3)));

    // The workers' metrics, weighted by their examples, are those of the pulled weights on all holdouts.
    let to = federation.path("pulled");
    federation.cli(&["model", "pull", "iris", "--to", to.to_str().unwrap()]).ok();
    let weights = Params::from_safetensors(&fs::read(to.join("model.safetensors")).unwrap()).unwrap();
    let (loss, accuracy) = measure(&weights);
    let reported = |metric: &str| last(&run)["metrics"][metric].as_f64().unwrap();
    assert!((reported("test_loss") - loss).abs() < 1e-6, "{} instead of {loss}", reported("test_loss"));
    assert!(
        (reported("test_accuracy") - accuracy).abs() < 1e-12,
        "{} instead of {accuracy}",
        reported("test_accuracy")
    );

    // Neither the coordinator's disk nor its log has seen a row.
    let row = "5.1,3.5,1.4,0.2";
    assert!(third(0).contains(row));
    assert!(!federation.coordinator().log().contains(row));
    let mut folders = vec![federation.home()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            seen += 1;
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(row.len()).any(|window| window == row.as_bytes());
            assert!(!found, "{} holds a private row", path.display());
        }
    }
    assert!(seen > 30, "the coordinator's files were looked at");
}

#[test]
fn the_coordinator_measures_on_its_own_table_and_stops_when_nothing_gets_better() {
    let federation = Federation::start();
    let _sites = [offer(&federation, "ada", &third(0)), offer(&federation, "ben", &third(1))];
    let evaluate = "[evaluate]\nmetric = \"test_loss\"\npatience = 3\nhosted = \"held.csv\"\n\n[aggregate]";
    let job = JOB
        .replace("ARCH", "softmax")
        .replace("holdout = 0.2\n", "")
        .replace("count = 8", "count = 500")
        // Steps so large that it overshoots soon.
        .replace("lr = 0.02", "lr = 0.5")
        .replace("[aggregate]", evaluate);
    let held = third(2);
    let run = federation.complete(&job, &[("held.csv", held.as_bytes())]);
    let rounds = run["rounds"].as_array().unwrap();
    let cause = run["cause"].as_str().unwrap();
    assert!(cause.starts_with("stopped early: 3 rounds in a row were not better"), "{cause}");
    let losses: Vec<f64> = rounds.iter().map(|r| r["metrics"]["test_loss"].as_f64().unwrap()).collect();
    let best = (0..losses.len()).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap();
    assert_eq!(rounds.len(), best + 4, "three more after the best one: {losses:?}");

    let shown = federation.cli(&["model", "show", "iris@best", "--output", "json"]).json();
    assert_eq!(shown["version"], rounds[best]["version"], "{shown:#}");
    let to = federation.path("best");
    federation.cli(&["model", "pull", "iris@best", "--to", to.to_str().unwrap()]).ok();
    let weights = Params::from_safetensors(&fs::read(to.join("model.safetensors")).unwrap()).unwrap();
    let (loss, _) = measure_on(&weights, &[held], |table, _| (0..table.rows()).collect());
    assert!((losses[best] - loss).abs() < 1e-5 * loss.max(1.0), "{} instead of {loss}", losses[best]);
}

#[test]
fn a_bad_private_table_is_named_and_ends_the_run_with_its_cause() {
    let federation = Federation::start();
    let _ada = offer(&federation, "ada", &third(0));
    let mut ben = offer(&federation, "ben", &third(1).replacen("versicolor", "versicolour", 1));
    let run = federation.start_run(&JOB.replace("ARCH", "softmax"), &[]);
    let shown = federation.wait_for_end(&run);
    assert_eq!(shown["state"], "failed", "{shown:#}");
    let cause = shown["cause"].as_str().unwrap();
    for part in ["ben", "line 19", "species", "setosa"] {
        assert!(cause.contains(part), "'{part}' is not in: {cause}");
    }
    // The cell is private: the worker's own log names it, what leaves the site does not.
    assert!(!cause.contains("versicolour"), "{cause}");
    assert!(ben.process().log().contains("versicolour"));
    // With enough others the bad site is left out, and the run goes on.
    let _cleo = offer(&federation, "cleo", &third(2));
    let run = federation.complete(&JOB.replace("ARCH", "softmax"), &[]);
    assert_eq!(last(&run)["updates"], 2, "{run:#}");
}

#[test]
fn tables_that_cannot_be_read_stop_the_worker_at_its_start() {
    let federation = Federation::start();
    let bad = |name: &str, table: &str, parts: &[&str]| {
        let mut site = federation.site(name);
        let file = federation.path(&format!("{name}.csv"));
        fs::write(&file, table).unwrap();
        site.start(&["--device", "cpu", "--data", &format!("flowers={}", file.display())]);
        assert_eq!(site.process().wait(), Some(1));
        let log = site.process().log();
        for part in parts {
            assert!(log.contains(part), "'{part}' is not in: {log}");
        }
        assert!(!log.contains("panicked"), "{log}");
    };
    bad("empty", "", &["empty.csv", "empty"]);
    bad("ragged", "a,b,species\n1,2,x\n1,x\n", &["ragged.csv", "line 3"]);
}
