//! One frame: encoding, streaming, and finding frames behind bytes that are none.

use std::io::{self, BufRead};

use params::{Digest, Hasher};

use crate::error::Reason;

/// Bytes in front of a payload.
pub(crate) const HEAD: usize = 56;

/// A frame that matches its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) seq: u64,
    /// The last frame that was known to be on the disk when this one was appended; 0 in a snapshot.
    pub(crate) synced: u64,
    pub(crate) prev: Digest,
    pub(crate) hash: Digest,
    pub(crate) payload: &'a [u8],
}

/// What a file holds next.
pub(crate) enum Step<'a> {
    Frame(Frame<'a>),
    End,
    /// Not a frame. The offset stays where it begins, and nothing more can be read.
    Bad(Reason),
}

/// The frames of one file, one at a time.
pub(crate) struct Frames<R> {
    from: R,
    offset: u64,
    len: u64,
    payload: Vec<u8>,
}

impl<R: BufRead> Frames<R> {
    /// Reads frames from `from`, which stands at `offset` of a file of `len` bytes.
    pub(crate) fn new(from: R, offset: u64, len: u64) -> Self {
        Self { from, offset, len, payload: Vec::new() }
    }

    /// Where the next frame begins, or the first bytes that are none.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next frame.
    pub(crate) fn next(&mut self) -> io::Result<Step<'_>> {
        let left = self.len.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Step::End);
        }
        let short = Step::Bad(Reason::Short { bytes: left });
        let mut head = [0; HEAD];
        if left < HEAD as u64 || !fill(&mut self.from, &mut head)? {
            return Ok(short);
        }
        let head = Head::parse(&head);
        // The length may be garbage: only what the file can hold is worth the memory.
        if u64::from(head.len) > left - HEAD as u64 {
            return Ok(short);
        }
        self.payload.resize(head.len as usize, 0);
        if !fill(&mut self.from, &mut self.payload)? {
            return Ok(short);
        }
        match head.verify(&self.payload) {
            Some(frame) => {
                self.offset += (HEAD + frame.payload.len()) as u64;
                Ok(Step::Frame(frame))
            }
            None => Ok(Step::Bad(Reason::Check)),
        }
    }
}

/// Appends a frame to `out`, and returns its hash.
pub(crate) fn encode(out: &mut Vec<u8>, seq: u64, synced: u64, prev: Digest, payload: &[u8]) -> Digest {
    let hash = hash(seq, synced, prev, payload);
    let len = u32::try_from(payload.len()).expect("the limit of a frame is a u32");
    out.reserve(HEAD + payload.len());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&check(hash));
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&synced.to_le_bytes());
    out.extend_from_slice(prev.as_bytes());
    out.extend_from_slice(payload);
    hash
}

/// The first frame in `bytes`, at any offset, whose number is `least` or later.
pub(crate) fn find(bytes: &[u8], least: u64) -> Option<(usize, Frame<'_>)> {
    // Numbers have no gaps, so no frame in here can be further ahead. This keeps the search linear: few
    // places of garbage have such a number and a length that fits.
    let most = least.saturating_add(bytes.len() as u64);
    (0..bytes.len().saturating_sub(HEAD)).find_map(|at| {
        let (head, rest) = bytes[at..].split_first_chunk::<HEAD>()?;
        let head = Head::parse(head);
        let fits = head.len > 0 && (least..=most).contains(&head.seq);
        let payload = rest.get(..head.len as usize).filter(|_| fits)?;
        Some((at, head.verify(payload)?))
    })
}

/// Whether a frame in `bytes` says that frame `seq`, which is not in there, was on the disk.
pub(crate) fn was_synced(bytes: &[u8], seq: u64) -> bool {
    let mut rest = bytes;
    while let Some((at, frame)) = find(rest, seq.saturating_add(1)) {
        if frame.synced >= seq {
            return true;
        }
        rest = &rest[at + HEAD + frame.payload.len()..];
    }
    false
}

struct Head {
    len: u32,
    check: [u8; 4],
    seq: u64,
    synced: u64,
    prev: Digest,
}

impl Head {
    fn parse(bytes: &[u8; HEAD]) -> Self {
        let mut len = [0; 4];
        let mut check = [0; 4];
        let mut seq = [0; 8];
        let mut synced = [0; 8];
        let mut prev = [0; 32];
        len.copy_from_slice(&bytes[..4]);
        check.copy_from_slice(&bytes[4..8]);
        seq.copy_from_slice(&bytes[8..16]);
        synced.copy_from_slice(&bytes[16..24]);
        prev.copy_from_slice(&bytes[24..]);
        Self {
            len: u32::from_le_bytes(len),
            check,
            seq: u64::from_le_bytes(seq),
            synced: u64::from_le_bytes(synced),
            prev: Digest::from(prev),
        }
    }

    fn verify(self, payload: &[u8]) -> Option<Frame<'_>> {
        let Self { seq, synced, prev, .. } = self;
        let hash = hash(seq, synced, prev, payload);
        (check(hash) == self.check).then_some(Frame { seq, synced, prev, hash, payload })
    }
}

fn hash(seq: u64, synced: u64, prev: Digest, payload: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(&synced.to_le_bytes());
    hasher.update(prev.as_bytes());
    hasher.update(payload);
    hasher.digest()
}

fn check(hash: Digest) -> [u8; 4] {
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

/// Fills `to`; false if the file ends before (it was cut after its length was asked).
fn fill(from: &mut impl BufRead, to: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(to) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_these_bytes() {
        let mut out = Vec::new();
        let hash = encode(&mut out, 0x0203, 0x0104, Digest::from([9; 32]), b"abc");
        // Computed with another implementation of BLAKE3 over 03 02 00.. | 04 01 00.. | 09.. | "abc".
        let mut all = vec![3, 2, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0];
        all.extend([9; 32]);
        all.extend(b"abc");
        assert_eq!(hash, Digest::of(&all));
        assert_eq!(hash.to_string(), "52f6ec1a12f660a4868bf807c685b9e8d7c1394a9e961531402b2c418404689d");
        assert_eq!(out[..4], [3, 0, 0, 0]);
        assert_eq!(out[4..8], hash.as_bytes()[..4]);
        assert_eq!(out[8..], all);
        assert_eq!(out.len(), HEAD + 3);
    }

    #[test]
    fn frames_are_found_behind_garbage() {
        let mut out = vec![1; 77];
        encode(&mut out, 5, 3, Digest::from([9; 32]), b"five");
        let six = out.len();
        encode(&mut out, 6, 4, Digest::from([9; 32]), b"six");
        assert_eq!(find(&out, 5).map(|(at, frame)| (at, frame.seq)), Some((77, 5)));
        assert_eq!(find(&out, 6).map(|(at, frame)| (at, frame.payload)), Some((six, &b"six"[..])));
        assert_eq!(find(&out, 7), None);
        assert_eq!(find(&[0; 4096], 1), None);
        // Both are there, but only frame 6 says something of frame 4, and nobody of frame 5.
        assert!(was_synced(&out, 3) && was_synced(&out, 4) && !was_synced(&out, 5));
        assert!(!was_synced(&out[..six], 4) && !was_synced(&[0; 4096], 0));
    }

    #[test]
    fn a_length_of_garbage_takes_no_memory() {
        let mut bytes = [0xff; HEAD + 10];
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut frames = Frames::new(&bytes[..], 0, bytes.len() as u64);
        assert!(matches!(frames.next().unwrap(), Step::Bad(Reason::Short { bytes: 66 })));
        assert!(frames.payload.capacity() == 0 && frames.offset() == 0);
    }
}
