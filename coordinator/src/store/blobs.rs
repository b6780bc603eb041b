use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use params::Digest;

use super::StoreError;

/// Content-addressed files: `blobs/ab/<64 hex digits>`, named by their BLAKE3 digest.
///
/// A blob is written to `blobs/tmp`, synced, renamed, and both folders are synced: a crash leaves
/// either the whole blob or a temporary file, which the next start removes. Every read verifies.
#[derive(Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
    next_tmp: AtomicU64,
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
        Ok(Self { root, next_tmp: AtomicU64::new(0) })
    }

    /// Stores `bytes` durably and returns their name. Storing them again costs one look-up.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.path(&digest);
        let folder = path.parent().unwrap_or(&self.root);
        if path.exists() && self.get(&digest).is_ok() {
            // Whoever wrote it may not have come to this yet.
            sync_dir(folder)?;
            return Ok(digest);
        }
        let tmp = self.root.join("tmp").join(self.next_tmp.fetch_add(1, Ordering::Relaxed).to_string());
        let written = write_synced(&tmp, bytes).and_then(|()| {
            fs::rename(&tmp, &path).map_err(StoreError::io("rename", &tmp))?;
            sync_dir(folder)?;
            sync_dir(&self.root.join("tmp"))
        });
        if written.is_err() {
            // The next start removes it too; a full disk wants the space back now.
            let _ = fs::remove_file(&tmp);
        }
        written.map(|()| digest)
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

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join(&hex[..2]).join(hex)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(StoreError::io("create", path))?;
    file.write_all(bytes).map_err(StoreError::io("write", path))?;
    file.sync_data().map_err(StoreError::io("sync", path))
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_once() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs")).unwrap();
        let digest = blobs.put(b"weights").unwrap();
        assert_eq!(digest, blobs.put(b"weights").unwrap());
        assert_eq!(blobs.get(&digest).unwrap(), b"weights");
        assert_eq!(fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count(), 0);
        assert!(matches!(blobs.get(&Digest::of(b"other")), Err(StoreError::Missing(_))));
    }

    #[test]
    fn a_flipped_bit_is_found_and_healed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs")).unwrap();
        let digest = blobs.put(b"weights").unwrap();
        fs::write(blobs.path(&digest), b"weightz").unwrap();
        assert!(matches!(blobs.get(&digest), Err(StoreError::Damaged { .. })));
        blobs.put(b"weights").unwrap();
        assert_eq!(blobs.get(&digest).unwrap(), b"weights");
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
}
