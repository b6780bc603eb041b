use super::half::Half;

/// The upper half of an IEEE 754 `f32`, little-endian: 8 exponent bits, 8 bits of precision.
///
/// Rounds to nearest, ties to even. The relative error of a normal element is at most 2^-8, the
/// absolute error of a subnormal one at most 2^-134. Elements beyond the largest finite value,
/// 3.3895e38, are clipped to it, within the same relative error: an encoder never makes an infinity.
/// Bits as in Kalamkar et al., "A study of bfloat16 for deep learning training", arXiv:1905.12322.
pub(crate) struct Bf16;

/// The largest finite bf16.
const LARGEST: f32 = f32::from_bits(0x7f7f_0000);

impl Half for Bf16 {
    const NAME: &'static str = "bf16";
    const LARGEST: f32 = LARGEST;

    fn round(value: f32) -> u16 {
        round(value)
    }

    fn widen(half: u16) -> f32 {
        widen(half)
    }
}

/// To nearest, ties to even; a NaN becomes the quiet one.
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return 0x7fc0;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Exact.
fn widen(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::Codec;

    #[test]
    fn rounds_to_the_golden_bits() {
        let golden = [
            (0x3f80_8000, 0x3f80),
            (0x3f81_8000, 0x3f82),
            (0x3f80_8001, 0x3f81),
            (0x3dcc_cccd, 0x3dcd),
            (0x7f7f_ffff, 0x7f80),
            (0x7f7f_7fff, 0x7f7f),
            (0x7f80_0001, 0x7fc0),
            (0x8000_0000, 0x8000),
        ];
        for (bits, half) in golden {
            assert_eq!(round(f32::from_bits(bits)), half, "{bits:08x}");
        }
    }

    #[test]
    fn clips_instead_of_making_infinities() {
        let mut out = [0; 6];
        Bf16.encode(&[f32::MAX, f32::MIN, LARGEST], 0, &mut out);
        assert_eq!(out, [0x7f, 0x7f, 0x7f, 0xff, 0x7f, 0x7f]);
    }

    #[test]
    fn every_half_is_its_own_rounding() {
        for half in 0..=u16::MAX {
            let back = round(widen(half));
            assert!(back == half || widen(half).is_nan() && back == 0x7fc0, "{half:04x}");
        }
    }

    proptest! {
        #[test]
        fn keeps_its_bound(bits in 0u32..0x7f80_0000, negative: bool) {
            let value = f32::from_bits(bits | u32::from(negative) << 31);
            let error = (f64::from(widen(round(value.clamp(-LARGEST, LARGEST)))) - f64::from(value)).abs();
            let bound = if value.is_normal() { f64::from(value).abs() / 256.0 } else { 2f64.powi(-134) };
            prop_assert!(error <= bound, "{value:e}: {error:e}");
        }
    }
}
