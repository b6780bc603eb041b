//! What the home of a worker keeps for the next process: trained updates ([`spool`]), base versions
//! ([`cache`]), and what a training leaves to the next one of its run ([`carry`]).

pub(crate) mod cache;
pub(crate) mod carry;
mod fields;
mod header;
pub(crate) mod spool;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use service::files::FileError;

/// The end of the name of a file that is being written.
const TEMPORARY: &str = "tmp";

/// Writes or replaces a file with mode 0600: after a crash of the process it is the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace_with(path, |file| file.write_all(bytes))
}

/// As [`replace`], by what `fill` writes.
fn replace_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), FileError> {
    let tmp = path.with_extension(TEMPORARY);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        fill(&mut file)?;
        fs::rename(&tmp, path)
    };
    write().map_err(|error| {
        // A full disk gets its space back.
        let _ = fs::remove_file(&tmp);
        at("write", path)(error)
    })
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder).and_then(|dir| dir.sync_all())
}

/// The files of a folder whose names end in `extension`, oldest first. Leftovers of writers that were
/// killed are removed.
fn oldest_first(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, FileError> {
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir).map_err(at("read folder", dir))? {
        let path = entry.map_err(at("read folder", dir))?.path();
        let ending = path.extension().unwrap_or_default();
        if ending == TEMPORARY {
            let _ = fs::remove_file(&path);
        } else if ending == extension
            && let Ok(written) = fs::metadata(&path).and_then(|meta| meta.modified())
        {
            found.push((written, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { action, path: path.to_owned(), source }
}
