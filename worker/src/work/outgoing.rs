//! What leaves this host of a training, and what stays here for the next one.

use std::{borrow::Cow, ops::Range};

use job::Mode;
use params::{Layout, Params};
use update::{EncodeError, Encoding, Form};

use super::Impossible;
use crate::disk::carry::{Carried, Shape};

/// Why an update does not leave this host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// An element is NaN or infinite.
    #[error("tensor '{tensor}' has {value} at index {index}, every element must be finite")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The index in the tensor, row-major.
        index: usize,
        /// The element, as it was to be sent or kept.
        value: f32,
    },
    /// The model is too large for the encoding of the run.
    #[error("encoding '{0}' does not take the update: {1}")]
    Encoding(&'static str, EncodeError),
}

/// An update as it travels, and what is carried to the next round, if there is anything.
#[derive(Debug, PartialEq)]
pub(crate) struct Packed {
    pub(crate) payload: Vec<u8>,
    pub(crate) carried: Option<Carried>,
}

/// What a training changed of a model: differences to the base version, in its layout.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) values: Vec<f32>,
    /// Of tensors of integers.
    pub(super) integers: Vec<i64>,
}

/// How the updates of a run leave this host.
#[derive(Debug)]
pub(crate) struct Outgoing {
    layout: Layout,
    form: Form,
    encoding: Encoding,
    /// What is this worker's own, in the flat layout.
    own: Vec<Range<usize>>,
    /// The same of integers.
    own_integers: Vec<Range<usize>>,
    carried: Carried,
}

impl Outgoing {
    /// Of a job with a model of `layout`. Own values are learnt by [`Mode::Train`] only: a gradient is
    /// stepped along by the coordinator, and what it does not get stays as it was.
    pub(super) fn new(job: &job::Job, layout: Layout) -> Result<Self, Impossible> {
        let form = Form::of(&job.aggregate, &layout)
            .map_err(|e| Impossible::open(format!("aggregate.tensors: {e}")))?;
        let learns = matches!(job.task, job::Task::Classification) && job.local.mode == Mode::Train;
        let encoding = Encoding::from(job.aggregate.encoding);
        Ok(Self::of(layout, form, encoding, learns))
    }

    fn of(layout: Layout, form: Form, encoding: Encoding, learns: bool) -> Self {
        let own = |kept: &[Range<usize>]| if learns { kept.to_vec() } else { Vec::new() };
        let (own, own_integers) = (own(form.kept_local()), own(form.kept_local_integers()));
        Self { layout, form, encoding, own, own_integers, carried: Carried::default() }
    }

    /// How much is carried from round to round.
    pub(super) fn shape(&self) -> Shape {
        let residual = if self.encoding.has_feedback() { self.form.averaged() } else { 0 };
        let count = |ranges: &[Range<usize>]| ranges.iter().map(ExactSizeIterator::len).sum();
        Shape { residual, local: count(&self.own), integers: count(&self.own_integers) }
    }

    /// Goes on from what an earlier round of this [`Outgoing::shape`] left.
    pub(super) fn go_on_from(&mut self, carried: Carried) {
        self.carried = carried;
    }

    /// A version with this worker's own values in it (FedBN: Li et al. 2021, arXiv:2102.07623).
    pub(super) fn with_own<'a>(&self, version: &'a Params) -> Cow<'a, Params> {
        // Weights of another model are refused by whoever computes with them.
        let nothing = self.carried.local.is_empty() && self.carried.integers.is_empty();
        if nothing || *version.layout() != self.layout {
            return Cow::Borrowed(version);
        }
        let mut version = version.clone();
        put_back(&self.own, &self.carried.local, version.values_mut());
        put_back(&self.own_integers, &self.carried.integers, version.integers_mut());
        Cow::Owned(version)
    }

    /// The change of integers in a training that has none.
    pub(super) fn no_integers(&self) -> Vec<i64> {
        vec![0; self.layout.integers()]
    }

    /// Turns a change, trained from `base`, into what travels. `base` is the one with own values in it;
    /// `None` where there are no weights. `seed` decides how the encoding rounds.
    pub(super) fn pack(
        mut self,
        change: Change,
        base: Option<&Params>,
        seed: u64,
    ) -> Result<Packed, PackError> {
        let shape = self.shape();
        let local = base.map_or(Ok(Vec::new()), |base| self.learnt(&change.values, base))?;
        let own_integers = base.map_or_else(Vec::new, |base| self.counted(&change.integers, base));
        let (mut values, maxed) = self.gather(change.values);
        let mut residual = std::mem::take(&mut self.carried.residual);
        if !residual.is_empty() {
            update::compensate(&mut values, &residual);
        }
        let bytes = usize::try_from(self.form.bytes(&self.encoding)).unwrap_or(usize::MAX);
        let mut payload = Vec::new();
        // Exactly: a large update must not take the next power of two.
        payload.reserve_exact(bytes.min(isize::MAX as usize));
        let encoded = self.encoding.encode(&values, seed, &mut payload);
        encoded.map_err(|error| self.named(error, self.encoding, Form::locate))?;
        if shape.residual > 0 {
            update::remainder(&values, self.encoding, &payload, &mut residual);
        }
        drop(values);
        let encoded = Encoding::F32.encode(&maxed, seed, &mut payload);
        encoded.map_err(|error| self.named(error, Encoding::F32, Form::locate_maxed))?;
        self.form.write_integers(&change.integers, &mut payload);
        let carried = (!shape.is_empty()).then_some(Carried { residual, local, integers: own_integers });
        Ok(Packed { payload, carried })
    }

    /// Averaged and `max` elements; where all are averaged they are the update itself.
    fn gather(&self, update: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        if self.form.averaged() == update.len() {
            return (update, Vec::new());
        }
        let (mut averaged, mut maxed) = (Vec::new(), Vec::new());
        self.form.gather(&update, &mut averaged, &mut maxed);
        (averaged, maxed)
    }

    /// The own values after the training.
    fn learnt(&self, update: &[f32], base: &Params) -> Result<Vec<f32>, PackError> {
        let mut local = Vec::with_capacity(self.shape().local);
        for index in self.own.iter().cloned().flatten() {
            let value = base.values()[index] + update[index];
            if !value.is_finite() {
                let (tensor, index) = self.layout.locate(index).unwrap_or_default();
                return Err(PackError::NotFinite { tensor: tensor.to_owned(), index, value });
            }
            local.push(value);
        }
        Ok(local)
    }

    /// The own integers after the training; a counter ends at the largest of its type.
    fn counted(&self, change: &[i64], base: &Params) -> Vec<i64> {
        let own = self.own_integers.iter().cloned().flatten();
        own.map(|index| base.integers()[index].saturating_add(change[index])).collect()
    }

    fn named(
        &self,
        error: EncodeError,
        encoding: Encoding,
        locate: impl Fn(&Form, usize) -> Option<(&str, usize)>,
    ) -> PackError {
        match error {
            EncodeError::NotFinite { index, value } => {
                let (tensor, index) = locate(&self.form, index).unwrap_or_default();
                PackError::NotFinite { tensor: tensor.to_owned(), index, value }
            }
            error @ EncodeError::TooMany { .. } => PackError::Encoding(encoding.name(), error),
        }
    }
}

/// Copies what is carried, which is empty or fills the ranges, to its places.
fn put_back<T: Copy>(ranges: &[Range<usize>], carried: &[T], flat: &mut [T]) {
    let mut rest = carried;
    for range in ranges {
        let Some((values, behind)) = rest.split_at_checked(range.len()) else { return };
        flat[range.clone()].copy_from_slice(values);
        rest = behind;
    }
}

#[cfg(test)]
mod tests;
