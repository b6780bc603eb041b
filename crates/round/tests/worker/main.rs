//! The worker's half of the protocol, event in and exact effects out: one file per event, then random lives
//! against written rules.

#![allow(clippy::unwrap_used, clippy::panic)]

mod connected;
mod done;
mod failed;
mod kept;
mod measured;
mod polled;
mod progressed;
mod random;
mod start;
mod stop;
mod support;
mod tick;
mod told;
mod trained;
mod work_failed;
