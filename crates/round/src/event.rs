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
    /// These workers were not heard of for a whole lease. Only [`crate::Machine::overdue`] makes this
    /// event: it turns what is known in memory into a fact that can be replayed.
    WorkersSilent {
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
    /// An operator wants no new work for this worker, or (`drained` is false) allows it again.
    WorkerDrained {
        /// Who.
        worker: Name,
        /// Whether it is left out of later rounds.
        drained: bool,
    },
    /// An operator ends the part of this worker for good; what it sent to the open round is dropped.
    WorkerRevoked {
        /// Who.
        worker: Name,
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
    /// The shell finished [`crate::Effect::Publish`]: the round is committed. The record of this event
    /// is the commit point.
    Published {
        /// The round.
        round: u32,
        /// The version is better than every one before, by the metric of the run.
        better: bool,
    },
    /// The shell could not do what an effect asked; the run fails.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// An operator wants no further round for now; the open one goes on.
    Pause {
        /// Who and why, for people.
        reason: String,
    },
    /// An operator lets a paused run go on.
    Resume,
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
    /// The shell is another process than before, and what was only in its memory is gone: sessions, leases,
    /// and the sum of the updates that were folded.
    Restarted {
        /// The first lease of this process. Take a random one, so that leases which were handed out and
        /// forgotten never match.
        lease_base: Lease,
    },
}
