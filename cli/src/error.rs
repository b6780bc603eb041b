use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use identity::{HomeError, JoinError};
use proto::error::{ErrorCode, WireError};
use service::{
    dial::{self, DialError},
    exit::Exit,
};

use crate::rows::RowsError;

/// Why a command failed; each kind has an exit code and a next step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// No usable identity.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection ended before the answer did.
    #[error("lost the connection to the coordinator: {0}")]
    Lost(String),
    /// The coordinator refuses.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// A token was not accepted.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The job file is not one.
    #[error("job file {}: {source}", path.display())]
    Job { path: PathBuf, source: job::JobError },
    /// A file of this host.
    #[error("{action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The rows to predict.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The run that was watched failed.
    #[error("run {run} failed: {cause}")]
    RunFailed { run: String, cause: String },
    /// Received bytes are not those that were announced.
    #[error("{0}")]
    Corrupt(String),
    /// The coordinator's answer makes no sense to this build.
    #[error("the coordinator's answer cannot be used: {0}")]
    Answer(String),
    /// Standard output is gone.
    #[error("write output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// A failed action on a file; `action` is a verb.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// The code for the shell.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Home(HomeError::Missing(_) | HomeError::Damaged { .. } | HomeError::Expired { .. }) => {
                Exit::Unauthorised
            }
            Self::Dial(error) | Self::Join(JoinError::Dial(error)) => of_dial(error),
            Self::Lost(_) => Exit::Unreachable,
            Self::Refused(error) | Self::Join(JoinError::Refused(error)) => of_code(error.code),
            Self::Join(JoinError::Occupied { .. }) => Exit::Usage,
            Self::Join(
                JoinError::OtherAuthority { .. }
                | JoinError::Unknown(_)
                | JoinError::WrongSecret(_)
                | JoinError::Expired(_)
                | JoinError::Used(_)
                | JoinError::OtherMember { .. },
            ) => Exit::Unauthorised,
            _ => Exit::Failure,
        }
    }

    /// What to do about it, where the message itself does not say.
    pub(crate) fn next_step(&self) -> Option<String> {
        let step = match self {
            // These messages end with their remedy.
            Self::Usage(_) | Self::Home(_) => return None,
            Self::Dial(error) | Self::Join(JoinError::Dial(error)) => after_dial(error),
            Self::Lost(_) => {
                "check that `conclave-coordinator serve` still runs there and run the same command again"
            }
            Self::Refused(error) | Self::Join(JoinError::Refused(error)) => return after_refusal(error),
            Self::Join(
                JoinError::Unknown(_)
                | JoinError::WrongSecret(_)
                | JoinError::Expired(_)
                | JoinError::Used(_),
            ) => "ask an operator for a new token: `conclave invite ROLE NAME`",
            Self::Join(JoinError::OtherMember { .. }) => {
                "give the name that the token is for with --name, or ask an operator for another token"
            }
            Self::Join(_) => return None,
            Self::Job { .. } => "correct the job file and start the run again",
            Self::File { .. } => "check that the path exists and that you may use it",
            Self::Rows(_) => "correct the rows and ask again; `conclave model show MODEL` lists the columns",
            Self::RunFailed { run, .. } => {
                return Some(format!(
                    "mend the cause, then go on from the last version with `conclave round start {run} --count N`"
                ));
            }
            Self::Corrupt(_) => "run the same command again",
            Self::Answer(_) => {
                "use the versions of `conclave` and `conclave-coordinator` that belong together"
            }
            Self::Output(_) => "check where standard output goes",
        };
        Some(step.to_owned())
    }

    /// Whether the reader of our output went away.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the same call may succeed in a moment without anybody doing anything.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Dial(error) => matches!(error, DialError::Unreachable { .. }),
            Self::Lost(_) => true,
            Self::Refused(error) => matches!(error.code, ErrorCode::Unavailable | ErrorCode::Busy),
            _ => false,
        }
    }
}

impl From<tonic::Status> for CliError {
    fn from(status: tonic::Status) -> Self {
        match dial::classify(&status) {
            Some(error) => Self::Dial(error),
            // What the coordinator sends has no source. A connection that breaks in the middle of an answer
            // has one, and its code depends on how it broke: it is unknown after a `kill -9`.
            None if status.source().is_some() => Self::Lost(status.message().to_owned()),
            None => Self::Refused(status.into()),
        }
    }
}

impl From<serde_json::Error> for CliError {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

fn of_dial(error: &DialError) -> Exit {
    match error {
        DialError::Address { .. } => Exit::Usage,
        DialError::Unreachable { .. } => Exit::Unreachable,
        DialError::Credentials(_)
        | DialError::Untrusted { .. }
        | DialError::NotPinned { .. }
        | DialError::Refused { .. } => Exit::Unauthorised,
    }
}

fn of_code(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => Exit::Unauthorised,
        ErrorCode::NotFound => Exit::NotFound,
        ErrorCode::Unavailable => Exit::Unreachable,
        _ => Exit::Failure,
    }
}

fn after_dial(error: &DialError) -> &'static str {
    match error {
        DialError::Address { .. } => "write the address as HOST:PORT",
        DialError::Unreachable { .. } => {
            "check that `conclave-coordinator serve` runs there and that no firewall is between; another address can \
             be given with --coordinator HOST:PORT"
        }
        DialError::Untrusted { .. } | DialError::NotPinned { .. } => {
            "check the address; if the coordinator was set up anew, join again with a new token"
        }
        DialError::Refused { .. } | DialError::Credentials(_) => {
            "ask an operator for a new token and run `conclave join`"
        }
    }
}

fn after_refusal(error: &WireError) -> Option<String> {
    let step = match error.code {
        ErrorCode::Unauthenticated => "ask an operator for a new token and run `conclave join`",
        ErrorCode::Forbidden => "use the home of a member who may do this, with --home or CONCLAVE_HOME",
        ErrorCode::NotFound => {
            "`conclave run ls`, `conclave worker ls` and `conclave model ls` list what there is"
        }
        ErrorCode::Conflict | ErrorCode::Stale => {
            "`conclave run ls` tells the state of each run, `conclave worker ls` that of each worker"
        }
        ErrorCode::Busy | ErrorCode::Unavailable => {
            let wait = error
                .retry_after
                .map_or("a moment".to_owned(), |w| humantime::format_duration(w).to_string());
            return Some(format!("try again in {wait}"));
        }
        ErrorCode::Corrupt => "run the same command again",
        ErrorCode::Version => {
            "use the versions of `conclave` and `conclave-coordinator` that belong together"
        }
        ErrorCode::Internal => "the coordinator's log has the cause",
        ErrorCode::Invalid | ErrorCode::Unspecified => "correct what the message names and try again",
    };
    Some(step.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode) -> CliError {
        tonic::Status::from(WireError::new(code, "why")).into()
    }

    #[test]
    fn exit_codes_of_refusals() {
        let cases = [
            (ErrorCode::Invalid, 1),
            (ErrorCode::Unauthenticated, 4),
            (ErrorCode::Forbidden, 4),
            (ErrorCode::NotFound, 5),
            (ErrorCode::Conflict, 1),
            (ErrorCode::Stale, 1),
            (ErrorCode::Corrupt, 1),
            (ErrorCode::Busy, 1),
            (ErrorCode::Unavailable, 3),
            (ErrorCode::Version, 1),
            (ErrorCode::Internal, 1),
        ];
        for (code, exit) in cases {
            let error = refused(code);
            assert_eq!((error.exit().code(), error.to_string().as_str()), (exit, "why"), "{code:?}");
            assert!(error.next_step().is_some(), "{code:?}");
        }
    }

    #[test]
    fn exit_codes_of_connections() {
        let (address, cause) = ("h:1".to_owned(), "why".to_owned());
        let cases = [
            (DialError::Address { address: address.clone(), why: "why" }, 2),
            (DialError::Unreachable { address: address.clone(), cause: cause.clone() }, 3),
            (DialError::Untrusted { address: address.clone(), cause: cause.clone() }, 4),
            (DialError::NotPinned { address: address.clone() }, 4),
            (DialError::Refused { address, cause }, 4),
            (DialError::Credentials("why".into()), 4),
        ];
        for (error, exit) in cases {
            assert_eq!(CliError::Dial(error.clone()).exit().code(), exit, "{error}");
            assert_eq!(CliError::Join(JoinError::Dial(error.clone())).exit().code(), exit, "{error}");
            assert!(CliError::Dial(error).next_step().is_some());
        }
    }

    #[test]
    fn exit_codes_of_the_rest() {
        let cases = [
            (CliError::Usage("why".into()), 2),
            (CliError::Home(HomeError::Missing("d".into())), 4),
            (CliError::Join(JoinError::Used("why".into())), 4),
            (CliError::Join(JoinError::Refused(WireError::new(ErrorCode::Unavailable, "why"))), 3),
            (CliError::RunFailed { run: "iris-1".into(), cause: "why".into() }, 1),
            (CliError::Output(io::Error::other("why")), 1),
            (CliError::file("read", Path::new("x"))(io::ErrorKind::NotFound.into()), 1),
        ];
        for (error, exit) in cases {
            assert_eq!(error.exit().code(), exit, "{error}");
        }
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(refused(ErrorCode::Unavailable).is_passing());
        assert!(!refused(ErrorCode::NotFound).is_passing());
        assert!(!refused(ErrorCode::Internal).is_passing());
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        let lost = CliError::from(tonic::Status::from_error(broken.into()));
        assert_eq!(lost.to_string(), "lost the connection to the coordinator: connection reset");
        assert!(lost.is_passing() && lost.next_step().is_some());
        assert_eq!(lost.exit().code(), 3);
        let pipe = CliError::Output(io::ErrorKind::BrokenPipe.into());
        assert!(pipe.is_broken_pipe() && !pipe.is_passing());
    }
}
