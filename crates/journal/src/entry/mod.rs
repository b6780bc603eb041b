//! What a coordinator writes into its journal: [`Entry`], one per frame, and [`Item`], one per frame of a
//! snapshot, as protobuf.
//!
//! Stored types only grow: a field that is added has a default, a number is never used again, and what is
//! not known to a reader is refused by name rather than skipped, because a machine that misses an event is
//! another machine.

mod event;
mod saved;

use params::{Digest, Name};
use prost::Message;
use round::{Event, Millis, Saved};

/// One frame of the journal. All of it becomes durable together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// When it was written, by the wall clock: for people.
    pub unix_ms: u64,
    /// Changes of the index, in order.
    pub changes: Vec<Change>,
    /// Small blobs that the changes name: they need no file of their own to be durable.
    pub blobs: Vec<Vec<u8>>,
    /// What happened, where it is more than the changes.
    pub what: Option<What>,
}

/// What an entry says beside its changes.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A process has taken the home over. Epochs count up: an older process that still runs is fenced off.
    Boot {
        /// 1 for the first process of a home.
        epoch: u64,
        /// The release that it runs.
        version: String,
    },
    /// A run was started: its machine as it was made, plan and all.
    Opened {
        /// Whose.
        run: Name,
        /// The machine.
        saved: Box<Saved>,
    },
    /// A run's machine took an event. That of `Event::Published` is the commit point of its round
    /// (`RoundCommitted`): its changes hold the version, the round and the run.
    Step(Step),
}

/// An event of a run's machine, as it was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Whose machine.
    pub run: Name,
    /// The machine's time.
    pub now: Millis,
    /// The event.
    pub event: Event,
    /// What the machine does not look at.
    pub aside: Aside,
}

/// What comes with an event and is no concern of the machine: measurements, and names of blobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Aside {
    /// Nothing.
    #[default]
    None,
    /// With `UpdateReceived`.
    Trained {
        /// The mean train loss.
        train_loss: f64,
        /// The weight.
        examples: u64,
    },
    /// With `EvaluationReceived` and `EvaluatedCentrally`.
    Measured {
        /// The mean loss.
        loss: f64,
        /// Right answers.
        correct: u64,
        /// Rows.
        examples: u64,
    },
    /// With `Aggregated`.
    Candidate {
        /// Bytes of the weights' blob.
        weights_bytes: u64,
        /// The server optimizer's state with it, and its size; `None`: it has none.
        optimizer: Option<(Digest, u64)>,
    },
}

/// One change of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The new value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// One frame of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The epoch of the process that wrote it.
    Epoch(u64),
    /// A pair of the index.
    Pair {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// The machine of a run, and what came with the events of its open round.
    Run {
        /// Whose.
        run: Name,
        /// The machine.
        saved: Box<Saved>,
        /// Measurements of the open round, for whoever makes its manifest: JSON of the coordinator.
        asides: Vec<u8>,
    },
}

/// Why a frame is no entry of this release.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// It is not protobuf of the expected shape.
    #[error("not a journal entry: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A field is missing, out of its range or of a kind that this release does not know.
    #[error("journal entry: {field}: {reason}; it may be of a newer release")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl EntryError {
    fn field(field: &'static str, reason: impl ToString) -> Self {
        Self::Field { field, reason: reason.to_string() }
    }

    fn missing(field: &'static str) -> Self {
        Self::field(field, "is missing or unknown")
    }
}

impl Entry {
    /// The bytes of a frame.
    pub fn encode(&self) -> Vec<u8> {
        let what = self.what.as_ref().map(|what| match what {
            What::Boot { epoch, version } => {
                stored::What::Boot(stored::Boot { epoch: *epoch, version: version.clone() })
            }
            What::Opened { run, saved } => stored::What::Opened(Box::new(saved::store(run, saved, &[]))),
            What::Step(step) => stored::What::Step(event::store(step)),
        });
        let change =
            |change: &Change| stored::Change { key: change.key.clone(), value: change.value.clone() };
        let entry = stored::Entry {
            unix_ms: self.unix_ms,
            changes: self.changes.iter().map(change).collect(),
            blobs: self.blobs.clone(),
            what,
        };
        entry.encode_to_vec()
    }

    /// Reads what [`Entry::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are not an entry, or one of a release that knows more.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let entry = stored::Entry::decode(bytes)?;
        let what = match entry.what {
            None => None,
            Some(stored::What::Boot(boot)) => Some(What::Boot { epoch: boot.epoch, version: boot.version }),
            Some(stored::What::Opened(run)) => {
                let (run, saved, _) = saved::load(*run)?;
                Some(What::Opened { run, saved })
            }
            Some(stored::What::Step(step)) => Some(What::Step(event::load(step)?)),
        };
        if what.is_none() && entry.changes.is_empty() {
            return Err(EntryError::missing("what"));
        }
        let change = |change: stored::Change| Change { key: change.key, value: change.value };
        let changes = entry.changes.into_iter().map(change).collect();
        Ok(Self { unix_ms: entry.unix_ms, changes, blobs: entry.blobs, what })
    }
}

impl Item {
    /// The bytes of a frame.
    pub fn encode(&self) -> Vec<u8> {
        let item = match self {
            Self::Epoch(epoch) => stored::ItemKind::Epoch(*epoch),
            Self::Pair { key, value } => {
                stored::ItemKind::Pair(stored::Pair { key: key.clone(), value: value.clone() })
            }
            Self::Run { run, saved, asides } => {
                stored::ItemKind::Run(Box::new(saved::store(run, saved, asides)))
            }
        };
        stored::Item { item: Some(item) }.encode_to_vec()
    }

    /// Reads what [`Item::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are not an item, or one of a release that knows more.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        match stored::Item::decode(bytes)?.item.ok_or_else(|| EntryError::missing("item"))? {
            stored::ItemKind::Epoch(epoch) => Ok(Self::Epoch(epoch)),
            stored::ItemKind::Pair(pair) => Ok(Self::Pair { key: pair.key, value: pair.value }),
            stored::ItemKind::Run(run) => {
                let (run, saved, asides) = saved::load(*run)?;
                Ok(Self::Run { run, saved, asides })
            }
        }
    }
}

fn name(field: &'static str, text: &str) -> Result<Name, EntryError> {
    text.parse().map_err(|reason| EntryError::field(field, reason))
}

fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, EntryError> {
    Digest::try_from(bytes).map_err(|reason| EntryError::field(field, reason))
}

/// The messages as they are on disk.
mod stored {
    pub(super) use super::{event::stored::*, saved::stored::*};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Entry {
        #[prost(uint64, tag = "1")]
        pub(super) unix_ms: u64,
        #[prost(message, repeated, tag = "2")]
        pub(super) changes: Vec<Change>,
        #[prost(bytes = "vec", repeated, tag = "3")]
        pub(super) blobs: Vec<Vec<u8>>,
        #[prost(oneof = "What", tags = "10, 11, 12")]
        pub(super) what: Option<What>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum What {
        #[prost(message, tag = "10")]
        Boot(Boot),
        #[prost(message, tag = "11")]
        Step(Step),
        #[prost(message, tag = "12")]
        Opened(Box<SavedRun>),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Boot {
        #[prost(uint64, tag = "1")]
        pub(super) epoch: u64,
        #[prost(string, tag = "2")]
        pub(super) version: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Change {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) value: Option<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Item {
        #[prost(oneof = "ItemKind", tags = "1, 2, 3")]
        pub(super) item: Option<ItemKind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum ItemKind {
        #[prost(uint64, tag = "1")]
        Epoch(u64),
        #[prost(message, tag = "2")]
        Pair(Pair),
        #[prost(message, tag = "3")]
        Run(Box<SavedRun>),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Pair {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
    }
}

#[cfg(test)]
mod tests;
