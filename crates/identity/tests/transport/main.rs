//! The listener, the client and enrolment over real sockets, as the programs use them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod join;
mod mtls;
mod support;
