use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use journal::{
    Journal,
    entry::{Entry, Item, What},
};
use params::{Digest, Name};
use service::clock::Clock;

use super::{Blobs, Index, Overlay, StoreError, compact};
use crate::runs::Replay;

/// The index is made durable at most this often: it is only a look-up, and the journal has everything.
const INDEX_SYNC_MS: u64 = 1000;

/// How often a snapshot of the journal is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compaction {
    /// Entries after which one is due.
    pub(crate) every: u64,
    /// Blobs that nothing names are removed when they are older than this.
    pub(crate) garbage_age: Duration,
}

/// Takes in what is durable, in order: the index, and a second machine of each run, from which snapshots are
/// made. The same code brings everything back after a start, so each snapshot and each restart is a test of it.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) dir: PathBuf,
    pub(super) index: Arc<Index>,
    pub(super) overlay: Arc<Mutex<Overlay>>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) runs: BTreeMap<Name, Replay>,
    pub(super) epoch: u64,
    /// The last entry taken in.
    pub(super) seq: u64,
    pub(super) compaction: Compaction,
    clock: Clock,
    index_synced_ms: u64,
    index_dirty: bool,
    /// The index failed, for instance on a full disk: it is left behind until the next start, and the overlay keeps what
    /// it lacks.
    index_lost: bool,
    /// Makes the index durable, beside the journal's thread: nobody waits for it.
    syncing: Option<JoinHandle<Result<(), StoreError>>>,
    snapshot_seq: u64,
    working: Option<JoinHandle<()>>,
}

impl Follower {
    pub(super) fn new(
        dir: PathBuf,
        index: Arc<Index>,
        overlay: Arc<Mutex<Overlay>>,
        blobs: Arc<Blobs>,
        compaction: Compaction,
    ) -> Self {
        Self {
            dir,
            index,
            overlay,
            blobs,
            runs: BTreeMap::new(),
            epoch: 0,
            seq: 0,
            compaction,
            clock: Clock::start(),
            index_synced_ms: 0,
            index_dirty: false,
            index_lost: false,
            syncing: None,
            snapshot_seq: 0,
            working: None,
        }
    }

    /// One item of a snapshot.
    pub(super) fn restore(&mut self, seq: u64, item: Item) {
        self.seq = seq;
        self.snapshot_seq = seq;
        match item {
            Item::Epoch(epoch) => self.epoch = epoch,
            // The index takes its pairs itself, where it needs them.
            Item::Pair { .. } => {}
            Item::Run { run, saved, asides } => {
                self.runs.insert(run, Replay::restore(*saved, &asides));
            }
        }
    }

    /// One entry, which is durable.
    pub(super) fn take(&mut self, seq: u64, entry: Entry) {
        self.replay(seq, entry.what);
        self.index_dirty = true;
        // Most entries are steps of a run that no record tells of: the index learns of them by their number.
        if self.index_lost || entry.changes.is_empty() {
            return;
        }
        match self.index.apply(seq, &entry.changes) {
            Ok(()) => self.overlay.lock().unwrap_or_else(PoisonError::into_inner).forget(seq, &entry.changes),
            Err(error) => self.lose_index(&error),
        }
    }

    /// The index has taken in everything up to now.
    pub(super) fn mark_index(&self) -> Result<(), StoreError> {
        self.index.apply(self.seq, &[])
    }

    /// What an entry says beside its changes.
    pub(super) fn replay(&mut self, seq: u64, what: Option<What>) {
        self.seq = seq;
        match what {
            None => {}
            Some(What::Boot { epoch, .. }) => self.epoch = epoch,
            Some(What::Opened { run, saved }) => {
                self.runs.insert(run, Replay::restore(*saved, &[]));
            }
            Some(What::Step(step)) => {
                if let Some(run) = self.runs.get_mut(&step.run) {
                    run.take(&step);
                }
            }
        }
    }

    /// How long the thread may sleep until something is due.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(if self.index_dirty { INDEX_SYNC_MS } else { 60_000 })
    }

    /// What is due between batches.
    pub(super) fn rest(&mut self, journal: &Journal) {
        let now = self.clock.now_ms();
        if self.index_dirty && now.saturating_sub(self.index_synced_ms) >= INDEX_SYNC_MS {
            self.start_index_sync(now);
        }
        let due = self.seq.saturating_sub(self.snapshot_seq) >= self.compaction.every;
        let free = self.working.as_ref().is_none_or(JoinHandle::is_finished);
        // A snapshot holds the index: one that lacks something must not become one.
        if due && free && !self.index_lost {
            // One that the index has not reached makes the next start build it anew.
            if let Err(error) = self.mark_index() {
                return self.lose_index(&error);
            }
            self.snapshot_seq = self.seq;
            match compact::start(self, journal) {
                Ok(working) => self.working = Some(working),
                // The journal is whole and grows; the next one tries again.
                Err(error) => tracing::warn!(%error, "no snapshot of the journal"),
            }
        }
    }

    /// Starts to make the index durable as it is now, unless that is still going on.
    fn start_index_sync(&mut self, now: u64) {
        if self.index_lost || self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return;
        }
        let index = self.index.clone();
        let sync = move || index.sync();
        let started = synced(self.syncing.take()).and_then(|()| self.mark_index()).and_then(|()| {
            let thread = thread::Builder::new().name("index".to_owned()).spawn(sync);
            thread.map_err(StoreError::io("start the thread of", &self.dir))
        });
        match started {
            Ok(syncing) => self.syncing = Some(syncing),
            Err(error) => return self.lose_index(&error),
        }
        self.index_dirty = false;
        self.index_synced_ms = now;
    }

    pub(super) fn close(&mut self) {
        if let Err(error) = synced(self.syncing.take()) {
            self.lose_index(&error);
        }
        if let Some(working) = self.working.take() {
            // It has logged why, if it panicked.
            let _ = working.join();
        }
        self.sync_index();
    }

    fn sync_index(&mut self) {
        if !self.index_lost
            && let Err(error) = self.mark_index().and_then(|()| self.index.sync())
        {
            self.lose_index(&error);
        }
        self.index_dirty = false;
    }

    /// The index is only a look-up: the run goes on, and the next start takes what it lacks from the journal.
    fn lose_index(&mut self, error: &StoreError) {
        tracing::error!(%error, "the index cannot be written; it is brought up to the journal at the next start");
        self.index_lost = true;
        self.index_dirty = false;
    }

    /// Blobs that a machine names and the index does not (yet).
    pub(super) fn named(&self) -> BTreeSet<Digest> {
        self.runs.values().flat_map(Replay::blobs).collect()
    }
}

/// What came of making the index durable.
fn synced(syncing: Option<JoinHandle<Result<(), StoreError>>>) -> Result<(), StoreError> {
    // A panic is logged where it happens; the next attempt tells what is wrong.
    syncing.map_or(Ok(()), |syncing| syncing.join().unwrap_or(Ok(())))
}
