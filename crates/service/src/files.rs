//! Files and folders of a home: secrets are for their owner only, and a replaced file is whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Mode of files that hold secrets.
const SECRET: u32 = 0o600;

/// Mode of files that may be read by others.
const SHARED: u32 = 0o644;

/// Why a file of a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refuses.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody other than the owner may read or change it.
    #[error(
        "{} has mode {mode:03o}: others can use it; run: chmod {wanted:o} {}",
        path.display(),
        path.display()
    )]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The bits that it should have.
        wanted: u32,
    },
}

impl FileError {
    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the file exists already.
    pub fn is_already_there(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

/// Makes a folder (and those above it) with mode 0700; one that exists is left as it is.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at("create folder", path))
}

/// Writes a secret that must not exist yet, with mode 0600, durably.
pub fn create_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_new(path, bytes, SECRET)?;
    sync_parent(path)
}

/// Writes or replaces a secret with mode 0600: after a crash the file is the old or the new one.
pub fn replace_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, SECRET)
}

/// Writes or replaces a file that is not secret (mode 0644): after a crash it is the old or the new one.
pub fn replace_shared(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, SHARED)
}

/// Refuses a file or folder that others than its owner may use, with the command that mends it.
pub fn check_private(path: &Path) -> Result<(), FileError> {
    let meta = fs::metadata(path).map_err(at("read", path))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let wanted = if meta.is_dir() { 0o700 } else { SECRET };
        return Err(FileError::TooOpen { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

/// Reads a secret after [`check_private`].
pub fn read_secret(path: &Path) -> Result<Vec<u8>, FileError> {
    check_private(path)?;
    read(path)
}

/// Reads a file; the error names it.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(at("read", path))
}

/// Removes a file durably; one that is not there is fine.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(at("remove", path)(e)),
        Ok(()) => sync_parent(path),
    }
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let tmp = path.with_file_name(name);
    // Left over from a crash; two writers of one home are excluded by its owner.
    remove(&tmp)?;
    write_new(&tmp, bytes, mode)?;
    fs::rename(&tmp, path).map_err(at("replace", path))?;
    sync_parent(path)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(at("write", path))
}

/// A rename or a new name is durable only when its folder is.
fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(at("sync folder", parent))
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("a/b");
        create_private_dir(&home).unwrap();
        create_private_dir(&home).unwrap();
        assert_eq!(mode(&home), 0o700);
        let key = home.join("key.pem");
        create_secret(&key, b"one").unwrap();
        assert_eq!(mode(&key), 0o600);
        assert!(create_secret(&key, b"two").unwrap_err().is_already_there());
        assert_eq!(read_secret(&key).unwrap(), b"one");
    }

    #[test]
    fn replacing_is_whole_and_survives_a_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("client.toml");
        fs::write(dir.path().join("client.toml.tmp"), b"half").unwrap();
        replace_shared(&file, b"one").unwrap();
        replace_secret(&file, b"two").unwrap();
        assert_eq!((fs::read(&file).unwrap(), mode(&file)), (b"two".to_vec(), 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn wide_modes_are_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        replace_shared(&file, b"x").unwrap();
        let error = read_secret(&file).unwrap_err().to_string();
        let path = file.display();
        assert_eq!(error, format!("{path} has mode 644: others can use it; run: chmod 600 {path}"));
        assert!(read_secret(&dir.path().join("none")).unwrap_err().is_not_found());
        assert!(remove(&dir.path().join("none")).is_ok());
    }
}
