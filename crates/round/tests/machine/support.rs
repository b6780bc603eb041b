use std::collections::BTreeMap;

use params::{Digest, Name};
use round::{
    Committed, DataPlan, Effect, Evaluation, Event, GivenUp, Lease, Machine, MemberState, Millis, Note,
    Outcome, Phase, Plan, Refusal, Session,
};

pub(crate) const LEASE_BASE: Lease = 100;

/// Two rounds of two or three workers on three shards; nobody evaluates.
pub(crate) fn plan() -> Plan {
    Plan {
        seed: 7,
        rounds: 2,
        cohort_min: 2,
        cohort_max: 3,
        // As many as `cohort_max`.
        cohort_select: 0,
        deadline_ms: 60_000,
        lease_ms: 10_000,
        gather_ms: 5_000,
        wait_ms: 30_000,
        attempts_max: 2,
        data: DataPlan::Hosted { shards: vec![10, 20, 30] },
        evaluation: Evaluation::None,
        patience: None,
    }
}

pub(crate) fn private() -> Plan {
    Plan { data: DataPlan::Private, ..plan() }
}

pub(crate) fn evaluated_by(evaluation: Evaluation) -> Plan {
    Plan { evaluation, ..plan() }
}

pub(crate) fn start() -> Committed {
    Committed { round: 0, base: digest("initial"), shards: BTreeMap::new() }
}

/// A machine and the time.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) machine: Machine,
    now: Millis,
}

impl Run {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { machine: Machine::new(plan, start(), LEASE_BASE, 0), now: 0 }
    }

    /// One with the workers a, b, c (sessions 1, 2, 3) that train in round 1 under the leases 100, 101, 102.
    pub(crate) fn training(plan: Plan) -> Self {
        let mut run = Self::new(plan);
        for (worker, session) in [("a", 1), ("b", 2), ("c", 3)] {
            let _ = run.take(join(worker, session));
        }
        assert_eq!(run.machine.phase(), &Phase::Training);
        assert_eq!(["a", "b", "c"].map(|worker| run.lease(worker)), [Some(100), Some(101), Some(102)]);
        run
    }

    /// The same, with all three updates in.
    pub(crate) fn aggregating(plan: Plan) -> Self {
        let mut run = Self::training(plan);
        for (worker, lease) in [("a", 100), ("b", 101), ("c", 102)] {
            let _ = run.take(update(worker, lease, worker, 1));
        }
        assert_eq!(run.machine.phase(), &Phase::Aggregating);
        run
    }

    /// The same, with the candidate made.
    pub(crate) fn aggregated(plan: Plan) -> Self {
        let mut run = Self::aggregating(plan);
        let _ = run.take(aggregated(1));
        run
    }

    /// The members send what they hold work for, and the shell commits the round.
    pub(crate) fn commit(&mut self, better: bool) -> Vec<Effect> {
        let round = self.machine.round();
        for member in self.machine.members() {
            if let Some(work) = self.machine.assignment(&member.worker) {
                let _ = self.take(update(member.worker.as_str(), work.lease, member.worker.as_str(), 1));
            }
        }
        let _ = self.take(aggregated(round));
        self.take(Event::Published { round, better })
    }

    /// These workers are seen every 5 s, from now until just before `until`.
    pub(crate) fn keep_alive(&mut self, workers: &[(&str, Session)], until: Millis) {
        for now in (self.now..until).step_by(5_000) {
            let workers = workers.iter().map(|(worker, session)| (name(worker), *session)).collect();
            assert_eq!(self.at(now, Event::WorkersSeen { workers }), [], "at {now}");
        }
    }

    /// Steps at the current time, then takes what time has brought about.
    pub(crate) fn take(&mut self, event: Event) -> Vec<Effect> {
        take(&mut self.machine, self.now, event)
    }

    /// Steps at `now`.
    pub(crate) fn at(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        self.now = now;
        self.take(event)
    }

    pub(crate) fn lease(&self, worker: &str) -> Option<Lease> {
        self.machine.assignment(&name(worker)).map(|assignment| assignment.lease)
    }

    /// `a:40 b:done c:lost`.
    pub(crate) fn members(&self) -> String {
        let member = |member: round::Member| match member.state {
            MemberState::Working { percent } => format!("{}:{percent}", member.worker),
            MemberState::Done => format!("{}:done", member.worker),
            MemberState::Lost => format!("{}:lost", member.worker),
        };
        self.machine.members().into_iter().map(member).collect::<Vec<_>>().join(" ")
    }

    /// A refusal without a trace.
    pub(crate) fn refuses(&mut self, event: Event, worker: &str, lease: Lease, refusal: Refusal) {
        let before = self.machine.clone();
        assert_eq!(self.take(event), [reject(worker, lease, refusal)]);
        assert_eq!(self.machine, before);
    }

    /// An event of the wrong phase: no effects, no trace.
    pub(crate) fn ignores(&mut self, event: Event) {
        let before = self.machine.clone();
        assert_eq!(self.take(event.clone()), [], "{event:?}");
        assert_eq!(self.machine, before);
    }
}

/// What a shell does: one event, and then all that is overdue.
pub(crate) fn take(machine: &mut Machine, now: Millis, event: Event) -> Vec<Effect> {
    let mut effects = machine.step(now, event);
    while let Some(event) = machine.overdue(now) {
        effects.extend(machine.step(now, event));
    }
    effects
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

pub(crate) fn join(worker: &str, session: Session) -> Event {
    join_with(worker, session, Some(10))
}

pub(crate) fn join_with(worker: &str, session: Session, examples: Option<u64>) -> Event {
    Event::WorkerJoined { worker: name(worker), session, examples }
}

pub(crate) fn seen(worker: &str, session: Session) -> Event {
    Event::WorkersSeen { workers: vec![(name(worker), session)] }
}

pub(crate) fn left(worker: &str, session: Session) -> Event {
    Event::WorkerLeft { worker: name(worker), session }
}

pub(crate) fn progress(worker: &str, lease: Lease, percent: u32) -> Event {
    Event::Progress { worker: name(worker), lease, percent }
}

pub(crate) fn update(worker: &str, lease: Lease, payload: &str, examples: u64) -> Event {
    Event::UpdateReceived { worker: name(worker), lease, digest: digest(payload), examples }
}

pub(crate) fn metrics(worker: &str, lease: Lease) -> Event {
    Event::EvaluationReceived { worker: name(worker), lease }
}

pub(crate) fn decline(worker: &str, lease: Lease, reason: &str) -> Event {
    Event::Declined { worker: name(worker), lease, reason: reason.into() }
}

pub(crate) fn aggregated(round: u32) -> Event {
    Event::Aggregated { round, candidate: digest(&format!("version {round}")) }
}

pub(crate) fn stop(reason: &str) -> Event {
    Event::Stop { reason: reason.into() }
}

pub(crate) fn published(round: u32) -> Event {
    Event::Published { round, better: true }
}

pub(crate) fn no_better(round: u32) -> Event {
    Event::Published { round, better: false }
}

pub(crate) fn silent(workers: &[(&str, Session)]) -> Event {
    Event::WorkersSilent {
        workers: workers.iter().map(|(worker, session)| (name(worker), *session)).collect(),
    }
}

pub(crate) fn drain(worker: &str, drained: bool) -> Event {
    Event::WorkerDrained { worker: name(worker), drained }
}

pub(crate) fn revoke(worker: &str) -> Event {
    Event::WorkerRevoked { worker: name(worker) }
}

pub(crate) fn pause(reason: &str) -> Event {
    Event::Pause { reason: reason.into() }
}

pub(crate) fn restarted(lease_base: Lease) -> Event {
    Event::Restarted { lease_base }
}

/// An update that is taken: it is acknowledged once the journal has it.
pub(crate) fn folded(worker: &str, lease: Lease, payload: &str, examples: u64) -> [Effect; 3] {
    let fold = Effect::Fold { worker: name(worker), lease, digest: digest(payload), examples };
    [fold, Effect::Persist, Effect::Acknowledge { worker: name(worker), lease }]
}

pub(crate) fn acknowledged(worker: &str, lease: Lease) -> [Effect; 2] {
    [Effect::Persist, Effect::Acknowledge { worker: name(worker), lease }]
}

/// Metrics that are taken.
pub(crate) fn kept(worker: &str, lease: Lease) -> [Effect; 3] {
    let keep = Effect::KeepEvaluation { worker: name(worker), lease };
    [keep, Effect::Persist, Effect::Acknowledge { worker: name(worker), lease }]
}

pub(crate) fn reject(worker: &str, lease: Lease, refusal: Refusal) -> Effect {
    Effect::Reject { worker: name(worker), lease, refusal }
}

pub(crate) fn open(round: u32, attempt: u32, cohort: &[&str], examples_max: u64) -> Effect {
    Effect::OpenRound { round, attempt, cohort: cohort.iter().map(|w| name(w)).collect(), examples_max }
}

pub(crate) fn ready(worker: &str) -> Effect {
    Effect::Tell(Note::WorkerReady { worker: name(worker) })
}

pub(crate) fn lost(worker: &str, round: u32, reason: &str) -> Effect {
    Effect::Tell(Note::WorkerLost { worker: name(worker), round, reason: reason.into() })
}

pub(crate) fn excluded(worker: &str, reason: &str) -> Effect {
    Effect::Tell(Note::WorkerExcluded { worker: name(worker), reason: reason.into() })
}

pub(crate) fn awaited(worker: &str, round: u32) -> Effect {
    Effect::Tell(Note::WorkerAwaited { worker: name(worker), round })
}

pub(crate) fn reopened(round: u32, owed: u32) -> Effect {
    Effect::Tell(Note::RoundReopened { round, owed })
}

pub(crate) fn drained(worker: &str, drained: bool) -> Effect {
    Effect::Tell(Note::WorkerDrained { worker: name(worker), drained })
}

pub(crate) fn paused(reason: &str) -> [Effect; 2] {
    [Effect::Tell(Note::Paused { reason: reason.into() }), Effect::Persist]
}

pub(crate) fn closed(round: u32, updates: u32, cohort: u32) -> Effect {
    Effect::Tell(Note::RoundClosed { round, updates, cohort })
}

pub(crate) fn given_up(round: u32, attempt: u32, updates: u32, needed: u32, why: GivenUp) -> Effect {
    Effect::Tell(Note::AttemptFailed { round, attempt, updates, needed, why })
}

pub(crate) fn attempt_failed(round: u32, attempt: u32, updates: u32, needed: u32) -> Effect {
    given_up(round, attempt, updates, needed, GivenUp::Quorum)
}

/// An end is durable before anybody is told.
pub(crate) fn end(outcome: Outcome) -> [Effect; 2] {
    [Effect::Persist, Effect::End(outcome)]
}

pub(crate) fn end_failed(cause: &str) -> [Effect; 2] {
    end(Outcome::Failed { cause: cause.into() })
}

pub(crate) fn end_stopped(cause: &str) -> [Effect; 2] {
    end(Outcome::Stopped { cause: cause.into() })
}
