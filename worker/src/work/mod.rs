//! What a piece of work needs, and what is computed.
//!
//! Reading order: [`Assignment`] (what the coordinator hands out), [`Inputs`] (what is fetched for it),
//! [`Task`] (what is ready to be computed), [`Running`] (the computation), [`outgoing`] (what is sent of its result,
//! and what stays).

mod assignment;
mod inputs;
mod outgoing;
pub(crate) mod prepared;
pub(crate) mod running;
mod spec;
pub(crate) mod task;

use data::DataError;

pub(crate) use self::{
    assignment::Assignment,
    inputs::Inputs,
    running::{Leaving, Running, Step, Update},
    task::Task,
};
use crate::client::CallError;

/// Work that cannot be done here; it is handed back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Impossible {
    /// What is sent to the coordinator: no contents of private cells.
    pub(crate) reason: String,
    /// What is logged here, where the data is.
    pub(crate) detail: String,
}

impl Impossible {
    /// A reason that holds nothing private.
    pub(crate) fn open(reason: String) -> Self {
        Self { detail: reason.clone(), reason }
    }

    /// A fault in data that the coordinator handed out itself.
    fn hosted(error: &DataError) -> Self {
        Self::open(error.to_string())
    }
}

/// Why a call for a piece of work did not work.
#[derive(Debug)]
pub(crate) enum WorkError {
    Impossible(Impossible),
    /// The kept update cannot be read.
    Lost,
    Call(CallError),
}

impl From<CallError> for WorkError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Impossible> for WorkError {
    fn from(error: Impossible) -> Self {
        Self::Impossible(error)
    }
}

#[cfg(test)]
pub(crate) mod tests;
