//! The chain through the segments: where it ends, and why.

use std::{
    fs::{self, File},
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use params::Digest;

use crate::{
    error::{Damage, Fault, OpenError, Reason},
    folder::{Folder, Numbered, segment_path},
    format::{GENESIS, HEADER, Header, SEGMENT_MAGIC, read_header},
    frame::{self, Frame, Frames, Step},
    snapshot::{self, Base},
};

/// The segments to go through.
pub(crate) struct Walk<'a> {
    pub(crate) segments: &'a [Numbered],
    /// Hashes that are known from snapshots.
    pub(crate) known: &'a [Base],
    /// The last frame that is wanted.
    pub(crate) last: u64,
    /// Whether the end of the last segment is searched for frames that tell a torn write from damage.
    pub(crate) search: bool,
}

/// Where a walk ended.
#[derive(Debug)]
pub(crate) struct End {
    /// The segment, by position.
    pub(crate) at: usize,
    /// Bytes of it that are good.
    pub(crate) offset: u64,
    /// The number of the next frame.
    pub(crate) next: u64,
    /// The hash before the next frame.
    pub(crate) tip: Digest,
    pub(crate) stop: Stop,
}

/// Why a walk ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// With the last byte, or the last frame that was wanted.
    Clean,
    /// In bytes that a crash can leave behind.
    Torn { bytes: u64, reason: Reason },
    /// In something else.
    Damaged(Reason),
}

/// What a journal consists of, before its segments are read.
pub(crate) struct Contents {
    pub(crate) folder: Folder,
    /// The newest good snapshot.
    pub(crate) base: Option<Base>,
    /// Newer ones that are damaged.
    pub(crate) skipped: Vec<Damage>,
}

impl Contents {
    /// Lists `dir` and verifies its snapshots, newest first, up to a good one.
    pub(crate) fn of(dir: &Path) -> Result<Self, Fault> {
        let folder = Folder::list(dir)?;
        let (mut base, mut skipped) = (None, Vec::new());
        for file in folder.snapshots.iter().rev() {
            match snapshot::verify(file)?.base {
                Ok(good) => {
                    base = Some(good);
                    break;
                }
                Err(damage) => skipped.push(damage),
            }
        }
        Ok(Self { folder, base, skipped })
    }

    /// Walks from the base to the end of the last segment, and visits the frames behind the base.
    pub(crate) fn walk<E>(
        &self,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<End, OpenError<E>> {
        let (seq, tip) = self.base.as_ref().map_or((0, Digest::from(GENESIS)), |base| (base.seq, base.hash));
        let segments = &self.folder.segments;
        let Some(at) = self.folder.holding(seq + 1) else {
            let stop = match segments.first() {
                None if self.base.is_none() && self.skipped.is_empty() => Stop::Clean,
                first => Stop::Damaged(Reason::Missing { found: first.map_or(0, |first| first.seq) }),
            };
            return Ok(End { at: 0, offset: 0, next: seq + 1, tip, stop });
        };
        let walk =
            Walk { segments: &segments[at..], known: self.base.as_slice(), last: u64::MAX, search: true };
        let mut end = walk.run(&mut |frame| if frame.seq > seq { visit(frame) } else { Ok(()) })?;
        if end.next <= seq && !matches!(end.stop, Stop::Damaged(_)) {
            end.stop = Stop::Damaged(Reason::Behind { snapshot: seq });
        }
        end.at += at;
        Ok(end)
    }

    /// The damage that a walk ended in.
    pub(crate) fn damage(&self, dir: &Path, end: &End) -> Option<Damage> {
        let Stop::Damaged(reason) = &end.stop else { return None };
        let file =
            self.folder.segments.get(end.at).map_or_else(|| segment_path(dir, end.next), |s| s.path.clone());
        Some(Damage { file, offset: end.offset, seq: end.next, reason: reason.clone() })
    }
}

impl Walk<'_> {
    /// Visits the frames of all segments, the first of which is taken as it is.
    pub(crate) fn run<E>(
        &self,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<End, OpenError<E>> {
        let next = self.segments.first().map_or(1, |first| first.seq);
        let before = self.known.iter().find(|base| base.seq.checked_add(1) == Some(next));
        let tip = before.map_or(Digest::from(GENESIS), |base| base.hash);
        let mut end = End { at: 0, offset: 0, next, tip, stop: Stop::Clean };
        for at in 0..self.segments.len() {
            end = self.segment(at, end, visit)?;
            if end.stop != Stop::Clean || end.next > self.last {
                break;
            }
        }
        Ok(end)
    }

    fn segment<E>(
        &self,
        at: usize,
        before: End,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<End, OpenError<E>> {
        let path = self.segments[at].path.as_path();
        let file = File::open(path).map_err(Fault::io("open", path))?;
        let len = file.metadata().map_err(Fault::io("read", path))?.len();
        let mut end = End { at, offset: 0, ..before };
        let mut bytes = Vec::with_capacity(HEADER);
        (&file).take(HEADER as u64).read_to_end(&mut bytes).map_err(Fault::io("read", path))?;
        let Some(header) = read_header(path, &bytes, SEGMENT_MAGIC)? else {
            // The header is durable before a frame follows: without one, the file was just being made.
            let torn =
                at + 1 == self.segments.len() && len <= HEADER as u64 && self.segments[at].seq == end.next;
            end.stop = if torn {
                Stop::Torn { bytes: len, reason: Reason::Header }
            } else {
                Stop::Damaged(Reason::Header)
            };
            return Ok(end);
        };
        if let Err(reason) = self.enter(at, &header, &mut end) {
            end.stop = Stop::Damaged(reason);
            return Ok(end);
        }
        let mut frames = Frames::new(BufReader::with_capacity(1 << 16, file), HEADER as u64, len);
        let reason = loop {
            end.offset = frames.offset();
            if end.next > self.last {
                return Ok(end);
            }
            let frame = match frames.next().map_err(Fault::io("read", path))? {
                Step::End => return Ok(end),
                Step::Bad(reason) => break reason,
                Step::Frame(frame) => frame,
            };
            if let Err(reason) = self.fits(&frame, &end) {
                // No crash leaves a whole frame in the wrong place.
                end.stop = Stop::Damaged(reason);
                return Ok(end);
            }
            visit(frame).map_err(OpenError::Visit)?;
            (end.next, end.tip) = (frame.seq + 1, frame.hash);
        };
        let torn = at + 1 == self.segments.len() && !(self.search && was_synced(path, &end)?);
        end.stop = if torn { Stop::Torn { bytes: len - end.offset, reason } } else { Stop::Damaged(reason) };
        Ok(end)
    }

    /// Goes on with the segment that has this header.
    fn enter(&self, at: usize, header: &Header, end: &mut End) -> Result<(), Reason> {
        let first = self.segments[at].seq;
        if first != end.next {
            return Err(Reason::Missing { found: first });
        }
        if header.seq != first || first == 0 {
            return Err(Reason::Header);
        }
        if at == 0 && first != 1 {
            // What was before it is retired; a snapshot may know better.
            end.tip = header.hash;
        }
        if header.hash != end.tip {
            return Err(Reason::Chain);
        }
        self.agree(first - 1, header.hash)
    }

    fn fits(&self, frame: &Frame<'_>, end: &End) -> Result<(), Reason> {
        if frame.payload.is_empty() || frame.seq == u64::MAX || frame.synced >= frame.seq {
            return Err(Reason::Check);
        }
        if frame.seq != end.next {
            return Err(Reason::Order { found: frame.seq });
        }
        if frame.prev != end.tip {
            return Err(Reason::Chain);
        }
        self.agree(frame.seq, frame.hash)
    }

    fn agree(&self, seq: u64, hash: Digest) -> Result<(), Reason> {
        let other = self.known.iter().any(|base| base.seq == seq && base.hash != hash);
        if other { Err(Reason::OtherSnapshot) } else { Ok(()) }
    }
}

/// Whether a frame behind the bytes at which a walk ended knows of a whole one in their place. Others behind them
/// may have reached the disk before: pages of one write come in any order.
fn was_synced(path: &Path, end: &End) -> Result<bool, Fault> {
    let rest = read_from(path, end.offset)?;
    Ok(frame::was_synced(&rest, end.next))
}

/// The bytes of a file from `offset`: at most one segment.
pub(crate) fn read_from(path: &Path, offset: u64) -> Result<Vec<u8>, Fault> {
    let read = || {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        Ok(rest)
    };
    read().map_err(Fault::io("read", path))
}
