use super::{Codec, PayloadFault, SettingError, floats};

/// The largest elements alone: `k = ceil(fraction * n)` ascending indices as `u32`, then their values as
/// `f32`, all little-endian.
///
/// Largest by magnitude, of equal ones those with the lowest indices. What is sent is exact. The rest,
/// `e`, satisfies `|e|^2 <= (1 - k/n) |v|^2`: a contraction, with which SGD with memory converges at
/// the rate of plain SGD (Stich et al., arXiv:1809.07599). It needs error feedback.
pub(crate) struct TopK {
    /// The part of all elements that travels, above 0 and at most 1.
    pub(crate) fraction: f64,
}

/// Bins of a histogram over half of a magnitude's bits.
const BINS: usize = 1 << 16;

impl TopK {
    fn count(&self, elements: usize) -> usize {
        // NaN becomes 0; settings that `validate` refuses must not panic either.
        ((self.fraction * elements as f64).ceil() as usize).clamp(1, elements.max(1)).min(elements)
    }
}

impl Codec for TopK {
    fn name(&self) -> &'static str {
        "top-k"
    }

    fn has_feedback(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), SettingError> {
        let fits = self.fraction > 0.0 && self.fraction <= 1.0;
        fits.then_some(()).ok_or(SettingError::Fraction(self.fraction))
    }

    fn elements_max(&self) -> usize {
        u32::MAX as usize
    }

    fn bytes(&self, elements: usize) -> u64 {
        (self.count(elements) as u64).saturating_mul(8)
    }

    fn encode(&self, values: &[f32], _seed: u64, out: &mut [u8]) {
        let k = self.count(values.len());
        let (indices, body) = out.split_at_mut(4 * k);
        let (threshold, mut ties) = threshold(values, k);
        let mut chosen = indices.as_chunks_mut::<4>().0.iter_mut().zip(body.as_chunks_mut::<4>().0);
        for (index, value) in (0u32..).zip(values) {
            let magnitude = magnitude(*value);
            if magnitude < threshold || (magnitude == threshold && ties == 0) {
                continue;
            }
            ties -= usize::from(magnitude == threshold);
            let Some((at, to)) = chosen.next() else { break };
            (*at, *to) = (index.to_le_bytes(), value.to_le_bytes());
        }
    }

    fn verify(&self, payload: &[u8], elements: usize) -> Result<(), PayloadFault> {
        let mut before = None;
        for (place, index) in indices(payload).iter().map(|bytes| u32::from_le_bytes(*bytes)).enumerate() {
            if let Some(before) = before.filter(|before| *before >= index) {
                return Err(PayloadFault::Order { place, index, before });
            }
            if index as usize >= elements {
                return Err(PayloadFault::Range { place, index, elements });
            }
            before = Some(index);
        }
        Ok(())
    }

    fn decode(&self, payload: &[u8], _elements: usize, start: usize, out: &mut [f32]) {
        out.fill(0.0);
        let indices = indices(payload);
        let values = &payload[4 * indices.len()..];
        let first = indices.partition_point(|bytes| (u32::from_le_bytes(*bytes) as usize) < start);
        for (index, value) in indices[first..].iter().zip(floats(&values[4 * first..])) {
            let Some(to) = out.get_mut(u32::from_le_bytes(*index) as usize - start) else { break };
            *to = value;
        }
    }
}

fn indices(payload: &[u8]) -> &[[u8; 4]] {
    payload[..payload.len() / 2].as_chunks::<4>().0
}

/// Bits that order finite floats by magnitude.
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// The k-th largest magnitude, and how many of those that equal it are among the k largest. In two
/// passes, by the upper and the lower half of its bits: O(n) for any values, without a copy of them.
fn threshold(values: &[f32], k: usize) -> (u32, usize) {
    let mut upper = vec![0u32; BINS];
    values.iter().for_each(|value| upper[(magnitude(*value) >> 16) as usize] += 1);
    let (top, left) = bin_of(&upper, k);
    let mut lower = vec![0u32; BINS];
    let inside = values.iter().map(|value| magnitude(*value)).filter(|bits| bits >> 16 == top);
    inside.for_each(|bits| lower[(bits & 0xffff) as usize] += 1);
    let (bottom, ties) = bin_of(&lower, left);
    (top << 16 | bottom, ties)
}

/// The bin that holds the `k`-th from above, and how many of the k are in it.
fn bin_of(counts: &[u32], k: usize) -> (u32, usize) {
    let mut left = k;
    for (bin, count) in counts.iter().enumerate().rev() {
        if left <= *count as usize {
            return (bin as u32, left);
        }
        left -= *count as usize;
    }
    (0, left)
}
