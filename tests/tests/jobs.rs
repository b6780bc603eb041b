//! Job files that cannot become a run are refused with the place, the value and the next step.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use tests::{Federation, IRIS, Job};

#[test]
fn bad_jobs_are_refused_before_they_start() {
    let federation = Federation::start();
    let good = Job::default().toml();
    let number = IRIS.replacen("4.9,3.0", "4.9,wide", 1);
    let cases: [(&str, String, &str, &[&str]); 9] = [
        ("not TOML", good.replace("[data]", "[data"), IRIS, &["line"]),
        ("unknown key", good.replace("epochs = 2", "epoch = 2"), IRIS, &["epoch"]),
        ("a count of none", good.replace("count = 3", "count = 0"), IRIS, &["rounds.count", "0"]),
        ("quorum over cohort", good.replace("min = 2", "min = 9"), IRIS, &["cohort"]),
        (
            "unknown column",
            good.replace("\"species\"", "\"kind\""),
            IRIS,
            &["iris.csv", "kind", "petal_width"],
        ),
        ("a cell that is no number", good.clone(), &number, &["iris.csv", "line 3", "sepal_width", "wide"]),
        ("an empty table", good.clone(), "", &["iris.csv", "empty"]),
        ("a header alone", good.clone(), "a,b,species\n", &["iris.csv"]),
        (
            "a holdout row that is not there",
            good.replace("holdout = 0.2", "holdout = { rows = [150] }"),
            IRIS,
            &["150"],
        ),
    ];
    for (what, job, table, parts) in cases {
        let refused = federation.try_run(&job, &[("iris.csv", table.as_bytes())]);
        let error = refused.fails(1);
        for part in parts {
            assert!(error.contains(part), "{what}: '{part}' is not in: {error}");
        }
        assert!(!error.contains("panicked"), "{error}");
    }
    let reaching = federation.try_run(&good.replace("\"iris.csv\"", "\"/etc/hostname\""), &[]);
    assert!(reaching.fails(1).contains("must lie beside the job file"), "{reaching:?}");
    let missing = federation.try_run(&good.replace("iris.csv", "wine.csv"), &[]);
    assert!(missing.fails(1).contains("wine.csv"), "{missing:?}");
    let weights = good.replace("arch = \"softmax\"", "arch = \"softmax\"\ninit = \"weights.safetensors\"");
    let files: [(&str, &[u8]); 2] = [("iris.csv", IRIS.as_bytes()), ("weights.safetensors", b"not weights")];
    assert!(federation.try_run(&weights, &files).fails(1).contains("weights.safetensors"));
    let runs = federation.cli(&["run", "ls", "--output", "json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 0, "nothing was started: {runs}");
}

#[test]
fn a_run_without_workers_says_what_it_waits_for() {
    let federation = Federation::start();
    let job = Job { more: "wait = \"3s\"", ..Job::default() }.toml();
    let run = federation.start_run(&job, &[("iris.csv", IRIS.as_bytes())]);
    let shown = federation.show(&run);
    assert_eq!(shown["state"], "gathering");
    assert!(shown["cause"].as_str().unwrap().contains("0 of at least 2"), "{shown}");
    let ended = federation.wait_for_end(&run);
    assert_eq!(ended["state"], "failed");
    assert!(ended["cause"].as_str().unwrap().contains('2'), "{ended}");
}

#[test]
fn training_that_diverges_ends_with_its_cause() {
    let federation = Federation::start();
    let _sites: Vec<_> =
        ["ada", "ben"].iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect();
    let local = "optimizer = \"sgd\"\nlr = 1000.0\nmomentum = 0.9\nepochs = 50\nbatch = 16";
    let job = Job { arch: "mlp", local, max: 2, ..Job::default() }.toml();
    // Deep, so that large steps multiply until nothing is finite; a shallow one only dies.
    let job = job.replace("hidden = [128]", "hidden = [64, 64, 64]");
    let run = federation.start_run(&job, &[("iris.csv", IRIS.as_bytes())]);
    let ended = federation.wait_for_end(&run);
    assert_eq!(ended["state"], "failed", "{ended:#}");
    assert!(ended["cause"].as_str().unwrap().contains("learning rate"), "{ended:#}");
    // A step that stays finite but leaves the coordinate bound is refused by the coordinator.
    let local = "optimizer = \"sgd\"\nlr = 1000.0\nepochs = 1\nbatch = 16";
    let job = Job { local, max: 2, ..Job::default() }.toml();
    let run = federation.start_run(&job, &[("iris.csv", IRIS.as_bytes())]);
    let ended = federation.wait_for_end(&run);
    let cause = ended["cause"].as_str().unwrap();
    assert!(cause.contains("fc.") && cause.contains("256"), "tensor and bound: {cause}");
}
