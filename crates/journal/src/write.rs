//! Appending: a buffer, one write and one fdatasync per segment and sync.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use params::Digest;

use crate::{
    error::{AppendError, Fault, WriteError},
    folder::{appending, segment_path, sync_dir},
    format::{HEADER, Header, SEGMENT_MAGIC},
    frame::{self, HEAD},
    options::Options,
    retire::{Retired, retire},
    snapshot::Mark,
};

/// An open journal. It has one writer, which appends and syncs.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    options: Options,
    segment: Segment,
    buffer: Vec<u8>,
    pending: VecDeque<Pending>,
    /// The number of the next frame, and the hash before it.
    next: u64,
    tip: Digest,
    durable: u64,
    durable_tip: Digest,
    stopped: bool,
}

/// The segment that is written.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Bytes that are durable.
    pub(crate) len: u64,
}

/// A frame in the buffer.
#[derive(Debug)]
struct Pending {
    len: usize,
    hash: Digest,
}

impl Journal {
    /// A journal behind its last frame.
    pub(crate) fn new(dir: &Path, options: Options, segment: Segment, next: u64, tip: Digest) -> Self {
        Self {
            dir: dir.to_owned(),
            options,
            segment,
            buffer: Vec::new(),
            pending: VecDeque::new(),
            next,
            tip,
            durable: next - 1,
            durable_tip: tip,
            stopped: false,
        }
    }

    /// Takes a payload into the buffer, which the caller bounds, and returns its sequence number. Nothing
    /// is written before [`Journal::sync`].
    ///
    /// # Errors
    /// If the payload is empty or too large, or an earlier write failed for good.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, AppendError> {
        if self.stopped {
            return Err(AppendError::Stopped);
        }
        check_payload(payload, &self.options)?;
        let seq = self.next;
        let hash = frame::encode(&mut self.buffer, seq, self.durable, self.tip, payload);
        self.pending.push_back(Pending { len: HEAD + payload.len(), hash });
        (self.next, self.tip) = (seq + 1, hash);
        Ok(seq)
    }

    /// Makes the whole buffer durable and returns the last durable number.
    ///
    /// # Errors
    /// After [`WriteError::Full`] and [`WriteError::Io`] the frames that are not durable stay in the buffer, and a later call tries
    /// again. After any other the journal refuses every later call: the process has to end.
    pub fn sync(&mut self) -> Result<u64, WriteError> {
        if self.stopped {
            return Err(AppendError::Stopped.into());
        }
        let result = self.write_all();
        if let Err(error) = &result {
            self.stopped |= error.is_fatal();
        }
        result.map(|()| self.durable)
    }

    /// Bytes in the buffer.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The last frame that is on the disk; 0 if there is none.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The number that the next payload gets.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// The durable end of the journal, for a snapshot that is written elsewhere.
    pub fn mark(&self) -> Mark {
        Mark { dir: self.dir.clone(), seq: self.durable, hash: self.durable_tip, options: self.options }
    }

    /// Writes a snapshot of the state after [`Journal::durable`]; see [`Mark::write`].
    ///
    /// # Errors
    /// See [`Mark::write`].
    pub fn snapshot(&mut self, frames: impl Iterator<Item = Vec<u8>>) -> Result<u64, WriteError> {
        if self.stopped {
            return Err(AppendError::Stopped.into());
        }
        let result = self.mark().write(frames);
        if let Err(error) = &result {
            self.stopped |= error.is_fatal();
        }
        result
    }

    /// Deletes snapshots older than the two newest good ones, and segments that lie wholly at or below the older
    /// of those two. Without two good snapshots nothing is deleted.
    ///
    /// # Errors
    /// If the folder or a snapshot cannot be read, or a file not be removed.
    pub fn retire(&self) -> Result<Retired, Fault> {
        retire(&self.dir, self.options.crash)
    }

    fn write_all(&mut self) -> Result<(), WriteError> {
        while !self.pending.is_empty() {
            let (mut frames, mut bytes) = self.fitting();
            if frames == 0 {
                self.roll()?;
                (frames, bytes) = self.fitting();
            }
            self.write(bytes)?;
            (self.options.crash)("journal-unsynced");
            self.segment.file.sync_data().map_err(WriteError::sync(&self.segment.path))?;
            (self.options.crash)("journal-synced");
            self.segment.len += bytes as u64;
            self.buffer.drain(..bytes);
            self.durable += frames as u64;
            if let Some(last) = self.pending.drain(..frames).next_back() {
                self.durable_tip = last.hash;
            }
        }
        Ok(())
    }

    /// How many frames of the buffer, and bytes, the segment takes; an empty segment takes at least one.
    fn fitting(&self) -> (usize, usize) {
        let (mut frames, mut bytes) = (0, 0);
        for pending in &self.pending {
            let len = self.segment.len + (bytes + pending.len) as u64;
            let empty = self.segment.len == HEADER as u64 && frames == 0;
            if len > self.options.segment_bytes && !empty {
                break;
            }
            frames += 1;
            bytes += pending.len;
        }
        (frames, bytes)
    }

    /// Writes the first `bytes` of the buffer; on an error the file is as it was.
    fn write(&mut self, bytes: usize) -> Result<(), WriteError> {
        self.check_fence()?;
        let Segment { file, path, len } = &mut self.segment;
        // One more than the half, which could be the end of a frame.
        let half = if self.options.torn { bytes / 2 + 1 } else { 0 };
        let mut write = || {
            if half > 0 {
                file.write_all(&self.buffer[..half])?;
                (self.options.crash)("journal-append-torn");
            }
            file.write_all(&self.buffer[half..bytes])
        };
        let Err(error) = write() else { return Ok(()) };
        if let Err(source) = file.set_len(*len) {
            self.stopped = true;
            return Err(WriteError::Io { action: "truncate", path: path.clone(), source });
        }
        Err(WriteError::write("write", path)(error))
    }

    fn check_fence(&self) -> Result<(), WriteError> {
        let Segment { file, path, len } = &self.segment;
        let found = file
            .metadata()
            .map_err(|source| WriteError::Io { action: "read", path: path.clone(), source })?
            .len();
        if found != *len {
            return Err(WriteError::Fenced { path: path.clone(), expected: *len, found });
        }
        Ok(())
    }

    /// Begins a new segment; the old one is durable.
    fn roll(&mut self) -> Result<(), WriteError> {
        self.check_fence()?;
        self.segment = Segment::create(&self.dir, self.durable + 1, self.durable_tip)?;
        (self.options.crash)("segment-created");
        Ok(())
    }
}

impl Segment {
    /// Makes the segment that begins with frame `first`, durably: header, then name, before any frame.
    pub(crate) fn create(dir: &Path, first: u64, prev: Digest) -> Result<Self, WriteError> {
        let path = segment_path(dir, first);
        let mut file = match appending().create_new(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::metadata(&path).map_or(0, |meta| meta.len());
                return Err(WriteError::Fenced { path, expected: 0, found });
            }
            file => file.map_err(WriteError::write("create", &path))?,
        };
        if let Err(error) = file.write_all(&Header::new(first, prev).encode(SEGMENT_MAGIC)) {
            // If it cannot be removed, the next attempt finds it and stops.
            let _ = fs::remove_file(&path);
            return Err(WriteError::write("write", &path)(error));
        }
        file.sync_all().map_err(WriteError::sync(&path))?;
        sync_dir(dir).map_err(WriteError::sync(dir))?;
        Ok(Self { file, path, len: HEADER as u64 })
    }
}

/// Refuses what a frame must not hold.
pub(crate) fn check_payload(payload: &[u8], options: &Options) -> Result<(), AppendError> {
    let max = options.frame_bytes_max;
    match u32::try_from(payload.len()) {
        Ok(0) => Err(AppendError::Empty),
        Ok(bytes) if bytes <= max => Ok(()),
        _ => Err(AppendError::TooLarge { bytes: payload.len(), max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Item, OpenError};

    fn open(dir: &Path) -> (Journal, u64) {
        let mut visit = |_: Item<'_>| Ok::<(), String>(());
        let opened: Result<_, OpenError<String>> = Journal::open(dir, Options::default(), &mut visit);
        let (journal, opened) = opened.unwrap();
        (journal, opened.frames)
    }

    /// `/dev/null` takes every byte and cannot be synced.
    #[test]
    fn a_failed_fsync_stops_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.append(b"one").unwrap();
        journal.sync().unwrap();
        journal.segment.file = File::options().write(true).open("/dev/null").unwrap();
        journal.segment.len = 0;
        journal.append(b"two").unwrap();
        assert!(matches!(journal.sync(), Err(WriteError::Sync { .. })));
        assert_eq!(journal.durable(), 1);
        assert!(matches!(journal.sync(), Err(WriteError::Append(AppendError::Stopped))));
        assert!(matches!(journal.append(b"x"), Err(AppendError::Stopped)));
        assert!(matches!(journal.snapshot([].into_iter()), Err(WriteError::Append(AppendError::Stopped))));
        assert_eq!(open(dir.path()).1, 1);
    }

    /// `/dev/full` has no space, and cannot be cut back either.
    #[test]
    fn what_cannot_be_cut_back_stops_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.segment.file = File::options().write(true).open("/dev/full").unwrap();
        journal.segment.len = 0;
        journal.append(b"one").unwrap();
        assert!(matches!(journal.sync(), Err(WriteError::Io { action: "truncate", .. })));
        assert!(matches!(journal.sync(), Err(WriteError::Append(AppendError::Stopped))));
    }

    #[test]
    fn payloads_have_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.options.frame_bytes_max = 3;
        assert!(matches!(journal.append(b""), Err(AppendError::Empty)));
        assert_eq!(journal.append(b"123").unwrap(), 1);
        let error = journal.append(b"1234").unwrap_err();
        assert_eq!(error.to_string(), "a frame of 4 bytes cannot be appended, the limit is 3");
        assert_eq!((journal.next_seq(), journal.buffered(), journal.durable()), (2, HEAD + 3, 0));
    }
}
