//! Headers, and the one place where format numbers are checked.
//!
//! How a later format gets at journals of an earlier one: `read_header` returns the number that it found, and
//! what it does not know is refused before anything is touched. A program with format 2 keeps the reader of format 1, opens the old
//! folder with it, appends what it visits to a journal in a *new* folder (same sequence numbers, new hashes), syncs, and renames
//! the folders. A crash on the way leaves the old folder as it was and a new one that is thrown away. The test
//! `an_older_format_is_rewritten_into_a_new_folder` does this with two journals.

use std::path::Path;

use params::Digest;

use crate::error::Fault;

/// The format that this program reads and writes.
pub const FORMAT: u32 = 1;

/// Bytes of a header.
pub(crate) const HEADER: usize = 52;

/// The hash before the first frame.
pub(crate) const GENESIS: [u8; 32] = [0; 32];

/// First bytes of a segment.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"CNCLVSEG";

/// First bytes of a snapshot.
pub(crate) const SNAPSHOT_MAGIC: [u8; 8] = *b"CNCLVSNP";

/// What is in front of the frames of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) format: u32,
    /// Of a segment: its first frame. Of a snapshot: the last frame that is in it.
    pub(crate) seq: u64,
    /// Of a segment: the hash before its first frame. Of a snapshot: the hash of its last one.
    pub(crate) hash: Digest,
}

impl Header {
    /// A header of the format that is written.
    pub(crate) fn new(seq: u64, hash: Digest) -> Self {
        Self { format: FORMAT, seq, hash }
    }

    /// The bytes of the header.
    pub(crate) fn encode(&self, magic: [u8; 8]) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&magic);
        out[8..12].copy_from_slice(&self.format.to_le_bytes());
        out[12..20].copy_from_slice(&self.seq.to_le_bytes());
        out[20..].copy_from_slice(self.hash.as_bytes());
        out
    }
}

/// Reads the header at the start of `file`: `None` if it is not one, an error if its format is not ours.
pub(crate) fn read_header(file: &Path, bytes: &[u8], magic: [u8; 8]) -> Result<Option<Header>, Fault> {
    let Some(header) = parse(bytes, magic) else { return Ok(None) };
    if header.format != FORMAT {
        return Err(Fault::Format { file: file.to_owned(), found: header.format, supported: FORMAT });
    }
    Ok(Some(header))
}

fn parse(bytes: &[u8], magic: [u8; 8]) -> Option<Header> {
    let (found, rest) = bytes.split_first_chunk::<8>()?;
    let (format, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (hash, _) = rest.split_first_chunk::<32>()?;
    let header = Header {
        format: u32::from_le_bytes(*format),
        seq: u64::from_le_bytes(*seq),
        hash: Digest::from(*hash),
    };
    (*found == magic).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_these_bytes() {
        let header = Header::new(0x0102, Digest::from([7; 32]));
        let bytes = header.encode(SEGMENT_MAGIC);
        assert_eq!(&bytes[..20], b"CNCLVSEG\x01\0\0\0\x02\x01\0\0\0\0\0\0");
        assert_eq!(bytes[20..], [7; 32]);
        let path = Path::new("x");
        assert_eq!(read_header(path, &bytes, SEGMENT_MAGIC).unwrap(), Some(header));
        assert_eq!(read_header(path, &bytes, SNAPSHOT_MAGIC).unwrap(), None);
        assert_eq!(read_header(path, &bytes[..51], SEGMENT_MAGIC).unwrap(), None);
    }

    #[test]
    fn other_formats_are_refused() {
        for found in [0, 2, u32::MAX] {
            let header = Header { format: found, ..Header::new(1, Digest::from(GENESIS)) };
            let fault =
                read_header(Path::new("f"), &header.encode(SEGMENT_MAGIC), SEGMENT_MAGIC).unwrap_err();
            assert_eq!(
                fault.to_string(),
                format!(
                    "f has journal format {found}, this program reads 1; start the version that wrote it"
                )
            );
        }
    }
}
