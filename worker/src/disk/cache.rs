//! Base versions, so that a restarted worker does not download them again: `cache/DIGEST.safetensors`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use params::Digest;
use service::files::{self, FileError};

use super::{oldest_first, replace};

const FOLDER: &str = "cache";
const EXTENSION: &str = "safetensors";

/// How many there are: the base version, and the candidate that becomes the next one.
const FILES_MAX: usize = 2;

/// The folder. A power cut may take its files: they are only copies.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens the folder in `home`.
    pub(crate) fn open(home: &Path) -> Result<Self, FileError> {
        let cache = Self { dir: home.join(FOLDER) };
        files::create_private_dir(&cache.dir)?;
        Ok(cache)
    }

    /// The bytes with this digest, if they are here and whole.
    pub(crate) fn get(&self, digest: Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let bytes = fs::read(&path).ok()?;
        if Digest::of(&bytes) != digest {
            tracing::warn!("{} does not match its digest and is dropped", path.display());
            let _ = fs::remove_file(&path);
            return None;
        }
        Some(bytes)
    }

    /// Adds bytes that were verified against `digest`, and drops what is too many.
    pub(crate) fn put(&self, digest: Digest, bytes: &[u8]) -> Result<(), FileError> {
        replace(&self.path(digest), bytes)?;
        let files = oldest_first(&self.dir, EXTENSION)?;
        let old = files.len().saturating_sub(FILES_MAX);
        files.iter().filter(|path| **path != self.path(digest)).take(old).for_each(|path| {
            // It counts as too many again the next time.
            let _ = fs::remove_file(path);
        });
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{digest}.{EXTENSION}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_two_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::open(home.path()).unwrap();
        let versions = [&b"one"[..], b"two", b"three", b"four"];
        for version in versions {
            cache.put(Digest::of(version), version).unwrap();
            assert_eq!(cache.get(Digest::of(version)).as_deref(), Some(version));
        }
        let found =
            versions.map(|version| Cache::open(home.path()).unwrap().get(Digest::of(version)).is_some());
        assert_eq!(found.iter().filter(|found| **found).count(), 2);
        assert!(found[3], "the newest");
    }

    #[test]
    fn damage_is_noticed_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::open(home.path()).unwrap();
        let digest = Digest::of(b"one");
        cache.put(digest, b"one").unwrap();
        fs::write(cache.path(digest), b"0ne").unwrap();
        assert_eq!(cache.get(digest), None);
        assert!(!cache.path(digest).exists());
    }
}
