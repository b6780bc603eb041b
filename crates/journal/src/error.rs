use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a payload was not taken. The journal is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Frames have at least one byte.
    #[error("a frame without payload cannot be appended")]
    Empty,
    /// Above [`Options::frame_bytes_max`](crate::Options::frame_bytes_max).
    #[error("a frame of {bytes} bytes cannot be appended, the limit is {max}")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// An earlier write failed for good.
    #[error("the journal stopped after a failed write; restart the process to open it again")]
    Stopped,
}

/// Why something could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No space (or quota) left. The buffer is kept and the file is as it was: free space and try again.
    #[error("no space left for {}: free some, then try again", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Fatal: after a failed fsync nobody knows what is on the disk, and a second one may lie.
    #[error("cannot sync {}; what was written may be lost: stop the process", path.display())]
    Sync {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Fatal: somebody else writes this journal.
    #[error(
        "{} has {found} bytes, this process left it with {expected}: another process writes it; stop one of them",
        path.display()
    )]
    Fenced {
        /// The segment.
        path: PathBuf,
        /// Bytes after our last write.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The system refuses for another reason. The buffer is kept.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A payload of a snapshot is empty or too large, or the journal stopped before.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What is wrong at one place of a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The file ends inside of a frame.
    #[error("{bytes} bytes are left, too few for the frame that begins here")]
    Short {
        /// Bytes up to the end of the file.
        bytes: u64,
    },
    /// The bytes do not have the hash that the frame says.
    #[error("the frame does not match its check")]
    Check,
    /// The frame is whole but out of place.
    #[error("the frame has number {found}")]
    Order {
        /// Its sequence number.
        found: u64,
    },
    /// The frame or header names another predecessor.
    #[error("it does not follow from the frame before it")]
    Chain,
    /// Not a header, or one of another file.
    #[error("the header is not the one of this file")]
    Header,
    /// Frames are missing in front of this file.
    #[error("the segment begins with frame {found}: frames before it are missing")]
    Missing {
        /// First sequence number of the file, 0 if there is none.
        found: u64,
    },
    /// The frame is whole, but the snapshot after it was made of another one.
    #[error("the frame before it is not the one that the snapshot was made of")]
    OtherSnapshot,
    /// There is a snapshot of a later state.
    #[error("the segments end here, the snapshot of frame {snapshot} is ahead of them")]
    Behind {
        /// Sequence number of the snapshot.
        snapshot: u64,
    },
    /// A snapshot without a trailer, or with one that counts something else.
    #[error("the snapshot has no correct trailer")]
    Trailer,
}

/// A place of a journal that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}, offset {offset}, frame {seq}: {reason}", file.display())]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes: the start of the frame or header.
    pub offset: u64,
    /// The frame that was expected there; in a snapshot it counts from 1.
    pub seq: u64,
    /// What is wrong.
    pub reason: Reason,
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Something that no crash leaves behind.
    #[error("the journal is damaged: {0}; run: conclave-coordinator recover --home DIR")]
    Damaged(Damage),
    /// The journal ends before [`Options::least`](crate::Options::least).
    #[error(
        "the journal ends with frame {last}, but frame {least} was in it: acknowledged frames are missing"
    )]
    Lost {
        /// The last good frame.
        last: u64,
        /// The one that was known.
        least: u64,
    },
    /// Written by another version of this program.
    #[error(
        "{} has journal format {found}, this program reads {supported}; start the version that wrote it",
        file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
        /// Its format number.
        found: u32,
        /// The one that is read.
        supported: u32,
    },
    /// The system refuses.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a journal was not opened, or not read to its end. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The journal itself.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The visitor refused an item.
    #[error("{0}")]
    Visit(E),
}

impl Fault {
    /// Names the action and the file of a system error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl WriteError {
    /// The error of creating, writing or renaming: a full disk is told from the rest.
    pub(crate) fn write(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
                _ => Self::Io { action, path, source },
            }
        }
    }

    /// The error of an fsync.
    pub(crate) fn sync(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Sync { path: path.to_owned(), source }
    }

    /// Whether the journal must not be used any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Sync { .. } | Self::Fenced { .. } | Self::Append(AppendError::Stopped))
    }
}
