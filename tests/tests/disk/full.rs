//! Disks without room, and without writing.

use std::{fs, time::Duration};

use serde_json::json;
use tests::{Federation, IRIS, Job, http, serve_with};

use crate::common::{JOB, Promises, disk, timed, workers};

/// The longest that anybody waits for an answer that needs no room, and for the first round once there is room.
const AT_MOST: Duration = Duration::from_secs(5);

/// A federation with a model `iris` to predict with, and a run without data in progress.
fn federation(reserve: &str) -> Federation {
    Federation::start_with(&[("disk_reserve", &format!("disk_reserve = {reserve}"))])
}

fn predict_and_list(federation: &Federation) {
    let body = json!({"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]});
    let (listed, listing) = timed(|| federation.cli(&["run", "ls", "--output", "json"]).json());
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let ((status, answer), predicting) =
        timed(|| http(&federation.http(), "POST", "/v2/models/iris/infer", &body.to_string()));
    assert_eq!((status, &answer["model_version"]), (200, &json!("3")), "{answer}");
    assert!(listing < AT_MOST && predicting < AT_MOST, "{listing:?} {predicting:?}");
}

fn committed(federation: &Federation, run: &str) -> usize {
    federation.show(run)["rounds"].as_array().unwrap().len()
}

#[test]
fn below_the_reserve_nothing_new_is_taken_until_there_is_room() {
    let mut federation = federation("16777216");
    let Some(disk) = disk(&mut federation, 192) else { return };
    federation.serve();
    let mut sites = workers(&federation);
    federation.complete(&Job { max: 2, ..Job::default() }.toml(), &[("iris.csv", IRIS.as_bytes())]);
    let run = federation.start_run(JOB, &[]);
    federation.wait_for_rounds(&run, 2);
    disk.fill(8 << 20);
    let refused = federation.try_run(JOB, &[]);
    let error = refused.fails(1);
    let left = disk.available();
    assert!(error.contains(" bytes left and needs 16777216 for this"), "{error}");
    assert!(error.contains("the coordinator's disk has ") && left < (8 << 20) + 4096, "{error} {left}");
    // A job with a file beside it is refused at the file.
    let refused = federation.try_run(&Job::default().toml(), &[("iris.csv", IRIS.as_bytes())]);
    assert!(refused.fails(1).contains(" bytes left and needs "), "{refused:?}");
    sites.iter_mut().for_each(|site| site.wait_for_log("bytes left and needs 16777216"));
    let stuck = committed(&federation, &run);
    predict_and_list(&federation);
    assert_eq!(committed(&federation, &run), stuck, "nobody can have sent both updates of a round");
    let mut promises = Promises::default();
    promises.look(&federation, &run);
    disk.free();
    let (_, took) = timed(|| federation.wait_for_rounds(&run, stuck + 1));
    assert!(took < AT_MOST, "the run went on after {took:?}");
    promises.kept(&federation, &run, &mut sites);
    assert!(!federation.coordinator().log().contains("panicked"));
    eprintln!(
        "below the reserve: the run went on {took:?} after there was room; 0 lost of {} updates",
        promises.updates
    );
}

#[test]
fn without_a_byte_left_nothing_is_acknowledged_and_nothing_is_lost() {
    // Without a reserve the journal itself finds the disk full.
    let mut federation = federation("0");
    let Some(disk) = disk(&mut federation, 192) else { return };
    federation.serve();
    let mut sites = workers(&federation);
    federation.complete(&Job { max: 2, ..Job::default() }.toml(), &[("iris.csv", IRIS.as_bytes())]);
    let run = federation.start_run(JOB, &[]);
    federation.wait_for_rounds(&run, 2);
    let mut promises = Promises::default();
    promises.look(&federation, &run);
    disk.fill(0);
    // A round that waits keeps the journal idle: these need more than what is left of its last block. Where the journal
    // itself has found the disk full before, they wait behind what waits.
    let log = federation.path("coordinator-2.log");
    let invited: Vec<_> = std::thread::scope(|scope| {
        let federation = &federation;
        let invite = |n| scope.spawn(move || federation.cli(&["invite", "reader", &format!("eve-{n}")]));
        let invited: Vec<_> = (0..16).map(invite).collect();
        tests::wait_for("an entry that finds the disk full", || {
            let log = fs::read_to_string(&log).unwrap();
            log.contains("nothing can be acknowledged until there is room").then_some(())
        });
        predict_and_list(federation);
        disk.free();
        invited.into_iter().map(|invited| invited.join().unwrap()).collect()
    });
    for (n, invited) in invited.iter().enumerate() {
        let home = federation.path(&format!("eve-{n}"));
        let args = ["join", "--coordinator", &federation.grpc(), "--token", invited.ok().trim()];
        federation.cli_as(&home, &args, "").ok();
    }
    let stuck = committed(&federation, &run);
    let (_, took) = timed(|| federation.wait_for_rounds(&run, stuck + 1));
    assert!(took < AT_MOST, "the run went on after {took:?}");
    promises.kept(&federation, &run, &mut sites);
    assert!(!federation.coordinator().log().contains("panicked"));
    // A start on a full disk says why not, and changes nothing.
    promises.look(&federation, &run);
    disk.fill(0);
    federation.kill();
    let mut refused = serve_with(&federation, &[], "full.log");
    assert_eq!(refused.wait(), Some(1), "{}", refused.log());
    assert!(refused.log().to_lowercase().contains("no space left"), "{}", refused.log());
    assert!(!refused.log().contains("panicked"), "{}", refused.log());
    disk.free();
    federation.serve();
    promises.kept(&federation, &run, &mut sites);
    let stuck = committed(&federation, &run);
    federation.wait_for_rounds(&run, stuck + 1);
    eprintln!(
        "0 bytes left: the run went on {took:?} after there was room; 0 lost of {} updates",
        promises.updates
    );
}

#[test]
fn a_home_that_cannot_be_written_ends_the_process_with_the_reason() {
    let mut federation = federation("1048576");
    let Some(disk) = disk(&mut federation, 192) else { return };
    disk.again_for_reading();
    let mut refused = serve_with(&federation, &[], "read-only.log");
    assert_eq!(refused.wait(), Some(1), "{}", refused.log());
    let log = refused.log().to_lowercase();
    assert!(log.contains("read-only file system") && !log.contains("panicked"), "{log}");
    assert!(log.contains(&federation.home().display().to_string().to_lowercase()), "{log}");
    disk.again();
    federation.serve();
    let mut sites = workers(&federation);
    let run = federation.start_run(JOB, &[]);
    federation.wait_for_rounds(&run, 2);
    let mut promises = Promises::default();
    promises.look(&federation, &run);
    disk.abort();
    assert_eq!(federation.coordinator().wait(), Some(1));
    let log = federation.coordinator().log();
    assert!(log.contains("this process ends now") && !log.contains("panicked"), "{log}");
    disk.again();
    federation.serve();
    promises.kept(&federation, &run, &mut sites);
    let before = committed(&federation, &run);
    federation.wait_for_rounds(&run, before + 1);
}
