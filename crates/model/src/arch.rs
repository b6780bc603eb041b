//! The architectures: the tensors of each, their first weights, and what runs them.

pub(crate) mod mlp;
pub(crate) mod softmax;
pub(crate) mod synthetic;
