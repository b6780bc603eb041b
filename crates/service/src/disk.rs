//! How much room a file system has.

use std::{fs::File, io, path::Path};

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// That this process may still use.
    pub available: u64,
    /// In all.
    pub total: u64,
}

/// The room on the file system that holds `path`.
///
/// # Errors
/// The operating system does not tell.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space { available: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

/// Makes everything durable that was written to the file system that holds `path`.
///
/// # Errors
/// Something could not be written, or `path` not be opened.
pub fn sync(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path()).unwrap();
        assert!(space.total > 0 && space.available <= space.total, "{space:?}");
        assert!(super::space(&dir.path().join("none")).is_err());
        sync(dir.path()).unwrap();
        assert!(sync(&dir.path().join("none")).is_err());
    }
}
