use proptest::prelude::*;

use super::*;

/// Scales and levels with the same noise for all values; `1 << 31` is u = 0.5, which rounds to nearest.
fn quantised(values: &[f32], levels: &Levels, noise: u32) -> (Vec<f32>, Vec<i8>) {
    let (mut head, mut all) = (vec![0; levels.head(values.len())], Vec::new());
    let fill = |bytes: &mut [u8]| bytes.as_chunks_mut::<4>().0.fill(noise.to_le_bytes());
    levels.encode_with(values, fill, &mut head, |first, levels| {
        assert_eq!(first, all.len());
        all.extend_from_slice(levels);
    });
    (floats(&head).collect(), all)
}

const HALF: u32 = 1 << 31;

#[test]
fn nearest_levels_are_the_golden_ones() {
    let values = [0.6, -0.8, 0.0, 0.3, 0.1];
    let (scales, levels) = quantised(&values, &Levels { block: 256, max: 127 }, HALF);
    assert_eq!(levels, [95, -127, 0, 48, 16]);
    let golden = [0.59842519685, -0.8, 0.0, 0.302362204724, 0.100787401575];
    for (level, golden) in levels.iter().zip(golden) {
        // The scale is rounded up to 17 bits.
        let value = f64::from(f32::from(*level) * scales[0]);
        assert!((value - golden).abs() <= golden.abs() * 2f64.powi(-16), "{value}, expected {golden}");
    }
    let (_, levels) = quantised(&values, &Levels { block: 128, max: 7 }, HALF);
    assert_eq!(levels, [5, -7, 0, 3, 1]);
}

#[test]
fn noise_rounds_down_or_up() {
    let levels = Levels { block: 4, max: 7 };
    // A scale of 1: 2.25 rounds up with the upper quarter of all noise, -2.25 with three quarters.
    let values = [7.0, 2.25, -2.25, -7.0];
    assert_eq!(quantised(&values, &levels, 0).1, [7, 2, -3, -7]);
    assert_eq!(quantised(&values, &levels, (1 << 30) - 1).1, [7, 2, -3, -7]);
    assert_eq!(quantised(&values, &levels, 1 << 30).1, [7, 2, -2, -7]);
    assert_eq!(quantised(&values, &levels, (3 << 30) - 1).1, [7, 2, -2, -7]);
    assert_eq!(quantised(&values, &levels, 3 << 30).1, [7, 3, -2, -7]);
    assert_eq!(quantised(&values, &levels, u32::MAX).1, [7, 3, -2, -7]);
}

#[test]
fn blocks_have_their_own_scales() {
    let (scales, levels) = quantised(&[7.0, 3.5, 70.0, 0.0, 0.0], &Levels { block: 2, max: 7 }, HALF);
    assert_eq!(scales, [1.0, 10.0, 0.0]);
    assert_eq!(levels, [7, 4, 7, 0, 0]);
}

#[test]
fn the_largest_floats_stay_finite() {
    for max in [7, 127] {
        let values = [f32::MAX, f32::MIN, f32::MAX / 2.0];
        let (scales, levels) = quantised(&values, &Levels { block: 8, max }, HALF);
        assert_eq!(levels[..2], [max as i8, -(max as i8)]);
        let top = f32::from(max) * scales[0];
        assert!(top.is_finite() && top >= f32::MAX * (1.0 - 2f32.powi(-16)), "{top:e}");
    }
}

#[test]
fn a_negative_or_infinite_scale_is_refused() {
    let levels = Levels { block: 1, max: 127 };
    for bad in [-0.0f32, -1.0, f32::INFINITY, f32::NAN] {
        let head: Vec<u8> = [1.0, bad].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        assert!(matches!(levels.verify(&head), Err(PayloadFault::Scale { block: 1, .. })), "{bad}");
    }
    assert_eq!(levels.verify(&[0; 8]), Ok(()));
}

fn level_max() -> impl Strategy<Value = u8> {
    prop_oneof![Just(7u8), Just(127u8)]
}

proptest! {
    /// No value is beyond the top level, and products are exact.
    #[test]
    fn scales_cover_and_are_short(bits in 1u32..0x7f00_0000, max in level_max()) {
        let largest = f32::from_bits(bits);
        let scale = scale_of(largest, max);
        prop_assert!(f64::from(scale) * f64::from(max) >= f64::from(largest));
        for level in -i16::from(max)..=i16::from(max) {
            let exact = f64::from(level) * f64::from(scale);
            prop_assert_eq!(f64::from(f32::from(level) * scale), exact);
            prop_assert_eq!((exact as f32) / scale, f32::from(level));
        }
        if scale.is_normal() {
            let longer = f64::from(scale) * f64::from(max) / f64::from(largest) - 1.0;
            prop_assert!(longer <= if max == 127 { 2f64.powi(-16) } else { 2f64.powi(-20) }, "{}", longer);
        }
    }

    /// The mean over all noise is `value / scale`, within its own rounding and 2^-24: between the noise at
    /// which the level steps up and the fraction there is no room for more.
    #[test]
    fn expectation_is_the_quotient(part in -1f64..=1.0, bits in 1u32..0x7f00_0000, max in level_max()) {
        let largest = f32::from_bits(bits);
        let (scale, value) = (scale_of(largest, max), (part * f64::from(largest)) as f32);
        let at = |noise: u32| i64::from(level(value, scale, f32::from(max), noise << 8));
        let (low, steps) = (at(0), 1u32 << 24);
        prop_assert!(at(steps - 1) - low <= 1);
        // Bisection: from which noise on it is the upper level.
        let (mut below, mut above) = (0, steps);
        while above - below > 1 {
            let middle = below.midpoint(above);
            if at(middle) > low { above = middle } else { below = middle }
        }
        let mean = low as f64 + f64::from(steps - above) / f64::from(steps);
        let exact = f64::from(value) / f64::from(scale);
        let bound = 2f64.powi(-24) * (exact.abs() + 1.0);
        prop_assert!((mean - exact).abs() <= bound, "{} for {}", mean, exact);
    }
}
