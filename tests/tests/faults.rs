//! Processes die: the run goes on.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use serde_json::Value;
use tests::{Federation, IRIS, Job, Site, wait_for};

/// Lost workers are noticed fast, so that the tests are.
const LEASE: [(&str, &str); 1] = [("lease", "lease = \"2s\"")];

fn files() -> [(&'static str, &'static [u8]); 1] {
    [("iris.csv", IRIS.as_bytes())]
}

fn cohort(round: &Value) -> Vec<&str> {
    round["cohort"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect()
}

#[test]
fn a_killed_worker_does_not_stop_the_run_and_is_used_again() {
    let federation = Federation::start_with(&LEASE);
    let _ada = federation.worker("ada", &["--device", "cpu"]);
    let _ben = federation.worker("ben", &["--device", "cpu"]);
    // Trains, then sits on its update: it is mid-round when it is killed.
    let mut cleo = federation.worker("cleo", &["--device", "cpu", "--delay-uploads-up-to", "365days"]);
    let run = federation.start_run(&Job { rounds: 100_000, ..Job::default() }.toml(), &files());
    cleo.wait_for_log("round=1");
    cleo.process().kill();

    let shown = federation.wait_for_rounds(&run, 3);
    let first = &shown["rounds"][0];
    assert_eq!((cohort(first), &first["updates"]), (vec!["ada", "ben", "cleo"], &Value::from(2)));
    assert_eq!(cohort(&shown["rounds"][2]), ["ada", "ben"]);

    cleo.start(&["--device", "cpu"]);
    wait_for("a round with all three again", || {
        let shown = federation.show(&run);
        let rounds = shown["rounds"].as_array().unwrap();
        rounds.iter().skip(1).any(|r| cohort(r).len() == 3 && r["updates"] == 3).then_some(())
    });

    federation.cli(&["run", "stop", &run]).ok();
    let shown = federation.wait_for_end(&run);
    assert_eq!(shown["state"], "stopped");
    assert_eq!(shown["cause"], "stopped by operator admin");
    // Added rounds open an ended run again.
    let done = shown["rounds"].as_array().unwrap().len();
    federation.cli(&["round", "start", &run, "--count", "2"]).ok();
    federation.wait_for_rounds(&run, done + 2);
}

#[test]
fn a_killed_coordinator_goes_on_with_the_same_bits() {
    let digests = |run: &Value| -> Vec<String> {
        let rounds = run["rounds"].as_array().unwrap();
        let numbers: Vec<u64> = rounds.iter().map(|r| r["round"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        rounds.iter().map(|r| r["digest"].as_str().unwrap().to_owned()).collect()
    };
    let job = Job { arch: "mlp", rounds: 40, min: 3, max: 3, ..Job::default() }.toml();
    let names = ["ada", "ben", "cleo"];
    let undisturbed = {
        let federation = Federation::start();
        let _sites: Vec<Site> = names.iter().map(|n| federation.worker(n, &["--device", "cpu"])).collect();
        digests(&federation.complete(&job, &files()))
    };

    let mut federation = Federation::start();
    let _sites: Vec<Site> = names.iter().map(|n| federation.worker(n, &["--device", "cpu"])).collect();
    let run = federation.start_run(&job, &files());
    for rounds in [4, 12, 25] {
        federation.wait_for_rounds(&run, rounds);
        federation.kill();
        federation.serve();
    }
    let shown = federation.wait_for_end(&run);
    assert_eq!(shown["state"], "completed", "{shown:#}");
    assert_eq!(digests(&shown), undisturbed);
    // What was published before the last start is served after it.
    let versions = federation.cli(&["model", "ls", "iris", "--output", "json"]).json();
    assert_eq!(versions.as_array().unwrap().len(), 40, "{versions:#}");
}

#[test]
fn a_suspended_worker_loses_its_lease_and_comes_back() {
    let federation = Federation::start_with(&LEASE);
    let _ada = federation.worker("ada", &["--device", "cpu"]);
    let _ben = federation.worker("ben", &["--device", "cpu"]);
    let mut cleo = federation.worker("cleo", &["--device", "cpu"]);
    let run = federation.start_run(&Job { rounds: 100_000, ..Job::default() }.toml(), &files());
    federation.wait_for_rounds(&run, 2);
    cleo.process().signal("STOP");
    let without =
        |shown: &Value| shown["rounds"].as_array().unwrap().iter().rposition(|r| cohort(r).len() == 2);
    let at = wait_for("a round without the suspended worker", || without(&federation.show(&run)));
    cleo.process().signal("CONT");
    wait_for("a round with it again", || {
        let shown = federation.show(&run);
        let rounds = shown["rounds"].as_array().unwrap();
        rounds[at..].iter().any(|r| cohort(r).len() == 3 && r["updates"] == 3).then_some(())
    });
}

#[test]
fn stopping_is_orderly_on_both_sides() {
    let mut federation = Federation::start();
    let mut ada = federation.worker("ada", &["--device", "cpu"]);
    let workers = || federation.cli(&["worker", "ls", "--output", "json"]).json();
    assert_eq!(workers()[0]["state"], "idle");
    ada.process().signal("TERM");
    assert_eq!(ada.process().wait(), Some(0));
    assert_eq!(workers()[0]["state"], "away");
    federation.coordinator().signal("TERM");
    assert_eq!(federation.coordinator().wait(), Some(0));
    assert!(!federation.home().join("addresses.json").exists());
    assert!(federation.cli(&["run", "ls"]).fails(3).contains("reach"), "exit 3: it cannot be reached");
}

#[test]
fn two_runs_share_the_same_workers() {
    let federation = Federation::start();
    let _sites: Vec<Site> =
        ["ada", "ben", "cleo"].iter().map(|n| federation.worker(n, &["--device", "cpu"])).collect();
    let job = |name| Job { name, rounds: 15, min: 3, max: 3, ..Job::default() }.toml();
    let first = federation.start_run(&job("first"), &files());
    let second = federation.start_run(&job("second"), &files());
    for run in [first, second] {
        let shown = federation.wait_for_end(&run);
        assert_eq!(shown["state"], "completed", "{shown:#}");
        let rounds = shown["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 15);
        assert!(rounds.iter().all(|r| r["updates"] == 3), "{shown:#}");
    }
}

#[test]
fn a_run_that_cannot_be_resumed_fails_alone() {
    let mut federation = Federation::start();
    let _sites: Vec<Site> =
        ["ada", "ben"].iter().map(|n| federation.worker(n, &["--device", "cpu"])).collect();
    let done = federation.complete(&Job { name: "done", max: 2, ..Job::default() }.toml(), &files());
    let open = Job { name: "open", arch: "mlp", rounds: 100_000, max: 2, ..Job::default() };
    let open = federation.start_run(&open.toml(), &files());
    let shown = federation.wait_for_rounds(&open, 3);
    federation.kill();
    // The weights of the open run are gone from the disk, all of them.
    let blobs = federation.home().join("data/blobs");
    let kept: Vec<&str> =
        done["rounds"].as_array().unwrap().iter().map(|r| r["digest"].as_str().unwrap()).collect();
    let mut lost = 0;
    for folder in std::fs::read_dir(&blobs).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = file.unwrap();
            let weights = params::Params::from_safetensors(&std::fs::read(file.path()).unwrap()).is_ok();
            if weights && !kept.contains(&file.file_name().to_str().unwrap()) {
                std::fs::remove_file(file.path()).unwrap();
                lost += 1;
            }
        }
    }
    assert!(lost >= 3, "{lost} {shown:#}");
    federation.serve();
    let runs = federation.cli(&["run", "ls", "--output", "json"]).json();
    let state = |name: &str| {
        let run = runs.as_array().unwrap().iter().find(|r| r["run"] == name).unwrap();
        (run["state"].as_str().unwrap().to_owned(), run["cause"].as_str().unwrap().to_owned())
    };
    assert_eq!(state("done-1").0, "completed");
    let (open_state, cause) = state(&open);
    assert!(open_state == "failed" && cause.contains("is not stored here"), "{open_state}: {cause}");
    federation.complete(&Job { name: "next", max: 2, ..Job::default() }.toml(), &files());
}
