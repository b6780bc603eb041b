use std::collections::BTreeMap;

use params::{Digest, Name};

use super::{
    Accepted, Machine, Work,
    leases::Leases,
    roster::{Roster, Worker},
};
use crate::{Committed, Lease, MemberState, Millis, Phase, Plan, Session};

/// All of a [`Machine`] that a journal would bring back: for snapshots, so that a journal need not be
/// kept from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The plan, with the rounds that were added.
    pub plan: Plan,
    /// The last committed round.
    pub committed: Committed,
    /// Where the run is.
    pub phase: Phase,
    /// The time of the last step.
    pub now: Millis,
    /// The next lease.
    pub lease_next: Lease,
    /// Of the round in progress, 1-based.
    pub attempt: u32,
    /// No round was opened yet.
    pub first: bool,
    /// All workers that the run has heard of.
    pub workers: BTreeMap<Name, SavedWorker>,
    /// While gathering: since when there are too few workers.
    pub short_since: Option<Millis>,
    /// While gathering: since when there are enough.
    pub enough_since: Option<Millis>,
    /// A worker declined since there were last enough.
    pub declined: bool,
    /// Why no further round is opened.
    pub paused: Option<String>,
    /// The cohort of the open round.
    pub members: BTreeMap<Name, SavedMember>,
    /// Who is in the open round is settled.
    pub closed: bool,
    /// When the open round ends.
    pub deadline: Millis,
    /// Why members of the last attempt were lost.
    pub losses: BTreeMap<Name, String>,
    /// The version that is being evaluated or published.
    pub candidate: Option<Digest>,
    /// What was accepted in the open round.
    pub accepted: Accepted,
    /// Updates whose bytes are wanted again.
    pub owed: BTreeMap<Name, Digest>,
    /// What was accepted in the last committed round.
    pub accepted_before: Accepted,
    /// A stop that arrived while a round was being committed.
    pub stop: Option<String>,
    /// Rounds in a row that were not better than an earlier one.
    pub unimproved: u32,
}

/// A worker of a [`Saved`] machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedWorker {
    /// Its last process, if it ever registered.
    pub session: Option<Session>,
    /// Rows that it offers.
    pub examples: Option<u64>,
    /// It held a lease.
    pub present: bool,
    /// Why it is left out.
    pub excluded: Option<String>,
    /// It gets no new work.
    pub drained: bool,
    /// Its part has ended for good.
    pub revoked: bool,
}

/// A member of the cohort of a [`Saved`] machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedMember {
    /// Its work.
    pub lease: Lease,
    /// The process that holds it.
    pub session: Session,
    /// How far it is; how many per cent is not kept.
    pub state: MemberState,
    /// The bound on the weight of its update.
    pub examples_max: u64,
}

impl Machine {
    /// What a snapshot holds. Two machines that were fed the same journal have equal ones.
    pub fn save(&self) -> Saved {
        let worker = |worker: &Worker| SavedWorker {
            session: worker.session,
            examples: worker.examples,
            present: worker.present,
            excluded: worker.excluded.clone(),
            drained: worker.drained,
            revoked: worker.revoked,
        };
        let member = |work: &Work| SavedMember {
            lease: work.lease,
            session: work.session,
            state: match &work.state {
                MemberState::Working { .. } => MemberState::Working { percent: 0 },
                state => state.clone(),
            },
            examples_max: work.examples_max,
        };
        Saved {
            plan: self.plan.clone(),
            committed: self.committed.clone(),
            phase: self.phase.clone(),
            now: self.now,
            lease_next: self.lease_next,
            attempt: self.attempt,
            first: self.first,
            workers: self.roster.workers.iter().map(|(name, w)| (name.clone(), worker(w))).collect(),
            short_since: self.short_since,
            enough_since: self.enough_since,
            declined: self.declined,
            paused: self.paused.clone(),
            members: self.members.iter().map(|(name, work)| (name.clone(), member(work))).collect(),
            closed: self.closed,
            deadline: self.deadline,
            losses: self.losses.clone(),
            candidate: self.candidate,
            accepted: self.accepted.clone(),
            owed: self.owed.clone(),
            accepted_before: self.accepted_before.clone(),
            stop: self.stop.clone(),
            unimproved: self.unimproved,
        }
    }

    /// The machine that was saved; feed it what came after, then [`crate::Event::Restarted`].
    pub fn restore(saved: Saved) -> Self {
        let mut machine = Self::new(saved.plan, saved.committed, saved.lease_next, saved.now);
        let worker = |worker: SavedWorker| Worker {
            session: worker.session,
            examples: worker.examples,
            present: worker.present,
            excluded: worker.excluded,
            drained: worker.drained,
            revoked: worker.revoked,
        };
        let member = |member: SavedMember| Work {
            lease: member.lease,
            session: member.session,
            state: member.state,
            examples_max: member.examples_max,
        };
        machine.phase = saved.phase;
        machine.attempt = saved.attempt;
        machine.first = saved.first;
        machine.roster = Roster::default();
        machine.roster.workers = saved.workers.into_iter().map(|(name, w)| (name, worker(w))).collect();
        machine.short_since = saved.short_since;
        machine.enough_since = saved.enough_since;
        machine.declined = saved.declined;
        machine.paused = saved.paused;
        machine.members = saved.members.into_iter().map(|(name, m)| (name, member(m))).collect();
        let open = |work: &&Work| matches!(work.state, MemberState::Working { .. });
        machine.working = machine.members.values().filter(open).count();
        machine.closed = saved.closed;
        machine.deadline = saved.deadline;
        machine.losses = saved.losses;
        machine.candidate = saved.candidate;
        machine.accepted = saved.accepted;
        machine.owed = saved.owed;
        let lost = |name| machine.members.get(name).is_none_or(|work| work.state == MemberState::Lost);
        machine.owed_lost = machine.owed.keys().filter(|name| lost(name)).count();
        machine.accepted_before = saved.accepted_before;
        machine.stop = saved.stop;
        machine.unimproved = saved.unimproved;
        machine.leases = Leases::default();
        let names: Vec<Name> = machine.roster.workers.keys().cloned().collect();
        for name in names {
            machine.sort_worker(&name);
            if machine.roster.workers.get(&name).is_some_and(|worker| worker.present) {
                machine.leases.renew(&name, machine.now);
            }
        }
        machine
    }
}
