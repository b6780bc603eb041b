//! One run of one seed.

use round::{Event, Phase};

use crate::{
    coordinator::Coordinator,
    env::{Counts, Env, Happening},
    mutation::Mutation,
    oracles::{Oracles, Violation},
    scenario::{DOWN_MAX_MS, Fault, Scenario},
    trace::Trace,
    workers::WorkerHost,
};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) violation: Option<Violation>,
    pub(crate) counts: Counts,
    pub(crate) simulated_ms: u64,
    pub(crate) oracles: Oracles,
    pub(crate) trace: Trace,
    pub(crate) outcome: String,
}

struct World {
    env: Env,
    coordinator: Coordinator,
    workers: Vec<WorkerHost>,
    /// The run may be over for good: no operator comes any more.
    last_word: u64,
}

/// Runs a scenario to its end, or to the first rule that is broken.
pub(crate) fn run(scenario: Scenario, mutation: Mutation, trace: Trace) -> Report {
    let mut world = World::new(scenario, mutation, trace);
    let rounds_bound = |world: &World| {
        let machine = world.coordinator.process.as_ref().map(|process| &process.machine);
        machine.map_or(0, |machine| machine.plan().rounds.max(machine.committed().round))
    };
    while world.env.oracles.violation.is_none() {
        if world.env.now >= world.last_word && world.coordinator.is_over() {
            break;
        }
        let Some(what) = world.env.next() else {
            world.env.oracles.broken("L1", "nothing is due any more".into());
            break;
        };
        if world.env.now > world.env.scenario.bound(rounds_bound(&world)) {
            world.env.oracles.broken("L1", "the run has not ended in time".into());
            break;
        }
        world.happens(what);
    }
    world.finish()
}

impl World {
    fn new(scenario: Scenario, mutation: Mutation, trace: Trace) -> Self {
        let faults_end = scenario.faults_end;
        let schedule: Vec<u64> = scenario.faults.schedule.iter().map(|(at, _)| *at).collect();
        let hosts = scenario.hosts.len();
        let operated = scenario.faults.schedule.iter().any(|(_, fault)| matches!(fault, Fault::Operator(_)));
        let resumes = scenario.resumes;
        let mut env = Env::new(scenario, mutation, trace);
        let summary = format!("{:?}", env.scenario);
        env.note(format_args!("{summary}"));
        let mut coordinator = Coordinator::new(&mut env);
        let workers = (0..hosts).map(|index| WorkerHost::new(&mut env, index)).collect();
        for (at, index) in schedule.into_iter().zip(0..) {
            env.after(at, Happening::Fault(index));
        }
        let last_word = if operated { faults_end + DOWN_MAX_MS + 1_000 } else { 0 };
        if operated && resumes {
            env.after(last_word - 1, Happening::OperatorResumes);
        }
        coordinator.start(&mut env);
        Self { env, coordinator, workers, last_word }
    }

    fn happens(&mut self, what: Happening) {
        let env = &mut self.env;
        match what {
            Happening::Arrives(request) => self.coordinator.request(env, request),
            Happening::CoordinatorStarts => self.coordinator.start(env),
            Happening::CoordinatorTimer { boot, serial } => self.coordinator.timer(env, boot, serial),
            Happening::JournalSynced { boot, upto } => self.coordinator.synced(env, boot, upto),
            Happening::Aggregated { boot, token } => self.coordinator.aggregated(env, boot, token),
            Happening::Evaluated { boot, token, round } => {
                self.coordinator.evaluated(env, boot, token, round)
            }
            Happening::WorkerStarts { worker } => self.workers[worker].start(env),
            Happening::Thaws { worker, process } => self.workers[worker].thaw(env, process),
            Happening::Worker { worker, .. } => self.workers[worker].happens(env, what),
            Happening::Answered(ref answer) => self.workers[answer.worker].happens(env, what),
            Happening::Fault(index) => self.fault(index),
            Happening::OperatorResumes => self.coordinator.operator(env, Event::Resume),
        }
        if std::mem::take(&mut self.coordinator.died) {
            self.workers.iter_mut().for_each(|worker| worker.disconnected(&mut self.env));
        }
    }

    fn fault(&mut self, index: usize) {
        let env = &mut self.env;
        let (_, fault) = env.scenario.faults.schedule[index].clone();
        env.note(format_args!("fault: {fault:?}"));
        match fault {
            Fault::Crash => self.coordinator.crash(env, "nothing (idle)"),
            Fault::Partition { worker, up, down, lasts } => {
                env.fault("partition");
                env.partition(worker, up, down, lasts);
            }
            Fault::WorkerCrash { worker, down } => self.workers[worker].crash(env, down),
            Fault::WorkerFreeze { worker, lasts } => self.workers[worker].freeze(env, lasts),
            Fault::WorkerStop { worker } => self.workers[worker].stop(env),
            Fault::ClockJump { worker, by } => {
                env.fault(if by > 0 { "clock forward" } else { "clock back" });
                match worker {
                    Some(worker) => self.workers[worker].jump(by),
                    None => self.coordinator.jump(by),
                }
            }
            Fault::Operator(event) => {
                env.fault("operator");
                self.coordinator.operator(env, event);
            }
        }
    }

    fn finish(mut self) -> Report {
        let phase = self.coordinator.process.as_ref().map(|process| process.machine.phase().clone());
        let outcome = match phase {
            Some(Phase::Ended(outcome)) => {
                let text = format!("{outcome:?}");
                text.split([' ', '{']).next().unwrap_or_default().to_owned()
            }
            Some(_) => "held".to_owned(),
            None => "down".to_owned(),
        };
        let mut counts = self.env.counts.clone();
        if self.env.oracles.violation.is_none() {
            // Once more from the disk: all that was seen is there.
            self.coordinator.crash(&mut self.env, "nothing (at the end)");
            self.coordinator.start(&mut self.env);
        }
        let trainings = self.env.oracles.trainings();
        counts.figures.insert("trainings", trainings);
        let Env { oracles, now, trace, .. } = self.env;
        Report { violation: oracles.violation.clone(), counts, simulated_ms: now, oracles, trace, outcome }
    }
}
