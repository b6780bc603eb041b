use params::{Digest, Name};

use crate::{Lease, Millis, Session, WorkKind};

/// Names one call to the coordinator; its answer carries the same number. An answer to any call but the
/// one under way is ignored.
pub type Call = u64;

/// What happened. Times come with [`crate::worker::Machine::step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process is ready to work.
    Start,
    /// Time passed.
    Tick,
    /// The process is to end (SIGTERM). The second one ends it at once.
    Stop,
    /// `Connect` worked: the coordinator took the registration.
    Connected {
        /// Of the effect.
        call: Call,
        /// Names this process in later calls.
        session: Session,
        /// How long a lease lasts without a sign of life.
        lease_ms: Millis,
        /// The protocol that both sides speak.
        protocol: u32,
    },
    /// `Poll` was answered.
    Polled {
        /// Of the effect.
        call: Call,
        /// `None`: nothing is wanted of this worker.
        work: Option<Work>,
    },
    /// `TellProgress` was answered.
    Told {
        /// Of the effect.
        call: Call,
        /// The work is not open under this lease (any more).
        abandon: bool,
    },
    /// `Fetch`, `Submit`, `SubmitEvaluation`, `Decline` or `Leave` worked.
    Done {
        /// Of the effect.
        call: Call,
    },
    /// A call did not work.
    Failed {
        /// Of the effect.
        call: Call,
        /// What to do about it.
        failure: Failure,
    },
    /// A batch of the training is done.
    Progressed {
        /// Of the work.
        key: Digest,
        /// 0 to 100.
        percent: u32,
    },
    /// `Train` is done; the update is in memory.
    Trained {
        /// Of the work.
        key: Digest,
        /// Of the payload.
        digest: Digest,
        /// Length of the payload.
        bytes: u64,
        /// Its weight.
        examples: u64,
    },
    /// `Keep` is done: the update survives a crash of this host.
    Kept {
        /// Of the work.
        key: Digest,
    },
    /// `Evaluate` is done; the metrics are in memory.
    Measured {
        /// Of the work.
        key: Digest,
    },
    /// `Train`, `Evaluate` or `Keep` did not work, and trying again does not help.
    WorkFailed {
        /// Of the work.
        key: Digest,
        /// Why, for people: it is sent to the coordinator.
        reason: String,
    },
}

/// Work that the coordinator handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Of which run.
    pub run: Name,
    /// Of which round, 1-based.
    pub round: u32,
    /// Names this work.
    pub lease: Lease,
    /// What to do.
    pub kind: WorkKind,
    /// Equal for work with the same result, whatever its lease.
    pub key: Digest,
    /// When the round closes, from now.
    pub deadline_ms: Millis,
}

/// Why a call did not work, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no connection, or no answer came in time.
    Broken,
    /// The coordinator does not know the session or the work (any more).
    Stale,
    /// Not now.
    Busy {
        /// The least time to wait; 0 where the coordinator says nothing.
        retry_ms: Millis,
    },
    /// The kept update of a `Submit` cannot be read: it must be trained again.
    Lost,
    /// It will never work for this piece of work.
    Impossible {
        /// Why, for people: it is sent to the coordinator.
        reason: String,
    },
    /// The coordinator and this worker do not accept each other.
    Fatal {
        /// Why, for people.
        reason: String,
    },
}
