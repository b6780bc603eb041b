//! Opening: visit everything, and only then mend what a crash left behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{Damage, Fault, OpenError, Reason, WriteError},
    folder::{Numbered, appending, create_dir, remove, snapshot_path},
    options::Options,
    snapshot,
    walk::{Contents, End, Stop},
    write::{Journal, Segment},
};

/// What an opening visits: first the payloads of a snapshot, if there is one, then the frames behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A part of the state after frame `seq`.
    Snapshot {
        /// The last frame in it.
        seq: u64,
        /// What was given to the snapshot.
        payload: &'a [u8],
    },
    /// One frame.
    Frame {
        /// Its number.
        seq: u64,
        /// What was appended.
        payload: &'a [u8],
    },
}

/// What was found when a journal was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The snapshot from which the state was taken.
    pub snapshot: Option<u64>,
    /// Frames that were visited behind it.
    pub frames: u64,
    /// The end of the last write before a crash, which was cut off.
    pub torn: Option<Torn>,
    /// Newer snapshots that are damaged.
    pub skipped: Vec<Damage>,
}

/// Bytes that were cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The last segment.
    pub file: PathBuf,
    /// Its length now, in bytes; 0 if its header was written again.
    pub offset: u64,
    /// How many bytes were there.
    pub bytes: u64,
}

impl Journal {
    /// Opens the journal in `dir`, which is made if it is not there, and visits what it holds.
    ///
    /// # Errors
    /// On an error of any kind, one of `visit` included, nothing was changed, unless it names a file
    /// that could not be written.
    pub fn open<E>(
        dir: &Path,
        options: Options,
        visit: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(Self, Opened), OpenError<E>> {
        let contents = Contents::of(dir)?;
        let snapshot = contents.base.map(|base| base.seq);
        if let Some(seq) = snapshot {
            let file = Numbered { seq, path: snapshot_path(dir, seq) };
            snapshot::replay(&file, &mut |payload| visit(Item::Snapshot { seq, payload }))?;
        }
        let mut frames = 0;
        let end = contents.walk(&mut |frame| {
            frames += 1;
            visit(Item::Frame { seq: frame.seq, payload: frame.payload })
        })?;
        if let Some(damage) = contents.damage(dir, &end) {
            return Err(Fault::Damaged(damage).into());
        }
        let (last, least) = (end.next - 1, options.least);
        if last < least {
            return Err(Fault::Lost { last, least }.into());
        }
        // Everything is known to be good: from here on the folder is changed.
        let torn = torn(&contents, &end);
        let segment = mend(dir, &contents, &end)?;
        let skipped = contents.skipped;
        let journal = Self::new(dir, options, segment, end.next, end.tip);
        Ok((journal, Opened { snapshot, frames, torn, skipped }))
    }
}

fn torn(contents: &Contents, end: &End) -> Option<Torn> {
    let Stop::Torn { bytes, .. } = end.stop else { return None };
    let file = contents.folder.segments.get(end.at)?.path.clone();
    Some(Torn { file, offset: end.offset, bytes })
}

/// Removes what a crash left behind, and opens the last segment at its good end.
fn mend(dir: &Path, contents: &Contents, end: &End) -> Result<Segment, Fault> {
    create_dir(dir)?;
    for path in &contents.folder.unfinished {
        remove(dir, path)?;
    }
    let Some(last) = contents.folder.segments.get(end.at) else {
        return Segment::create(dir, end.next, end.tip).map_err(fault);
    };
    let path = last.path.as_path();
    if matches!(end.stop, Stop::Torn { reason: Reason::Header, .. }) {
        fs::remove_file(path).map_err(Fault::io("remove", path))?;
        return Segment::create(dir, end.next, end.tip).map_err(fault);
    }
    let file = appending().open(path).map_err(Fault::io("open", path))?;
    if matches!(end.stop, Stop::Torn { .. }) {
        file.set_len(end.offset).map_err(Fault::io("truncate", path))?;
    }
    // Frames that were written but not synced were visited: they have to stay.
    file.sync_all().map_err(Fault::io("sync", path))?;
    Ok(Segment { file, path: path.to_owned(), len: end.offset })
}

/// The error of a new segment, as one of opening.
pub(crate) fn fault(error: WriteError) -> Fault {
    let other = |path: PathBuf, text: String| Fault::Io {
        action: "create",
        path,
        source: std::io::Error::other(text),
    };
    match error {
        WriteError::Io { action, path, source } => Fault::Io { action, path, source },
        WriteError::Full { path, source } => Fault::Io { action: "write", path, source },
        WriteError::Sync { path, source } => Fault::Io { action: "sync", path, source },
        WriteError::Fenced { ref path, .. } => other(path.clone(), error.to_string()),
        WriteError::Append(error) => other(PathBuf::new(), error.to_string()),
    }
}
