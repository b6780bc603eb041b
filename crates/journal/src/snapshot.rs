//! Snapshots: the state after one frame, in a file of its own.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use params::Digest;

use crate::{
    error::{Damage, Fault, OpenError, Reason, WriteError},
    folder::{Numbered, appending, publish, snapshot_path, unfinished_path},
    format::{HEADER, Header, SNAPSHOT_MAGIC, read_header},
    frame::{self, Frames, Step},
    options::Options,
    retire::{Retired, retire},
    write::check_payload,
};

/// A durable point of a journal, from which a snapshot is written while the journal goes on.
#[derive(Clone, Debug)]
pub struct Mark {
    pub(crate) dir: PathBuf,
    pub(crate) seq: u64,
    pub(crate) hash: Digest,
    pub(crate) options: Options,
}

/// A snapshot that was read to its trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) seq: u64,
    pub(crate) hash: Digest,
}

/// What a file that is called a snapshot holds.
pub(crate) struct Verified {
    pub(crate) base: Result<Base, Damage>,
    pub(crate) bytes: u64,
}

impl Mark {
    /// The last frame whose effects belong into the snapshot.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Writes `frames` as the state after [`Mark::seq`], durably, and returns that number. Needs no
    /// access to the journal; one snapshot at a time. A snapshot that failed leaves nothing behind.
    ///
    /// # Errors
    /// [`WriteError::Append`] if a payload is empty or too large, otherwise as [`Journal::sync`](crate::Journal::sync).
    pub fn write(&self, frames: impl Iterator<Item = Vec<u8>>) -> Result<u64, WriteError> {
        let path = snapshot_path(&self.dir, self.seq);
        let unfinished = unfinished_path(&path);
        let written = self.write_file(&unfinished, frames);
        if written.is_err() {
            // What cannot be removed is removed by the next opening.
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        (self.options.crash)("snapshot-written");
        publish(&self.dir, &unfinished, &path, || (self.options.crash)("snapshot-renamed"))?;
        Ok(self.seq)
    }

    /// As [`Journal::retire`](crate::Journal::retire), without the journal.
    ///
    /// # Errors
    /// If the folder or a snapshot cannot be read, or a file not be removed.
    pub fn retire(&self) -> Result<Retired, Fault> {
        retire(&self.dir, self.options.crash)
    }

    fn write_file(&self, path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> Result<(), WriteError> {
        let error = || WriteError::write("write", path);
        let _ = fs::remove_file(path);
        let file = appending().create_new(true).open(path).map_err(WriteError::write("create", path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let header = Header::new(self.seq, self.hash).encode(SNAPSHOT_MAGIC);
        out.write_all(&header).map_err(error())?;
        let (mut count, mut tip) = (0u64, Digest::of(&header));
        let mut bytes = Vec::new();
        for payload in frames {
            check_payload(&payload, &self.options)?;
            count += 1;
            bytes.clear();
            tip = frame::encode(&mut bytes, count, 0, tip, &payload);
            out.write_all(&bytes).map_err(error())?;
        }
        bytes.clear();
        frame::encode(&mut bytes, count, 0, tip, &[]);
        out.write_all(&bytes).map_err(error())?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error).map_err(error())?;
        file.sync_all().map_err(WriteError::sync(path))
    }
}

/// Reads a snapshot to its end; damage is a result, not an error.
pub(crate) fn verify(file: &Numbered) -> Result<Verified, Fault> {
    match scan(file, &mut |_| Ok::<(), std::convert::Infallible>(())) {
        Ok(verified) => Ok(verified),
        Err(OpenError::Fault(fault)) => Err(fault),
        Err(OpenError::Visit(never)) => match never {},
    }
}

/// Visits the payloads of a snapshot that was verified before.
pub(crate) fn replay<E>(
    file: &Numbered,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<Base, OpenError<E>> {
    scan(file, visit)?.base.map_err(|damage| Fault::Damaged(damage).into())
}

fn scan<E>(file: &Numbered, visit: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<Verified, OpenError<E>> {
    let path = file.path.as_path();
    let from = File::open(path).map_err(Fault::io("open", path))?;
    let bytes = from.metadata().map_err(Fault::io("read", path))?.len();
    let mut head = Vec::with_capacity(HEADER);
    (&from).take(HEADER as u64).read_to_end(&mut head).map_err(Fault::io("read", path))?;
    let damage = |offset, seq, reason| Damage { file: path.to_owned(), offset, seq, reason };
    let header = read_header(path, &head, SNAPSHOT_MAGIC)?;
    // A frame must be able to follow it.
    let header = header.filter(|header| header.seq == file.seq && header.seq < u64::MAX);
    let Some(header) = header else {
        return Ok(Verified { base: Err(damage(0, 0, Reason::Header)), bytes });
    };
    let (mut count, mut tip) = (0u64, Digest::of(&head));
    let mut frames = Frames::new(BufReader::with_capacity(1 << 16, from), HEADER as u64, bytes);
    let base = loop {
        let offset = frames.offset();
        let reason = match frames.next().map_err(Fault::io("read", path))? {
            Step::Frame(frame) if frame.prev != tip => Reason::Chain,
            Step::Frame(frame) if frame.payload.is_empty() => {
                let whole = frame.seq == count && frames.offset() == bytes;
                if whole {
                    break Ok(Base { seq: header.seq, hash: header.hash });
                }
                Reason::Trailer
            }
            Step::Frame(frame) if frame.seq != count + 1 => Reason::Order { found: frame.seq },
            Step::Frame(frame) => {
                visit(frame.payload).map_err(OpenError::Visit)?;
                (count, tip) = (frame.seq, frame.hash);
                continue;
            }
            Step::End => Reason::Trailer,
            Step::Bad(reason) => reason,
        };
        break Err(damage(offset, count + 1, reason));
    };
    Ok(Verified { base, bytes })
}
