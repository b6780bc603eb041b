use std::fmt;

use crate::JOB_BYTES_MAX;

/// Why a text is not a job file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Longer than [`JOB_BYTES_MAX`].
    #[error("job file of {bytes} bytes, at most {JOB_BYTES_MAX} are read")]
    TooLong {
        /// The length of the text.
        bytes: usize,
    },
    /// Not TOML, or a key or type that job files do not have. Only the first such place is known.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// 1-based.
        line: usize,
        /// 1-based, in characters.
        column: usize,
        /// What is wrong there, on one line.
        message: String,
    },
    /// Values that are missing or break bounds: all of them, in the order of the file format.
    #[error("{}", listed(.0))]
    Faults(Vec<Fault>),
}

/// One value of a job file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path of the key, for instance `rounds.cohort.max`.
    pub key: String,
    /// The value as TOML writes it; `None` where it is missing or the reason quotes it.
    pub value: Option<String>,
    /// The bound that it breaks, and where it helps what to write instead.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value}: {}", self.key, self.reason),
            None => write!(f, "{}: {}", self.key, self.reason),
        }
    }
}

impl JobError {
    /// The place and message of a TOML error in `text`.
    pub(crate) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::Syntax {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            message: error.message().lines().collect::<Vec<_>>().join(", "),
        }
    }
}

/// One fault as it is; several as a list, one per line.
fn listed(faults: &[Fault]) -> String {
    match faults {
        [fault] => fault.to_string(),
        faults => {
            faults.iter().fold(format!("{} faults", faults.len()), |text, fault| format!("{text}\n  {fault}"))
        }
    }
}
