//! The shell of the coordinator: it executes the effects of the real machine on a disk that forgets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use params::{Digest, Name};
use round::{
    Assignment, Effect, Event, Machine, Millis, Note, Phase, Refusal, Saved, Session, WorkKind,
    worker::{self, Failure, Work},
};

use crate::{
    disk::{Candidate, Disk, Entry, Opened, Version},
    env::{Answer, Body, Env, Happening, Request},
    mutation::Mutation,
    oracles::Piece,
    scenario::{DOWN_MAX_MS, digest},
};

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
}

/// A round on its way to its commit record.
#[derive(Clone, Debug)]
struct Commit {
    now: Millis,
    event: Event,
    upto: usize,
    version: Version,
}

/// The accumulator.
#[derive(Clone, Debug, Default)]
struct Sum {
    counts: Vec<u32>,
    parts: Vec<(Name, Digest)>,
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
            crate::scenario::Kind::Kills => false,
            crate::scenario::Kind::PowerFailures => true,
            crate::scenario::Kind::Chaos => env.rng.below(2) == 0,
        };
        env.fault(if power { "coordinator loses power" } else { "coordinator killed" });
        let unsynced = self.disk.journal.len() - self.disk.durable;
        if power {
            let kept = env.rng.below(unsynced as u64 + 1) as usize;
            self.disk.journal.truncate(self.disk.durable + kept);
        }
        let down = match env.scenario.must_equal_undisturbed() {
            true => env.between(10, 3_000),
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
        if process.token != token && env.mutation != Mutation::AnswerAfterDiscard {
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
                self.step(env, event, None);
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

    /// What time alone has brought about.
    fn look_at_the_clock(&mut self, env: &mut Env) {
        for _ in 0..20 {
            let Some(process) = &self.process else { return };
            let Some(event) = process.machine.overdue(process.now(env)) else { return };
            self.step(env, event, None);
        }
        env.oracles.broken("L1", "the machine is overdue for ever".into());
    }

    fn handle_request(&mut self, env: &mut Env, request: Request) {
        let Some(process) = &mut self.process else { return };
        let name = env.scenario.hosts[request.worker].name.clone();
        let session = match request.body {
            Body::Register => return self.register(env, request),
            Body::Poll { session }
            | Body::Fetch { session, .. }
            | Body::Progress { session, .. }
            | Body::Update { session, .. }
            | Body::Evaluation { session, .. }
            | Body::Decline { session, .. }
            | Body::Leave { session } => session,
        };
        if process.sessions.get(&name) != Some(&session) {
            return fail(env, &request, Failure::Stale);
        }
        process.seen.insert(name.clone());
        self.tell_seen(env);
        let Some(process) = &mut self.process else { return };
        let event = match request.body.clone() {
            Body::Register => return,
            Body::Poll { .. } => {
                let until = env.now + env.scenario.poll_ms;
                process.polls.insert(request.worker, (request, until));
                return;
            }
            Body::Fetch { lease, .. } => {
                let open = process.machine.assignment(&name).is_some_and(|work| work.lease == lease);
                if open {
                    succeed(env, &request)
                } else {
                    fail(env, &request, Failure::Stale)
                }
                return;
            }
            Body::Leave { .. } => {
                process.sessions.remove(&name);
                process.polls.remove(&request.worker);
                succeed(env, &request);
                return self.step(env, Event::WorkerLeft { worker: name, session }, None);
            }
            Body::Progress { lease, percent, .. } => Event::Progress { worker: name, lease, percent },
            Body::Update { lease, digest, examples, .. } => {
                Event::UpdateReceived { worker: name, lease, digest, examples }
            }
            Body::Evaluation { lease, .. } => Event::EvaluationReceived { worker: name, lease },
            Body::Decline { lease, reason, .. } => Event::Declined { worker: name, lease, reason },
        };
        self.step(env, event, Some(request));
    }

    fn register(&mut self, env: &mut Env, request: Request) {
        let host = env.scenario.hosts[request.worker].clone();
        if self.disk.revoked.contains(&host.name) {
            return fail(env, &request, Failure::Fatal { reason: "revoked".into() });
        }
        let Some(process) = &mut self.process else { return };
        let session = env.rng.bits();
        process.sessions.insert(host.name.clone(), session);
        process.polls.remove(&request.worker);
        let lease_ms = env.scenario.plan.lease_ms;
        let event = worker::Event::Connected { call: request.call, session, lease_ms, protocol: 2 };
        respond(env, &request, event, None);
        self.tell_seen(env);
        self.step(env, Event::WorkerJoined { worker: host.name, session, examples: host.rows }, None);
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

    fn execute_all(&mut self, env: &mut Env) {
        loop {
            let Some(process) = &mut self.process else { return };
            if process.syncing {
                return;
            }
            if let Some(commit) = process.committing.clone() {
                if self.disk.durable < commit.upto && env.mutation != Mutation::PublishBeforeDurable {
                    return self.sync(env);
                }
                if self.crashes(env, "the step after the commit") {
                    return;
                }
                self.committed(env, commit);
                continue;
            }
            let Some(item) = process.queue.pop_front() else { return };
            match item {
                Item::Finish { caller } => finish(env, &caller),
                Item::Effect { effect, upto, caller } => {
                    if self.crashes(env, name_of(&effect)) {
                        return;
                    }
                    if effect == Effect::Persist && !self.persisted(env, upto) {
                        if let Some(process) = &mut self.process {
                            process.queue.push_front(Item::Effect { effect, upto, caller });
                        }
                        return self.sync(env);
                    }
                    self.execute(env, effect, caller);
                }
            }
        }
    }

    fn persisted(&self, env: &Env, upto: usize) -> bool {
        self.disk.durable >= upto || env.mutation == Mutation::AcknowledgeBeforePersist
    }

    /// Whether the process dies here.
    fn crashes(&mut self, env: &mut Env, before: &'static str) -> bool {
        let rate = env.scenario.faults.crash;
        let dies = env.crashes_left > 0 && env.now < env.scenario.faults_end && {
            crate::scenario::chance(&mut env.rng, rate)
        };
        if dies {
            env.crashes_left -= 1;
            self.crash(env, before);
        }
        dies
    }

    fn sync(&mut self, env: &mut Env) {
        if let Some(process) = &mut self.process {
            process.syncing = true;
            let (boot, upto, wait) = (process.boot, self.disk.journal.len(), env.sync_time());
            env.after(wait, Happening::JournalSynced { boot, upto });
        }
    }

    fn execute(&mut self, env: &mut Env, effect: Effect, caller: Option<Request>) {
        let Some(process) = &mut self.process else { return };
        let hosts = env.scenario.hosts.len();
        match effect {
            Effect::OpenRound { .. } => process.sum = Some(Sum::new(hosts)),
            Effect::Fold { worker, digest, .. } => {
                if process.sum.is_none() && env.mutation == Mutation::None {
                    env.oracles.broken("S1", format!("an update of {worker} to fold while no round is open"));
                }
                let sum = process.sum.get_or_insert_with(|| Sum::new(hosts));
                sum.fold(env, worker, digest);
            }
            Effect::Persist => {}
            Effect::Acknowledge { worker, lease } => {
                env.oracles.acknowledged(&worker, lease);
                env.count("acknowledgements");
                caller.iter().for_each(|caller| succeed(env, caller));
            }
            Effect::KeepEvaluation { .. } => {}
            Effect::Reject { refusal, .. } => {
                env.count("refusals");
                caller.iter().for_each(|caller| refuse(env, caller, &refusal));
            }
            Effect::Aggregate { round } => self.aggregate(env, round),
            Effect::EvaluateCentrally { round } => {
                process.token += 1;
                let (boot, token, wait) = (process.boot, process.token, env.between(1, 500));
                env.after(wait, Happening::Evaluated { boot, token, round });
            }
            Effect::Publish { round } => self.publish(env, round),
            Effect::Discard { .. } => {
                process.sum = None;
                process.done = None;
                process.token += 1;
            }
            Effect::Tell(Note::AttemptFailed { .. }) => env.count("attempts failed"),
            Effect::Tell(_) => {}
            Effect::End(_) => env.count("ends"),
        }
    }

    fn aggregate(&mut self, env: &mut Env, round: u32) {
        let Some(process) = &mut self.process else { return };
        let base = process.machine.committed().base;
        let sum = process.sum.take().unwrap_or_else(|| Sum::new(env.scenario.hosts.len()));
        let candidate = sum.candidate(base);
        process.token += 1;
        if env.mutation == Mutation::CandidateBeforeDurable {
            process.done = Some(Event::Aggregated { round, candidate: candidate.digest });
        }
        process.making = Some((round, candidate));
        let (boot, token, wait) = (process.boot, process.token, env.sync_time() + env.between(1, 300));
        env.after(wait, Happening::Aggregated { boot, token });
    }

    /// Writes the commit record. The machine is told, and the version shown, once it is durable.
    fn publish(&mut self, env: &mut Env, round: u32) {
        let Some(process) = &mut self.process else { return };
        let machine = &process.machine;
        if (machine.phase(), machine.round()) != (&Phase::Publishing, round) {
            return;
        }
        let candidate = machine.candidate().and_then(|digest| self.disk.blobs.get(&digest).cloned());
        let Some(candidate) = candidate else {
            env.oracles.broken("S3", format!("round {round} has no candidate to publish"));
            return;
        };
        let now = machine.now().max(process.now(env));
        let event = Event::Published { round, better: env.scenario.better(round) };
        let mut after = machine.clone();
        let effects = after.step(now, event.clone());
        let opened = opened(&event, &effects);
        self.disk.journal.push(Entry { now, event: event.clone(), shadow: after.save(), opened });
        let version = Version { round, attempt: process.attempt, candidate };
        process.committing = Some(Commit { now, event, upto: self.disk.journal.len(), version });
    }

    fn committed(&mut self, env: &mut Env, commit: Commit) {
        let Some(process) = &mut self.process else { return };
        process.committing = None;
        let effects = process.machine.step(commit.now, commit.event.clone());
        env.oracles.shown(commit.version, &self.disk);
        env.count("rounds published");
        let (after, _) = self.watch(env, commit.now, &commit.event, &effects, true);
        let written = self.disk.journal.last().map(|entry| entry.shadow.clone());
        env.oracles.s4_replay_is_exact(&after, &written.unwrap_or_else(|| after.clone()));
        let (Some(process), upto) = (&mut self.process, self.disk.journal.len()) else { return };
        process.queue.extend(effects.into_iter().map(|effect| Item::Effect { effect, upto, caller: None }));
    }

    /// Tells who polls what to do, or that there is nothing.
    fn answer_polls(&mut self, env: &mut Env) {
        let Some(process) = &mut self.process else { return };
        let idle = process.queue.is_empty() && process.committing.is_none();
        if !(idle || env.scenario.group_commit) {
            return;
        }
        let machine = &process.machine;
        let now = (machine.now(), process.attempt);
        process.polls.retain(|worker, (request, until)| {
            let work = machine.assignment(&env.scenario.hosts[*worker].name);
            if work.is_none() && env.now < *until {
                return true;
            }
            hand_out(env, request, work, now);
            false
        });
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

impl Sum {
    fn new(hosts: usize) -> Self {
        Self { counts: vec![0; hosts], ..Self::default() }
    }

    /// Adds the one-hot vector of this worker.
    fn fold(&mut self, env: &Env, worker: Name, digest: Digest) {
        if let Some(index) = env.scenario.hosts.iter().position(|host| host.name == worker) {
            self.counts[index] += 1;
            self.parts.push((worker, digest));
        }
    }

    fn candidate(mut self, base: Digest) -> Candidate {
        self.parts.sort();
        let parts: Vec<String> = self.parts.iter().map(|(name, digest)| format!("{name} {digest}")).collect();
        let digest = digest(&["candidate", &base.to_string(), &parts.join(" ")]);
        Candidate { digest, counts: self.counts }
    }
}

/// Answers a poll.
fn hand_out(env: &mut Env, request: &Request, work: Option<Assignment>, (now, attempt): (Millis, usize)) {
    let Some(work) = work else {
        return respond(env, request, worker::Event::Polled { call: request.call, work: None }, None);
    };
    let (worker, round, lease, kind) = (request.worker, work.round, work.lease, work.kind);
    let piece = Piece { worker, round, attempt, kind, model: work.model };
    env.oracles.s5_lease_names_one_work(lease, piece);
    let what = match kind {
        WorkKind::Train => "train",
        WorkKind::Evaluate => "evaluate",
    };
    let shard = work.shard.map_or("own".to_owned(), |shard| shard.to_string());
    let key = digest(&[what, &round.to_string(), &work.model.to_string(), &shard]);
    let deadline_ms = work.deadline.saturating_sub(now);
    let run = "r".parse().expect("a good name");
    let answer = Work { run, round, lease, kind, key, deadline_ms };
    let event = worker::Event::Polled { call: request.call, work: Some(answer) };
    respond(env, request, event, Some((key, work.examples_max)));
}

fn respond(env: &mut Env, to: &Request, event: worker::Event, weight: Option<(Digest, u64)>) {
    env.answer(Answer { worker: to.worker, process: to.process, call: to.call, event, weight });
}

fn succeed(env: &mut Env, to: &Request) {
    respond(env, to, worker::Event::Done { call: to.call }, None);
}

fn fail(env: &mut Env, to: &Request, failure: Failure) {
    respond(env, to, worker::Event::Failed { call: to.call, failure }, None);
}

/// Some calls are answered by the end of their step.
fn finish(env: &mut Env, to: &Request) {
    match to.body {
        Body::Progress { .. } => {
            respond(env, to, worker::Event::Told { call: to.call, abandon: false }, None);
        }
        Body::Decline { .. } => succeed(env, to),
        _ => {}
    }
}

fn refuse(env: &mut Env, to: &Request, refusal: &Refusal) {
    match (&to.body, refusal) {
        (Body::Progress { .. }, _) => {
            respond(env, to, worker::Event::Told { call: to.call, abandon: true }, None);
        }
        (_, Refusal::Stale | Refusal::Duplicate) => fail(env, to, Failure::Stale),
        (_, Refusal::Weight { .. }) => {
            fail(env, to, Failure::Impossible { reason: refusal.to_string() });
        }
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

/// A shell that does not know a repeated update from a new one.
fn with_mistake(env: &Env, event: &Event, mut effects: Vec<Effect>) -> Vec<Effect> {
    let folds = effects.iter().any(|effect| matches!(effect, Effect::Fold { .. }));
    let accepts = effects.iter().any(|effect| matches!(effect, Effect::Acknowledge { .. }));
    if let Event::UpdateReceived { worker, lease, digest, examples } = event
        && env.mutation == Mutation::FoldTwice
        && accepts
        && !folds
    {
        let (worker, lease, digest, examples) = (worker.clone(), *lease, *digest, *examples);
        effects.insert(0, Effect::Fold { worker, lease, digest, examples });
    }
    effects
}

/// For the report: crashes before each kind of effect.
fn name_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::OpenRound { .. } => "OpenRound",
        Effect::Fold { .. } => "Fold",
        Effect::Persist => "Persist",
        Effect::Acknowledge { .. } => "Acknowledge",
        Effect::KeepEvaluation { .. } => "KeepEvaluation",
        Effect::Reject { .. } => "Reject",
        Effect::Aggregate { .. } => "Aggregate",
        Effect::EvaluateCentrally { .. } => "EvaluateCentrally",
        Effect::Publish { .. } => "Publish",
        Effect::Discard { .. } => "Discard",
        Effect::Tell(_) => "Tell",
        Effect::End(_) => "End",
    }
}
