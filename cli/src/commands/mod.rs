//! One file per noun of the command line.

mod events;
mod invite;
mod join;
mod model;
mod predict;
mod pull;
mod run;
mod start;
mod views;
mod watch;
mod worker;

use crate::{
    args::{Args, Command},
    error::CliError,
    session::Session,
};

/// Runs one command to its end.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let globals = args.globals;
    let command = match args.command {
        Command::Join(command) => return join::run(globals, command).await,
        other => other,
    };
    // Faults of the job file come before those of the connection: they need no coordinator.
    let prepared = start::prepare(&command)?;
    let session = Session::open(&globals).await?;
    let format = globals.output;
    match command {
        Command::Invite { role, name, ttl } => invite::run(&session, format, role, &name, ttl).await,
        // Handled above.
        Command::Join(_) => Ok(()),
        Command::Run(command) => run::run(&session, format, command, prepared).await,
        Command::Round(command) => run::round(&session, format, command).await,
        Command::Worker(command) => worker::run(&session, format, command).await,
        Command::Model(command) => model::run(&session, format, command).await,
        Command::Predict { reference, input } => predict::run(&session, format, &reference, &input).await,
    }
}
