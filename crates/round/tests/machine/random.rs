//! Random inputs, honest and not, against the rules that hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use params::Name;
use proptest::prelude::*;
use round::{
    DataPlan, Effect, Evaluation, Event, Lease, Machine, MemberState, Millis, Outcome, Phase, Plan, WorkKind,
};

use crate::support::*;

const WORKERS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// One random input; what it means depends on where the machine is.
#[derive(Clone, Debug)]
enum Op {
    Join {
        worker: usize,
        session: u64,
        examples: Option<u64>,
    },
    Seen {
        worker: usize,
        session: u64,
    },
    Left {
        worker: usize,
        session: u64,
    },
    Progress {
        worker: usize,
        lease: Option<u64>,
        percent: u32,
    },
    Update {
        worker: usize,
        lease: Option<u64>,
        payload: bool,
        examples: u64,
    },
    Metrics {
        worker: usize,
        lease: Option<u64>,
    },
    Decline {
        worker: usize,
        lease: Option<u64>,
    },
    /// The shell answers what it was asked, or (`late`) something else.
    Answer {
        late: bool,
        better: bool,
    },
    Failed,
    Stop,
    Pause,
    Resume,
    Drain {
        worker: usize,
        drained: bool,
    },
    Revoke {
        worker: usize,
    },
    Restarted,
    AddRounds {
        count: u32,
    },
    Tick,
}

fn op() -> impl Strategy<Value = Op> {
    let worker = 0..WORKERS.len();
    // The worker's own lease, or one that may be old, foreign or unknown.
    let lease = prop_oneof![4 => Just(None), 1 => (LEASE_BASE..LEASE_BASE + 30).prop_map(Some)];
    let session = 0..3u64;
    prop_oneof![
        8 => (worker.clone(), session.clone(), prop_oneof![4 => Just(Some(5)), 1 => Just(Some(6)), 1 => Just(None)])
            .prop_map(|(worker, session, examples)| Op::Join { worker, session, examples }),
        6 => (worker.clone(), session.clone()).prop_map(|(worker, session)| Op::Seen { worker, session }),
        2 => (worker.clone(), session).prop_map(|(worker, session)| Op::Left { worker, session }),
        3 => (worker.clone(), lease.clone(), 0..200u32)
            .prop_map(|(worker, lease, percent)| Op::Progress { worker, lease, percent }),
        12 => (worker.clone(), lease.clone(), any::<bool>(), 0..8u64)
            .prop_map(|(worker, lease, payload, examples)| Op::Update { worker, lease, payload, examples }),
        6 => (worker.clone(), lease.clone()).prop_map(|(worker, lease)| Op::Metrics { worker, lease }),
        1 => (worker.clone(), lease).prop_map(|(worker, lease)| Op::Decline { worker, lease }),
        1 => (worker.clone(), any::<bool>()).prop_map(|(worker, drained)| Op::Drain { worker, drained }),
        2 => prop_oneof![
            9 => Just(Op::Resume),
            3 => Just(Op::Pause),
            2 => worker.prop_map(|worker| Op::Revoke { worker }),
        ],
        3 => Just(Op::Restarted),
        8 => (prop::bool::weighted(0.1), any::<bool>()).prop_map(|(late, better)| Op::Answer { late, better }),
        2 => Just(Op::Tick),
        1 => prop_oneof![Just(Op::Stop), Just(Op::Failed), (0..2u32).prop_map(|count| Op::AddRounds { count })],
    ]
}

/// Honest workers whose network and whose coordinator are not reliable.
fn op_of_honest_workers() -> impl Strategy<Value = Op> {
    let worker = 0..WORKERS.len();
    let session = 0..3u64;
    prop_oneof![
        8 => (worker.clone(), session.clone())
            .prop_map(|(worker, session)| Op::Join { worker, session, examples: Some(5) }),
        2 => (worker.clone(), session).prop_map(|(worker, session)| Op::Left { worker, session }),
        12 => (worker, any::<bool>())
            .prop_map(|(worker, payload)| Op::Update { worker, lease: None, payload, examples: 1 }),
        3 => Just(Op::Restarted),
        3 => Just(Op::Answer { late: false, better: true }),
        1 => Just(Op::Tick),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let data = prop_oneof![
        Just(DataPlan::Private),
        prop::collection::vec(1..9u64, 2..6).prop_map(|shards| DataPlan::Hosted { shards })
    ];
    let evaluation =
        prop_oneof![Just(Evaluation::None), Just(Evaluation::Central), Just(Evaluation::Workers)];
    let cohort = (1..4u32, 0..3u32, 0..3u32);
    let patience = prop::option::of(1..3u32);
    (any::<u64>(), 1..4u32, cohort, 1..4u32, data, evaluation, patience).prop_map(
        |(seed, rounds, (min, over, more), attempts_max, data, evaluation, patience)| Plan {
            seed,
            rounds,
            cohort_min: min,
            cohort_max: min + over,
            cohort_select: min + over + more,
            deadline_ms: 20_000,
            attempts_max,
            data,
            evaluation,
            patience,
            ..plan()
        },
    )
}

fn event(op: &Op, machine: &Machine) -> Event {
    let held = |worker: usize, lease: Option<u64>| {
        lease.or_else(|| Some(machine.assignment(&name(WORKERS[worker]))?.lease)).unwrap_or(0)
    };
    match *op {
        Op::Join { worker, session, examples } => join_with(WORKERS[worker], session, examples),
        Op::Seen { worker, session } => seen(WORKERS[worker], session),
        Op::Left { worker, session } => left(WORKERS[worker], session),
        Op::Progress { worker, lease, percent } => progress(WORKERS[worker], held(worker, lease), percent),
        Op::Update { worker, lease, payload, examples } => {
            update(WORKERS[worker], held(worker, lease), if payload { "x" } else { "y" }, examples)
        }
        Op::Metrics { worker, lease } => metrics(WORKERS[worker], held(worker, lease)),
        Op::Decline { worker, lease } => decline(WORKERS[worker], held(worker, lease), "it will not"),
        Op::Answer { late, better } => answer(machine, late, better),
        Op::Failed => Event::Failed { reason: "disk full".into() },
        Op::Stop => stop("enough"),
        Op::Pause => Event::Pause { reason: "paused by a test".into() },
        Op::Resume => Event::Resume,
        Op::Drain { worker, drained } => Event::WorkerDrained { worker: name(WORKERS[worker]), drained },
        Op::Revoke { worker } => Event::WorkerRevoked { worker: name(WORKERS[worker]) },
        // Any number will do that no lease had before.
        Op::Restarted => Event::Restarted { lease_base: machine.save().lease_next + 1000 },
        Op::AddRounds { count } => Event::AddRounds { count },
        Op::Tick => Event::Tick,
    }
}

fn answer(machine: &Machine, late: bool, better: bool) -> Event {
    let round = machine.round() - u32::from(late);
    match machine.phase() {
        Phase::Aggregating => aggregated(round),
        Phase::Evaluating => Event::EvaluatedCentrally { round },
        Phase::Publishing => Event::Published { round, better },
        _ if late => Event::Published { round, better },
        _ => Event::Tick,
    }
}

/// What the effects so far amount to, and the rules that they must keep.
struct Rules {
    plan: Plan,
    open: Option<Attempt>,
    aggregated: bool,
    publishing: bool,
    ended: bool,
    committed: u32,
    paused: bool,
    drained: BTreeSet<Name>,
    revoked: BTreeSet<Name>,
    /// Rounds in a row that were not better.
    unimproved: u32,
    /// Who a lease was handed to, for what.
    leases: BTreeMap<Lease, (Name, WorkKind, u32)>,
}

/// An open attempt at a round.
struct Attempt {
    round: u32,
    number: u32,
    cohort: Vec<Name>,
    examples_max: u64,
    /// The weights that were folded, since the last restart.
    folded: BTreeMap<Name, u64>,
    /// Whose update was acknowledged, before or after any restart.
    acknowledged: BTreeSet<Name>,
    /// The coordinator was restarted: stragglers may come in before what was acknowledged is in again.
    reopened: bool,
}

impl Rules {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            open: None,
            aggregated: false,
            publishing: false,
            ended: false,
            committed: 0,
            paused: false,
            drained: BTreeSet::new(),
            revoked: BTreeSet::new(),
            unimproved: 0,
            leases: BTreeMap::new(),
        }
    }

    fn check(&mut self, event: &Event, effects: &[Effect], machine: &Machine) {
        self.operated(event);
        if machine.committed().round != self.committed {
            assert_eq!(machine.committed().round, self.committed + 1, "rounds never skip");
            let Event::Published { round, better } = event else { panic!("{event:?} committed a round") };
            assert_eq!(*round, self.committed + 1);
            assert!(self.publishing, "only what was asked to be published is committed");
            self.unimproved = if *better { 0 } else { self.unimproved + 1 };
            self.committed += 1;
            self.open = None;
            self.aggregated = false;
            self.publishing = false;
        }
        let restarted = matches!(event, Event::Restarted { .. });
        for (at, effect) in effects.iter().enumerate() {
            match effect {
                Effect::OpenRound { .. } if restarted => self.reopen(effect),
                Effect::Acknowledge { .. } => {
                    assert_eq!(effects[at - 1], Effect::Persist, "what is promised is durable");
                    self.acknowledged(effects, at);
                }
                Effect::End(_) => {
                    assert_eq!(effects[at - 1], Effect::Persist, "an end is durable");
                    self.effect(effect);
                }
                _ => self.effect(effect),
            }
        }
        self.state(machine);
    }

    /// What operators want.
    fn operated(&mut self, event: &Event) {
        match event {
            Event::AddRounds { count: 1.. } if self.ended => {
                self.ended = false;
                self.unimproved = 0;
            }
            Event::Pause { .. } if !self.ended => self.paused = true,
            Event::Resume => self.paused = false,
            Event::WorkerDrained { worker, drained: true } => {
                self.drained.insert(worker.clone());
            }
            Event::WorkerDrained { worker, drained: false } => {
                self.drained.remove(worker);
            }
            Event::WorkerRevoked { worker } => {
                self.revoked.insert(worker.clone());
            }
            _ => {}
        }
    }

    /// The sum is gone and the same attempt is opened again; what was acknowledged in it still binds.
    fn reopen(&mut self, effect: &Effect) {
        let Effect::OpenRound { round, attempt, cohort, examples_max } = effect else { return };
        let open = self.open.as_mut().expect("only an open round is opened again");
        let known = (&open.round, &open.number, &open.cohort, &open.examples_max);
        assert_eq!((round, attempt, cohort, examples_max), known);
        open.folded.clear();
        open.reopened = true;
        assert!(!self.publishing, "a round that is being committed is not opened again");
        self.aggregated = false;
    }

    /// An update that was folded just before is promised to be in the version.
    fn acknowledged(&mut self, effects: &[Effect], at: usize) {
        let (Some(open), Some(Effect::Fold { worker, .. })) =
            (self.open.as_mut(), at.checked_sub(2).map(|fold| &effects[fold]))
        else {
            return;
        };
        open.acknowledged.insert(worker.clone());
    }

    fn effect(&mut self, effect: &Effect) {
        let (min, max) = (self.plan.cohort_min as usize, self.plan.cohort_max as usize);
        match effect {
            Effect::OpenRound { round, attempt, cohort, examples_max } => {
                assert!(self.open.is_none() && !self.ended && !self.paused);
                assert_eq!(*round, self.committed + 1);
                assert!(cohort.is_sorted() && cohort.len() >= min);
                assert!(cohort.len() <= self.plan.cohort_select as usize);
                let unwanted = |name| self.drained.contains(name) || self.revoked.contains(name);
                assert!(!cohort.iter().any(unwanted), "{cohort:?}");
                self.open = Some(Attempt {
                    round: *round,
                    number: *attempt,
                    cohort: cohort.clone(),
                    examples_max: *examples_max,
                    folded: BTreeMap::new(),
                    acknowledged: BTreeSet::new(),
                    reopened: false,
                });
            }
            Effect::Fold { worker, examples, .. } => {
                let Attempt { cohort, examples_max, folded, .. } = self.open.as_mut().unwrap();
                assert!(!self.aggregated && cohort.contains(worker) && !self.revoked.contains(worker));
                assert_eq!(folded.insert(worker.clone(), *examples), None, "folded once");
                assert!(folded.values().sum::<u64>() <= *examples_max);
            }
            Effect::Aggregate { round } => {
                let open = self.open.as_ref().unwrap();
                assert!(!self.aggregated && open.round == *round);
                assert!(open.folded.len() >= min && (open.folded.len() <= max || open.reopened));
                let folded: BTreeSet<Name> = open.folded.keys().cloned().collect();
                assert_eq!(folded, open.acknowledged, "a version has what was acknowledged, and no more");
                self.aggregated = true;
            }
            Effect::EvaluateCentrally { round } => {
                assert!(self.aggregated && self.open.as_ref().is_some_and(|open| open.round == *round));
            }
            Effect::Publish { round } => {
                let open = self.open.as_ref().unwrap();
                assert!(self.aggregated && open.round == *round);
                let revoked = |name| self.revoked.contains(name);
                // After a restart it is asked for again, and a revocation came too late before.
                assert!(self.publishing || !open.folded.keys().any(revoked));
                self.publishing = true;
            }
            Effect::Discard { round } => {
                assert_eq!(self.open.take().map(|open| open.round), Some(*round));
                self.aggregated = false;
                self.publishing = false;
            }
            Effect::End(outcome) => {
                assert!(!self.ended && self.open.is_none());
                if let Outcome::StoppedEarly { unimproved } = outcome {
                    assert_eq!((*unimproved, Some(*unimproved)), (self.unimproved, self.plan.patience));
                }
                self.ended = true;
                self.paused = false;
            }
            Effect::KeepEvaluation { worker, .. } => {
                assert!(self.aggregated && self.open.as_ref().unwrap().folded.contains_key(worker));
            }
            Effect::Persist | Effect::Acknowledge { .. } | Effect::Reject { .. } | Effect::Tell(_) => {}
        }
    }

    fn state(&mut self, machine: &Machine) {
        let busy = matches!(machine.phase(), Phase::Training | Phase::Evaluating);
        let working = |member: &round::Member| matches!(member.state, MemberState::Working { .. });
        let mut leases = BTreeSet::new();
        for member in machine.members() {
            let assignment = machine.assignment(&member.worker);
            assert_eq!(assignment.is_some(), working(&member), "work is open while it is worked on");
            let Some(assignment) = assignment else { continue };
            assert!(busy && leases.insert(assignment.lease));
            let given = (member.worker.clone(), assignment.kind, assignment.round);
            let first = self.leases.entry(assignment.lease).or_insert_with(|| given.clone());
            assert_eq!(*first, given, "a lease names one piece of work for ever");
        }
        assert_eq!(matches!(machine.phase(), Phase::Ended(_)), self.ended);
        assert_eq!(machine.paused().is_some(), self.paused);
        if machine.is_held() {
            let own = machine.next_deadline().is_some_and(|at| machine.overdue(at) == Some(Event::Tick));
            assert!(!own, "no wait goes on while the run is held");
        }
        for worker in &self.revoked {
            assert_eq!(machine.assignment(worker), None);
        }
        // What is owed was acknowledged, and is asked for.
        let acknowledged = self.open.as_ref().map(|open| &open.acknowledged);
        for member in machine.members() {
            if machine.owed(&member.worker).is_some() {
                assert!(working(&member) && acknowledged.is_some_and(|a| a.contains(&member.worker)));
            }
        }
        let shards: BTreeSet<u32> = machine.committed().shards.values().copied().collect();
        assert_eq!(shards.len(), machine.committed().shards.len(), "a shard belongs to one worker");
    }
}

/// All workers behave from here on: the run must end, and in few steps.
fn settle(
    mut machine: Machine,
    mut now: Millis,
    mut check: impl FnMut(&Event, &[Effect], &Machine),
) -> Machine {
    let mut step = |machine: &mut Machine, now: Millis, event: Event| {
        let effects = machine.step(now, event.clone());
        check(&event, &effects, machine);
    };
    step(&mut machine, now, Event::Resume);
    for worker in WORKERS {
        step(&mut machine, now, Event::WorkerDrained { worker: name(worker), drained: false });
    }
    for _ in 0..200 {
        for worker in WORKERS {
            step(&mut machine, now, join(worker, 77));
        }
        for worker in WORKERS {
            let Some(assignment) = machine.assignment(&name(worker)) else { continue };
            let result = match assignment.kind {
                WorkKind::Train => update(worker, assignment.lease, worker, assignment.examples_max),
                WorkKind::Evaluate => metrics(worker, assignment.lease),
            };
            step(&mut machine, now, result);
        }
        if matches!(machine.phase(), Phase::Ended(_)) {
            return machine;
        }
        let event = answer(&machine, false, true);
        if event == Event::Tick {
            now = now.max(machine.next_deadline().unwrap());
        }
        step(&mut machine, now, event);
    }
    panic!("the run never ends: {machine:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_hold_and_the_run_can_always_end(
        plan in plans(),
        ops in prop::collection::vec((op(), -2_000..6_000i64), 0..150),
    ) {
        let first = Machine::new(plan.clone(), start(), LEASE_BASE, 0);
        let mut machine = first.clone();
        let mut rules = Rules::new(plan);
        let (mut now, mut latest) = (0u64, 0);
        let mut log = Vec::new();
        let mut journal = Vec::new();
        for (op, pass) in &ops {
            now = now.saturating_add_signed(*pass);
            latest = latest.max(now);
            let mut next = Some(event(op, &machine));
            while let Some(event) = next {
                let effects = machine.step(now, event.clone());
                rules.check(&event, &effects, &machine);
                if machine.changed() {
                    journal.push((machine.now(), event.clone()));
                }
                log.push((now, event, effects));
                next = machine.overdue(now);
            }
            if let Some(deadline) = machine.next_deadline() {
                prop_assert!(deadline > latest, "nothing is overdue any more");
            }
        }

        let mut again = first.clone();
        for (now, event, effects) in log {
            prop_assert_eq!(again.step(now, event), effects);
        }
        prop_assert_eq!(&again, &machine);

        // What the journal leaves out decides nothing, and a snapshot at any point is as good.
        let mut replayed = first;
        for (at, (now, event)) in journal.iter().enumerate() {
            if at == journal.len() / 2 {
                replayed = Machine::restore(replayed.save());
            }
            let _ = replayed.step(*now, event.clone());
        }
        prop_assert_eq!(round::Saved { now: 0, ..replayed.save() }, round::Saved { now: 0, ..machine.save() });

        settle(machine, latest, |event, effects, machine| rules.check(event, effects, machine));
    }

    #[test]
    fn restarts_take_nothing_from_a_version_that_was_acknowledged(
        plan in plans(),
        ops in prop::collection::vec((op_of_honest_workers(), 0..3_000u64), 0..150),
    ) {
        let mut machine = Machine::new(plan.clone(), start(), LEASE_BASE, 0);
        let mut rules = Rules::new(plan);
        let mut now = 0;
        for (op, pass) in &ops {
            now += pass;
            let mut next = Some(event(op, &machine));
            while let Some(event) = next {
                let effects = machine.step(now, event.clone());
                rules.check(&event, &effects, &machine);
                next = machine.overdue(now);
            }
        }
        settle(machine, now, |event, effects, machine| rules.check(event, effects, machine));
    }

    #[test]
    fn honest_workers_complete_a_run(plan in plans()) {
        let wanted = plan.cohort_min as usize;
        let hosted = matches!(&plan.data, DataPlan::Hosted { shards } if shards.len() < wanted);
        let rounds = plan.rounds;
        let mut rules = Rules::new(plan.clone());
        let machine = settle(Machine::new(plan, start(), LEASE_BASE, 0), 0, |event, effects, machine| {
            rules.check(event, effects, machine);
        });
        if hosted {
            let failed = matches!(machine.phase(), Phase::Ended(Outcome::Failed { .. }));
            prop_assert!(failed, "fewer shards than a cohort needs: {:?}", machine.phase());
        } else {
            prop_assert_eq!(machine.phase(), &Phase::Ended(Outcome::Completed));
            prop_assert_eq!(machine.committed().round, rounds);
        }
    }
}
