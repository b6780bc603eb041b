//! The round protocol, event in and exact effects out: one file per event, then whole runs as text,
//! then random runs against written rules.

#![allow(clippy::unwrap_used, clippy::panic)]

mod add_rounds;
mod aggregated;
mod declined;
mod evaluated_centrally;
mod evaluation_received;
mod failed;
mod progress;
mod published;
mod random;
mod scenarios;
mod stop;
mod support;
mod tick;
mod update_received;
mod worker_joined;
mod worker_left;
mod workers_seen;
