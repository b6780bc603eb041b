//! What must hold, whatever goes wrong. The list is in the documentation of `main.rs`.

use std::collections::BTreeMap;

use params::{Digest, Name};
use round::{Effect, Event, Lease, Note, Saved, WorkKind};

use crate::disk::{Disk, Entry, Version};

/// A rule that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// `S1` to `L3`.
    pub(crate) oracle: &'static str,
    pub(crate) text: String,
}

/// A piece of work, apart from its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) worker: usize,
    pub(crate) round: u32,
    pub(crate) attempt: usize,
    pub(crate) kind: WorkKind,
    pub(crate) model: Digest,
}

/// Sees everything, remembers what was promised, and never forgets.
#[derive(Debug)]
pub(crate) struct Oracles {
    pub(crate) violation: Option<Violation>,
    names: BTreeMap<Name, usize>,
    acknowledged: Vec<Acknowledged>,
    /// Under which attempt the update of a lease was folded.
    folded: BTreeMap<(Name, Lease), (usize, Digest)>,
    pub(crate) visible: Vec<Version>,
    leases: BTreeMap<Lease, Piece>,
    trainings: BTreeMap<(usize, Digest), u32>,
    /// Orders that operators had an answer to, by their place in the journal.
    orders: BTreeMap<usize, Event>,
}

#[derive(Clone, Debug)]
struct Acknowledged {
    attempt: usize,
    worker: Name,
    digest: Digest,
    /// It is published, or its attempt was given up.
    settled: bool,
}

impl Oracles {
    pub(crate) fn new(names: impl Iterator<Item = Name>) -> Self {
        Self {
            violation: None,
            names: names.enumerate().map(|(index, name)| (name, index)).collect(),
            acknowledged: Vec::new(),
            folded: BTreeMap::new(),
            visible: Vec::new(),
            leases: BTreeMap::new(),
            trainings: BTreeMap::new(),
            orders: BTreeMap::new(),
        }
    }

    /// The first broken rule counts.
    pub(crate) fn broken(&mut self, oracle: &'static str, text: String) {
        self.violation.get_or_insert(Violation { oracle, text });
    }

    fn check(&mut self, holds: bool, oracle: &'static str, text: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.broken(oracle, text());
        }
    }

    /// The machine took an update of the attempt.
    pub(crate) fn folded(&mut self, attempt: usize, worker: &Name, lease: Lease, digest: Digest) {
        self.folded.insert((worker.clone(), lease), (attempt, digest));
    }

    /// A worker is told that its update is in: from now on that is owed to it.
    pub(crate) fn acknowledged(&mut self, worker: &Name, lease: Lease) {
        // Metrics are acknowledged too.
        let Some(&(attempt, digest)) = self.folded.get(&(worker.clone(), lease)) else { return };
        let known = self.acknowledged.iter().any(|one| one.attempt == attempt && one.worker == *worker);
        if !known {
            let settled = self.visible.iter().any(|version| version.attempt == attempt);
            self.acknowledged.push(Acknowledged { attempt, worker: worker.clone(), digest, settled });
        }
    }

    /// S1: what was acknowledged is in the sum exactly once, or its attempt was given up on record; nothing
    /// is in a sum twice.
    pub(crate) fn s1_acknowledged_is_in_once(&mut self, version: &Version, journal: &[Entry]) {
        let counts = &version.candidate.counts;
        let round = version.round;
        self.check(counts.iter().all(|&n| n <= 1), "S1", || format!("round {round} is the sum {counts:?}"));
        let mut acknowledged = std::mem::take(&mut self.acknowledged);
        for one in acknowledged.iter_mut().filter(|one| !one.settled) {
            let index = self.names[&one.worker];
            if one.attempt == version.attempt {
                self.check(counts[index] == 1, "S1", || {
                    let times = counts[index];
                    format!("the acknowledged update of {} is in round {round} {times} times", one.worker)
                });
            } else {
                let given_up = one.attempt < version.attempt
                    && journal.get(one.attempt).is_some_and(|entry| entry.opened.is_some());
                self.check(given_up, "S1", || {
                    format!(
                        "the update of {} was acknowledged in an attempt that is not on record",
                        one.worker
                    )
                });
            }
            one.settled = true;
        }
        self.acknowledged = acknowledged;
    }

    /// S1, seen from a restart: what was acknowledged in the open attempt is known or owed.
    pub(crate) fn s1_acknowledged_is_known(&mut self, saved: &Saved, attempt: usize, journal: &[Entry]) {
        let open = !saved.members.is_empty();
        let acknowledged = std::mem::take(&mut self.acknowledged);
        for one in acknowledged.iter().filter(|one| !one.settled) {
            let on_record = journal.get(one.attempt).is_some_and(|entry| entry.opened.is_some());
            self.check(on_record, "S1", || {
                format!("the attempt in which {} was acknowledged is not on record", one.worker)
            });
            if open && one.attempt == attempt {
                let accepted = saved.accepted.updates.get(&one.worker).map(|(_, digest)| digest);
                let known = accepted.or_else(|| saved.owed.get(&one.worker));
                self.check(known == Some(&one.digest), "S1", || {
                    format!(
                        "the restarted coordinator knows nothing of the acknowledged update of {}",
                        one.worker
                    )
                });
            }
        }
        self.acknowledged = acknowledged;
    }

    /// S2: rounds are published once, without a gap, by a quorum of the cohort alone.
    pub(crate) fn s2_published_once_by_quorum(&mut self, version: &Version, disk: &Disk) {
        let round = version.round;
        let next = self.visible.len() as u32 + 1;
        self.check(round == next, "S2", || format!("round {round} was published, {next} comes next"));
        let members: Vec<&Name> = self
            .names
            .iter()
            .filter(|(_, index)| version.candidate.counts[**index] > 0)
            .map(|(n, _)| n)
            .collect();
        let quorum = disk.genesis.0.cohort_min as usize;
        let (found, of_cohort) = (
            members.len(),
            disk.journal.get(version.attempt).and_then(|entry| entry.opened.as_ref()).is_some_and(|opened| {
                opened.round == round && members.iter().all(|name| opened.cohort.contains(name))
            }),
        );
        self.check(found >= quorum, "S2", || {
            format!("round {round} has {found} updates, {quorum} are needed")
        });
        self.check(of_cohort, "S2", || format!("round {round} has updates from outside of its cohort"));
    }

    /// A version can be seen. S1 and S2 are looked at once for each.
    pub(crate) fn shown(&mut self, version: Version, disk: &Disk) {
        self.s2_published_once_by_quorum(&version, disk);
        self.s1_acknowledged_is_in_once(&version, &disk.journal);
        self.visible.push(version);
    }

    /// S3: after a restart there are all versions that were ever seen, and they are the same.
    pub(crate) fn s3_versions_stay(&mut self, published: &[(u32, usize, Digest)], disk: &Disk) {
        for (at, &(round, attempt, digest)) in published.iter().enumerate() {
            let Some(candidate) = disk.blobs.get(&digest).cloned() else {
                self.broken("S3", format!("the bytes of round {round} are not there"));
                return;
            };
            match self.visible.get(at).map(|seen| (seen.round, seen.candidate.digest)) {
                Some(seen) => self.check(seen == (round, digest), "S3", || {
                    format!("version {} was {seen:?}, now it is {:?}", at + 1, (round, digest))
                }),
                // Committed, and the process died before anybody saw it.
                None => self.shown(Version { round, attempt, candidate }, disk),
            }
        }
        let (seen, there) = (self.visible.len(), published.len());
        self.check(there >= seen, "S3", || format!("{seen} versions were seen, {there} are left"));
    }

    /// S4: a replay gives the machine that wrote the journal.
    pub(crate) fn s4_replay_is_exact(&mut self, replayed: &Saved, written: &Saved) {
        self.check(replayed == written, "S4", || format!("replayed: {replayed:?}\nwas: {written:?}"));
    }

    /// S4, the other half: what is not written changes nothing that a replay brings back.
    pub(crate) fn s4_unwritten_changes_nothing(&mut self, event: &Event, before: &Saved, after: &Saved) {
        let unchanged = Saved { now: after.now, ..before.clone() } == *after;
        self.check(unchanged, "S4", || format!("{event:?} is not for the journal, but changed the machine"));
    }

    /// S5: a lease names one piece of work, for ever.
    pub(crate) fn s5_lease_names_one_work(&mut self, lease: Lease, piece: Piece) {
        let before = self.leases.entry(lease).or_insert_with(|| piece.clone()).clone();
        self.check(before == piece, "S5", || format!("lease {lease} names {before:?} and {piece:?}"));
    }

    /// S6: who is refused has changed nothing; that it is alive may be noticed.
    pub(crate) fn s6_refusals_leave_no_trace(&mut self, effects: &[Effect], before: &Saved, after: &Saved) {
        let refused = effects.iter().any(|effect| matches!(effect, Effect::Reject { .. }));
        let alone = effects
            .iter()
            .all(|effect| matches!(effect, Effect::Reject { .. } | Effect::Tell(Note::WorkerReady { .. })));
        if refused && alone {
            let part = |saved: &Saved| {
                (saved.committed.clone(), saved.accepted.clone(), saved.owed.clone(), saved.phase.clone())
            };
            self.check(part(before) == part(after), "S6", || format!("{effects:?} changed the machine"));
        }
    }

    /// A worker begins to train.
    pub(crate) fn trains(&mut self, worker: usize, key: Digest) {
        *self.trainings.entry((worker, key)).or_default() += 1;
    }

    /// S7: with crashes of the coordinator alone nothing is trained twice, and the versions are those of the
    /// undisturbed run.
    pub(crate) fn s7_same_as_undisturbed(&mut self, undisturbed: &Self) {
        let twice = self.trainings.iter().find(|(_, times)| **times > 1).map(|(who, times)| (*who, *times));
        self.check(twice.is_none(), "S7", || format!("trained more than once: {twice:?}"));
        let digests = |oracles: &Self| -> Vec<Digest> {
            oracles.visible.iter().map(|version| version.candidate.digest).collect()
        };
        let (ours, theirs) = (digests(self), digests(undisturbed));
        self.check(ours == theirs, "S7", || format!("versions {ours:?}, undisturbed {theirs:?}"));
    }

    /// An operator is told that an order is in force.
    pub(crate) fn ordered(&mut self, at: usize, order: Option<Event>) {
        self.orders.extend(order.map(|order| (at, order)));
    }

    /// S8: after a restart an order that was answered is in force, because it is on record.
    pub(crate) fn s8_orders_stay(&mut self, journal: &[Entry]) {
        let lost = self
            .orders
            .iter()
            .find(|(at, order)| journal.get(**at).is_none_or(|entry| entry.event != **order));
        let text = lost.map(|(_, order)| format!("{order:?} was answered, and is not on record"));
        self.check(text.is_none(), "S8", || text.clone().unwrap_or_default());
    }

    /// L3: once all has settled, an attempt succeeds.
    pub(crate) fn l3_attempts_succeed(&mut self, settled: bool, effects: &[Effect]) {
        let excludes =
            effects.iter().any(|effect| matches!(effect, Effect::Tell(Note::WorkerExcluded { .. })));
        let failed = effects.iter().find(|effect| matches!(effect, Effect::Tell(Note::AttemptFailed { .. })));
        self.check(!settled || excludes || failed.is_none(), "L3", || {
            format!("{failed:?} although all faults were over when it opened")
        });
    }

    pub(crate) fn trainings(&self) -> u64 {
        self.trainings.values().map(|times| u64::from(*times)).sum()
    }
}
