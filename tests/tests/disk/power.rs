use std::time::Duration;

use params::Rng;
use tests::{Federation, command, run_program, wait_for};

use crate::common::{JOB, Promises, disk, now, timed, workers};

const SEED: u64 = 20_261_124;

/// Cuts after which another run is started, so that looking at one stays quick.
const CUTS_PER_RUN: u64 = 5;

#[test]
fn a_power_loss_at_any_time_loses_nothing_that_was_acknowledged() {
    let cuts = if std::env::var_os("CONCLAVE_NIGHTLY").is_some() { 200 } else { 20 };
    // Snapshots and the removal of what they replace happen all the while.
    let mut federation = Federation::start_with(&[
        ("snapshot_every", "snapshot_every = 40"),
        ("garbage_age", "garbage_age = \"1s\""),
        ("disk_reserve", "disk_reserve = 1048576"),
    ]);
    let Some(disk) = disk(&mut federation, 256) else { return };
    federation.serve();
    let mut sites = workers(&federation);
    let (mut promises, mut ready, mut torn) = (Promises::default(), Vec::new(), 0);
    let mut run = String::new();
    for cut in 0..cuts {
        if cut % CUTS_PER_RUN == 0 {
            if !run.is_empty() {
                eprintln!("{cut} of {cuts} cuts: 0 lost of {} versions so far", promises.versions());
                federation.cli(&["run", "stop", &run]).ok();
                federation.wait_for_end(&run);
            }
            run = federation.start_run(JOB, &[]);
            federation.wait_for_rounds(&run, 1);
        }
        let mut rng = Rng::new(SEED, &["power", &cut.to_string()]);
        let (start, after) = (now(), Duration::from_millis(rng.below(1200)));
        wait_for("the moment of the cut", || {
            promises.look(&federation, &run);
            (start.elapsed() >= after).then_some(())
        });
        let cut = disk.cut();
        federation.kill();
        promises.powerless.push((cut, command("date", &["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"]).unwrap()));
        disk.again();
        let ((), took) = timed(|| federation.serve());
        ready.push(took);
        let log = federation.coordinator().log();
        torn += usize::from(log.contains("of an unfinished write"));
        promises.kept(&federation, &run, &mut sites);
        let committed = federation.show(&run)["rounds"].as_array().unwrap().len();
        federation.wait_for_rounds(&run, committed + 1);
    }
    promises.all_versions_kept(&federation);
    federation.coordinator().signal("TERM");
    assert_eq!(federation.coordinator().wait(), Some(0));
    let checked =
        run_program("conclave-coordinator", &["check", "--home", &federation.home().display().to_string()]);
    assert!(!checked.ok().contains("FAULT"), "{}", checked.out);
    ready.sort();
    eprintln!(
        "{cuts} cuts, {cuts} opened, 0 lost of {} versions; torn writes: {torn}; ready after p50 {:?}, worst {:?}",
        promises.versions(),
        ready[ready.len() / 2],
        ready[ready.len() - 1]
    );
}
