//! Homes of release 0.1 had no journal: the index was the truth. They get one that says what the index says.

use std::path::Path;

use journal::{
    Journal,
    entry::{Change, Entry, What},
};

use super::{
    Blobs, Index, RunRecord, StoreError,
    blobs::sync_dir,
    index::parse,
    open::{JOURNAL, journal_options},
};
use crate::runs::adopt;

/// Pairs in one entry.
const PAIRS: usize = 256;

/// Writes a journal for what `index` holds and returns the number of runs. It is made under another name and
/// renamed when it is whole: a crash in the middle starts anew.
pub(super) fn migrate(dir: &Path, index: &Index, blobs: &Blobs, lease_ms: u64) -> Result<usize, StoreError> {
    let unfinished = dir.join("journal.new");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(StoreError::io("remove", &unfinished))?;
    }
    let nothing = &mut |_: journal::Item<'_>| Ok::<_, StoreError>(());
    let (mut journal, _) =
        Journal::open(&unfinished, journal_options(), nothing).map_err(|error| match error {
            journal::OpenError::Fault(fault) => StoreError::from(fault),
            journal::OpenError::Visit(error) => error,
        })?;
    let write = |entry: Entry, journal: &mut Journal| -> Result<(), StoreError> {
        let entry = Entry { unix_ms: service::clock::unix_ms(), ..entry };
        journal.append(&entry.encode()).map_err(journal::WriteError::from)?;
        Ok(())
    };
    let mut changes = Vec::new();
    for pair in index.pairs("") {
        let (key, value) = pair?;
        changes.push(Change { key, value: Some(value) });
    }
    for part in changes.chunks(PAIRS) {
        write(Entry { changes: part.to_vec(), ..Entry::default() }, &mut journal)?;
    }
    let mut runs = 0;
    for pair in index.pairs("run/") {
        let (key, value) = pair?;
        let record: RunRecord = parse(&key, &value)?;
        match adopt(&record, blobs, lease_ms) {
            Ok((run, machine)) => {
                let what = What::Opened { run, saved: Box::new(machine.save()) };
                write(Entry { what: Some(what), ..Entry::default() }, &mut journal)?;
                runs += 1;
            }
            // It could not be resumed before either; its record stays.
            Err(error) => tracing::error!(run = record.run, %error, "run cannot be resumed"),
        }
    }
    journal.sync()?;
    drop(journal);
    let to = dir.join(JOURNAL);
    std::fs::rename(&unfinished, &to).map_err(StoreError::io("rename", &unfinished))?;
    sync_dir(dir)?;
    Ok(runs)
}
