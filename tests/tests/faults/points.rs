//! SIGKILL for the coordinator at every step of its work: whatever was acknowledged is there after the restart, no
//! training is repeated, and every version has the bits of a run that nobody disturbed.
//!
//! A process dies by itself at the point that `CONCLAVE_CRASH` names; one that does not get there fails the test.
//! With `CONCLAVE_NIGHTLY` each point kills at its first, second and third time.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use std::{collections::BTreeSet, fs, path::Path};

use tests::{Federation, IRIS, Job, Load, Site, digests, nightly, run_program};

/// SIGKILL.
const KILLED: Option<i32> = Some(9);

/// Snapshots, dropped segments and garbage come every few rounds.
const CONFIG: [(&str, &str); 2] =
    [("snapshot_every", "snapshot_every = 20"), ("garbage_age", "garbage_age = \"0s\"")];
const ENV: [(&str, &str); 1] = [("CONCLAVE_FAULT", "journal-segment-bytes:8192")];

/// Where a process is killed, and at which times. A start comes to some of the points by itself: there a later time
/// is in the middle of the run.
type Points<'a> = &'a [(&'static str, &'a [u64])];

const JOURNAL: Points<'_> = &[
    ("segment-created", &[1]),
    ("journal-append-torn", &[1, 9]),
    ("journal-unsynced", &[1, 9]),
    ("journal-synced", &[1, 9]),
    ("snapshot-written", &[1]),
    ("snapshot-renamed", &[1]),
    ("history-kept", &[1]),
    ("segment-retired", &[1]),
];

const BLOBS: Points<'_> = &[
    ("blob-half-written", &[1]),
    ("blob-unsynced", &[1]),
    ("blob-synced", &[1]),
    ("blob-renamed", &[1]),
    ("blob-folder-synced", &[1]),
    ("garbage-removed", &[1]),
];

const ROUNDS: Points<'_> = &[
    ("round-opened", &[1]),
    ("aggregating", &[1]),
    ("before-commit", &[1]),
    ("after-commit", &[1]),
    ("before-answer", &[1]),
    ("after-answer", &[1]),
    ("index-inserted", &[1, 9]),
    ("index-flushed", &[1, 2]),
];

/// It is met when a run is started, not while one goes on.
const RUN_OPENED: &str = "run-opened";

/// A federation that was disturbed often, and what its run must give.
struct Sweep {
    federation: Federation,
    sites: Vec<Site>,
    job: String,
    files: Vec<(&'static str, &'static [u8])>,
    calm: Vec<String>,
}

impl Sweep {
    fn start(job: String, files: Vec<(&'static str, &'static [u8])>) -> Self {
        let federation = Federation::start_with_env(&CONFIG, &ENV);
        let names = ["ada", "ben", "cleo"];
        let sites = names.iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect();
        let calm = digests(&federation.complete(&job, &files));
        assert_eq!(calm.iter().collect::<BTreeSet<_>>().len(), calm.len(), "every round changes the model");
        Self { federation, sites, job, files, calm }
    }

    fn all(&mut self, points: Points<'_>) {
        for (point, hits) in points {
            let first_three = [1, 2, 3];
            let hits: BTreeSet<u64> = match nightly() {
                true => hits.iter().chain(&first_three).copied().collect(),
                false => hits.iter().copied().collect(),
            };
            hits.into_iter().for_each(|hit| self.kill_at(point, hit));
        }
    }

    /// Nothing on the disk is missing or too much.
    fn check(mut self) {
        self.federation.coordinator().signal("TERM");
        assert_eq!(self.federation.coordinator().wait(), Some(0));
        let home = self.federation.home();
        let checked = run_program("conclave-coordinator", &["check", "--home", home.to_str().unwrap()]);
        assert!(!checked.ok().contains("FAULT"), "{checked:?}");
    }

    /// One run, whose coordinator dies at a point.
    fn kill_at(&mut self, point: &str, hit: u64) {
        let run = self.federation.start_run(&self.job, &self.files);
        self.federation.kill();
        let at = format!("{point}:{hit}");
        self.federation.launch(&[("CONCLAVE_CRASH", &at)]);
        assert_eq!(self.federation.coordinator().wait_for_signal(), KILLED, "{at}");
        let log = self.federation.coordinator().log();
        assert!(log.contains("killed by a test"), "{at}: {log}");
        self.goes_on(&run, &at);
    }

    /// A restart; whatever was before it, the run ends as if nothing had been.
    fn goes_on(&mut self, run: &str, at: &str) {
        self.federation.serve();
        let shown = self.federation.wait_for_end(run);
        assert_eq!(shown["state"], "completed", "{at}: {shown:#}");
        assert_eq!(digests(&shown), self.calm, "{at}");
        for site in &self.sites {
            let trained = site.count("trained");
            for round in (1..).take(self.calm.len()) {
                let times = trained.get(&(run.to_owned(), round));
                assert_eq!(times, Some(&1), "{at}: {} trained round {round} of {run}", site.name);
            }
        }
        let served = self.federation.cli(&["model", "ls", self.model(), "--output", "json"]).json();
        let latest = &served.as_array().unwrap().last().unwrap()["digest"];
        assert_eq!(latest, self.calm.last().unwrap(), "{at}: {served:#}");
    }

    fn model(&self) -> &'static str {
        if self.files.is_empty() { "load" } else { "iris" }
    }
}

/// Weights and the optimizer's state are files; that state is garbage one round later.
fn load() -> Sweep {
    let server = r#"{ kind = "adam", lr = 0.01 }"#;
    // Segments are dropped for the third time only in a longer run.
    let rounds = if nightly() { 24 } else { 8 };
    Sweep::start(Load { parameters: 20_000, rounds, server, ..Load::default() }.toml(), Vec::new())
}

#[test]
fn every_step_of_the_journal() {
    let mut sweep = load();
    sweep.all(JOURNAL);
    sweep.check();
}

#[test]
fn every_step_of_a_file() {
    let mut sweep = load();
    sweep.all(BLOBS);
    sweep.check();
}

#[test]
fn every_step_of_a_round_and_of_the_index() {
    let mut sweep = load();
    sweep.all(ROUNDS);
    sweep.check();
}

/// The operator gets no answer, and the run is there.
#[test]
fn a_run_that_was_opened_goes_on_although_nobody_was_told() {
    let mut sweep = load();
    sweep.federation.kill();
    sweep.federation.launch(&[("CONCLAVE_CRASH", RUN_OPENED)]);
    sweep.federation.coordinator().wait_for_log("coordinator ready");
    assert_ne!(sweep.federation.try_run(&sweep.job, &[]).code, 0);
    assert_eq!(sweep.federation.coordinator().wait_for_signal(), KILLED);
    sweep.goes_on("load-2", RUN_OPENED);
    sweep.check();
}

#[test]
fn libtorch_gives_the_same_bits_after_a_kill() {
    let job = Job { arch: "mlp", hidden: 4096, rounds: 6, min: 3, max: 3, ..Job::default() };
    let mut sweep = Sweep::start(job.toml(), vec![("iris.csv", IRIS.as_bytes())]);
    sweep.all(&[("blob-renamed", &[1]), ("before-answer", &[2]), ("before-commit", &[1])]);
    sweep.check();
}

#[test]
fn no_point_is_left_out() {
    let mut wanted: BTreeSet<String> = journal::CRASH_POINTS.map(str::to_owned).into();
    named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../coordinator/src"), &mut wanted);
    let killed = [JOURNAL, BLOBS, ROUNDS].into_iter().flatten().map(|(point, _)| *point).chain([RUN_OPENED]);
    assert_eq!(killed.map(str::to_owned).collect::<BTreeSet<_>>(), wanted);
}

/// The points that the source names.
fn named(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            named(&path, found);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let calls = source.split("crash_point(\"").skip(1);
        found.extend(calls.map(|call| call.split('"').next().unwrap().to_owned()));
    }
}
