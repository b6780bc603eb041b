//! Bytes of the journal that change or vanish.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::{Federation, Ran, command, run_program, serve_with};

use crate::common::{JOB, Promises, workers};

/// A stopped federation, whose home is put back for each case.
struct Stopped {
    federation: Federation,
    promises: Promises,
    run: String,
}

impl Stopped {
    fn new() -> Self {
        let mut federation = Federation::start();
        let _sites = workers(&federation);
        let run = federation.start_run(&JOB.replace("100000", "12"), &[]);
        federation.wait_for_end(&run);
        let mut promises = Promises::default();
        promises.look(&federation, &run);
        federation.coordinator().signal("TERM");
        assert_eq!(federation.coordinator().wait(), Some(0));
        federation.kill();
        copy(&federation.home(), &federation.path("kept"));
        Self { federation, promises, run }
    }

    /// The home as it was when it was stopped.
    fn put_back(&self) {
        fs::remove_dir_all(self.federation.home()).unwrap();
        copy(&self.federation.path("kept"), &self.federation.home());
    }

    fn segment(&self) -> PathBuf {
        self.federation.home().join("data/journal").join(format!("{:020}.seg", 1))
    }

    fn coordinator(&self, what: &str) -> Ran {
        run_program("conclave-coordinator", &[what, "--home", &self.federation.home().display().to_string()])
    }

    /// What `serve` says when it does not start.
    fn refused(&self) -> String {
        let mut refused = serve_with(&self.federation, &[], "refused.log");
        assert_eq!(refused.wait(), Some(1), "{}", refused.log());
        refused.log()
    }

    /// Starts, and tells the log and how many versions there are.
    fn serves(&mut self) -> (String, usize) {
        self.federation.serve();
        let listed = self.federation.cli(&["run", "ls", "--output", "json"]).json();
        let versions = match listed.as_array().unwrap().is_empty() {
            true => 0,
            false => self.federation.show(&self.run)["rounds"].as_array().unwrap().len(),
        };
        let log = self.federation.coordinator().log();
        self.federation.kill();
        (log, versions)
    }
}

fn copy(from: &Path, to: &Path) {
    command("cp", &["-a", &from.display().to_string(), &to.display().to_string()]).unwrap();
}

fn flip(path: &Path, at: impl FnOnce(usize) -> usize) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
    at
}

#[test]
fn a_damaged_journal_is_refused_explained_and_recovered() {
    let mut stopped = Stopped::new();
    let segment = stopped.segment();
    let at = flip(&segment, |len| len / 2);
    let log = stopped.refused();
    let (_, place) = log.split_once(&format!("{}, offset ", segment.display())).unwrap();
    let offset: usize = place.split(',').next().unwrap().parse().unwrap();
    assert!(offset <= at && at < offset + 20_000, "{log}");
    assert!(log.contains("run: conclave-coordinator recover --home"), "{log}");
    let checked = stopped.coordinator("check");
    checked.fails(1);
    let fault = format!("FAULT   the journal is damaged: {}, offset {offset}, ", segment.display());
    assert!(checked.out.contains(&fault) && checked.out.contains("recover"), "{}", checked.out);
    // Neither has changed anything.
    assert_eq!(stopped.refused().lines().last(), log.lines().last());
    let recovered = stopped.coordinator("recover");
    let lost: Vec<&str> = recovered.ok().lines().collect();
    for part in
        ["found: ", "moved aside: ", "what they acknowledged is lost", "the journal now ends with entry "]
    {
        assert!(lost.iter().any(|line| line.contains(part)), "'{part}' is not in {lost:#?}");
    }
    let (_, versions) = stopped.serves();
    assert!((1..12).contains(&versions), "{versions}: half of the journal holds about half of the versions");
    assert!(stopped.coordinator("check").ok().contains("ok      journal: "));
    eprintln!("damage in the middle: {versions} of 12 versions kept, {}", lost.join("; "));
}

#[test]
fn a_torn_end_is_cut_unless_the_index_has_seen_more() {
    let mut stopped = Stopped::new();
    let all = stopped.promises.versions();
    // The beginning of an entry that was never whole.
    let segment = stopped.segment();
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, [&bytes[..], &bytes[52..52 + 40]].concat()).unwrap();
    let (log, versions) = stopped.serves();
    assert!(log.contains("cut 40 bytes of an unfinished write off the journal"), "{log}");
    assert_eq!(versions, all);
    // The last entry loses its end, or one byte; the index knows that it was there.
    for torn in [true, false] {
        stopped.put_back();
        let damage = || match torn {
            true => fs::write(&segment, &bytes[..bytes.len() - 7]).unwrap(),
            false => drop(flip(&segment, |len| len - 3)),
        };
        damage();
        let damaged = fs::read(&segment).unwrap();
        let log = stopped.refused();
        for part in ["the journal ends with entry ", "but the index has seen entry ", "recover --home"] {
            assert!(log.contains(part), "'{part}' is not in {log}");
        }
        assert_eq!(fs::read(&segment).unwrap(), damaged, "what is refused is not changed");
        let checked = stopped.coordinator("check");
        assert!(checked.fails(1).contains("acknowledged entries are missing"), "{checked:?}");
        // By word of the operator, or if nobody knows of it, it goes on without.
        let recovered = stopped.coordinator("recover");
        assert!(recovered.ok().contains("the index had seen later entries"), "{recovered:?}");
        let (log, versions) = stopped.serves();
        assert!(log.contains("of an unfinished write off the journal"), "{log}");
        assert_eq!(versions, all);
        stopped.put_back();
        damage();
        fs::remove_dir_all(stopped.federation.home().join("data/index")).unwrap();
        let (log, versions) = stopped.serves();
        assert!(log.contains("of an unfinished write off the journal"), "{log}");
        assert!(log.contains("rebuilt the index from the journal"), "{log}");
        assert_eq!(versions, all);
    }
}
