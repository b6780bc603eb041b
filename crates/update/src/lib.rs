//! What one worker's contribution looks like on the wire.
//!
//! Reading order: [`Form`] says which elements of a model travel, by the [`Rule`]s of a job;
//! [`Encoding`] turns the averaged ones into bytes and back; [`compensate`] and [`remainder`] keep what
//! a coarse encoding left out for the next round; [`check`] is what a coordinator does with bytes
//! before it believes them. The other way, [`difference`] packs what a version changes in the one before.
//!
//! An update is `encoding(averaged elements)`, in the order of the layout, and behind it the elements
//! of `max` tensors: floats as `f32`, then integers as `i64`, little-endian.
//!
//! The same input gives the same bits on every machine: the only floating-point operations are
//! `+ - * / sqrt`, comparisons and roundings, and all that is drawn comes from [`params::Rng`].

mod catalog;
mod check;
pub mod difference;
mod encoding;
mod feedback;
mod job;
mod policy;

pub use catalog::{ENCODINGS, Encoding};
pub use check::{Checked, UpdateFault, check};
pub use encoding::{EncodeError, PayloadFault, SettingError};
pub use feedback::{compensate, remainder};
pub use policy::{Form, FormError, Policy, Rule, Segment};
