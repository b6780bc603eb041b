//! One value, one file per concern; [`Machine::step`] is the only way in.

mod evaluate;
mod finish;
mod gather;
mod inspect;
mod train;
mod workers;

use std::collections::BTreeMap;

use params::{Digest, Name};

use crate::{Committed, Effect, Event, Lease, MemberState, Millis, Phase, Plan, Refusal, Session};
use workers::Worker;

/// One run: where it is, who takes part, and what every worker should be doing.
///
/// The shell feeds it every [`Event`] with the time, executes the effects in order, and sends
/// [`Event::Tick`] no later than [`Machine::next_deadline`]. Work is level-triggered: workers ask
/// [`Machine::assignment`] and are told the same thing as often as they ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    plan: Plan,
    committed: Committed,
    phase: Phase,
    /// The latest time seen: a clock that goes back stands still here.
    now: Millis,
    lease_next: Lease,
    /// Of the round in progress, 1-based.
    attempt: u32,
    /// No round was opened yet, so it is worth while to wait for a full cohort.
    first: bool,
    workers: BTreeMap<Name, Worker>,
    /// While gathering: since when there are fewer than `cohort_min` workers.
    short_since: Option<Millis>,
    /// While gathering: since when there are `cohort_min` workers.
    enough_since: Option<Millis>,
    /// A worker was excluded since there were last enough workers.
    declined: bool,
    /// The cohort of the open round; empty while none is open.
    members: BTreeMap<Name, Work>,
    /// When the open round ends its training, or the evaluation by workers.
    deadline: Millis,
    /// Why members of the last attempt were lost, the latest reason of each.
    losses: BTreeMap<Name, String>,
    candidate: Option<Digest>,
    /// What was accepted in the open round.
    accepted: Accepted,
    /// What was accepted in the last committed round: a worker that missed the answer asks again.
    accepted_before: Accepted,
    /// A stop that arrived while a round was being committed.
    stop: Option<String>,
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
struct Accepted {
    updates: BTreeMap<Name, (Lease, Digest)>,
    evaluations: BTreeMap<Name, Lease>,
}

impl Machine {
    /// A run that goes on after `from`, with no workers yet.
    ///
    /// `lease_base` is the first lease; take a random one, so that the leases of an earlier process
    /// never match. If all rounds are committed, the first step ends the run, unless it adds rounds.
    pub fn new(plan: Plan, from: Committed, lease_base: u64, now: Millis) -> Self {
        Self {
            plan,
            committed: from,
            phase: Phase::Gathering,
            now,
            lease_next: lease_base,
            attempt: 1,
            first: true,
            workers: BTreeMap::new(),
            short_since: Some(now),
            enough_since: None,
            declined: false,
            members: BTreeMap::new(),
            deadline: now,
            losses: BTreeMap::new(),
            candidate: None,
            accepted: Accepted::default(),
            accepted_before: Accepted::default(),
            stop: None,
        }
    }

    /// Takes one event in and returns what the shell must do, in order.
    ///
    /// `now` is in milliseconds; one earlier than a previous `now` counts as that. The event comes
    /// first and the clock second: a worker that is heard of just after its lease ran out keeps it,
    /// if no step came between.
    #[must_use]
    pub fn step(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        self.take_in(event, &mut out);
        self.expire(&mut out);
        // In this order, so that one step takes a failed attempt to the next one. A deadline of the
        // round that opens here is looked at by the next step: no step can loop.
        self.check_training(&mut out);
        self.check_evaluating(&mut out);
        self.check_gathering(&mut out);
        out
    }

    fn take_in(&mut self, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::WorkerJoined { worker, session, examples } => self.joined(worker, session, examples, out),
            Event::WorkersSeen { workers } => {
                workers.iter().for_each(|(worker, session)| self.seen(worker, *session, out));
            }
            Event::WorkerLeft { worker, session } => self.left(&worker, session, out),
            Event::Progress { worker, lease, percent } => self.progress(worker, lease, percent, out),
            Event::UpdateReceived { worker, lease, digest, examples } => {
                self.update_received(worker, lease, digest, examples, out);
            }
            Event::EvaluationReceived { worker, lease } => self.evaluation_received(worker, lease, out),
            Event::Declined { worker, lease, reason } => self.declined(worker, lease, reason, out),
            Event::Aggregated { round, candidate } => self.aggregated(round, candidate, out),
            Event::EvaluatedCentrally { round } => self.evaluated_centrally(round, out),
            Event::Published { round } => self.published(round, out),
            Event::Failed { reason } => self.failed(reason, out),
            Event::Stop { reason } => self.stopped(reason, out),
            Event::AddRounds { count } => self.add_rounds(count),
        }
    }

    /// Cohort bounds as numbers of workers; a plan with senseless bounds still means something.
    fn cohort_min(&self) -> usize {
        self.plan.cohort_min.max(1) as usize
    }

    fn cohort_max(&self) -> usize {
        (self.plan.cohort_max as usize).max(self.cohort_min())
    }

    fn lease(&mut self) -> Lease {
        let lease = self.lease_next;
        // Leases need only differ; a random first one may be close to the end of the numbers.
        self.lease_next = lease.wrapping_add(1);
        lease
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
