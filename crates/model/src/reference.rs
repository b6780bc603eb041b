//! Softmax regression in plain Rust: the reference that the libtorch models are tested against, and
//! what trains and serves where there is no libtorch. Sums run in a fixed order, in `f64`.

mod linear;
mod optim;

pub(crate) use linear::Linear;

#[cfg(test)]
mod tests;
