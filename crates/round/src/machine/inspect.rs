use params::Name;

use super::{Machine, duration};
use crate::{
    Assignment, Committed, DataPlan, Evaluation, Member, MemberState, Millis, Phase, Plan, WorkKind,
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

    /// What this worker should be doing now, if anything.
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

    /// The cohort of the open round, sorted by name; empty while none is open.
    pub fn members(&self) -> Vec<Member> {
        let member =
            |(name, work): (&Name, &super::Work)| Member { worker: name.clone(), state: work.state.clone() };
        self.members.iter().map(member).collect()
    }

    /// When to send [`crate::Event::Tick`] at the latest; `None`: only an event can change anything.
    pub fn next_deadline(&self) -> Option<Millis> {
        let own = match self.phase {
            Phase::Ended(_) => return None,
            Phase::Gathering => Some(self.gathering_deadline()),
            Phase::Training => Some(self.deadline),
            Phase::Evaluating => (self.plan.evaluation == Evaluation::Workers).then_some(self.deadline),
            Phase::Aggregating | Phase::Publishing => None,
        };
        let present = self.workers.values().filter(|worker| worker.present);
        let leases = present.map(|worker| worker.seen.saturating_add(self.plan.lease_ms));
        own.into_iter().chain(leases).min()
    }

    /// For people: what a gathering run lacks. The caller knows the dataset that workers must offer.
    pub fn waiting_for(&self) -> Option<String> {
        if self.phase != Phase::Gathering {
            return None;
        }
        let found = self.eligible().len();
        // In whole seconds: people read it.
        let wait =
            duration(self.gathering_deadline().saturating_sub(self.now).div_ceil(1000).saturating_mul(1000));
        let left_out = self.left_out();
        Some(if found < self.cohort_min() {
            let needed = self.cohort_min();
            format!("{found} of at least {needed} workers, for at most {wait} more{left_out}")
        } else {
            let wanted = self.cohort_max();
            format!("{found} of {wanted} workers, for at most {wait} more{left_out}")
        })
    }

    fn gathering_deadline(&self) -> Millis {
        if self.committed.round >= self.plan.rounds {
            return self.now;
        }
        match (self.enough_since, self.short_since) {
            (Some(since), _) => since.saturating_add(self.plan.gather_ms),
            (None, Some(since)) => since.saturating_add(self.plan.wait_ms),
            (None, None) => self.now,
        }
    }
}
