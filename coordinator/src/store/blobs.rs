use std::{
    collections::BTreeSet,
    fs::{self, File, FileTimes, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use params::Digest;
use service::fault::crash_point;

use super::{CARRIED_MAX, StoreError, draft::Draft};

/// Content-addressed files: `blobs/ab/<64 hex digits>`, named by their BLAKE3 digest.
///
/// A blob is written to `blobs/tmp`, synced, renamed, and both folders are synced: a crash leaves
/// either the whole blob or a temporary file, which the next start removes. Every read verifies.
#[derive(Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
    next_tmp: AtomicU64,
    /// Blobs that were stored since the last [`Blobs::turn`], and between that and the one before.
    fresh: Mutex<[BTreeSet<Digest>; 2]>,
    /// Held for reading while a blob is stored, for writing while one is looked at as garbage: nobody is
    /// told that a blob is there which is removed in the same moment.
    storing: RwLock<()>,
}

/// What a collection of garbage did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Blobs that are kept.
    pub(crate) kept: u64,
    /// Blobs that were removed.
    pub(crate) removed: u64,
    /// Bytes of those.
    pub(crate) bytes: u64,
}

impl Blobs {
    /// Opens or makes the folder and removes what an interrupted write left.
    pub(crate) fn open(root: PathBuf) -> Result<Self, StoreError> {
        let tmp = root.join("tmp");
        match fs::remove_dir_all(&tmp) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(StoreError::io("remove", &tmp)(e)),
            _ => fs::create_dir_all(&tmp).map_err(StoreError::io("create", &tmp))?,
        }
        // All at once, so that no write depends on another one having synced its folder's name.
        for first in 0..=u8::MAX {
            let folder = root.join(format!("{first:02x}"));
            fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        }
        sync_dir(&root)?;
        Ok(Self::at(root))
    }

    /// The blobs in a folder that is only looked at.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root, next_tmp: AtomicU64::new(0), fresh: Mutex::default(), storing: RwLock::new(()) }
    }

    /// Stores `bytes` durably and returns their name. Storing them again costs one look-up.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let _storing = self.storing(digest);
        let path = self.path(&digest);
        let folder = path.parent().unwrap_or(&self.root);
        if self.is_there(&digest, &path) {
            let file = File::open(&path).map_err(StoreError::io("open", &path))?;
            // Whoever wrote it may not have come to this yet.
            sync_data(&path, &file)?;
            sync_dir(folder)?;
            return Ok(digest);
        }
        self.write(&path, bytes, true)?;
        sync_dir(folder)?;
        sync_dir(&self.root.join("tmp"))?;
        crash_point("blob-folder-synced");
        Ok(digest)
    }

    /// Stores bytes that an entry of the journal carries: the file becomes durable with the next snapshot, and
    /// until then the journal can bring it back.
    pub(crate) fn put_carried(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let _storing = self.storing(digest);
        let path = self.path(&digest);
        if !self.is_there(&digest, &path) {
            self.write(&path, bytes, false)?;
        }
        Ok(digest)
    }

    /// Stores bytes that an entry of the journal will name: small ones are added to what the entry carries, larger ones
    /// are durable before it. To do it twice does no harm.
    pub(crate) fn put_for_entry(&self, bytes: &[u8], carry: &mut Vec<Vec<u8>>) -> Result<Digest, StoreError> {
        if bytes.len() > CARRIED_MAX {
            return self.put(bytes);
        }
        let digest = self.put_carried(bytes)?;
        carry.push(bytes.to_vec());
        Ok(digest)
    }

    /// Begins a blob that is written piece by piece; [`Blobs::keep`] ends it.
    pub(crate) fn draft(&self) -> Result<Draft, StoreError> {
        Draft::create(self.tmp())
    }

    /// Stores what was written durably, like [`Blobs::put`]; returns its name and length.
    pub(crate) fn keep(&self, mut draft: Draft) -> Result<(Digest, u64), StoreError> {
        let digest = draft.hasher.digest();
        let _storing = self.storing(digest);
        let path = self.path(&digest);
        let folder = path.parent().unwrap_or(&self.root);
        crash_point("blob-unsynced");
        sync_data(&draft.path, &draft.file)?;
        crash_point("blob-synced");
        fs::rename(&draft.path, &path).map_err(StoreError::io("rename", &draft.path))?;
        draft.kept = true;
        crash_point("blob-renamed");
        sync_dir(folder)?;
        sync_dir(&self.root.join("tmp"))?;
        crash_point("blob-folder-synced");
        Ok((digest, draft.bytes))
    }

    /// Makes every file durable that the journal carried so far, also those of a process before: the entries that
    /// hold them may be dropped afterwards. One call for the whole file system costs less than an fsync for each.
    pub(crate) fn sync_carried(&self) -> Result<(), StoreError> {
        service::disk::sync(&self.root).or_else(|cause| unsynced(&self.root, cause))
    }

    /// Reads and verifies a blob.
    pub(crate) fn get(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let bytes = fs::read(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => StoreError::Missing(*digest),
            _ => StoreError::io("read", &path)(e),
        })?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::Damaged { expected: *digest, found });
        }
        Ok(bytes)
    }

    /// Verifies a blob and gives its bytes without holding them: large ones are read through the page cache, which
    /// all who look at them share.
    pub(crate) fn map(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        let path = self.path(digest);
        let failed = |cause: std::io::Error| match cause.kind() {
            ErrorKind::NotFound => StoreError::Missing(*digest),
            _ => StoreError::io("read", &path)(cause),
        };
        let file = File::open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() <= CARRIED_MAX as u64 {
            return self.get(digest).map(Bytes::from);
        }
        let bytes = Bytes::from_owner(service::memory::map(&file).map_err(failed)?);
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::Damaged { expected: *digest, found });
        }
        Ok(bytes)
    }

    /// The bytes of a blob that this process has just stored.
    pub(crate) fn map_kept(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        let path = self.path(digest);
        let mapped = File::open(&path).and_then(|file| service::memory::map(&file));
        Ok(Bytes::from_owner(mapped.map_err(StoreError::io("read", &path))?))
    }

    /// All blobs that are there.
    pub(crate) fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        for first in 0..=u8::MAX {
            let folder = self.root.join(format!("{first:02x}"));
            let entries = match fs::read_dir(&folder) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(StoreError::io("read", &folder))?,
            };
            for entry in entries {
                let name = entry.map_err(StoreError::io("read", &folder))?.file_name();
                // What is not named like a blob is not ours.
                found.extend(name.to_str().and_then(|name| name.parse::<Digest>().ok()));
            }
        }
        Ok(found)
    }

    /// Call it before the names of live blobs are gathered for [`Blobs::collect`]. What was stored since the call
    /// before is not collected, whatever its age: the entry that names it may be on its way into the journal.
    pub(crate) fn turn(&self) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.swap(0, 1);
        fresh[0].clear();
    }

    /// Removes the blobs that are neither in `live` nor younger than `age`, nor fresh: see [`Blobs::turn`].
    pub(crate) fn collect(&self, live: &BTreeSet<Digest>, age: Duration) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        for digest in self.list()? {
            let path = self.path(&digest);
            let _looking = self.storing.write().unwrap_or_else(PoisonError::into_inner);
            let old = || -> std::io::Result<Option<u64>> {
                let meta = fs::metadata(&path)?;
                // A clock that went back makes files look young: they are kept.
                let old = meta.modified()?.elapsed().is_ok_and(|elapsed| elapsed >= age);
                Ok(old.then_some(meta.len()))
            };
            match old() {
                Ok(Some(bytes)) if !live.contains(&digest) && !self.is_fresh(&digest) => {
                    fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                    crash_point("garbage-removed");
                    collected.removed += 1;
                    collected.bytes += bytes;
                }
                _ => collected.kept += 1,
            }
        }
        Ok(collected)
    }

    /// Keeps a blob from being collected: now until the guard is dropped, and for a while as fresh.
    fn storing(&self, digest: Digest) -> RwLockReadGuard<'_, ()> {
        let guard = self.storing.read().unwrap_or_else(PoisonError::into_inner);
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)[0].insert(digest);
        guard
    }

    fn is_fresh(&self, digest: &Digest) -> bool {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.iter().any(|stored| stored.contains(digest))
    }

    /// Where a blob is, or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join(&hex[..2]).join(hex)
    }

    /// Whether the blob is there and whole; then it counts as new, so that nobody takes it for garbage.
    fn is_there(&self, digest: &Digest, path: &Path) -> bool {
        let whole = path.exists() && self.get(digest).is_ok();
        #[allow(clippy::disallowed_methods)] // Files have the time of the system, whatever that is.
        let touch = || {
            let now = FileTimes::new().set_modified(SystemTime::now());
            File::options().append(true).open(path).and_then(|file| file.set_times(now))
        };
        whole && touch().is_ok()
    }

    /// A name that no other file has.
    fn tmp(&self) -> PathBuf {
        self.root.join("tmp").join(self.next_tmp.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn write(&self, path: &Path, bytes: &[u8], durable: bool) -> Result<(), StoreError> {
        let tmp = self.tmp();
        let written = write_new(&tmp, bytes, durable).and_then(|()| {
            fs::rename(&tmp, path).map_err(StoreError::io("rename", &tmp))?;
            crash_point("blob-renamed");
            Ok(())
        });
        if written.is_err() {
            // The next start removes it too; a full disk wants the space back now.
            let _ = fs::remove_file(&tmp);
        }
        written
    }
}

fn write_new(path: &Path, bytes: &[u8], durable: bool) -> Result<(), StoreError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(StoreError::io("create", path))?;
    let half = bytes.len() / 2;
    file.write_all(&bytes[..half]).map_err(StoreError::io("write", path))?;
    crash_point("blob-half-written");
    file.write_all(&bytes[half..]).map_err(StoreError::io("write", path))?;
    if durable {
        crash_point("blob-unsynced");
        sync_data(path, &file)?;
        crash_point("blob-synced");
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let dir = File::open(path).map_err(StoreError::io("open", path))?;
    dir.sync_all().or_else(|cause| unsynced(path, cause))
}

fn sync_data(path: &Path, file: &File) -> Result<(), StoreError> {
    file.sync_data().or_else(|cause| unsynced(path, cause))
}

/// A full disk may have room later; any other failure of an fsync ends the process, because the next one may lie.
fn unsynced(path: &Path, cause: std::io::Error) -> Result<(), StoreError> {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => {
            Err(StoreError::io("sync", path)(cause))
        }
        _ => super::log::stop(&StoreError::io("sync", path)(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> Blobs {
        Blobs::open(dir.path().join("blobs")).unwrap()
    }

    #[test]
    fn reads_what_it_writes_once() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(&dir);
        let digest = blobs.put(b"weights").unwrap();
        assert_eq!(digest, blobs.put(b"weights").unwrap());
        assert_eq!(digest, blobs.put_carried(b"weights").unwrap());
        assert_eq!(blobs.get(&digest).unwrap(), b"weights");
        assert_eq!(fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count(), 0);
        assert!(matches!(blobs.get(&Digest::of(b"other")), Err(StoreError::Missing(_))));
        let carried = blobs.put_carried(b"small").unwrap();
        blobs.sync_carried().unwrap();
        assert_eq!(blobs.get(&carried).unwrap(), b"small");
        assert_eq!(blobs.list().unwrap().len(), 2);
    }

    #[test]
    fn what_is_written_in_pieces_is_the_same_blob() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(&dir);
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        for length in [100, bytes.len()] {
            let bytes = &bytes[..length];
            let mut draft = blobs.draft().unwrap();
            bytes.chunks(77).for_each(|piece| draft.write_all(piece).unwrap());
            assert_eq!(blobs.keep(draft).unwrap(), (Digest::of(bytes), length as u64));
            assert_eq!(blobs.map(&Digest::of(bytes)).unwrap(), bytes);
        }
        let mut given_up = blobs.draft().unwrap();
        given_up.write_all(b"half").unwrap();
        drop(given_up);
        assert_eq!(fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count(), 0);
        let path = blobs.path(&Digest::of(&bytes));
        let mut rotten = bytes.clone();
        rotten[200_000] ^= 1;
        fs::write(path, &rotten).unwrap();
        assert!(matches!(blobs.map(&Digest::of(&bytes)), Err(StoreError::Damaged { .. })));
        assert!(matches!(blobs.map(&Digest::of(b"other")), Err(StoreError::Missing(_))));
    }

    #[test]
    fn every_flipped_bit_is_found_and_healed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(&dir);
        let bytes: Vec<u8> = (0..125u8).collect();
        let digest = blobs.put(&bytes).unwrap();
        for bit in 0..1000 {
            let mut rotten = bytes.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            fs::write(blobs.path(&digest), &rotten).unwrap();
            assert!(matches!(blobs.get(&digest), Err(StoreError::Damaged { .. })), "bit {bit}");
        }
        fs::write(blobs.path(&digest), &bytes[..9]).unwrap();
        assert!(matches!(blobs.get(&digest), Err(StoreError::Damaged { .. })));
        blobs.put(&bytes).unwrap();
        assert_eq!(blobs.get(&digest).unwrap(), bytes);
    }

    #[test]
    fn leftovers_of_a_crash_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("blobs");
        fs::create_dir_all(root.join("tmp")).unwrap();
        fs::write(root.join("tmp/0"), b"half").unwrap();
        let blobs = Blobs::open(root.clone()).unwrap();
        assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
        blobs.put(b"whole").unwrap();
    }

    #[test]
    fn garbage_is_what_nothing_names_and_nobody_just_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(&dir);
        let age = |digest: &Digest, seconds: u64| {
            #[allow(clippy::disallowed_methods)]
            let then = SystemTime::now() - Duration::from_secs(seconds);
            let file = File::options().append(true).open(blobs.path(digest)).unwrap();
            file.set_times(FileTimes::new().set_modified(then)).unwrap();
        };
        let [live, young, again, old] =
            [&b"live"[..], b"young", b"again", b"old"].map(|bytes| blobs.put(bytes).unwrap());
        [live, again, old].iter().for_each(|digest| age(digest, 7200));
        // It was garbage, and somebody needs it anew.
        blobs.put(b"again").unwrap();
        for _ in 0..2 {
            // Just stored: somebody may be about to name it, however old the clock says it is.
            let collected = blobs.collect(&BTreeSet::from([live]), Duration::ZERO).unwrap();
            assert_eq!(collected, Collected { kept: 4, removed: 0, bytes: 0 });
            blobs.turn();
        }
        let collected = blobs.collect(&BTreeSet::from([live]), Duration::from_secs(3600)).unwrap();
        assert_eq!(collected, Collected { kept: 3, removed: 1, bytes: 3 });
        assert!([live, young, again].iter().all(|digest| blobs.get(digest).is_ok()));
        assert!(matches!(blobs.get(&old), Err(StoreError::Missing(_))));
    }
}
