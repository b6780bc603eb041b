/// What to build: an architecture of the catalog and its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// The name of the architecture, for instance `mlp`.
    pub arch: String,
    /// Features per row; 0 for a synthetic model.
    pub inputs: usize,
    /// The width of each hidden layer, first to last; empty for a linear model. A synthetic model has the
    /// number of its parameters here, and behind it the width of its normalisation layer, if it has one.
    pub hidden: Vec<usize>,
    /// The number of classes; 0 for a synthetic model.
    pub outputs: usize,
}

impl ModelSpec {
    /// The name of the architecture that has weights and computes nothing.
    pub const SYNTHETIC: &str = "synthetic";

    /// A model of `parameters` weights that computes nothing, for runs without data.
    pub fn synthetic(parameters: usize) -> Self {
        Self { arch: Self::SYNTHETIC.to_owned(), inputs: 0, hidden: vec![parameters], outputs: 0 }
    }

    /// A synthetic model with the tensors that a normalisation layer has beside its weights, as PyTorch's
    /// `BatchNorm1d(8)`: `norm.running_mean` and `norm.running_var`, and the integer
    /// `norm.num_batches_tracked`.
    pub fn synthetic_with_buffers(parameters: usize) -> Self {
        Self { hidden: vec![parameters, Self::NORM_WIDTH], ..Self::synthetic(parameters) }
    }

    /// The features of the normalisation layer of a synthetic model.
    pub(crate) const NORM_WIDTH: usize = 8;

    /// Whether it is of the architecture that computes nothing.
    pub fn is_synthetic(&self) -> bool {
        self.arch == Self::SYNTHETIC
    }
}

/// How a worker trains on its shard in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalSpec {
    /// What the update holds.
    pub mode: Mode,
    /// The rule of each step; unused in [`Mode::Gradient`].
    pub optimizer: Optimizer,
    /// Passes over the shard, at least 1; unused in [`Mode::Gradient`].
    pub epochs: u32,
    /// Rows per step, at least 1; unused in [`Mode::Gradient`] and by [`Optimizer::GradientDescent`].
    pub batch: u32,
}

/// What the update of a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The trained weights minus the base weights: federated averaging (McMahan et al. 2017).
    Train,
    /// The mean gradient over the whole shard at the base weights: federated SGD.
    Gradient,
}

/// The rule of a local step, with the formulae of `torch.optim`. Its state starts fresh each round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// One plain step over the whole shard per epoch.
    GradientDescent {
        /// The learning rate, above 0.
        lr: f64,
    },
    /// Mini-batch steps; with momentum `v = momentum * v + g`, `w -= lr * v`.
    Sgd {
        /// The learning rate, above 0.
        lr: f64,
        /// In `[0, 1)`; 0 for none.
        momentum: f64,
    },
    /// Adam (Kingma and Ba 2015), bias corrected.
    Adam {
        /// The learning rate, above 0.
        lr: f64,
        /// The decay of the mean of gradients, in `[0, 1)`.
        beta1: f64,
        /// The decay of the mean of squared gradients, in `[0, 1)`.
        beta2: f64,
        /// Added to the root of the second moment, above 0.
        eps: f64,
    },
}

impl Optimizer {
    /// The learning rate.
    pub fn lr(&self) -> f64 {
        match *self {
            Self::GradientDescent { lr } | Self::Sgd { lr, .. } | Self::Adam { lr, .. } => lr,
        }
    }
}
