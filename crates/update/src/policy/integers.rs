//! Tensors of integers: they have a policy, but no encoding, no bound and no mean.

use std::ops::Range;

use params::Layout;

use super::{Form, FormError, Policy, Rule, first, push};
use crate::Encoding;

/// What becomes of the integers of a model, in the flat layout of integers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Integers {
    /// Those of which the largest counts; neighbours are one range.
    maxed: Vec<Range<usize>>,
    /// How many these are.
    elements: usize,
    kept_local: Vec<Range<usize>>,
}

impl Integers {
    /// By the rules of a job.
    pub(super) fn new(layout: &Layout, rules: &[Rule]) -> Result<Self, FormError> {
        let mut integers = Self::default();
        for (tensor, flat) in layout.integer_ranges() {
            let rule = first(rules, &tensor.name);
            match rule.map_or(Policy::unless_ruled(tensor.dtype), |rule| rule.policy) {
                Policy::Average => {
                    let pattern = rule.map_or_else(String::new, |rule| rule.pattern.clone());
                    return Err(FormError::AverageOfIntegers { tensor: tensor.name.clone(), pattern });
                }
                Policy::Max => {
                    integers.elements += flat.len();
                    push(&mut integers.maxed, flat);
                }
                Policy::KeepLocal => push(&mut integers.kept_local, flat),
                Policy::Skip => {}
            }
        }
        Ok(integers)
    }
}

impl Form {
    /// Integers of which the largest counts.
    pub fn max_integers(&self) -> usize {
        self.integers.elements
    }

    /// What stays with its worker of the integers, in the flat layout of integers.
    pub fn kept_local_integers(&self) -> &[Range<usize>] {
        &self.integers.kept_local
    }

    /// Appends the `max` integers of a flat vector of differences, as they travel: little-endian `i64`, in the order
    /// of the layout.
    ///
    /// # Panics
    /// When `flat` is shorter than the layout.
    pub fn write_integers(&self, flat: &[i64], out: &mut Vec<u8>) {
        for range in &self.integers.maxed {
            out.extend(flat[range.clone()].iter().flat_map(|difference| difference.to_le_bytes()));
        }
    }

    /// The `max` integers of an update on the wire; `None` when it has another length. Any difference is valid:
    /// whoever adds one must not overflow, see [`Form::raise_integers`].
    pub fn read_integers(&self, encoding: &Encoding, update: &[u8]) -> Option<Vec<i64>> {
        let fits = update.len() as u64 == self.bytes(encoding);
        let start = update.len().checked_sub(8 * self.max_integers()).filter(|_| fits)?;
        Some(update[start..].as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    /// Adds the largest differences of a round to their places in the flat integers of a base version. A sum beyond
    /// the range of `i64` ends at its edge: one hostile difference must not make a counter wrap around. The others
    /// are left as they are.
    ///
    /// # Panics
    /// When `largest` is not one difference for each of [`Form::max_integers`], or `flat` is shorter than the layout.
    pub fn raise_integers(&self, largest: &[i64], flat: &mut [i64]) {
        assert_eq!(largest.len(), self.max_integers(), "differences come from an update of this form");
        let mut rest = largest;
        for range in &self.integers.maxed {
            let (differences, behind) = rest.split_at(range.len());
            for (value, difference) in flat[range.clone()].iter_mut().zip(differences) {
                *value = value.saturating_add(*difference);
            }
            rest = behind;
        }
    }
}

#[cfg(test)]
mod tests;
