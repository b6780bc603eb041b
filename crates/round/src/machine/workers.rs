use params::Name;

use super::{Machine, duration};
use crate::{Effect, Lease, MemberState, Note, Phase, Session};

impl Machine {
    pub(super) fn joined(
        &mut self,
        name: Name,
        session: Session,
        examples: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        let before = self.roster.workers.get(&name);
        if before.is_some_and(|worker| worker.revoked) {
            return;
        }
        let known = before.is_some_and(|worker| worker.present && worker.session == Some(session));
        self.change_worker(&name, |worker| {
            worker.session = Some(session);
            worker.examples = examples;
            worker.present = true;
        });
        self.leases.renew(&name, self.now);
        if !known {
            self.tell_ready(&name, out);
        }
        self.resume_work(&name, out);
    }

    pub(super) fn seen(&mut self, name: &Name, session: Session, out: &mut Vec<Effect>) {
        let Some(worker) = self.roster.workers.get(name).filter(|worker| worker.session == Some(session))
        else {
            return;
        };
        if worker.revoked {
            return;
        }
        let back = !worker.present;
        self.leases.renew(name, self.now);
        if back {
            self.roster.returned = true;
            self.change_worker(name, |worker| worker.present = true);
            self.tell_ready(name, out);
            self.resume_work(name, out);
        }
    }

    /// Whoever holds the lease is alive, whatever becomes of the input that names it.
    pub(super) fn touch(&mut self, name: &Name, lease: Lease, out: &mut Vec<Effect>) {
        if let Some(session) = self.members.get(name).filter(|work| work.lease == lease).map(|w| w.session) {
            self.seen(name, session, out);
        }
    }

    pub(super) fn left(&mut self, name: &Name, session: Session, out: &mut Vec<Effect>) {
        if self.goes_away(name, session) {
            self.lose_sight(name, "it left".to_owned(), out);
        }
    }

    pub(super) fn silent(&mut self, workers: &[(Name, Session)], out: &mut Vec<Effect>) {
        let reason = format!("it was not seen for {}", duration(self.plan.lease_ms));
        // All of them first: who is gone in the same moment is not counted on.
        let gone: Vec<&Name> = workers
            .iter()
            .filter(|(name, session)| self.goes_away(name, *session))
            .map(|(name, _)| name)
            .collect();
        for name in gone {
            self.lose_sight(name, reason.clone(), out);
        }
    }

    /// Ends the open work of a member; one without open work has nothing to lose.
    pub(super) fn lose(&mut self, name: &Name, reason: String, out: &mut Vec<Effect>) {
        let round = self.round();
        let Some(work) = self.members.get(name) else { return };
        if matches!(work.state, MemberState::Working { .. }) {
            self.set_state(name, MemberState::Lost);
            self.losses.insert(name.clone(), reason.clone());
            out.push(Effect::Tell(Note::WorkerLost { worker: name.clone(), round, reason }));
        }
    }

    pub(super) fn exclude(&mut self, name: &Name, reason: String, out: &mut Vec<Effect>) {
        if self.roster.workers.contains_key(name) {
            self.change_worker(name, |worker| worker.excluded = Some(reason.clone()));
            out.push(Effect::Tell(Note::WorkerExcluded { worker: name.clone(), reason }));
        }
    }

    /// Marks the worker as away; `false` when that is known, or another process of it is there.
    fn goes_away(&mut self, name: &Name, session: Session) -> bool {
        let worker = self.roster.workers.get(name);
        if !worker.is_some_and(|worker| worker.session == Some(session) && worker.present) {
            return false;
        }
        self.change_worker(name, |worker| worker.present = false);
        self.leases.end(name);
        true
    }

    /// The work of a worker that went away is lost, unless it owes an update that was acknowledged: that is
    /// waited for until the deadline.
    fn lose_sight(&mut self, name: &Name, reason: String, out: &mut Vec<Effect>) {
        if self.owed.contains_key(name) {
            out.push(Effect::Tell(Note::WorkerAwaited { worker: name.clone(), round: self.round() }));
        } else {
            self.lose(name, reason, out);
        }
    }

    /// Gives a member that came back, or another process of it, its work of this round anew.
    fn resume_work(&mut self, name: &Name, out: &mut Vec<Effect>) {
        let open = match self.phase {
            Phase::Training => self.wants(name),
            Phase::Evaluating => self.accepted.updates.contains_key(name),
            _ => false,
        };
        let (Some(worker), Some(work)) = (self.roster.workers.get(name), self.members.get(name)) else {
            return;
        };
        let Some(session) = worker.session else { return };
        if !open || worker.excluded.is_some() || work.state == MemberState::Done {
            return;
        }
        let (offered, picked) = (self.examples_of(name), work.examples_max);
        if offered != picked {
            // The accumulator was made for the weights of when the round opened.
            let reason = format!("it came back with {offered} examples instead of {picked}");
            self.lose(name, reason, out);
            return;
        }
        if matches!(work.state, MemberState::Working { .. }) && work.session == session {
            return;
        }
        let lease = self.lease();
        if let Some(work) = self.members.get_mut(name) {
            work.lease = lease;
            work.session = session;
        }
        self.set_state(name, MemberState::Working { percent: 0 });
    }

    fn tell_ready(&self, name: &Name, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Ended(_)) && self.is_eligible(name) {
            out.push(Effect::Tell(Note::WorkerReady { worker: name.clone() }));
        }
    }
}
