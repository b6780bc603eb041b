use params::{Digest, Name};

use crate::{Lease, Millis, Outcome};

/// What a worker should be doing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The round.
    pub round: u32,
    /// Names this work.
    pub lease: Lease,
    /// What to do.
    pub kind: WorkKind,
    /// The base version to train from, or the candidate to evaluate.
    pub model: Digest,
    /// The shard to train on; `None`: the worker's own data.
    pub shard: Option<u32>,
    /// The upper bound on the weight of the update.
    pub examples_max: u64,
    /// When the round closes, on the clock of `step`.
    pub deadline: Millis,
}

/// Kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// Train and send an update.
    Train,
    /// Measure a candidate and send metrics.
    Evaluate,
}

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for workers.
    Gathering,
    /// The cohort trains.
    Training,
    /// The shell makes a candidate.
    Aggregating,
    /// The candidate is measured.
    Evaluating,
    /// The shell commits the round.
    Publishing,
    /// The run has ended.
    Ended(Outcome),
}

/// One worker of the round in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub worker: Name,
    /// How far.
    pub state: MemberState,
}

/// How far a worker of the cohort is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// At work.
    Working {
        /// 0 to 100.
        percent: u32,
    },
    /// Its contribution is in.
    Done,
    /// Gone for this round.
    Lost,
}

/// What a worker is in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// It holds a lease.
    pub present: bool,
    /// Why it is left out for the rest of the run.
    pub excluded: Option<&'a str>,
    /// It is left out of later rounds.
    pub drained: bool,
    /// Its part has ended for good.
    pub revoked: bool,
    /// How far it is in the open round; `None`: it was not picked.
    pub member: Option<MemberState>,
}
