//! `conclave`: what operators and model users type.
//!
//! Reading order: `args` (the contract of the command line), `commands` (one file per noun),
//! `session` (from a home folder to clients of the coordinator), `output` (tables, JSON, JSON lines),
//! `error` (exit codes and next steps). Results go to standard output; hints, progress and errors to
//! standard error, so that output can be piped.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod error;
mod output;
mod progress;
mod reference;
mod rows;
mod session;

use std::process::ExitCode;

use clap::Parser;
use service::exit::{Exit, chain};

fn main() -> ExitCode {
    // Wrong usage ends here, with exit code 2.
    let args = args::Args::parse();
    if let Err(error) = service::telemetry::init("warn") {
        return Exit::Usage.report(&error);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failure.report(&error),
    };
    match runtime.block_on(commands::run(args)) {
        Ok(()) => Exit::Success.into(),
        // The reader of our output has what it wants (`conclave run ls | head -1`).
        Err(error) if error.is_broken_pipe() => Exit::Success.into(),
        Err(error) => {
            output::note(&format!("error: {}", chain(&error)));
            if let Some(next) = error.next_step() {
                output::note(&format!("next: {next}"));
            }
            error.exit().into()
        }
    }
}
