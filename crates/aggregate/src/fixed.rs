/// The largest sum of weights that a round may have: 2^40 examples.
pub const WEIGHT_SUM_MAX: u64 = 1 << 40;

/// The fixed-point scale of a round: a power of two `2^s`, the same for every worker.
///
/// It is the largest power of two for which `round(x * 2^s) * weight`, summed over all weights of the
/// round, stays within `-(2^63-1)..=2^63-1` for every `|x| <= coordinate_max`. Overflow of the sum is
/// therefore impossible, not improbable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    coordinate_max: f32,
    weight_sum_max: u64,
    exponent: i32,
}

/// Why a coordinate bound and a sum of weights do not make a [`Scale`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ScaleError {
    /// The coordinate bound is NaN, infinite, zero or negative.
    #[error("coordinate bound {0} must be finite and above 0")]
    CoordinateMax(f32),
    /// No weight, or more than [`WEIGHT_SUM_MAX`].
    #[error("sum of weights {0} must be in 1..={WEIGHT_SUM_MAX}")]
    WeightSumMax(u64),
}

impl Scale {
    /// The scale for coordinates within `-coordinate_max..=coordinate_max` (parameter units) and
    /// weights (examples) that sum to at most `weight_sum_max`.
    ///
    /// # Errors
    /// `coordinate_max` is not finite and positive, or `weight_sum_max` is not in `1..=2^40`.
    pub fn new(coordinate_max: f32, weight_sum_max: u64) -> Result<Self, ScaleError> {
        if !(coordinate_max.is_finite() && coordinate_max > 0.0) {
            return Err(ScaleError::CoordinateMax(coordinate_max));
        }
        if !(1..=WEIGHT_SUM_MAX).contains(&weight_sum_max) {
            return Err(ScaleError::WeightSumMax(weight_sum_max));
        }
        let bound = f64::from(coordinate_max);
        // At this exponent the bound alone is at least 2^63; at most 42 steps down it fits.
        let mut exponent = 63 - floor_log2(bound);
        while !fits(bound, exponent, weight_sum_max) {
            exponent -= 1;
        }
        Ok(Self { coordinate_max, weight_sum_max, exponent })
    }

    /// The largest magnitude of a coordinate.
    pub fn coordinate_max(&self) -> f32 {
        self.coordinate_max
    }

    /// The largest sum of weights.
    pub fn weight_sum_max(&self) -> u64 {
        self.weight_sum_max
    }

    /// `s` of the factor `2^s`; it is part of what two sums must agree on to be added.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// The distance between neighbouring values, `2^-s`, in parameter units. A coordinate is off by at
    /// most half of it.
    pub fn resolution(&self) -> f64 {
        power_of_two(-self.exponent)
    }

    /// `x * 2^s`, rounded half to even. Exact up to that rounding: a product of an `f32` and a power
    /// of two in this range is an `f64`. The caller has checked `|x| <= coordinate_max`.
    pub(crate) fn quantise(&self, x: f32) -> i64 {
        (f64::from(x) * power_of_two(self.exponent)).round_ties_even() as i64
    }
}

/// Whether the largest coordinate, quantised, times all weights is at most `2^63 - 1`.
fn fits(bound: f64, exponent: i32, weight_sum: u64) -> bool {
    let largest = (bound * power_of_two(exponent)).round_ties_even() as u128;
    largest * u128::from(weight_sum) <= i64::MAX as u128
}

/// `2^exponent` for the exponents of normal `f64`s.
pub(crate) fn power_of_two(exponent: i32) -> f64 {
    assert!((-1022..=1023).contains(&exponent), "2^{exponent} is not a normal f64");
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `floor(log2(x))` of a normal positive `f64`; every positive `f32` is one.
fn floor_log2(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_the_largest_that_fits() {
        // 256 * 2^s * 120 <= 2^63 - 1: s = 48 gives 120 * 2^56 = 0.94 * 2^63.
        let scale = Scale::new(256.0, 120).unwrap();
        assert_eq!((scale.exponent(), scale.resolution()), (48, 2f64.powi(-48)));
        // A power of two times a power of two would be 2^63 exactly, one too many.
        assert_eq!(Scale::new(1.0, 1).unwrap().exponent(), 62);
        assert_eq!(Scale::new(256.0, WEIGHT_SUM_MAX).unwrap().exponent(), 14);
        assert_eq!(Scale::new(0.5, 1).unwrap().quantise(-0.5), -(1 << 62));
    }

    #[test]
    fn rounds_half_to_even() {
        let scale = Scale::new(256.0, WEIGHT_SUM_MAX).unwrap();
        let half = 2f32.powi(-15);
        let quantised = [1.0, 3.0, -1.0, -3.0, 5.0].map(|n| scale.quantise(n * half));
        assert_eq!(quantised, [0, 2, 0, -2, 2]);
    }

    #[test]
    fn refuses_bounds() {
        for bad in [0.0, -1.0, f32::INFINITY] {
            assert_eq!(Scale::new(bad, 1), Err(ScaleError::CoordinateMax(bad)));
        }
        assert!(matches!(Scale::new(f32::NAN, 1), Err(ScaleError::CoordinateMax(_))));
        for bad in [0, WEIGHT_SUM_MAX + 1] {
            assert_eq!(Scale::new(1.0, bad), Err(ScaleError::WeightSumMax(bad)));
        }
        let error = Scale::new(1.0, 0).unwrap_err().to_string();
        assert_eq!(error, "sum of weights 0 must be in 1..=1099511627776");
    }

    proptest! {
        #[test]
        fn never_overflows_and_wastes_less_than_a_bit(bits in 1u32..0x7f80_0000, weight in 1..=WEIGHT_SUM_MAX) {
            let bound = f32::from_bits(bits);
            let scale = Scale::new(bound, weight).unwrap();
            let largest = i128::from(scale.quantise(bound)) * i128::from(weight);
            prop_assert!(largest <= i128::from(i64::MAX));
            prop_assert_eq!(i128::from(scale.quantise(-bound)) * i128::from(weight), -largest);
            prop_assert!(!fits(f64::from(bound), scale.exponent + 1, weight));
        }
    }
}
