use params::{Digest, Name};

use crate::{Lease, Session};

/// What happened. Times come with [`crate::Machine::step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A worker process registered. `examples` is the size of its own table of the run's dataset,
    /// `None` where it offers none.
    WorkerJoined {
        /// Who.
        worker: Name,
        /// Which process; an older session of the same worker ends.
        session: Session,
        /// Rows it offers for the run's dataset.
        examples: Option<u64>,
    },
    /// These workers polled, made progress or sent bytes: their leases are renewed. One event for all of
    /// them, so that no round opens, and nobody expires, between two sightings of one moment.
    WorkersSeen {
        /// Who, and which process of each.
        workers: Vec<(Name, Session)>,
    },
    /// A worker process ended, or its connection broke for good.
    WorkerLeft {
        /// Who.
        worker: Name,
        /// Which process.
        session: Session,
    },
    /// A worker told how far it is.
    Progress {
        /// Who.
        worker: Name,
        /// For which work.
        lease: Lease,
        /// 0 to 100.
        percent: u32,
    },
    /// An update arrived whole, and the shell verified digest, layout, finiteness and bounds.
    UpdateReceived {
        /// Who.
        worker: Name,
        /// For which work.
        lease: Lease,
        /// Of the payload.
        digest: Digest,
        /// The weight that it claims.
        examples: u64,
    },
    /// The metrics of a candidate arrived.
    EvaluationReceived {
        /// Who.
        worker: Name,
        /// For which work.
        lease: Lease,
    },
    /// A worker gave its work back, or the shell refused its update for good.
    Declined {
        /// Who.
        worker: Name,
        /// Which work.
        lease: Lease,
        /// Why, for people.
        reason: String,
    },
    /// The shell finished [`crate::Effect::Aggregate`].
    Aggregated {
        /// Of the round.
        round: u32,
        /// The candidate version.
        candidate: Digest,
    },
    /// The shell finished [`crate::Effect::EvaluateCentrally`].
    EvaluatedCentrally {
        /// Of the round.
        round: u32,
    },
    /// The shell finished [`crate::Effect::Publish`]: the round is committed.
    Published {
        /// The round.
        round: u32,
    },
    /// The shell could not do what an effect asked; the run fails.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// An operator ends the run.
    Stop {
        /// Who and why, for people.
        reason: String,
    },
    /// An operator adds rounds; an ended run goes on.
    AddRounds {
        /// How many.
        count: u32,
    },
}
