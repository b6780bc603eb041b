//! Exact integer averaging and server optimizers, on slices.
//!
//! A round's mean is a sum in Z/2^64: a [`Scale`] is a power of two for some coordinates such that the sum
//! cannot overflow, and [`Accumulator`] adds updates in any order, or merges whole accumulators, with
//! the same bits. A [`ServerOptimizer`] of the [`ServerSpec`] catalog then applies the aggregate to
//! the parameters.
//!
//! The robust reductions of a [`ReduceSpec`] need every update at once: [`reduce()`] reads them by blocks
//! of columns from wherever they are kept.
//!
//! Nothing here allocates per update, reads a clock, draws randomness, or calls the platform's
//! mathematics library: the only floating-point operations are `+ - * / sqrt` and roundings, which
//! IEEE 754 defines to the last bit. So the same updates give the same bits on every machine.

mod accumulator;
mod apply;
mod catalog;
mod fixed;
mod kernel;
mod reduce;
mod sums;

pub use accumulator::{Accumulator, EmptyRound, MergeFault, Source, Stretch, WeightFault};
pub use apply::{Adagrad, Adam, Momentum, Nesterov, Sgd, StateError, Yogi};
pub use catalog::{ServerOptimizer, ServerSpec, build};
pub use fixed::{Scale, ScaleError, WEIGHT_MAX, WEIGHT_SUM_MAX};
pub use reduce::{Budget, Emit, ITERATIONS_MAX, InMemory, RaggedRows, ReduceError, ReduceSpec, Rows, reduce};
