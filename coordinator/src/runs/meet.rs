//! What the machine is told of workers: who came, who was seen, who left since it was last told.

use round::Event;

use super::driver::Driver;

impl Driver {
    /// The events since the last call. Everybody who was seen is in one event and comes first: nobody
    /// expires while others are told of, however long the driver was busy.
    pub(super) fn sightings(&mut self) -> Vec<Event> {
        let now = self.shared.clock.now_ms();
        let lease_ms = self.machine.plan().lease_ms;
        let dataset = &self.context.job.data.name;
        let (mut seen, mut others) = (Vec::new(), Vec::new());
        for worker in self.shared.workers.sightings(dataset) {
            let name = worker.name;
            match self.known.get(&name).copied() {
                Some((session, _)) if session == worker.session && worker.left => {
                    self.known.remove(&name);
                    others.push(Event::WorkerLeft { worker: name, session });
                }
                Some((session, before)) if session == worker.session => {
                    if worker.seen > before {
                        self.known.insert(name.clone(), (session, worker.seen));
                        seen.push((name, session));
                    }
                }
                // Long gone, or gone before this run met it.
                _ if worker.left || now.saturating_sub(worker.seen) > lease_ms => {}
                _ => {
                    self.known.insert(name.clone(), (worker.session, worker.seen));
                    let (session, examples) = (worker.session, worker.rows);
                    others.push(Event::WorkerJoined { worker: name, session, examples });
                }
            }
        }
        if !seen.is_empty() {
            others.insert(0, Event::WorkersSeen { workers: seen });
        }
        others
    }
}
