use params::{Digest, Name};

use super::Machine;
use crate::{Effect, Evaluation, Lease, MemberState, Phase, Refusal};

impl Machine {
    pub(super) fn aggregated(&mut self, round: u32, candidate: Digest, out: &mut Vec<Effect>) {
        if self.phase != Phase::Aggregating || round != self.round() {
            return;
        }
        self.candidate = Some(candidate);
        match self.plan.evaluation {
            Evaluation::None => self.publish(out),
            Evaluation::Central => {
                self.set_phase(Phase::Evaluating);
                out.push(Effect::EvaluateCentrally { round });
            }
            Evaluation::Workers => self.hand_out_candidate(),
        }
    }

    pub(super) fn evaluated_centrally(&mut self, round: u32, out: &mut Vec<Effect>) {
        let asked = self.phase == Phase::Evaluating && self.plan.evaluation == Evaluation::Central;
        if asked && round == self.round() {
            self.publish(out);
        }
    }

    pub(super) fn evaluation_received(&mut self, worker: Name, lease: Lease, out: &mut Vec<Effect>) {
        self.touch(&worker, lease, out);
        let kept = [&self.accepted, &self.accepted_before];
        if kept.iter().any(|accepted| accepted.evaluations.get(&worker) == Some(&lease)) {
            out.extend([Effect::Persist, Effect::Acknowledge { worker, lease }]);
            return;
        }
        let evaluating = self.phase == Phase::Evaluating;
        if self.open_work(&worker, lease).filter(|_| evaluating).is_none() {
            Self::reject(worker, lease, Refusal::Stale, out);
            return;
        }
        self.set_state(&worker, MemberState::Done);
        self.accepted.evaluations.insert(worker.clone(), lease);
        out.push(Effect::KeepEvaluation { worker: worker.clone(), lease });
        out.extend([Effect::Persist, Effect::Acknowledge { worker, lease }]);
    }

    /// Publishes when no more metrics can come, or time is up: they are wanted, not needed.
    pub(super) fn check_evaluating(&mut self, out: &mut Vec<Effect>) {
        let by_workers = self.phase == Phase::Evaluating && self.plan.evaluation == Evaluation::Workers;
        if by_workers && (self.working == 0 || self.now >= self.deadline) {
            self.lose_working("it sent no metrics before the deadline", out);
            self.publish(out);
        }
    }

    /// Each member whose update is in and who is there gets new work; the others have done theirs.
    fn hand_out_candidate(&mut self) {
        self.set_phase(Phase::Evaluating);
        self.deadline = self.now.saturating_add(self.plan.deadline_ms);
        let members: Vec<Name> = self.members.keys().cloned().collect();
        for name in members {
            let lease = self.lease();
            let present = self.roster.workers.get(&name).filter(|worker| worker.present);
            let session = present.and_then(|worker| worker.session);
            let folded = self.accepted.updates.contains_key(&name);
            let state = match session.filter(|_| folded) {
                Some(session) => {
                    if let Some(work) = self.members.get_mut(&name) {
                        work.lease = lease;
                        work.session = session;
                    }
                    MemberState::Working { percent: 0 }
                }
                None => MemberState::Lost,
            };
            self.set_state(&name, state);
        }
    }

    fn publish(&mut self, out: &mut Vec<Effect>) {
        self.set_phase(Phase::Publishing);
        out.push(Effect::Publish { round: self.round() });
    }
}
