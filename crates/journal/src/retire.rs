//! What the two newest snapshots make superfluous.

use std::path::{Path, PathBuf};

use crate::{
    error::Fault,
    folder::{Folder, remove},
    snapshot,
};

/// Files that were deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Snapshots older than the two newest good ones.
    pub snapshots: Vec<PathBuf>,
    /// Segments that lie wholly at or below the older of those.
    pub segments: Vec<PathBuf>,
}

/// Deletes what is not needed to open from either of the two newest snapshots.
pub(crate) fn retire(dir: &Path, crash: fn(&'static str)) -> Result<Retired, Fault> {
    let folder = Folder::list(dir)?;
    // Only what verifies counts: a damaged snapshot must not cost the segments that replace it.
    let (mut good, mut older) = (0, None);
    for file in folder.snapshots.iter().rev() {
        good += usize::from(snapshot::verify(file)?.base.is_ok());
        if good == 2 {
            older = Some(file.seq);
            break;
        }
    }
    let mut retired = Retired::default();
    let Some(older) = older else { return Ok(retired) };
    for file in folder.snapshots.iter().filter(|file| file.seq < older) {
        remove(dir, &file.path)?;
        retired.snapshots.push(file.path.clone());
    }
    // From the oldest on, each durably: what is left never has a gap. The last segment has no successor.
    for pair in folder.segments.windows(2).take_while(|pair| pair[1].seq <= older.saturating_add(1)) {
        remove(dir, &pair[0].path)?;
        crash("segment-retired");
        retired.segments.push(pair[0].path.clone());
    }
    Ok(retired)
}
