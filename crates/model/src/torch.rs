//! Networks on libtorch, through the fallible (`f_`) calls of tch only: its plain methods panic.

pub(crate) mod device;
mod mlp;
mod native;
mod optim;
mod upload;

pub(crate) use mlp::Mlp;

#[cfg(test)]
mod tests;
