//! One value, one file per concern; [`Machine::step`] is the only way in.

mod evaluate;
mod finish;
mod gather;
mod inspect;
mod leases;
mod operate;
mod restart;
mod roster;
mod saved;
mod train;
mod workers;

use std::collections::BTreeMap;

use params::{Digest, Name};

use crate::{Committed, DataPlan, Effect, Event, Lease, MemberState, Millis, Phase, Plan, Refusal, Session};
use leases::Leases;
use roster::Roster;

pub use saved::{Saved, SavedMember, SavedWorker};

/// One run: where it is, who takes part, and what every worker should be doing.
///
/// The shell feeds it every [`Event`] with the time and executes the effects in order. No later than
/// [`Machine::next_deadline`] it asks [`Machine::overdue`] what time alone has brought about, and feeds
/// that back. Work is level-triggered: workers ask [`Machine::assignment`] and are told the same thing as
/// often as they ask.
///
/// After a step for which [`Machine::changed`] is true, the event and [`Machine::now`] belong in the
/// journal. Replaying exactly these through `step` gives the same machine; what is left out (progress, who
/// was seen when) is known in memory only, and no step decides by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    plan: Plan,
    /// Shards of the plan that are not empty: one worker more costs no walk over all of them.
    shards_usable: usize,
    committed: Committed,
    phase: Phase,
    /// The latest time seen: a clock that goes back stands still here.
    now: Millis,
    lease_next: Lease,
    /// Of the round in progress, 1-based.
    attempt: u32,
    /// No round was opened yet, so it is worth while to wait for a full cohort.
    first: bool,
    roster: Roster,
    /// While gathering: since when there are fewer than `cohort_min` workers.
    short_since: Option<Millis>,
    /// While gathering: since when there are `cohort_min` workers.
    enough_since: Option<Millis>,
    /// A worker declined since there were last enough workers: no use waiting for as many. One that an
    /// operator revoked may be replaced by another.
    declined: bool,
    /// An operator wants no further round: who and why.
    paused: Option<String>,
    /// The cohort of the open round; empty while none is open.
    members: BTreeMap<Name, Work>,
    /// Members with open work.
    working: usize,
    /// The open round has all the updates that it wants: who is in it is settled, also over a restart.
    closed: bool,
    /// When the open round ends its training, or the evaluation by workers.
    deadline: Millis,
    /// Why members of the last attempt were lost, the latest reason of each.
    losses: BTreeMap<Name, String>,
    candidate: Option<Digest>,
    /// What was accepted in the open round.
    accepted: Accepted,
    /// Updates of the open round that were acknowledged before a restart, and whose bytes are wanted again.
    owed: BTreeMap<Name, Digest>,
    /// How many of those their workers will not send: these are lost.
    owed_lost: usize,
    /// What was accepted in the last committed round: a worker that missed the answer asks again.
    accepted_before: Accepted,
    /// A stop that arrived while a round was being committed.
    stop: Option<String>,
    /// Rounds in a row that were not better than an earlier one.
    unimproved: u32,
    /// When each present worker was last heard of. In memory only.
    leases: Leases,
    aside: Aside,
}

/// What the shell asks after a step. No part of where the run is: it does not count when two machines are
/// compared.
#[derive(Clone, Debug)]
struct Aside {
    /// Whether the last step belongs in the journal.
    changed: bool,
    /// Whose work may have changed since the shell last asked.
    touched: Touched,
}

impl PartialEq for Aside {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Aside {}

/// Whose work may have changed since the shell last asked; see [`Machine::take_touched`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// That of these workers.
    Workers(Vec<Name>),
    /// That of everybody.
    All,
}

/// What one worker of the cohort was given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Work {
    lease: Lease,
    session: Session,
    state: MemberState,
    examples_max: u64,
}

/// Inputs that were accepted and can be acknowledged again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The update of each worker: under which lease, and its digest.
    pub updates: BTreeMap<Name, (Lease, Digest)>,
    /// Under which lease each worker sent its metrics.
    pub evaluations: BTreeMap<Name, Lease>,
}

impl Machine {
    /// A run that goes on after `from`, with no workers yet.
    ///
    /// `lease_base` is the first lease; take a random one, so that the leases of an earlier process
    /// never match. If all rounds are committed, the first step ends the run, unless it adds rounds.
    pub fn new(plan: Plan, from: Committed, lease_base: Lease, now: Millis) -> Self {
        let shards_usable = match &plan.data {
            DataPlan::Hosted { shards } => shards.iter().filter(|size| **size > 0).count(),
            DataPlan::Private => 0,
        };
        Self {
            plan,
            shards_usable,
            committed: from,
            phase: Phase::Gathering,
            now,
            lease_next: lease_base,
            attempt: 1,
            first: true,
            roster: Roster::default(),
            short_since: Some(now),
            enough_since: None,
            declined: false,
            paused: None,
            members: BTreeMap::new(),
            working: 0,
            closed: false,
            deadline: now,
            losses: BTreeMap::new(),
            candidate: None,
            accepted: Accepted::default(),
            owed: BTreeMap::new(),
            owed_lost: 0,
            accepted_before: Accepted::default(),
            stop: None,
            unimproved: 0,
            leases: Leases::default(),
            aside: Aside { changed: false, touched: Touched::All },
        }
    }

    /// Takes one event in and returns what the shell must do, in order.
    ///
    /// `now` is in milliseconds; one earlier than a previous `now` counts as that. Nobody loses a lease
    /// here: that is an event of its own, see [`Machine::overdue`]. So a worker that is heard of just after
    /// its lease ran out keeps it, if nobody looked in between.
    #[must_use]
    pub fn step(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        self.aside.changed =
            !matches!(event, Event::WorkersSeen { .. } | Event::Progress { .. } | Event::Tick);
        let mut out = Vec::new();
        self.take_in(event, &mut out);
        // In this order, so that one step takes a failed attempt to the next one. A deadline of the
        // round that opens here is looked at by the next step: no step can loop.
        self.check_training(&mut out);
        self.check_evaluating(&mut out);
        self.check_gathering(&mut out);
        // An answer that changes nothing leaves no trace, unless its sender came back by it.
        let nothing_new =
            matches!(out[..], [Effect::Reject { .. }] | [Effect::Persist, Effect::Acknowledge { .. }]);
        self.aside.changed = (self.aside.changed || !out.is_empty()) && !nothing_new;
        self.aside.changed |= std::mem::take(&mut self.roster.returned);
        out
    }

    fn take_in(&mut self, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::WorkerJoined { worker, session, examples } => self.joined(worker, session, examples, out),
            Event::WorkersSeen { workers } => {
                workers.iter().for_each(|(worker, session)| self.seen(worker, *session, out));
            }
            Event::WorkersSilent { workers } => self.silent(&workers, out),
            Event::WorkerLeft { worker, session } => self.left(&worker, session, out),
            Event::WorkerDrained { worker, drained } => self.drained(worker, drained, out),
            Event::WorkerRevoked { worker } => self.revoked(worker, out),
            Event::Progress { worker, lease, percent } => self.progress(worker, lease, percent, out),
            Event::UpdateReceived { worker, lease, digest, examples } => {
                self.update_received(worker, lease, digest, examples, out);
            }
            Event::EvaluationReceived { worker, lease } => self.evaluation_received(worker, lease, out),
            Event::Declined { worker, lease, reason } => self.declined(worker, lease, reason, out),
            Event::Aggregated { round, candidate } => self.aggregated(round, candidate, out),
            Event::EvaluatedCentrally { round } => self.evaluated_centrally(round, out),
            Event::Published { round, better } => self.published(round, better, out),
            Event::Failed { reason } => self.failed(reason, out),
            Event::Pause { reason } => self.pause(reason, out),
            Event::Resume => self.resume_rounds(out),
            Event::Stop { reason } => self.stopped(reason, out),
            Event::AddRounds { count } => self.add_rounds(count, out),
            Event::Restarted { lease_base } => self.restarted(lease_base, out),
        }
    }

    /// Cohort bounds as numbers of workers; a plan with senseless bounds still means something.
    fn cohort_min(&self) -> usize {
        self.plan.cohort_min.max(1) as usize
    }

    fn cohort_max(&self) -> usize {
        (self.plan.cohort_max as usize).max(self.cohort_min())
    }

    fn cohort_select(&self) -> usize {
        (self.plan.cohort_select as usize).max(self.cohort_max())
    }

    fn lease(&mut self) -> Lease {
        let lease = self.lease_next;
        // Leases need only differ; a random first one may be close to the end of the numbers.
        self.lease_next = lease.wrapping_add(1);
        lease
    }

    /// The one place where the state of a member changes, so that the numbers of open works and of lost
    /// ones are right.
    fn set_state(&mut self, name: &Name, state: MemberState) {
        let Some(work) = self.members.get_mut(name) else { return };
        let open = |state: &MemberState| usize::from(matches!(state, MemberState::Working { .. }));
        let lost = |state: &MemberState| usize::from(*state == MemberState::Lost);
        self.working = self.working + open(&state) - open(&work.state);
        if !self.owed.is_empty() && self.owed.contains_key(name) {
            self.owed_lost = self.owed_lost + lost(&state) - lost(&work.state);
        }
        work.state = state;
        self.touch_work(name);
    }

    fn touch_work(&mut self, name: &Name) {
        if let Touched::Workers(names) = &mut self.aside.touched {
            names.push(name.clone());
        }
    }

    fn reject(worker: Name, lease: Lease, refusal: Refusal, out: &mut Vec<Effect>) {
        out.push(Effect::Reject { worker, lease, refusal });
    }
}

/// `count` as the 32 bits that notes carry.
fn count32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A time for people: `60 s`, or `1500 ms` where seconds would lie.
fn duration(millis: Millis) -> String {
    if millis.is_multiple_of(1000) { format!("{} s", millis / 1000) } else { format!("{millis} ms") }
}
