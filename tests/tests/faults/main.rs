//! Faults of real processes: killed at each named point of the coordinator's work, killed at any time, suspended,
//! stopped, cut off.
//!
//! One binary, because the long test at random times mostly waits: the others run beside it.

mod anytime;
mod points;
mod processes;
