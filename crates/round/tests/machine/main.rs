//! The round protocol, event in and exact effects out: one file per event, then whole runs as text,
//! then random runs against written rules.

#![allow(clippy::unwrap_used, clippy::panic)]

mod add_rounds;
mod aggregated;
mod changed;
mod declined;
mod evaluated_centrally;
mod evaluation_received;
mod failed;
mod over_selection;
mod pause;
mod progress;
mod published;
mod random;
mod restarted;
mod resume;
mod saved;
mod scenarios;
mod stop;
mod support;
mod tick;
mod touched;
mod update_received;
mod worker_drained;
mod worker_joined;
mod worker_left;
mod worker_revoked;
mod workers_seen;
mod workers_silent;
