//! Mistakes that a shell, or who changes the protocol, could make. The simulator must find each of them.

/// One mistake, made in the simulator's shells; the machines are the real ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// No mistake.
    #[default]
    None,
    /// An update is acknowledged before the journal is synced.
    AcknowledgeBeforePersist,
    /// A version is shown before its commit record is synced.
    PublishBeforeDurable,
    /// A restarted coordinator does not tell its machine, so nothing is asked for again.
    ForgetRestart,
    /// An update that arrives twice is added twice.
    FoldTwice,
    /// A restarted coordinator hands out the leases of the first process again.
    ReuseLeases,
    /// A candidate is announced to the machine before its bytes are durable.
    CandidateBeforeDurable,
    /// The end of leases is not written to the journal.
    ForgetSilence,
    /// Work is handed out before the opening of its round is synced.
    TellBeforePersist,
}
