//! The command line: a contract, see the list of commands in the documentation.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use params::Name;

use crate::{output::Format, reference::Reference};

/// Trains one model across parties whose data stays with them, and serves it.
#[derive(Debug, Parser)]
#[command(name = "conclave", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Globals {
    /// Folder with your identity; a coordinator's home serves as that of its operator.
    #[arg(long, global = true, env = "CONCLAVE_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Where the coordinator is, if not where the home (or the token) says.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) coordinator: Option<String>,
    /// How to print results.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints a one-time token with which a new member joins.
    Invite {
        /// What the member may do.
        role: InviteRole,
        /// What the member is called.
        name: Name,
        /// How long the token is good for.
        #[arg(long, default_value = "1h", value_parser = ttl, value_name = "TIME")]
        ttl: Duration,
    },
    /// Makes an identity in the home folder, with a token from an operator.
    Join(Join),
    /// Starts, shows, pauses and stops runs.
    #[command(subcommand)]
    Run(Run),
    /// Adds rounds to runs.
    #[command(subcommand)]
    Round(Round),
    /// Shows, drains and revokes workers.
    #[command(subcommand)]
    Worker(Worker),
    /// Shows and fetches models.
    #[command(subcommand)]
    Model(Model),
    /// Asks a model for predictions.
    Predict {
        /// MODEL, MODEL@ALIAS or MODEL:VERSION; MODEL alone is its latest version.
        #[arg(value_name = "MODEL[@ALIAS|:VERSION]")]
        reference: Reference,
        /// Rows as CSV (with or without a header) or JSON ([[5.1, 3.5], ...]); `-` is standard input.
        #[arg(long, default_value = "-", value_name = "FILE")]
        input: PathBuf,
    },
}

/// Who can be invited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InviteRole {
    /// Trains on its own data.
    Worker,
    /// Starts runs and invites others.
    Operator,
    /// Fetches models and asks them.
    Reader,
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("secret").required(true))]
pub(crate) struct Join {
    /// The token. Other users of this host can see it; prefer --token-file.
    #[arg(long, group = "secret")]
    pub(crate) token: Option<String>,
    /// A file that holds the token; `-` is standard input.
    #[arg(long, group = "secret", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Refuse a token that is for another name.
    #[arg(long)]
    pub(crate) name: Option<Name>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// Starts a run from a job file and sends the files that it names.
    Start {
        /// The job file.
        #[arg(value_name = "JOB.toml")]
        job: PathBuf,
        /// Follow the run until it ends.
        #[arg(long)]
        watch: bool,
    },
    /// Lists all runs.
    Ls,
    /// Shows the rounds of a run, or what happened to it.
    Show {
        /// As `conclave run ls` lists it.
        run: Name,
        /// Every event since the run was started, from the journal, oldest first.
        #[arg(long)]
        events: bool,
    },
    /// Follows a run until it ends.
    Watch {
        /// As `conclave run ls` lists it.
        run: Name,
    },
    /// Opens no further round of a run until it is resumed; the open one goes on.
    Pause {
        /// As `conclave run ls` lists it.
        run: Name,
    },
    /// Goes on with a paused run.
    Resume {
        /// As `conclave run ls` lists it.
        run: Name,
    },
    /// Ends a run; its versions stay.
    Stop {
        /// As `conclave run ls` lists it.
        run: Name,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Round {
    /// Adds rounds to a run, also to one that has ended.
    Start {
        /// As `conclave run ls` lists it.
        run: Name,
        /// How many.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        count: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// Lists the workers that have connected.
    Ls,
    /// Shows a worker and what it does in each active run.
    Show {
        /// As `conclave worker ls` lists it.
        name: Name,
    },
    /// Gives a worker no new work; it may finish what it has.
    Drain {
        /// As `conclave worker ls` lists it.
        name: Name,
        /// Make the worker available again.
        #[arg(long)]
        undo: bool,
    },
    /// Ends a worker's part in every run and refuses it from now on. This cannot be undone.
    Revoke {
        /// As `conclave worker ls` lists it.
        name: Name,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Lists the versions of a model, or the latest version of each model.
    Ls {
        /// The model.
        model: Option<Name>,
    },
    /// Shows one version: where it comes from, what goes in and out.
    Show {
        /// MODEL, MODEL@ALIAS or MODEL:VERSION; MODEL alone is its latest version.
        #[arg(value_name = "MODEL[@ALIAS|:VERSION]")]
        reference: Reference,
    },
    /// Fetches a version: model.safetensors and manifest.json. Goes on where a broken fetch ended.
    Pull {
        /// MODEL, MODEL@ALIAS or MODEL:VERSION; MODEL alone is its latest version.
        #[arg(value_name = "MODEL[@ALIAS|:VERSION]")]
        reference: Reference,
        /// The folder to write to.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

impl InviteRole {
    /// The word on the wire and in commands.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Operator => "operator",
            Self::Reader => "reader",
        }
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_secs(1) => Ok(ttl),
        Ok(_) => Err("must be at least 1s".to_owned()),
        Err(_) => Err("must be a length of time such as 30m or 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_contract_parses() {
        for line in [
            "conclave invite worker hospital-a --ttl 1h",
            "conclave join --coordinator h:1 --token t --home d --name n",
            "conclave join --token-file - --home d",
            "conclave run start job.toml --watch",
            "conclave run ls --output jsonl",
            "conclave run show iris-1 --output json",
            "conclave run show iris-1 --events --output jsonl",
            "conclave run watch iris-1",
            "conclave run pause iris-1",
            "conclave run resume iris-1",
            "conclave run stop iris-1",
            "conclave round start iris-1 --count 5",
            "conclave worker ls",
            "conclave worker show hospital-a --output json",
            "conclave worker drain hospital-a",
            "conclave worker drain hospital-a --undo",
            "conclave worker revoke hospital-a",
            "conclave model ls",
            "conclave model ls iris",
            "conclave model show iris@latest",
            "conclave model show iris@best",
            "conclave model pull iris:3 --to d",
            "conclave --home d predict iris --input -",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        for line in [
            "conclave",
            "conclave run",
            "conclave invite king arthur",
            "conclave invite worker Hospital",
            "conclave invite worker a --ttl soon",
            "conclave invite worker a --ttl 0s",
            "conclave join --home d",
            "conclave join --home d --token t --token-file f",
            "conclave run show ../x",
            "conclave run show --events",
            "conclave run watch iris-1 --events",
            "conclave run pause",
            "conclave run pause iris-1 iris-2",
            "conclave run resume ../x",
            "conclave run resume iris-1 --undo",
            "conclave worker show",
            "conclave worker drain Hospital",
            "conclave worker drain --undo",
            "conclave worker revoke",
            "conclave worker revoke hospital-a --undo",
            "conclave worker revoke hospital-a --yes",
            "conclave round start iris-1 --count 0",
            "conclave model pull iris",
            "conclave predict iris@a:1",
            "conclave run ls --output xml",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
