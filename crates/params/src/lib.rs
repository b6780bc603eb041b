//! Names, digests and named tensors: the words that every crate shares.
//!
//! Reading order: [`Name`] (what users call things), [`Digest`] (how bytes are named),
//! [`Layout`] and [`Params`] (the tensors of a model, flat and in a fixed order),
//! [`Examples`] (rows to learn from), [`Rng`] (the one seeded source of randomness).

mod digest;
mod examples;
mod layout;
mod name;
mod rng;
mod tensors;

pub use digest::{Digest, Hasher, ParseDigestError};
pub use examples::Examples;
pub use layout::{Dtype, Layout, LayoutError, TENSOR_COUNT_MAX, TensorSpec};
pub use name::{Name, ParseNameError};
pub use rng::Rng;
pub use tensors::{
    Params, ParamsError, SAFETENSORS_HEADER_MAX, safetensors_header, safetensors_integers, safetensors_values,
};
