use crate::encoding::{
    Bf16, Codec, EncodeError, Float32, Fp16, Int4, Int8, PayloadFault, SettingError, Sign, TopK,
};

/// The names of all encodings.
pub const ENCODINGS: [&str; 7] = ["f32", "bf16", "fp16", "int8", "int4", "top-k", "sign"];

/// How a vector of floats travels: the only list of encodings. A new one has a variant and a name here, an
/// arm in `with_codec` and in `named`, and a file in `encoding/`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    /// 4 bytes per element, exact.
    F32,
    /// 2 bytes; relative error 2^-8.
    Bf16,
    /// 2 bytes; relative error 2^-11 from 2^-14 on, clipped to +-65504.
    Fp16,
    /// 1 byte and a scale per block; unbiased.
    Int8 {
        /// Elements that share a scale; usually 256.
        block: u32,
    },
    /// Half a byte and a scale per block; unbiased.
    Int4 {
        /// Elements that share a scale; usually 128.
        block: u32,
    },
    /// 8 bytes for each of the largest elements; the others stay behind, so it needs error feedback.
    TopK {
        /// The part of all elements that travels, above 0 and at most 1.
        fraction: f64,
    },
    /// 1 bit per element and one magnitude for all; needs error feedback.
    Sign,
}

impl Encoding {
    /// The encoding of this name with its usual settings: blocks of 256 (`int8`) and 128 (`int4`), a
    /// tenth of all elements (`top-k`).
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "f32" => Self::F32,
            "bf16" => Self::Bf16,
            "fp16" => Self::Fp16,
            "int8" => Self::Int8 { block: 256 },
            "int4" => Self::Int4 { block: 128 },
            "top-k" => Self::TopK { fraction: 0.1 },
            "sign" => Self::Sign,
            _ => return None,
        })
    }

    /// The word for it in a job file.
    pub fn name(&self) -> &'static str {
        self.with_codec(|codec| codec.name())
    }

    /// Whether a worker must add what was left out to its next update ([`crate::remainder`]).
    pub fn has_feedback(&self) -> bool {
        self.with_codec(|codec| codec.has_feedback())
    }

    /// Whether the settings make sense.
    ///
    /// # Errors
    /// See [`SettingError`].
    pub fn validate(&self) -> Result<(), SettingError> {
        self.with_codec(|codec| codec.validate())
    }

    /// The exact length of a payload of so many elements.
    pub fn bytes(&self, elements: usize) -> u64 {
        self.with_codec(|codec| codec.bytes(elements))
    }

    /// Appends the payload of `values`, exactly [`Encoding::bytes`] of them. `seed` decides how the
    /// quantisers round: another one for each worker and round.
    ///
    /// # Errors
    /// See [`EncodeError`]; `out` is left as it was.
    pub fn encode(&self, values: &[f32], seed: u64, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.with_codec(|codec| {
            let (found, max) = (values.len(), codec.elements_max());
            if found > max {
                return Err(EncodeError::TooMany { encoding: codec.name(), found, max });
            }
            if let Some(index) = first_beyond(values, f32::MAX) {
                return Err(EncodeError::NotFinite { index, value: values[index] });
            }
            let start = out.len();
            let bytes =
                usize::try_from(codec.bytes(found)).expect("at most 8 bytes for each float in memory");
            out.resize(start + bytes, 0);
            codec.encode(values, seed, &mut out[start..]);
            Ok(())
        })
    }

    /// Whether `payload` has the structure of an update of `elements` elements. Elements themselves may
    /// still be infinite or NaN: [`crate::check`] looks at them.
    ///
    /// # Errors
    /// See [`PayloadFault`].
    pub fn verify(&self, payload: &[u8], elements: usize) -> Result<(), PayloadFault> {
        self.with_codec(|codec| {
            let max = codec.elements_max();
            if elements > max {
                return Err(PayloadFault::TooMany { found: elements, max });
            }
            let (found, expected) = (payload.len() as u64, codec.bytes(elements));
            if found != expected {
                return Err(PayloadFault::Length { found, expected });
            }
            codec.verify(payload, elements)
        })
    }

    /// Elements `start..start + out.len()` of a payload of `elements` elements that
    /// [`Encoding::verify`] accepted.
    ///
    /// # Panics
    /// When the range is not inside, or the payload has another length.
    pub fn decode(&self, payload: &[u8], elements: usize, start: usize, out: &mut [f32]) {
        let inside = start <= elements && out.len() <= elements - start;
        assert!(inside, "{} elements from {start} on, of {elements}", out.len());
        self.with_codec(|codec| {
            assert_eq!(
                payload.len() as u64,
                codec.bytes(elements),
                "a payload is verified before it is decoded"
            );
            if !out.is_empty() {
                codec.decode(payload, elements, start, out);
            }
        });
    }

    fn with_codec<T>(&self, then: impl FnOnce(&dyn Codec) -> T) -> T {
        match *self {
            Self::F32 => then(&Float32),
            Self::Bf16 => then(&Bf16),
            Self::Fp16 => then(&Fp16),
            Self::Int8 { block } => then(&Int8 { block }),
            Self::Int4 { block } => then(&Int4 { block }),
            Self::TopK { fraction } => then(&TopK { fraction }),
            Self::Sign => then(&Sign),
        }
    }
}

/// The first element that is NaN or has a magnitude beyond `bound`, which is finite and at least 0.
pub(crate) fn first_beyond(values: &[f32], bound: f32) -> Option<usize> {
    let limit = bound.to_bits() as i32;
    // Bits of magnitudes are ordered as these are, NaN above all. A difference has its sign bit set where
    // one is beyond: no branch for each element.
    let over = |value: &f32| limit - (value.to_bits() & 0x7fff_ffff) as i32;
    let any = values.iter().fold(0, |any, value| any | over(value)) < 0;
    if any { values.iter().position(|value| over(value) < 0) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_the_name_of_its_encoding() {
        for name in ENCODINGS {
            let encoding = Encoding::named(name).unwrap();
            assert_eq!(encoding.name(), name);
            assert_eq!(encoding.validate(), Ok(()));
            assert_eq!(encoding.has_feedback(), ["top-k", "sign"].contains(&name));
        }
        assert_eq!(Encoding::named("F32"), None);
    }

    #[test]
    fn settings_have_bounds() {
        for encoding in [Encoding::Int8 { block: 0 }, Encoding::Int4 { block: 0 }] {
            let error = encoding.validate().unwrap_err().to_string();
            assert_eq!(error, "block of 0 elements must be in 1..=1048576");
        }
        for fraction in [0.0, -0.1, 1.1, f64::INFINITY] {
            let error = Encoding::TopK { fraction }.validate();
            assert_eq!(error, Err(SettingError::Fraction(fraction)));
        }
        assert!(Encoding::TopK { fraction: f64::NAN }.validate().is_err());
    }

    #[test]
    fn finds_the_first_beyond() {
        let values = [0.0, -2.0, 2.0, -2.1, f32::NAN];
        assert_eq!(first_beyond(&values, 2.0), Some(3));
        assert_eq!(first_beyond(&values, f32::MAX), Some(4));
        assert_eq!(first_beyond(&values[..3], 2.0), None);
        assert_eq!(first_beyond(&[-0.0, f32::from_bits(1)], 0.0), Some(1));
        assert_eq!(first_beyond(&[1.0, f32::NEG_INFINITY, -f32::NAN], f32::MAX), Some(1));
    }
}
