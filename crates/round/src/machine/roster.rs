use std::collections::{BTreeMap, BTreeSet};

use params::Name;

use super::Machine;
use crate::{DataPlan, Session};

/// A worker that registered with this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Worker {
    /// `None`: an operator spoke of it before it came.
    pub(super) session: Option<Session>,
    /// Rows of its own; `None` where it offers none.
    pub(super) examples: Option<u64>,
    pub(super) present: bool,
    /// Why it is left out for the rest of the run.
    pub(super) excluded: Option<String>,
    pub(super) drained: bool,
    pub(super) revoked: bool,
}

/// All workers of a run, and which of them a round could use. The two sets follow from the rest; they are
/// kept so that one worker more or less costs no walk over all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roster {
    pub(super) workers: BTreeMap<Name, Worker>,
    /// May be picked, and has something to train on.
    with_data: BTreeSet<Name>,
    /// May be picked once it is given a shard of hosted data.
    without_shard: BTreeSet<Name>,
    /// In this step, a worker that was away was heard of again.
    pub(super) returned: bool,
}

impl Machine {
    /// Changes a worker and what follows from it.
    pub(super) fn change_worker(&mut self, name: &Name, change: impl FnOnce(&mut Worker)) {
        change(self.roster.workers.entry(name.clone()).or_default());
        self.sort_worker(name);
    }

    /// Finds out whether a round could use this worker.
    pub(super) fn sort_worker(&mut self, name: &Name) {
        let worker = self.roster.workers.get(name);
        let usable = worker.is_some_and(|w| w.present && w.excluded.is_none() && !w.drained);
        let hosted = matches!(self.plan.data, DataPlan::Hosted { .. });
        let data = usable && self.examples_of(name) > 0;
        let sets = [
            (data, &mut self.roster.with_data),
            (
                usable && hosted && !data && !self.committed.shards.contains_key(name),
                &mut self.roster.without_shard,
            ),
        ];
        for (belongs, set) in sets {
            if !belongs {
                set.remove(name);
            } else if !set.contains(name) {
                set.insert(name.clone());
            }
        }
    }

    /// How many workers a round could use now.
    pub(super) fn eligible_count(&self) -> usize {
        self.roster.with_data.len() + self.roster.without_shard.len().min(self.shards_free_count())
    }

    /// The workers that a round could use now, sorted. Of those without a shard, the ones that come first
    /// by name get what is left.
    pub(super) fn eligible(&self) -> Vec<Name> {
        let free = self.shards_free_count();
        let mut eligible: Vec<Name> = self
            .roster
            .with_data
            .iter()
            .chain(self.roster.without_shard.iter().take(free))
            .cloned()
            .collect();
        eligible.sort_unstable();
        eligible
    }

    pub(super) fn is_eligible(&self, name: &Name) -> bool {
        if self.roster.with_data.contains(name) {
            return true;
        }
        let (waiting, free) = (&self.roster.without_shard, self.shards_free_count());
        waiting.contains(name)
            && (free >= waiting.len() || waiting.iter().take(free).any(|other| other == name))
    }

    /// Gives each of these workers a shard if it has none yet: the lowest free one.
    pub(super) fn assign_shards(&mut self, workers: &[Name]) {
        let DataPlan::Hosted { shards } = &self.plan.data else { return };
        let owned: BTreeSet<u32> = self.committed.shards.values().copied().collect();
        let mut free = (0u32..)
            .zip(shards)
            .filter(|(shard, size)| **size > 0 && !owned.contains(shard))
            .map(|(shard, _)| shard)
            .collect::<Vec<_>>()
            .into_iter();
        for name in workers {
            if !self.committed.shards.contains_key(name)
                && let Some(shard) = free.next()
            {
                self.committed.shards.insert(name.clone(), shard);
                self.sort_worker(name);
            }
        }
    }

    /// What a worker trains on; 0 where it has nothing (yet).
    pub(super) fn examples_of(&self, name: &Name) -> u64 {
        match &self.plan.data {
            DataPlan::Private => {
                self.roster.workers.get(name).and_then(|worker| worker.examples).unwrap_or(0)
            }
            DataPlan::Hosted { shards } => {
                let shard = self.committed.shards.get(name);
                shard.and_then(|&shard| shards.get(shard as usize)).copied().unwrap_or(0)
            }
        }
    }

    /// Shards that belong to nobody; none where workers bring their own data.
    fn shards_free_count(&self) -> usize {
        match &self.plan.data {
            DataPlan::Private => 0,
            DataPlan::Hosted { .. } => self.shards_usable.saturating_sub(self.committed.shards.len()),
        }
    }
}
