use params::Layout;

use crate::fixed::{Scale, power_of_two};

/// The running sum of a round: `sum(round(x * 2^s) * weight)` for each element, in Z/2^64.
///
/// Addition in Z/2^64 commutes and associates, so neither the order of the updates nor the shape of a
/// tree of accumulators changes a bit of the result. [`Scale`] excludes overflow for updates that pass
/// [`Accumulator::check`]; additions wrap, so that masks of a secure sum cancel in the same ring.
///
/// It holds 8 bytes per element, whatever the number of updates.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    scale: Scale,
    sums: Vec<i64>,
    weight: u64,
    updates: u64,
}

/// Why an update is refused; a refused update leaves no trace.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpdateFault {
    /// The update has another number of elements than the model.
    #[error("update has {found} elements, the model has {expected}")]
    Length {
        /// Elements of the update.
        found: usize,
        /// Elements of the model.
        expected: usize,
    },
    /// An element is NaN or infinite.
    #[error("tensor '{tensor}' has {value} at index {index}, every element must be finite")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The index in the tensor, row-major.
        index: usize,
        /// The element.
        value: f32,
    },
    /// An element is larger than the coordinate bound of the round.
    #[error("tensor '{tensor}' has {value} at index {index}, beyond the coordinate bound of {bound}")]
    Bound {
        /// The tensor.
        tensor: String,
        /// The index in the tensor, row-major.
        index: usize,
        /// The element.
        value: f32,
        /// The largest magnitude that the round allows.
        bound: f32,
    },
    /// The weight is 0.
    #[error("weight 0: an update needs at least one example")]
    NoWeight,
    /// The sum of weights would exceed what the scale of the round was chosen for.
    #[error("weight {weight} on top of {sum} exceeds the round's sum of weights of {max}")]
    WeightSum {
        /// The weight of the update.
        weight: u64,
        /// The weights of the updates so far.
        sum: u64,
        /// The largest sum.
        max: u64,
    },
}

/// Why two accumulators do not add up; the first is left as it was.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum MergeFault {
    /// They were made for models of different sizes.
    #[error("accumulator of {found} elements, expected {expected}")]
    Length {
        /// Elements of the other one.
        found: usize,
        /// Elements of this one.
        expected: usize,
    },
    /// They were made for different rounds: their integers mean different numbers.
    #[error("accumulator with scale 2^{found}, expected 2^{expected} with the same bounds")]
    Scale {
        /// Exponent of the other one.
        found: i32,
        /// Exponent of this one.
        expected: i32,
    },
    /// Together they exceed the sum of weights that the scale was chosen for.
    #[error("weights {other} and {sum} exceed the round's sum of weights of {max}")]
    WeightSum {
        /// Weight of the other one.
        other: u64,
        /// Weight of this one.
        sum: u64,
        /// The largest sum.
        max: u64,
    },
}

/// A mean of no update was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the round holds no update, there is nothing to average")]
pub struct EmptyRound;

impl Accumulator {
    /// An empty sum for a model of `elements` elements.
    pub fn new(elements: usize, scale: Scale) -> Self {
        Self { scale, sums: vec![0; elements], weight: 0, updates: 0 }
    }

    /// Whether `update` (one value per element of `layout`) may be added with `weight` (examples).
    ///
    /// # Errors
    /// See [`UpdateFault`]; the first element that breaks a rule is the one that is named.
    ///
    /// # Panics
    /// When `layout` is not the one that the accumulator was sized for.
    pub fn check(&self, layout: &Layout, update: &[f32], weight: u64) -> Result<(), UpdateFault> {
        assert_eq!(layout.elements(), self.sums.len(), "the accumulator is sized by the round's layout");
        if update.len() != self.sums.len() {
            return Err(UpdateFault::Length { found: update.len(), expected: self.sums.len() });
        }
        if weight == 0 {
            return Err(UpdateFault::NoWeight);
        }
        if !self.has_room(weight) {
            let max = self.scale.weight_sum_max();
            return Err(UpdateFault::WeightSum { weight, sum: self.weight, max });
        }
        let bound = self.scale.coordinate_max();
        // A NaN is not contained in any range.
        let Some(at) = update.iter().position(|x| !(-bound..=bound).contains(x)) else { return Ok(()) };
        let (tensor, index) = layout.locate(at).expect("the update is as long as the layout");
        let (tensor, value) = (tensor.to_owned(), update[at]);
        if value.is_finite() {
            Err(UpdateFault::Bound { tensor, index, value, bound })
        } else {
            Err(UpdateFault::NotFinite { tensor, index, value })
        }
    }

    /// Adds an update that [`Accumulator::check`] accepted.
    ///
    /// # Panics
    /// When the length or the weight is one that `check` refuses.
    pub fn add(&mut self, update: &[f32], weight: u64) {
        assert_eq!(update.len(), self.sums.len(), "an update is checked before it is added");
        assert!(weight > 0 && self.has_room(weight), "a weight is checked before it is added");
        let factor = weight as i64; // At most 2^40.
        for (sum, &x) in self.sums.iter_mut().zip(update) {
            *sum = sum.wrapping_add(self.scale.quantise(x).wrapping_mul(factor));
        }
        self.weight += weight;
        self.updates += 1;
    }

    /// Adds the sum of another accumulator of the same round, for instance of a branch of a tree.
    ///
    /// # Errors
    /// See [`MergeFault`].
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeFault> {
        if other.sums.len() != self.sums.len() {
            return Err(MergeFault::Length { found: other.sums.len(), expected: self.sums.len() });
        }
        if other.scale != self.scale {
            let (found, expected) = (other.scale.exponent(), self.scale.exponent());
            return Err(MergeFault::Scale { found, expected });
        }
        if !self.has_room(other.weight) {
            let max = self.scale.weight_sum_max();
            return Err(MergeFault::WeightSum { other: other.weight, sum: self.weight, max });
        }
        for (sum, x) in self.sums.iter_mut().zip(&other.sums) {
            *sum = sum.wrapping_add(*x);
        }
        self.weight += other.weight;
        self.updates += other.updates;
        Ok(())
    }

    /// The weighted mean of each element: `sum / (weight * 2^s)`, a rational number, rounded once,
    /// half to even, to `f32`.
    ///
    /// The sum is exact for the quantised updates, and each of these is off by at most half a
    /// [`Scale::resolution`]. So a mean is within half a resolution plus half an `f32` ulp of the
    /// weighted mean of the updates as they were sent. It never leaves the coordinate bound.
    ///
    /// # Errors
    /// [`EmptyRound`] when nothing was added.
    pub fn finish(self) -> Result<Vec<f32>, EmptyRound> {
        if self.weight == 0 {
            return Err(EmptyRound);
        }
        let bound = self.scale.coordinate_max();
        let mean = |&sum: &i64| quotient(sum, self.weight, self.scale.exponent()).clamp(-bound, bound);
        Ok(self.sums.iter().map(mean).collect())
    }

    /// The weights (examples) of all updates.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The number of updates.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The scale of the round.
    pub fn scale(&self) -> &Scale {
        &self.scale
    }

    fn has_room(&self, weight: u64) -> bool {
        weight <= self.scale.weight_sum_max() - self.weight
    }
}

/// `sum / (weight * 2^exponent)`, correctly rounded to `f32`.
///
/// The integer quotient is cut to 53 bits with the last one "sticky" (set when anything was cut off:
/// round to odd). Such an `f64` rounds to the same `f32` as the rational number, because 53 is at
/// least 24 + 2 (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
fn quotient(sum: i64, weight: u64, exponent: i32) -> f32 {
    if sum == 0 {
        return 0.0;
    }
    let magnitude = u128::from(sum.unsigned_abs());
    let shift = magnitude.leading_zeros();
    let (numerator, weight) = (magnitude << shift, u128::from(weight));
    // At least 2^127 / 2^40: always more than 53 bits.
    let whole = numerator / weight;
    let rest = numerator - whole * weight;
    let cut = 128 - 53 - whole.leading_zeros();
    let lost = rest != 0 || whole & ((1 << cut) - 1) != 0;
    let odd = (whole >> cut) as u64 | u64::from(lost);
    let mean = odd as f64 * power_of_two(cut as i32 - shift as i32 - exponent);
    if sum < 0 { -mean as f32 } else { mean as f32 }
}

#[cfg(test)]
mod tests;
