//! The files of a journal, by name.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::error::{Fault, WriteError};

const SEGMENT: &str = "seg";
const SNAPSHOT: &str = "snap";
const UNFINISHED: &str = "tmp";

/// A segment or snapshot, and the number in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) seq: u64,
    pub(crate) path: PathBuf,
}

/// What a folder holds, each by ascending number.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) segments: Vec<Numbered>,
    pub(crate) snapshots: Vec<Numbered>,
    /// Left over from a crash; nothing refers to them.
    pub(crate) unfinished: Vec<PathBuf>,
}

impl Folder {
    /// Lists `dir`; one that is not there is empty.
    pub(crate) fn list(dir: &Path) -> Result<Self, Fault> {
        let mut folder = Self::default();
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(folder),
            entries => entries.map_err(Fault::io("list", dir))?,
        };
        for entry in entries {
            let path = entry.map_err(Fault::io("list", dir))?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            match (extension, number(&path)) {
                (Some(SEGMENT), Some(seq)) => folder.segments.push(Numbered { seq, path }),
                (Some(SNAPSHOT), Some(seq)) => folder.snapshots.push(Numbered { seq, path }),
                (Some(UNFINISHED), _) => folder.unfinished.push(path),
                _ => {}
            }
        }
        folder.segments.sort_by_key(|segment| segment.seq);
        folder.snapshots.sort_by_key(|snapshot| snapshot.seq);
        Ok(folder)
    }

    /// The segment that holds frame `seq`, or will: the last one that does not begin behind it.
    pub(crate) fn holding(&self, seq: u64) -> Option<usize> {
        self.segments.partition_point(|segment| segment.seq <= seq).checked_sub(1)
    }
}

/// Where a segment that begins with frame `first` lies.
pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.{SEGMENT}"))
}

/// Where the snapshot after frame `seq` lies.
pub(crate) fn snapshot_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:020}.{SNAPSHOT}"))
}

/// Where a file is written before it gets its name.
pub(crate) fn unfinished_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    path.with_file_name(name)
}

/// How files of a journal are made: for their owner only, and written at their end.
pub(crate) fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    options
}

/// Makes a folder durably; one that is there is left as it is.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Fault> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Fault::io("create folder", dir))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_dir(parent).map_err(Fault::io("sync folder", parent))
}

/// Makes new, renamed and removed names durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file durably.
pub(crate) fn remove(dir: &Path, path: &Path) -> Result<(), Fault> {
    fs::remove_file(path).map_err(Fault::io("remove", path))?;
    sync_dir(dir).map_err(Fault::io("sync folder", dir))
}

/// Gives a finished file its name, durably; `renamed` is called in between.
pub(crate) fn publish(dir: &Path, from: &Path, to: &Path, renamed: impl FnOnce()) -> Result<(), WriteError> {
    fs::rename(from, to).map_err(WriteError::write("rename", from))?;
    renamed();
    sync_dir(dir).map_err(WriteError::sync(dir))
}

/// Names have exactly 20 digits, so that they sort like their numbers.
fn number(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let digits = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
    stem.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_twenty_digits_count() {
        let dir = tempfile::tempdir().unwrap();
        let names =
            ["00000000000000000007.seg", "7.seg", "+0000000000000000007.seg", "00000000000000000003.seg"];
        names.iter().for_each(|name| fs::write(dir.path().join(name), b"").unwrap());
        fs::write(dir.path().join("99999999999999999999.snap"), b"").unwrap();
        fs::write(dir.path().join("00000000000000000003.snap.tmp"), b"").unwrap();
        let folder = Folder::list(dir.path()).unwrap();
        assert_eq!(folder.segments.iter().map(|s| s.seq).collect::<Vec<_>>(), [3, 7]);
        assert!(folder.snapshots.is_empty());
        assert_eq!(folder.unfinished, [unfinished_path(&snapshot_path(dir.path(), 3))]);
        assert_eq!(
            [2, 3, 6, 7, 9].map(|seq| folder.holding(seq)),
            [None, Some(0), Some(0), Some(1), Some(1)]
        );
    }
}
