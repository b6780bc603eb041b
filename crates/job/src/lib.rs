//! The job file: what a run is, validated.
//!
//! A job file is TOML text that a person writes. [`Job::parse`] takes it through three steps: raw
//! structs that refuse unknown keys (`raw`), checks of every value and of the relations between
//! them (`check`, one function per table), and the [`Job`], which is all that leaves this crate.
//! Every fault of a file is reported at once, each with the path of its key.
//!
//! The reader is pure: it opens no file. [`Job::attachments`] names the files that must travel
//! with the job.

#![forbid(unsafe_code)]

mod aggregate;
mod check;
mod error;
mod evaluate;
mod faults;
mod job;
mod pattern;
mod raw;

#[cfg(test)]
mod tests;

pub use aggregate::{Aggregate, Encoding, Policy, Reduction, Server, TensorRule, Weight};
pub use error::{Fault, JobError};
pub use evaluate::{Evaluate, Metric};
pub use job::{
    ARCHS, Data, Holdout, JOB_BYTES_MAX, Job, Local, Mode, Model, Optimizer, PARAMETERS_MAX, Partition,
    Rounds, Synthetic, SyntheticUpdate, Task,
};
pub use pattern::matches;
