//! Processes die: the run goes on.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{Federation, IRIS, Job, Load, Site, digests, wait_for};

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
    let job = Job { arch: "mlp", rounds: 40, min: 3, max: 3, ..Job::default() }.toml();
    let names = ["ada", "ben", "cleo"];
    let undisturbed = {
        let federation = Federation::start();
        let _sites: Vec<Site> = names.iter().map(|n| federation.worker(n, &["--device", "cpu"])).collect();
        digests(&federation.complete(&job, &files()))
    };

    let mut federation = Federation::start_slow();
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
    assert_eq!(federation.restarts(&run), 3);
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
fn a_late_update_is_refused_with_a_reason() {
    let federation = Federation::start_with(&LEASE);
    let slow = ["--delay-uploads-up-to", "100ms"];
    let _others: Vec<Site> = ["ada", "ben"].iter().map(|n| federation.worker(n, &slow)).collect();
    let mut cleo = federation.worker("cleo", &["--delay-uploads-up-to", "4s"]);
    let load = Load { cohort: "{ min = 2, max = 3 }", rounds: 100_000, ..Load::default() };
    let run = federation.start_run(&load.toml(), &[]);
    // Rarely, it is suspended after its update arrived, or before it began to send it and is then told to give up:
    // that is not what is looked at here.
    let late = (0..10).find_map(|_| suspended_while_it_sends(&federation, &mut cleo, &run));
    let late = late.expect("one of ten updates that comes too late");
    assert!(
        federation.log().contains("update not accepted worker=cleo reason=\"this work is no longer open")
    );
    let told = |e: &&Value| e["kind"] == "worker-lost" && e["worker"] == "cleo" && e["round"] == late;
    let events = federation.events(&run);
    let lost = events.iter().find(told).unwrap();
    assert_eq!(lost["text"], format!("round {late}: lost cleo: it was not seen for 2 s"));
    let round = federation.show(&run)["rounds"][late as usize - 1].clone();
    assert_eq!((cohort(&round).len(), &round["updates"]), (3, &Value::from(2)), "{round}");
    wait_for("a later round with it", || (last(&cleo, "update accepted") > late).then_some(()));
}

/// The last round of which the log says `what`.
fn last(site: &Site, what: &str) -> u32 {
    site.count(what).into_keys().map(|(_, round)| round).max().unwrap_or(0)
}

/// Suspends the worker for longer than its lease; the round, if its update was refused afterwards.
fn suspended_while_it_sends(federation: &Federation, site: &mut Site, run: &str) -> Option<u32> {
    let before = last(site, "trained");
    let late = wait_for("an update that waits", || Some(last(site, "trained")).filter(|r| *r > before));
    site.process().signal("STOP");
    if last(site, "update accepted") < late {
        federation.wait_for_rounds(run, late as usize + 1);
    }
    site.process().signal("CONT");
    let says = |site: &Site, text: String| site.log().contains(&text);
    wait_for("what becomes of the update", || {
        let refused = says(site, format!("run={run} round={late}: too late: this work is no longer open"));
        let other = last(site, "update accepted") >= late || last(site, "trained") > late;
        if refused { Some(Some(late)) } else { other.then_some(None) }
    })
}

#[test]
fn a_worker_that_is_stopped_hands_its_work_back_at_once() {
    let federation = Federation::start();
    let mut sites: Vec<Site> =
        ["ada", "ben", "cleo"].iter().map(|n| federation.worker(n, &["--device", "cpu"])).collect();
    let local = "optimizer = \"sgd\"\nlr = 0.05\nepochs = 10000\nbatch = 1";
    let run =
        federation.start_run(&Job { arch: "mlp", local, min: 3, max: 3, ..Job::default() }.toml(), &files());
    sites.iter_mut().for_each(|site| site.wait_for_log(" training run="));
    let cleo = sites.last_mut().unwrap();
    cleo.process().signal("TERM");
    assert_eq!(cleo.process().wait(), Some(0));
    assert!(cleo.count("trained").is_empty(), "it was in the middle");
    // The lease has 10 s, the round a minute: neither is waited for.
    let told = |e: &Value| e["kind"] == "worker-lost" && e["text"] == "round 1: lost cleo: it left";
    let events = federation.events(&run);
    assert!(events.iter().any(told), "{events:#?}");
}

#[test]
fn a_stopped_coordinator_goes_on_without_training_again() {
    let mut federation = Federation::start();
    let sites: Vec<Site> = ["ada", "ben", "cleo"]
        .iter()
        .map(|n| federation.worker(n, &["--delay-uploads-up-to", "1s"]))
        .collect();
    let job = Load { rounds: 5, ..Load::default() }.toml();
    let calm = digests(&federation.complete(&job, &[]));
    let run = federation.start_run(&job, &[]);
    wait_for("the middle of round 2", || {
        let at = (run.clone(), 2);
        let accepted = sites.iter().filter(|s| s.count("update accepted").contains_key(&at)).count();
        (1..3).contains(&accepted).then_some(())
    });
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    federation.coordinator().signal("TERM");
    assert_eq!(federation.coordinator().wait(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    federation.serve();
    let shown = federation.wait_for_end(&run);
    assert_eq!((digests(&shown), &shown["state"]), (calm, &"completed".into()));
    for site in &sites {
        assert!(site.count("trained").values().all(|times| *times == 1), "{}", site.name);
        assert_eq!(site.count("trained").len(), 10);
    }
}

#[test]
fn a_client_that_hangs_does_not_hold_the_end_up() {
    let mut federation = Federation::start();
    // A request whose body never comes: it is open until its client goes away.
    let hang = |federation: &Federation| {
        let mut stream = TcpStream::connect(federation.http()).unwrap();
        let head = "POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let _hangs = hang(&federation);
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    federation.coordinator().signal("TERM");
    assert_eq!(federation.coordinator().wait(), Some(0));
    let orderly = start.elapsed();
    assert!(orderly < Duration::from_secs(11), "{orderly:?}");

    federation.serve();
    let _hangs = hang(&federation);
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    federation.coordinator().signal("TERM");
    federation.coordinator().wait_for_log("shutting down");
    federation.coordinator().signal("TERM");
    assert_eq!(federation.coordinator().wait(), Some(143));
    assert!(start.elapsed() < Duration::from_secs(5), "the second signal ends it at once");
    // Nothing was lost by that.
    federation.serve();
    assert_eq!(federation.cli(&["run", "ls", "--output", "json"]).json(), Value::Array(vec![]));
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
    // Weights over 64 KiB: smaller ones are in the journal, and come back from there.
    let open = Job { name: "open", arch: "mlp", hidden: 4096, rounds: 100_000, max: 2, ..Job::default() };
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
