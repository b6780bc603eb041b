//! The difference between two files of weights, without loss.
//!
//! Words of 32 bits, little-endian, are subtracted as integers that wrap around; the sign goes to the lowest bit, so that
//! small steps in either direction are small numbers. Floats of one sign are ordered as their bits are: a weight that moves
//! by a thousandth changes the lower half of its word. The first bytes of all words of a block make one plane, the
//! second bytes the next, and so on: the upper planes are nearly empty. Header words are treated like all others.
//!
//! ```text
//! "CVD1" | u64 length of either file | blocks | the last length % 4 bytes of the new file, as they are
//! block of up to 65536 words: 4 planes, lowest bytes first
//! plane: 0 all bytes are zero | 1 the bytes | 2, u32 length, that many bytes of raw DEFLATE (RFC 1951)
//! ```

use miniz_oxide::{
    deflate::core::{
        CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress,
        create_comp_flags_from_zip_params,
    },
    inflate::decompress_slice_iter_to_slice,
};

const MAGIC: [u8; 4] = *b"CVD1";

/// Bytes in front of the blocks.
const HEADER: usize = 12;

/// Words that make a block. Statistics of weights change from tensor to tensor.
const BLOCK_WORDS: usize = 1 << 16;

/// Bytes of a word, and so planes of a block.
const PLANES: usize = 4;

const ZERO: u8 = 0;
const RAW: u8 = 1;
const DEFLATE: u8 = 2;

/// The level and strategy of deflate: it is the codes for frequent bytes that save, and runs of zeros where few weights
/// moved. A search for longer repetitions would find none.
const LEVEL: i32 = 1;
const STRATEGY: CompressionStrategy = CompressionStrategy::RLE;

/// Why bytes are not a difference to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DifferenceFault {
    /// Not a difference, or one of another format.
    #[error("the difference does not begin as one: fetch the whole file")]
    Magic,
    /// Made for files of another length.
    #[error("the difference is between files of {found} bytes, the old file has {old}: fetch the whole file")]
    Length {
        /// Bytes of either file, as the difference says.
        found: u64,
        /// Bytes of the old file.
        old: u64,
    },
    /// Too long for the caller.
    #[error("the file would have {found} bytes, at most {max} are taken: fetch the whole file")]
    TooLong {
        /// Bytes of the old file, and so of the new one.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Cut short.
    #[error("the difference ends inside block {block}: fetch the whole file")]
    Short {
        /// The block, from 0.
        block: usize,
    },
    /// A plane that is stored in no known way, or does not unpack to its length.
    #[error("plane {plane} of block {block} does not unpack: fetch the whole file")]
    Plane {
        /// The block, from 0.
        block: usize,
        /// The plane, 0 holds the lowest bytes.
        plane: usize,
    },
    /// More bytes than the blocks need.
    #[error("{0} bytes behind the end of the difference: fetch the whole file")]
    Rest(usize),
}

/// What makes `new` of `old`, for [`apply`]. `None` where the files differ in length, or where it would take more than
/// `bytes_max` bytes.
pub fn encode(old: &[u8], new: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    if old.len() != new.len() {
        return None;
    }
    // Only what is written takes memory.
    let mut out = Vec::with_capacity(bytes_max.min(new.len()));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(new.len() as u64).to_le_bytes());
    let mut packer = Packer::new();
    let (old_words, _) = old.as_chunks::<PLANES>();
    let (new_words, tail) = new.as_chunks::<PLANES>();
    for (old, new) in old_words.chunks(BLOCK_WORDS).zip(new_words.chunks(BLOCK_WORDS)) {
        packer.block(old, new, &mut out);
        if out.len() > bytes_max {
            return None;
        }
    }
    out.extend_from_slice(tail);
    (out.len() <= bytes_max).then_some(out)
}

/// The new file, from the old one and the difference between them. It is as long as the old one, and no more memory than
/// that is taken. It may still be another file than was meant: its digest tells.
///
/// # Errors
/// See [`DifferenceFault`].
pub fn apply(old: &[u8], difference: &[u8], length_max: usize) -> Result<Vec<u8>, DifferenceFault> {
    let (header, mut rest) = difference.split_first_chunk::<HEADER>().ok_or(DifferenceFault::Magic)?;
    let (magic, length) = header.split_first_chunk::<4>().ok_or(DifferenceFault::Magic)?;
    if *magic != MAGIC {
        return Err(DifferenceFault::Magic);
    }
    let found = length.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    if found != old.len() as u64 {
        return Err(DifferenceFault::Length { found, old: old.len() as u64 });
    }
    if old.len() > length_max {
        return Err(DifferenceFault::TooLong { found: old.len(), max: length_max });
    }
    let mut new = Vec::with_capacity(old.len());
    let mut planes = vec![0; PLANES * BLOCK_WORDS];
    let (old_words, old_tail) = old.as_chunks::<PLANES>();
    let mut blocks = 0;
    for old in old_words.chunks(BLOCK_WORDS) {
        let planes = &mut planes[..PLANES * old.len()];
        for (plane, bytes) in planes.chunks_exact_mut(old.len()).enumerate() {
            let refused = |cut| match cut {
                true => DifferenceFault::Short { block: blocks },
                false => DifferenceFault::Plane { block: blocks, plane },
            };
            unpack(&mut rest, bytes).map_err(refused)?;
        }
        for (i, word) in old.iter().enumerate() {
            let step = std::array::from_fn(|plane| planes[plane * old.len() + i]);
            new.extend_from_slice(&forward(*word, u32::from_le_bytes(step)).to_le_bytes());
        }
        blocks += 1;
    }
    let (tail, rest) =
        rest.split_at_checked(old_tail.len()).ok_or(DifferenceFault::Short { block: blocks })?;
    new.extend_from_slice(tail);
    if rest.is_empty() { Ok(new) } else { Err(DifferenceFault::Rest(rest.len())) }
}

/// The step from one word to another, small ones in either direction being small numbers.
fn step(old: [u8; PLANES], new: [u8; PLANES]) -> u32 {
    let step = u32::from_le_bytes(new).wrapping_sub(u32::from_le_bytes(old));
    let sign = (step as i32 >> 31) as u32;
    (step << 1) ^ sign
}

/// Where a step leads from a word.
fn forward(old: [u8; PLANES], step: u32) -> u32 {
    let step = (step >> 1) ^ (step & 1).wrapping_neg();
    u32::from_le_bytes(old).wrapping_add(step)
}

/// Reads the next plane; `Err(true)`: there is not so much.
fn unpack(rest: &mut &[u8], plane: &mut [u8]) -> Result<(), bool> {
    match take(rest, 1)? {
        [ZERO] => plane.fill(0),
        [RAW] => plane.copy_from_slice(take(rest, plane.len())?),
        [DEFLATE] => {
            let length = take(rest, 4)?.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let packed = take(rest, length)?;
            let unpacked = decompress_slice_iter_to_slice(plane, [packed].into_iter(), false, true);
            if unpacked != Ok(plane.len()) {
                return Err(false);
            }
        }
        _ => return Err(false),
    }
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], bool> {
    let (taken, behind) = rest.split_at_checked(bytes).ok_or(true)?;
    *rest = behind;
    Ok(taken)
}

/// Packs blocks; its memory is used again.
struct Packer {
    deflate: CompressorOxide,
    plane: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    fn new() -> Self {
        // A negative window: without the frame of zlib.
        let flags = create_comp_flags_from_zip_params(LEVEL, -15, STRATEGY as i32);
        Self { deflate: CompressorOxide::new(flags), plane: Vec::new(), packed: vec![0; BLOCK_WORDS] }
    }

    fn block(&mut self, old: &[[u8; PLANES]], new: &[[u8; PLANES]], out: &mut Vec<u8>) {
        for plane in 0..PLANES {
            let bytes = old.iter().zip(new).map(|(old, new)| (step(*old, *new) >> (8 * plane)) as u8);
            self.plane.clear();
            self.plane.extend(bytes);
            if self.plane.iter().all(|byte| *byte == 0) {
                out.push(ZERO);
            } else if let Some(packed) = self.pack() {
                out.push(DEFLATE);
                // It is shorter than a plane.
                out.extend_from_slice(&(packed.len() as u32).to_le_bytes());
                out.extend_from_slice(packed);
            } else {
                out.push(RAW);
                out.extend_from_slice(&self.plane);
            }
        }
    }

    /// The plane, where packing makes it shorter.
    fn pack(&mut self) -> Option<&[u8]> {
        if is_even(&self.plane) {
            return None;
        }
        // What would not fit is not shorter.
        let room = self.plane.len().saturating_sub(4);
        self.deflate.reset();
        let (status, _, length) =
            compress(&mut self.deflate, &self.plane, &mut self.packed[..room], TDEFLFlush::Finish);
        (status == TDEFLStatus::Done).then(|| &self.packed[..length])
    }
}

/// Whether all bytes are about equally frequent. By the sum of squares there are 7.98 bits of entropy in a byte then, at
/// least: no code would save more than a few in a thousand, and to find out takes time.
fn is_even(plane: &[u8]) -> bool {
    let mut counts = [0u64; 256];
    for byte in plane {
        counts[usize::from(*byte)] += 1;
    }
    let squares: u64 = counts.iter().map(|count| count * count).sum();
    squares * 252 < (plane.len() * plane.len()) as u64
}

#[cfg(test)]
mod tests;
