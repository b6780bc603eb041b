//! SIGKILL at any moment, for the coordinator and for workers: the bits stay the same, and every update that was
//! acknowledged counts once.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use params::{Params, Rng};
use tests::{Federation, Load, Site, digests, pass, wait_for};

const NAMES: [&str; 5] = ["ada", "ben", "cleo", "dora", "emil"];

/// Workers that come back are used at once, and compaction takes part.
const CONFIG: [(&str, &str); 3] = [
    ("lease", "lease = \"2s\""),
    ("snapshot_every", "snapshot_every = 40"),
    ("garbage_age", "garbage_age = \"0s\""),
];
const SEGMENTS: &str = "journal-segment-bytes:16384";

/// A round takes some tenth of a second, a run some seconds: most kills come in the middle of one.
const SLOW: &str = "journal-segment-bytes:16384,journal-sync-slow-ms:20";

fn federation(workers: usize, fault: &'static str) -> (Federation, Vec<Site>) {
    let federation = Federation::start_with_env(&CONFIG, &[("CONCLAVE_FAULT", fault)]);
    let sites = NAMES[..workers].iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect();
    (federation, sites)
}

/// `CONCLAVE_SEED`, or always the same.
fn seed() -> u64 {
    std::env::var("CONCLAVE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The state of a run; `None` while the coordinator does not answer.
fn state(federation: &Federation, run: &str) -> Option<String> {
    let shown = federation.cli(&["run", "show", run, "--output", "json"]);
    (shown.code == 0).then(|| shown.json()["state"].as_str().unwrap().to_owned())
}

#[test]
fn kills_at_random_times_change_no_bit() {
    let (seed, length) = (seed(), Duration::from_secs(60));
    let mut rng = Rng::new(seed, &["kills at random times"]);
    let (mut federation, mut sites) = federation(3, SLOW);
    let server = r#"{ kind = "adam", lr = 0.01 }"#;
    let job = Load { parameters: 20_000, rounds: 80, server, ..Load::default() }.toml();
    let calm = digests(&federation.complete(&job, &[]));
    let (mut coordinators, mut workers, mut ended, mut inside) = (0, 0, 0, 0);
    let mut run = federation.start_run(&job, &[]);
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    while start.elapsed() < length {
        pass(Duration::from_millis(200 + rng.below(1800)));
        match rng.below(5) {
            victim @ 0..3 => {
                let site = &mut sites[usize::try_from(victim).unwrap()];
                assert!(site.process().is_running(), "CONCLAVE_SEED={seed}: {} ended by itself", site.name);
                site.process().kill();
                site.start(&["--device", "cpu"]);
                workers += 1;
            }
            _ => {
                assert!(federation.coordinator().is_running(), "CONCLAVE_SEED={seed}: it ended by itself");
                federation.kill();
                // The next kill may come before it serves.
                federation.launch(&[]);
                coordinators += 1;
            }
        }
        if state(&federation, &run).is_some_and(|state| state == "completed") {
            assert_eq!(digests(&federation.show(&run)), calm, "CONCLAVE_SEED={seed}");
            inside += federation.restarts(&run);
            run = federation.start_run(&job, &[]);
            ended += 1;
        }
    }
    federation.coordinator().wait_for_log("coordinator ready");
    let shown = federation.wait_for_end(&run);
    assert_eq!(shown["state"], "completed", "CONCLAVE_SEED={seed}: {shown:#}");
    assert_eq!(digests(&shown), calm, "CONCLAVE_SEED={seed}");
    inside += federation.restarts(&run);
    assert!(inside > 0 && workers > 0, "CONCLAVE_SEED={seed}: {inside} of {coordinators}, {workers}");
    #[allow(clippy::print_stdout)]
    {
        println!(
            "killed {coordinators} coordinators ({inside} starts went on with a run) and {workers} workers, {} runs",
            ended + 1
        );
    }
}

/// The worker with shard `i` sends the `i`-th unit vector: a version minus the one before, times the number of
/// updates, tells whose update is in it, and how often.
#[test]
fn every_acknowledged_update_counts_once() {
    let (mut federation, sites) = federation(5, SEGMENTS);
    let job = Load {
        parameters: 20_000,
        update: "one-hot",
        workers: 5,
        cohort: "{ min = 3, max = 4, select = 5 }",
        rounds: 12,
        ..Load::default()
    };
    let run = federation.start_run(&job.toml(), &[]);
    for at in ["before-answer:4", "after-answer:7", "aggregating:2", "before-commit:2", "after-commit:2"] {
        federation.kill();
        federation.launch(&[("CONCLAVE_CRASH", at)]);
        assert_eq!(federation.coordinator().wait_for_signal(), Some(9), "{at}");
    }
    federation.serve();
    let shown = federation.wait_for_end(&run);
    assert_eq!((digests(&shown).len(), &shown["state"]), (12, &"completed".into()), "{shown:#}");
    let mut before = vec![0.0; 20_000];
    for round in 1..=12u32 {
        let version = version(&federation, round);
        let updates = shown["rounds"][round as usize - 1]["updates"].as_u64().unwrap();
        // A third is not a number of f32; a thousandth is far above its error, and far below an update.
        let near = |count: f32| (count * 1000.0).round() / 1000.0;
        let counts: Vec<f32> = version
            .iter()
            .zip(&before)
            .map(|(after, before)| near((after - before) * updates as f32))
            .collect();
        assert!(counts[5..].iter().all(|count| *count == 0.0), "round {round}");
        let counted: Vec<f32> = counts[..5].to_vec();
        assert!(counted.iter().all(|count| *count == 0.0 || *count == 1.0), "round {round}: {counted:?}");
        assert_eq!(counted.iter().sum::<f32>(), updates as f32, "round {round}: {counted:?}");
        for (shard, site) in sites.iter().enumerate() {
            let acknowledged = site.count("update accepted").contains_key(&(run.clone(), round));
            assert!(!acknowledged || counted[shard] == 1.0, "round {round}, {}: {counted:?}", site.name);
        }
        before = version;
    }
    for site in &sites {
        let twice: BTreeSet<_> = site.count("trained").into_iter().filter(|(_, times)| *times > 1).collect();
        assert!(twice.is_empty(), "{}: {twice:?}", site.name);
    }
}

/// The weights of a version of model `load`.
fn version(federation: &Federation, number: u32) -> Vec<f32> {
    let to = federation.path(&format!("pulled-{number}"));
    federation.cli(&["model", "pull", &format!("load:{number}"), "--to", to.to_str().unwrap()]).ok();
    Params::from_safetensors(&fs::read(to.join("model.safetensors")).unwrap()).unwrap().into_values()
}

#[test]
fn a_killed_coordinator_is_back_soon() {
    let (mut federation, sites) = federation(3, SEGMENTS);
    let run = federation.start_run(&Load { rounds: 100_000, ..Load::default() }.toml(), &[]);
    let accepted = || -> usize { sites.iter().flat_map(|s| s.count("update accepted").into_values()).sum() };
    let mut told = Vec::new();
    for kill in 1..=5 {
        federation.wait_for_rounds(&run, 5 * kill);
        federation.kill();
        let before = accepted();
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        federation.serve();
        let ready = start.elapsed();
        wait_for("an update after the restart", || (accepted() > before).then_some(()));
        told.push((ready.as_millis(), start.elapsed().as_millis()));
    }
    #[allow(clippy::print_stdout)]
    {
        println!("from its start to 'coordinator ready', and to the first accepted update, ms: {told:?}");
    }
    // Bounds that only a defect reaches: a worker tries again after at most 5 s.
    assert!(told.iter().all(|(ready, update)| *ready < 20_000 && *update < 30_000), "{told:?}");
}
