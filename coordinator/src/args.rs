use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

/// Conclave coordinator: runs rounds of federated training and serves the models.
#[derive(Debug, Parser)]
#[command(name = "conclave-coordinator", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a home: certificate authority, server certificate, operator identity, config.toml
    Init {
        /// The folder; it must not hold a coordinator yet
        #[arg(long, env = "CONCLAVE_HOME")]
        home: PathBuf,
        /// A DNS name or IP address by which workers and users reach this host; may be repeated
        #[arg(long = "name", value_name = "DNS-OR-IP")]
        names: Vec<String>,
        /// Where `serve` will listen
        #[arg(long, default_value = "127.0.0.1:7433")]
        listen: SocketAddr,
    },
    /// Verifies what a stopped coordinator keeps, mends what a start would mend, and says what is wrong
    Check {
        /// The folder that `init` made
        #[arg(long, env = "CONCLAVE_HOME")]
        home: PathBuf,
    },
    /// Makes a home open again whose journal is damaged; what cannot be kept is moved aside, and named
    Recover {
        /// The folder that `init` made
        #[arg(long, env = "CONCLAVE_HOME")]
        home: PathBuf,
    },
    /// Runs the coordinator until it is stopped
    Serve {
        /// The folder that `init` made
        #[arg(long, env = "CONCLAVE_HOME")]
        home: PathBuf,
        /// Address of the mutual-TLS port, instead of the one in config.toml; port 0 takes a free one
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// Address of plain HTTP prediction, on loopback only; port 0 takes a free one
        #[arg(long)]
        http: Option<SocketAddr>,
    },
}
