use super::{Codec, PayloadFault};

/// An encoding of two bytes per element: clip, round, and back.
pub(crate) trait Half {
    /// The word in a job file.
    const NAME: &'static str;

    /// The largest finite value: what is beyond is clipped to it, so that no infinity is made.
    const LARGEST: f32;

    /// To nearest, ties to even.
    fn round(value: f32) -> u16;

    /// Exact.
    fn widen(half: u16) -> f32;
}

impl<H: Half> Codec for H {
    fn name(&self) -> &'static str {
        H::NAME
    }

    fn bytes(&self, elements: usize) -> u64 {
        (elements as u64).saturating_mul(2)
    }

    fn encode(&self, values: &[f32], _seed: u64, out: &mut [u8]) {
        for (to, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
            *to = H::round(value.clamp(-H::LARGEST, H::LARGEST)).to_le_bytes();
        }
    }

    fn verify(&self, _payload: &[u8], _elements: usize) -> Result<(), PayloadFault> {
        Ok(())
    }

    fn decode(&self, payload: &[u8], _elements: usize, start: usize, out: &mut [f32]) {
        for (to, half) in out.iter_mut().zip(payload[2 * start..].as_chunks::<2>().0) {
            *to = H::widen(u16::from_le_bytes(*half));
        }
    }
}
