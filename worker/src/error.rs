//! Everything that ends this program, and the exit code of each.

use std::path::PathBuf;

use identity::{HomeError, JoinError, TokenError};
use proto::error::ErrorCode;
use service::{dial::DialError, exit::Exit, files::FileError, telemetry::TelemetryError};

use crate::{client::CallError, compute::ComputeError, tables::TableError};

/// Why this program ends without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The log cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The operating system does not give what every process needs.
    #[error("start the worker")]
    Start(#[source] std::io::Error),
    /// There is no randomness.
    #[error(transparent)]
    Random(#[from] service::random::Unavailable),
    /// The token file cannot be read.
    #[error("read token file {}", path.display())]
    TokenFile {
        /// Of the file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The text is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Joining failed.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// There is no usable identity.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The identity is of somebody who does not train.
    #[error(
        "{} holds the identity of {owner}, which is no worker: join with a token of `conclave invite worker NAME`",
        home.display()
    )]
    NotWorker {
        /// The folder.
        home: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// Another process uses this identity.
    #[error("another worker runs with the home {}: stop it, or join with another home", .0.display())]
    Occupied(PathBuf),
    /// The lock of the home cannot be made.
    #[error("lock {}", path.display())]
    Lock {
        /// Of the lock file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// What the home keeps cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The device cannot be used.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// A table cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The coordinator and this worker do not accept each other.
    #[error("the coordinator cannot be worked for")]
    Call(#[source] CallError),
    /// A background task failed.
    #[error("{0}")]
    Task(String),
}

impl Error {
    /// What to do about it, where the message itself does not say.
    pub(crate) fn next_step(&self) -> Option<&'static str> {
        let step = match self {
            Self::Join(
                JoinError::Unknown(_)
                | JoinError::WrongSecret(_)
                | JoinError::Expired(_)
                | JoinError::Used(_)
                | JoinError::OtherMember { .. },
            ) => "ask an operator for a new token: `conclave invite worker NAME`",
            Self::Join(JoinError::Dial(DialError::Unreachable { .. })) => {
                "check that the coordinator runs and that no firewall is between, then join again with the same token"
            }
            Self::Call(CallError::Dial(_)) => {
                "`conclave-worker check` shows each part; with a new token, `conclave-worker join` makes a new certificate"
            }
            Self::Call(CallError::Refused(error)) => match error.code {
                ErrorCode::Unauthenticated | ErrorCode::Forbidden => {
                    "join again with a new token: `conclave invite worker NAME`"
                }
                _ => return None,
            },
            Self::Table(_) => "correct the file or the --data argument, and start again",
            Self::TokenFile { .. } => "write the line that `conclave invite` printed into the file",
            _ => return None,
        };
        Some(step)
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Token(_) => Self::Usage,
            Error::Join(error) => of_join(error),
            Error::Home(HomeError::File(_)) => Self::Failure,
            Error::Home(_) | Error::NotWorker { .. } => Self::Unauthorised,
            Error::Call(error) => of_call(error),
            _ => Self::Failure,
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The exit code of a call that failed for good.
pub(crate) fn of_call(error: &CallError) -> Exit {
    match error {
        CallError::Broken(_) => Exit::Unreachable,
        CallError::Dial(error) => of_dial(error),
        CallError::Refused(error) => of_code(error.code),
    }
}

fn of_code(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => Exit::Unauthorised,
        ErrorCode::Unavailable => Exit::Unreachable,
        ErrorCode::NotFound => Exit::NotFound,
        _ => Exit::Failure,
    }
}

/// The exit code of a connection that failed for good.
pub(crate) fn of_dial(error: &DialError) -> Exit {
    match error {
        DialError::Unreachable { .. } => Exit::Unreachable,
        DialError::Address { .. } => Exit::Usage,
        _ => Exit::Unauthorised,
    }
}

fn of_join(error: &JoinError) -> Exit {
    match error {
        JoinError::Dial(error) => of_dial(error),
        JoinError::Refused(error) => of_code(error.code),
        JoinError::Occupied { .. } => Exit::Usage,
        JoinError::OtherAuthority { .. }
        | JoinError::Unknown(_)
        | JoinError::WrongSecret(_)
        | JoinError::Expired(_)
        | JoinError::Used(_)
        | JoinError::OtherMember { .. } => Exit::Unauthorised,
        _ => Exit::Failure,
    }
}

#[cfg(test)]
mod tests {
    use proto::error::WireError;

    use super::*;

    #[test]
    fn exit_codes_say_who_must_act() {
        let refused = |code| of_call(&CallError::Refused(WireError::new(code, "why")));
        assert_eq!(refused(ErrorCode::Forbidden), Exit::Unauthorised);
        assert_eq!(refused(ErrorCode::Unauthenticated), Exit::Unauthorised);
        assert_eq!(refused(ErrorCode::Version), Exit::Failure);
        assert_eq!(of_call(&CallError::Broken(String::new())), Exit::Unreachable);
        let refused = DialError::Refused { address: "h:1".into(), cause: "unknown authority".into() };
        assert_eq!(of_dial(&refused), Exit::Unauthorised);
        assert_eq!(Exit::from(&Error::Join(JoinError::Used("used".into()))), Exit::Unauthorised);
        assert_eq!(Exit::from(&Error::Home(HomeError::Missing("h".into()))), Exit::Unauthorised);
        assert_eq!(Exit::from(&Error::Token(TokenError::Empty)), Exit::Usage);
    }
}
