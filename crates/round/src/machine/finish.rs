use super::Machine;
use crate::{Effect, Outcome, Phase};

impl Machine {
    pub(super) fn published(&mut self, round: u32, out: &mut Vec<Effect>) {
        if self.phase != Phase::Publishing || round != self.round() {
            return;
        }
        if let Some(candidate) = self.candidate {
            self.committed.base = candidate;
        }
        self.committed.round = round;
        self.attempt = 1;
        self.accepted_before = std::mem::take(&mut self.accepted);
        self.start_gathering();
        if let Some(cause) = self.stop.take()
            && self.committed.round < self.plan.rounds
        {
            self.end(Outcome::Stopped { cause }, out);
        }
    }

    pub(super) fn failed(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.end(Outcome::Failed { cause: reason }, out);
    }

    pub(super) fn stopped(&mut self, reason: String, out: &mut Vec<Effect>) {
        match self.phase {
            // Past the point of no return: the round counts.
            Phase::Publishing => self.stop = Some(reason),
            _ => self.end(Outcome::Stopped { cause: reason }, out),
        }
    }

    pub(super) fn add_rounds(&mut self, count: u32) {
        if count == 0 {
            return;
        }
        self.plan.rounds = self.plan.rounds.saturating_add(count);
        if matches!(self.phase, Phase::Ended(_)) {
            self.start_gathering();
            self.attempt = 1;
            self.declined = false;
            // An operator who lets a run go on has looked at why it ended: all workers count again.
            for worker in self.workers.values_mut() {
                worker.excluded = None;
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
        self.phase = Phase::Ended(outcome.clone());
        out.push(Effect::End(outcome));
    }
}
