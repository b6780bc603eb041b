//! Reading frames beside a writer.

use std::{ops::RangeInclusive, path::Path};

use crate::{
    error::{Damage, Fault, OpenError},
    folder::Folder,
    walk::{Stop, Walk},
};

/// The first frame that is still there; `None` if there is no segment. Earlier ones were retired.
///
/// # Errors
/// If the folder cannot be listed.
pub fn first_seq(dir: &Path) -> Result<Option<u64>, Fault> {
    Ok(Folder::list(dir)?.segments.first().map(|segment| segment.seq))
}

/// Visits the frames of `seqs` that are there, in order, while a writer may be at work, and returns how many
/// they are. Frames that were retired are left out. Reading ends without an error at the first
/// bytes of the last segment that are not a frame: they may just be being written.
///
/// Only frames up to [`Journal::durable`](crate::Journal::durable) are sure to survive: give it as the end of `seqs` where that matters.
///
/// # Errors
/// If an earlier segment is damaged, a file cannot be read (one may be retired meanwhile), or `visit` fails.
pub fn read<E>(
    dir: &Path,
    seqs: RangeInclusive<u64>,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<u64, OpenError<E>> {
    let folder = Folder::list(dir)?;
    let from = folder.holding(*seqs.start()).unwrap_or(0);
    let segments = &folder.segments[from..];
    let walk = Walk { segments, known: &[], last: *seqs.end(), search: false };
    let mut count = 0;
    let end = walk.run(&mut |frame| {
        if !seqs.contains(&frame.seq) {
            return Ok(());
        }
        count += 1;
        visit(frame.seq, frame.payload)
    })?;
    match (end.stop, segments.get(end.at)) {
        (Stop::Damaged(reason), Some(segment)) => {
            let file = segment.path.clone();
            Err(Fault::Damaged(Damage { file, offset: end.offset, seq: end.next, reason }).into())
        }
        _ => Ok(count),
    }
}
