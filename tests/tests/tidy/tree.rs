//! The files of the repository, as git sees them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// One text file.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("the crate of tests is a folder of the root").to_path_buf()
}

/// What a command prints, run in the root.
pub(crate) fn output(program: &str, args: &[&str]) -> Vec<u8> {
    let out = Command::new(program).args(args).current_dir(root()).output();
    let out = out.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// All text files that are, or would be, committed. Fuzz inputs are foreign bytes, not text.
pub(crate) fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let list = output("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let list = String::from_utf8(list).expect("paths are text");
        let text = |path: &str| {
            // Files that were deleted but not yet committed so are listed too.
            let text = String::from_utf8(fs::read(root().join(path)).ok()?).ok()?;
            (!text.contains('\0')).then(|| File { path: path.to_owned(), text })
        };
        let mut files: Vec<File> = list
            .split('\0')
            .filter(|path| !path.is_empty() && !path.starts_with("tests/fuzz/corpus/"))
            .filter_map(text)
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        files
    })
}

/// The 1-based line of a byte of a text.
pub(crate) fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn finds_this_file_and_the_manifest() {
    let found = |path: &str| files().iter().any(|file| file.path == path);
    assert!(found("Cargo.toml") && found("tests/tests/tidy/tree.rs"));
    assert!(files().iter().all(|file| !file.path.starts_with("target/")));
}
