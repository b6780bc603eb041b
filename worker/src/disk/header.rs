//! The start of a file of the spool.
//!
//! All numbers are little-endian: magic (8 bytes), format (u32), length of the run's name (u8), the name,
//! round (u32), key (32), digest of the payload (32), length of the payload (u64), examples (u64), train
//! loss (f64), and the digest of all of that (32). The payload follows.

use std::io::{self, Read};

use params::{Digest, Name, ParseNameError};
use round::worker::Kept;

use super::fields::Fields;

const MAGIC: [u8; 8] = *b"CNCLVUPD";

/// In the place of the magic: the file holds nothing that is wanted.
pub(super) const BLANK: [u8; 8] = [0; 8];

/// Of this layout.
const FORMAT: u32 = 1;

/// Why bytes are no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// They end too early, or cannot be read.
    #[error("the header cannot be read: {0}")]
    Read(#[from] io::Error),
    /// An update that was forgotten.
    #[error("it holds no update")]
    Blank,
    /// Another kind of file.
    #[error("it is no kept update")]
    Magic,
    /// Of another release.
    #[error("it has format {0}, this release reads {FORMAT}")]
    Format(u32),
    /// Bits flipped.
    #[error("the header does not match its digest")]
    Damaged,
    /// It was written with this name.
    #[error("the run's name: {0}")]
    Name(#[from] ParseNameError),
}

/// What is known of a kept update besides its payload.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) kept: Kept,
    /// Mean over the examples.
    pub(super) train_loss: f64,
}

impl Header {
    /// As it is written.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Kept { run, round, key, digest, bytes, examples } = &self.kept;
        let name = run.as_str().as_bytes();
        let mut out = Vec::with_capacity(256);
        out.extend(MAGIC);
        out.extend(FORMAT.to_le_bytes());
        // A name has at most 63 bytes.
        out.push(name.len() as u8);
        out.extend(name);
        out.extend(round.to_le_bytes());
        out.extend(key.as_bytes());
        out.extend(digest.as_bytes());
        out.extend(bytes.to_le_bytes());
        out.extend(examples.to_le_bytes());
        out.extend(self.train_loss.to_bits().to_le_bytes());
        let check = Digest::of(&out);
        out.extend(check.as_bytes());
        out
    }

    /// Reads one, and not a byte more.
    pub(super) fn read(from: impl Read) -> Result<Self, HeaderError> {
        let mut fields = Fields::new(from);
        match fields.take()? {
            MAGIC => {}
            BLANK => return Err(HeaderError::Blank),
            _ => return Err(HeaderError::Magic),
        }
        let format = u32::from_le_bytes(fields.take()?);
        if format != FORMAT {
            return Err(HeaderError::Format(format));
        }
        let name = fields.text()?;
        let round = u32::from_le_bytes(fields.take()?);
        let key = Digest::from(fields.take::<32>()?);
        let digest = Digest::from(fields.take::<32>()?);
        let bytes = u64::from_le_bytes(fields.take()?);
        let examples = u64::from_le_bytes(fields.take()?);
        let train_loss = f64::from_bits(u64::from_le_bytes(fields.take()?));
        let expected = fields.digest();
        if Digest::from(fields.take::<32>()?) != expected {
            return Err(HeaderError::Damaged);
        }
        let run: Name = name.parse()?;
        Ok(Self { kept: Kept { run, round, key, digest, bytes, examples }, train_loss })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        let digest = || any::<[u8; 32]>().prop_map(Digest::from);
        ("[a-z0-9][a-z0-9._-]{0,62}", any::<u32>(), digest(), digest(), any::<(u64, u64)>(), -1e9..1e9f64)
            .prop_map(|(run, round, key, digest, (bytes, examples), train_loss)| {
                let run = run.parse().unwrap();
                Header { kept: Kept { run, round, key, digest, bytes, examples }, train_loss }
            })
    }

    #[test]
    fn stays_readable_by_later_releases() {
        let digest = Digest::from([2; 32]);
        let kept = Kept {
            run: "r".parse().unwrap(),
            round: 3,
            key: Digest::from([1; 32]),
            digest,
            bytes: 4,
            examples: 5,
        };
        let bytes = Header { kept, train_loss: 0.5 }.encode();
        // Updates on disk depend on this: do not change the figure, raise FORMAT.
        assert_eq!((bytes.len(), Digest::of(&bytes).short().as_str()), (138, GOLDEN));
    }

    const GOLDEN: &str = "49d423e75c37";

    proptest! {
        #[test]
        fn comes_back_and_nothing_after_it_is_read(header in header(), payload: Vec<u8>) {
            let mut file = header.encode();
            file.extend(&payload);
            let mut rest = file.as_slice();
            prop_assert_eq!(Header::read(&mut rest).unwrap(), header);
            prop_assert_eq!(rest, payload);
        }

        #[test]
        fn every_flipped_bit_and_every_cut_is_noticed(header in header(), at: prop::sample::Index, bit in 0..8u32) {
            let good = header.encode();
            let at = at.index(good.len());
            let mut bad = good.clone();
            bad[at] ^= 1u8 << bit;
            prop_assert!(Header::read(bad.as_slice()).is_err());
            prop_assert!(Header::read(&good[..at]).is_err());
        }

        #[test]
        fn no_foreign_bytes_panic(mut bytes: Vec<u8>, start: bool) {
            if start {
                bytes.splice(0..0, MAGIC.into_iter().chain(FORMAT.to_le_bytes()));
            }
            prop_assert!(Header::read(bytes.as_slice()).is_err());
        }
    }
}
