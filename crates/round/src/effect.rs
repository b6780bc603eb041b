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
    /// Add this update to the accumulator.
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
    /// Everything up to this event must be durable before what follows in this list is done: what
    /// follows tells somebody.
    Persist,
    /// Tell the worker that its contribution is in.
    Acknowledge {
        /// Whose.
        worker: Name,
        /// Which work.
        lease: Lease,
    },
    /// Keep these metrics.
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
    /// A worker is away whose update was acknowledged before the restart: it is waited for.
    WorkerAwaited {
        /// Who.
        worker: Name,
        /// In which round.
        round: u32,
    },
    /// A worker gets no new work, or does again.
    WorkerDrained {
        /// Who.
        worker: Name,
        /// Whether it is left out of later rounds.
        drained: bool,
    },
    /// The coordinator was restarted in the middle of a round, which goes on.
    RoundReopened {
        /// Which.
        round: u32,
        /// Updates that were acknowledged before and are asked for again.
        owed: u32,
    },
    /// Other bytes came for an update that was acknowledged before the restart: they count instead.
    UpdateReplaced {
        /// Whose.
        worker: Name,
        /// In which round.
        round: u32,
    },
    /// No further round is opened for now.
    Paused {
        /// Who and why, for people.
        reason: String,
    },
    /// Rounds are opened again.
    Resumed,
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
        /// Why.
        why: GivenUp,
    },
}

/// Why an attempt at a round makes no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Too few updates came.
    Quorum,
    /// An update that was acknowledged before a restart did not come again.
    Owed,
    /// A worker whose update was in was revoked.
    Revoked,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All rounds are committed.
    Completed,
    /// No round was better than an earlier one for as long as the plan's patience.
    StoppedEarly {
        /// Rounds in a row without a better version.
        unimproved: u32,
    },
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

impl Note {
    /// One word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::WorkerReady { .. } => "worker-ready",
            Self::WorkerLost { .. } => "worker-lost",
            Self::WorkerExcluded { .. } => "worker-excluded",
            Self::WorkerAwaited { .. } => "worker-awaited",
            Self::WorkerDrained { .. } => "worker-drained",
            Self::RoundReopened { .. } => "round-reopened",
            Self::UpdateReplaced { .. } => "update-replaced",
            Self::Paused { .. } => "paused",
            Self::Resumed => "resumed",
            Self::RoundClosed { .. } => "round-closed",
            Self::AttemptFailed { .. } => "attempt-failed",
        }
    }

    /// Whom it is about; `None`: the run.
    pub fn worker(&self) -> Option<&Name> {
        match self {
            Self::WorkerReady { worker }
            | Self::WorkerLost { worker, .. }
            | Self::WorkerExcluded { worker, .. }
            | Self::WorkerAwaited { worker, .. }
            | Self::WorkerDrained { worker, .. }
            | Self::UpdateReplaced { worker, .. } => Some(worker),
            Self::RoundReopened { .. }
            | Self::Paused { .. }
            | Self::Resumed
            | Self::RoundClosed { .. }
            | Self::AttemptFailed { .. } => None,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerReady { worker } => write!(f, "{worker} is ready"),
            Self::WorkerLost { worker, round, reason } => write!(f, "round {round}: lost {worker}: {reason}"),
            Self::WorkerExcluded { worker, reason } => {
                write!(f, "{worker} is left out for the rest of the run: {reason}")
            }
            Self::WorkerAwaited { worker, round } => {
                write!(
                    f,
                    "round {round}: {worker} is away, waiting for its acknowledged update to come again"
                )
            }
            Self::WorkerDrained { worker, drained: true } => {
                write!(f, "{worker} is drained: it gets no new work")
            }
            Self::WorkerDrained { worker, drained: false } => write!(f, "{worker} is no longer drained"),
            Self::RoundReopened { round, owed } => {
                write!(
                    f,
                    "round {round} goes on after a restart of the coordinator, updates that are asked for again: {owed}"
                )
            }
            Self::UpdateReplaced { worker, round } => {
                write!(
                    f,
                    "round {round}: {worker} sent other bytes than those acknowledged before the restart, they count instead"
                )
            }
            Self::Paused { reason } => write!(f, "{reason}; no further round is opened until it is resumed"),
            Self::Resumed => write!(f, "resumed"),
            Self::RoundClosed { round, updates, cohort } => {
                write!(f, "round {round} closed with {updates} of {cohort} updates")
            }
            Self::AttemptFailed { round, attempt, updates, needed, why: GivenUp::Quorum } => write!(
                f,
                "round {round}: attempt {attempt} failed with {updates} of at least {needed} updates, trying again"
            ),
            Self::AttemptFailed { round, attempt, why: GivenUp::Owed, .. } => write!(
                f,
                "round {round}: attempt {attempt} is given up, an update that was acknowledged before the restart did not come again; trying again"
            ),
            Self::AttemptFailed { round, attempt, why: GivenUp::Revoked, .. } => write!(
                f,
                "round {round}: attempt {attempt} is given up, it holds the update of a revoked worker; trying again without"
            ),
        }
    }
}
