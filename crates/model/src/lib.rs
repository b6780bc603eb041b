//! Architectures, local training and prediction; the only crate that names libtorch.
//!
//! Reading order: [`ModelSpec`] and [`LocalSpec`] (what to build, how to train), `catalog` (the
//! architectures there are), [`train()`], [`measure()`] and [`Predictor`] (what is done with them),
//! [`open_device`] (where), `reference` (plain Rust) and `torch` (libtorch), [`synthetic_update`] (an
//! update without training).
//!
//! Every loss is the mean cross-entropy, in nats, over the softmax of the model's outputs.
//!
//! libtorch lives behind the feature `torch`. Without it, architectures that need it still have a
//! [`layout`] and an [`init`], so that a registry can be built without libtorch; to train or to
//! predict with them is [`ModelError::NeedsTorch`].
//!
//! libtorch keeps state for the whole process: the number of threads, and the CUDA backend, which
//! [`open_device`] loads at most once. A process calls it once, before anything else here.

mod arch;
mod catalog;
mod check;
mod device;
mod error;
mod loss;
mod measure;
mod network;
mod predict;
mod reference;
mod spec;
mod synthetic;
#[cfg(feature = "torch")]
mod torch;
mod train;

pub use catalog::{PARAMETERS_MAX, init, layout};
pub use device::{Device, DeviceChoice, DeviceError, Hardware, ParseDeviceError, THREADS_MAX, open_device};
pub use error::ModelError;
pub use measure::{Measured, measure};
pub use predict::Predictor;
pub use spec::{LocalSpec, Mode, ModelSpec, Optimizer};
pub use synthetic::{SyntheticUpdate, synthetic_update, synthetic_update_with_buffers};
pub use train::{Flow, Trained, train};
