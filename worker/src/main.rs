//! `conclave-worker`: joins a coordinator, then trains on the data of its host.
//!
//! # What leaves this process
//!
//! Rows of a private table (`--data NAME=PATH`) never do. What is sent is: the name, the number of
//! rows and the column names of each table ([`tables`]); updates, which are weights or gradients,
//! with their number of examples and train loss ([`work::running`]); the loss and the number of right
//! answers of a candidate on the held-out rows ([`work::task`]); how far the training is; the
//! device and the version of the binary; and the reason when work is handed back, from which the
//! contents of cells are taken out ([`work::prepared`]).
//!
//! What is decided when is in `round::worker`, which touches nothing of the outside world: this program
//! does what it says.
//!
//! Reading order: [`args`], [`app`] (what each command does), [`session`] (executes the effects of the
//! machine), [`client`] (the calls), [`work`] (what is computed), [`compute`] (the thread that it is done
//! on), [`disk`] (what outlives the process), [`check`].

#![forbid(unsafe_code)]

mod app;
mod args;
mod check;
mod client;
mod compute;
mod disk;
mod error;
mod fetch;
mod session;
mod tables;
#[cfg(test)]
mod testing;
mod work;

use std::process::ExitCode;

use clap::Parser;
use service::exit::Exit;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match app::run(args) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let code = Exit::from(&error).report(&error);
            #[allow(clippy::print_stderr)]
            if let Some(step) = error.next_step() {
                eprintln!("next: {step}");
            }
            code
        }
    }
}
