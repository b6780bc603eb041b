//! What the machine is told of workers: who came, who was seen, who left since it was last told.

use std::collections::BTreeMap;

use params::Name;
use round::{Event, Session};

use super::driver::Driver;
use crate::workers::Sighting;

/// What the driver knows of the workers' table, and what it carries to the next entry of the journal.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// No other process has driven this run.
    pub(super) fresh: bool,
    /// How far it has read the table.
    since: u64,
    known: BTreeMap<Name, Session>,
    /// Who cannot send what the run asks for, as the log was told.
    mute: BTreeMap<Name, Session>,
    /// Small blobs for the next entry.
    pub(super) carry: Vec<Vec<u8>>,
}

impl Met {
    pub(super) fn new(fresh: bool) -> Self {
        Self { fresh, ..Self::default() }
    }
}

impl Driver {
    /// The events since the last call. Everybody who was seen is in one event and comes first: nobody
    /// expires while others are told of, however long the driver was busy.
    pub(super) fn sightings(&mut self) -> Vec<Event> {
        let encoding = self.context.exchange.encoding.name();
        let (new, since) =
            self.shared.workers.sightings(&self.context.job.data.name, encoding, self.met.since);
        self.met.since = since;
        let (mut seen, mut others) = (Vec::new(), Vec::new());
        for worker in new {
            self.marked(&worker, &mut others);
            let Sighting { name, session, .. } = worker;
            let known = self.met.known.get(&name) == Some(&session);
            if worker.left || worker.revoked {
                if known {
                    self.met.known.remove(&name);
                    others.push(Event::WorkerLeft { worker: name, session });
                }
            } else if known {
                seen.push((name, session));
            } else if !worker.speaks {
                if self.met.mute.insert(name.clone(), session) != Some(session) {
                    tracing::warn!(run = %self.context.run, worker = %name, encoding, "a worker takes no part: it cannot send updates in the run's encoding; upgrade it");
                }
            } else if !self.is_long_gone(worker.seen) {
                self.met.known.insert(name.clone(), session);
                others.push(Event::WorkerJoined { worker: name, session, examples: worker.rows });
            }
        }
        if !seen.is_empty() {
            others.insert(0, Event::WorkersSeen { workers: seen });
        }
        others
    }

    /// What operators said, where the machine does not know it.
    fn marked(&self, worker: &Sighting, out: &mut Vec<Event>) {
        let standing = self.replay.machine.standing(&worker.name);
        if worker.drained != standing.as_ref().is_some_and(|known| known.drained) {
            out.push(Event::WorkerDrained { worker: worker.name.clone(), drained: worker.drained });
        }
        if worker.revoked && standing.is_some_and(|known| !known.revoked) {
            out.push(Event::WorkerRevoked { worker: worker.name.clone() });
        }
    }

    /// Gone before this run met it.
    fn is_long_gone(&self, seen: u64) -> bool {
        self.shared.clock.now_ms().saturating_sub(seen) > self.shared.lease_ms
    }

    /// Workers that the machine counts on and that are not there.
    pub(super) fn ghosts(&self) -> Vec<Event> {
        let machine = &self.replay.machine;
        let gone = machine.workers().filter(|name| !self.met.known.contains_key(*name));
        gone.filter_map(|name| {
            Some(Event::WorkerLeft { worker: name.clone(), session: machine.session(name)? })
        })
        .collect()
    }

    /// What operators said of workers that are not there: the machine may count on them.
    pub(super) fn marks(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for mark in self.shared.workers.marks() {
            let Ok(name) = mark.name.parse::<Name>() else { continue };
            let Some(standing) = self.replay.machine.standing(&name) else { continue };
            if standing.drained != mark.drained {
                events.push(Event::WorkerDrained { worker: name.clone(), drained: mark.drained });
            }
            if mark.revoked && !standing.revoked {
                events.push(Event::WorkerRevoked { worker: name });
            }
        }
        events
    }
}
