//! What of a coordinator survives its crashes.

use std::collections::{BTreeMap, BTreeSet};

use params::{Digest, Name};
use round::{Committed, Event, Lease, Machine, Millis, Plan, Saved};

/// One record of the journal, and what the live machine was after it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) now: Millis,
    pub(crate) event: Event,
    /// For the oracles: the machine that wrote it.
    pub(crate) shadow: Saved,
    /// The attempt that was opened by it.
    pub(crate) opened: Option<Opened>,
}

/// The start of an attempt. Attempts are named by the place of this in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) round: u32,
    pub(crate) cohort: Vec<Name>,
}

/// The bytes of a candidate: a sum of one-hot vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) digest: Digest,
    /// Entry `i` is how often worker `i` is in it.
    pub(crate) counts: Vec<u32>,
}

/// A published version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) round: u32,
    pub(crate) attempt: usize,
    pub(crate) candidate: Candidate,
}

/// The folder of a coordinator.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The first record of the run.
    pub(crate) genesis: (Plan, Committed, Lease),
    pub(crate) journal: Vec<Entry>,
    /// So many entries were synced.
    pub(crate) durable: usize,
    pub(crate) blobs: BTreeMap<Digest, Candidate>,
    pub(crate) revoked: BTreeSet<Name>,
}

/// What a replay gives.
pub(crate) struct Replayed {
    pub(crate) machine: Machine,
    pub(crate) attempt: usize,
    /// Round, attempt and digest of each version, oldest first; of a whole replay only.
    pub(crate) published: Vec<(u32, usize, Digest)>,
}

impl Disk {
    pub(crate) fn new(plan: Plan, from: Committed, lease_base: Lease) -> Self {
        Self {
            genesis: (plan, from, lease_base),
            journal: Vec::new(),
            durable: 0,
            blobs: BTreeMap::new(),
            revoked: BTreeSet::new(),
        }
    }

    pub(crate) fn initial(&self) -> Machine {
        let (plan, from, lease_base) = self.genesis.clone();
        Machine::new(plan, from, lease_base, 0)
    }

    /// Feeds a new machine all entries, or those after a snapshot that was taken behind entry `snapshot`.
    pub(crate) fn replay(&self, snapshot: Option<usize>) -> Replayed {
        let start = snapshot.map_or(0, |at| at + 1);
        let mut machine = match snapshot {
            Some(at) => Machine::restore(self.journal[at].shadow.clone()),
            None => self.initial(),
        };
        let (mut attempt, mut published) = (0, Vec::new());
        for (at, entry) in self.journal.iter().enumerate() {
            if let (Event::Published { round, .. }, None) = (&entry.event, snapshot) {
                // The machine before it knows the candidate.
                published.extend(machine.candidate().map(|digest| (*round, attempt, digest)));
            }
            if entry.opened.is_some() {
                attempt = at;
            }
            if at >= start {
                let _ = machine.step(entry.now, entry.event.clone());
            }
        }
        Replayed { machine, attempt, published }
    }
}
