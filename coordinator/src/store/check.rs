//! `conclave-coordinator check` and `recover`: what is on disk, whether it fits, and what can be done.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use params::Digest;

use super::{
    BlobRecord, Blobs, Compaction, Options, RunRecord, Store, StoreError, VersionRecord, compact,
    open::{BLOBS, JOURNAL},
};

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// What is there, in words.
    pub(crate) found: Vec<String>,
    /// What was mended.
    pub(crate) repaired: Vec<String>,
    /// What is wrong and needs somebody.
    pub(crate) faults: Vec<String>,
}

/// Verifies the home's data, and mends what an ordinary start would mend.
pub(crate) fn check(dir: &Path, lease_ms: u64) -> Result<Checked, StoreError> {
    let mut checked = Checked::default();
    let journal = dir.join(JOURNAL);
    if journal.exists() {
        let report = journal::verify(&journal)?;
        checked.found.push(format!(
            "journal: {} entries in {} segments of {} bytes, {} snapshots",
            report.frames, report.segments, report.bytes, report.snapshots
        ));
        let damaged = report.damaged_snapshots.iter();
        checked.faults.extend(damaged.map(|damage| format!("a snapshot is damaged: {damage}")));
        if let Some(finding) = report.finding.filter(|f| matches!(f.kind, journal::Kind::Damage)) {
            checked.faults.push(format!(
                "the journal is damaged: {}; run: conclave-coordinator recover --home DIR",
                finding.damage
            ));
            return Ok(checked);
        }
    }
    let compaction = Compaction { every: u64::MAX, garbage_age: std::time::Duration::MAX };
    let opened = Store::open(dir, Options { compaction, lease_ms })?;
    checked.repaired.extend(opened.notes);
    let store = opened.store;
    blobs(&store, dir, &mut checked)?;
    store.close();
    Ok(checked)
}

/// Reads every blob, and looks for those that are named and not there.
fn blobs(store: &Store, dir: &Path, checked: &mut Checked) -> Result<(), StoreError> {
    let blobs = Blobs::at(dir.join(BLOBS));
    let users = users(store)?;
    let (mut whole, mut bytes) = (0u64, 0u64);
    for digest in blobs.list()? {
        match blobs.get(&digest) {
            Ok(content) => (whole, bytes) = (whole + 1, bytes + content.len() as u64),
            Err(error) => checked.faults.push(format!("{error}{}", used_by(&users, &digest))),
        }
    }
    checked.found.push(format!("blobs: {whole} of {bytes} bytes, all read"));
    for digest in users.keys().filter(|digest| !blobs.path(digest).exists()) {
        checked.faults.push(format!("blob {digest} is not there{}", used_by(&users, digest)));
    }
    let versions = store.scan::<VersionRecord>("version/")?.len();
    checked.found.push(format!("index: {versions} versions, at the end of the journal"));
    Ok(())
}

/// What needs each blob, in words.
fn users(store: &Store) -> Result<BTreeMap<Digest, Vec<String>>, StoreError> {
    let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    let mut add = |blob: &BlobRecord, user: String| {
        if let Ok(digest) = blob.digest.parse() {
            users.entry(digest).or_default().push(user);
        }
    };
    for version in store.scan::<VersionRecord>("version/")? {
        let user = format!("{}:{}", version.model, version.version);
        add(&version.weights, user.clone());
        add(&version.manifest, user);
    }
    for run in store.scan::<RunRecord>("run/")? {
        let user = format!("run {}", run.run);
        let optional = [&run.optimizer, &run.ledger].into_iter().flatten();
        [&run.job, &run.prepared, &run.base]
            .into_iter()
            .chain(optional)
            .for_each(|blob| add(blob, user.clone()));
        // The resolved job names its tables.
        let mut tables = BTreeSet::new();
        let prepared = run.prepared.digest.parse().ok().and_then(|digest| store.blobs.get(&digest).ok());
        compact::search(&prepared.unwrap_or_default(), &mut tables);
        for table in tables {
            add(&BlobRecord { digest: table.to_string(), bytes: 0 }, user.clone());
        }
    }
    Ok(users)
}

/// Who cannot be served without a blob, and the next step.
fn used_by(users: &BTreeMap<Digest, Vec<String>>, digest: &Digest) -> String {
    let text = digest.to_string();
    match users.get(digest) {
        None => String::new(),
        Some(users) => format!(
            "; it belongs to {}, which cannot be used: restore data/blobs/{}/{text} from a backup",
            users.join(", "),
            &text[..2]
        ),
    }
}

/// Makes a journal open again that is damaged in the middle: what follows from its beginning is kept, the rest is
/// moved aside. Returns what was done, in words.
pub(crate) fn recover(dir: &Path, stamp: u64) -> Result<Vec<String>, StoreError> {
    let mut done = Vec::new();
    let recovered = journal::recover(&dir.join(JOURNAL), stamp)?;
    done.extend(recovered.found.iter().map(|damage| format!("found: {damage}")));
    let moved = |path: &PathBuf| format!("moved aside: {}", path.display());
    done.extend(recovered.moved.iter().map(moved));
    match recovered.seqs {
        Some((low, high)) if high > recovered.last => done.push(format!(
            "given up: {} bytes, entries {} to {high} among them; what they acknowledged is lost",
            recovered.bytes,
            low.max(recovered.last + 1)
        )),
        _ if recovered.bytes > 0 => done.push(format!(
            "given up: {} bytes; a snapshot holds what they said, only `run show --events` has a gap",
            recovered.bytes
        )),
        _ => {}
    }
    done.push(format!("the journal now ends with entry {}", recovered.last));
    // An index that has seen more than the journal holds would stop the next start.
    let index = dir.join(super::open::INDEX);
    if index.exists() {
        let ahead =
            super::Index::open(index.clone()).and_then(|i| i.seq()).is_ok_and(|seq| seq > recovered.last);
        if ahead {
            let aside = super::index::set_aside(&index, stamp)?;
            done.push(format!("the index had seen later entries: it is now {}", aside.display()));
        }
    }
    Ok(done)
}
