//! The shell of the coordinator: it executes the effects of the real machine on a disk that forgets.

mod answers;
mod effects;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use params::Name;
use round::{Effect, Event, Machine, Millis, Note, Phase, Saved, Session};

use crate::{
    disk::{Candidate, Disk, Entry, Opened, Version},
    env::{Env, Happening, Request},
    mutation::Mutation,
    scenario::{DOWN_MAX_MS, Kind},
};
use answers::end_poll;
use effects::Sum;

/// One coordinator: a disk, and a process while it is up.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    boots: u64,
    /// The process died; the workers' connections break.
    pub(crate) died: bool,
}

/// What a crash forgets.
#[derive(Debug)]
pub(crate) struct Process {
    boot: u64,
    pub(crate) machine: Machine,
    /// The machine after the last step.
    saved: Saved,
    /// What its clock showed at the time `started`.
    clock: i64,
    started: Millis,
    sessions: BTreeMap<Name, Session>,
    seen: BTreeSet<Name>,
    polls: BTreeMap<usize, (Request, Millis)>,
    inbox: VecDeque<Input>,
    queue: VecDeque<Item>,
    syncing: bool,
    committing: Option<Commit>,
    sum: Option<Sum>,
    /// Names the candidate in work, or the measuring of it; another number: not wanted any more.
    token: u64,
    making: Option<(u32, Candidate)>,
    done: Option<Event>,
    attempt: usize,
    /// When that attempt opened.
    opened: Millis,
    timer: u64,
}

#[derive(Clone, Debug)]
enum Input {
    Request(Request),
    Operator(Event),
    Timer,
}

/// Something to do, in order.
#[derive(Debug)]
enum Item {
    /// `upto`: the length of the journal after the step.
    Effect { effect: Effect, upto: usize, caller: Option<Request> },
    /// The step is done: who asked and was not answered is answered.
    Finish { caller: Request },
    /// The same for an operator; `at` is the place of the order in the journal.
    FinishOrder { at: usize },
}

/// A round on its way to its commit record.
#[derive(Clone, Debug)]
struct Commit {
    now: Millis,
    event: Event,
    upto: usize,
    version: Version,
}

impl Coordinator {
    pub(crate) fn new(env: &mut Env) -> Self {
        let lease_base = env.rng.bits();
        let disk = Disk::new(env.scenario.plan.clone(), env.scenario.genesis(), lease_base);
        Self { disk, process: None, boots: 0, died: false }
    }

    /// The run has ended or waits for an operator, and all that follows from it is done.
    pub(crate) fn is_over(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            let machine = &process.machine;
            let over = matches!(machine.phase(), Phase::Ended(_)) || machine.is_held();
            over && process.queue.is_empty() && process.committing.is_none() && process.inbox.is_empty()
        })
    }

    /// A new process on what the disk has.
    pub(crate) fn start(&mut self, env: &mut Env) {
        if self.process.is_some() {
            return;
        }
        self.boots += 1;
        self.disk.durable = self.disk.journal.len();
        let machine = self.recover(env);
        let process = Process::new(self.boots, machine, env.now);
        let first = self.boots == 1;
        env.note(format_args!("coordinator starts, {} entries", self.disk.journal.len()));
        let attempt = self.disk.journal.iter().rposition(|entry| entry.opened.is_some());
        self.process = Some(Process { attempt: attempt.unwrap_or(0), ..process });
        let lease_base = match env.mutation {
            Mutation::ReuseLeases => self.disk.genesis.2,
            _ => env.rng.bits(),
        };
        if !first && env.mutation != Mutation::ForgetRestart {
            self.step(env, Event::Restarted { lease_base }, None);
        }
        self.settle(env);
    }

    /// Replays the journal, with the oracles watching.
    fn recover(&mut self, env: &mut Env) -> Machine {
        let disk = &self.disk;
        let replayed = disk.replay(None);
        env.oracles.s3_versions_stay(&replayed.published, disk);
        let saved = replayed.machine.save();
        env.oracles.s1_acknowledged_is_known(&saved, replayed.attempt, &disk.journal);
        env.oracles.s8_orders_stay(&disk.journal);
        let Some(last) = disk.journal.last() else { return replayed.machine };
        env.oracles.s4_replay_is_exact(&saved, &last.shadow);
        let snapshot = env.rng.below(disk.journal.len() as u64) as usize;
        let restored = disk.replay(Some(snapshot)).machine;
        env.oracles.s4_replay_is_exact(&restored.save(), &last.shadow);
        if let Some(candidate) =
            saved.candidate.filter(|_| matches!(saved.phase, Phase::Evaluating | Phase::Publishing))
            && !disk.blobs.contains_key(&candidate)
        {
            env.oracles.broken("S3", format!("the bytes of candidate {candidate} are not there"));
        }
        if env.rng.below(2) == 0 { restored } else { replayed.machine }
    }

    /// The process dies. What was not synced is lost, but for a random part, if the power failed.
    pub(crate) fn crash(&mut self, env: &mut Env, during: &'static str) {
        if self.process.take().is_none() {
            return;
        }
        self.died = true;
        *env.counts.crashes.entry(during).or_default() += 1;
        let power = match env.scenario.kind {
            Kind::Kills => false,
            Kind::PowerFailures => true,
            Kind::Chaos => env.rng.below(2) == 0,
        };
        env.fault(if power { "coordinator loses power" } else { "coordinator killed" });
        let unsynced = self.disk.journal.len() - self.disk.durable;
        if power {
            let kept = env.rng.below(unsynced as u64 + 1) as usize;
            self.disk.journal.truncate(self.disk.durable + kept);
        }
        let down = match env.scenario.must_equal_undisturbed() {
            true => env.between(10, DOWN_MAX_MS / 2),
            false => env.between(10, DOWN_MAX_MS),
        };
        env.note(format_args!(
            "coordinator dies before {during}, {} of {unsynced} unsynced entries are kept",
            { self.disk.journal.len() - self.disk.durable }
        ));
        env.after(down, Happening::CoordinatorStarts);
    }

    pub(crate) fn jump(&mut self, by: i64) {
        if let Some(process) = &mut self.process {
            process.clock += by;
        }
    }

    /// A request arrives, if there is somebody to take it.
    pub(crate) fn request(&mut self, env: &mut Env, request: Request) {
        if self.process.is_none() {
            let Request { worker, process, call, .. } = request;
            env.reset(worker, process, call);
            return;
        }
        self.take(env, Input::Request(request));
    }

    pub(crate) fn operator(&mut self, env: &mut Env, event: Event) {
        if let Event::WorkerRevoked { worker } = &event
            && let Some(process) = &mut self.process
        {
            self.disk.revoked.insert(worker.clone());
            process.sessions.remove(worker);
            let index = env.scenario.hosts.iter().position(|host| host.name == *worker);
            index.into_iter().for_each(|index| end_poll(env, process, index));
        }
        self.take(env, Input::Operator(event));
    }

    pub(crate) fn timer(&mut self, env: &mut Env, boot: u64, serial: u64) {
        if self.process.as_ref().is_some_and(|process| (process.boot, process.timer) == (boot, serial)) {
            self.take(env, Input::Timer);
        }
    }

    pub(crate) fn synced(&mut self, env: &mut Env, boot: u64, upto: usize) {
        let Some(process) = self.process.as_mut().filter(|process| process.boot == boot) else { return };
        process.syncing = false;
        self.disk.durable = self.disk.durable.max(upto);
        self.settle(env);
    }

    /// The candidate is durable.
    pub(crate) fn aggregated(&mut self, env: &mut Env, boot: u64, token: u64) {
        let Some(process) = self.process.as_mut().filter(|process| process.boot == boot) else { return };
        if process.token != token {
            return;
        }
        let Some((round, candidate)) = process.making.take() else { return };
        let event = Event::Aggregated { round, candidate: candidate.digest };
        self.disk.blobs.insert(candidate.digest, candidate);
        if env.mutation != Mutation::CandidateBeforeDurable {
            process.done = Some(event);
        }
        self.settle(env);
    }

    pub(crate) fn evaluated(&mut self, env: &mut Env, boot: u64, token: u64, round: u32) {
        let process = self.process.as_mut().filter(|process| (process.boot, process.token) == (boot, token));
        if let Some(process) = process {
            process.done = Some(Event::EvaluatedCentrally { round });
            self.settle(env);
        }
    }

    fn take(&mut self, env: &mut Env, input: Input) {
        if let Some(process) = &mut self.process {
            process.inbox.push_back(input);
        }
        self.settle(env);
    }

    /// Does all that can be done now.
    fn settle(&mut self, env: &mut Env) {
        loop {
            self.execute_all(env);
            let Some(process) = &mut self.process else { return };
            let idle = process.queue.is_empty() && process.committing.is_none();
            // Between a commit record and the step that it stands for, nothing may be written.
            if process.committing.is_some() || !(idle || env.scenario.group_commit) {
                break;
            }
            if idle && let Some(event) = process.done.take() {
                self.step(env, event, None);
            } else if let Some(input) = process.inbox.pop_front() {
                self.handle(env, input);
            } else {
                break;
            }
        }
        self.answer_polls(env);
        self.set_timer(env);
    }

    fn handle(&mut self, env: &mut Env, input: Input) {
        match input {
            Input::Request(request) => self.handle_request(env, request),
            Input::Operator(event) => {
                self.tell_seen(env);
                self.order(env, event);
            }
            Input::Timer => {
                if let Some(process) = &mut self.process {
                    // Who waits for an answer is alive.
                    let waiting = process.polls.keys().map(|worker| env.scenario.hosts[*worker].name.clone());
                    process.seen.extend(waiting.collect::<Vec<_>>());
                }
                self.tell_seen(env);
                self.look_at_the_clock(env);
            }
        }
    }

    /// An order is answered once its step is done. One that changes nothing promises nothing.
    fn order(&mut self, env: &mut Env, event: Event) {
        let Some(before) = self.process.as_ref().map(|process| process.saved.clone()) else { return };
        let at = self.disk.journal.len();
        self.step(env, event, None);
        if let Some(process) = &mut self.process
            && process.saved != (Saved { now: process.saved.now, ..before })
        {
            process.queue.push_back(Item::FinishOrder { at });
        }
    }

    /// What time alone has brought about.
    fn look_at_the_clock(&mut self, env: &mut Env) {
        for _ in 0..20 {
            let Some(process) = &self.process else { return };
            let Some(event) = process.machine.overdue(process.now(env)) else { return };
            self.step(env, event, None);
        }
        env.oracles.broken("L1", "the machine is overdue for ever".into());
    }

    /// Everybody who was heard of since the last time, in one event.
    fn tell_seen(&mut self, env: &mut Env) {
        let Some(process) = &mut self.process else { return };
        let seen = std::mem::take(&mut process.seen);
        let workers: Vec<_> =
            seen.into_iter().filter_map(|name| Some((name.clone(), *process.sessions.get(&name)?))).collect();
        if !workers.is_empty() {
            self.step(env, Event::WorkersSeen { workers }, None);
        }
    }

    /// One event: the machine first, then the journal, then the effects are lined up.
    fn step(&mut self, env: &mut Env, event: Event, caller: Option<Request>) {
        let Some(process) = &mut self.process else { return };
        let now = process.now(env);
        let effects = process.machine.step(now, event.clone());
        let changed = process.machine.changed();
        let (after, opened) = self.watch(env, now, &event, &effects, changed);
        let forgets = env.mutation == Mutation::ForgetSilence && matches!(event, Event::WorkersSilent { .. });
        let effects = with_mistake(env, &event, effects);
        let Some(process) = &mut self.process else { return };
        if changed && !forgets {
            let now = process.machine.now();
            self.disk.journal.push(Entry { now, event, shadow: after, opened });
        }
        let upto = self.disk.journal.len();
        for effect in effects {
            process.queue.push_back(Item::Effect { effect, upto, caller: caller.clone() });
        }
        process.queue.extend(caller.map(|caller| Item::Finish { caller }));
    }

    /// The oracles look at a step.
    fn watch(
        &mut self,
        env: &mut Env,
        now: Millis,
        event: &Event,
        effects: &[Effect],
        changed: bool,
    ) -> (Saved, Option<Opened>) {
        env.note(format_args!("coordinator {now} {event:?} -> {effects:?}"));
        env.count("coordinator steps");
        let at = self.disk.journal.len();
        let Some(process) = &mut self.process else { unreachable!("only a process steps") };
        let after = process.machine.save();
        let before = std::mem::replace(&mut process.saved, after.clone());
        env.oracles.s6_refusals_leave_no_trace(effects, &before, &after);
        env.oracles.l3_attempts_succeed(process.opened >= env.scenario.settled(), effects);
        if !changed {
            env.oracles.s4_unwritten_changes_nothing(event, &before, &after);
        }
        // An update in this step belongs to the attempt that was open before it.
        for effect in effects {
            if let Effect::Fold { worker, lease, digest, .. } = effect {
                env.oracles.folded(process.attempt, worker, *lease, *digest);
            }
        }
        let opened = opened(event, effects);
        if opened.is_some() {
            // A commit record is in the journal before its step.
            let at = if matches!(event, Event::Published { .. }) { at - 1 } else { at };
            (process.attempt, process.opened) = (at, env.now);
        }
        (after, opened)
    }

    fn set_timer(&mut self, env: &mut Env) {
        let Some(process) = &mut self.process else { return };
        let now = process.now(env);
        let lease = env.scenario.plan.lease_ms / 3;
        let due = process.machine.next_deadline().map_or(lease, |at| at.saturating_sub(now));
        let polls = process.polls.values().map(|(_, until)| until.saturating_sub(env.now)).min();
        let wait = due.min(lease).min(polls.unwrap_or(lease)).max(1);
        process.timer += 1;
        let (boot, serial) = (process.boot, process.timer);
        env.after(wait, Happening::CoordinatorTimer { boot, serial });
    }
}

impl Process {
    fn new(boot: u64, machine: Machine, started: Millis) -> Self {
        Self {
            boot,
            saved: machine.save(),
            // The clock of the journal goes on; how long the process was away is not known.
            clock: machine.now() as i64,
            machine,
            started,
            sessions: BTreeMap::new(),
            seen: BTreeSet::new(),
            polls: BTreeMap::new(),
            inbox: VecDeque::new(),
            queue: VecDeque::new(),
            syncing: false,
            committing: None,
            sum: None,
            token: 0,
            making: None,
            done: None,
            attempt: 0,
            opened: 0,
            timer: 0,
        }
    }

    fn now(&self, env: &Env) -> Millis {
        u64::try_from(self.clock + (env.now - self.started) as i64).unwrap_or(0)
    }
}

/// The attempt that a step opens. One that goes on after a restart is not another one.
fn opened(event: &Event, effects: &[Effect]) -> Option<Opened> {
    let goes_on = matches!(event, Event::Restarted { .. })
        && effects.iter().any(|effect| matches!(effect, Effect::Tell(Note::RoundReopened { .. })));
    effects.iter().find_map(|effect| match effect {
        Effect::OpenRound { round, cohort, .. } if !goes_on => {
            Some(Opened { round: *round, cohort: cohort.clone() })
        }
        _ => None,
    })
}

/// The effects that a shell with a mistake executes.
fn with_mistake(env: &Env, event: &Event, mut effects: Vec<Effect>) -> Vec<Effect> {
    let folds = effects.iter().any(|effect| matches!(effect, Effect::Fold { .. }));
    let accepts = effects.iter().any(|effect| matches!(effect, Effect::Acknowledge { .. }));
    let opens = effects.iter().any(|effect| matches!(effect, Effect::OpenRound { .. }));
    match (env.mutation, event) {
        (Mutation::FoldTwice, Event::UpdateReceived { worker, lease, digest, examples })
            if accepts && !folds =>
        {
            let (worker, lease, digest, examples) = (worker.clone(), *lease, *digest, *examples);
            effects.insert(0, Effect::Fold { worker, lease, digest, examples });
        }
        (Mutation::TellBeforePersist, _) if opens => effects.retain(|effect| *effect != Effect::Persist),
        _ => {}
    }
    effects
}
