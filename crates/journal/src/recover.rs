//! Getting a damaged journal to open again, with everything that still fits kept.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use params::Digest;

use crate::{
    error::{Damage, Fault, Reason},
    folder::{Numbered, appending, create_dir, segment_path, sync_dir, unfinished_path},
    format::{HEADER, Header, SEGMENT_MAGIC},
    frame::{self, Frames, Step},
    open::fault,
    verify::never,
    walk::{Contents, End, read_from},
    write::Segment,
};

/// What a recovery kept and gave up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last frame of the journal now; 0 if there is none.
    pub last: u64,
    /// What was wrong, in the order in which it was found.
    pub found: Vec<Damage>,
    /// Where the original files are now.
    pub moved: Vec<PathBuf>,
    /// Frames behind `last` that can still be read in those files, but follow from nothing.
    pub frames: u64,
    /// The lowest and highest of their numbers.
    pub seqs: Option<(u64, u64)>,
    /// Bytes of the segments that were given up.
    pub bytes: u64,
}

/// Frames of a damaged segment that go on from what is known.
struct Kept {
    /// Number of the first, and the hash before it.
    first: u64,
    prev: Digest,
    bytes: Vec<u8>,
}

/// Keeps what follows from the newest good snapshot or from the first frame, and moves the originals of damaged
/// files, and of those that no longer follow from anything, into `damaged-<stamp>/`. A journal that opens is left as it is.
/// It can be interrupted, and run again.
///
/// # Errors
/// If a file has another format, or cannot be read, written or moved.
pub fn recover(dir: &Path, stamp: u64) -> Result<Recovered, Fault> {
    let aside = dir.join(format!("damaged-{stamp}"));
    let mut recovered = Recovered::default();
    let mut bytes = 0u64;
    loop {
        let contents = Contents::of(dir)?;
        for damage in &contents.skipped {
            recovered.found.push(damage.clone());
            recovered.moved.push(move_aside(dir, &aside, &damage.file)?);
        }
        let end = never(contents.walk(&mut |_| Ok(())))?;
        let Some(damage) = contents.damage(dir, &end) else {
            recovered.last = end.next - 1;
            break;
        };
        // Each turn moves a segment, or makes the one that was missing: this ends.
        bytes += mend(dir, &aside, &contents, &end, &damage, &mut recovered)?;
        recovered.found.push(damage);
    }
    recovered.bytes = bytes;
    count(&mut recovered)?;
    Ok(recovered)
}

/// Mends one damage; returns the bytes that were given up.
fn mend(
    dir: &Path,
    aside: &Path,
    contents: &Contents,
    end: &End,
    damage: &Damage,
    recovered: &mut Recovered,
) -> Result<u64, Fault> {
    let segments = &contents.folder.segments;
    let Some(segment) = segments.get(end.at) else {
        if contents.base.is_some() {
            Segment::create(dir, end.next, end.tip).map_err(fault)?;
        }
        return Ok(0);
    };
    if matches!(damage.reason, Reason::Missing { .. }) {
        return move_all(dir, aside, &segments[end.at..], recovered);
    }
    let base = contents.base.filter(|base| base.seq >= end.next);
    let all = read_from(&segment.path, 0)?;
    let kept = match base {
        // The state goes further than the damage: only what is behind the snapshot matters.
        Some(base) => Some(follow(&all, end.offset, base.seq + 1, base.hash)),
        None if end.offset == 0 => {
            let kept = follow(&all, 0, end.next, end.tip);
            (!kept.bytes.is_empty()).then_some(kept)
        }
        None => prefix(&all, end, segment),
    };
    let given_up = all.len().saturating_sub(kept.as_ref().map_or(0, |kept| HEADER + kept.bytes.len()));
    let copied = copy_aside(dir, aside, &segment.path)?;
    match kept {
        Some(kept) => replace(dir, &segment.path, &kept)?,
        None => remove(dir, &segment.path)?,
    }
    recovered.moved.push(copied);
    // Segments before the snapshot no longer reach it.
    let before = if base.is_some() { &segments[..end.at] } else { &[] };
    Ok(given_up as u64 + move_all(dir, aside, before, recovered)?)
}

/// The frames in front of the damage.
fn prefix(all: &[u8], end: &End, segment: &Numbered) -> Option<Kept> {
    let good = all.get(..usize::try_from(end.offset).ok()?)?;
    let bytes = good.get(HEADER..)?.to_vec();
    let mut prev = [0; 32];
    prev.copy_from_slice(good.get(20..HEADER)?);
    Some(Kept { first: segment.seq, prev: Digest::from(prev), bytes })
}

/// The frames from `first` on that follow from `prev`, wherever in the segment they begin.
fn follow(all: &[u8], offset: u64, first: u64, prev: Digest) -> Kept {
    let from = usize::try_from(offset).unwrap_or(all.len()).min(all.len());
    let mut kept = Kept { first, prev, bytes: Vec::new() };
    let Some((at, found)) = frame::find(&all[from..], first) else { return kept };
    if (found.seq, found.prev) != (first, prev) {
        return kept;
    }
    let rest = &all[from + at..];
    let mut frames = Frames::new(rest, 0, rest.len() as u64);
    let (mut next, mut tip, mut good) = (first, prev, 0);
    while let Ok(Step::Frame(frame)) = frames.next() {
        if (frame.seq, frame.prev) != (next, tip) || frame.payload.is_empty() {
            break;
        }
        (next, tip) = (next.saturating_add(1), frame.hash);
        good = frames.offset();
    }
    kept.bytes = rest[..usize::try_from(good).unwrap_or(0)].to_vec();
    kept
}

/// Puts a segment with the kept frames in the place of the damaged one, whose original was copied.
fn replace(dir: &Path, damaged: &Path, kept: &Kept) -> Result<(), Fault> {
    let path = segment_path(dir, kept.first);
    let unfinished = unfinished_path(&path);
    let _ = fs::remove_file(&unfinished);
    let mut file =
        appending().create_new(true).open(&unfinished).map_err(Fault::io("create", &unfinished))?;
    file.write_all(&Header::new(kept.first, kept.prev).encode(SEGMENT_MAGIC))
        .and_then(|()| file.write_all(&kept.bytes))
        .and_then(|()| file.sync_all())
        .map_err(Fault::io("write", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(Fault::io("rename", &unfinished))?;
    sync_dir(dir).map_err(Fault::io("sync folder", dir))?;
    if path != damaged { remove(dir, damaged) } else { Ok(()) }
}

fn remove(dir: &Path, path: &Path) -> Result<(), Fault> {
    crate::folder::remove(dir, path)
}

/// Moves segments, the last one first: until the first is gone, the journal is damaged, and can be recovered again.
fn move_all(
    dir: &Path,
    aside: &Path,
    segments: &[Numbered],
    recovered: &mut Recovered,
) -> Result<u64, Fault> {
    let mut bytes = 0;
    for segment in segments.iter().rev() {
        bytes += fs::metadata(&segment.path).map_err(Fault::io("read", &segment.path))?.len();
        recovered.moved.push(move_aside(dir, aside, &segment.path)?);
    }
    Ok(bytes)
}

fn move_aside(dir: &Path, aside: &Path, path: &Path) -> Result<PathBuf, Fault> {
    let to = copy_aside(dir, aside, path)?;
    remove(dir, path)?;
    Ok(to)
}

/// Keeps a file in the folder `aside` as well, durably.
fn copy_aside(dir: &Path, aside: &Path, path: &Path) -> Result<PathBuf, Fault> {
    create_dir(aside)?;
    sync_dir(dir).map_err(Fault::io("sync folder", dir))?;
    let to = free_name(aside, path);
    // A second name costs no space on a disk that may be full.
    fs::hard_link(path, &to)
        .or_else(|_| {
            fs::copy(path, &to)?;
            fs::File::open(&to)?.sync_all()
        })
        .map_err(Fault::io("keep", &to))?;
    sync_dir(aside).map_err(Fault::io("sync folder", aside))?;
    Ok(to)
}

/// A name in `aside` that is not taken; an earlier run with the same stamp may have used some.
fn free_name(aside: &Path, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = (2u64..).map(|n| aside.join(format!("{name}.{n}")));
    let mut all = std::iter::once(aside.join(&name)).chain(numbered);
    all.find(|to| !to.exists()).unwrap_or_else(|| aside.join(name))
}

/// Counts the frames that were given up but can be read.
fn count(recovered: &mut Recovered) -> Result<(), Fault> {
    let mut seqs = BTreeSet::new();
    // Frames of snapshots have numbers of their own.
    let is_segment = |path: &&PathBuf| path.to_string_lossy().contains(".seg");
    for path in recovered.moved.iter().filter(is_segment) {
        let all = read_from(path, 0)?;
        let mut rest = &all[..];
        while let Some((at, frame)) = frame::find(rest, recovered.last.saturating_add(1)) {
            seqs.insert(frame.seq);
            rest = &rest[at + frame::HEAD + frame.payload.len()..];
        }
    }
    recovered.frames = seqs.len() as u64;
    recovered.seqs = seqs.first().copied().zip(seqs.last().copied());
    Ok(())
}
