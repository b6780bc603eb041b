//! `conclave-coordinator`: runs rounds of federated training, keeps every model version, and serves
//! predictions.
//!
//! Reading order: [`app`] wires everything; [`runs`] drives each run's `round::Machine`; [`api`] is
//! the network edge; [`store`] is what is on disk; [`registry`] and [`predict`] are the model's life
//! after training.

#![forbid(unsafe_code)]

mod api;
mod app;
mod args;
mod compute;
mod config;
mod init;
mod invitations;
mod mend;
mod plan;
mod predict;
mod registry;
mod runs;
mod store;
mod workers;

use std::process::ExitCode;

use clap::Parser;
use service::exit::Exit;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Exit::Failure.report(error.as_ref()),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init { home, names, listen } => {
            init::init(&home, names, listen)?;
            #[allow(clippy::print_stdout)]
            {
                let home = home.display();
                println!("made a coordinator's home in {home}");
                println!("next: conclave-coordinator serve --home {home}");
                println!("then: CONCLAVE_HOME={home} conclave invite worker NAME");
            }
            Ok(())
        }
        Command::Check { home } => mend::check(&home),
        Command::Recover { home } => mend::recover(&home),
        Command::Serve { home, listen, http } => {
            service::telemetry::init("info")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let served = runtime.block_on(app::serve(home, config::Flags { listen, http }));
            // What did not end within its grace is not waited for.
            runtime.shutdown_background();
            served
        }
    }
}
