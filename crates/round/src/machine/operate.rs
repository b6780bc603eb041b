//! What operators want of a run and of its workers.

use params::Name;

use super::Machine;
use crate::{Effect, GivenUp, Note, Phase};

impl Machine {
    /// The open round goes on to its end; no other one is opened.
    pub(super) fn pause(&mut self, reason: String, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        if self.paused.is_none() {
            out.push(Effect::Tell(Note::Paused { reason: reason.clone() }));
            self.paused = Some(reason);
        }
        out.push(Effect::Persist);
    }

    pub(super) fn resume_rounds(&mut self, out: &mut Vec<Effect>) {
        if self.paused.take().is_some() {
            out.push(Effect::Tell(Note::Resumed));
            // Nobody waited for workers meanwhile.
            self.wait_anew();
        }
        out.push(Effect::Persist);
    }

    /// A drained worker finishes what it has.
    pub(super) fn drained(&mut self, name: Name, drained: bool, out: &mut Vec<Effect>) {
        let known = self.roster.workers.get(&name).is_some_and(|worker| worker.drained);
        if known != drained {
            self.change_worker(&name, |worker| worker.drained = drained);
            out.push(Effect::Tell(Note::WorkerDrained { worker: name, drained }));
        }
        out.push(Effect::Persist);
    }

    /// What a revoked worker sent to the open round cannot be taken out of a sum, so the attempt is given
    /// up; the others still have their updates and only send them again.
    pub(super) fn revoked(&mut self, name: Name, out: &mut Vec<Effect>) {
        if self.roster.workers.get(&name).is_some_and(|worker| worker.revoked) {
            out.push(Effect::Persist);
            return;
        }
        let reason = "it was revoked by an operator".to_owned();
        self.change_worker(&name, |worker| {
            worker.revoked = true;
            worker.present = false;
        });
        self.leases.end(&name);
        self.lose(&name, reason.clone(), out);
        self.exclude(&name, reason, out);
        let open = matches!(self.phase, Phase::Training | Phase::Aggregating | Phase::Evaluating);
        if open && (self.accepted.updates.contains_key(&name) || self.owed.contains_key(&name)) {
            self.next_attempt(GivenUp::Revoked, out);
        }
        out.push(Effect::Persist);
    }
}
