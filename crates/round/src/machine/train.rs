use params::{Digest, Name};

use super::{Machine, Work, count32, gather::REASON_LEN_MAX};
use crate::{Effect, GivenUp, Lease, MemberState, Note, Outcome, Phase, Refusal};

impl Machine {
    pub(super) fn progress(&mut self, worker: Name, lease: Lease, percent: u32, out: &mut Vec<Effect>) {
        self.touch(&worker, lease, out);
        match self.members.get_mut(&worker).filter(|work| work.lease == lease).map(|work| &mut work.state) {
            // In memory only, like the lease: people see it, nothing is decided by it.
            Some(MemberState::Working { percent: known }) => *known = percent.min(100),
            // Overtaken by its own result.
            Some(MemberState::Done) => {}
            Some(MemberState::Lost) | None => Self::reject(worker, lease, Refusal::Stale, out),
        }
    }

    pub(super) fn update_received(
        &mut self,
        worker: Name,
        lease: Lease,
        digest: Digest,
        examples: u64,
        out: &mut Vec<Effect>,
    ) {
        self.touch(&worker, lease, out);
        if let Some(known) = self.update_of(&worker, lease) {
            if known == digest {
                // The first answer may still wait for the journal, and so must this one.
                out.extend([Effect::Persist, Effect::Acknowledge { worker, lease }]);
            } else {
                Self::reject(worker, lease, Refusal::Duplicate, out);
            }
            return;
        }
        let training = self.phase == Phase::Training && self.wants(&worker);
        let Some(work) = self.open_work(&worker, lease).filter(|_| training) else {
            Self::reject(worker, lease, Refusal::Stale, out);
            return;
        };
        let allowed = work.examples_max;
        if !(1..=allowed).contains(&examples) {
            Self::reject(worker, lease, Refusal::Weight { claimed: examples, allowed }, out);
            return;
        }
        self.set_state(&worker, MemberState::Done);
        self.accepted.updates.insert(worker.clone(), (lease, digest));
        if self.owed.remove(&worker).is_some_and(|acknowledged| acknowledged != digest) {
            let round = self.round();
            out.push(Effect::Tell(Note::UpdateReplaced { worker: worker.clone(), round }));
        }
        out.push(Effect::Fold { worker: worker.clone(), lease, digest, examples });
        out.extend([Effect::Persist, Effect::Acknowledge { worker, lease }]);
    }

    pub(super) fn declined(&mut self, worker: Name, lease: Lease, reason: String, out: &mut Vec<Effect>) {
        self.touch(&worker, lease, out);
        if self.open_work(&worker, lease).is_none() {
            Self::reject(worker, lease, Refusal::Stale, out);
            return;
        }
        // It is kept for the whole run, and it is foreign text.
        let reason: String = reason.chars().take(REASON_LEN_MAX).collect();
        self.lose(&worker, reason.clone(), out);
        self.exclude(&worker, reason, out);
        self.declined = true;
    }

    /// Closes the round, or the attempt, when there is nothing left to wait for.
    pub(super) fn check_training(&mut self, out: &mut Vec<Effect>) {
        if self.phase != Phase::Training {
            return;
        }
        let done = self.accepted.updates.len();
        let working = self.working;
        let late = self.now >= self.deadline;
        // What was acknowledged is in the version, or the attempt makes none.
        let complete = self.owed.is_empty();
        if complete && done >= self.cohort_min() && (working == 0 || late || done >= self.cohort_max()) {
            self.close_training(out);
        } else if late {
            self.lose_working("it sent no update before the deadline", out);
            self.fail_attempt(out);
        } else if done.saturating_add(working) < self.cohort_min() || self.owed_lost > 0 {
            // A member handed back what it owes, or there are too few: the others are not to blame, and are
            // not told to be lost.
            self.fail_attempt(out);
        }
    }

    /// Whether an update of this member still belongs into the round. Only after a restart does that differ from
    /// having open work: what was acknowledged before comes first, and the others get what room is left.
    pub(super) fn wants(&self, worker: &Name) -> bool {
        let claimed = self.accepted.updates.len().saturating_add(self.owed.len());
        self.owed.contains_key(worker) || (!self.closed && claimed < self.cohort_max())
    }

    /// The work that this worker holds under this lease, if it is open.
    pub(super) fn open_work(&self, worker: &Name, lease: Lease) -> Option<&Work> {
        let open = |work: &&Work| work.lease == lease && matches!(work.state, MemberState::Working { .. });
        self.members.get(worker).filter(open)
    }

    pub(super) fn lose_working(&mut self, reason: &str, out: &mut Vec<Effect>) {
        if self.working == 0 {
            return;
        }
        let members: Vec<Name> = self.members.keys().cloned().collect();
        for worker in members {
            self.lose(&worker, reason.to_owned(), out);
        }
    }

    /// The digest that was folded under this lease in this round or the last committed one.
    pub(super) fn update_of(&self, worker: &Name, lease: Lease) -> Option<Digest> {
        [&self.accepted, &self.accepted_before].into_iter().find_map(|accepted| {
            accepted.updates.get(worker).filter(|(known, _)| *known == lease).map(|(_, digest)| *digest)
        })
    }

    fn close_training(&mut self, out: &mut Vec<Effect>) {
        if self.now >= self.deadline {
            self.lose_working("it sent no update before the deadline", out);
        } else {
            self.release_working();
        }
        self.closed = true;
        let round = self.round();
        let (updates, _) = self.updates_and_needed();
        let cohort = count32(self.members.len());
        self.set_phase(Phase::Aggregating);
        out.push(Effect::Tell(Note::RoundClosed { round, updates, cohort }));
        out.push(Effect::Aggregate { round });
    }

    pub(super) fn fail_attempt(&mut self, out: &mut Vec<Effect>) {
        let found = self.eligible_count();
        if self.declined && found < self.cohort_min() {
            let cause = self.shortage(found);
            self.end(Outcome::Failed { cause }, out);
            return;
        }
        let (round, attempt) = (self.round(), self.attempt);
        let (updates, needed) = self.updates_and_needed();
        if attempt >= self.plan.attempts_max {
            let lost = self.lost();
            let cause = format!(
                "round {round} failed in {attempt} attempts, the last with {updates} of at least {needed} updates{lost}"
            );
            self.end(Outcome::Failed { cause }, out);
            return;
        }
        let why = if self.owed.is_empty() { GivenUp::Quorum } else { GivenUp::Owed };
        self.next_attempt(why, out);
    }

    /// Drops what the attempt has, and gathers for the next one from the same base version.
    pub(super) fn next_attempt(&mut self, why: GivenUp, out: &mut Vec<Effect>) {
        let (round, attempt) = (self.round(), self.attempt);
        let (updates, needed) = self.updates_and_needed();
        out.push(Effect::Discard { round });
        out.push(Effect::Tell(Note::AttemptFailed { round, attempt, updates, needed, why }));
        self.attempt = attempt.saturating_add(1);
        self.start_gathering();
    }

    /// The round has all that it wants: who still works was picked in excess, and is not to blame.
    fn release_working(&mut self) {
        if self.working == 0 {
            return;
        }
        let members: Vec<Name> = self.members.keys().cloned().collect();
        for name in members {
            if matches!(self.members.get(&name).map(|w| &w.state), Some(MemberState::Working { .. })) {
                self.set_state(&name, MemberState::Lost);
            }
        }
    }
}
