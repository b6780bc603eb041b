//! What the quantisers share: scales of blocks, and stochastic rounding to levels.

use params::Rng;

use super::{PayloadFault, SettingError, floats, is_scale, put_floats};

/// Values that are rounded in one go.
pub(super) const PIECE: usize = 256;

/// The largest block, in elements.
const BLOCK_MAX: u32 = 1 << 20;

/// Bits of noise for each value.
const NOISE_BITS: u32 = 24;

/// A block of values has one scale, and each value is a whole number of scales, at most `max` of them
/// on either side of 0. `max` is 2^bits - 1.
pub(super) struct Levels {
    pub(super) block: usize,
    pub(super) max: u8,
}

/// The block as it is computed with: settings that [`validate`] refuses must not panic either.
pub(super) fn block(setting: u32) -> usize {
    setting.max(1) as usize
}

/// The bytes of the scales of so many elements.
pub(super) fn head_bytes(elements: usize, block_setting: u32) -> u64 {
    (elements.div_ceil(block(block_setting)) as u64).saturating_mul(4)
}

pub(super) fn validate(block: u32) -> Result<(), SettingError> {
    match block {
        1..=BLOCK_MAX => Ok(()),
        found => Err(SettingError::Block { found, max: BLOCK_MAX }),
    }
}

impl Levels {
    /// The bytes of all scales, which are the head of a payload.
    pub(super) fn head(&self, elements: usize) -> usize {
        elements.div_ceil(self.block) * 4
    }

    /// Writes the scales, and hands each piece of levels to `put` with the index of its first element.
    ///
    /// The noise of an element depends on the seed, the name and its index only.
    pub(super) fn encode(
        &self,
        values: &[f32],
        (seed, name): (u64, &str),
        head: &mut [u8],
        put: impl FnMut(usize, &[i8]),
    ) {
        let mut rng = Rng::new(seed, &["round stochastically", name]);
        self.encode_with(values, |noise| rng.fill(noise), head, put);
    }

    /// [`Levels::encode`] with noise from elsewhere: 4 bytes for each value, of which the upper
    /// 24 bits count.
    pub(super) fn encode_with(
        &self,
        values: &[f32],
        mut fill: impl FnMut(&mut [u8]),
        head: &mut [u8],
        mut put: impl FnMut(usize, &[i8]),
    ) {
        let scale = |block: &[f32]| scale_of(largest(block), self.max);
        put_floats(values.chunks(self.block).map(scale), head);
        let (mut noise, mut levels) = ([0; 4 * PIECE], [0; PIECE]);
        let mut first = 0;
        for (block, scale) in values.chunks(self.block).zip(floats(head)) {
            for piece in block.chunks(PIECE) {
                let noise = &mut noise[..4 * piece.len()];
                fill(noise);
                let levels = &mut levels[..piece.len()];
                for ((to, value), noise) in levels.iter_mut().zip(piece).zip(noise.as_chunks::<4>().0) {
                    *to = level(*value, scale, f32::from(self.max), u32::from_le_bytes(*noise));
                }
                put(first, levels);
                first += piece.len();
            }
        }
    }

    /// Checks the scales.
    pub(super) fn verify(&self, head: &[u8]) -> Result<(), PayloadFault> {
        match floats(head).position(|scale| !is_scale(scale)) {
            None => Ok(()),
            Some(block) => {
                let value = floats(&head[4 * block..]).next().expect("it was found there");
                Err(PayloadFault::Scale { block, value })
            }
        }
    }

    /// The parts of `out`, which starts at element `start`, that have one scale: calls `part` with the
    /// scale, the index of the first element, and the part.
    pub(super) fn decode(
        &self,
        head: &[u8],
        start: usize,
        out: &mut [f32],
        mut part: impl FnMut(f32, usize, &mut [f32]),
    ) {
        let (mut at, mut rest) = (start, out);
        for scale in floats(&head[4 * (start / self.block)..]) {
            let here = (self.block - at % self.block).min(rest.len());
            let (now, later) = rest.split_at_mut(here);
            part(scale, at, now);
            (at, rest) = (at + here, later);
            if rest.is_empty() {
                break;
            }
        }
    }
}

/// The largest magnitude. As integers: these are compared in any order, floats are not.
fn largest(block: &[f32]) -> f32 {
    let bits = block.iter().fold(0, |max: i32, value| max.max((value.to_bits() & 0x7fff_ffff) as i32));
    f32::from_bits(bits as u32)
}

/// `largest / max`, rounded up to 24 bits less those of `max`.
///
/// Rounded up, so that no value is beyond `max` scales; clipping would be a bias. With so few bits
/// each `level * scale` is exact, so that what was decoded can be encoded again as the same bytes.
/// It is larger than the quotient by at most a part in 2^16 for 127 levels and in 2^20 for 7 (more in
/// subnormals, which cannot say it better). Only values within that part of `f32::MAX` are clipped,
/// since `max * scale` must be finite.
fn scale_of(largest: f32, max: u8) -> f32 {
    let nearest = (f64::from(largest) / f64::from(max)) as f32;
    let below = f64::from(nearest) * f64::from(max) < f64::from(largest);
    let bits = nearest.to_bits() + u32::from(below);
    let spare = u32::from(max);
    let short = if bits < (1 << 24) / (spare + 1) { bits } else { (bits + spare) & !spare };
    f32::from_bits(short.min((f32::MAX / f32::from(max)).to_bits() & !spare))
}

/// `floor(value / scale + noise / 2^32)`, of the noise its upper 24 bits.
///
/// In fixed point: `value / scale` is a multiple of 2^-24 from 1 on, and is cut to one below. So the
/// expectation is the quotient, off by at most its own rounding to `f32` and 2^-24.
fn level(value: f32, scale: f32, max: f32, noise: u32) -> i8 {
    // 0 / 0 is NaN, which becomes 0.
    let fixed = ((value / scale).clamp(-max, max) * (1 << NOISE_BITS) as f32) as i32;
    // At most 127 * 2^24 + 2^24 - 1: no sum wraps.
    (fixed.wrapping_add((noise >> (32 - NOISE_BITS)) as i32) >> NOISE_BITS) as i8
}

#[cfg(test)]
mod tests;
