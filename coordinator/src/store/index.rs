use std::{fs::File, panic::AssertUnwindSafe, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use super::{StoreError, blobs::sync_dir};

/// The largest value. sled moves values over 128 KiB into files that it never syncs, and keeps all
/// of them in memory: bytes of any size belong into blobs.
pub(super) const VALUE_BYTES_MAX: usize = 8 * 1024;

/// sled, as a look-up of small records: runs, rounds, versions, invitations, counters.
///
/// sled 0.34.7 does not fsync in `flush`; [`Index::commit`] does so itself.
#[derive(Debug)]
pub(crate) struct Index {
    db: sled::Db,
    dir: PathBuf,
}

/// Changes that become durable together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    batch: sled::Batch,
}

impl Changes {
    /// Sets a record.
    pub(crate) fn put<T: Serialize>(&mut self, key: &str, record: &T) -> Result<(), StoreError> {
        let value =
            serde_json::to_vec(record).map_err(|cause| StoreError::Record { key: key.to_owned(), cause })?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge { key: key.to_owned(), bytes: value.len() });
        }
        self.batch.insert(key.as_bytes(), value);
        Ok(())
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

    /// One record.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        self.db.get(key)?.map(|value| parse(key.as_bytes(), &value)).transpose()
    }

    /// All records whose key starts with `prefix`, in the order of their keys.
    pub(crate) fn scan<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>, StoreError> {
        self.db
            .scan_prefix(prefix)
            .map(|entry| {
                let (key, value) = entry?;
                parse(&key, &value)
            })
            .collect()
    }

    /// Makes `changes` durable: returns only after fsync.
    pub(crate) fn commit(&self, changes: Changes) -> Result<(), StoreError> {
        self.db.apply_batch(changes.batch)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        self.sync_file("db")?;
        sync_dir(&self.dir)
    }

    fn sync_file(&self, name: &str) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        File::open(&path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &path))
    }
}

fn parse<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value)
        .map_err(|cause| StoreError::Record { key: String::from_utf8_lossy(key).into_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> Index {
        Index::open(dir.path().join("index")).unwrap()
    }

    #[test]
    fn keeps_records_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let index = open(&dir);
        let mut changes = Changes::default();
        changes.put("run/b", &2u32).unwrap();
        changes.put("run/a", &1u32).unwrap();
        changes.put("version/a", &9u32).unwrap();
        index.commit(changes).unwrap();
        drop(index);
        let index = open(&dir);
        assert_eq!(index.scan::<u32>("run/").unwrap(), [1, 2]);
        assert_eq!(index.get::<u32>("version/a").unwrap(), Some(9));
        assert_eq!(index.get::<u32>("version/b").unwrap(), None);
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
    }
}
