use super::{Codec, PayloadFault, floats, is_scale, put_floats};

/// The mean magnitude as `f32`, little-endian, then one bit per element, set when it is negative. Bits
/// behind the last element are 0, and so is the sign of both zeros.
///
/// Karimireddy et al. (EF-signSGD), arXiv:1901.09847: `C(v) = mean|v| * sign(v)` with error feedback.
/// The rest, `e`, satisfies `|e|^2 = (1 - d) |v|^2` with `d = |v|_1^2 / (n |v|^2)`, at least 1/n: a
/// contraction. No element is off by more than the largest magnitude.
pub(crate) struct Sign;

/// Partial sums, so that additions need not wait for each other. Part of what decides the bits.
const LANES: usize = 8;

impl Codec for Sign {
    fn name(&self) -> &'static str {
        "sign"
    }

    fn has_feedback(&self) -> bool {
        true
    }

    fn bytes(&self, elements: usize) -> u64 {
        4 + elements.div_ceil(8) as u64
    }

    fn encode(&self, values: &[f32], _seed: u64, out: &mut [u8]) {
        let (head, body) = out.split_at_mut(4);
        put_floats([mean_magnitude(values)], head);
        let (eights, rest) = values.as_chunks::<8>();
        for (to, values) in body.iter_mut().zip(eights) {
            *to = signs(values);
        }
        if let Some(last) = body.get_mut(eights.len()) {
            *last = signs(rest);
        }
    }

    fn verify(&self, payload: &[u8], elements: usize) -> Result<(), PayloadFault> {
        let (head, body) = payload.split_at(4);
        if let Some(value) = floats(head).find(|scale| !is_scale(*scale)) {
            return Err(PayloadFault::Scale { block: 0, value });
        }
        match (elements % 8, body.last()) {
            (used @ 1.., Some(last)) if last >> used != 0 => Err(PayloadFault::Padding),
            _ => Ok(()),
        }
    }

    fn decode(&self, payload: &[u8], _elements: usize, start: usize, out: &mut [f32]) {
        let (head, body) = payload.split_at(4);
        let scale = floats(head).next().unwrap_or(0.0).to_bits();
        let signed = |byte: u8, bit: usize| f32::from_bits(scale | u32::from(byte >> bit & 1) << 31);
        let to_boundary = (start.next_multiple_of(8) - start).min(out.len());
        let (odd, eights) = out.split_at_mut(to_boundary);
        for (bit, to) in (start % 8..).zip(odd) {
            *to = signed(body[start / 8], bit);
        }
        let bytes = &body[start.div_ceil(8).min(body.len())..];
        let (eights, last) = eights.as_chunks_mut::<8>();
        for (to, byte) in eights.iter_mut().zip(bytes) {
            *to = std::array::from_fn(|bit| signed(*byte, bit));
        }
        for (bit, to) in last.iter_mut().enumerate() {
            *to = signed(bytes[eights.len()], bit);
        }
    }
}

/// A bit for each of at most 8 values.
fn signs(values: &[f32]) -> u8 {
    let bit = |(bit, value): (usize, &f32)| u8::from(*value < 0.0) << bit;
    values.iter().enumerate().map(bit).fold(0, |byte, bit| byte | bit)
}

/// Summed in `f64`, element `i` in lane `i % 8`, and rounded once.
fn mean_magnitude(values: &[f32]) -> f32 {
    let mut lanes = [0f64; LANES];
    let (eights, rest) = values.as_chunks::<LANES>();
    for values in eights {
        for (sum, value) in lanes.iter_mut().zip(values) {
            *sum += f64::from(value.abs());
        }
    }
    for (sum, value) in lanes.iter_mut().zip(rest) {
        *sum += f64::from(value.abs());
    }
    if values.is_empty() { 0.0 } else { (lanes.iter().sum::<f64>() / values.len() as f64) as f32 }
}
