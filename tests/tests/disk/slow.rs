//! A disk that is slow, and one whose fsync fails.

use std::time::Duration;

use tests::{Federation, serve_with};

use crate::common::{JOB, Promises, events, timed, workers};

#[test]
fn a_slow_disk_costs_no_worker_its_lease() {
    let mut federation = Federation::start_with(&[("lease", "lease = \"2s\"")]);
    let mut sites = workers(&federation);
    let run = federation.start_run(JOB, &[]);
    federation.wait_for_rounds(&run, 1);
    federation.kill();
    let mut slow = serve_with(&federation, &["CONCLAVE_FAULT=journal-sync-slow-ms:500"], "slow.log");
    slow.wait_for_log("coordinator ready");
    let list = || federation.cli(&["worker", "ls", "--output", "json"]).json();
    tests::wait_for("both workers again", || (list().as_array().unwrap().len() == 2).then_some(()));
    let committed = federation.show(&run)["rounds"].as_array().unwrap().len();
    let before = events(&federation, &run).len();
    let mut waits = Vec::new();
    tests::wait_for("three rounds on a slow disk", || {
        let (listed, took) = timed(list);
        assert_eq!(listed.as_array().unwrap().len(), 2);
        waits.push(took);
        (federation.show(&run)["rounds"].as_array().unwrap().len() >= committed + 3).then_some(())
    });
    let told = events(&federation, &run);
    for event in &told[before..] {
        let kind = event["kind"].as_str().unwrap();
        assert!(!matches!(kind, "worker-lost" | "worker-left" | "attempt-failed"), "{event:#}");
    }
    Promises::default().kept(&federation, &run, &mut sites);
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    // Whoever waited for the disk would need at least one fsync.
    assert!(waits[waits.len() / 2] < Duration::from_millis(500), "{waits:?}");
    eprintln!(
        "slow disk: `worker ls` p50 {:?}, p99 {p99:?} of {} calls",
        waits[waits.len() / 2],
        waits.len()
    );
}

#[test]
fn a_failed_fsync_ends_the_process_at_once() {
    let mut federation = Federation::start();
    let mut sites = workers(&federation);
    let run = federation.start_run(JOB, &[]);
    federation.wait_for_rounds(&run, 1);
    federation.kill();
    let mut failing = serve_with(&federation, &["CONCLAVE_FAULT=journal-sync-eio:80"], "eio.log");
    failing.wait_for_log("made by a test");
    let (code, took) = timed(|| failing.wait());
    assert_eq!(code, Some(1));
    assert!(took < Duration::from_secs(1), "{took:?}");
    federation.serve();
    let mut promises = Promises::default();
    promises.kept(&federation, &run, &mut sites);
    let committed = federation.show(&run)["rounds"].as_array().unwrap().len();
    federation.wait_for_rounds(&run, committed + 1);
    eprintln!("EIO: ended after {took:?}; 0 lost of {} updates", promises.updates);
}
