use std::collections::BTreeMap;

use params::{Digest, Name};

use crate::Millis;

/// What a run needs to know to run: the part of a job file that the protocol uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides the cohorts.
    pub seed: u64,
    /// Rounds to commit.
    pub rounds: u32,
    /// Quorum: updates without which no round closes. At least 1.
    pub cohort_min: u32,
    /// Updates at which a round closes. At least `cohort_min`.
    pub cohort_max: u32,
    /// Workers picked for a round; more than `cohort_max` is over-selection: the round closes without
    /// the slowest. At least `cohort_max`.
    pub cohort_select: u32,
    /// The longest a round may train, and the longest it may evaluate.
    pub deadline_ms: Millis,
    /// A worker that was not seen for this long is away, and its work is lost.
    pub lease_ms: Millis,
    /// How long a run waits for `cohort_select` workers before its first round, once it has `cohort_min`.
    pub gather_ms: Millis,
    /// How long a run waits for `cohort_min` workers before it fails.
    pub wait_ms: Millis,
    /// Failed attempts at one round before the run fails. At least 1.
    pub attempts_max: u32,
    /// Whose data is trained on.
    pub data: DataPlan,
    /// Who measures a candidate version.
    pub evaluation: Evaluation,
    /// Rounds in a row without a better version after which the run stops early; `None`: never.
    pub patience: Option<u32>,
}

/// Whose data is trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPlan {
    /// The coordinator hosts the data; shard `i` has `shards[i]` training examples. Each worker gets
    /// one shard and keeps it for the whole run.
    Hosted {
        /// Training examples of each shard; none is 0.
        shards: Vec<u64>,
    },
    /// Each worker trains on its own data, as many examples as it offered.
    Private,
}

/// Who measures a candidate version before it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// Nobody: there is no holdout.
    None,
    /// The coordinator, on its holdout: [`crate::Effect::EvaluateCentrally`].
    Central,
    /// The workers whose updates are in it, each on its own holdout.
    Workers,
}

/// Where a run stands after its last committed round: what a restarted coordinator resumes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Rounds committed so far; 0 before the first.
    pub round: u32,
    /// The digest of the last version, or of the initial weights.
    pub base: Digest,
    /// Which shard belongs to which worker.
    pub shards: BTreeMap<Name, u32>,
}
