use params::{Digest, Name};

use super::{Call, Kept};
use crate::{Lease, Millis};

/// What the shell must do, in list order.
///
/// Effects with a `call` are calls to the coordinator. One is under way at a time; each ends in an answer
/// or in `Event::Failed`, so the shell gives each a time limit. A new call or [`Effect::Exit`] replaces the
/// one under way: drop it, its answer is not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Dial and register; answer with `Event::Connected`.
    Connect {
        /// Names the call.
        call: Call,
    },
    /// Ask for work and wait a while for some; answer with `Event::Polled`.
    Poll {
        /// Names the call.
        call: Call,
    },
    /// Get what the work needs to this host: base version, shard. Answer with `Event::Done`. What has
    /// arrived must outlive a broken connection.
    Fetch {
        /// Names the call.
        call: Call,
        /// Of the work.
        lease: Lease,
        /// Of the work.
        key: Digest,
    },
    /// Renew the lease and tell how far the work is; answer with `Event::Told`.
    TellProgress {
        /// Names the call.
        call: Call,
        /// Of the work.
        lease: Lease,
        /// 0 to 100.
        percent: u32,
    },
    /// Send a kept update; answer with `Event::Done` once it is accepted.
    Submit {
        /// Names the call.
        call: Call,
        /// Of the work, which need not be the one that it was trained under.
        lease: Lease,
        /// What to send.
        update: Kept,
        /// Ask first how much has arrived before, and go on from there.
        resume: bool,
        /// How long it may take.
        limit_ms: Millis,
    },
    /// Send the metrics of `Evaluate`; answer with `Event::Done`.
    SubmitEvaluation {
        /// Names the call.
        call: Call,
        /// Of the work.
        lease: Lease,
        /// Of the work.
        key: Digest,
    },
    /// Hand the work back; answer with `Event::Done`.
    Decline {
        /// Names the call.
        call: Call,
        /// Of the work.
        lease: Lease,
        /// Why, for people.
        reason: String,
    },
    /// Say that this process ends; answer with `Event::Done`.
    Leave {
        /// Names the call.
        call: Call,
    },
    /// Train on what was fetched, whatever becomes of the connection: `Event::Progressed` after each batch,
    /// then `Event::Trained`, or `Event::WorkFailed`.
    Train {
        /// Of which run.
        run: Name,
        /// Of which round.
        round: u32,
        /// Of the work.
        key: Digest,
    },
    /// Measure the candidate that was fetched: `Event::Measured` or `Event::WorkFailed`.
    Evaluate {
        /// Of which run.
        run: Name,
        /// Of which round.
        round: u32,
        /// Of the work.
        key: Digest,
    },
    /// Stop `Train` or `Evaluate` of this work: its result is not wanted.
    Cancel {
        /// Of the work.
        key: Digest,
    },
    /// Make the update of `Event::Trained` durable: `Event::Kept` or `Event::WorkFailed`.
    Keep(Kept),
    /// Delete a kept update, if it is there.
    Forget {
        /// Of the work.
        key: Digest,
    },
    /// End the process. Nothing follows.
    Exit(Ending),
}

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to.
    Stopped,
    /// It and the coordinator do not accept each other.
    Fatal {
        /// Why, for people.
        reason: String,
    },
}
