//! What a coordinator keeps on disk: content-addressed [`Blobs`] for bytes, and the [`Index`] (sled)
//! for everything that is looked up.
//!
//! Order of every change: blob durable, then index durable, then the answer that promises it.

mod blobs;
mod index;
mod records;

pub(crate) use blobs::Blobs;
pub(crate) use index::{Changes, Index};
pub(crate) use records::{BlobRecord, RoundRecord, RunRecord, RunState, VersionRecord};

use params::Digest;

/// What can go wrong with what is on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The operating system refused; often a full disk or wrong permissions.
    #[error("{what} {path}: {cause}")]
    Io { what: &'static str, path: String, cause: std::io::Error },
    /// sled refused.
    #[error("index: {0}")]
    Index(#[from] sled::Error),
    /// A record does not parse: the index is damaged or of another release.
    #[error("index record '{key}' does not parse: {cause}")]
    Record { key: String, cause: serde_json::Error },
    /// A value is too large for the index.
    #[error("index record '{key}' has {bytes} bytes, at most {} are allowed", index::VALUE_BYTES_MAX)]
    TooLarge { key: String, bytes: usize },
    /// The blob is not there.
    #[error("blob {0} is not stored here")]
    Missing(Digest),
    /// The bytes on disk are not those that were written.
    #[error("blob {expected} is damaged on disk: its bytes have digest {found}")]
    Damaged { expected: Digest, found: Digest },
}

impl StoreError {
    fn io<'a>(what: &'static str, path: &'a std::path::Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |cause| Self::Io { what, path: path.display().to_string(), cause }
    }
}
