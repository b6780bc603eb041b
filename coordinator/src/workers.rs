//! Worker processes that are or were connected: sessions, what they offer, when they were last seen.
//! Runs read this table; nothing in it decides anything.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use params::Name;
use round::{Millis, Session};
use tokio::sync::{Notify, watch};

use crate::store::MemberRecord;

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
    /// The encodings of updates that it can send.
    pub(crate) encodings: Vec<String>,
    pub(crate) device: String,
    pub(crate) version: String,
    /// The protocol that was negotiated.
    pub(crate) protocol: u32,
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
    pub(crate) drained: bool,
    pub(crate) revoked: bool,
    /// It can send updates in the run's encoding.
    pub(crate) speaks: bool,
}

/// All workers, by name.
#[derive(Debug)]
pub(crate) struct Workers {
    table: Mutex<Table>,
    /// Counts registrations and departures, so that runs notice them at once.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    workers: BTreeMap<Name, Entry>,
    /// Whose entry changed when, the latest last: a run asks only for what is new to it.
    order: BTreeMap<u64, Name>,
    next: u64,
    /// What operators said, also of workers that never came.
    marks: BTreeMap<Name, MemberRecord>,
}

#[derive(Debug)]
struct Entry {
    worker: Worker,
    at: u64,
    /// Wakes the open poll of this worker.
    wake: Arc<Notify>,
}

impl Table {
    /// The entry of `name` is the latest that changed.
    fn touch(&mut self, name: &Name) {
        if let Some(entry) = self.workers.get_mut(name) {
            self.order.remove(&entry.at);
            self.next += 1;
            entry.at = self.next;
            self.order.insert(self.next, name.clone());
        }
    }
}

impl Workers {
    /// Nobody yet; `marks` is what operators said before.
    pub(crate) fn new(marks: Vec<MemberRecord>) -> Self {
        let named = |mark: MemberRecord| Some((mark.name.parse().ok()?, mark));
        let table = Table { marks: marks.into_iter().filter_map(named).collect(), ..Table::default() };
        Self { table: Mutex::new(table), changed: watch::Sender::new(0) }
    }

    /// A process registers; an older process of the same worker is forgotten.
    pub(crate) fn register(&self, worker: Worker) {
        {
            let mut table = self.lock();
            let name = worker.name.clone();
            let known = table.workers.remove(&name);
            let (at, wake) = known.map_or_else(|| (0, Arc::default()), |entry| (entry.at, entry.wake));
            // An open poll of the older process ends.
            wake.notify_waiters();
            table.workers.insert(name.clone(), Entry { worker, at, wake });
            table.touch(&name);
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// Whether a process of this worker is alive that a new one would end.
    pub(crate) fn replaces(&self, name: &Name, now: Millis, lease_ms: Millis) -> bool {
        let table = self.lock();
        let worker = table.workers.get(name).map(|entry| &entry.worker);
        worker.is_some_and(|w| !w.left && now.saturating_sub(w.seen) < lease_ms)
    }

    /// A process called; `false` when it is not the one that registered last.
    pub(crate) fn seen(&self, name: &Name, session: Session, now: Millis) -> bool {
        let mut table = self.lock();
        let Some(entry) = table.workers.get_mut(name) else { return false };
        if entry.worker.session != session || entry.worker.left {
            return false;
        }
        if entry.worker.seen < now {
            entry.worker.seen = now;
            table.touch(name);
        }
        true
    }

    /// A process ends.
    pub(crate) fn leave(&self, name: &Name, session: Session) {
        let left = {
            let mut table = self.lock();
            let entry = table.workers.get_mut(name).filter(|entry| entry.worker.session == session);
            let left = entry.is_some_and(|entry| !std::mem::replace(&mut entry.worker.left, true));
            table.touch(name);
            left
        };
        if left {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// What an operator said of a worker, whether it ever came or not.
    pub(crate) fn mark(&self, mark: MemberRecord) {
        let Ok(name) = mark.name.parse::<Name>() else { return };
        {
            let mut table = self.lock();
            if mark.revoked
                && let Some(entry) = table.workers.get_mut(&name)
            {
                entry.worker.left = true;
                entry.wake.notify_waiters();
            }
            table.marks.insert(name.clone(), mark);
            table.touch(&name);
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// What operators said of a worker.
    pub(crate) fn mark_of(&self, name: &Name) -> MemberRecord {
        let known = self.lock().marks.get(name).cloned();
        known.unwrap_or_else(|| MemberRecord { name: name.to_string(), ..MemberRecord::default() })
    }

    /// All that operators said.
    pub(crate) fn marks(&self) -> Vec<MemberRecord> {
        self.lock().marks.values().cloned().collect()
    }

    /// The workers whose entries changed after `since`, as a run on `dataset` with updates in `encoding` sees them,
    /// and the number to ask with next time. 0 is all of them.
    pub(crate) fn sightings(&self, dataset: &Name, encoding: &str, since: u64) -> (Vec<Sighting>, u64) {
        let table = self.lock();
        let changed = table.order.range(since + 1..).filter_map(|(_, name)| table.workers.get(name));
        let sighting = |entry: &Entry| {
            let worker = &entry.worker;
            let mark = table.marks.get(&worker.name);
            Sighting {
                name: worker.name.clone(),
                session: worker.session,
                seen: worker.seen,
                left: worker.left,
                rows: worker.datasets.iter().find(|d| d.name == *dataset).map(|d| d.rows),
                drained: mark.is_some_and(|mark| mark.drained),
                revoked: mark.is_some_and(|mark| mark.revoked),
                speaks: worker.encodings.iter().any(|known| known == encoding),
            }
        };
        let mut found: Vec<Sighting> = changed.map(sighting).collect();
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        (found, table.next)
    }

    /// The protocol that was negotiated with this worker.
    pub(crate) fn protocol(&self, name: &Name) -> Option<u32> {
        self.lock().workers.get(name).map(|entry| entry.worker.protocol)
    }

    /// What wakes the polls of this worker.
    pub(crate) fn alarm(&self, name: &Name) -> Option<Arc<Notify>> {
        self.lock().workers.get(name).map(|entry| entry.wake.clone())
    }

    /// Wakes the polls of these workers: their work changed.
    pub(crate) fn wake(&self, names: &[Name]) {
        let table = self.lock();
        for entry in names.iter().filter_map(|name| table.workers.get(name)) {
            entry.wake.notify_waiters();
        }
    }

    /// All workers, sorted by name.
    pub(crate) fn list(&self) -> Vec<Worker> {
        self.lock().workers.values().map(|entry| entry.worker.clone()).collect()
    }

    /// Wakes when a process registers or leaves, or an operator spoke of one.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, session: Session) -> Worker {
        let dataset = Dataset { name: "iris".parse().unwrap(), rows: 50 };
        Worker {
            name: name.parse().unwrap(),
            session,
            datasets: vec![dataset],
            encodings: vec!["f32".to_owned()],
            device: "cpu".into(),
            version: "0".into(),
            protocol: 2,
            seen: 0,
            left: false,
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_last_process_counts() {
        let workers = Workers::new(vec![]);
        let (a, iris) = (name("a"), name("iris"));
        let mut changed = workers.subscribe();
        assert!(!workers.seen(&a, 1, 5));
        workers.register(worker("a", 1));
        workers.register(worker("a", 2));
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
        assert!(!workers.seen(&a, 1, 5));
        assert!(workers.seen(&a, 2, 5));
        assert!(workers.seen(&a, 2, 4));
        assert_eq!(workers.list()[0].seen, 5);
        workers.leave(&a, 1);
        assert!(!changed.has_changed().unwrap());
        workers.leave(&a, 2);
        assert!(changed.has_changed().unwrap());
        assert!(!workers.seen(&a, 2, 6));
        assert_eq!(workers.sightings(&iris, "f32", 0).0[0].rows, Some(50));
        assert_eq!(workers.sightings(&name("wine"), "f32", 0).0[0].rows, None);
    }

    #[test]
    fn a_run_sees_what_is_new_to_it() {
        let workers = Workers::new(vec![]);
        let iris = name("iris");
        ["b", "a", "c"].iter().for_each(|who| workers.register(worker(who, 1)));
        let (all, since) = workers.sightings(&iris, "f32", 0);
        assert_eq!(all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(workers.sightings(&iris, "f32", since), (vec![], since));
        assert!(workers.seen(&name("b"), 1, 9) && workers.seen(&name("b"), 1, 9));
        let (new, since) = workers.sightings(&iris, "f32", since);
        assert_eq!(new.iter().map(|s| (s.name.as_str(), s.seen)).collect::<Vec<_>>(), [("b", 9)]);
        workers.mark(MemberRecord { name: "c".into(), drained: true, revoked: false });
        let (new, _) = workers.sightings(&iris, "f32", since);
        assert!(new.len() == 1 && new[0].drained, "{new:?}");
    }

    #[test]
    fn what_operators_said_is_known_before_the_worker_comes() {
        let mark = MemberRecord { name: "a".into(), drained: false, revoked: true };
        let workers = Workers::new(vec![mark.clone()]);
        assert_eq!(workers.mark_of(&name("a")), mark);
        assert!(!workers.mark_of(&name("b")).revoked);
        workers.register(worker("b", 1));
        workers.mark(MemberRecord { name: "b".into(), drained: false, revoked: true });
        assert!(!workers.seen(&name("b"), 1, 5), "its session has ended");
    }
}
