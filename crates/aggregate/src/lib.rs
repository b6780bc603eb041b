//! Exact integer averaging and server optimizers, on slices.
//!
//! A round's mean is a sum in Z/2^64: [`Scale`] chooses a power of two for the round such that the sum
//! cannot overflow, and [`Accumulator`] adds updates in any order, or merges whole accumulators, with
//! the same bits. A [`ServerOptimizer`] of the [`ServerSpec`] catalog then applies the aggregate to
//! the parameters.
//!
//! Nothing here allocates per update, reads a clock, draws randomness, or calls the platform's
//! mathematics library: the only floating-point operations are `+ - * / sqrt` and roundings, which
//! IEEE 754 defines to the last bit. So the same updates give the same bits on every machine.

mod accumulator;
mod apply;
mod catalog;
mod fixed;
mod kernel;

pub use accumulator::{Accumulator, EmptyRound, MergeFault, Source, Stretch, WeightFault};
pub use apply::{Adagrad, Adam, Momentum, Nesterov, Sgd, StateError, Yogi};
pub use catalog::{ServerOptimizer, ServerSpec, build};
pub use fixed::{Scale, ScaleError, WEIGHT_MAX, WEIGHT_SUM_MAX};
