//! Worker processes that are or were connected: sessions, what they offer, when they were last seen.
//! Runs read this table; nothing in it decides anything.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use params::Name;
use round::{Millis, Session};
use tokio::sync::watch;

/// A dataset that a worker offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dataset {
    pub(crate) name: Name,
    pub(crate) rows: u64,
}

/// One worker, as its last process described itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    pub(crate) name: Name,
    pub(crate) session: Session,
    pub(crate) datasets: Vec<Dataset>,
    pub(crate) device: String,
    pub(crate) version: String,
    pub(crate) seen: Millis,
    /// The process said that it ends.
    pub(crate) left: bool,
}

/// What a run needs to know of a worker, cheap to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) name: Name,
    pub(crate) session: Session,
    pub(crate) seen: Millis,
    pub(crate) left: bool,
    /// The rows it offers of the run's dataset.
    pub(crate) rows: Option<u64>,
}

/// All workers, by name.
#[derive(Debug)]
pub(crate) struct Workers {
    table: Mutex<BTreeMap<Name, Worker>>,
    /// Counts registrations and departures, so that runs notice them at once.
    changed: watch::Sender<u64>,
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self { table: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// A process registers; an older process of the same worker is forgotten.
    pub(crate) fn register(&self, worker: Worker) {
        self.lock().insert(worker.name.clone(), worker);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Whether a process of this worker is alive that a new one would end.
    pub(crate) fn replaces(&self, name: &Name, now: Millis, lease_ms: Millis) -> bool {
        self.lock().get(name).is_some_and(|w| !w.left && now.saturating_sub(w.seen) < lease_ms)
    }

    /// A process called; `false` when it is not the one that registered last.
    pub(crate) fn seen(&self, name: &Name, session: Session, now: Millis) -> bool {
        let mut table = self.lock();
        match table.get_mut(name) {
            Some(worker) if worker.session == session && !worker.left => {
                worker.seen = worker.seen.max(now);
                true
            }
            _ => false,
        }
    }

    /// A process ends.
    pub(crate) fn leave(&self, name: &Name, session: Session) {
        let left = match self.lock().get_mut(name) {
            Some(worker) if worker.session == session => !std::mem::replace(&mut worker.left, true),
            _ => false,
        };
        if left {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// All workers as a run on `dataset` sees them, sorted by name.
    pub(crate) fn sightings(&self, dataset: &Name) -> Vec<Sighting> {
        let sighting = |worker: &Worker| Sighting {
            name: worker.name.clone(),
            session: worker.session,
            seen: worker.seen,
            left: worker.left,
            rows: worker.datasets.iter().find(|d| d.name == *dataset).map(|d| d.rows),
        };
        self.lock().values().map(sighting).collect()
    }

    /// All workers, sorted by name.
    pub(crate) fn list(&self) -> Vec<Worker> {
        self.lock().values().cloned().collect()
    }

    /// Wakes when a process registers or leaves.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Worker>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(session: Session) -> Worker {
        let name: Name = "a".parse().unwrap();
        let dataset = Dataset { name: "iris".parse().unwrap(), rows: 50 };
        Worker {
            name,
            session,
            datasets: vec![dataset],
            device: "cpu".into(),
            version: "0".into(),
            seen: 0,
            left: false,
        }
    }

    #[test]
    fn only_the_last_process_counts() {
        let workers = Workers::new();
        let name: Name = "a".parse().unwrap();
        let mut changed = workers.subscribe();
        assert!(!workers.seen(&name, 1, 5));
        workers.register(worker(1));
        workers.register(worker(2));
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
        assert!(!workers.seen(&name, 1, 5));
        assert!(workers.seen(&name, 2, 5));
        assert!(workers.seen(&name, 2, 4));
        assert_eq!(workers.list()[0].seen, 5);
        workers.leave(&name, 1);
        assert!(!changed.has_changed().unwrap());
        workers.leave(&name, 2);
        assert!(changed.has_changed().unwrap());
        assert!(!workers.seen(&name, 2, 6));
        assert_eq!(workers.sightings(&"iris".parse().unwrap())[0].rows, Some(50));
        assert_eq!(workers.sightings(&"wine".parse().unwrap())[0].rows, None);
    }
}
