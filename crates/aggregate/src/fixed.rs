/// The largest sum of weights that a round may have: 2^40.
pub const WEIGHT_SUM_MAX: u64 = 1 << 40;

/// The largest weight of one update: 2^29. A 24-bit coordinate times such a weight is exact in `f64`.
pub const WEIGHT_MAX: u64 = 1 << 29;

/// The largest magnitude of one term of the sum, as a power of two.
const TERM_BITS: i32 = 62;

/// The fixed-point scale of some coordinates of a round: a power of two `2^s`, the same for every worker.
///
/// A term of the sum is `round(x * weight * 2^s)`, half to even. `s` is the largest exponent for which
/// `coordinate_max * weight_sum_max * 2^s <= 2^62`. The sum of all terms then stays within `2^62` plus half of
/// the number of updates, which is at most 2^39: overflow is impossible, not improbable.
///
/// The product is rounded, not the coordinate, so that a large sum of weights costs no resolution: with `n`
/// updates, whose weights sum to what the scale was made for, the mean of the terms is off by less than
/// `n * coordinate_max * 2^-62` from the mean of the updates. See [`Scale::error`].
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
    /// weights that sum to at most `weight_sum_max`.
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
        let mut exponent = TERM_BITS - floor_log2(f64::from(coordinate_max)) - weight_sum_max.ilog2() as i32;
        // The fractions above the two powers of two cost at most two steps.
        while !fits(coordinate_max, exponent, weight_sum_max) {
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

    /// How far the mean of `updates` terms can be from the mean of the updates themselves, in parameter
    /// units, when their weights sum to `weight`: half of `2^-s` for each, divided by the weight. Not
    /// counted is the rounding of the mean to `f32`.
    pub fn error(&self, updates: u64, weight: u64) -> f64 {
        updates as f64 / weight as f64 * power_of_two(-self.exponent - 1)
    }

    /// `weight * 2^s`: what a coordinate is multiplied with. Exact.
    pub(crate) fn factor(&self, weight: u64) -> f64 {
        weight as f64 * power_of_two(self.exponent)
    }
}

/// Whether the largest coordinate times all weights, scaled, is at most `2^62`. In integers: an `f32` is
/// `mantissa * 2^e` with a mantissa below `2^24`.
fn fits(bound: f32, exponent: i32, weight_sum: u64) -> bool {
    let bits = f64::from(bound).to_bits();
    let mantissa = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    let power = ((bits >> 52) & 0x7ff) as i32 - 1023 - 52 + exponent;
    let product = mantissa * u128::from(weight_sum);
    match power {
        0.. => product.checked_shl(power.unsigned_abs()).is_some_and(|p| p <= 1 << TERM_BITS),
        _ => product <= 1u128.checked_shl(power.unsigned_abs() + TERM_BITS as u32).unwrap_or(u128::MAX),
    }
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
        // 256 * 120 * 2^s <= 2^62: s = 47 gives 120 * 2^55 = 0.94 * 2^62.
        assert_eq!(Scale::new(256.0, 120).unwrap().exponent(), 47);
        assert_eq!(Scale::new(1.0, 1).unwrap().exponent(), 62);
        assert_eq!(Scale::new(256.0, WEIGHT_SUM_MAX).unwrap().exponent(), 14);
        assert_eq!(Scale::new(1.5, 3).unwrap().exponent(), 59);
        assert_eq!(Scale::new(f32::from_bits(1), 1).unwrap().exponent(), 62 + 149);
    }

    #[test]
    fn its_error_does_not_grow_with_the_weights() {
        for weight in [1, 3, 1000, 1 << 24, WEIGHT_SUM_MAX] {
            let scale = Scale::new(256.0, weight).unwrap();
            assert!(scale.error(64, weight) <= 64.0 * 256.0 * 2f64.powi(-62), "{weight}");
        }
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
        fn fits_and_wastes_less_than_a_bit(bits in 1u32..0x7f80_0000, weight in 1..=WEIGHT_SUM_MAX) {
            let bound = f32::from_bits(bits);
            let scale = Scale::new(bound, weight).unwrap();
            prop_assert!(fits(bound, scale.exponent, weight));
            prop_assert!(!fits(bound, scale.exponent + 1, weight));
            let largest = f64::from(bound) * weight as f64 * power_of_two(scale.exponent);
            prop_assert!(largest > 2f64.powi(TERM_BITS - 1) && largest <= 2f64.powi(TERM_BITS));
        }
    }
}
