//! What a broken disk makes of a journal.

use std::{fs, path::Path};

use journal::{Item, Journal, OpenError, Options, recover, verify};

/// The bytes become the only segment: what opens opens again as the same frames, what is refused is not touched
/// and can be recovered.
pub(crate) fn journal(bytes: &[u8]) {
    // Thousands of fsyncs: in memory where there is such a folder.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(parent).unwrap();
    let segment = dir.path().join(format!("{:020}.seg", 1));
    fs::write(&segment, bytes).unwrap();
    let error = match open(dir.path()) {
        Ok(frames) => return assert_eq!(settled(dir.path()), frames),
        Err(error) => error,
    };
    assert!(!error.to_string().is_empty());
    assert_eq!(fs::read(&segment).unwrap(), bytes);
    match recover(dir.path(), 1) {
        Ok(recovered) => {
            assert_eq!(settled(dir.path()).len() as u64, recovered.last);
            assert!(recovered.moved.iter().any(|path| fs::read(path).unwrap() == bytes));
        }
        Err(_) => assert_eq!(fs::read(&segment).unwrap(), bytes, "another format stays as it is"),
    }
}

/// Frames of a journal that opens, is clean, and takes one more.
fn settled(dir: &Path) -> Vec<Vec<u8>> {
    let frames = open(dir).unwrap();
    assert!(verify(dir).unwrap().is_clean());
    let (mut journal, opened) =
        Journal::open(dir, Options::default(), &mut |_| Ok::<(), String>(())).unwrap();
    assert_eq!((opened.frames, opened.torn), (frames.len() as u64, None));
    assert_eq!(journal.append(b"more").unwrap(), opened.frames + 1);
    journal.sync().unwrap();
    let mut more = open(dir).unwrap();
    assert_eq!(more.pop().as_deref(), Some(&b"more"[..]));
    assert_eq!(more, frames);
    frames
}

fn open(dir: &Path) -> Result<Vec<Vec<u8>>, OpenError<String>> {
    let mut frames = Vec::new();
    Journal::open(dir, Options::default(), &mut |item| {
        let Item::Frame { seq, payload } = item else { return Err("there is no snapshot".to_owned()) };
        assert_eq!(seq, frames.len() as u64 + 1);
        frames.push(payload.to_vec());
        Ok(())
    })?;
    Ok(frames)
}
