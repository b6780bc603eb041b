//! Exit codes, the same for every program, and the one way to report an error to a person.

use std::{error::Error, process::ExitCode};

/// How a program ends. The numbers are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: all of it worked.
    Success = 0,
    /// 1: anything that has no code of its own.
    Failure = 1,
    /// 2: wrong usage of the command line.
    Usage = 2,
    /// 3: the coordinator cannot be reached.
    Unreachable = 3,
    /// 4: not authorised.
    Unauthorised = 4,
    /// 5: the thing asked for does not exist.
    NotFound = 5,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Prints `error: ...` with all causes on one line to standard error, and gives the exit code:
    /// the last thing that a `main` does.
    #[allow(clippy::print_stderr)]
    pub fn report(self, error: &(dyn Error + 'static)) -> ExitCode {
        eprintln!("error: {}", chain(error));
        self.into()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error and its causes on one line: `open store: read header: permission denied`.
///
/// A cause whose text the line already ends with (an error that shows its own cause) is not repeated.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Sample {
        #[error("open store")]
        Plain(#[source] std::io::Error),
        #[error("open store: {0}")]
        Shown(#[source] std::io::Error),
    }

    #[test]
    fn the_chain_is_one_line_without_repeats() {
        let io = || std::io::Error::other("disk gone");
        assert_eq!(chain(&Sample::Plain(io())), "open store: disk gone");
        assert_eq!(chain(&Sample::Shown(io())), "open store: disk gone");
    }

    #[test]
    fn the_numbers_are_a_contract() {
        let all = [
            Exit::Success,
            Exit::Failure,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Unauthorised,
            Exit::NotFound,
        ];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5]);
    }
}
