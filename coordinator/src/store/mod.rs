//! What a coordinator keeps on disk.
//!
//! - [`Blobs`]: bytes of any size, in files that are named by their digest.
//! - The journal (crate `journal`): everything that happened, in order; the only truth.
//! - [`Index`] (sled): look-ups, which follow the journal and can be rebuilt from it.
//!
//! Order of every change: blob durable, journal durable, the answer that promises it, index.
//! Reading order: [`Store`], [`log`], [`follower`], [`open`], [`compact`], [`history`], [`mod@check`].

mod blobs;
mod check;
mod compact;
mod draft;
mod follower;
mod history;
mod index;
mod log;
mod migrate;
mod open;
mod overlay;
mod records;
mod spill;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(crate) use blobs::Blobs;
pub(crate) use check::{check, recover};
pub(crate) use draft::Draft;
pub(crate) use follower::Compaction;
pub(crate) use index::{Changes, Index};
pub(crate) use open::{Opened, Options};
pub(crate) use records::{
    AliasRecord, BlobRecord, MemberRecord, RoundRecord, RunRecord, RunState, VersionRecord,
};

pub(crate) use spill::{Spill, Spilled};

use journal::entry::{Entry, What};
use overlay::Overlay;
use params::{Digest, Name};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::runs::Replay;

/// The largest blob that travels inside an entry of the journal: one fsync makes it durable together with the
/// rest, where a file of its own costs four.
pub(crate) const CARRIED_MAX: usize = 64 * 1024;

/// What can go wrong with what is on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The operating system refused; often a full disk or wrong permissions.
    #[error("{what} {path}: {cause}")]
    Io { what: &'static str, path: String, cause: std::io::Error },
    /// sled refused.
    #[error("index: {0}")]
    Index(#[from] sled::Error),
    /// A record does not parse: the index is damaged or of another release.
    #[error("index record '{key}' does not parse: {cause}")]
    Record { key: String, cause: serde_json::Error },
    /// A value is too large for the index.
    #[error("index record '{key}' has {bytes} bytes, at most {} are allowed", index::VALUE_BYTES_MAX)]
    TooLarge { key: String, bytes: usize },
    /// An entry is too large for the journal.
    #[error("a journal entry of {bytes} bytes, at most {max} are allowed")]
    EntryTooLarge { bytes: usize, max: usize },
    /// The blob is not there.
    #[error("blob {0} is not stored here")]
    Missing(Digest),
    /// The bytes on disk are not those that were written.
    #[error("blob {expected} is damaged on disk: its bytes have digest {found}")]
    Damaged { expected: Digest, found: Digest },
    /// The journal does not open.
    #[error("{0}")]
    Journal(#[from] journal::Fault),
    /// A snapshot cannot be written.
    #[error("snapshot: {0}")]
    Snapshot(#[from] journal::WriteError),
    /// A frame of the journal is not an entry of this release.
    #[error("journal frame {seq}: {cause}")]
    Entry { seq: u64, cause: journal::entry::EntryError },
    /// Entries that the index has seen are not in the journal any more.
    #[error(
        "the journal ends with entry {journal}, but the index has seen entry {index}: acknowledged entries are \
         missing; restore data/journal from a backup, or accept the loss with `conclave-coordinator recover --home DIR`"
    )]
    Lost { journal: u64, index: u64 },
    /// The store is being closed.
    #[error("the coordinator shuts down")]
    Closed,
}

/// The disk is too full to take anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the coordinator's disk has {available} bytes left and needs {needed} for this; try again when there is room"
)]
pub(crate) struct NoRoom {
    available: u64,
    needed: u64,
}

impl StoreError {
    fn io<'a>(what: &'static str, path: &'a std::path::Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |cause| Self::Io { what, path: path.display().to_string(), cause }
    }

    /// A version or a state could not be written.
    pub(crate) fn write(cause: std::io::Error) -> Self {
        Self::Io { what: "write", path: "a new version".to_owned(), cause }
    }

    /// Whether the disk is full: room may be made, and the same thing may work later.
    pub(crate) fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { cause, .. } if matches!(cause.kind(), StorageFull | QuotaExceeded))
    }
}

/// Everything that is kept. One process at a time.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) spill: Spill,
    index: Arc<Index>,
    overlay: Arc<Mutex<Overlay>>,
    log: log::Log,
    /// Runs as the journal has them, until somebody drives them.
    runs: Mutex<BTreeMap<Name, Replay>>,
    /// Counts the processes of this home.
    pub(crate) epoch: u64,
}

impl Store {
    /// Adds an entry to the journal and returns its number at once, without touching the disk. Whoever reads sees its
    /// changes from here on; whoever promises them to somebody waits for [`Store::durable`] first. The entry
    /// carries `blobs`, which [`Blobs::put_carried`] has stored.
    pub(crate) fn append(
        &self,
        what: Option<What>,
        changes: Changes,
        blobs: Vec<Vec<u8>>,
    ) -> Result<u64, StoreError> {
        let entry = Entry { unix_ms: service::clock::unix_ms(), changes: changes.into_list(), blobs, what };
        self.log.append(entry, |seq, entry| self.overlay().add(seq, &entry.changes))
    }

    /// Adds changes to the journal and waits until they are durable.
    pub(crate) async fn commit(&self, changes: Changes) -> Result<(), StoreError> {
        let seq = self.append(None, changes, Vec::new())?;
        self.durable(seq).await
    }

    /// Waits until entry `seq` is on the disk.
    pub(crate) async fn durable(&self, seq: u64) -> Result<(), StoreError> {
        let mut durable = self.log.durable();
        let reached = durable.wait_for(|durable| *durable >= seq).await;
        reached.map(|_| ()).map_err(|_| StoreError::Closed)
    }

    /// The number of the last entry that is on the disk, now and later.
    pub(crate) fn watch_durable(&self) -> watch::Receiver<u64> {
        self.log.durable()
    }

    /// Whether there is room for `bytes` more on the disk, beside what is kept free for the journal.
    pub(crate) fn admit(&self, bytes: u64, reserve: u64) -> Result<(), NoRoom> {
        // Where the system does not tell, the write will.
        let Ok(space) = service::disk::space(&self.dir) else { return Ok(()) };
        let needed = reserve.saturating_add(bytes.saturating_mul(2));
        match space.available >= needed {
            true => Ok(()),
            false => Err(NoRoom { available: space.available, needed }),
        }
    }

    /// Waits while too much waits for the disk.
    pub(crate) async fn room(&self) {
        self.log.room().await;
    }

    /// One record.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let waiting = self.overlay().get(key);
        let value = match waiting {
            Some(value) => value,
            None => self.index.get(key)?,
        };
        value.map(|value| index::parse(key, &value)).transpose()
    }

    /// All records whose key starts with `prefix`, in the order of their keys.
    pub(crate) fn scan<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>, StoreError> {
        let pairs = {
            // Held all the while: what moves from here to the index is seen in one of them.
            let overlay = self.overlay();
            let mut pairs = self.index.pairs(prefix).collect::<Result<BTreeMap<_, _>, _>>()?;
            overlay.over(prefix, &mut pairs);
            pairs
        };
        pairs.iter().map(|(key, value)| index::parse(key, value)).collect()
    }

    /// The run as the journal brought it back; the first who asks gets it.
    pub(crate) fn take_run(&self, run: &Name) -> Option<Replay> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run)
    }

    /// Looks at a run that nobody drives.
    pub(crate) fn look_at_run<T>(&self, run: &Name, look: impl FnOnce(&Replay) -> T) -> Option<T> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(run).map(look)
    }

    /// Gives a run back that nobody drives any more.
    pub(crate) fn rest_run(&self, run: Name, replay: Replay) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run, replay);
    }

    /// Every step of a run that the journal still has, oldest first, with its number: see [`history`].
    pub(crate) fn history(&self, run: &Name) -> Result<history::History, StoreError> {
        history::read(&self.dir, run, *self.log.durable().borrow())
    }

    /// Writes what waits, brings the index up to date, and ends. Call it on a thread that may block.
    pub(crate) fn close(&self) {
        self.log.close();
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
