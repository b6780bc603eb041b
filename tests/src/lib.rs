//! A federation of real processes on this host: real binaries, real mutual TLS, real store. Used by
//! the end-to-end tests in `tests/`.
//!
//! Waiting is always for a condition, with a deadline that only a defect reaches.

#![allow(clippy::panic)] // a harness reports by failing the test

mod disk;
mod federation;
mod http;
mod jobs;
mod measure;
mod process;

pub use disk::{Disk, command, serve_at, serve_with};
pub use federation::{Federation, Ran, Site, digests, nightly, run_program};
pub use http::http;
pub use jobs::{IRIS, Job, Load};
pub use measure::{Usage, syncs_per_second, usage};
pub use process::{Process, pass, wait_for};
