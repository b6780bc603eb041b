use std::{
    fs::File,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use journal::entry::Change;
use serde::{Serialize, de::DeserializeOwned};
use service::fault::crash_point;

use super::{StoreError, blobs::sync_dir};

/// The largest value. sled moves values over 128 KiB into files that it never syncs, and keeps all
/// of them in memory: bytes of any size belong into blobs.
pub(super) const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Where the number of the last entry is that the index has taken in.
const SEQ: &[u8] = b"\0seq";

/// sled, as a look-up of small records: runs, rounds, versions, aliases, invitations, counters.
///
/// It follows the journal and is rebuilt from it when it is missing, behind or damaged.
/// sled 0.34.7 does not fsync in `flush`; [`Index::sync`] does so itself.
#[derive(Debug)]
pub(crate) struct Index {
    db: sled::Db,
    dir: PathBuf,
}

/// Changes that become durable together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    list: Vec<Change>,
}

impl Changes {
    /// Sets a record.
    pub(crate) fn put<T: Serialize>(&mut self, key: &str, record: &T) -> Result<(), StoreError> {
        let value =
            serde_json::to_vec(record).map_err(|cause| StoreError::Record { key: key.to_owned(), cause })?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge { key: key.to_owned(), bytes: value.len() });
        }
        self.list.push(Change { key: key.to_owned(), value: Some(value) });
        Ok(())
    }

    /// Whether there is nothing to change.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// As an entry of the journal has them.
    pub(crate) fn into_list(self) -> Vec<Change> {
        self.list
    }
}

impl Index {
    /// Opens or makes the store in `dir`.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(&dir)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(64 << 20)
            .flush_every_ms(Some(500));
        // Opening a damaged store can panic inside sled; that must read as an error, not as a crash.
        let db = std::panic::catch_unwind(AssertUnwindSafe(|| config.open()))
            .unwrap_or_else(|_| Err(sled::Error::Corruption { at: None, bt: () }))?;
        let index = Self { db, dir };
        index.sync()?;
        for name in ["conf", "db"] {
            index.sync_file(name)?;
        }
        if let Some(parent) = index.dir.parent() {
            sync_dir(parent)?;
        }
        Ok(index)
    }

    /// The last entry of the journal that is in here; 0 for a new index.
    pub(crate) fn seq(&self) -> Result<u64, StoreError> {
        let stored = self.db.get(SEQ)?;
        let bytes = stored.as_deref().and_then(|bytes| bytes.first_chunk::<8>());
        Ok(bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// The bytes of one record.
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    /// All pairs whose key starts with `prefix`, in the order of their keys.
    pub(super) fn pairs(&self, prefix: &str) -> impl Iterator<Item = Result<(String, Vec<u8>), StoreError>> {
        let ours = |entry: &sled::Result<(sled::IVec, sled::IVec)>| {
            entry.as_ref().map_or(true, |(key, _)| key.as_ref() != SEQ)
        };
        self.db.scan_prefix(prefix).filter(ours).map(|entry| {
            let (key, value) = entry?;
            Ok((String::from_utf8_lossy(&key).into_owned(), value.to_vec()))
        })
    }

    /// Takes in the changes of entry `seq`, without waiting for the disk.
    pub(super) fn apply(&self, seq: u64, changes: &[Change]) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match &change.value {
                Some(value) => batch.insert(change.key.as_bytes(), value.as_slice()),
                None => batch.remove(change.key.as_bytes()),
            }
        }
        batch.insert(SEQ, &seq.to_le_bytes());
        self.db.apply_batch(batch)?;
        crash_point("index-inserted");
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        Ok(self.db.clear()?)
    }

    /// Makes what was applied durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        crash_point("index-flushed");
        self.sync_file("db")?;
        sync_dir(&self.dir)
    }

    fn sync_file(&self, name: &str) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        File::open(&path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &path))
    }
}

/// Moves what is at `dir` aside, so that a new index can take its place.
pub(super) fn set_aside(dir: &Path, stamp: u64) -> Result<PathBuf, StoreError> {
    let aside = dir.with_file_name(format!("index.bad-{stamp}"));
    std::fs::rename(dir, &aside).map_err(StoreError::io("rename", dir))?;
    if let Some(parent) = dir.parent() {
        sync_dir(parent)?;
    }
    Ok(aside)
}

/// Reads a record.
pub(super) fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|cause| StoreError::Record { key: key.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> Index {
        Index::open(dir.path().join("index")).unwrap()
    }

    #[test]
    fn keeps_records_and_its_place_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let index = open(&dir);
        assert_eq!(index.seq().unwrap(), 0);
        let mut changes = Changes::default();
        changes.put("run/b", &2u32).unwrap();
        changes.put("run/a", &1u32).unwrap();
        changes.put("version/a", &9u32).unwrap();
        index.apply(7, &changes.into_list()).unwrap();
        index.sync().unwrap();
        drop(index);
        let index = open(&dir);
        let pairs: Vec<_> = index.pairs("run/").map(Result::unwrap).collect();
        assert_eq!(pairs, [("run/a".into(), b"1".to_vec()), ("run/b".into(), b"2".to_vec())]);
        assert_eq!(index.get("version/a").unwrap(), Some(b"9".to_vec()));
        assert_eq!((index.get("version/b").unwrap(), index.seq().unwrap()), (None, 7));
        assert_eq!(index.pairs("").count(), 3);
        index.apply(8, &[Change { key: "run/a".into(), value: None }]).unwrap();
        assert_eq!(index.pairs("run/").count(), 1);
        index.clear().unwrap();
        assert_eq!((index.pairs("").count(), index.seq().unwrap()), (0, 0));
    }

    #[test]
    fn refuses_large_values() {
        let mut changes = Changes::default();
        changes.put("fits", &"x".repeat(VALUE_BYTES_MAX - 2)).unwrap();
        let error = changes.put("big", &"x".repeat(VALUE_BYTES_MAX - 1)).unwrap_err();
        assert_eq!(error.to_string(), "index record 'big' has 8193 bytes, at most 8192 are allowed");
    }

    #[test]
    fn a_store_that_cannot_be_opened_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("index"), b"a file where a folder should be").unwrap();
        assert!(Index::open(dir.path().join("index")).is_err());
        set_aside(&dir.path().join("index"), 5).unwrap();
        assert!(dir.path().join("index.bad-5").exists());
        open(&dir);
    }
}
