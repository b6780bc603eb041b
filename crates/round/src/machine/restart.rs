//! The shell is another process than before: what was only in its memory must come again.

use params::Name;

use super::Machine;
use crate::{Effect, Evaluation, Lease, MemberState, Note, Phase};

impl Machine {
    pub(super) fn restarted(&mut self, lease_base: Lease, out: &mut Vec<Effect>) {
        self.lease_next = lease_base;
        // Whoever was there has one lease to come back in.
        let present: Vec<Name> =
            self.roster.workers.iter().filter(|(_, w)| w.present).map(|(name, _)| name.clone()).collect();
        present.iter().for_each(|name| self.leases.renew(name, self.now));
        let round = self.round();
        match self.phase {
            // Nobody could join meanwhile.
            Phase::Gathering => self.wait_anew(),
            Phase::Ended(_) => {}
            Phase::Training | Phase::Aggregating => self.reopen(out),
            // The candidate is durable.
            Phase::Evaluating => match self.plan.evaluation {
                Evaluation::Central => out.push(Effect::EvaluateCentrally { round }),
                Evaluation::Workers | Evaluation::None => {
                    self.deadline = self.now.saturating_add(self.plan.deadline_ms);
                }
            },
            Phase::Publishing => out.push(Effect::Publish { round }),
        }
    }

    /// The sum is lost, so every update that was acknowledged is owed: the workers keep them until the round
    /// is committed, and send them again. The round has its whole time for that.
    fn reopen(&mut self, out: &mut Vec<Effect>) {
        let acknowledged = std::mem::take(&mut self.accepted.updates);
        for (name, (_, digest)) in acknowledged {
            self.set_state(&name, MemberState::Working { percent: 0 });
            self.owed.insert(name, digest);
        }
        self.set_phase(Phase::Training);
        self.deadline = self.now.saturating_add(self.plan.deadline_ms);
        let (round, attempt) = (self.round(), self.attempt);
        let cohort = self.members.keys().cloned().collect();
        let examples_max =
            self.members.values().fold(0u64, |sum, work| sum.saturating_add(work.examples_max));
        out.push(Effect::OpenRound { round, attempt, cohort, examples_max });
        out.push(Effect::Tell(Note::RoundReopened { round, owed: super::count32(self.owed.len()) }));
    }
}
