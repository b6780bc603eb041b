//! Disks that lose, fill up, slow down, rot and vanish below real processes.
//!
//! What needs root and loop devices says so, and that it was not run, where there are none. `CONCLAVE_NIGHTLY=1`
//! cuts the power 200 times instead of 20.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod blobs;
mod common;
mod full;
mod index;
mod journal_damage;
mod migration;
mod power;
mod slow;
mod two;
