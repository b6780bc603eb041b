//! All that ever happened to a run, for people: the journal as far as it goes back, and before that
//! what was kept of it when its segments were dropped.
//!
//! `history/<run>/<first>-<last>.events`: length and bytes of each entry, then the BLAKE3 digest of all that.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use journal::{
    OpenError,
    entry::{Entry, What},
};
use params::{Digest, Name};

use super::{StoreError, blobs::sync_dir, open::JOURNAL};

const HISTORY: &str = "history";
const DIGEST_BYTES: usize = 32;

/// How often a journal is read that changes under the reader.
const READS_MAX: u32 = 3;

/// Entries of one run, oldest first, each with its number.
pub(crate) type History = Vec<(u64, Entry)>;

/// Everything that is left of a run's history up to entry `last`.
pub(super) fn read(dir: &Path, run: &Name, last: u64) -> Result<History, StoreError> {
    let mut found = BTreeMap::new();
    // The journal first: what is dropped from it meanwhile was kept before.
    for attempt in 1.. {
        let visited = visit(dir, last, |seq, name, entry| {
            if name == run {
                found.insert(seq, entry);
            }
        });
        match visited {
            Ok(()) => break,
            // A segment may be dropped under the reader; then the next look finds it gone.
            Err(error) if attempt >= READS_MAX => return Err(error),
            Err(_) => {}
        }
    }
    for path in kept(&dir.join(HISTORY).join(run.as_str()))? {
        let bytes = fs::read(&path).map_err(StoreError::io("read", &path))?;
        // What was kept and is still in the journal is the same entry.
        found.extend(decode(&path, &bytes)?);
    }
    Ok(found.into_iter().collect())
}

/// Keeps the history up to entry `last`, whose segments may be dropped afterwards.
pub(super) fn keep(dir: &Path, last: u64) -> Result<(), StoreError> {
    let mut runs: BTreeMap<Name, History> = BTreeMap::new();
    visit(dir, last, |seq, run, entry| runs.entry(run.clone()).or_default().push((seq, entry)))?;
    for (run, mut entries) in runs {
        let folder = dir.join(HISTORY).join(run.as_str());
        let known = kept(&folder)?.iter().filter_map(|path| range(path)).map(|(_, last)| last).max();
        entries.retain(|(seq, _)| known.is_none_or(|known| *seq > known));
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else { continue };
        fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        let path = folder.join(format!("{first:020}-{last:020}.events"));
        service::files::replace_shared(&path, &encode(&entries)).map_err(|error| StoreError::Io {
            what: "write",
            path: path.display().to_string(),
            cause: std::io::Error::other(error),
        })?;
        sync_dir(&dir.join(HISTORY))?;
    }
    sync_dir(dir)
}

/// Calls `take` for every entry of the journal that is about a run.
fn visit(dir: &Path, last: u64, mut take: impl FnMut(u64, &Name, Entry)) -> Result<(), StoreError> {
    let visited = journal::read(&dir.join(JOURNAL), 1..=last, |seq, payload| -> Result<(), StoreError> {
        let entry = Entry::decode(payload).map_err(|cause| StoreError::Entry { seq, cause })?;
        let run = match &entry.what {
            Some(What::Opened { run, .. }) => run.clone(),
            Some(What::Step(step)) => step.run.clone(),
            _ => return Ok(()),
        };
        // What the index and the blobs need is theirs.
        take(seq, &run, Entry { unix_ms: entry.unix_ms, what: entry.what, ..Entry::default() });
        Ok(())
    });
    visited.map(|_| ()).map_err(|error| match error {
        OpenError::Fault(fault) => fault.into(),
        OpenError::Visit(error) => error,
    })
}

/// The files of a run, oldest first.
fn kept(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StoreError::io("read", folder))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(StoreError::io("read", folder))?.path();
        if range(&path).is_some() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The numbers in the name of a file.
fn range(path: &Path) -> Option<(u64, u64)> {
    let (first, last) = path.file_name()?.to_str()?.strip_suffix(".events")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn encode(entries: &[(u64, Entry)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (seq, entry) in entries {
        let bytes = entry.encode();
        out.extend(seq.to_le_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend(bytes);
    }
    let digest = Digest::of(&out);
    out.extend(digest.as_bytes());
    out
}

fn decode(path: &Path, bytes: &[u8]) -> Result<History, StoreError> {
    let damaged = || StoreError::Io {
        what: "read",
        path: path.display().to_string(),
        cause: std::io::Error::new(ErrorKind::InvalidData, "the history is damaged"),
    };
    let (mut rest, digest) =
        bytes.split_at_checked(bytes.len().wrapping_sub(DIGEST_BYTES)).ok_or_else(damaged)?;
    if Digest::of(rest).as_bytes() != digest {
        return Err(damaged());
    }
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (seq, more) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (len, more) = more.split_first_chunk::<8>().ok_or_else(damaged)?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| damaged())?;
        let (entry, more) = more.split_at_checked(len).ok_or_else(damaged)?;
        let seq = u64::from_le_bytes(*seq);
        entries.push((seq, Entry::decode(entry).map_err(|cause| StoreError::Entry { seq, cause })?));
        rest = more;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use journal::entry::{Aside, Step};
    use proptest::prelude::*;
    use round::Event;

    use super::*;

    fn entries(count: u64) -> History {
        let step = |now| Step { run: "r".parse().unwrap(), now, event: Event::Tick, aside: Aside::None };
        (1..=count).map(|n| (n * 3, Entry { what: Some(What::Step(step(n))), ..Entry::default() })).collect()
    }

    #[test]
    fn reads_what_it_writes() {
        let path = Path::new("x");
        for count in [0, 1, 5] {
            assert_eq!(decode(path, &encode(&entries(count))).unwrap(), entries(count));
        }
        assert_eq!(range(Path::new("a/00000000000000000003-00000000000000000015.events")), Some((3, 15)));
        assert_eq!(range(Path::new("a/3.tmp")), None);
    }

    proptest! {
        #[test]
        fn damage_is_an_error(at in 0usize..200, byte in any::<u8>(), cut in 0usize..200) {
            let whole = encode(&entries(3));
            let mut changed = whole.clone();
            let at = at % whole.len();
            changed[at] = byte;
            prop_assert_eq!(decode(Path::new("x"), &changed).is_ok(), changed == whole);
            prop_assert!(decode(Path::new("x"), &whole[..cut % whole.len()]).is_err());
        }
    }
}
