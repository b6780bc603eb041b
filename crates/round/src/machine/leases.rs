use std::collections::{BTreeMap, BTreeSet};

use params::Name;

use crate::Millis;

/// When each worker that is present was last heard of. Kept in memory only: being heard of is far too
/// frequent for a journal, and no step decides by it. [`crate::Machine::overdue`] turns the end of a
/// lease into an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    seen: BTreeMap<Name, Millis>,
    /// The same, the longest silent first.
    queue: BTreeSet<(Millis, Name)>,
}

impl Leases {
    /// The worker was heard of at `now`.
    pub(super) fn renew(&mut self, name: &Name, now: Millis) {
        match self.seen.get_mut(name) {
            Some(seen) if *seen == now => {}
            Some(seen) => {
                self.queue.remove(&(*seen, name.clone()));
                *seen = now;
                self.queue.insert((now, name.clone()));
            }
            None => {
                self.seen.insert(name.clone(), now);
                self.queue.insert((now, name.clone()));
            }
        }
    }

    /// The worker is away: it holds no lease.
    pub(super) fn end(&mut self, name: &Name) {
        if let Some(seen) = self.seen.remove(name) {
            self.queue.remove(&(seen, name.clone()));
        }
    }

    /// Who was last heard of a lease ago, or longer.
    pub(super) fn silent(&self, now: Millis, lease_ms: Millis) -> impl Iterator<Item = &Name> {
        let over = move |(seen, _): &&(Millis, Name)| now >= seen.saturating_add(lease_ms);
        self.queue.iter().take_while(over).map(|(_, name)| name)
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self, lease_ms: Millis) -> Option<Millis> {
        self.queue.first().map(|(seen, _)| seen.saturating_add(lease_ms))
    }
}
