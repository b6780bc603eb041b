use super::{Codec, PayloadFault, floats, put_floats};

/// Every element as it is: 4 bytes, little-endian. No error, and any bytes are a payload.
pub(crate) struct Float32;

impl Codec for Float32 {
    fn name(&self) -> &'static str {
        "f32"
    }

    fn bytes(&self, elements: usize) -> u64 {
        (elements as u64).saturating_mul(4)
    }

    fn encode(&self, values: &[f32], _seed: u64, out: &mut [u8]) {
        put_floats(values.iter().copied(), out);
    }

    fn verify(&self, _payload: &[u8], _elements: usize) -> Result<(), PayloadFault> {
        Ok(())
    }

    fn decode(&self, payload: &[u8], _elements: usize, start: usize, out: &mut [f32]) {
        for (to, value) in out.iter_mut().zip(floats(&payload[4 * start..])) {
            *to = value;
        }
    }
}
