//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use model::DeviceChoice;
use params::Name;

use crate::tables::DataArg;

/// Joins a coordinator, then trains on the data of this host.
#[derive(Debug, Parser)]
#[command(name = "conclave-worker", version)]
pub(crate) struct Args {
    /// How results are printed; the log goes to standard error in any case.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document per line.
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Redeem a token: make a key, have it signed, and write the home folder.
    #[command(after_help = "An operator makes a token with `conclave invite worker NAME`.")]
    Join(Join),
    /// Train for the coordinator until SIGTERM or SIGINT.
    Run(Run),
    /// Find out whether `run` would work: one line per part, with the next step where one fails.
    Check(Check),
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("secret").required(true).args(["token", "token_file"])))]
pub(crate) struct Join {
    /// Where the coordinator listens; replaces the address in the token.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) coordinator: Option<String>,
    /// The token. It is visible to other users of this host while the command runs: --token-file is not.
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) home: Home,
    /// Refuse a token that was made for another name.
    #[arg(long)]
    pub(crate) name: Option<Name>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) home: Home,
    #[command(flatten)]
    pub(crate) host: Host,
    /// Tests only: wait a random time before each upload, at most this long.
    #[arg(long, hide = true, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) delay_uploads_up_to: Option<Duration>,
    /// Tests only: speak no newer protocol than this.
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) protocol_max: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) home: Home,
    #[command(flatten)]
    pub(crate) host: Host,
}

/// Where the identity is.
#[derive(Debug, clap::Args)]
pub(crate) struct Home {
    /// The folder with this worker's key and certificate.
    #[arg(long = "home", env = "CONCLAVE_HOME", value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// What this host offers.
#[derive(Debug, clap::Args)]
pub(crate) struct Host {
    /// Where to train: auto, cpu, or cuda:N. `auto` takes the first GPU, else the CPU.
    #[arg(long, env = "CONCLAVE_DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Threads of one operation on the CPU. More than one pays only for large models on idle cores.
    #[arg(long, env = "CONCLAVE_THREADS", default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,
    /// A private CSV table that this worker trains on; its rows never leave this process. Repeatable.
    #[arg(long, value_name = "NAME=PATH")]
    pub(crate) data: Vec<DataArg>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn run_reads_its_options() {
        let line = "conclave-worker run --home h --device cuda:1 --threads 4 --data a=x.csv --data b=y=z.csv";
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        let Command::Run(run) = args.command else { panic!("run was asked for") };
        assert_eq!(run.host.device, DeviceChoice::Cuda(1));
        assert_eq!(run.host.threads, 4);
        assert_eq!(run.host.data.len(), 2);
        assert_eq!(run.host.data[1].path, PathBuf::from("y=z.csv"));
        assert_eq!((run.delay_uploads_up_to, run.protocol_max), (None, None));
    }

    #[test]
    fn join_takes_one_source_of_the_token() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        assert!(parse("conclave-worker join --home h --token t").is_ok());
        assert!(parse("conclave-worker join --home h --token-file f").is_ok());
        assert!(parse("conclave-worker join --home h").is_err());
        assert!(parse("conclave-worker join --home h --token t --token-file f").is_err());
        assert!(parse("conclave-worker join --home h --token t --name Bad").is_err());
    }
}
