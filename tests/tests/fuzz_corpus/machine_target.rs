//! The round machine as an interpreter: any bytes are a plan and a sequence of events with times.

use std::collections::{BTreeMap, BTreeSet};

use params::{Digest, Name};
use round::{Committed, DataPlan, Effect, Evaluation, Event, Lease, Machine, Phase, Plan};

const LEASE_BASE: Lease = u64::MAX - 4;

/// Whatever happens: the same bytes give the same effects, a refusal leaves no trace, cohorts keep their
/// bounds, an update is folded once, and rounds are committed only by the shell's word.
pub(crate) fn round_machine(bytes: &[u8]) {
    let first = play(bytes);
    assert_eq!(first, play(bytes));
}

fn play(bytes: &[u8]) -> Vec<Vec<Effect>> {
    let mut input = Input(bytes);
    let plan = input.plan();
    let bounds = (plan.cohort_min.max(1) as usize, plan.cohort_max.max(plan.cohort_min).max(1) as usize);
    let from = Committed { round: 0, base: Digest::of(b"base"), shards: BTreeMap::new() };
    let mut machine = Machine::new(plan, from, LEASE_BASE, 0);
    let mut folded = BTreeSet::new();
    let mut sessions = BTreeMap::new();
    let mut now = 0u64;
    let mut all = Vec::new();
    while !input.0.is_empty() {
        now = input.later(now);
        settle(&mut machine, now);
        let event = input.event(&machine);
        let before = machine.clone();
        let effects = machine.step(now, event.clone());
        for effect in &effects {
            check(effect, bounds, &mut folded);
        }
        if let Event::WorkerJoined { worker, session, .. } = &event {
            sessions.insert(worker.clone(), *session);
        }
        if let [Effect::Reject { worker, .. }] = &effects[..] {
            // Whoever holds the lease is alive: being seen is the one trace that a refusal may leave.
            let seen = |machine: &Machine| {
                let mut machine = machine.clone();
                let session = sessions.get(worker).copied().unwrap_or(0);
                let _ = machine.step(now, Event::WorkersSeen { workers: vec![(worker.clone(), session)] });
                machine
            };
            assert_eq!(seen(&machine), seen(&before), "{event:?} was refused");
        }
        let committed = machine.committed().round;
        let published = matches!(event, Event::Published { round } if round == committed);
        assert!(committed == before.committed().round || published, "{event:?} committed a round");
        look(&machine);
        all.push(effects);
    }
    all
}

fn check(effect: &Effect, (min, max): (usize, usize), folded: &mut BTreeSet<Lease>) {
    match effect {
        Effect::OpenRound { cohort, examples_max, .. } => {
            assert!(cohort.len() >= min && cohort.len() <= max, "a cohort of {}", cohort.len());
            assert!(cohort.is_sorted() && *examples_max > 0);
        }
        Effect::Fold { lease, .. } => assert!(folded.insert(*lease), "lease {lease} was folded twice"),
        Effect::Tell(note) => assert!(!note.to_string().is_empty()),
        _ => {}
    }
}

/// Lets the time that passed have its effects, so that what comes next is the doing of the event alone.
fn settle(machine: &mut Machine, now: u64) {
    // Every tick that does something ends an attempt or a wait, and the attempts are few.
    for _ in 0..64 {
        if machine.step(now, Event::Tick).is_empty() {
            return;
        }
    }
    panic!("the clock alone keeps the machine busy at {now}: {:?}", machine.phase());
}

/// What the shell asks between events.
fn look(machine: &Machine) {
    let ended = matches!(machine.phase(), Phase::Ended(_));
    assert!(!ended || machine.next_deadline().is_none());
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

    fn plan(&mut self) -> Plan {
        let evaluation =
            [Evaluation::None, Evaluation::Central, Evaluation::Workers][usize::from(self.byte() % 3)];
        let shards = self.byte() % 5;
        let data = match shards {
            0 => DataPlan::Private,
            _ => DataPlan::Hosted { shards: (0..shards).map(|_| self.number().max(1)).collect() },
        };
        Plan {
            seed: self.number(),
            rounds: self.number32(),
            cohort_min: self.number32(),
            cohort_max: self.number32(),
            deadline_ms: self.number(),
            lease_ms: self.number(),
            gather_ms: self.number(),
            wait_ms: self.number(),
            attempts_max: u32::from(self.byte() % 8),
            data,
            evaluation,
        }
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
        let kind = self.byte() % 14;
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
            10 => Event::Published { round: self.round(machine) },
            11 => Event::Failed { reason: reason() },
            12 => Event::Stop { reason: reason() },
            _ => Event::AddRounds { count: self.number32() },
        }
    }
}

#[test]
fn the_corpus_reaches_the_end_of_a_run() {
    let whole = include_bytes!("../../fuzz/corpus/round_machine/two_rounds");
    let effects: Vec<Effect> = play(whole).into_iter().flatten().collect();
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Publish { .. })).count(), 2);
    assert!(effects.contains(&Effect::End(round::Outcome::Completed)), "{effects:#?}");
}
