//! The inner loops of the sum: portable code that the compiler vectorises, compiled once for every processor
//! and once for those with AVX2, which is chosen when the program runs. Both do the same operations, in the
//! same order for each element, so they give the same bits.
//!
//! An update is read as the little-endian bytes that came over the wire; nothing is copied.

/// 1.5 * 2^52: adding it to an `f64` of magnitude up to 2^51 rounds that to an integer, half to even, which then
/// stands in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// The same for multiples of 2^11 of magnitude up to 2^62.
const MAGIC_HIGH: f64 = MAGIC * 2048.0;

/// What both constants leave in the sum of the two halves.
const LEFT: i64 = ((MAGIC_HIGH.to_bits() as i64) << 11).wrapping_add(MAGIC.to_bits() as i64);

/// `sums[i] += round(update[i] * factor)`, half to even, wrapping. The product must be exact in `f64` and at
/// most 2^62: [`crate::Scale`] sees to that.
pub(crate) fn fold(sums: &mut [i64], update: &[u8], factor: f64) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        #[allow(unsafe_code)]
        unsafe {
            return fold_avx2(sums, update, factor);
        }
    }
    fold_portable(sums, update, factor);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fold_avx2(sums: &mut [i64], update: &[u8], factor: f64) {
    fold_portable(sums, update, factor);
}

#[inline(always)]
fn fold_portable(sums: &mut [i64], update: &[u8], factor: f64) {
    for (sum, bytes) in sums.iter_mut().zip(update.as_chunks::<4>().0) {
        *sum = sum.wrapping_add(round(f64::from(f32::from_le_bytes(*bytes)) * factor));
    }
}

/// The nearest integer, half to even, for magnitudes up to 2^62. The value is cut in a multiple of 2^11 and a
/// rest; both are exact, and each is rounded by the addition of a constant. No vector instruction before AVX-512
/// converts an `f64` to an `i64`.
#[inline(always)]
fn round(value: f64) -> i64 {
    let high = value + MAGIC_HIGH;
    let low = (value - (high - MAGIC_HIGH)) + MAGIC;
    ((high.to_bits() as i64) << 11).wrapping_add(low.to_bits() as i64).wrapping_sub(LEFT)
}

/// `sums[i] / divisor` as `f32` into `out`, where `f64` decides its rounding; the indices where it does not are
/// passed to `exactly`, which is rare.
///
/// The quotient in `f64` is off by less than two of its last places. So it rounds to the `f32` to which the true
/// quotient rounds, unless it is that near to the middle between two of them.
pub(crate) fn divide(
    sums: &[i64],
    divisor: f64,
    out: &mut [f32],
    mut exactly: impl FnMut(usize, i64) -> f32,
) {
    const BLOCK: usize = 256;
    for (block, (sums, out)) in sums.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).enumerate() {
        if divide_block(sums, divisor, out) {
            continue;
        }
        for (at, (&sum, out)) in sums.iter().zip(out).enumerate() {
            if is_close(sum as f64 / divisor) {
                *out = exactly(block * BLOCK + at, sum);
            }
        }
    }
}

/// Whether `f64` decided all of them.
fn divide_block(sums: &[i64], divisor: f64, out: &mut [f32]) -> bool {
    let mut close = false;
    for (&sum, out) in sums.iter().zip(out) {
        let quotient = sum as f64 / divisor;
        close |= is_close(quotient);
        *out = quotient as f32;
    }
    !close
}

/// Whether an `f64` is within four of its last places of the middle between two `f32`s, or in the range where
/// `f32`s are subnormal and the middle stands elsewhere.
#[inline(always)]
fn is_close(quotient: f64) -> bool {
    let bits = quotient.to_bits();
    let middle = ((bits & 0x1fff_ffff) as u32).wrapping_sub(0x1000_0000 - 4) <= 8;
    let magnitude = bits & (u64::MAX >> 1);
    let subnormal = magnitude != 0 && magnitude < 0x3810_0000_0000_0000;
    middle | subnormal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_half_to_even_up_to_the_bound() {
        for (value, expected) in [
            (0.0, 0),
            (0.5, 0),
            (1.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (2.5, 2),
            (1024.0, 1024),
            (1024.5, 1024),
            (1025.5, 1026),
            (2f64.powi(51) + 0.5, 1 << 51),
            (2f64.powi(51) + 1.5, (1 << 51) + 2),
            (2f64.powi(62), 1 << 62),
            (-2f64.powi(62), -(1 << 62)),
            (2f64.powi(62).next_down(), (1 << 62) - 512),
        ] {
            assert_eq!(round(value), expected, "{value}");
        }
    }

    #[test]
    fn the_middle_and_what_is_near_it_is_close() {
        let middle = (f64::from(1.0f32) + f64::from(1.0f32.next_up())) / 2.0;
        let mut near = middle;
        for _ in 0..4 {
            assert!(is_close(near));
            near = near.next_up();
        }
        assert!(is_close(1e-40) && !is_close(0.0) && !is_close(1.0) && !is_close(1.25));
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_the_standard_library(value in -(2f64.powi(62))..=2f64.powi(62), down in 0i32..80) {
            let value = value * 2f64.powi(-down);
            prop_assert_eq!(round(value), value.round_ties_even() as i64);
        }

        #[test]
        fn every_processor_gives_the_same_bits(
            update in proptest::collection::vec(-256f32..256.0, 0..100),
            start in any::<i64>(),
            weight in 1u64..=1 << 29,
        ) {
            let bytes: Vec<u8> = update.iter().flat_map(|x| x.to_le_bytes()).collect();
            let factor = weight as f64 * 2f64.powi(54 - 29);
            let mut plain = vec![start; update.len()];
            fold_portable(&mut plain, &bytes, factor);
            let mut chosen = vec![start; update.len()];
            fold(&mut chosen, &bytes, factor);
            prop_assert_eq!(&plain, &chosen);
            let by_hand: Vec<i64> = update
                .iter()
                .map(|&x| start.wrapping_add((f64::from(x) * factor).round_ties_even() as i64))
                .collect();
            prop_assert_eq!(plain, by_hand);
        }
    }
}
