use params::Name;

use super::{Accepted, Machine, Touched, Work, count32, duration};
use crate::{Effect, MemberState, Outcome, Phase, cohort};

/// Reasons that a cause quotes, and characters of each: they are foreign text.
const REASONS_MAX: usize = 4;
pub(super) const REASON_LEN_MAX: usize = 200;

impl Machine {
    /// Waits for the workers of the next round, without one in progress.
    pub(super) fn start_gathering(&mut self) {
        self.set_phase(Phase::Gathering);
        self.wait_anew();
        self.close_round();
    }

    /// The waits for workers start with this step.
    pub(super) fn wait_anew(&mut self) {
        self.short_since = None;
        self.enough_since = None;
    }

    /// Another phase: everybody's work may be another one.
    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.aside.touched = Touched::All;
    }

    /// Forgets the open round.
    pub(super) fn close_round(&mut self) {
        self.members.clear();
        self.working = 0;
        self.closed = false;
        self.owed.clear();
        self.owed_lost = 0;
        self.candidate = None;
        self.accepted = Accepted::default();
    }

    /// Opens the round, goes on waiting, or gives up.
    pub(super) fn check_gathering(&mut self, out: &mut Vec<Effect>) {
        if self.phase != Phase::Gathering {
            return;
        }
        if self.committed.round >= self.plan.rounds {
            self.end(Outcome::Completed, out);
            return;
        }
        if self.paused.is_some() {
            return;
        }
        let (found, now) = (self.eligible_count(), self.now);
        if found < self.cohort_min() {
            self.enough_since = None;
            let since = *self.short_since.get_or_insert(now);
            if self.declined || now >= since.saturating_add(self.plan.wait_ms) {
                let cause = self.shortage(found);
                self.end(Outcome::Failed { cause }, out);
            }
            return;
        }
        self.short_since = None;
        self.declined = false;
        let since = *self.enough_since.get_or_insert(now);
        let waited = now >= since.saturating_add(self.plan.gather_ms);
        if !self.first || waited || found >= self.cohort_select() {
            self.open_round(out);
        }
    }

    fn open_round(&mut self, out: &mut Vec<Effect>) {
        self.first = false;
        let eligible = self.eligible();
        self.assign_shards(&eligible);
        let round = self.round();
        let cohort = cohort::pick(self.plan.seed, round, &eligible, self.cohort_select());
        self.losses.clear();
        self.members.clear();
        let mut examples_max = 0u64;
        for name in &cohort {
            let examples = self.examples_of(name);
            examples_max = examples_max.saturating_add(examples);
            let session = self.roster.workers.get(name).and_then(|worker| worker.session).unwrap_or(0);
            let state = MemberState::Working { percent: 0 };
            let work = Work { lease: self.lease(), session, state, examples_max: examples };
            self.members.insert(name.clone(), work);
        }
        self.working = self.members.len();
        self.closed = false;
        self.deadline = self.now.saturating_add(self.plan.deadline_ms);
        self.set_phase(Phase::Training);
        out.push(Effect::OpenRound { round, attempt: self.attempt, cohort, examples_max });
        // Workers are told of their work next. A coordinator that lost power and does not know of it any
        // more would have them drop it, and train the same again.
        out.push(Effect::Persist);
    }

    /// Why a run ends that has only `found` workers.
    pub(super) fn shortage(&self, found: usize) -> String {
        let needed = self.cohort_min();
        let left_out = self.left_out();
        if self.declined {
            return format!("{found} of at least {needed} workers can be used{left_out}");
        }
        let waited = duration(self.plan.wait_ms);
        format!("{found} of at least {needed} workers after waiting {waited}{left_out}")
    }

    /// `; left out: NAME: REASON, ...`, or nothing.
    pub(super) fn left_out(&self) -> String {
        let excluded =
            self.roster.workers.iter().filter_map(|(name, worker)| Some((name, worker.excluded.as_ref()?)));
        quote("; left out: ", excluded)
    }

    /// `; lost: NAME: REASON, ...` of the last attempt, or nothing.
    pub(super) fn lost(&self) -> String {
        quote("; lost: ", self.losses.iter())
    }

    /// Updates in, and updates without which the round does not close, as notes carry them.
    pub(super) fn updates_and_needed(&self) -> (u32, u32) {
        (count32(self.accepted.updates.len()), count32(self.cohort_min()))
    }
}

fn quote<'a>(start: &str, reasons: impl Iterator<Item = (&'a Name, &'a String)>) -> String {
    let mut text = String::new();
    let mut more = 0;
    for (at, (name, reason)) in reasons.enumerate() {
        if at >= REASONS_MAX {
            more += 1;
            continue;
        }
        text.push_str(if at == 0 { start } else { ", " });
        text.push_str(name.as_str());
        text.push_str(": ");
        text.extend(reason.chars().take(REASON_LEN_MAX));
    }
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    text
}
