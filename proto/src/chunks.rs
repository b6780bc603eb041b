//! Payloads travel as chunks with offsets and digests; see [`split`], [`Tally`] and [`Assembler`].

use bytes::Bytes;
use params::{Digest, Hasher};

use crate::{
    error::{ErrorCode, WireError},
    v1::{BlobRef, Chunk},
};

/// The largest chunk that is taken, in bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// The chunks that are sent: as long as an HTTP/2 frame of [`service`]'s connections, so that one chunk is one frame.
/// Measured, see `docs/measurements.md`: a quarter of a mebibyte is faster than a whole one, and stays in the
/// second cache between decryption, digest and copy.
///
/// [`service`]: ../service/index.html
pub const CHUNK_BYTES: usize = 256 << 10;

/// What says that bytes arrived as they were sent. TLS does in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A digest in each chunk: what protocols 1 and 2 ask for.
    Chunks,
    /// The digest of the whole, which was announced; each byte is hashed once less by both sides. Since protocol 3.
    Whole,
}

/// The chunks of `payload` from `offset` on.
pub fn split(payload: Bytes, offset: u64, proof: Proof) -> impl Iterator<Item = Chunk> + Send + 'static {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(payload.len());
    (start..payload.len()).step_by(CHUNK_BYTES).map(move |from| {
        let data = payload.slice(from..payload.len().min(from + CHUNK_BYTES));
        let digest = match proof {
            Proof::Chunks => Digest::of(&data).as_bytes().to_vec(),
            Proof::Whole => Vec::new(),
        };
        Chunk { offset: from as u64, data, digest }
    })
}

/// Counts and verifies the chunks of a payload; whoever receives them keeps the bytes.
#[derive(Debug)]
pub struct Tally {
    digest: Digest,
    bytes: u64,
    have: u64,
    hasher: Hasher,
}

impl Tally {
    /// Expects the payload that `announced` names, at most `bytes_max` long.
    pub fn new(announced: &BlobRef, bytes_max: u64) -> Result<Self, WireError> {
        let digest =
            Digest::try_from(announced.digest.as_slice()).map_err(|e| WireError::invalid(e.to_string()))?;
        if announced.bytes > bytes_max || usize::try_from(announced.bytes).is_err() {
            return Err(WireError::invalid(format!(
                "payload of {} bytes announced, at most {bytes_max} are allowed here",
                announced.bytes
            )));
        }
        Ok(Self { digest, bytes: announced.bytes, have: 0, hasher: Hasher::new() })
    }

    /// What was announced.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes were announced.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes have arrived: the offset of the next chunk.
    pub fn offset(&self) -> u64 {
        self.have
    }

    /// Whether all that was announced has arrived.
    pub fn is_complete(&self) -> bool {
        self.have == self.bytes
    }

    /// Whether a next chunk may have that many bytes.
    pub fn fits(&self, bytes: usize) -> Result<(), WireError> {
        if bytes == 0 || bytes > CHUNK_BYTES_MAX {
            return Err(WireError::invalid(chunk_length(bytes)));
        }
        let total = self.have + bytes as u64;
        if total > self.bytes {
            return Err(WireError::invalid(format!("{total} bytes sent, {} were announced", self.bytes)));
        }
        Ok(())
    }

    /// Whether this is the next chunk, and whole; then it counts. An empty `digest` is none.
    pub fn accept(&mut self, offset: u64, data: &[u8], digest: &[u8]) -> Result<(), WireError> {
        if offset != self.have {
            return Err(WireError::invalid(format!("chunk at offset {offset}, expected {}", self.have)));
        }
        self.fits(data.len())?;
        if !digest.is_empty() && digest != Digest::of(data).as_bytes() {
            return Err(WireError::new(
                ErrorCode::Corrupt,
                format!("chunk at offset {offset} does not match its digest, send it again"),
            ));
        }
        self.hasher.update(data);
        self.have += data.len() as u64;
        Ok(())
    }

    /// Whether the payload is complete and the one that was announced.
    pub fn finish(&self) -> Result<(), WireError> {
        if !self.is_complete() {
            return Err(WireError::new(
                ErrorCode::Corrupt,
                format!("payload ended after {} of {} bytes, send it again", self.have, self.bytes),
            ));
        }
        let found = self.hasher.digest();
        if found != self.digest {
            return Err(WireError::new(
                ErrorCode::Corrupt,
                format!("payload has digest {found}, announced was {}", self.digest),
            ));
        }
        Ok(())
    }
}

/// Puts a payload together from its chunks and verifies it; it never holds more than was announced.
#[derive(Debug)]
pub struct Assembler {
    tally: Tally,
    payload: Vec<u8>,
}

impl Assembler {
    /// Expects the payload that `announced` names, at most `bytes_max` long.
    pub fn new(announced: &BlobRef, bytes_max: u64) -> Result<Self, WireError> {
        let tally = Tally::new(announced, bytes_max)?;
        // Memory is taken as bytes arrive: an announcement alone costs nothing.
        let payload = Vec::with_capacity(CHUNK_BYTES_MAX.min(announced.bytes as usize));
        Ok(Self { tally, payload })
    }

    /// How many bytes have arrived: the offset of the next chunk.
    pub fn offset(&self) -> u64 {
        self.tally.offset()
    }

    /// Whether all that was announced has arrived.
    pub fn is_complete(&self) -> bool {
        self.tally.is_complete()
    }

    /// Adds the next chunk.
    pub fn push(&mut self, chunk: &Chunk) -> Result<(), WireError> {
        self.tally.accept(chunk.offset, &chunk.data, &chunk.digest)?;
        self.payload.extend_from_slice(&chunk.data);
        Ok(())
    }

    /// The payload, complete and verified.
    pub fn finish(self) -> Result<Vec<u8>, WireError> {
        self.tally.finish()?;
        Ok(self.payload)
    }
}

pub(crate) fn chunk_length(bytes: usize) -> String {
    format!("chunk of {bytes} bytes, 1 to {CHUNK_BYTES_MAX} are allowed")
}

/// How a payload is announced.
pub fn announce(payload: &[u8]) -> BlobRef {
    BlobRef { digest: Digest::of(payload).as_bytes().to_vec(), bytes: payload.len() as u64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(len: usize) -> Bytes {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn assemble(announced: &BlobRef, chunks: impl Iterator<Item = Chunk>) -> Result<Vec<u8>, WireError> {
        let mut assembler = Assembler::new(announced, 1 << 30)?;
        for chunk in chunks {
            assembler.push(&chunk)?;
        }
        assembler.finish()
    }

    #[test]
    fn sizes_around_the_chunk_limit_come_back() {
        for len in [0, 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 3 * CHUNK_BYTES_MAX] {
            let p = payload(len);
            for proof in [Proof::Chunks, Proof::Whole] {
                assert_eq!(assemble(&announce(&p), split(p.clone(), 0, proof)).unwrap(), p, "{len}");
            }
        }
    }

    #[test]
    fn an_offset_skips_what_is_there() {
        let p = payload(100);
        let rest: Vec<_> = split(p.clone(), 60, Proof::Chunks).collect();
        assert_eq!((rest.len(), rest[0].offset, rest[0].data.as_ref()), (1, 60, &p[60..]));
        assert_eq!(split(p, u64::MAX, Proof::Whole).count(), 0);
    }

    #[test]
    fn faults_are_named() {
        let p = payload(10);
        let fail = |change: &dyn Fn(&mut Chunk)| {
            let mut chunk = split(p.clone(), 0, Proof::Chunks).next().unwrap();
            change(&mut chunk);
            assemble(&announce(&p), std::iter::once(chunk)).unwrap_err()
        };
        assert_eq!(fail(&|c| c.offset = 3).message, "chunk at offset 3, expected 0");
        assert_eq!(fail(&|c| c.digest[0] ^= 1).code, ErrorCode::Corrupt);
        assert_eq!(fail(&|c| c.data = Bytes::new()).code, ErrorCode::Invalid);
        let longer = fail(&|c| {
            c.data = payload(11);
            c.digest = Digest::of(&c.data).as_bytes().to_vec();
        });
        assert_eq!(longer.message, "11 bytes sent, 10 were announced");
        let other = fail(&|c| {
            c.data = vec![0; 10].into();
            c.digest = Digest::of(&c.data).as_bytes().to_vec();
        });
        assert_eq!(other.code, ErrorCode::Corrupt);
        let short = assemble(&announce(&p), std::iter::empty()).unwrap_err();
        assert_eq!(short.message, "payload ended after 0 of 10 bytes, send it again");
        let large = BlobRef { bytes: u64::MAX, ..announce(&p) };
        assert_eq!(Assembler::new(&large, 100).unwrap_err().code, ErrorCode::Invalid);
    }

    proptest! {
        #[test]
        fn no_foreign_chunk_panics(offset: u64, data: Vec<u8>, digest: Vec<u8>, bytes in 0u64..100) {
            let announced = BlobRef { digest: vec![0; 32], bytes };
            let mut assembler = Assembler::new(&announced, 1000).unwrap();
            let _ = assembler.push(&Chunk { offset, data: data.into(), digest });
            let _ = assembler.finish();
        }
    }
}
