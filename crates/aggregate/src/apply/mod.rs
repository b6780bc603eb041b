//! Server optimizers: one algorithm, one file; what they share about their state is in `state`, and in
//! `buffered` what those share that have one buffer of past gradients.

mod adagrad;
mod adam;
mod buffered;
mod momentum;
mod nesterov;
mod sgd;
mod state;
mod yogi;

#[cfg(test)]
mod tests;

pub use adagrad::Adagrad;
pub use adam::Adam;
pub use momentum::Momentum;
pub use nesterov::Nesterov;
pub use sgd::Sgd;
pub use state::StateError;
pub use yogi::Yogi;

/// `x <- x - step`, rounded once: all arithmetic before it is in `f64`.
fn descend(x: &mut f32, step: f64) {
    *x = (f64::from(*x) - step) as f32;
}
