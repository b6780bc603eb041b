use params::{Digest, Name};

use super::{Machine, Touched, duration};
use crate::{
    Assignment, Committed, DataPlan, Evaluation, Event, Lease, Member, MemberState, Millis, Phase, Plan,
    Session, Standing, WorkKind,
};

impl Machine {
    /// Where the run is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The round in progress, 1-based; after the end, the one that would come next.
    pub fn round(&self) -> u32 {
        self.committed.round.saturating_add(1)
    }

    /// What a restarted coordinator would resume from. Shards are added when a cohort is picked.
    pub fn committed(&self) -> &Committed {
        &self.committed
    }

    /// The plan, with the rounds that were added.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What this worker should be doing now, if anything. The worker may be told once the effects of the last
    /// step are done: one of them makes the opening of the round durable.
    pub fn assignment(&self, worker: &Name) -> Option<Assignment> {
        let (kind, model) = match self.phase {
            Phase::Training => (WorkKind::Train, self.committed.base),
            Phase::Evaluating => (WorkKind::Evaluate, self.candidate?),
            _ => return None,
        };
        let work = self.members.get(worker)?;
        if !matches!(work.state, MemberState::Working { .. }) {
            return None;
        }
        let shard = match self.plan.data {
            DataPlan::Hosted { .. } => self.committed.shards.get(worker).copied(),
            DataPlan::Private => None,
        };
        Some(Assignment {
            round: self.round(),
            lease: work.lease,
            kind,
            model,
            shard,
            examples_max: work.examples_max,
            deadline: self.deadline,
        })
    }

    /// The process of this worker that holds a lease; `None`: it is away.
    pub fn session(&self, worker: &Name) -> Option<Session> {
        self.roster.workers.get(worker).filter(|known| known.present)?.session
    }

    /// All workers that the run has heard of, sorted by name.
    pub fn workers(&self) -> impl Iterator<Item = &Name> {
        self.roster.workers.keys()
    }

    /// The cohort of the open round, sorted by name; empty while none is open.
    pub fn members(&self) -> Vec<Member> {
        let member =
            |(name, work): (&Name, &super::Work)| Member { worker: name.clone(), state: work.state.clone() };
        self.members.iter().map(member).collect()
    }

    /// The work of this worker that is done in the open round, if any: its lease.
    pub fn done(&self, worker: &Name) -> Option<Lease> {
        let accepted = (&self.accepted.updates, &self.accepted.evaluations);
        accepted.1.get(worker).copied().or_else(|| accepted.0.get(worker).map(|(lease, _)| *lease))
    }

    /// The digest of the update that was acknowledged to this worker under this lease, in this round or the
    /// last committed one.
    pub fn acknowledged(&self, worker: &Name, lease: Lease) -> Option<Digest> {
        self.update_of(worker, lease)
    }

    /// The digest of an update of this worker that was acknowledged before a restart, if its bytes are
    /// wanted again.
    pub fn owed(&self, worker: &Name) -> Option<Digest> {
        self.owed.get(worker).copied()
    }

    /// The version that is being evaluated or published.
    pub fn candidate(&self) -> Option<Digest> {
        self.candidate
    }

    /// The latest time that was seen: with the event of the last step it belongs in the journal.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Whether the event of the last step belongs in the journal: it changed more than what is known in
    /// memory only.
    pub fn changed(&self) -> bool {
        self.aside.changed
    }

    /// Why no further round is opened, while a run is paused.
    pub fn paused(&self) -> Option<&str> {
        self.paused.as_deref()
    }

    /// Whether the run is paused and no round is open any more.
    pub fn is_held(&self) -> bool {
        self.paused.is_some() && self.phase == Phase::Gathering
    }

    /// What a worker is in this run, for people; `None`: it was never heard of.
    pub fn standing(&self, worker: &Name) -> Option<Standing<'_>> {
        let known = self.roster.workers.get(worker)?;
        let state = self.members.get(worker).map(|work| work.state.clone());
        Some(Standing {
            present: known.present,
            excluded: known.excluded.as_deref(),
            drained: known.drained,
            revoked: known.revoked,
            member: state,
        })
    }

    /// Whose work may have changed since this was last asked.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::replace(&mut self.aside.touched, Touched::Workers(Vec::new()))
    }

    /// When to ask [`Machine::overdue`] at the latest; `None`: only an event can change anything.
    pub fn next_deadline(&self) -> Option<Millis> {
        if matches!(self.phase, Phase::Ended(_)) {
            return None;
        }
        self.own_deadline().into_iter().chain(self.leases.next_end(self.plan.lease_ms)).min()
    }

    /// What time alone has brought about at `now`, to be fed to [`Machine::step`] at the same time; ask
    /// again until there is nothing.
    ///
    /// Workers that were silent for a lease come first, all of one moment in one event.
    pub fn overdue(&self, now: Millis) -> Option<Event> {
        if matches!(self.phase, Phase::Ended(_)) {
            return None;
        }
        let now = self.now.max(now);
        let session = |name: &Name| Some((name.clone(), self.roster.workers.get(name)?.session?));
        let workers: Vec<_> = self.leases.silent(now, self.plan.lease_ms).filter_map(session).collect();
        if !workers.is_empty() {
            return Some(Event::WorkersSilent { workers });
        }
        self.own_deadline().filter(|at| *at <= now).map(|_| Event::Tick)
    }

    /// When the phase ends by itself.
    fn own_deadline(&self) -> Option<Millis> {
        match self.phase {
            Phase::Gathering => self.gathering_deadline(),
            Phase::Training => Some(self.deadline),
            Phase::Evaluating => (self.plan.evaluation == Evaluation::Workers).then_some(self.deadline),
            Phase::Aggregating | Phase::Publishing | Phase::Ended(_) => None,
        }
    }

    /// For people: what a gathering run lacks. The caller knows the dataset that workers must offer.
    pub fn waiting_for(&self) -> Option<String> {
        if self.phase != Phase::Gathering {
            return None;
        }
        if let Some(reason) = &self.paused {
            return Some(reason.clone());
        }
        let found = self.eligible_count();
        // In whole seconds: people read it.
        let until = self.gathering_deadline().unwrap_or(self.now);
        let wait = duration(until.saturating_sub(self.now).div_ceil(1000).saturating_mul(1000));
        let left_out = self.left_out();
        Some(if found < self.cohort_min() {
            let needed = self.cohort_min();
            format!("{found} of at least {needed} workers, for at most {wait} more{left_out}")
        } else {
            let wanted = self.cohort_select();
            format!("{found} of {wanted} workers, for at most {wait} more{left_out}")
        })
    }

    /// When gathering ends by itself; a paused run waits for an operator.
    fn gathering_deadline(&self) -> Option<Millis> {
        if self.committed.round >= self.plan.rounds {
            return Some(self.now);
        }
        if self.paused.is_some() {
            return None;
        }
        Some(match (self.enough_since, self.short_since) {
            (Some(since), _) => since.saturating_add(self.plan.gather_ms),
            (None, Some(since)) => since.saturating_add(self.plan.wait_ms),
            (None, None) => self.now,
        })
    }
}
