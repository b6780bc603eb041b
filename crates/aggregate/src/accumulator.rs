use std::num::NonZeroUsize;

use crate::{
    fixed::{Scale, WEIGHT_MAX, power_of_two},
    kernel,
    sums::Sums,
};

/// The running sum of a round: `sum(round(x * weight * 2^s))` for each coordinate, in Z/2^64.
///
/// Addition in Z/2^64 commutes and associates, so neither the order of the updates, nor the shape of a
/// tree of accumulators, nor the number of threads changes a bit of the result. [`Scale`] excludes overflow for
/// updates within their bounds; additions wrap, so that masks of a secure sum cancel in the same ring.
///
/// It holds 8 bytes per coordinate, whatever the number of updates.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    stretches: Vec<Stretch>,
    sums: Sums,
    weight: u64,
    weight_sum_max: u64,
    updates: u64,
}

/// Neighbouring coordinates with one bound, for instance of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// How many coordinates.
    pub elements: usize,
    /// The largest magnitude of one of them, in parameter units.
    pub coordinate_max: f32,
}

/// Where the coordinates of an update are read from.
pub enum Source<'a> {
    /// `f32` little-endian, one per coordinate: added where they are.
    Bytes(&'a [u8]),
    /// Fills a slice with the coordinates from an index on; called with blocks, from several threads.
    Decode(&'a (dyn Fn(usize, &mut [f32]) + Sync)),
}

/// Why an update cannot be added; the sum is left as it was.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum WeightFault {
    /// The weight is 0.
    #[error("weight 0: an update needs at least one example")]
    Zero,
    /// The weight is larger than [`WEIGHT_MAX`].
    #[error("weight {0} of one update, at most {WEIGHT_MAX} are allowed")]
    Large(u64),
    /// The sum of weights would exceed what the scale of the round was chosen for.
    #[error("weight {weight} on top of {sum} exceeds the round's sum of weights of {max}")]
    Sum {
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
    #[error("accumulator of {found} coordinates, expected {expected}")]
    Length {
        /// Coordinates of the other one.
        found: usize,
        /// Coordinates of this one.
        expected: usize,
    },
    /// They were made for different rounds: their integers mean different numbers.
    #[error("accumulator with other bounds: its integers mean other numbers")]
    Scale,
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

/// Coordinates that are decoded at once: they stay in the first cache.
const BLOCK: usize = 4096;

/// Fewer coordinates than this are not worth a thread.
const THREAD_MIN: usize = 256 * 1024;

impl Accumulator {
    /// An empty sum for the coordinates of `stretches`, one after the other, and weights that sum to at most
    /// `weight_sum_max`.
    ///
    /// # Errors
    /// Those of [`Scale::new`].
    pub fn new(stretches: &[Stretch], weight_sum_max: u64) -> Result<Self, crate::ScaleError> {
        for stretch in stretches {
            Scale::new(stretch.coordinate_max, weight_sum_max)?;
        }
        let elements = stretches.iter().map(|stretch| stretch.elements).sum();
        let stretches = stretches.to_vec();
        Ok(Self { stretches, sums: Sums::zeros(elements), weight: 0, weight_sum_max, updates: 0 })
    }

    /// Whether an update of this weight may be added.
    ///
    /// # Errors
    /// See [`WeightFault`].
    pub fn room(&self, weight: u64) -> Result<(), WeightFault> {
        match weight {
            0 => Err(WeightFault::Zero),
            _ if weight > WEIGHT_MAX => Err(WeightFault::Large(weight)),
            _ if weight > self.weight_sum_max - self.weight => {
                Err(WeightFault::Sum { weight, sum: self.weight, max: self.weight_sum_max })
            }
            _ => Ok(()),
        }
    }

    /// Adds an update whose coordinates were found to be within their bounds, on up to `threads` threads.
    ///
    /// # Errors
    /// See [`WeightFault`].
    ///
    /// # Panics
    /// When the bytes of [`Source::Bytes`] are not 4 for each coordinate.
    pub fn add(
        &mut self,
        update: &Source<'_>,
        weight: u64,
        threads: NonZeroUsize,
    ) -> Result<(), WeightFault> {
        self.room(weight)?;
        if let Source::Bytes(bytes) = update {
            assert_eq!(bytes.len(), 4 * self.sums.len(), "the length of an update is checked before");
        }
        let stretches: Vec<(usize, f64)> =
            self.scales().map(|(elements, scale)| (elements, scale.factor(weight))).collect();
        in_columns(&mut self.sums, threads, |start, sums| match update {
            Source::Bytes(bytes) => {
                let bytes = &bytes[4 * start..4 * (start + sums.len())];
                fold_stretches(sums, start, &stretches, |at, sums, factor| {
                    kernel::fold(sums, &bytes[4 * at..4 * (at + sums.len())], factor);
                });
            }
            Source::Decode(decode) => fold_decoded(sums, start, &stretches, *decode),
        });
        self.weight += weight;
        self.updates += 1;
        Ok(())
    }

    /// Adds the sum of another accumulator of the same round, for instance of a branch of a tree.
    ///
    /// # Errors
    /// See [`MergeFault`].
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeFault> {
        if other.sums.len() != self.sums.len() {
            return Err(MergeFault::Length { found: other.sums.len(), expected: self.sums.len() });
        }
        if other.stretches != self.stretches || other.weight_sum_max != self.weight_sum_max {
            return Err(MergeFault::Scale);
        }
        if other.weight > self.weight_sum_max - self.weight {
            let (other, sum, max) = (other.weight, self.weight, self.weight_sum_max);
            return Err(MergeFault::WeightSum { other, sum, max });
        }
        for (sum, x) in self.sums.iter_mut().zip(other.sums.iter()) {
            *sum = sum.wrapping_add(*x);
        }
        self.weight += other.weight;
        self.updates += other.updates;
        Ok(())
    }

    /// The weighted mean of the coordinates from `start` on: `sum / (weight * 2^s)`, a rational number, rounded
    /// once, half to even, to `f32`.
    ///
    /// So a mean is within [`Scale::error`] plus half an `f32` ulp of the weighted mean of the updates as they
    /// were sent. It never leaves the coordinate bound.
    ///
    /// # Errors
    /// [`EmptyRound`] when nothing was added.
    ///
    /// # Panics
    /// When `start + out.len()` is more than there are coordinates.
    pub fn mean(&self, start: usize, out: &mut [f32], threads: NonZeroUsize) -> Result<(), EmptyRound> {
        if self.weight == 0 {
            return Err(EmptyRound);
        }
        let sums = &self.sums[start..start + out.len()];
        in_columns(out, threads, |from, out| self.mean_of(start + from, &sums[from..from + out.len()], out));
        Ok(())
    }

    fn mean_of(&self, start: usize, sums: &[i64], out: &mut [f32]) {
        let stretches: Vec<(usize, Scale)> = self.scales().collect();
        for (range, scale) in cut(start, out.len(), &stretches) {
            let (bound, exponent) = (scale.coordinate_max(), scale.exponent());
            let (sums, out) = (&sums[range.clone()], &mut out[range]);
            // Exact: the weight has at most 41 bits.
            let divisor = scale.factor(self.weight);
            kernel::divide(sums, divisor, out, |_, sum| quotient(sum, self.weight, exponent));
            out.iter_mut().for_each(|mean| *mean = mean.clamp(-bound, bound));
        }
    }

    /// The weights of all updates.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The number of updates.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The number of coordinates.
    pub fn elements(&self) -> usize {
        self.sums.len()
    }

    /// How many coordinates each scale of the round is for, in their order.
    pub fn scales(&self) -> impl Iterator<Item = (usize, Scale)> {
        self.stretches.iter().map(|stretch| {
            let scale = Scale::new(stretch.coordinate_max, self.weight_sum_max);
            (stretch.elements, scale.expect("it was checked when the sum was made"))
        })
    }
}

/// Gives each thread neighbouring columns of `all`, with their start.
fn in_columns<T: Send>(all: &mut [T], threads: NonZeroUsize, work: impl Fn(usize, &mut [T]) + Sync) {
    let threads = threads.get().min(all.len() / THREAD_MIN).max(1);
    if threads == 1 {
        return work(0, all);
    }
    let each = all.len().div_ceil(threads).next_multiple_of(BLOCK);
    std::thread::scope(|scope| {
        let mut parts = all.chunks_mut(each).enumerate();
        let first = parts.next();
        for (part, columns) in parts {
            let work = &work;
            scope.spawn(move || work(part * each, columns));
        }
        // This thread is one of them.
        if let Some((_, columns)) = first {
            work(0, columns);
        }
    });
}

/// The parts of columns `start..start + len` that lie in each stretch: where they are among these columns, and
/// what belongs to the stretch.
fn cut<T: Copy>(
    start: usize,
    len: usize,
    stretches: &[(usize, T)],
) -> impl Iterator<Item = (std::ops::Range<usize>, T)> {
    let mut end = 0;
    stretches.iter().filter_map(move |&(elements, what)| {
        let from = end;
        end += elements;
        let (low, high) = (from.max(start), end.min(start + len));
        (low < high).then(|| (low - start..high - start, what))
    })
}

fn fold_stretches(
    sums: &mut [i64],
    start: usize,
    stretches: &[(usize, f64)],
    mut fold: impl FnMut(usize, &mut [i64], f64),
) {
    for (range, factor) in cut(start, sums.len(), stretches) {
        fold(range.start, &mut sums[range], factor);
    }
}

fn fold_decoded(
    sums: &mut [i64],
    start: usize,
    stretches: &[(usize, f64)],
    decode: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let (mut values, mut bytes) = (vec![0f32; BLOCK], vec![0u8; 4 * BLOCK]);
    for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
        let first = start + block * BLOCK;
        let values = &mut values[..sums.len()];
        decode(first, values);
        for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values.iter()) {
            *bytes = value.to_le_bytes();
        }
        fold_stretches(sums, first, stretches, |at, sums, factor| {
            kernel::fold(sums, &bytes[4 * at..4 * (at + sums.len())], factor);
        });
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
