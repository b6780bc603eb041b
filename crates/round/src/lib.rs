//! The round protocol as a pure value.
//!
//! [`Machine::step`] owns all of the protocol: gathering workers, cohorts, shards, leases, quorum,
//! deadlines, attempts, evaluation. It cannot fail, await, read a clock or draw randomness: the
//! time is an argument and the cohort is a function of the run's seed. A late, duplicate or foreign
//! input yields [`Effect::Reject`] and leaves no trace. Payload bytes never enter; only digests and
//! counts do.
//!
//! Reading order: [`Plan`], [`Event`], [`Effect`], [`Machine`].

#![deny(clippy::float_arithmetic)]

mod cohort;
mod effect;
mod event;
mod machine;
mod plan;
mod view;
pub mod worker;

pub use effect::{Effect, GivenUp, Note, Outcome, Refusal};
pub use event::Event;
pub use machine::{Accepted, Machine, Saved, SavedMember, SavedWorker, Touched};
pub use plan::{Committed, DataPlan, Evaluation, Plan};
pub use view::{Assignment, Member, MemberState, Phase, Standing, WorkKind};

/// Milliseconds on a clock that never goes back.
pub type Millis = u64;

/// Names one piece of work that was handed to one worker.
pub type Lease = u64;

/// Names one worker process; a restarted worker has another one.
pub type Session = u64;
