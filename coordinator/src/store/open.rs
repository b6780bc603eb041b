//! Opening a home: the journal is replayed, and the index brought up to it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use journal::{
    Fault, Item, Journal, OpenError,
    entry::{self, Change, Entry, What},
};
use params::Name;
use service::fault::{crash_point, setting};

use super::{
    Blobs, Compaction, Index, Overlay, RunRecord, Spill, Store, StoreError, follower::Follower, index,
    log::Log, migrate,
};
use crate::runs::Replay;

pub(super) const JOURNAL: &str = "journal";
pub(super) const INDEX: &str = "index";
/// Updates of open rounds; emptied by every start.
const SPILL: &str = "spill";
pub(super) const BLOBS: &str = "blobs";

/// Changes that the index takes in at once when it is rebuilt.
const TOGETHER: usize = 512;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) compaction: Compaction,
    /// The lease of runs that come from a home without a journal.
    pub(crate) lease_ms: u64,
}

/// What was found and mended.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// In words, for the log.
    pub(crate) notes: Vec<String>,
}

impl Store {
    /// Opens or makes the store in `dir`, and writes that a new process has taken it over.
    pub(crate) fn open(dir: &Path, options: Options) -> Result<Opened, StoreError> {
        let mut notes = Vec::new();
        let blobs = Arc::new(Blobs::open(dir.join(BLOBS))?);
        let (journal_dir, index_dir) = (dir.join(JOURNAL), dir.join(INDEX));
        let index = open_index(&index_dir, journal_dir.exists(), &mut notes)?;
        if !journal_dir.exists() && index.seq()? == 0 && index.pairs("").next().is_some() {
            let runs = migrate::migrate(dir, &index, &blobs, options.lease_ms)?;
            notes.push(format!("made a journal for a home of an earlier release, with {runs} runs"));
        }
        let index = Arc::new(index);
        let overlay = Arc::new(Mutex::new(Overlay::default()));
        let follower =
            Follower::new(dir.to_owned(), index.clone(), overlay.clone(), blobs.clone(), options.compaction);
        let mut replaying = Replaying {
            follower,
            index_seq: index.seq()?,
            rebuilt: false,
            waiting: Vec::new(),
            waiting_seq: 0,
        };
        let options = journal::Options { least: replaying.index_seq, ..journal_options() };
        let (mut journal, found) = Journal::open(&journal_dir, options, &mut |item| replaying.visit(item))
            .map_err(|error| match error {
                OpenError::Fault(Fault::Lost { last, least }) => {
                    StoreError::Lost { journal: last, index: least }
                }
                OpenError::Fault(fault) => StoreError::from(fault),
                OpenError::Visit(error) => error,
            })?;
        replaying.settle()?;
        let Replaying { mut follower, rebuilt, .. } = replaying;
        if let Some(torn) = &found.torn {
            notes.push(format!("cut {} bytes of an unfinished write off the journal", torn.bytes));
        }
        notes.extend(found.skipped.iter().map(|damage| format!("skipped a damaged snapshot: {damage}")));
        if rebuilt {
            notes.push("rebuilt the index from the journal".to_owned());
        }
        follower.mark_index()?;
        index.sync()?;
        let epoch = follower.epoch + 1;
        let boot = What::Boot { epoch, version: env!("CARGO_PKG_VERSION").to_owned() };
        let boot = Entry { unix_ms: service::clock::unix_ms(), what: Some(boot), ..Entry::default() };
        let full = |error| StoreError::Snapshot(error);
        let seq = journal.append(&boot.encode()).map_err(|error| full(error.into()))?;
        journal.sync().map_err(full)?;
        follower.take(seq, boot);
        let runs: BTreeMap<Name, Replay> = follower.runs.clone();
        let log =
            Log::start(journal, follower).map_err(StoreError::io("start the journal's thread of", dir))?;
        let dir = dir.to_owned();
        let spill = Spill::open(dir.join(SPILL))?;
        let store = Self { dir, blobs, spill, index, overlay, log, runs: Mutex::new(runs), epoch };
        store.settle()?;
        Ok(Opened { store, notes })
    }

    /// A run whose machine has ended, and whose record does not say so yet: the process was killed between the two.
    fn settle(&self) -> Result<(), StoreError> {
        for mut record in self.scan::<RunRecord>("run/")? {
            let Ok(name) = record.run.parse::<Name>() else { continue };
            let ended =
                self.look_at_run(&name, |replay| Some((replay.ending()?, replay.machine.plan().rounds)));
            // One that goes on is not looked at: it may have been given up because files of it are damaged.
            let Some(((state, cause), planned)) = ended.flatten() else { continue };
            if (record.state, record.rounds) != (state, planned) {
                (record.state, record.cause, record.rounds) = (state, cause, planned);
                let mut changes = super::Changes::default();
                changes.put(&format!("run/{name}"), &record)?;
                self.append(None, changes, Vec::new())?;
            }
        }
        Ok(())
    }
}

/// With the crash points of tests.
pub(super) fn journal_options() -> journal::Options {
    let defaults = journal::Options::default();
    // Tests roll and retire segments without writing 64 MiB.
    let segment_bytes = setting("journal-segment-bytes").unwrap_or(defaults.segment_bytes);
    journal::Options { segment_bytes, crash: crash_point, torn: cfg!(debug_assertions), ..defaults }
}

/// Opens the index; a damaged one is set aside for a new one, where a journal can fill that.
fn open_index(dir: &Path, replaceable: bool, notes: &mut Vec<String>) -> Result<Index, StoreError> {
    let error = match Index::open(dir.to_owned()).and_then(|index| index.seq().map(|_| index)) {
        Ok(index) => return Ok(index),
        // Permissions and full disks are no damage.
        Err(error @ (StoreError::Io { .. } | StoreError::Index(sled::Error::Io(_)))) => return Err(error),
        // A home of an earlier release has nothing else.
        Err(error) if !replaceable => return Err(error),
        Err(error) => error,
    };
    let aside = index::set_aside(dir, service::clock::unix_ms())?;
    notes.push(format!("the index did not open ({error}); it is now {}", aside.display()));
    Index::open(dir.to_owned())
}

/// The visitor of the journal.
struct Replaying {
    follower: Follower,
    /// What the index has taken in before.
    index_seq: u64,
    rebuilt: bool,
    /// Changes that the index gets together, up to entry `waiting_seq`: one by one they take it ten times as long.
    waiting: Vec<Change>,
    waiting_seq: u64,
}

impl Replaying {
    /// Changes for the index.
    fn give(&mut self, seq: u64, changes: Vec<Change>) -> Result<(), StoreError> {
        self.waiting.extend(changes);
        self.waiting_seq = seq;
        if self.waiting.len() < TOGETHER { Ok(()) } else { self.settle() }
    }

    /// The index takes in what waits for it.
    fn settle(&mut self) -> Result<(), StoreError> {
        if self.waiting_seq > 0 || !self.waiting.is_empty() {
            self.follower.index.apply(self.waiting_seq, &self.waiting)?;
            self.waiting.clear();
            self.waiting_seq = 0;
        }
        Ok(())
    }

    fn visit(&mut self, item: Item<'_>) -> Result<(), StoreError> {
        match item {
            Item::Snapshot { seq, payload } => {
                let item = entry::Item::decode(payload).map_err(|cause| StoreError::Entry { seq, cause })?;
                if self.index_seq < seq && !self.rebuilt {
                    // It lacks entries that only the snapshot has: it starts anew from that.
                    self.follower.index.clear()?;
                    self.rebuilt = true;
                }
                if let (true, entry::Item::Pair { key, value }) = (self.rebuilt, &item) {
                    let change = Change { key: key.clone(), value: Some(value.clone()) };
                    self.give(0, vec![change])?;
                }
                self.follower.restore(seq, item);
            }
            Item::Frame { seq, payload } => {
                let entry = Entry::decode(payload).map_err(|cause| StoreError::Entry { seq, cause })?;
                for blob in &entry.blobs {
                    // Its file was not synced; where it is whole, this costs a look.
                    self.follower.blobs.put_carried(blob)?;
                }
                if self.rebuilt || seq > self.index_seq {
                    self.rebuilt |= self.index_seq == 0 && seq == 1;
                    self.give(seq, entry.changes)?;
                }
                self.follower.replay(seq, entry.what);
            }
        }
        Ok(())
    }
}
