use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use params::{Digest, Name};
use round::{Assignment, Lease, Machine, Touched};

/// What each worker of a run should be doing, for the calls of workers. The driver changes it entry by entry
/// before it answers, so that who is acknowledged and asks at once sees what is next.
#[derive(Debug, Default)]
pub(crate) struct Board {
    posted: RwLock<Posted>,
}

/// See [`Board`].
#[derive(Debug, Default)]
pub(crate) struct Posted {
    work: BTreeMap<Name, Offer>,
    /// Work of the open round that is done, by its lease: a repeated message is let in and acknowledged.
    done: BTreeMap<Name, Lease>,
    /// The file that work names, to be sent to workers.
    pub(crate) model: Option<(Digest, Bytes)>,
}

/// Work, and the digest of an update whose bytes are wanted again.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) assignment: Assignment,
    pub(crate) owed: Option<Digest>,
    /// Until the round closes, from when this was posted.
    pub(crate) deadline_ms: u64,
}

impl Posted {
    /// What this worker should be doing.
    pub(crate) fn work(&self, worker: &Name) -> Option<&Offer> {
        self.work.get(worker)
    }

    /// Who has work.
    pub(crate) fn workers(&self) -> Vec<Name> {
        self.work.keys().cloned().collect()
    }

    /// Whether a message about this work would be taken.
    pub(crate) fn expects(&self, worker: &Name, lease: Lease) -> bool {
        self.work.get(worker).is_some_and(|offer| offer.assignment.lease == lease)
            || self.done.get(worker) == Some(&lease)
    }

    fn post(&mut self, machine: &Machine, worker: &Name) {
        match machine.assignment(worker) {
            Some(assignment) => {
                let owed = machine.owed(worker);
                // The machine's time is its own: workers are told how long, not until when.
                let deadline_ms = assignment.deadline.saturating_sub(machine.now());
                self.work.insert(worker.clone(), Offer { assignment, owed, deadline_ms });
            }
            None => {
                self.work.remove(worker);
            }
        }
        // A lease of the round before is still known: its sender may have missed the answer.
        if let Some(lease) = machine.done(worker) {
            self.done.insert(worker.clone(), lease);
        }
    }
}

impl Board {
    /// As it is now.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Posted> {
        self.posted.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what changed, and returns whom it concerns.
    pub(super) fn update(
        &self,
        machine: &Machine,
        touched: Touched,
        model: Option<&(Digest, Bytes)>,
    ) -> Vec<Name> {
        let mut posted = self.posted.write().unwrap_or_else(PoisonError::into_inner);
        posted.model = model.cloned();
        let names = match touched {
            Touched::Workers(names) => names,
            Touched::All => {
                let mut names: Vec<Name> = std::mem::take(&mut posted.work).into_keys().collect();
                names.extend(machine.members().into_iter().map(|member| member.worker));
                names.sort_unstable();
                names.dedup();
                names
            }
        };
        for name in &names {
            posted.post(machine, name);
        }
        names
    }
}
