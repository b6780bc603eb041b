use super::Machine;
use crate::{Effect, Outcome, Phase};

impl Machine {
    pub(super) fn published(&mut self, round: u32, better: bool, out: &mut Vec<Effect>) {
        if self.phase != Phase::Publishing || round != self.round() {
            return;
        }
        if let Some(candidate) = self.candidate {
            self.committed.base = candidate;
        }
        self.committed.round = round;
        self.attempt = 1;
        self.accepted_before = std::mem::take(&mut self.accepted);
        self.unimproved = if better { 0 } else { self.unimproved.saturating_add(1) };
        self.start_gathering();
        let more = self.committed.round < self.plan.rounds;
        if let Some(cause) = self.stop.take().filter(|_| more) {
            self.end(Outcome::Stopped { cause }, out);
        } else if more && self.plan.patience.is_some_and(|patience| self.unimproved >= patience) {
            self.end(Outcome::StoppedEarly { unimproved: self.unimproved }, out);
        }
    }

    pub(super) fn failed(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.end(Outcome::Failed { cause: reason }, out);
    }

    pub(super) fn stopped(&mut self, reason: String, out: &mut Vec<Effect>) {
        match self.phase {
            // Past the point of no return: the round counts.
            Phase::Publishing => {
                self.stop = Some(reason);
                out.push(Effect::Persist);
            }
            _ => self.end(Outcome::Stopped { cause: reason }, out),
        }
    }

    pub(super) fn add_rounds(&mut self, count: u32, out: &mut Vec<Effect>) {
        if count == 0 {
            return;
        }
        out.push(Effect::Persist);
        if matches!(self.phase, Phase::Ended(_)) {
            // From where it ended: rounds that were planned and not done are not brought back.
            self.plan.rounds = self.committed.round;
        }
        self.plan.rounds = self.plan.rounds.saturating_add(count);
        if matches!(self.phase, Phase::Ended(_)) {
            self.start_gathering();
            self.attempt = 1;
            self.declined = false;
            self.unimproved = 0;
            // An operator who lets a run go on has looked at why it ended: all workers count again.
            let names: Vec<_> = self.roster.workers.keys().cloned().collect();
            for name in names {
                self.change_worker(&name, |worker| {
                    if !worker.revoked {
                        worker.excluded = None;
                    }
                });
            }
        }
    }

    /// Ends the run; the open round, if any, is dropped.
    pub(super) fn end(&mut self, outcome: Outcome, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Ended(_) => return,
            Phase::Gathering => {}
            Phase::Training | Phase::Aggregating | Phase::Evaluating | Phase::Publishing => {
                out.push(Effect::Discard { round: self.round() });
            }
        }
        self.close_round();
        self.stop = None;
        self.paused = None;
        self.set_phase(Phase::Ended(outcome.clone()));
        out.extend([Effect::Persist, Effect::End(outcome)]);
    }
}
