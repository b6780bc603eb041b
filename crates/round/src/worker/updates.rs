use params::{Digest, Name};

use super::{Effect, Work};
use crate::WorkKind;

/// The most updates that are kept, each of another run.
pub const KEPT_MAX: usize = 8;

/// A trained update; the payload is with the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of which run.
    pub run: Name,
    /// Of which round.
    pub round: u32,
    /// Of the work that it was trained for.
    pub key: Digest,
    /// Of the payload.
    pub digest: Digest,
    /// Length of the payload.
    pub bytes: u64,
    /// Its weight.
    pub examples: u64,
}

/// The updates on disk, or on their way there, oldest first: one per run, [`KEPT_MAX`] in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Updates(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kept: Kept,
    durable: bool,
    /// Some of it may have arrived at the coordinator.
    offered: bool,
}

impl Updates {
    /// What was found on disk, oldest first.
    pub(super) fn found(kept: Vec<Kept>) -> Self {
        Self(kept.into_iter().map(|kept| Entry { kept, durable: true, offered: true }).collect())
    }

    /// Drops what the bounds do not allow.
    pub(super) fn trim(&mut self, out: &mut Vec<Effect>) {
        let mut newest: Vec<Entry> = Vec::new();
        for entry in std::mem::take(&mut self.0).into_iter().rev() {
            if newest.iter().any(|newer| newer.kept.key == entry.kept.key) {
                continue;
            }
            let replaced = newest.iter().any(|newer| newer.kept.run == entry.kept.run);
            if replaced || newest.len() == KEPT_MAX {
                out.push(Effect::Forget { key: entry.kept.key });
            } else {
                newest.push(entry);
            }
        }
        newest.reverse();
        self.0 = newest;
    }

    /// A new one, which is to be made durable.
    pub(super) fn add(&mut self, kept: Kept, out: &mut Vec<Effect>) {
        self.0.push(Entry { kept: kept.clone(), durable: false, offered: false });
        self.trim(out);
        out.push(Effect::Keep(kept));
    }

    /// It is durable now.
    pub(super) fn confirm(&mut self, key: Digest) {
        self.0.iter_mut().filter(|entry| entry.kept.key == key).for_each(|entry| entry.durable = true);
    }

    /// Drops one; whether it was there.
    pub(super) fn forget(&mut self, key: Digest, out: &mut Vec<Effect>) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.kept.key != key);
        let found = self.0.len() < before;
        if found {
            out.push(Effect::Forget { key });
        }
        found
    }

    /// Drops the update of the same run that this work replaces. The measuring of a candidate replaces only
    /// those of other rounds: its own round is not committed yet.
    pub(super) fn replaced_by(&mut self, work: &Work, out: &mut Vec<Effect>) {
        let wanted = |kept: &Kept| match work.kind {
            WorkKind::Train => kept.key == work.key,
            WorkKind::Evaluate => kept.round == work.round,
        };
        let other = self.0.iter().find(|entry| entry.kept.run == work.run && !wanted(&entry.kept));
        if let Some(key) = other.map(|entry| entry.kept.key) {
            self.forget(key, out);
        }
    }

    /// Whether the update for this work is durable; `None`: there is none.
    pub(super) fn durability(&self, key: Digest) -> Option<bool> {
        self.0.iter().find(|entry| entry.kept.key == key).map(|entry| entry.durable)
    }

    /// It is offered; whether it was before.
    pub(super) fn offer(&mut self, key: Digest) -> Option<(Kept, bool)> {
        let entry = self.0.iter_mut().find(|entry| entry.kept.key == key)?;
        Some((entry.kept.clone(), std::mem::replace(&mut entry.offered, true)))
    }

    /// Some are on their way to the disk.
    pub(super) fn pending(&self) -> bool {
        self.0.iter().any(|entry| !entry.durable)
    }

    /// Those that are durable, oldest first.
    pub(super) fn durable(&self) -> impl Iterator<Item = &Kept> {
        self.0.iter().filter(|entry| entry.durable).map(|entry| &entry.kept)
    }
}
