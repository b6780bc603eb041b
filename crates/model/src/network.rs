use std::ops::Range;

use params::Examples;

use crate::{ModelError, Optimizer};

/// The most rows that go through a network at once. It bounds the memory of activations; the
/// result does not depend on it beyond rounding.
pub(crate) const ROWS_MAX: usize = 16_384;

/// A model with weights on its device. Inputs are checked by the caller: widths fit, values are
/// finite, labels are in range.
pub(crate) trait Network: Send + Sync {
    /// The outputs before the softmax, `rows x outputs`, for `features` of `rows x inputs`.
    fn logits(&self, features: &[f32], rows: usize) -> Result<Vec<f32>, ModelError>;

    /// A copy of the weights that learns from `data`, in the order of the rows.
    fn learner<'a>(
        &self,
        data: Examples<'a>,
        optimizer: Optimizer,
    ) -> Result<Box<dyn Learner + 'a>, ModelError>;
}

/// Weights that learn from fixed examples.
pub(crate) trait Learner {
    /// From now on, ranges of rows mean ranges of this permutation of all rows.
    fn shuffle(&mut self, order: &[usize]) -> Result<(), ModelError>;

    /// Adds the gradient of the summed loss of these rows to the gathered gradient; gives that
    /// summed loss.
    fn gather(&mut self, rows: Range<usize>) -> Result<f64, ModelError>;

    /// The gathered gradient divided by `examples`, in the order of the layout; forgets it.
    fn take_gradient(&mut self, examples: usize) -> Result<Vec<f32>, ModelError>;

    /// One step of the optimizer with the gathered gradient divided by `examples`; forgets it.
    fn step(&mut self, examples: usize) -> Result<(), ModelError>;

    /// The weights, in the order of the layout.
    fn weights(&self) -> Result<Vec<f32>, ModelError>;
}
