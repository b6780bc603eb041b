//! `conclave-coordinator check` and `recover`: what is on disk, whether it fits, and what can be done.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use params::Digest;

use super::{
    Blobs, Compaction, Options, Store, StoreError, VersionRecord, compact,
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
    let mut whole = BTreeSet::new();
    let mut bytes = 0u64;
    for digest in blobs.list()? {
        match blobs.get(&digest) {
            Ok(content) => {
                bytes += content.len() as u64;
                whole.insert(digest);
            }
            Err(error) => checked.faults.push(format!("{error}{}", used_by(store, &digest)?)),
        }
    }
    checked.found.push(format!("blobs: {} of {bytes} bytes, all read", whole.len()));
    let mut named = BTreeSet::new();
    for value in store.scan::<serde_json::Value>("")? {
        let text = value.to_string();
        compact::search(text.as_bytes(), &mut named);
    }
    for digest in named {
        // Hashes of secrets look like digests, too: what no version and no run names is not missed.
        let users = used_by(store, &digest)?;
        if !users.is_empty() && matches!(blobs.get(&digest), Err(StoreError::Missing(_))) {
            checked.faults.push(format!("blob {digest} is not there{users}"));
        }
    }
    let versions = store.scan::<VersionRecord>("version/")?.len();
    checked.found.push(format!("index: {versions} versions, at the end of the journal"));
    Ok(())
}

/// Which versions need a blob, for people.
fn used_by(store: &Store, digest: &Digest) -> Result<String, StoreError> {
    let text = digest.to_string();
    let users: Vec<String> = store
        .scan::<VersionRecord>("version/")?
        .into_iter()
        .filter(|v| v.weights.digest == text || v.manifest.digest == text)
        .map(|v| format!("{}:{}", v.model, v.version))
        .collect();
    Ok(match users.is_empty() {
        true => String::new(),
        false => format!(
            "; it belongs to {}, which cannot be served: restore data/blobs/{}/{text} from a backup",
            users.join(", "),
            &text[..2]
        ),
    })
}

/// Makes a journal open again that is damaged in the middle: what follows from its beginning is kept, the rest is
/// moved aside. Returns what was done, in words.
pub(crate) fn recover(dir: &Path, stamp: u64) -> Result<Vec<String>, StoreError> {
    let mut done = Vec::new();
    let recovered = journal::recover(&dir.join(JOURNAL), stamp)?;
    done.extend(recovered.found.iter().map(|damage| format!("found: {damage}")));
    let moved = |path: &PathBuf| format!("moved aside: {}", path.display());
    done.extend(recovered.moved.iter().map(moved));
    if recovered.bytes > 0 {
        let seqs = recovered
            .seqs
            .map_or(String::new(), |(low, high)| format!(", entries {low} to {high} among them"));
        done.push(format!("given up: {} bytes{seqs}; what they acknowledged is lost", recovered.bytes));
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
