//! Updates that a reduction needs all at once: one file each, outside the memory of the process.
//!
//! They are read by position and not mapped: a disk that cannot read is then an error of one run and not a signal
//! that ends the process, and what is in memory is the block that is worked on (ADR 6).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use super::StoreError;

/// The folder. Its files have no names: what is not used any more is gone, also after a crash.
#[derive(Debug)]
pub(crate) struct Spill {
    root: PathBuf,
    next: AtomicU64,
}

/// One update, little-endian `f32`.
#[derive(Debug)]
pub(crate) struct Spilled {
    file: File,
    path: PathBuf,
    elements: usize,
}

impl Spill {
    /// Opens or makes the folder.
    pub(crate) fn open(root: PathBuf) -> Result<Self, StoreError> {
        match fs::remove_dir_all(&root) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(StoreError::io("remove", &root)(e)),
            _ => fs::create_dir_all(&root).map_err(StoreError::io("create", &root))?,
        }
        Ok(Self { root, next: AtomicU64::new(0) })
    }

    /// A file for `elements` numbers, which are appended in order.
    pub(crate) fn create(&self, elements: usize) -> Result<Spilled, StoreError> {
        let path = self.root.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        Ok(Spilled { file, path, elements })
    }
}

impl Spilled {
    /// Adds the next numbers.
    pub(crate) fn append(&mut self, values: &[f32]) -> Result<(), StoreError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(StoreError::io("write", &self.path))
    }

    /// Reads numbers from index `start` on.
    pub(crate) fn read(&self, start: usize, out: &mut [f32]) -> io::Result<()> {
        debug_assert!(start + out.len() <= self.elements);
        let mut piece = [0u8; 16 * 1024];
        for (block, out) in out.chunks_mut(piece.len() / 4).enumerate() {
            let at = 4 * start + block * piece.len();
            let bytes = &mut piece[..4 * out.len()];
            self.file.read_exact_at(bytes, at as u64)?;
            update::Encoding::F32.decode(bytes, out.len(), 0, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_anywhere_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("spill");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("left by a crash"), b"x").unwrap();
        let spill = Spill::open(root.clone()).unwrap();
        let values: Vec<f32> = (0..10_000).map(|i| i as f32).collect();
        let mut file = spill.create(values.len()).unwrap();
        values.chunks(777).for_each(|piece| file.append(piece).unwrap());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        for (start, len) in [(0, 10_000), (4095, 4098), (9_999, 1), (5, 0)] {
            let mut out = vec![0.0; len];
            file.read(start, &mut out).unwrap();
            assert_eq!(out, values[start..start + len]);
        }
    }
}
