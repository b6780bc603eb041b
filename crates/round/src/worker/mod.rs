//! The worker's half of the round protocol, as a pure value.
//!
//! [`Machine::step`] decides everything between two answers of the coordinator: when to connect
//! again, what to train, what to keep, what to offer and when to stop. It cannot fail, await, read a
//! clock or draw ambient randomness. Payload bytes, weights and metrics stay in the shell; the machine
//! knows them by key and digest.
//!
//! Three things are independent, which is what makes it survive: the *link* to the coordinator, the
//! *job* on the compute thread, and the *updates* on disk. A lost link stops neither of the others; the
//! next poll says whether they are still wanted.
//!
//! Reading order: [`Event`], [`Effect`], [`Machine`].

mod backoff;
mod calls;
mod effect;
mod evaluate;
mod event;
mod link;
mod machine;
mod offer;
mod poll;
mod stop;
mod train;
mod updates;

pub use backoff::{BACKOFF_FIRST_MS, BACKOFF_MAX_MS, RETRY_MAX_MS};
pub use effect::{Effect, Ending};
pub use event::{Call, Event, Failure, Work};
pub use machine::{Machine, POLL_GAP_MS, PROGRESS_EVERY_MS};
pub use offer::UPLOAD_GRACE_MS;
pub use stop::{LEAVE_MS, STOP_GRACE_MS};
pub use updates::{KEPT_MAX, Kept};
