//! A blob that is written piece by piece, by whoever cannot hold it in memory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
};

use params::Hasher;

use super::StoreError;

/// A temporary file with the digest of what was written so far. It is removed when it is dropped; see
/// [`super::Blobs::keep`].
#[derive(Debug)]
pub(crate) struct Draft {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) hasher: Hasher,
    pub(super) bytes: u64,
    /// It has its name: nothing is to be removed.
    pub(super) kept: bool,
}

impl Draft {
    pub(super) fn create(path: PathBuf) -> Result<Self, StoreError> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        Ok(Self { path, file, hasher: Hasher::new(), bytes: 0, kept: false })
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // The next start removes it too; a full disk wants the space back now.
            let _ = fs::remove_file(&self.path);
        }
    }
}
