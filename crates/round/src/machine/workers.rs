use std::collections::BTreeSet;

use params::Name;

use super::{Machine, duration};
use crate::{DataPlan, Effect, Lease, MemberState, Millis, Note, Phase, Session};

/// A worker that registered with this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) session: Session,
    /// Rows of its own; `None` where it offers none.
    examples: Option<u64>,
    pub(super) seen: Millis,
    pub(super) present: bool,
    /// Why it is left out for the rest of the run.
    pub(super) excluded: Option<String>,
}

impl Machine {
    pub(super) fn joined(
        &mut self,
        name: Name,
        session: Session,
        examples: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        let before = self.workers.get(&name);
        let known = before.is_some_and(|worker| worker.present && worker.session == session);
        let excluded = before.and_then(|worker| worker.excluded.clone());
        let worker = Worker { session, examples, seen: self.now, present: true, excluded };
        self.workers.insert(name.clone(), worker);
        if !known {
            self.tell_ready(&name, out);
        }
        self.resume(&name, out);
    }

    pub(super) fn seen(&mut self, name: &Name, session: Session, out: &mut Vec<Effect>) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name).filter(|worker| worker.session == session) else {
            return;
        };
        worker.seen = now;
        if !worker.present {
            worker.present = true;
            self.tell_ready(name, out);
            self.resume(name, out);
        }
    }

    /// Whoever holds the lease is alive, whatever becomes of the input that names it.
    pub(super) fn touch(&mut self, name: &Name, lease: Lease, out: &mut Vec<Effect>) {
        if let Some(session) = self.members.get(name).filter(|work| work.lease == lease).map(|w| w.session) {
            self.seen(name, session, out);
        }
    }

    pub(super) fn left(&mut self, name: &Name, session: Session, out: &mut Vec<Effect>) {
        if let Some(worker) = self.workers.get_mut(name).filter(|worker| worker.session == session) {
            worker.present = false;
            self.lose(name, "it left".to_owned(), out);
        }
    }

    /// Finds the workers that are away.
    pub(super) fn expire(&mut self, out: &mut Vec<Effect>) {
        let (now, lease_ms) = (self.now, self.plan.lease_ms);
        let mut away = Vec::new();
        for (name, worker) in &mut self.workers {
            if worker.present && now.saturating_sub(worker.seen) >= lease_ms {
                worker.present = false;
                away.push(name.clone());
            }
        }
        for name in away {
            self.lose(&name, format!("it was not seen for {}", duration(lease_ms)), out);
        }
    }

    /// Ends the open work of a member; one without open work has nothing to lose.
    pub(super) fn lose(&mut self, name: &Name, reason: String, out: &mut Vec<Effect>) {
        let round = self.round();
        let Some(work) = self.members.get_mut(name) else { return };
        if matches!(work.state, MemberState::Working { .. }) {
            work.state = MemberState::Lost;
            self.losses.insert(name.clone(), reason.clone());
            out.push(Effect::Tell(Note::WorkerLost { worker: name.clone(), round, reason }));
        }
    }

    pub(super) fn exclude(&mut self, name: &Name, reason: String, out: &mut Vec<Effect>) {
        if let Some(worker) = self.workers.get_mut(name) {
            worker.excluded = Some(reason.clone());
            self.declined = true;
            out.push(Effect::Tell(Note::WorkerExcluded { worker: name.clone(), reason }));
        }
    }

    /// Gives a member that came back, or another process of it, its work of this round anew.
    fn resume(&mut self, name: &Name, out: &mut Vec<Effect>) {
        let open = match self.phase {
            Phase::Training => true,
            Phase::Evaluating => self.accepted.updates.contains_key(name),
            _ => false,
        };
        let (Some(worker), Some(work)) = (self.workers.get(name), self.members.get(name)) else { return };
        if !open || worker.excluded.is_some() || work.state == MemberState::Done {
            return;
        }
        let (session, offered, picked) = (worker.session, self.examples_of(name), work.examples_max);
        if offered != picked {
            // The accumulator was made for the weights of when the round opened.
            let reason = format!("it came back with {offered} examples instead of {picked}");
            self.lose(name, reason, out);
            return;
        }
        if matches!(work.state, MemberState::Working { .. }) && work.session == session {
            return;
        }
        let lease = self.lease();
        if let Some(work) = self.members.get_mut(name) {
            work.lease = lease;
            work.session = session;
            work.state = MemberState::Working { percent: 0 };
        }
    }

    /// The workers that a round could use now, sorted.
    pub(super) fn eligible(&self) -> Vec<&Name> {
        let mut free = self.shards_free().count();
        let mut eligible = Vec::new();
        for (name, worker) in &self.workers {
            if !worker.present || worker.excluded.is_some() {
                continue;
            }
            if self.examples_of(name) > 0 {
                eligible.push(name);
            } else if free > 0 && !self.committed.shards.contains_key(name) {
                // In hosted runs only: the workers that come first by name get what is left.
                free -= 1;
                eligible.push(name);
            }
        }
        eligible
    }

    /// Gives each of these workers a shard if it has none yet: the lowest free one.
    pub(super) fn assign_shards(&mut self, workers: &[Name]) {
        let free: Vec<u32> = self.shards_free().collect();
        let mut free = free.into_iter();
        for name in workers {
            if !self.committed.shards.contains_key(name)
                && let Some(shard) = free.next()
            {
                self.committed.shards.insert(name.clone(), shard);
            }
        }
    }

    /// What a worker trains on; 0 where it has nothing (yet).
    pub(super) fn examples_of(&self, name: &Name) -> u64 {
        match &self.plan.data {
            DataPlan::Private => self.workers.get(name).and_then(|worker| worker.examples).unwrap_or(0),
            DataPlan::Hosted { shards } => {
                let shard = self.committed.shards.get(name);
                shard.and_then(|&shard| shards.get(shard as usize)).copied().unwrap_or(0)
            }
        }
    }

    /// Shards that belong to nobody, lowest first; none where workers bring their own data.
    fn shards_free(&self) -> impl Iterator<Item = u32> {
        let owned: BTreeSet<u32> = self.committed.shards.values().copied().collect();
        let sizes = match &self.plan.data {
            DataPlan::Hosted { shards } => shards.as_slice(),
            DataPlan::Private => &[],
        };
        (0u32..).zip(sizes).filter(move |(shard, size)| **size > 0 && !owned.contains(shard)).map(|(i, _)| i)
    }

    fn tell_ready(&self, name: &Name, out: &mut Vec<Effect>) {
        let ended = matches!(self.phase, Phase::Ended(_));
        if !ended && self.eligible().contains(&name) {
            out.push(Effect::Tell(Note::WorkerReady { worker: name.clone() }));
        }
    }
}
