use params::{LayoutError, ParamsError};

use crate::catalog::PARAMETERS_MAX;

/// Why a model cannot be built, trained, measured or asked.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The catalog holds no such architecture.
    #[error("architecture '{arch}' is not known, use one of: {known}")]
    UnknownArch {
        /// The name that was asked for.
        arch: String,
        /// The names there are, with commas.
        known: String,
    },
    /// The architecture runs on libtorch, which this build leaves out.
    #[error(
        "architecture '{arch}' needs libtorch, and this binary was built without libtorch: build it with the feature 'torch', or use 'softmax'"
    )]
    NeedsTorch {
        /// The architecture.
        arch: String,
    },
    /// A size in the [`ModelSpec`](crate::ModelSpec) is too small.
    #[error("{what} is {found}, at least {min} is needed")]
    Extent {
        /// Which size.
        what: String,
        /// Its value.
        found: usize,
        /// The smallest that works.
        min: usize,
    },
    /// The architecture is linear and was given hidden layers.
    #[error(
        "architecture '{arch}' has no hidden layers, but hidden = {hidden:?}: leave it out, or use 'mlp'"
    )]
    NoHidden {
        /// The architecture.
        arch: String,
        /// The widths that were given.
        hidden: Vec<usize>,
    },
    /// The sizes are not those of [`ModelSpec::synthetic`](crate::ModelSpec::synthetic).
    #[error(
        "a synthetic model has no inputs and no outputs, and the number of its parameters as hidden = [n], or [n, 8] with buffers, not inputs = {inputs}, hidden = {hidden:?}, outputs = {outputs}"
    )]
    NotSynthetic {
        /// Features per row that were given.
        inputs: usize,
        /// The widths that were given.
        hidden: Vec<usize>,
        /// The number of classes that was given.
        outputs: usize,
    },
    /// The weights are of no network: they cannot train, be measured or be asked.
    #[error("a synthetic model predicts nothing")]
    Synthetic,
    /// More weights than [`PARAMETERS_MAX`].
    #[error("the model has {elements} weights, at most {PARAMETERS_MAX} are allowed")]
    TooLarge {
        /// The number of weights.
        elements: usize,
    },
    /// The tensors of the model do not make a layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The values do not make weights.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A setting of local training is out of its bounds.
    #[error("{setting} is {value}, it must be {bound}")]
    Setting {
        /// The name of the setting, as in the job file.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        bound: &'static str,
    },
    /// The weights are not those of the architecture.
    #[error("the weights do not fit architecture '{arch}': {difference}")]
    Weights {
        /// The architecture.
        arch: String,
        /// What differs.
        difference: String,
    },
    /// A weight is NaN or infinite.
    #[error("weight {index} of tensor '{tensor}' is {value}, weights must be finite")]
    WeightNotFinite {
        /// The tensor.
        tensor: String,
        /// The place in it, row-major from 0.
        index: usize,
        /// The value.
        value: f32,
    },
    /// There is nothing to train or to measure on.
    #[error("there are no rows, at least 1 is needed")]
    NoRows,
    /// The rows do not have the features that the model takes.
    #[error("rows have {found} features, the model takes {expected}")]
    Width {
        /// Features per row that were given.
        found: usize,
        /// Features per row that the model takes.
        expected: usize,
    },
    /// The number of values is not rows times features.
    #[error("{values} values do not fill {rows} rows of {width} features")]
    Shape {
        /// Values that were given.
        values: usize,
        /// Rows that were announced.
        rows: usize,
        /// Features per row that the model takes.
        width: usize,
    },
    /// A label is not a class of the model.
    #[error("row {row} has class {label}, the model has classes 0 to {}", .classes.saturating_sub(1))]
    Label {
        /// The row, from 0.
        row: usize,
        /// The class index of the row.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A feature is NaN or infinite.
    #[error("feature {column} of row {row} is {value}, features must be finite")]
    FeatureNotFinite {
        /// The row, from 0.
        row: usize,
        /// The feature, from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// The loss or a weight overflowed while training.
    #[error(
        "training diverged in epoch {epoch}, batch {batch} (both from 1): the loss is {loss}; use a learning rate lower than {lr:?}"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
        /// The batch in the epoch, from 1.
        batch: u64,
        /// The last loss.
        loss: f64,
        /// The learning rate.
        lr: f64,
    },
    /// The loss of given weights, or its gradient, overflows: they are too large for these rows.
    #[error(
        "the loss of the given weights is {loss}, it and its gradient must be finite: weights or features are too large; scale the features, or lower the learning rate that made the weights"
    )]
    LossNotFinite {
        /// The loss.
        loss: f64,
    },
    /// The outputs for a row overflow: weights and features are too large for each other.
    #[error("the model's outputs for row {row} are not finite: the features are too large for its weights")]
    OutputNotFinite {
        /// The row, from 0.
        row: usize,
    },
    /// The caller asked to stop.
    #[error("training was stopped")]
    Stopped,
    /// libtorch failed, for instance because the device is out of memory.
    #[error("{action}: libtorch says: {detail}")]
    Torch {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The first line of libtorch's message.
        detail: String,
    },
}
