//! The stored form of runs, rounds and versions. Stored types are not domain types: they only grow,
//! and every field that is added has a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A blob and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRecord {
    /// BLAKE3, hexadecimal.
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

/// A run: `run/<name>`. Sized so that it fits the index whatever the number of rounds; what grows
/// with the data (job file, shard table, holdout) is in blobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub(crate) run: String,
    pub(crate) model: String,
    /// The job file.
    pub(crate) job: BlobRecord,
    /// What the job file names, resolved: see `runs::Prepared`.
    pub(crate) prepared: BlobRecord,
    pub(crate) started_unix_ms: u64,
    /// Rounds planned; grows by `round start`.
    pub(crate) rounds: u32,
    /// Rounds committed.
    pub(crate) committed: u32,
    /// The last version's weights, or the initial ones.
    pub(crate) base: BlobRecord,
    /// The server optimizer's state after the last committed round.
    pub(crate) optimizer: Option<BlobRecord>,
    /// Homes of release 0.1 only: which worker owns which shard (JSON: name to index). The journal has it
    /// since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ledger: Option<BlobRecord>,
    pub(crate) state: RunState,
    /// Why it ended, where that needs saying.
    pub(crate) cause: String,
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunState {
    Active,
    Completed,
    Failed,
    Stopped,
}

impl RunState {
    /// The word for people and programs. An active run that nobody drives yet is gathering.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Active => "gathering",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// A committed round: `round/<run>/<number>`. What is told of it is in the version's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoundRecord {
    pub(crate) manifest: BlobRecord,
}

/// A version of a model: `version/<model>/<number>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) model: String,
    pub(crate) version: u64,
    pub(crate) weights: BlobRecord,
    pub(crate) manifest: BlobRecord,
    pub(crate) run: String,
    pub(crate) round: u32,
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) created_unix_ms: u64,
}

/// A movable name of a version: `alias/<model>/<alias>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AliasRecord {
    pub(crate) model: String,
    pub(crate) alias: String,
    pub(crate) version: u64,
}

/// What operators said of a worker: `member/worker/<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    pub(crate) name: String,
    /// It gets no new work.
    pub(crate) drained: bool,
    /// Its part has ended for good.
    pub(crate) revoked: bool,
}
