//! What every program of the product needs and that has no domain words: time, randomness, tasks,
//! shutdown, telemetry, exit codes, secret files, and TLS transport.
//!
//! Reading order: [`clock`] and [`random`] (the only ambient inputs), [`task`] and [`shutdown`]
//! (every background task is named, supervised and ended), [`telemetry`] and [`exit`] (what a person
//! sees), [`files`] (secrets on disk), [`disk`] (how much room there is), [`memory`] (large buffers and mapped files), [`descriptors`] (how many files may be open), [`fault`] (what tests do to a process), [`tls`], [`listen`], [`dial`] and [`server`] (the transport).

pub mod clock;
pub mod descriptors;
pub mod dial;
pub mod disk;
pub mod exit;
pub mod fault;
pub mod files;
pub mod listen;
pub mod memory;
pub mod random;
pub mod server;
pub mod shutdown;
pub mod task;
pub mod telemetry;
pub mod tls;
