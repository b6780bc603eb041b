//! What was promised before a fault, and whether it is still there afterwards.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{Disk, Federation, Site};

/// A run without data. 80 KB of weights: too many to travel in the journal, so they are files.
pub(crate) const JOB: &str = r#"
name = "load"
task = "synthetic"

[model]
parameters = 20000

[synthetic]
update = "random"

[data]
shards = 2

[rounds]
count = 100000
cohort = { min = 2, max = 2 }
deadline = "60s"
gather = "1s"
"#;

/// The names of the two workers of a run.
pub(crate) const WORKERS: [&str; 2] = ["ada", "ben"];

/// Puts the home on a disk of its own, or says why the test cannot be run here.
pub(crate) fn disk(federation: &mut Federation, mib: u64) -> Option<Disk> {
    match Disk::under(federation, mib) {
        Ok(disk) => Some(disk),
        Err(why) => {
            eprintln!("NOT RUN: this test needs root, loop devices and mkfs.ext4: {why}");
            None
        }
    }
}

pub(crate) fn workers(federation: &Federation) -> Vec<Site> {
    WORKERS.iter().map(|name| federation.worker(name, &[])).collect()
}

/// The time of this host, for how long something takes.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What `work` gives, and how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = now();
    let value = work();
    (value, start.elapsed())
}

pub(crate) fn events(federation: &Federation, run: &str) -> Vec<Value> {
    let shown = federation.cli(&["run", "show", run, "--events", "--output", "json"]).json();
    shown.as_array().unwrap().clone()
}

/// The digests of all versions of a model, by their numbers.
pub(crate) fn digests(federation: &Federation, model: &str) -> Vec<String> {
    let listed = federation.cli(&["model", "ls", model, "--output", "json"]).json();
    let mut versions: Vec<(u64, String)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["version"].as_u64().unwrap(), v["digest"].as_str().unwrap().to_owned()))
        .collect();
    versions.sort();
    versions.into_iter().map(|(_, digest)| digest).collect()
}

/// Everything that a federation has acknowledged, as outsiders saw it.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// By run and round: version and digest.
    versions: BTreeMap<(String, u64), (u64, String)>,
    /// From each power loss to the end of the process: whatever was acknowledged then never happened.
    pub(crate) powerless: Vec<(String, String)>,
    /// Updates that are known to be in the journal.
    pub(crate) updates: usize,
}

impl Promises {
    /// Remembers what `run show` shows of a run.
    pub(crate) fn look(&mut self, federation: &Federation, run: &str) {
        for (round, version) in rounds(&federation.show(run)) {
            let known = self.versions.insert((run.to_owned(), round), version.clone());
            assert!(
                known.as_ref().is_none_or(|known| *known == version),
                "round {round} of {run} was {known:?}, now {version:?}"
            );
        }
    }

    pub(crate) fn versions(&self) -> usize {
        self.versions.len()
    }

    /// Every version of a run is there with the same digest; every update that a worker was told to be accepted
    /// is in the journal; every version was made of the updates of its last attempt.
    pub(crate) fn kept(&mut self, federation: &Federation, run: &str, sites: &mut [Site]) {
        let shown = federation.show(run);
        let now: BTreeMap<u64, (u64, String)> = rounds(&shown).collect();
        for ((of, round), version) in &self.versions {
            assert!(
                of != run || now.get(round) == Some(version),
                "round {round} of {run} was {version:?}, now {:?}",
                now.get(round)
            );
        }
        let accepted = self.accepted(run, sites);
        let mut received: BTreeMap<(String, u64), usize> = BTreeMap::new();
        // Of the round that is open: who has sent.
        let mut open: Vec<String> = Vec::new();
        let mut made: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for event in events(federation, run) {
            let (round, worker) =
                (event["round"].as_u64().unwrap(), event["worker"].as_str().unwrap().to_owned());
            match event["kind"].as_str().unwrap() {
                "round-opened" => open.clear(),
                "update-received" => {
                    *received.entry((worker.clone(), round)).or_default() += 1;
                    open.push(worker);
                }
                "round-committed" => {
                    open.sort();
                    made.insert(round, std::mem::take(&mut open));
                }
                _ => {}
            }
        }
        for (update, count) in &accepted {
            let there = received.get(update).copied().unwrap_or(0);
            assert!(
                there >= *count,
                "{update:?} of {run} was accepted {count} times, the journal has it {there} times"
            );
        }
        for round in shown["rounds"].as_array().unwrap() {
            let cohort: Vec<&str> =
                round["cohort"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
            assert_eq!(made[&round["round"].as_u64().unwrap()], cohort, "{round:#}");
        }
        self.updates += accepted.values().sum::<usize>();
    }

    /// As [`Promises::kept`], for versions of runs that are over.
    pub(crate) fn all_versions_kept(&self, federation: &Federation) {
        let listed = federation.cli(&["model", "ls", "load", "--output", "json"]).json();
        let digests: BTreeMap<u64, &str> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|v| (v["version"].as_u64().unwrap(), v["digest"].as_str().unwrap()))
            .collect();
        for ((run, round), (version, digest)) in &self.versions {
            assert_eq!(digests.get(version), Some(&digest.as_str()), "round {round} of {run}");
        }
    }

    /// How often each worker was told that its update of a round is accepted.
    fn accepted(&self, run: &str, sites: &mut [Site]) -> BTreeMap<(String, u64), usize> {
        let mut counts = BTreeMap::new();
        for site in sites {
            let log = site.process().log();
            for line in log.lines().filter(|line| line.contains("update accepted")) {
                let time = line.split(' ').next().unwrap();
                if self.powerless.iter().any(|(cut, ended)| cut.as_str() <= time && time <= ended.as_str()) {
                    continue;
                }
                let (_, rest) = line.split_once(&format!("run={run} round=")).unwrap_or(("", ""));
                if let Ok(round) = rest.trim().parse::<u64>() {
                    *counts.entry((site.name.clone(), round)).or_default() += 1;
                }
            }
        }
        counts
    }
}

/// Round, and version and digest, of all that are committed.
fn rounds(shown: &Value) -> impl Iterator<Item = (u64, (u64, String))> + '_ {
    shown["rounds"].as_array().unwrap().iter().map(|round| {
        let digest = round["digest"].as_str().unwrap().to_owned();
        (round["round"].as_u64().unwrap(), (round["version"].as_u64().unwrap(), digest))
    })
}
