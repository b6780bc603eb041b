use super::half::Half;

/// IEEE 754 binary16, little-endian: 5 exponent bits, 11 bits of precision.
///
/// Elements are first clipped to +-65504, the largest finite value, and then rounded to nearest, ties
/// to even. The relative error of an element in 2^-14..=65504 is at most 2^-11, the absolute error
/// below 2^-14 at most 2^-25.
pub(crate) struct Fp16;

/// The largest finite fp16.
const LARGEST: f32 = 65504.0;

/// Bits of 2^-14, the smallest normal fp16, as `f32`.
const SMALLEST_NORMAL: u32 = 113 << 23;

/// What the exponents' biases differ by, in place.
const REBIAS: u32 = (127 - 15) << 23;

impl Half for Fp16 {
    const NAME: &'static str = "fp16";
    const LARGEST: f32 = LARGEST;

    fn round(value: f32) -> u16 {
        round(value)
    }

    fn widen(half: u16) -> f32 {
        widen(half)
    }
}

/// To nearest, ties to even, for magnitudes below 65536. Both cases are computed and one is taken: loops
/// without branches are vectorised.
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // The last place of 0.5 is 2^-24, that of subnormal fp16: the addition rounds to it.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_sub(REBIAS).wrapping_add(0xfff + odd) >> 13;
    let half = if magnitude < SMALLEST_NORMAL { small } else { normal };
    (half | ((bits >> 16) & 0x8000)) as u16
}

/// Exact; infinities and NaN stay what they are.
fn widen(half: u16) -> f32 {
    let magnitude = (u32::from(half) & 0x7fff) << 13;
    let sign = (u32::from(half) & 0x8000) << 16;
    let small = (f32::from_bits(magnitude + SMALLEST_NORMAL) - f32::from_bits(SMALLEST_NORMAL)).to_bits();
    let normal = magnitude + REBIAS;
    let special = magnitude | f32::INFINITY.to_bits();
    let finite = if magnitude < 1 << 23 { small } else { normal };
    let wide = if magnitude >= 0x7c00 << 13 { special } else { finite };
    f32::from_bits(wide | sign)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::Codec;

    #[test]
    fn rounds_to_the_golden_bits() {
        let golden = [
            (65519.996, 0x7bff),
            (65520.0, 0x7c00),
            (0.1, 0x2e66),
            (2049.0, 0x6800),
            (2051.0, 0x6802),
            (5.960_464_5e-8, 0x0001),
            (2.980_232_2e-8, 0x0000),
            (6.09755e-5, 0x03ff),
            (-0.0, 0x8000),
            (-0.1, 0xae66),
            (2f32.powi(-14), 0x0400),
            // Half a step below the smallest normal: the tie goes to the even one, which is normal.
            (2f32.powi(-14) - 2f32.powi(-25), 0x0400),
            (1e-40, 0x0000),
        ];
        for (value, half) in golden {
            assert_eq!(round(value), half, "{value:e}");
        }
    }

    #[test]
    fn clips_instead_of_making_infinities() {
        let mut out = [0; 6];
        Fp16.encode(&[f32::MAX, -65520.0, 65504.0], 0, &mut out);
        assert_eq!(out, [0xff, 0x7b, 0xff, 0xfb, 0xff, 0x7b]);
    }

    #[test]
    fn every_half_has_its_value() {
        for half in 0..=u16::MAX {
            let (exponent, mantissa) = (i32::from(half >> 10 & 0x1f), f64::from(half & 0x3ff));
            let magnitude = match exponent {
                0 => mantissa * 2f64.powi(-24),
                31 if mantissa == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
            };
            let wide = widen(half);
            assert_eq!(wide.is_sign_negative(), half >> 15 == 1, "{half:04x}");
            let same = f64::from(wide.abs()) == magnitude || wide.is_nan() && magnitude.is_nan();
            assert!(same, "{half:04x}: {wide}");
            assert!(!wide.is_finite() || round(wide) == half, "{half:04x}");
        }
    }

    proptest! {
        #[test]
        fn keeps_its_bound(bits in 0u32..0x4780_0000, negative: bool) {
            let value = f32::from_bits(bits | u32::from(negative) << 31).clamp(-LARGEST, LARGEST);
            let exact = f64::from(value);
            let error = (f64::from(widen(round(value))) - exact).abs();
            let bound = if exact.abs() >= 2f64.powi(-14) { exact.abs() / 2048.0 } else { 2f64.powi(-25) };
            prop_assert!(error <= bound, "{value:e}: {error:e}");
        }
    }
}
