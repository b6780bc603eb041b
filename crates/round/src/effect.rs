use std::fmt;

use params::{Digest, Name};

use crate::Lease;

/// What the shell must do, in list order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A round opens: prepare an accumulator for at most `examples_max` examples in all.
    OpenRound {
        /// 1-based.
        round: u32,
        /// 1-based attempt at this round.
        attempt: u32,
        /// Who was picked, sorted.
        cohort: Vec<Name>,
        /// The sum of the examples of the cohort.
        examples_max: u64,
    },
    /// Add this update to the accumulator, then acknowledge it to the worker.
    Fold {
        /// Whose.
        worker: Name,
        /// Which work.
        lease: Lease,
        /// Of the payload.
        digest: Digest,
        /// Its weight.
        examples: u64,
    },
    /// The same update was folded before: acknowledge it again, do not add it.
    Acknowledge {
        /// Whose.
        worker: Name,
        /// Which work.
        lease: Lease,
    },
    /// Keep these metrics, then acknowledge them to the worker.
    KeepEvaluation {
        /// Whose.
        worker: Name,
        /// Which work.
        lease: Lease,
    },
    /// Refuse what this worker sent.
    Reject {
        /// Whose.
        worker: Name,
        /// Which work it named.
        lease: Lease,
        /// Why.
        refusal: Refusal,
    },
    /// Turn the accumulator into a candidate version; answer with `Event::Aggregated`.
    Aggregate {
        /// Of the round.
        round: u32,
    },
    /// Measure the candidate on the coordinator's holdout; answer with `Event::EvaluatedCentrally`.
    EvaluateCentrally {
        /// Of the round.
        round: u32,
    },
    /// Commit the round and publish the candidate; answer with `Event::Published`.
    Publish {
        /// Of the round.
        round: u32,
    },
    /// Drop the accumulator: the attempt failed, or the run ends while a round is open. Answers to
    /// earlier effects of this round that are still under way must not be sent any more.
    Discard {
        /// Of the round.
        round: u32,
    },
    /// Tell people.
    Tell(Note),
    /// The run has ended.
    End(Outcome),
}

/// Why an input was refused; also a metric label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such work is open for this worker: the round closed, or another process took over.
    Stale,
    /// Another payload was accepted for this work before.
    Duplicate,
    /// The claimed weight is 0 or over what the worker was given or offered.
    Weight {
        /// What it claimed.
        claimed: u64,
        /// What is allowed.
        allowed: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => write!(f, "this work is no longer open, poll for new work"),
            Self::Duplicate => write!(f, "another update was already accepted for this work"),
            Self::Weight { claimed, allowed } => {
                write!(f, "the update claims {claimed} examples, 1 to {allowed} are allowed")
            }
        }
    }
}

/// Things that people who watch a run want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A worker can be used.
    WorkerReady {
        /// Who.
        worker: Name,
    },
    /// A worker of the round in progress is gone.
    WorkerLost {
        /// Who.
        worker: Name,
        /// In which round.
        round: u32,
        /// Why, for people.
        reason: String,
    },
    /// A worker is left out for the rest of the run.
    WorkerExcluded {
        /// Who.
        worker: Name,
        /// Why, for people.
        reason: String,
    },
    /// A round closed with this many updates.
    RoundClosed {
        /// Which.
        round: u32,
        /// Updates in it.
        updates: u32,
        /// Workers picked.
        cohort: u32,
    },
    /// A round failed and is tried again from the same base version.
    AttemptFailed {
        /// Which.
        round: u32,
        /// Which attempt, 1-based.
        attempt: u32,
        /// Updates that were in.
        updates: u32,
        /// Updates that were needed.
        needed: u32,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All rounds are committed.
    Completed,
    /// It cannot go on.
    Failed {
        /// Why, for people.
        cause: String,
    },
    /// An operator ended it.
    Stopped {
        /// Who and why, for people.
        cause: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerReady { worker } => write!(f, "{worker} is ready"),
            Self::WorkerLost { worker, round, reason } => write!(f, "round {round}: lost {worker}: {reason}"),
            Self::WorkerExcluded { worker, reason } => {
                write!(f, "{worker} is left out for the rest of the run: {reason}")
            }
            Self::RoundClosed { round, updates, cohort } => {
                write!(f, "round {round} closed with {updates} of {cohort} updates")
            }
            Self::AttemptFailed { round, attempt, updates, needed } => write!(
                f,
                "round {round}: attempt {attempt} failed with {updates} of at least {needed} updates, trying again"
            ),
        }
    }
}
