//! Journals of a few frames, and what is in them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use journal::{Item, Journal, OpenError, Opened, Options};

pub(crate) const HEADER: usize = 52;
pub(crate) const HEAD: usize = 56;

/// Payloads of all that was visited, a snapshot's first, and what opening reported.
pub(crate) struct Seen {
    pub(crate) journal: Journal,
    pub(crate) opened: Opened,
    pub(crate) payloads: Vec<Vec<u8>>,
}

pub(crate) fn segments_of(segment_bytes: u64) -> Options {
    Options { segment_bytes, ..Options::default() }
}

pub(crate) fn open(dir: &Path) -> Result<Seen, OpenError<String>> {
    open_with(dir, Options::default())
}

/// Opens, and checks that numbers are in order.
pub(crate) fn open_with(dir: &Path, options: Options) -> Result<Seen, OpenError<String>> {
    let (mut payloads, mut last) = (Vec::new(), None);
    let (journal, opened) = Journal::open(dir, options, &mut |item| {
        match item {
            Item::Snapshot { seq, payload } => {
                assert!(last.is_none_or(|last| last == seq));
                last = Some(seq);
                payloads.push(payload.to_vec());
            }
            Item::Frame { seq, payload } => {
                assert_eq!(seq, last.unwrap_or(0) + 1);
                last = Some(seq);
                payloads.push(payload.to_vec());
            }
        }
        Ok(())
    })?;
    assert_eq!(journal.next_seq(), journal.durable() + 1);
    assert_eq!(last.unwrap_or(0), journal.durable());
    Ok(Seen { journal, opened, payloads })
}

/// Appends and syncs.
pub(crate) fn add(journal: &mut Journal, payloads: &[Vec<u8>]) {
    for payload in payloads {
        journal.append(payload).unwrap();
    }
    assert_eq!(journal.sync().unwrap() + 1, journal.next_seq());
    assert_eq!(journal.buffered(), 0);
}

/// A journal that holds `payloads`, each synced alone.
pub(crate) fn make(dir: &Path, options: Options, payloads: &[Vec<u8>]) {
    let mut journal = open_with(dir, options).unwrap().journal;
    payloads.iter().for_each(|payload| add(&mut journal, std::slice::from_ref(payload)));
}

/// `count` payloads of ten bytes, all different.
pub(crate) fn tens(count: usize) -> Vec<Vec<u8>> {
    (1..=count).map(|n| format!("frame {n:04}").into_bytes()).collect()
}

/// A segment size that takes exactly `frames` of the payloads of [`tens`].
pub(crate) fn tens_per_segment(frames: usize) -> Options {
    segments_of((HEADER + frames * (HEAD + 10)) as u64)
}

/// All files of a folder and the folders in it.
pub(crate) fn image(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(image(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// Writes such an image.
pub(crate) fn restore(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
}

pub(crate) fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

pub(crate) fn snapshot(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:020}.snap"))
}

pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The damage that an opening stopped at.
#[track_caller]
pub(crate) fn damage(result: Result<Seen, OpenError<String>>) -> journal::Damage {
    match result {
        Err(OpenError::Fault(journal::Fault::Damaged(damage))) => damage,
        Err(other) => panic!("{other}"),
        Ok(seen) => panic!("opened with {} frames", seen.payloads.len()),
    }
}
