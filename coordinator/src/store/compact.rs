//! Snapshots of the journal, and the removal of what nothing needs any more. It runs beside the journal's
//! thread; a crash at any point leaves only garbage.

use std::{
    collections::BTreeSet,
    io::Read,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use journal::{Journal, Mark, entry::Item};
use params::Digest;
use service::fault::crash_point;

use super::{Blobs, StoreError, follower::Follower, history};

/// Takes the state as the follower has it now, and starts the work on it.
pub(super) fn start(follower: &Follower, journal: &Journal) -> Result<JoinHandle<()>, StoreError> {
    follower.blobs.turn();
    let mut items = vec![Item::Epoch(follower.epoch).encode()];
    let mut named = follower.named();
    for pair in follower.index.pairs("") {
        let (key, value) = pair?;
        search(&value, &mut named);
        items.push(Item::Pair { key, value }.encode());
    }
    for (run, replay) in &follower.runs {
        items.push(replay.item(run.clone()).encode());
    }
    let mark = journal.mark();
    let work = Work { dir: follower.dir.clone(), mark, items, named, blobs: follower.blobs.clone() };
    let age = follower.compaction.garbage_age;
    let run = move || match work.run(age) {
        Ok(done) => tracing::info!("{done}"),
        Err(StoreError::Snapshot(error)) if error.is_fatal() => super::log::stop(&error),
        // The journal is whole and grows; the next snapshot tries again.
        Err(error) => tracing::warn!(%error, "no snapshot of the journal"),
    };
    thread::Builder::new().name("snapshot".to_owned()).spawn(run).map_err(|cause| StoreError::Io {
        what: "start",
        path: "the snapshot's thread".to_owned(),
        cause,
    })
}

struct Work {
    dir: PathBuf,
    mark: Mark,
    items: Vec<Vec<u8>>,
    /// Blobs that the state names.
    named: BTreeSet<Digest>,
    blobs: Arc<Blobs>,
}

impl Work {
    fn run(self, garbage_age: Duration) -> Result<String, StoreError> {
        // The entries that carry these may be dropped from now on.
        self.blobs.sync_carried()?;
        let items = self.items.len();
        let seq = self.mark.write(self.items.into_iter())?;
        history::keep(&self.dir, seq)?;
        crash_point("history-kept");
        let retired = self.mark.retire()?;
        let collected = self.blobs.collect(&reachable(self.named, &self.blobs), garbage_age)?;
        Ok(format!(
            "snapshot of the journal at entry {seq}, {items} items; dropped {} segments and {} blobs of {} bytes",
            retired.segments.len(),
            collected.removed,
            collected.bytes
        ))
    }
}

/// The blobs that are named, and those that these name: a resolved job names its tables.
fn reachable(named: BTreeSet<Digest>, blobs: &Blobs) -> BTreeSet<Digest> {
    let mut open: Vec<Digest> = named.iter().copied().collect();
    let mut live = named;
    while let Some(digest) = open.pop() {
        // Records are JSON; weights and tables name nothing, and are not read.
        let Some(bytes) = is_json(&blobs.path(&digest)).then(|| blobs.get(&digest).ok()).flatten() else {
            continue;
        };
        let mut found = BTreeSet::new();
        search(&bytes, &mut found);
        open.extend(found.iter().filter(|digest| live.insert(**digest)));
    }
    live
}

/// Whether a file begins like a JSON object.
fn is_json(path: &std::path::Path) -> bool {
    let mut first = [0u8];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == *b"{"
}

/// Adds every digest that a text holds: whatever looks like one is kept.
pub(super) fn search(text: &[u8], found: &mut BTreeSet<Digest>) {
    let runs = text.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() == 64);
    found.extend(runs.filter_map(|run| std::str::from_utf8(run).ok()?.parse::<Digest>().ok()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_stand() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut found = BTreeSet::new();
        search(format!(r#"{{"x":"{a}","y":["{b}", "{}"]}}"#, &a.to_string()[..63]).as_bytes(), &mut found);
        assert_eq!(found, BTreeSet::from([a, b]));
    }

    #[test]
    fn what_a_named_blob_names_is_live_too() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs")).unwrap();
        let table = blobs.put(b"1,2\n").unwrap();
        let job = blobs.put(format!(r#"{{"table":"{table}"}}"#).as_bytes()).unwrap();
        let other = blobs.put(b"{}").unwrap();
        let live = reachable(BTreeSet::from([job, Digest::of(b"not there")]), &blobs);
        assert!(live.contains(&table) && !live.contains(&other), "{live:?}");
    }
}
