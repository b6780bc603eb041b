//! What operators do while a run goes on, what they are told of it, and that both outlive the coordinator's process.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Federation, IRIS, Job, Load, Site, digests, wait_for};

const WAITS_FOR_EVER: [&str; 2] = ["--delay-uploads-up-to", "365days"];

fn workers(federation: &Federation, names: &[&str]) -> Vec<Site> {
    names.iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect()
}

fn rounds(shown: &Value) -> &Vec<Value> {
    shown["rounds"].as_array().unwrap()
}

fn has(round: &Value, worker: &str) -> bool {
    round["cohort"].as_array().unwrap().iter().any(|name| name == worker)
}

/// The state of a worker as `worker ls` prints it.
fn state(federation: &Federation, worker: &str) -> String {
    let listed = federation.cli(&["worker", "ls", "--output", "json"]).json();
    let found = listed.as_array().unwrap().iter().find(|listed| listed["name"] == worker);
    found.unwrap()["state"].as_str().unwrap().to_owned()
}

#[test]
fn the_events_of_a_run_outlive_its_processes_and_the_journal() {
    // Segments are dropped while the run goes on.
    let config = [("snapshot_every", "snapshot_every = 10"), ("garbage_age", "garbage_age = \"0s\"")];
    let mut federation = Federation::start_with_env(
        &config,
        &[("CONCLAVE_FAULT", "journal-segment-bytes:4096,journal-sync-slow-ms:20")],
    );
    let mut sites = workers(&federation, &["ada", "ben", "cleo"]);
    let load = Load { cohort: "{ min = 2, max = 3 }", rounds: 25, ..Load::default() };
    let run = federation.start_run(&load.toml(), &[]);
    federation.wait_for_rounds(&run, 3);
    sites[2].process().kill();
    federation.wait_for_rounds(&run, 6);
    federation.kill();
    federation.serve();
    let shown = federation.wait_for_end(&run);
    assert_eq!((digests(&shown).len(), &shown["state"]), (25, &"completed".into()));
    let events = federation.events(&run);
    let kinds: Vec<&str> = events.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"run-started"), Some(&"run-ended")), "{kinds:?}");
    let of = |kind: &'static str| events.iter().filter(move |e| e["kind"] == kind);
    let committed: Vec<u64> = of("round-committed").map(|e| e["round"].as_u64().unwrap()).collect();
    assert_eq!(committed, (1..=25).collect::<Vec<_>>());
    assert_eq!(of("coordinator-restarted").count(), 1);
    let numbers: Vec<u64> = events.iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let first = std::fs::read_dir(federation.home().join("data/journal")).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.chars().filter(char::is_ascii_digit).collect::<String>()
    });
    let first = first.filter_map(|digits| digits.parse::<u64>().ok()).min().unwrap();
    assert!(first > numbers[0], "the journal still begins with entry {first}");
    federation.kill();
    federation.serve();
    assert_eq!(federation.events(&run), events);
    assert!(federation.cli(&["run", "show", &run, "--events"]).ok().contains("round-committed"));
}

#[test]
fn a_lost_worker_is_told_with_its_reason() {
    let federation = Federation::start_with(&[("lease", "lease = \"2s\"")]);
    let _sites = workers(&federation, &["ada", "ben"]);
    let mut cleo = federation.worker("cleo", &WAITS_FOR_EVER);
    let load = Load { cohort: "{ min = 2, max = 3 }", rounds: 3, ..Load::default() };
    let run = federation.start_run(&load.toml(), &[]);
    cleo.wait_for_log(&format!(" trained run={run} round=1"));
    cleo.process().kill();
    assert_eq!(federation.wait_for_end(&run)["state"], "completed");
    let events = federation.events(&run);
    let lost: Vec<&Value> = events.iter().filter(|e| e["kind"] == "worker-lost").collect();
    assert_eq!(lost.len(), 1, "{events:#?}");
    assert_eq!(lost[0]["worker"], "cleo");
    assert_eq!(lost[0]["text"], "round 1: lost cleo: it was not seen for 2 s");
}

#[test]
fn a_watch_goes_on_after_a_kill() {
    let mut federation = Federation::start_slow();
    let _sites = workers(&federation, &["ada", "ben", "cleo"]);
    let run = federation.start_run(&Load { rounds: 40, ..Load::default() }.toml(), &[]);
    let mut watch = federation.cli_in_background(&["run", "watch", &run, "--output", "jsonl"]);
    watch.wait_for_log("\"round\":2");
    federation.kill();
    federation.serve();
    assert_eq!(watch.wait(), Some(0), "{}", watch.log());
    let log = watch.log();
    assert!(log.contains("lost the coordinator; trying again"), "{log}");
    let objects = log.lines().filter(|line| line.starts_with('{'));
    let told: Vec<u64> =
        objects.filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["round"].as_u64()).collect();
    assert_eq!(told, (1..=40).collect::<Vec<_>>(), "{log}");
    assert_eq!(federation.restarts(&run), 1);
}

#[test]
fn a_paused_run_opens_no_round_until_it_is_resumed() {
    let mut federation = Federation::start_slow();
    let _sites = workers(&federation, &["ada", "ben", "cleo"]);
    let job = Load { rounds: 30, ..Load::default() }.toml();
    let run = federation.start_run(&job, &[]);
    federation.wait_for_rounds(&run, 3);
    federation.cli(&["run", "pause", &run]).ok();
    // Once more is no mistake.
    federation.cli(&["run", "pause", &run]).ok();
    let paused = |federation: &Federation| {
        wait_for("the pause", || {
            let shown = federation.show(&run);
            (shown["state"] == "paused").then_some(shown)
        })
    };
    paused(&federation);
    federation.kill();
    federation.serve();
    let shown = paused(&federation);
    assert!(rounds(&shown).len() < 30, "{shown:#}");
    federation.cli(&["run", "resume", &run]).ok();
    let shown = federation.wait_for_end(&run);
    assert_eq!((digests(&shown).len(), &shown["state"]), (30, &"completed".into()));
    let events = federation.events(&run);
    let at = |kind: &str| events.iter().position(|e| e["kind"] == kind).unwrap();
    let (from, to) = (at("paused"), at("resumed"));
    let opened = events[from..to].iter().filter(|e| e["kind"] == "round-opened").count();
    assert_eq!(opened, 0, "{:#?}", &events[from..to]);
    assert!(events[from]["text"].as_str().unwrap().contains("paused by operator admin"));
    assert!(federation.cli(&["run", "pause", &run]).fails(1).contains("completed already"));
}

#[test]
fn a_drained_worker_gets_no_new_work_until_that_is_undone() {
    let mut federation = Federation::start();
    let _sites = workers(&federation, &["ada", "ben", "cleo"]);
    let load = Load { cohort: "{ min = 2, max = 3 }", rounds: 100_000, ..Load::default() };
    let run = federation.start_run(&load.toml(), &[]);
    federation.wait_for_rounds(&run, 2);
    federation.cli(&["worker", "drain", "ben"]).ok();
    let without = |shown: &Value| rounds(shown).iter().rposition(|round| !has(round, "ben"));
    wait_for("a round without it", || without(&federation.show(&run)));
    assert_eq!(state(&federation, "ben"), "drained");
    // It is kept over a restart.
    federation.kill();
    federation.serve();
    let after = rounds(&federation.show(&run)).len();
    let shown = federation.wait_for_rounds(&run, after + 2);
    assert!(rounds(&shown)[after..].iter().all(|round| !has(round, "ben")), "{shown:#}");
    federation.cli(&["worker", "drain", "ben", "--undo"]).ok();
    wait_for("a round with it again", || {
        let shown = federation.show(&run);
        rounds(&shown)[after..].iter().any(|round| has(round, "ben")).then_some(())
    });
    federation.cli(&["run", "stop", &run]).ok();
}

#[test]
fn a_revoked_worker_ends_and_the_run_goes_on() {
    let mut federation = Federation::start();
    let mut sites = workers(&federation, &["ada", "ben", "cleo"]);
    let load = Load { cohort: "{ min = 2, max = 3 }", rounds: 100_000, ..Load::default() };
    let run = federation.start_run(&load.toml(), &[]);
    federation.wait_for_rounds(&run, 2);
    federation.cli(&["worker", "revoke", "cleo"]).ok();
    let cleo = sites.last_mut().unwrap();
    assert_eq!(cleo.process().wait(), Some(4), "{}", cleo.log());
    assert!(cleo.log().contains("worker 'cleo' was revoked; ask the operator for an invitation"));
    assert_eq!(state(&federation, "cleo"), "revoked");
    let at = rounds(&federation.show(&run)).len();
    let shown = federation.wait_for_rounds(&run, at + 3);
    assert!(rounds(&shown)[at + 1..].iter().all(|round| !has(round, "cleo") && round["updates"] == 2));
    // Also for a process that comes later, also by a coordinator that comes later.
    federation.kill();
    federation.serve();
    cleo.start(&[]);
    assert_eq!(cleo.process().wait(), Some(4));
    federation.wait_for_rounds(&run, rounds(&shown).len() + 2);
    federation.cli(&["run", "stop", &run]).ok();
}

#[test]
fn rounds_are_added_to_a_run_that_ended_before_a_restart() {
    let mut federation = Federation::start();
    let _sites = workers(&federation, &["ada", "ben", "cleo"]);
    let calm = digests(&federation.complete(&Load { rounds: 6, ..Load::default() }.toml(), &[]));
    let shown = federation.complete(&Load { rounds: 4, ..Load::default() }.toml(), &[]);
    let run = shown["run"].as_str().unwrap();
    federation.kill();
    federation.serve();
    assert_eq!(federation.show(run)["state"], "completed");
    federation.cli(&["round", "start", run, "--count", "2"]).ok();
    let shown = wait_for("the added rounds", || {
        let shown = federation.show(run);
        (rounds(&shown).len() == 6 && shown["state"] == "completed").then_some(shown)
    });
    assert_eq!(digests(&shown), calm, "as if all of them had been planned");
}

#[test]
fn a_run_that_no_longer_improves_stops_and_its_best_version_has_a_name() {
    let mut federation = Federation::start();
    let _sites = workers(&federation, &["ada", "ben"]);
    let job = Job { rounds: 200, max: 2, ..Job::default() }.toml();
    let job = format!("{job}\n[evaluate]\nmetric = \"test_accuracy\"\npatience = 4\n");
    let shown = federation.complete(&job, &[("iris.csv", IRIS.as_bytes())]);
    assert!(shown["cause"].as_str().unwrap().starts_with("stopped early: 4 rounds in a row"), "{shown:#}");
    let accuracy: Vec<f64> =
        rounds(&shown).iter().map(|r| r["metrics"]["test_accuracy"].as_f64().unwrap()).collect();
    let best = accuracy.iter().copied().fold(0.0, f64::max);
    let first_best = accuracy.iter().position(|a| *a == best).unwrap();
    assert_eq!(accuracy.len(), first_best + 1 + 4, "{accuracy:?}");
    for restarted in [false, true] {
        if restarted {
            federation.kill();
            federation.serve();
        }
        let named = federation.cli(&["model", "show", "iris@best", "--output", "json"]).json();
        assert_eq!(named["version"], first_best + 1, "{named:#}");
    }
}

#[test]
fn a_slow_worker_of_a_larger_cohort_is_not_waited_for() {
    let federation = Federation::start();
    let _sites = workers(&federation, &["ada", "ben"]);
    let _slow = federation.worker("cleo", &WAITS_FOR_EVER);
    let load = Load { cohort: "{ min = 2, max = 2, select = 3 }", rounds: 5, ..Load::default() };
    let shown = federation.complete(&load.toml(), &[]);
    for round in rounds(&shown) {
        assert_eq!((&round["updates"], has(round, "cleo")), (&Value::from(2), true), "{round}");
        assert_eq!(round["cohort"].as_array().unwrap().len(), 3);
    }
}

/// A poll looks by itself every third of a lease, here every 20 s: a run that starts must not wait for that.
#[test]
fn a_new_run_reaches_workers_that_wait() {
    let federation = Federation::start_with(&[("lease", "lease = \"60s\"")]);
    let _sites = workers(&federation, &["ada", "ben", "cleo"]);
    for _ in 0..4 {
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        federation.complete(&Load { rounds: 1, ..Load::default() }.toml(), &[]);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
}

#[test]
fn workers_of_two_protocols_share_a_run() {
    let mut federation = Federation::start_slow();
    let mut old = federation.worker("ada", &["--protocol-max", "1"]);
    old.wait_for_log("protocol=1");
    let mut older = federation.worker("bea", &["--protocol-max", "2"]);
    older.wait_for_log("protocol=2");
    let mut new = federation.worker("ben", &[]);
    new.wait_for_log("protocol=3");
    let job = Load { workers: 3, rounds: 10, ..Load::default() }.toml();
    let calm = digests(&federation.complete(&job, &[]));
    let run = federation.start_run(&job, &[]);
    federation.wait_for_rounds(&run, 3);
    federation.kill();
    federation.serve();
    let shown = federation.wait_for_end(&run);
    assert_eq!((digests(&shown), &shown["state"]), (calm, &"completed".into()));
    assert!(rounds(&shown).iter().all(|round| round["updates"] == 3));
    assert_eq!(federation.restarts(&run), 1);
    let shown = federation.cli(&["worker", "show", "ada", "--output", "json"]).json();
    assert_eq!(shown["protocol"], 1, "{shown:#}");
}
