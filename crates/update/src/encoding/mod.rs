//! Encodings of a vector of floats: one encoding, one file.

mod bf16;
mod float32;
mod fp16;
mod half;
mod int4;
mod int8;
mod levels;
mod sign;
mod top_k;

pub(crate) use bf16::Bf16;
pub(crate) use float32::Float32;
pub(crate) use fp16::Fp16;
pub(crate) use int4::Int4;
pub(crate) use int8::Int8;
pub(crate) use sign::Sign;
pub(crate) use top_k::TopK;

/// One encoding with its settings. The catalog checks what all share: that values are finite, that a
/// payload has its length, and that a range lies inside.
pub(crate) trait Codec {
    /// The word in a job file.
    fn name(&self) -> &'static str;

    /// Whether what is left out must be sent later, for training to converge.
    fn has_feedback(&self) -> bool {
        false
    }

    /// Whether the settings make sense.
    fn validate(&self) -> Result<(), SettingError> {
        Ok(())
    }

    /// The most elements that it can address.
    fn elements_max(&self) -> usize {
        usize::MAX
    }

    /// The length of a payload.
    fn bytes(&self, elements: usize) -> u64;

    /// Fills `out`, zeros of the right length, from finite values.
    fn encode(&self, values: &[f32], seed: u64, out: &mut [u8]);

    /// What the length does not tell about a payload.
    fn verify(&self, payload: &[u8], elements: usize) -> Result<(), PayloadFault>;

    /// Elements `start..start + out.len()` of a payload that was verified.
    fn decode(&self, payload: &[u8], elements: usize, start: usize, out: &mut [f32]);
}

/// Why settings do not make an [`Encoding`](crate::Encoding).
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// The block of a quantiser.
    #[error("block of {found} elements must be in 1..={max}")]
    Block {
        /// The setting.
        found: u32,
        /// The largest block.
        max: u32,
    },
    /// The fraction of elements that top-k sends.
    #[error("fraction {0} must be above 0 and at most 1")]
    Fraction(f64),
}

/// Why values cannot be encoded; nothing is written then.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// An element is NaN or infinite.
    #[error("element {index} is {value}, every element must be finite")]
    NotFinite {
        /// The index of the element.
        index: usize,
        /// The element.
        value: f32,
    },
    /// The encoding cannot address so many elements.
    #[error("{found} elements, {encoding} has at most {max}: choose another encoding")]
    TooMany {
        /// The name of the encoding.
        encoding: &'static str,
        /// Elements to encode.
        found: usize,
        /// The most that it addresses.
        max: usize,
    },
}

/// Why bytes are not a payload of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PayloadFault {
    /// Cut short, or made for another number of elements.
    #[error("{found} bytes, expected {expected}")]
    Length {
        /// Bytes that were given.
        found: u64,
        /// Bytes that the encoding has for the elements.
        expected: u64,
    },
    /// The encoding cannot address so many elements.
    #[error("{found} elements, at most {max} can be addressed")]
    TooMany {
        /// Elements of the model.
        found: usize,
        /// The most that the encoding addresses.
        max: usize,
    },
    /// A scale is negative, infinite or NaN.
    #[error("scale {value} of block {block}, every scale must be finite and at least 0")]
    Scale {
        /// The block of elements that has it.
        block: usize,
        /// The scale.
        value: f32,
    },
    /// A level beyond the symmetric range, which no encoder writes.
    #[error("level {level} at element {index}, levels are within {max} of 0")]
    Level {
        /// The element.
        index: usize,
        /// Its level.
        level: i32,
        /// The largest magnitude.
        max: u8,
    },
    /// An index that does not come after the one before it.
    #[error("index {index} at place {place} follows {before}, indices must ascend")]
    Order {
        /// The place in the list of indices.
        place: usize,
        /// The index there.
        index: u32,
        /// The index in front of it.
        before: u32,
    },
    /// An index behind the last element.
    #[error("index {index} at place {place}, the update has {elements} elements")]
    Range {
        /// The place in the list of indices.
        place: usize,
        /// The index there.
        index: u32,
        /// Elements of the update.
        elements: usize,
    },
    /// Bits behind the last element are set.
    #[error("bits are set behind the last element, they must be 0")]
    Padding,
}

/// Little-endian floats; a rest of fewer than 4 bytes is left out.
fn floats(bytes: &[u8]) -> impl ExactSizeIterator<Item = f32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

/// Writes little-endian floats over `out`, which has 4 bytes for each.
fn put_floats(values: impl IntoIterator<Item = f32>, out: &mut [u8]) {
    for (to, value) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *to = value.to_le_bytes();
    }
}

/// Whether a float is finite and not negative; -0 has no use as a scale and is refused too.
fn is_scale(value: f32) -> bool {
    value.to_bits() < f32::INFINITY.to_bits()
}

#[cfg(test)]
mod tests;
