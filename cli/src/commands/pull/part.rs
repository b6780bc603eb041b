use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use params::{Digest, Hasher};
use proto::v1::Chunk;

use crate::error::CliError;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 1 << 20;

/// A file that is not complete yet: `NAME.part` beside its target.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    offset: u64,
    bytes: u64,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// It is the target now.
    Renamed,
    /// Its bytes are others; it was removed.
    Different,
}

impl Part {
    /// Opens the part of `target`, which will have `bytes`, with what an earlier attempt left in it.
    pub(super) fn open(target: &Path, bytes: u64) -> Result<Self, CliError> {
        let path = target.with_added_extension("part");
        let open = || {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            if file.metadata()?.len() > bytes {
                // Longer than the whole: it is something else.
                file.set_len(0)?;
            }
            let mut hasher = Hasher::new();
            let offset = hash(&mut file, &mut hasher)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok((file, hasher, offset))
        };
        let (file, hasher, offset) = open().map_err(CliError::file("open", &path))?;
        Ok(Self { path, file, hasher, offset, bytes })
    }

    /// How many bytes are there.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Adds the next chunk, after checking that it is that.
    pub(super) fn push(&mut self, chunk: &Chunk) -> Result<(), CliError> {
        let end = self.offset + chunk.data.len() as u64;
        if chunk.offset != self.offset || end > self.bytes || chunk.data.is_empty() {
            return Err(CliError::Answer(format!(
                "chunk of {} bytes at {}, expected at {} of {}",
                chunk.data.len(),
                chunk.offset,
                self.offset,
                self.bytes
            )));
        }
        if chunk.digest != Digest::of(&chunk.data).as_bytes() {
            return Err(CliError::Corrupt(format!("the chunk at {} arrived damaged", chunk.offset)));
        }
        self.file.write_all(&chunk.data).map_err(CliError::file("write", &self.path))?;
        self.hasher.update(&chunk.data);
        self.offset = end;
        Ok(())
    }

    /// Verifies the whole, puts it on the disk and renames it to `target`.
    pub(super) fn finish(self, digest: Digest, target: &Path) -> Result<Finished, CliError> {
        if self.offset < self.bytes {
            return Err(CliError::Corrupt(format!(
                "the connection ended after {} of {} bytes; what is there is kept",
                self.offset, self.bytes
            )));
        }
        if self.hasher.digest() != digest {
            fs::remove_file(&self.path).map_err(CliError::file("remove", &self.path))?;
            return Ok(Finished::Different);
        }
        self.file.sync_all().map_err(CliError::file("sync", &self.path))?;
        fs::rename(&self.path, target).map_err(CliError::file("rename", &self.path))?;
        Ok(Finished::Renamed)
    }
}

/// The digest of a file; `None` when there is no such file.
pub(super) fn digest_of(path: &Path) -> Result<Option<Digest>, CliError> {
    let mut hasher = Hasher::new();
    match File::open(path).and_then(|mut file| hash(&mut file, &mut hasher)) {
        Ok(_) => Ok(Some(hasher.digest())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::file("read", path)(error)),
    }
}

/// Adds the rest of a file to a hasher. Returns how many bytes that was.
fn hash(file: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            count => {
                hasher.update(&buffer[..count]);
                total += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(offset: u64, data: &'static [u8]) -> Chunk {
        Chunk { offset, data: data.into(), digest: Digest::of(data).as_bytes().to_vec() }
    }

    #[test]
    fn a_broken_fetch_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.safetensors");
        let digest = Digest::of(b"hello world");
        assert_eq!(digest_of(&target).unwrap(), None);

        let mut part = Part::open(&target, 11).unwrap();
        part.push(&chunk(0, b"hello ")).unwrap();
        let error = part.finish(digest, &target).unwrap_err();
        assert!(error.to_string().contains("after 6 of 11 bytes"), "{error}");

        let mut part = Part::open(&target, 11).unwrap();
        assert_eq!(part.offset(), 6);
        part.push(&chunk(6, b"world")).unwrap();
        assert_eq!(part.finish(digest, &target).unwrap(), Finished::Renamed);
        assert_eq!(fs::read(&target).unwrap(), b"hello world");
        assert_eq!(digest_of(&target).unwrap(), Some(digest));
        assert!(!folder.path().join("model.safetensors.part").exists());
    }

    #[test]
    fn the_part_of_another_version_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("m");
        let path = folder.path().join("m.part");
        fs::write(&path, b"HELLO ").unwrap();
        let mut part = Part::open(&target, 11).unwrap();
        part.push(&chunk(6, b"world")).unwrap();
        assert_eq!(part.finish(Digest::of(b"hello world"), &target).unwrap(), Finished::Different);
        assert!(!path.exists() && !target.exists());
        // One that is too long cannot be a beginning of it.
        fs::write(&path, b"something much longer").unwrap();
        assert_eq!(Part::open(&target, 11).unwrap().offset(), 0);
    }

    #[test]
    fn foreign_chunks_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut part = Part::open(&folder.path().join("m"), 5).unwrap();
        let damaged = Chunk { digest: vec![0; 32], ..chunk(0, b"hello") };
        for bad in [chunk(1, b"ello"), chunk(0, b"hello!"), chunk(0, b""), damaged] {
            assert!(part.push(&bad).is_err(), "{bad:?}");
        }
        part.push(&chunk(0, b"hello")).unwrap();
        assert_eq!(part.offset(), 5);
    }
}
