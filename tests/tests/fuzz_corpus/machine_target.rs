//! The round machine as an interpreter: any bytes are a plan and a sequence of events with times.

use std::collections::{BTreeMap, BTreeSet};

use params::{Digest, Name};
use round::{
    Committed, DataPlan, Effect, Evaluation, Event, Lease, Machine, Millis, Note, Outcome, Phase, Plan, Saved,
};

const LEASE_BASE: Lease = u64::MAX - 4;

/// What a run did.
#[derive(Debug, PartialEq)]
struct Played {
    effects: Vec<Vec<Effect>>,
    /// The events that belong in the journal, and when they were taken.
    journal: Vec<(Millis, Event)>,
    end: Machine,
}

/// Whatever happens: the same bytes give the same effects, the journal gives the same machine, a refusal leaves
/// no trace, cohorts keep their bounds, an update is folded once, a version has every update that was
/// acknowledged, and rounds are committed only by the shell's word.
pub(crate) fn round_machine(bytes: &[u8]) {
    let first = play(bytes);
    assert_eq!(first, play(bytes));
    let mut replayed = Input(bytes).machine();
    for (at, (now, event)) in first.journal.iter().enumerate() {
        if at == first.journal.len() / 2 {
            replayed = Machine::restore(replayed.save());
        }
        let _ = replayed.step(*now, event.clone());
    }
    assert_eq!(durable(&replayed), durable(&first.end), "what is not in the journal decides nothing");
}

fn play(bytes: &[u8]) -> Played {
    let mut input = Input(bytes);
    let mut machine = input.machine();
    let mut attempt = Attempt::new(machine.plan());
    let (mut effects, mut journal) = (Vec::new(), Vec::new());
    let mut now = 0u64;
    while !input.0.is_empty() {
        now = input.later(now);
        // What comes next is the doing of the event alone.
        settle(&mut machine, now, &mut attempt, &mut journal);
        let event = input.event(&machine);
        let before = machine.clone();
        let done = step(&mut machine, now, &event, &mut attempt, &mut journal);
        if let [Effect::Reject { worker, .. }] = &done[..] {
            let seen = |machine: &Machine| durable(&seen(machine.clone(), now, worker));
            assert_eq!(seen(&machine), seen(&before), "{event:?} was refused");
        }
        let committed = machine.committed().round;
        let published = matches!(event, Event::Published { round, .. } if round == committed);
        assert!(committed == before.committed().round || published, "{event:?} committed a round");
        look(&machine);
        effects.push(done);
    }
    Played { effects, journal, end: machine }
}

/// Lets the time that passed have its effects.
fn settle(machine: &mut Machine, now: Millis, attempt: &mut Attempt, journal: &mut Vec<(Millis, Event)>) {
    // Everything that is overdue ends an attempt or a wait, and the attempts are few.
    for _ in 0..64 {
        let Some(event) = machine.overdue(now) else { return };
        let _ = step(machine, now, &event, attempt, journal);
    }
    panic!("the clock alone keeps the machine busy at {now}: {:?}", machine.phase());
}

fn step(
    machine: &mut Machine,
    now: Millis,
    event: &Event,
    attempt: &mut Attempt,
    journal: &mut Vec<(Millis, Event)>,
) -> Vec<Effect> {
    let before = durable(machine);
    let effects = machine.step(now, event.clone());
    if machine.changed() {
        journal.push((machine.now(), event.clone()));
    } else {
        assert_eq!(durable(machine), before, "{event:?} changed more than it says");
    }
    attempt.check(&effects);
    effects
}

/// What a journal brings back, but for the time.
fn durable(machine: &Machine) -> Saved {
    Saved { now: 0, ..machine.save() }
}

/// Whoever holds the lease is alive: being seen is the one trace that a refusal may leave.
fn seen(mut machine: Machine, now: Millis, worker: &Name) -> Machine {
    if let Some(session) = machine.save().workers.get(worker).and_then(|known| known.session) {
        let _ = machine.step(now, Event::WorkersSeen { workers: vec![(worker.clone(), session)] });
    }
    machine
}

/// The open attempt at a round.
struct Attempt {
    cohort_min: usize,
    cohort_select: usize,
    /// Since the last restart.
    folded: BTreeSet<Name>,
    /// Before and after any restart.
    acknowledged: BTreeSet<Name>,
}

impl Attempt {
    fn new(plan: &Plan) -> Self {
        let cohort_min = plan.cohort_min.max(1) as usize;
        let cohort_select = cohort_min.max(plan.cohort_max as usize).max(plan.cohort_select as usize);
        Self { cohort_min, cohort_select, folded: BTreeSet::new(), acknowledged: BTreeSet::new() }
    }

    fn check(&mut self, effects: &[Effect]) {
        for (at, effect) in effects.iter().enumerate() {
            match effect {
                Effect::OpenRound { cohort, examples_max, .. } => {
                    let bounds = self.cohort_min..=self.cohort_select;
                    assert!(bounds.contains(&cohort.len()), "a cohort of {}", cohort.len());
                    assert!(cohort.is_sorted() && *examples_max > 0);
                    self.folded.clear();
                }
                Effect::Fold { worker, .. } => {
                    assert!(self.folded.insert(worker.clone()), "{worker} was folded twice");
                }
                Effect::Acknowledge { .. } => {
                    assert_eq!(effects[at - 1], Effect::Persist, "what is promised is durable");
                    if let Some(Effect::Fold { worker, .. }) = at.checked_sub(2).map(|fold| &effects[fold]) {
                        self.acknowledged.insert(worker.clone());
                    }
                }
                Effect::Aggregate { .. } => assert_eq!(self.folded, self.acknowledged),
                // The attempt is over: given up, or committed and asked for once.
                Effect::Discard { .. } | Effect::Publish { .. } => self.acknowledged.clear(),
                Effect::Tell(note) => assert!(!note.to_string().is_empty()),
                _ => {}
            }
        }
    }
}

/// What the shell asks between events.
fn look(machine: &Machine) {
    let ended = matches!(machine.phase(), Phase::Ended(_));
    assert!(!ended || machine.next_deadline().is_none());
    assert!(!ended || machine.paused().is_none());
    assert_eq!(machine.waiting_for().is_some(), *machine.phase() == Phase::Gathering);
    for member in machine.members() {
        if let Some(work) = machine.assignment(&member.worker) {
            assert_eq!(work.round, machine.round());
        }
    }
}

/// Reads decisions from bytes; zeros when they are used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Small numbers mostly, and the ends of the range.
    fn number(&mut self) -> u64 {
        match self.byte() {
            254 => u64::MAX - u64::from(self.byte()),
            255 => u64::MAX / 2 + u64::from(self.byte()),
            small => small.into(),
        }
    }

    fn number32(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }

    fn machine(&mut self) -> Machine {
        let from = Committed { round: 0, base: Digest::of(b"base"), shards: BTreeMap::new() };
        Machine::new(self.plan(), from, LEASE_BASE, 0)
    }

    fn plan(&mut self) -> Plan {
        let evaluation =
            [Evaluation::None, Evaluation::Central, Evaluation::Workers][usize::from(self.byte() % 3)];
        let shards = self.byte() % 5;
        let data = match shards {
            0 => DataPlan::Private,
            _ => DataPlan::Hosted { shards: (0..shards).map(|_| self.number().max(1)).collect() },
        };
        let mut plan = Plan {
            seed: self.number(),
            rounds: self.number32(),
            cohort_min: self.number32(),
            cohort_max: self.number32(),
            cohort_select: 0,
            deadline_ms: self.number(),
            lease_ms: self.number(),
            gather_ms: self.number(),
            wait_ms: self.number(),
            attempts_max: 0,
            data,
            evaluation,
            patience: None,
        };
        // Three settings in one byte: attempts, workers in excess, patience.
        let last = self.byte();
        plan.attempts_max = u32::from(last % 8);
        plan.cohort_select = plan.cohort_max.saturating_add(u32::from(last / 8 % 4));
        plan.patience = Some(u32::from(last / 32)).filter(|rounds| *rounds > 0);
        plan
    }

    /// Mostly no time passes; sometimes the clock goes back.
    fn later(&mut self, now: u64) -> u64 {
        match self.byte() {
            byte @ 0..200 => now.saturating_add(u64::from(byte / 50)),
            byte @ 200..250 => now.saturating_add(u64::from(byte) * 10),
            250..254 => now.saturating_sub(5),
            _ => now.saturating_add(self.number()),
        }
    }

    fn worker(&mut self) -> Name {
        ["a", "b", "c", "d", "e"][usize::from(self.byte() % 5)].parse().unwrap()
    }

    /// The worker's own lease, or any other.
    fn lease(&mut self, machine: &Machine, worker: &Name) -> Lease {
        let own = machine.assignment(worker).map(|work| work.lease);
        match self.byte() {
            byte @ 192.. => LEASE_BASE.wrapping_add(u64::from(byte - 192)),
            _ => own.unwrap_or(0),
        }
    }

    /// The round in progress, or any other.
    fn round(&mut self, machine: &Machine) -> u32 {
        match self.byte() {
            192.. => self.number32(),
            _ => machine.round(),
        }
    }

    fn event(&mut self, machine: &Machine) -> Event {
        let kind = self.byte() % 21;
        let worker = self.worker();
        let reason = || "because".to_owned();
        match kind {
            0 => Event::Tick,
            1 => {
                let session = self.number();
                let examples = Some(self.number()).filter(|count| *count != 7);
                Event::WorkerJoined { worker, session, examples }
            }
            2 => Event::WorkersSeen { workers: vec![(worker, self.number())] },
            3 => Event::WorkerLeft { worker, session: self.number() },
            4 => {
                let lease = self.lease(machine, &worker);
                Event::Progress { worker, lease, percent: self.number32() }
            }
            5 => {
                let lease = self.lease(machine, &worker);
                let digest = Digest::of(&[self.byte()]);
                Event::UpdateReceived { worker, lease, digest, examples: self.number() }
            }
            6 => {
                let lease = self.lease(machine, &worker);
                Event::EvaluationReceived { worker, lease }
            }
            7 => {
                let lease = self.lease(machine, &worker);
                Event::Declined { worker, lease, reason: reason() }
            }
            8 => Event::Aggregated { round: self.round(machine), candidate: Digest::of(&[self.byte()]) },
            9 => Event::EvaluatedCentrally { round: self.round(machine) },
            // The worker says whether it is better, as nothing else here names one.
            10 => Event::Published { round: self.round(machine), better: worker.as_str() != "e" },
            11 => Event::Failed { reason: reason() },
            12 => Event::Stop { reason: reason() },
            13 => Event::AddRounds { count: self.number32() },
            14 => Event::WorkersSilent { workers: vec![(worker, self.number())] },
            15 => Event::WorkerDrained { worker, drained: self.byte().is_multiple_of(2) },
            16 => Event::WorkerRevoked { worker },
            17 => Event::Pause { reason: reason() },
            18 => Event::Resume,
            // No lease is ever the first one of two processes.
            _ => Event::Restarted { lease_base: machine.save().lease_next.wrapping_add(1 << 32) },
        }
    }
}

/// The effects of an input of the corpus.
fn effects(bytes: &[u8]) -> Vec<Effect> {
    play(bytes).effects.into_iter().flatten().collect()
}

fn count(effects: &[Effect], kind: impl Fn(&Effect) -> bool) -> usize {
    effects.iter().filter(|effect| kind(effect)).count()
}

#[test]
fn the_corpus_reaches_the_end_of_a_run() {
    let effects = effects(include_bytes!("../../fuzz/corpus/round_machine/two_rounds"));
    assert_eq!(count(&effects, |effect| matches!(effect, Effect::Publish { .. })), 2);
    assert!(effects.contains(&Effect::End(Outcome::Completed)), "{effects:#?}");
}

#[test]
fn the_corpus_restarts_a_round_that_owes_updates() {
    let effects = effects(include_bytes!("../../fuzz/corpus/round_machine/restarted"));
    let owed = |effect: &Effect| matches!(effect, Effect::Tell(Note::RoundReopened { owed: 1.., .. }));
    let replaced = |effect: &Effect| matches!(effect, Effect::Tell(Note::UpdateReplaced { .. }));
    assert_eq!((count(&effects, owed), count(&effects, replaced)), (2, 1), "{effects:#?}");
    assert!(effects.contains(&Effect::End(Outcome::StoppedEarly { unimproved: 1 })), "{effects:#?}");
}

#[test]
fn the_corpus_pauses_drains_and_revokes() {
    let effects = effects(include_bytes!("../../fuzz/corpus/round_machine/operated"));
    let said = |effect: &Effect| {
        matches!(
            effect,
            Effect::Tell(
                Note::Paused { .. } | Note::Resumed | Note::WorkerDrained { .. } | Note::AttemptFailed { .. }
            )
        )
    };
    assert_eq!(count(&effects, said), 4, "{effects:#?}");
    assert!(effects.contains(&Effect::End(Outcome::Completed)), "{effects:#?}");
}
