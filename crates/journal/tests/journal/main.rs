//! The journal on real files: properties, crashes, damage.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod crash;
mod damage;
mod properties;
mod reading;
mod recovery;
mod snapshots;
mod space;
