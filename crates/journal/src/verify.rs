//! Looking at a journal without changing it.

use std::{convert::Infallible, path::Path};

use crate::{
    error::{Damage, Fault, OpenError, Reason},
    folder::segment_path,
    snapshot,
    walk::{Contents, End, Stop, Walk},
};

/// What a journal holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments that are there.
    pub segments: u64,
    /// Snapshots that are whole.
    pub snapshots: u64,
    /// Frames of the segments, up to the first fault.
    pub frames: u64,
    /// Bytes of good segments and snapshots.
    pub bytes: u64,
    /// First and last frame of the segments, up to the first fault.
    pub seqs: Option<(u64, u64)>,
    /// The first fault of the segments.
    pub finding: Option<Finding>,
    /// Snapshots that are not whole.
    pub damaged_snapshots: Vec<Damage>,
}

/// A fault, and whether a crash explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub kind: Kind,
    /// Where and what.
    pub damage: Damage,
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The end of the last write before a crash: opening cuts it off.
    TornTail,
    /// Needs [`recover`](crate::recover).
    Damage,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.finding.is_none() && self.damaged_snapshots.is_empty()
    }
}

/// Reads every segment and snapshot of `dir`.
///
/// # Errors
/// If a file has another format or cannot be read. Damage is part of the report.
pub fn verify(dir: &Path) -> Result<Report, Fault> {
    let contents = Contents::of(dir)?;
    let mut report = Report { segments: contents.folder.segments.len() as u64, ..Report::default() };
    let mut known = Vec::new();
    for file in &contents.folder.snapshots {
        let verified = snapshot::verify(file)?;
        match verified.base {
            Ok(base) => {
                known.push(base);
                report.snapshots += 1;
                report.bytes += verified.bytes;
            }
            Err(damage) => report.damaged_snapshots.push(damage),
        }
    }
    let walk = Walk { segments: &contents.folder.segments, known: &known, last: u64::MAX, search: true };
    let (mut frames, mut seqs) = (0, None);
    let end = never(walk.run(&mut |frame| {
        frames += 1;
        seqs = Some((seqs.map_or(frame.seq, |(first, _)| first), frame.seq));
        Ok(())
    }))?;
    (report.frames, report.seqs) = (frames, seqs);
    for segment in contents.folder.segments.iter().take(end.at) {
        report.bytes += std::fs::metadata(&segment.path).map_err(Fault::io("read", &segment.path))?.len();
    }
    report.bytes += end.offset;
    report.finding = finding(dir, &contents, &end);
    if report.finding.is_none() {
        // The chain is whole; it may still not be one that a snapshot begins or ends.
        let end = never(contents.walk(&mut |_| Ok(())))?;
        let damage = contents.damage(dir, &end);
        report.finding = damage.map(|damage| Finding { kind: Kind::Damage, damage });
    }
    Ok(report)
}

/// The result of a walk whose visitor cannot fail.
pub(crate) fn never(end: Result<End, OpenError<Infallible>>) -> Result<End, Fault> {
    match end {
        Ok(end) => Ok(end),
        Err(OpenError::Fault(fault)) => Err(fault),
        Err(OpenError::Visit(never)) => match never {},
    }
}

fn finding(dir: &Path, contents: &Contents, end: &End) -> Option<Finding> {
    let (kind, reason): (Kind, &Reason) = match &end.stop {
        Stop::Clean => return None,
        Stop::Torn { reason, .. } => (Kind::TornTail, reason),
        Stop::Damaged(reason) => (Kind::Damage, reason),
    };
    let segment = contents.folder.segments.get(end.at);
    let file = segment.map_or_else(|| segment_path(dir, end.next), |segment| segment.path.clone());
    Some(Finding { kind, damage: Damage { file, offset: end.offset, seq: end.next, reason: reason.clone() } })
}
